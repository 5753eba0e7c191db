//! Chains the records of past minutes under one root per centre, lane and minute (D3).
//!
//! Owns when to look and what one batch holds. Finds its work in the table, so a restart or a second
//! process needs nothing more. A centre whose records cannot be chained delays no other's; it is
//! logged and tried again the next minute.

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
use crate::sql;

/// How often to look whether a minute is over.
const EVERY: Duration = Duration::from_secs(1);
/// Most records under one root; more of one minute make several batches.
pub const BATCH_RECORDS: i64 = 2_000;
/// Records are chained per minute, in microseconds.
const MINUTE: i64 = 60_000_000;

/// What chains records.
pub struct Chainer {
    db: Db,
    clock: Clock,
    engine: Engine,
    /// Records committed before this were looked at.
    chained_before: Timestamp,
}

impl Chainer {
    /// A chainer over a store.
    #[must_use]
    pub fn new(db: Db, clock: Clock, engine: Engine) -> Self {
        Self {
            db,
            clock,
            engine,
            chained_before: Timestamp::default(),
        }
    }

    /// Looks until `stop` is over; a batch begun is always ended.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            if let Err(error) = self.look().await {
                tracing::error!(%error, "records could not be chained");
            }
            if tokio::time::timeout(EVERY, &mut stop).await.is_ok() {
                return;
            }
        }
    }

    /// One look: the records of the minutes before this one, unless that was done.
    ///
    /// # Errors
    /// When it cannot be found out what there is to chain.
    pub async fn look(&mut self) -> Result<(), DbError> {
        let minute = Timestamp::from_micros(self.clock.now().micros() / MINUTE * MINUTE);
        if minute > self.chained_before {
            self.chain_records(minute).await?;
            self.chained_before = minute;
        }
        Ok(())
    }

    /// Chains every record committed before an instant that is not chained yet. What fails is logged
    /// and left to the next time.
    ///
    /// # Errors
    /// When it cannot be found out what there is to chain.
    pub async fn chain_records(&self, before: Timestamp) -> Result<(), DbError> {
        let mut tx = self.db.read().await?;
        let waiting = unchained(&mut tx, before).await?;
        drop(tx);
        for (centre, lane, minute) in waiting {
            if let Err(error) = self.chain_minute(centre, lane, minute).await {
                tracing::error!(%centre, lane = lane.as_str(), %error, "records could not be chained");
            }
        }
        Ok(())
    }

    async fn chain_minute(
        &self,
        centre: CentreId,
        lane: Lane,
        minute: i64,
    ) -> Result<(), EngineError> {
        while self.chain_some(centre, lane, minute).await? {}
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
