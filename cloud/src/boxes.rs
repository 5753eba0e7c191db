//! Which boxes are connected to this process, and when each was last heard.
//!
//! One living connection a box: a newer one replaces the older. Hearing is noted in memory and
//! written every [`WRITE_EVERY`], one transaction for all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambient::Clock;
use domain::id::{CentreId, GatewayId};
use domain::kind::Lane;
use domain::time::Timestamp;
use tokio::sync::{OwnedMutexGuard, oneshot};

use crate::db::{Db, DbError, Urgency, unhurt};
use crate::sql;

/// How often hearing is written. What readers see is at most this much older than the truth.
pub const WRITE_EVERY: Duration = Duration::from_secs(10);

/// The register; copies share it.
#[derive(Clone)]
pub struct Boxes {
    register: Arc<Mutex<Register>>,
    clock: Clock,
}

#[derive(Default)]
struct Register {
    next: u64,
    connected: HashMap<GatewayId, Living>,
    /// Who works for a box; as many as there are boxes and kinds of work.
    turns: HashMap<(GatewayId, Work), Arc<tokio::sync::Mutex<()>>>,
    /// Heard since the last writing.
    heard: HashMap<GatewayId, (CentreId, Timestamp)>,
}

/// What is done for a box one after the other, whatever connections it has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Work {
    /// Answering its hello.
    Hello,
    /// Storing batches of a lane.
    Batches(Lane),
}

/// Whether a connection is still the box's living one.
#[derive(Clone)]
pub struct Standing {
    boxes: Boxes,
    gateway: GatewayId,
    serial: u64,
}

impl Standing {
    /// A newer connection took the place, or the connection is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let register = self.boxes.locked();
        let living = register.connected.get(&self.gateway);
        living.is_none_or(|living| living.serial != self.serial)
    }
}

struct Living {
    serial: u64,
    /// Dropped when a newer connection takes the place.
    _hold: oneshot::Sender<()>,
}

/// A connection's entry; taken out when dropped.
pub struct Entry {
    boxes: Boxes,
    gateway: GatewayId,
    centre: CentreId,
    serial: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut register = self.boxes.locked();
        let living = register.connected.get(&self.gateway);
        if living.is_some_and(|living| living.serial == self.serial) {
            register.connected.remove(&self.gateway);
        }
    }
}

/// Resolves when a newer connection of the same box took the place.
pub struct Replaced(oneshot::Receiver<()>);

impl Replaced {
    /// Waits for it.
    pub async fn wait(&mut self) {
        let _ = (&mut self.0).await;
    }
}

impl Entry {
    /// For those who work for the connection.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing {
            boxes: self.boxes.clone(),
            gateway: self.gateway,
            serial: self.serial,
        }
    }

    /// Something was heard of the box.
    pub fn heard(&self) {
        let now = self.boxes.clock.now();
        let mut register = self.boxes.locked();
        register.heard.insert(self.gateway, (self.centre, now));
    }
}

impl Boxes {
    /// An empty register.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            register: Arc::default(),
            clock,
        }
    }

    fn locked(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A box connected; an older connection of it learns that it is replaced.
    #[must_use]
    pub fn connected(&self, centre: CentreId, gateway: GatewayId) -> (Entry, Replaced) {
        let (hold, replaced) = oneshot::channel();
        let mut register = self.locked();
        register.next += 1;
        let serial = register.next;
        let living = Living {
            serial,
            _hold: hold,
        };
        register.connected.insert(gateway, living);
        let boxes = self.clone();
        let entry = Entry {
            boxes,
            gateway,
            centre,
            serial,
        };
        (entry, Replaced(replaced))
    }

    /// Waits until nobody else does that work for the box; held until dropped.
    pub async fn turn(&self, gateway: GatewayId, work: Work) -> OwnedMutexGuard<()> {
        let turn = self
            .locked()
            .turns
            .entry((gateway, work))
            .or_default()
            .clone();
        turn.lock_owned().await
    }

    /// Whether it is connected to this process.
    #[must_use]
    pub fn is_connected(&self, gateway: GatewayId) -> bool {
        self.locked().connected.contains_key(&gateway)
    }

    /// How many are connected to this process.
    #[must_use]
    pub fn count(&self) -> usize {
        self.locked().connected.len()
    }

    /// Writes what was heard since the last time.
    ///
    /// # Errors
    /// When the store fails; what was heard is then written next time.
    pub async fn write_heard(&self, db: &Db) -> Result<(), DbError> {
        let heard = std::mem::take(&mut self.locked().heard);
        if heard.is_empty() {
            return Ok(());
        }
        let (db, rows) = (db.clone(), heard.clone());
        let written = unhurt(async move { write(&db, rows).await }).await;
        if let Err(error) = written.and_then(|inner| inner) {
            let mut register = self.locked();
            for (gateway, row) in heard {
                register.heard.entry(gateway).or_insert(row);
            }
            return Err(error);
        }
        Ok(())
    }
}

async fn write(db: &Db, rows: HashMap<GatewayId, (CentreId, Timestamp)>) -> Result<(), DbError> {
    let mut write = db.write(Urgency::Other).await?;
    for (gateway, (centre, at)) in rows {
        sql!(
            write.tx(),
            execute,
            "update gateway set last_seen_at = $3
             where centre = $1 and id = $2 and (last_seen_at is null or last_seen_at < $3)",
            centre.0,
            gateway.0,
            at.micros()
        )?;
    }
    write.commit().await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[tokio::test]
    async fn a_newer_connection_replaces_the_older_and_outlives_it() {
        let boxes = Boxes::new(Clock::system());
        let (centre, gateway) = (CentreId(Uuid::nil()), GatewayId(Uuid::nil()));
        let (first, mut replaced) = boxes.connected(centre, gateway);
        let (second, _still) = boxes.connected(centre, gateway);
        replaced.wait().await;
        assert!(first.standing().is_over() && !second.standing().is_over());
        drop(first);
        assert!(boxes.is_connected(gateway));
        drop(second);
        assert!(!boxes.is_connected(gateway));
    }
}
