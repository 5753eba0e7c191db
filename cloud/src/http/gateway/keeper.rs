//! What is watched while a box is connected: whether its key is still good, whether its centre's Config is
//! newer than what the box has, and which commands wait for it.
//!
//! `import` is another process, and so may be whoever took a command, so the rows are asked; a wake only makes
//! that sooner. A command is said again until its answer has come or its time has passed; the box does each
//! once, whatever connections and processes say it.

use std::collections::HashMap;
use std::time::Duration;

use domain::command::Command;
use domain::digest::Sha256;
use domain::id::{CentreId, CommandId};
use domain::wire::{Down, Refused, SentCommand, SignedConfig};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use super::conversation::Out;
use super::identity_of;
use crate::access::Scope;
use crate::centre;
use crate::commands::{self, Given, State};
use crate::db::{DbError, Urgency, unhurt};
use crate::http::Api;
use crate::ingest::BoxIdentity;
use crate::metrics::Counted;
use crate::sql;
use crate::wake::{Changed, Wake};

/// How often key and Config are looked at. A revoked key's connection ends within it.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often a command that is not answered is said again on one connection.
const SAY_AGAIN: Duration = Duration::from_secs(5);

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
    // Before the first look at the table, or a command in between waits for the next.
    let mut wakes = api.wakes.subscribe();
    let mut said = Said::new();
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = commands_changed(&mut wakes, identity.centre) => {
                if say_commands(&api, identity, &mut said, &out).await.is_err() {
                    return;
                }
                continue;
            }
        }
        if say_commands(&api, identity, &mut said, &out).await.is_err() {
            return;
        }
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

/// Commands said on this connection, and when last.
type Said = HashMap<CommandId, Duration>;

/// The conversation is over.
struct Over;

/// Returns when commands of the centre may have changed.
async fn commands_changed(wakes: &mut broadcast::Receiver<Wake>, centre: CentreId) {
    loop {
        match wakes.recv().await {
            Ok(wake) if wake.centre == centre && wake.what == Changed::Service => return,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Says every command that waits for the box and was not said a short while ago. What fails is tried again at
/// the next look.
async fn say_commands(
    api: &Api,
    identity: BoxIdentity,
    said: &mut Said,
    out: &mpsc::Sender<Out>,
) -> Result<(), Over> {
    let waiting = match waiting(api, identity).await {
        Ok(waiting) => waiting,
        Err(error) => {
            tracing::error!(%error, "a box's commands cannot be looked up");
            return Ok(());
        }
    };
    said.retain(|id, _| waiting.iter().any(|given| given.id == *id));
    for given in waiting {
        let now = api.clock.monotonic();
        let lately = |at: &Duration| now.saturating_sub(*at) < SAY_AGAIN;
        if said.get(&given.id).is_some_and(lately) {
            continue;
        }
        let noted = match given.state {
            State::Given => note_sending(api, identity, given.id).await,
            State::Sent | State::Done | State::Refused | State::Expired => Ok(true),
        };
        match noted {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                tracing::error!(%error, "a command cannot be noted as sent, and is not");
                continue;
            }
        }
        let left = given.expires_at.since(api.clock.now());
        let lives_ms = u64::try_from(left.as_millis()).unwrap_or(0);
        if lives_ms == 0 {
            continue;
        }
        let id = given.id;
        let command = Command {
            id,
            by: given.by,
            expires_at: given.expires_at,
            act: given.act,
        };
        let down = Down::Command(SentCommand { lives_ms, command });
        out.send(Out::Say(down)).await.map_err(|_| Over)?;
        said.insert(id, now);
    }
    Ok(())
}

async fn waiting(api: &Api, identity: BoxIdentity) -> Result<Vec<Given>, DbError> {
    let mut tx = api.db.read().await?;
    let scope = Scope::worker(identity.centre);
    let now = api.clock.now();
    commands::store::to_send(&mut tx, &scope, identity.gateway, now).await
}

/// Before the first byte leaves, so that a command never handed over is known for certain not to be done.
/// False when another process was faster and has noted it, or it is answered: it is looked at again then.
async fn note_sending(api: &Api, identity: BoxIdentity, id: CommandId) -> Result<bool, DbError> {
    let (db, now) = (api.db.clone(), api.clock.now());
    let noted = unhurt(async move {
        let scope = Scope::worker(identity.centre);
        let mut write = db.write(Urgency::LifeSafety).await?;
        let tx = write.tx();
        let good = commands::store::sending(tx, &scope, identity.gateway, id, now).await?;
        if good {
            commands::store::touch(tx, &scope).await?;
        }
        write.commit().await?;
        Ok::<_, DbError>(good)
    });
    let good = noted.await??;
    if good {
        let (centre, what) = (identity.centre, Changed::Service);
        api.wakes.send(Wake { centre, what });
    }
    Ok(good)
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
