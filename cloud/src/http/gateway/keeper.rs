//! What is watched while a box is connected: whether its key is still good, and whether its centre's
//! Config is newer than what the box has.
//!
//! `import` is another process, so the row is asked, not a wake.

use std::time::Duration;

use domain::digest::Sha256;
use domain::wire::{Down, Refused, SignedConfig};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::conversation::Out;
use super::identity_of;
use crate::access::Scope;
use crate::centre;
use crate::db::{DbError, Urgency, unhurt};
use crate::http::Api;
use crate::ingest::BoxIdentity;
use crate::metrics::Counted;
use crate::sql;

/// How often key and Config are looked at. A revoked key's connection ends within it.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Watches until the conversation ends or the key is revoked.
pub async fn keep(
    api: Api,
    identity: BoxIdentity,
    key: Sha256,
    mut has: u64,
    out: mpsc::Sender<Out>,
) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        match look_at(&api, identity, key, has).await {
            Ok(Found::Nothing) => {}
            Ok(Found::Revoked) => {
                api.metrics.count(Counted::BadClientKey);
                tracing::warn!(gateway = %identity.gateway, "a connected box's key was revoked");
                let _ = out.send(Out::End(Refused::KeyRevoked)).await;
                return;
            }
            Ok(Found::Newer(version, config)) => {
                if out.send(Out::Say(Down::Config(config))).await.is_err() {
                    return;
                }
                has = version;
                tracing::info!(gateway = %identity.gateway, version, "a Config is sent");
                note_sent(&api, identity, version).await;
            }
            // A batch meets the same trouble and ends the conversation; the key stays good till then.
            Err(error) => tracing::error!(%error, "a box's key and Config cannot be looked at"),
        }
    }
}

enum Found {
    Nothing,
    Revoked,
    Newer(u64, SignedConfig),
}

async fn look_at(
    api: &Api,
    identity: BoxIdentity,
    key: Sha256,
    has: u64,
) -> Result<Found, DbError> {
    let mut tx = api.db.read().await?;
    if identity_of(&mut tx, key).await? != Some(identity) {
        return Ok(Found::Revoked);
    }
    let (version,) = sql!(
        &mut tx,
        fetch_one as (i64,),
        "select config_version from centre where id = $1",
        identity.centre.0
    )?;
    if u64::try_from(version).unwrap_or(0) <= has {
        return Ok(Found::Nothing);
    }
    let scope = Scope::worker(identity.centre);
    let sealing = &api.keys.sealing;
    let now = api.clock.now();
    let config = centre::config_for(&mut tx, &scope, sealing, identity.gateway, now).await?;
    let Some(config) = config else {
        return Ok(Found::Nothing);
    };
    let signed = centre::sign(&api.keys.signing, &config);
    let signed = signed.map_err(DbError::corrupt("config document"))?;
    Ok(Found::Newer(config.version, signed))
}

/// For the admin's list only, so a failure is no reason to stop.
async fn note_sent(api: &Api, identity: BoxIdentity, version: u64) {
    let version = i64::try_from(version).unwrap_or(i64::MAX);
    let db = api.db.clone();
    let noted = unhurt(async move {
        let mut write = db.write(Urgency::Other).await?;
        sql!(
            write.tx(),
            execute,
            "update gateway set config_sent = $3 where centre = $1 and id = $2",
            identity.centre.0,
            identity.gateway.0,
            version
        )?;
        write.commit().await
    });
    if let Err(error) = noted.await.and_then(|inner| inner) {
        tracing::warn!(%error, "a Config sent could not be noted");
    }
}
