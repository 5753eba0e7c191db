//! The outbox: which number a row gets, what is shed at the limit, what may be acknowledged and deleted.
//!
//! A pure machine. The writer carries its effects out in one transaction and reports how it ended. Owns the
//! counters of every stream; holds no row, so its size does not depend on the queue's.

mod old;
mod shed;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::id::EpochId;
use domain::kind::Lane;
use domain::wire::{Receipt, Tombstone};

pub use shed::Limits;

use super::row::{Body, Entry, Ledger, Row, SealedConfig, SealedRow, Stream, Submission};
use crate::clock::Received;
use crate::site::Mark;

/// Rows deleted in one transaction. Beyond: the rest rides in the next one.
pub const SWEEP_ROWS: u64 = 1000;
/// Delete statements in one transaction. Beyond: the rest rides in the next one.
pub const SWEEP_STATEMENTS: u32 = 8;
/// How long one tombstone goes on counting what is shed. Beyond: it is closed, so that it can be sent, and
/// the next row shed begins another.
pub const TOMBSTONE_SPAN: Duration = Duration::from_secs(60);

/// Names one submission between the machine and its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What happens to the outbox. All inputs since the last [`Input::Committed`] or [`Input::Failed`] belong to
/// one transaction.
#[derive(Debug)]
pub enum Input {
    /// Something to commit.
    Submit(Ticket, Submission),
    /// Numbers of an old epoch that will never come: the box closes its own holes (D4).
    Holes(Ticket, Stream, Vec<(u64, u64)>, Received),
    /// The cloud holds rows durably.
    Receipt(Receipt),
    /// The transaction has room for deletes.
    Sweep,
    /// The last [`Effect::Delete`] removed this much.
    Deleted {
        /// Rows.
        rows: u64,
        /// Their cost in bytes.
        bytes: u64,
    },
    /// The transaction is on disk.
    Committed,
    /// It is not, and never will be.
    Failed,
    /// Time passed.
    Tick,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Note this epoch, which ran in memory before the present one's end, with its boot.
    Epoch(EpochId, Arc<str>),
    /// Insert these rows.
    Append(Vec<Row>),
    /// Write this row in the place of the one with its number.
    Replace(Row),
    /// Write this state of the site.
    Mark(Vec<Mark>),
    /// Keep this Config.
    Config(SealedConfig),
    /// Keep what the MQTT server remembers.
    Mqtt(Vec<SealedRow>),
    /// Delete rows of the stream that lie wholly within the interval, and answer [`Input::Deleted`].
    Delete {
        /// Whose.
        stream: Stream,
        /// First number.
        from: u64,
        /// Last number.
        to: u64,
        /// At most so many rows.
        limit: u64,
    },
    /// Tell whoever waits what became of it.
    Settle {
        /// Which.
        ticket: Ticket,
        /// On disk or not.
        committed: bool,
    },
    /// The limit was reached, or there is room again: a fact to record once.
    Shedding(bool),
}

/// A tombstone that still counts.
#[derive(Clone, Debug)]
struct Open {
    tombstone: Tombstone,
    received: Received,
    since: Duration,
    stored: bool,
    dirty: bool,
}

/// Everything that is forgotten again when a transaction fails.
#[derive(Clone, Debug)]
struct Before {
    ledgers: BTreeMap<Stream, Option<Ledger>>,
    open: [Option<Open>; 3],
    held: [Held; 3],
    sweep: BTreeMap<(Stream, u64), u64>,
    shedding: bool,
    shed: u64,
}

/// Rows in the store and what they cost in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Rows.
    pub rows: u64,
    /// Bytes, as [`Body::cost`] counts them.
    pub bytes: u64,
}

/// See the module's head.
#[derive(Debug)]
pub struct Outbox {
    epoch: EpochId,
    limits: Limits,
    ledgers: BTreeMap<Stream, Ledger>,
    held: [Held; 3],
    open: [Option<Open>; 3],
    /// Intervals receipted and not yet deleted: (stream, first number) to last number.
    sweep: BTreeMap<(Stream, u64), u64>,
    deleting: Option<Deleting>,
    shedding: bool,
    before: Option<Before>,
    waiting: Vec<Ticket>,
    shed: u64,
    filled: u64,
}

#[derive(Clone, Copy, Debug)]
struct Deleting {
    key: (Stream, u64),
    limit: u64,
    rows_left: u64,
    statements_left: u32,
}

const fn index(lane: Lane) -> usize {
    match lane {
        Lane::LifeSafety => 0,
        Lane::Supervisory => 1,
        Lane::Telemetry => 2,
    }
}

impl Outbox {
    /// An outbox for a new epoch on top of what the store still holds of the old ones.
    #[must_use]
    pub fn new(epoch: EpochId, limits: Limits, held: BTreeMap<Stream, Ledger>) -> Self {
        let mut ledgers = held;
        for lane in Lane::ALL {
            ledgers.entry(Stream { lane, epoch }).or_default();
        }
        let sweep = ledgers.iter().flat_map(|(s, l)| intervals(*s, l)).collect();
        let mut total = [Held::default(); 3];
        for (stream, ledger) in &ledgers {
            total[index(stream.lane)].rows += ledger.rows;
            total[index(stream.lane)].bytes += ledger.bytes;
        }
        Self {
            epoch,
            limits,
            ledgers,
            held: total,
            open: [None, None, None],
            sweep,
            deleting: None,
            shedding: false,
            before: None,
            waiting: Vec::new(),
            shed: 0,
            filled: 0,
        }
    }

