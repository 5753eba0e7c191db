//! The one task that writes the box's file: group commit of whatever has come in since the last one.
//!
//! Owns the only writing connection and the outbox machine. A transaction that fails is settled as failed and
//! everything in memory is read again from the file, so that memory never runs ahead of the disk.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ambient::Clock;
use domain::kind::Lane;
use domain::wire::Receipt;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;

use super::outbox::{Effect, Input, Outbox, Ticket};
use super::row::{Ledger, Stream, Submission};
use super::{Heads, Sentry, Standing, WriteError, reader, statements};
use crate::clock::Received;
use crate::gauges::Gauges;

/// Jobs taken into one transaction. Beyond: the rest goes into the next one.
const JOBS: usize = 64;
/// Pause after a failed transaction before receipts not yet saved are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Commit this and say how it went.
    Submit(Submission, oneshot::Sender<bool>),
    /// Close these holes of an old epoch and say how it went.
    Holes(Stream, Vec<(u64, u64)>, Received, oneshot::Sender<bool>),
    /// The cloud holds rows durably.
    Receipt(Receipt),
}

/// The writer, to be run as a task of its own until every [`super::Store`] is gone.
#[derive(Debug)]
pub struct Writer {
    pub(super) path: PathBuf,
    pub(super) connection: Option<SqliteConnection>,
    pub(super) outbox: Outbox,
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) heads: watch::Sender<Heads>,
    pub(super) standing: Arc<watch::Sender<Standing>>,
    pub(super) sentry: Sentry,
    pub(super) gauges: Arc<Gauges>,
    pub(super) clock: Clock,
    /// Receipts of a failed transaction, which the cloud will not repeat on this connection.
    pub(super) unsaved: BTreeMap<Stream, Receipt>,
    pub(super) waiting: HashMap<Ticket, oneshot::Sender<bool>>,
    pub(super) next_ticket: u64,
}

