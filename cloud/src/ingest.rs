//! Takes a box's records into the store and says what is durably ours (D4).
//!
//! Owns the numbers: what is held of each lane, holes, forks. An authentic record is never refused:
//! what cannot be understood is stored whole and receipted, and in `life_safety` it opens a case.
//! Everything of a batch is committed before its receipt.

mod arrived;
mod facts;
mod found;
mod held;
mod keep;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::time::Duration;

use ambient::{Clock, NoEntropy};
use domain::id::{CentreId, ChildId, EpochId, GatewayId};
use domain::kind::Lane;
use domain::time::Timestamp;
use domain::wire::{BATCH_MAX, Batch, Hello, Receipt, Record, Refused, Welcome, common_version};

use self::arrived::Arrived;
use self::keep::{Kept, Place};
use crate::access::Scope;
use crate::column::number;
use crate::db::{Db, DbError, Tx, Urgency, unhurt};
use crate::engine::{Engine, EngineError, Work};
use crate::incident::entry::Numbers;
use crate::wake::{Changed, Wake};
use crate::{presence, sql};

/// Most life-safety records of one transaction (D3); a longer batch takes several.
const LIFE_SAFETY_AT_ONCE: usize = 50;
/// Most other records of one transaction (D3), so that life safety soon has its turn at the store.
const OTHERS_AT_ONCE: usize = 200;

/// Most lost ends told in one transaction.
const ENDS_AT_ONCE: usize = 50;

/// How exactly it is noted when a box was last heard.
const SEEN_EVERY: Duration = Duration::from_secs(10);

/// The box a certificate names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BoxIdentity {
    /// The box.
    pub gateway: GatewayId,
    /// Its centre.
    pub centre: CentreId,
}

/// The door for records.
#[derive(Clone)]
pub struct Ingest {
    db: Db,
    clock: Clock,
    engine: Engine,
}