    /// The same outbox with its counters read again from the store, after a transaction of which nobody
    /// knows whether it reached the disk.
    #[must_use]
    pub fn again(&self, held: BTreeMap<Stream, Ledger>) -> Self {
        let mut again = Self::new(self.epoch, self.limits, held);
        again.shedding = self.shedding;
        again.shed = self.shed;
        again.filled = self.filled;
        again
    }

    /// One step. `now` is monotonic time.
    pub fn step(&mut self, input: Input, now: Duration) -> Vec<Effect> {
        match input {
            Input::Submit(ticket, submission) => self.submit(ticket, submission, now),
            Input::Holes(ticket, stream, holes, at) => self.fill(ticket, stream, &holes, at),
            Input::Receipt(receipt) => {
                self.receipt(&receipt);
                Vec::new()
            }
            Input::Sweep => self.next_delete(SWEEP_ROWS, SWEEP_STATEMENTS),
            Input::Deleted { rows, bytes } => self.deleted(rows, bytes),
            Input::Committed => self.committed(),
            Input::Failed => self.failed(),
            Input::Tick => {
                self.close_old(now);
                Vec::new()
            }
        }
    }

    /// The counters that the open transaction changed, to be saved in it.
    pub fn changed(&self) -> impl Iterator<Item = (Stream, &Ledger)> {
        let touched = self.before.iter().flat_map(|b| b.ledgers.keys());
        touched.filter_map(|stream| self.ledgers.get(stream).map(|ledger| (*stream, ledger)))
    }

    /// The counters of this epoch.
    pub fn present(&self) -> impl Iterator<Item = (Stream, &Ledger)> {
        let own = |stream: &Stream| stream.epoch == self.epoch;
        let all = self.ledgers.iter();
        all.filter(move |(stream, _)| own(stream))
            .map(|(stream, ledger)| (*stream, ledger))
    }

    /// The last number of a lane of this epoch that may be sent: a tombstone that still counts may not.
    #[must_use]
    pub fn sendable(&self, lane: Lane) -> u64 {
        let open = self.open.get(index(lane)).and_then(Option::as_ref);
        match open {
            Some(open) => open.tombstone.seq_from - 1,
            None => self.ledger(lane).map_or(0, |ledger| ledger.last_seq),
        }
    }

    /// Rows and bytes held in a lane, all epochs.
    #[must_use]
    pub const fn held(&self, lane: Lane) -> Held {
        self.held[index(lane)]
    }

    /// Rows shed since the start.
    #[must_use]
    pub const fn shed(&self) -> u64 {
        self.shed
    }

    /// Times holes of old epochs were closed since the start.
    #[must_use]
    pub const fn filled(&self) -> u64 {
        self.filled
    }

    /// Whether deletes are waiting for a transaction.
    #[must_use]
    pub fn has_deletes(&self) -> bool {
        !self.sweep.is_empty()
    }