impl Writer {
    /// Runs until every handle is gone and everything taken is written, then closes the file.
    pub async fn run(mut self) {
        let mut jobs = Vec::with_capacity(JOBS);
        while self.gather(&mut jobs).await {
            self.transact(&mut jobs).await;
            self.publish();
        }
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the store did not close in good order");
        }
    }

    /// Waits for work; false when there will be none any more.
    async fn gather(&mut self, jobs: &mut Vec<Job>) -> bool {
        if self.outbox.has_deletes() && self.connection.is_some() {
            // Work is left over: take along what has come, without waiting.
            while jobs.len() < JOBS
                && let Ok(job) = self.jobs.try_recv()
            {
                jobs.push(job);
            }
            return true;
        }
        let patience = self.patience();
        tokio::select! {
            taken = self.jobs.recv_many(jobs, JOBS) => taken > 0,
            () = sleep(patience) => true,
        }
    }

    /// How long to wait for jobs at most.
    fn patience(&self) -> Duration {
        let now = self.clock.monotonic();
        if self.connection.is_none() {
            return RETRY;
        }
        let deadline = self.outbox.next_deadline();
        deadline.map_or(Duration::from_secs(3600), |at| at.saturating_sub(now))
    }

    async fn transact(&mut self, jobs: &mut Vec<Job>) {
        let now = self.clock.monotonic();
        let ready = self.ready().await;
        let mut effects = self.outbox.step(Input::Tick, now);
        for receipt in std::mem::take(&mut self.unsaved).into_values() {
            effects.extend(self.receipt(receipt, now));
        }
        for job in jobs.drain(..) {
            effects.extend(self.take(job, now));
        }
        let outcome = match ready {
            Ok(connection) => self.carry_out(connection, effects, now).await,
            Err(error) => Err(error),
        };
        // Before anybody hears that it failed, so that whoever asks why gets an answer.
        let outcome = self.sentry.heed_write(outcome);
        let end = match &outcome {
            Ok(_) => Input::Committed,
            Err(_) => Input::Failed,
        };
        for effect in self.outbox.step(end, now) {
            self.conclude(effect);
        }
        match outcome {
            Ok(connection) => {
                self.connection = Some(connection);
                self.unsaved.clear();
            }
            Err(error) => self.give_up(&error),
        }
    }

    fn take(&mut self, job: Job, now: Duration) -> Vec<Effect> {
        match job {
            Job::Submit(submission, done) => {
                let ticket = self.ticket(done);
                self.outbox.step(Input::Submit(ticket, submission), now)
            }
            Job::Holes(stream, holes, at, done) => {
                let ticket = self.ticket(done);
                let input = Input::Holes(ticket, stream, holes, at);
                self.outbox.step(input, now)
            }
            Job::Receipt(receipt) => self.receipt(receipt, now),
        }
    }

    fn ticket(&mut self, done: oneshot::Sender<bool>) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.waiting.insert(ticket, done);
        ticket
    }

    /// Kept until the transaction is on disk; receipts add up, so the last of a stream is enough.
    fn receipt(&mut self, receipt: Receipt, now: Duration) -> Vec<Effect> {
        let stream = Stream {
            lane: receipt.lane,
            epoch: receipt.epoch,
        };
        self.unsaved.insert(stream, receipt.clone());
        self.outbox.step(Input::Receipt(receipt), now)
    }

    /// The connection, or after a failure a new one, with the outbox as the file has it.
    async fn ready(&mut self) -> Result<SqliteConnection, WriteError> {
        if self.sentry.has_reported() {
            return Err(WriteError::KnownDamaged);
        }
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let mut connection = super::connect(&self.path).await?;
        let heads = reader::all_streams(&mut connection).await?;
        self.outbox = self.outbox.again(reader::by_stream(&heads));
        Ok(connection)
    }

    /// One transaction. Gives the connection back only if the transaction is on disk: after an error it may
    /// be in any state.
    async fn carry_out(
        &mut self,
        mut connection: SqliteConnection,
        effects: Vec<Effect>,
        now: Duration,
    ) -> Result<SqliteConnection, WriteError> {
        let idle = effects.is_empty() && self.outbox.changed().next().is_none();
        // After a failure only a write proves that the disk takes one again.
        let failing = self.standing.borrow().failing;
        if idle && !failing && !self.outbox.has_deletes() {
            return Ok(connection);
        }
        sqlx::raw_sql("begin immediate")
            .execute(&mut connection)
            .await?;
        for effect in effects {
            execute(&mut connection, effect).await?;
        }
        let mut sweep = self.outbox.step(Input::Sweep, now).pop();
        while let Some(Effect::Delete {
            stream,
            from,
            to,
            limit,
        }) = sweep
        {
            let (rows, bytes) =
                statements::delete(&mut connection, stream, from, to, limit).await?;
            sweep = self.outbox.step(Input::Deleted { rows, bytes }, now).pop();
        }
        let mut saved: BTreeMap<Stream, Ledger> = BTreeMap::new();
        if failing {
            saved.extend(self.outbox.present().map(|(s, l)| (s, l.clone())));
        }
        saved.extend(self.outbox.changed().map(|(s, l)| (s, l.clone())));
        statements::save(&mut connection, saved.into_iter().collect()).await?;
        sqlx::raw_sql("commit").execute(&mut connection).await?;
        self.gauges.commits.add(1);
        Ok(connection)
    }

    /// What follows from the end of a transaction.
    fn conclude(&mut self, effect: Effect) {
        match effect {
            Effect::Settle { ticket, committed } => {
                if let Some(done) = self.waiting.remove(&ticket) {
                    // Whoever asked may have gone; the commit stands all the same.
                    let _ = done.send(committed);
                }
            }
            Effect::Shedding(shedding) => {
                tracing::warn!(shedding, "the outbox reached its limit or has room again");
                self.standing.send_modify(|s| s.shedding = shedding);
            }
            Effect::Epoch(..)
            | Effect::Append(_)
            | Effect::Replace(_)
            | Effect::Mark(_)
            | Effect::Config(_)
            | Effect::Mqtt(_)
            | Effect::Delete { .. } => {}
        }
    }

    /// The connection is gone, and with it what memory believed: the next transaction reads the file again.
    fn give_up(&mut self, error: &WriteError) {
        self.gauges.commit_failures.add(1);
        self.standing.send_modify(|s| s.failing = true);
        tracing::error!(error = %crate::chain(error), "a transaction failed; nothing of it was acknowledged");
    }

    /// Tells readers how far they may read, and the gauges how much there is.
    pub(super) fn publish(&mut self) {
        for lane in Lane::ALL {
            let held = self.outbox.held(lane);
            self.gauges.lane(lane).rows.set(held.rows);
            self.gauges.lane(lane).bytes.set(held.bytes);
        }
        self.gauges.shed.set(self.outbox.shed());
        if self.connection.is_none() {
            return;
        }
        let last = Lane::ALL.map(|lane| self.outbox.sendable(lane));
        let backlog = self.outbox.filled();
        self.heads.send_if_modified(|heads| {
            let fresh = Heads { last, backlog };
            let changed = *heads != fresh;
            *heads = fresh;
            changed
        });
        self.standing
            .send_if_modified(|standing| std::mem::take(&mut standing.failing));
    }
}

async fn execute(connection: &mut SqliteConnection, effect: Effect) -> Result<(), WriteError> {
    match effect {
        Effect::Epoch(epoch, boot) => statements::adopt_epoch(connection, epoch, &boot).await,
        Effect::Append(rows) => statements::append(connection, rows).await,
        Effect::Replace(row) => statements::replace(connection, row).await,
        Effect::Mark(marks) => statements::mark(connection, marks).await,
        Effect::Config(config) => statements::keep_config(connection, config).await,
        Effect::Mqtt(rows) => statements::remember_mqtt(connection, rows).await,
        Effect::Delete { .. } | Effect::Settle { .. } | Effect::Shedding(_) => Ok(()),
    }
}