/// Why a conversation cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The box is told so and the connection ends.
    #[error("refused: {0}")]
    Refused(Refused),
    /// The store failed; the box keeps its records and tries again.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<DbError> for IngestError {
    fn from(error: DbError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<NoEntropy> for IngestError {
    fn from(error: NoEntropy) -> Self {
        Self::Engine(error.into())
    }
}

impl Ingest {
    /// The door over a store.
    #[must_use]
    pub fn new(db: Db, clock: Clock, engine: Engine) -> Self {
        Self { db, clock, engine }
    }

    /// Answers a box's first frame: the version spoken and what is held of its epochs. An old epoch
    /// that the box no longer drains and whose last numbers never came raises `gateway.gap`, once.
    ///
    /// # Errors
    /// [`IngestError::Refused`] when it is another box or speaks no version of ours.
    pub async fn welcome(&self, from: &BoxIdentity, hello: &Hello) -> Result<Welcome, IngestError> {
        if hello.gateway != from.gateway {
            return Err(IngestError::Refused(Refused::NotThisGateway));
        }
        let v =
            common_version(&hello.speaks).ok_or(IngestError::Refused(Refused::UnknownVersion))?;
        let (ingest, from, hello) = (self.clone(), *from, hello.clone());
        let receipts = unhurt(async move { ingest.greet(&from, &hello).await }).await??;
        Ok(Welcome { v, receipts })
    }

    async fn greet(&self, from: &BoxIdentity, hello: &Hello) -> Result<Vec<Receipt>, IngestError> {
        let scope = Scope::worker(from.centre);
        let mut tx = self.db.read().await?;
        let lanes = keep::lanes(&mut tx, &scope, from).await?;
        drop(tx);
        let present = hello.draining.iter().copied().chain([hello.epoch]);
        let present: HashSet<EpochId> = present.collect();
        let ends = found::lost_ends(from, &lanes, &present);
        if ends.is_empty() {
            let mut write = self.db.write(Urgency::Other).await?;
            let (now, config) = (self.clock.now(), Some(hello.config_version));
            heard(write.tx(), &scope, from, now, config).await?;
            write.commit().await?;
        }
        // In parts, so that no box holds the store for long.
        for some in ends.chunks(ENDS_AT_ONCE) {
            self.tell_lost(from, hello, some).await?;
        }
        self.wake(from, Changed::Gateway(from.gateway));
        let held = lanes
            .into_iter()
            .filter(|lane| present.contains(&lane.epoch) && lane.held.highest() > 0);
        Ok(held
            .map(|lane| lane.held.receipt(lane.epoch, lane.lane))
            .collect())
    }

    /// Raises `gateway.gap` for the ends of old epochs that will never come.
    async fn tell_lost(
        &self,
        from: &BoxIdentity,
        hello: &Hello,
        ends: &[Numbers],
    ) -> Result<(), IngestError> {
        let mut work = self.engine.begin(from.centre).await?;
        let now = work.now();
        let (tx, scope) = work.parts();
        heard(tx, scope, from, now, Some(hello.config_version)).await?;
        let mut untold = Vec::new();
        for end in ends {
            // Another connection of the box may have been faster.
            if keep::tell_once(tx, scope, end).await? {
                untold.push(*end);
            }
        }
        let reports = found::of_ends(&untold, now, self.engine.entropy())?;
        work.judge(&reports).await?;
        self.engine.commit(work).await?;
        Ok(())
    }

    /// Stores and judges a batch. Safe to call again with the same records: nothing changes then.
    ///
    /// # Errors
    /// [`IngestError::Refused`] for numbers no lane can have; otherwise when the store fails.
    pub async fn batch(&self, from: &BoxIdentity, batch: Batch) -> Result<Receipt, IngestError> {
        if batch.records.len() > BATCH_MAX || !batch.records.iter().all(has_possible_numbers) {
            return Err(IngestError::Refused(Refused::BrokenFrame));
        }
        let place = Place {
            from: *from,
            epoch: batch.epoch,
            lane: batch.lane,
        };
        let arrived = (batch.records.iter())
            .map(|record| Arrived::read(record, from.centre, self.engine.entropy()))
            .collect::<Result<Vec<_>, _>>()?;
        let ingest = self.clone();
        unhurt(async move { ingest.take(&place, &arrived).await }).await?
    }

    async fn take(&self, place: &Place, arrived: &[Arrived]) -> Result<Receipt, IngestError> {
        let at_once = match place.lane {
            Lane::LifeSafety => LIFE_SAFETY_AT_ONCE,
            Lane::Supervisory | Lane::Telemetry => OTHERS_AT_ONCE,
        };
        for some in arrived.chunks(at_once) {
            let judged = place.lane == Lane::LifeSafety || some.iter().any(found::concerns_cases);
            if judged || !self.keep_in_bulk(place, some).await? {
                self.keep_and_judge(place, some).await?;
            }
        }
        let mut tx = self.db.read().await?;
        let held = keep::held(&mut tx, &Scope::worker(place.from.centre), place).await?;
        Ok(held.receipt(place.epoch, place.lane))
    }

    /// Keeps records that concern no case, without the centre's lock. False, and nothing kept, when
    /// the numbers tell of a hole or a fork: those are for the engine.
    async fn keep_in_bulk(&self, place: &Place, arrived: &[Arrived]) -> Result<bool, IngestError> {
        let scope = Scope::worker(place.from.centre);
        let mut write = self.db.write(Urgency::Other).await?;
        let now = self.clock.now();
        let kept = keep::keep(write.tx(), &scope, place, arrived, now).await?;
        if !kept.forks.is_empty() || !kept.holes.is_empty() {
            return Ok(false);
        }
        let children = project(write.tx(), &scope, place, arrived, &kept, now).await?;
        write.commit().await?;
        self.wake_children(place, children);
        Ok(true)
    }

    /// Keeps records and judges them in one transaction under the centre's lock.
    async fn keep_and_judge(&self, place: &Place, arrived: &[Arrived]) -> Result<(), IngestError> {
        let mut work = self.engine.begin(place.from.centre).await?;
        let now = work.now();
        let (tx, scope) = work.parts();
        let kept = keep::keep(tx, scope, place, arrived, now).await?;
        let children = project(tx, scope, place, arrived, &kept, now).await?;
        let entropy = self.engine.entropy();
        let findings = found::find(tx, scope, place, arrived, &kept, now, entropy).await?;
        let found = &findings.found;
        let reports: Vec<_> = found.iter().map(|found| found.report.clone()).collect();
        let entries = work.judge(&reports).await?;
        let (tx, scope) = work.parts();
        let mut chained = HashSet::new();
        for (found, entry) in found.iter().zip(entries) {
            if let (Some(seq), Some(entry)) = (found.record, entry) {
                keep::set_chained(tx, scope, place, seq, entry).await?;
                chained.insert(seq);
            }
        }
        for record in findings.answers.iter().filter_map(|at| arrived.get(*at)) {
            self.answer(&mut work, place, record, !chained.contains(&record.seq))
                .await?;
        }
        if findings.served {
            work.served();
        }
        self.engine.commit(work).await?;
        self.wake_children(place, children);
        Ok(())
    }

    /// Tells what became of a command; chains its record unless a case's entry did.
    async fn answer(
        &self,
        work: &mut Work,
        place: &Place,
        record: &Arrived,
        chains: bool,
    ) -> Result<(), IngestError> {
        let Some(event) = record.event() else {
            return Ok(());
        };
        let digest = chains.then(|| record.digest());
        let entry = work.answered(place.from.gateway, event, digest).await?;
        if let (Some(entry), true) = (entry, chains) {
            let (tx, scope) = work.parts();
            keep::set_chained(tx, scope, place, record.seq, entry).await?;
        }
        Ok(())
    }

    fn wake_children(&self, place: &Place, children: Vec<ChildId>) {
        for child in children {
            self.wake(&place.from, Changed::Child(child));
        }
    }

    fn wake(&self, from: &BoxIdentity, what: Changed) {
        let centre = from.centre;
        self.engine.wakes().send(Wake { centre, what });
    }
}

/// Whether the store can hold the record's numbers; no box of ours makes others.
fn has_possible_numbers(record: &Record) -> bool {
    let last = record.last_seq();
    (1..=last).contains(&record.seq) && i64::try_from(last).is_ok()
}

/// What new records change besides cases: presence, what the box runs, when it was heard.
async fn project(
    tx: &mut Tx,
    scope: &Scope,
    place: &Place,
    arrived: &[Arrived],
    kept: &Kept,
    now: Timestamp,
) -> Result<Vec<ChildId>, DbError> {
    let fresh = kept.fresh.iter().chain(&kept.forks);
    let fresh: Vec<&Arrived> = fresh.filter_map(|at| arrived.get(*at)).collect();
    let events: Vec<_> = fresh.iter().filter_map(|record| record.event()).collect();
    let children = presence::project(tx, scope, place.from.gateway, &events).await?;
    let first = fresh.iter().find(|record| record.seq == 1);
    if let Some(event) = first.and_then(|record| record.event()) {
        keep::expect_end(tx, scope, place, event).await?;
    }
    let applied = fresh
        .iter()
        .filter_map(|record| record.config_applied())
        .max();
    heard(tx, scope, &place.from, now, applied).await?;
    Ok(children)
}

/// Notes that the box was heard, and which Config it runs if it says so.
async fn heard(
    tx: &mut Tx,
    scope: &Scope,
    from: &BoxIdentity,
    now: Timestamp,
    config_applied: Option<u64>,
) -> Result<(), DbError> {
    if let Some(version) = config_applied {
        sql!(
            tx,
            execute,
            "update gateway set config_applied = $3 where centre = $1 and id = $2",
            scope.own_centre(),
            from.gateway.0,
            number(version)
        )?;
    }
    // Not each time: lanes side by side would wait for each other at this row.
    sql!(
        tx,
        execute,
        "update gateway set last_seen_at = $3 where centre = $1 and id = $2
           and (last_seen_at is null or last_seen_at < $4)",
        scope.own_centre(),
        from.gateway.0,
        now.micros(),
        now.before(SEEN_EVERY).micros()
    )?;
    Ok(())
}