    /// When [`Input::Tick`] next does something.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let open = self.open.iter().flatten();
        open.map(|open| open.since + TOMBSTONE_SPAN).min()
    }

    fn ledger(&self, lane: Lane) -> Option<&Ledger> {
        let epoch = self.epoch;
        self.ledgers.get(&Stream { lane, epoch })
    }

    /// The state as it was before this transaction, kept from its first change on.
    fn before(&mut self) -> &mut Before {
        self.before.get_or_insert_with(|| Before {
            ledgers: BTreeMap::new(),
            open: self.open.clone(),
            held: self.held,
            sweep: self.sweep.clone(),
            shedding: self.shedding,
            shed: self.shed,
        })
    }

    /// The ledger, noted as changed.
    fn touch(&mut self, stream: Stream) -> &mut Ledger {
        let known = self.ledgers.get(&stream).cloned();
        self.before().ledgers.entry(stream).or_insert(known);
        self.ledgers.entry(stream).or_default()
    }

    fn add(&mut self, stream: Stream, rows: u64, bytes: u64) {
        let ledger = self.touch(stream);
        ledger.rows += rows;
        ledger.bytes += bytes;
        let held = &mut self.held[index(stream.lane)];
        held.rows += rows;
        held.bytes += bytes;
    }

    fn remove(&mut self, stream: Stream, rows: u64, bytes: u64) {
        let ledger = self.touch(stream);
        let rows = rows.min(ledger.rows);
        // Tombstones are counted roughly; an empty stream costs exactly nothing.
        let all = rows == ledger.rows;
        let bytes = if all {
            ledger.bytes
        } else {
            bytes.min(ledger.bytes)
        };
        ledger.rows -= rows;
        ledger.bytes -= bytes;
        let held = &mut self.held[index(stream.lane)];
        held.rows = held.rows.saturating_sub(rows);
        held.bytes = held.bytes.saturating_sub(bytes);
    }

    fn submit(&mut self, ticket: Ticket, submission: Submission, now: Duration) -> Vec<Effect> {
        self.before();
        self.waiting.push(ticket);
        let mut rows = Vec::with_capacity(submission.entries.len());
        let mut effects = Vec::new();
        if let Some(adopted) = submission.adopted {
            self.adopt(*adopted, &mut effects);
        }
        for entry in submission.entries {
            let lane = entry.lane;
            if entry.of_the_box || self.has_room(lane, &entry) {
                self.write_open(lane, &mut effects);
                self.close(lane);
                rows.push(self.number(entry));
            } else {
                self.shed_into_tombstone(&entry, now);
            }
        }
        for lane in Lane::ALL {
            self.write_open(lane, &mut effects);
        }
        if !rows.is_empty() {
            effects.push(Effect::Append(rows));
        }
        if !submission.marks.is_empty() {
            effects.push(Effect::Mark(submission.marks));
        }
        effects.extend(submission.config.map(Effect::Config));
        if !submission.mqtt.is_empty() {
            effects.push(Effect::Mqtt(submission.mqtt));
        }
        effects
    }

    fn number(&mut self, entry: Entry) -> Row {
        let stream = Stream {
            lane: entry.lane,
            epoch: self.epoch,
        };
        let body = Body::Event(entry.body);
        self.add(stream, 1, body.cost());
        let ledger = self.touch(stream);
        ledger.last_seq += 1;
        let seq = ledger.last_seq;
        Row {
            stream,
            seq,
            to_seq: seq,
            received: entry.received,
            body,
        }
    }

    fn receipt(&mut self, receipt: &Receipt) {
        let stream = Stream {
            lane: receipt.lane,
            epoch: receipt.epoch,
        };
        let Some(ledger) = self.ledgers.get(&stream) else {
            return;
        };
        let last = if stream.epoch == self.epoch {
            self.sendable(stream.lane)
        } else {
            ledger.last_seq
        };
        let mut told = ledger.clone();
        if told.receipt(receipt, last) {
            let due: Vec<_> = intervals(stream, &told).collect();
            *self.touch(stream) = told;
            self.sweep.extend(due);
        }
    }

    fn next_delete(&mut self, rows_left: u64, statements_left: u32) -> Vec<Effect> {
        self.deleting = None;
        let next = self.sweep.first_key_value().map(|(key, to)| (*key, *to));
        let Some((key, to)) = next.filter(|_| rows_left > 0 && statements_left > 0) else {
            return Vec::new();
        };
        self.before();
        self.deleting = Some(Deleting {
            key,
            limit: rows_left,
            rows_left,
            statements_left,
        });
        vec![Effect::Delete {
            stream: key.0,
            from: key.1,
            to,
            limit: rows_left,
        }]
    }

    fn deleted(&mut self, rows: u64, bytes: u64) -> Vec<Effect> {
        let Some(deleting) = self.deleting.take() else {
            return Vec::new();
        };
        self.remove(deleting.key.0, rows, bytes);
        if rows < deleting.limit {
            self.sweep.remove(&deleting.key);
        }
        self.next_delete(
            deleting.rows_left.saturating_sub(rows),
            deleting.statements_left - 1,
        )
    }

    fn committed(&mut self) -> Vec<Effect> {
        let before = self.before.take();
        let mut effects = self.settle(true);
        if self.shedding && self.is_relieved() {
            self.shedding = false;
        }
        let Some(before) = before else {
            return effects;
        };
        if before.shedding != self.shedding {
            effects.push(Effect::Shedding(self.shedding));
        }
        for stream in before.ledgers.keys().filter(|s| s.epoch != self.epoch) {
            if self.ledgers.get(stream).is_some_and(Ledger::is_drained) {
                self.ledgers.remove(stream);
            }
        }
        effects
    }

    fn failed(&mut self) -> Vec<Effect> {
        self.deleting = None;
        if let Some(before) = self.before.take() {
            self.open = before.open;
            self.held = before.held;
            self.sweep = before.sweep;
            self.shedding = before.shedding;
            self.shed = before.shed;
            for (stream, ledger) in before.ledgers {
                match ledger {
                    Some(ledger) => self.ledgers.insert(stream, ledger),
                    None => self.ledgers.remove(&stream),
                };
            }
        }
        self.settle(false)
    }

    fn settle(&mut self, committed: bool) -> Vec<Effect> {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        waiting
            .map(|ticket| Effect::Settle { ticket, committed })
            .collect()
    }
}

/// What a ledger says may be deleted.
fn intervals(stream: Stream, ledger: &Ledger) -> impl Iterator<Item = ((Stream, u64), u64)> {
    let through = (ledger.through_seq > 0 && ledger.rows > 0).then_some((1, ledger.through_seq));
    let all: Vec<_> = through
        .into_iter()
        .chain(ledger.ranges.iter().copied())
        .collect();
    all.into_iter().map(move |(from, to)| ((stream, from), to))
}

#[cfg(test)]
mod tests;
