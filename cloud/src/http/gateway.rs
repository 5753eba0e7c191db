//! For boxes: one WebSocket each on the mutual-TLS listener, `/v1/uplink` (docs/wire.md).
//!
//! Owns the conversation: who it is, hello first, lanes side by side, Config down, pings. Never
//! looks into a record: that is ingest's. Every task of a conversation ends with it.

mod conversation;
mod keeper;

use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, State};
use axum::response::Response;
use domain::digest::Sha256;
use domain::id::{CentreId, GatewayId};
use domain::wire::{FRAME_MAX, Refused};
use uuid::Uuid;

use super::Api;
use crate::db::{DbError, Tx};
use crate::ingest::BoxIdentity;
use crate::metrics::Counted;
use crate::sql;
use crate::tls::Peer;

/// `GET /v1/uplink`
pub async fn uplink(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade
        .max_message_size(FRAME_MAX)
        .max_frame_size(FRAME_MAX)
        .on_upgrade(move |socket| admit(api, peer, socket))
}

/// A box before its hello: only its key is known.
async fn admit(api: Api, peer: Peer, socket: WebSocket) {
    let identity = match peer.key {
        Some(key) => identify(&api, key).await,
        None => Ok(None),
    };
    match identity {
        Ok(Some(identity)) => conversation::hold(api, peer, identity, socket).await,
        Ok(None) => {
            api.metrics.count(Counted::BadClientKey);
            let key = peer.key.map(|key| key.to_string());
            tracing::warn!(peer = %peer.address, key, "a box is refused: its key is unknown or revoked");
            conversation::refuse(socket, Refused::KeyRevoked).await;
        }
        Err(error) => {
            api.metrics.count(Counted::Unavailable);
            tracing::error!(%error, "a box cannot be looked up");
            conversation::refuse(socket, Refused::Unavailable).await;
        }
    }
}

async fn identify(api: &Api, key: Sha256) -> Result<Option<BoxIdentity>, DbError> {
    let mut tx = api.db.read().await?;
    identity_of(&mut tx, key).await
}

/// The box a key belongs to, if the key is good at this instant (D10).
async fn identity_of(tx: &mut Tx, key: Sha256) -> Result<Option<BoxIdentity>, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (Uuid, Uuid),
        "select gateway, centre from gateway_key
         where fingerprint = $1 and state in ('active', 'previous')",
        key.0.to_vec()
    )?;
    Ok(row.map(|(gateway, centre)| BoxIdentity {
        gateway: GatewayId(gateway),
        centre: CentreId(centre),
    }))
}

const fn counted(why: Refused) -> Counted {
    match why {
        Refused::UnknownVersion => Counted::UnknownVersion,
        Refused::NotThisGateway => Counted::NotThisGateway,
        Refused::KeyRevoked => Counted::BadClientKey,
        Refused::BrokenFrame => Counted::BrokenFrame,
        Refused::Unavailable => Counted::Unavailable,
    }
}
