//! Whether the process can do its work: the store takes writes, the signing key is there.
//!
//! A probe writes one row every [`PROBE_EVERY`]; whoever asks gets its last outcome, so that asking
//! costs the store nothing.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambient::Clock;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::db::{Db, DbError, Urgency, unhurt};
use crate::keys::SigningKey;
use crate::sql;
use crate::stop::Stop;

/// How often the store is probed.
pub const PROBE_EVERY: Duration = Duration::from_secs(2);
/// Longest probe; a slower store counts as not writable.
const PROBE_MAX: Duration = Duration::from_secs(5);
/// Age after which a good probe no longer counts: the prober itself is stuck.
const GOOD_FOR: Duration = Duration::from_secs(15);

/// The last outcome; copies share it.
#[derive(Clone)]
pub struct Health {
    clock: Clock,
    last: Arc<Mutex<Last>>,
}

#[derive(Clone, Copy, Default)]
struct Last {
    /// When (monotonic) the store last took a write, if the last probe did not fail.
    written: Option<Duration>,
    signing_key: bool,
}

/// What is known now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    /// The store took a write lately.
    pub store_writable: bool,
    /// The key that signs Configs can be read.
    pub signing_key_readable: bool,
}

impl Report {
    /// Whether the process should get work.
    #[must_use]
    pub const fn ready(self) -> bool {
        self.store_writable && self.signing_key_readable
    }
}

impl Health {
    /// Nothing is known yet, which is not ready.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            last: Arc::default(),
        }
    }

    fn locked(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known now.
    #[must_use]
    pub fn report(&self) -> Report {
        let last = *self.locked();
        let now = self.clock.monotonic();
        let fresh = |written: Duration| now.saturating_sub(written) <= GOOD_FOR;
        Report {
            store_writable: last.written.is_some_and(fresh),
            signing_key_readable: last.signing_key,
        }
    }

    /// Probes until the process ends.
    pub async fn watch(self, db: Db, signing_key: PathBuf, mut stop: Stop) {
        let mut every = interval(PROBE_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = every.tick() => self.probe(&db, &signing_key).await,
                () = stop.told() => return,
            }
        }
    }

    /// One probe.
    pub async fn probe(&self, db: &Db, signing_key: &std::path::Path) {
        let at = self.clock.now().micros();
        let probed = timeout(PROBE_MAX, unhurt(write(db.clone(), at))).await;
        let signing_key = SigningKey::read(signing_key).is_ok();
        let written = match probed {
            Ok(Ok(Ok(()))) => Some(self.clock.monotonic()),
            Ok(Ok(Err(error)) | Err(error)) => {
                tracing::error!(%error, "the store takes no writes");
                None
            }
            Err(_) => {
                tracing::error!("the store takes no writes in time");
                None
            }
        };
        *self.locked() = Last {
            written,
            signing_key,
        };
    }
}

async fn write(db: Db, at: i64) -> Result<(), DbError> {
    let mut write = db.write(Urgency::Other).await?;
    sql!(
        write.tx(),
        execute,
        "insert into store_probe (id, at) values (1, $1)
         on conflict (id) do update set at = excluded.at",
        at
    )?;
    write.commit().await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::trial::Trial;
    use domain::time::Timestamp;

    #[tokio::test]
    async fn ready_means_a_write_went_through_lately_and_the_key_is_there() {
        let trial = Trial::empty().await;
        let clock = Clock::manual(Timestamp::from_micros(1));
        let health = Health::new(clock.clone());
        let key = &trial.config.keys.config_signing;
        assert!(!health.report().ready());
        health.probe(&trial.db, key).await;
        assert!(health.report().ready());
        clock.advance(GOOD_FOR + Duration::from_secs(1));
        assert!(!health.report().store_writable);
        health
            .probe(&trial.db, std::path::Path::new("/nowhere"))
            .await;
        assert!(health.report().store_writable && !health.report().ready());
        trial.db.close().await;
        health.probe(&trial.db, key).await;
        assert!(!health.report().store_writable);
    }
}
