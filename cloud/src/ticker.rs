//! Lets time act on cases whose deadline has come.
//!
//! Owns when to look. Each look finds its work in the table, so a restart or a second process needs
//! nothing more, and looking twice does nothing twice. Knows no rule of a case.

#[cfg(test)]
mod tests;

use std::time::Duration;

use ambient::Clock;

use crate::db::{Db, DbError};
use crate::engine::Engine;
use crate::incident::store;
use crate::{absence, commands};

/// How often to look.
const EVERY: Duration = Duration::from_secs(1);
/// Most cases taken up in one look; the rest waits for the next.
const CASES_AT_ONCE: u32 = 200;

/// What lets time act.
pub struct Ticker {
    db: Db,
    clock: Clock,
    engine: Engine,
}

impl Ticker {
    /// A ticker over a store.
    #[must_use]
    pub fn new(db: Db, clock: Clock, engine: Engine) -> Self {
        Self { db, clock, engine }
    }

    /// Looks every second until `stop` is over; work begun is always ended. A look that fails is
    /// told and tried again. No wake is needed: no deadline is nearer than seconds when it is set.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            if let Err(error) = self.keep_deadlines().await {
                tracing::error!(%error, "deadlines could not be kept");
            }
            if tokio::time::timeout(EVERY, &mut stop).await.is_ok() {
                return;
            }
        }
    }

    /// Commands and sessions whose time has passed.
    async fn keep_service(&self) -> Result<(), DbError> {
        let now = self.clock.now();
        let mut tx = self.db.read().await?;
        let due = commands::store::due(&mut tx, now, now.before(absence::GRACE)).await?;
        drop(tx);
        for centre in due {
            if let Err(error) = self.engine.tick_service(centre).await {
                tracing::error!(%centre, %error, "a centre's commands and sessions could not be ended");
            }
        }
        Ok(())
    }

    /// One look.
    ///
    /// # Errors
    /// When it cannot be found out what is due. A case that fails is logged and tried again.
    pub async fn keep_deadlines(&self) -> Result<(), DbError> {
        let mut tx = self.db.read().await?;
        let due = store::due(&mut tx, self.clock.now(), CASES_AT_ONCE).await?;
        drop(tx);
        for (centre, incident) in due {
            // One case that cannot be read must not keep the others from ringing.
            if let Err(error) = self.engine.tick(centre, incident).await {
                tracing::error!(%centre, %incident, %error, "a case's deadline could not be kept");
            }
        }
        self.keep_service().await
    }
}
