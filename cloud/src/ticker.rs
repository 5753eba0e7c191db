//! Lets time act: cases whose deadline has come, and records to be chained (D3).
//!
//! Owns when to look. Each look finds its work in the tables, so a restart or a second process needs
//! nothing more, and looking twice does nothing twice. Knows no rule of a case.

#[cfg(test)]
mod tests;

use std::time::Duration;

use ambient::Clock;
use domain::digest::Sha256;
use domain::id::CentreId;
use domain::kind::Lane;
use domain::time::Timestamp;
use uuid::Uuid;

use crate::access::Scope;
use crate::column::number;
use crate::db::{Db, DbError, Tx};
use crate::engine::{Engine, EngineError};
use crate::incident::journal::{Batch, merkle_root};
use crate::incident::store;
use crate::sql;

/// How often to look.
const EVERY: Duration = Duration::from_secs(1);
/// Most cases taken up in one look; the rest waits for the next.
const CASES_AT_ONCE: u32 = 200;
/// Most records under one root; more of one minute make several batches.
pub const BATCH_RECORDS: i64 = 2_000;
/// Records are chained per minute, in microseconds.
const MINUTE: i64 = 60_000_000;

/// What lets time act.
pub struct Ticker {
    db: Db,
    clock: Clock,
    engine: Engine,
    /// Records committed before this were looked at.
    chained_before: Timestamp,
}

impl Ticker {
    /// A ticker over a store.
    #[must_use]
    pub fn new(db: Db, clock: Clock, engine: Engine) -> Self {
        Self {
            db,
            clock,
            engine,
            chained_before: Timestamp::default(),
        }
    }

    /// Looks every second until `stop` is over; work begun is always ended. A look that fails is
    /// told and tried again. No wake is needed: no deadline is nearer than seconds when it is set.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            if let Err(error) = self.look().await {
                tracing::error!(%error, "deadlines could not be kept");
            }
            if tokio::time::timeout(EVERY, &mut stop).await.is_ok() {
                return;
            }
        }
    }

    /// One look: due cases, and once a minute the records of the minutes before.
    ///
    /// # Errors
    /// When the store fails or there is no randomness; what was done stays done.
    pub async fn look(&mut self) -> Result<(), EngineError> {
        self.keep_deadlines().await?;
        let minute = Timestamp::from_micros(self.clock.now().micros() / MINUTE * MINUTE);
        if minute > self.chained_before {
            self.chain_records(minute).await?;
            self.chained_before = minute;
        }
        Ok(())
    }

    async fn keep_deadlines(&self) -> Result<(), EngineError> {
        let mut tx = self.db.read().await?;
        let due = store::due(&mut tx, self.clock.now(), CASES_AT_ONCE).await?;
        drop(tx);
        for (centre, incident) in due {
            // One case that cannot be read must not keep the others from ringing.
            if let Err(error) = self.engine.tick(centre, incident).await {
                tracing::error!(%centre, %incident, %error, "a case's deadline could not be kept");
            }
        }
        Ok(())
    }

    /// Chains every record committed before an instant that is not chained yet, per centre, lane and
    /// minute.
    ///
    /// # Errors
    /// When the store fails or there is no randomness; what was chained stays chained.
    pub async fn chain_records(&self, before: Timestamp) -> Result<(), EngineError> {
        let mut tx = self.db.read().await?;
        let waiting = unchained(&mut tx, before).await?;
        drop(tx);
        for (centre, lane, minute) in waiting {
            while self.chain_some(centre, lane, minute).await? {}
        }
        Ok(())
    }

    /// Chains at most [`BATCH_RECORDS`] of a minute; says whether there may be more.
    async fn chain_some(
        &self,
        centre: CentreId,
        lane: Lane,
        minute: i64,
    ) -> Result<bool, EngineError> {
        let from = minute * MINUTE;
        let to = from + MINUTE;
        let mut work = self.engine.begin(centre).await?;
        let entry = work.next_entry();
        let (tx, scope) = work.parts();
        let digests = take_unchained(tx, scope, lane, from, to, entry).await?;
        if digests.is_empty() {
            return Ok(false);
        }
        let count = digests.len() as u64;
        work.chain(Batch {
            lane,
            from: Timestamp::from_micros(from),
            to: Timestamp::from_micros(to),
            count,
            root: merkle_root(&digests),
        })
        .await?;
        self.engine.commit(work).await?;
        Ok(number(count) == BATCH_RECORDS)
    }
}

/// Minutes with records that are not chained, by centre and lane.
async fn unchained(tx: &mut Tx, before: Timestamp) -> Result<Vec<(CentreId, Lane, i64)>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (Uuid, String, i64),
        "select distinct centre, lane, committed_at / 60000000 from record
         where chained is null and committed_at < $1 order by 1, 2, 3",
        before.micros()
    )?;
    rows.into_iter()
        .map(|(centre, lane, minute)| {
            let lane = lane.parse().map_err(DbError::corrupt("record.lane"))?;
            Ok((CentreId(centre), lane, minute))
        })
        .collect()
}

/// Gives unchained records of a lane and minute to an entry; their digests come in the order of their
/// numbers.
async fn take_unchained(
    tx: &mut Tx,
    scope: &Scope,
    lane: Lane,
    from: i64,
    to: i64,
    entry: u64,
) -> Result<Vec<Sha256>, DbError> {
    let mut rows = sql!(
        tx,
        fetch_all as (Uuid, Uuid, i64, Vec<u8>, Vec<u8>),
        "update record set chained = $6 where centre = $1 and lane = $2 and chained is null
           and (gateway, epoch, seq) in (
             select gateway, epoch, seq from record
             where centre = $1 and lane = $2 and chained is null
               and committed_at >= $3 and committed_at < $4
             order by gateway, epoch, seq limit $5)
         returning gateway, epoch, seq, salt, body",
        scope.own_centre(),
        lane.as_str(),
        from,
        to,
        BATCH_RECORDS,
        number(entry)
    )?;
    rows.sort_unstable_by_key(|(gateway, epoch, seq, _, _)| (*gateway, *epoch, *seq));
    let digests = rows
        .iter()
        .map(|(_, _, _, salt, body)| Sha256::of(&[salt, body]));
    Ok(digests.collect())
}
