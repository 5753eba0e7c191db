//! What of each stream has been sent on this connection, what may be sent next, and what is still without a
//! receipt. Pure.
//!
//! Life safety goes first and has a window of its own; everything else together may have only so many bytes
//! on the way, because bytes already in the socket cannot be overtaken (G3). Holds numbers, never rows.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use domain::id::EpochId;
use domain::kind::Lane;
use domain::wire::{Batch, FRAME_MAX, Receipt, Record};

use crate::clock;
use crate::site::Now;
use crate::store::row::{Ledger, Stream};
use crate::store::{Held, StreamHead};

/// Records of one life-safety batch: what the cloud's engine takes in one transaction (D3).
pub const LIFE_SAFETY_BATCH: usize = 50;
/// Life-safety batches without a receipt. Beyond: the next waits for one.
pub const LIFE_SAFETY_FLYING: usize = 8;
/// Records of one batch of another lane (D3).
pub const BULK_BATCH: usize = 200;
/// Bytes of other lanes without a receipt, and so the most that can lie before a press in the socket: a
/// quarter of a second at 1 Mbit/s. Beyond: the next batch waits. A single larger row goes alone.
pub const BULK_FLYING: usize = 32 * 1024;
/// What a record costs on the wire beside its body, in bytes, roughly.
const RECORD_OVERHEAD: usize = 48;
/// Epochs named in one hello. Beyond: the younger ones are sent without asking what the cloud holds of them.
pub const DRAINING: usize = 1000;

/// A page the store is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Whose rows.
    pub stream: Stream,
    /// After this number.
    pub after: u64,
    /// Up to this one.
    pub through: u64,
    /// At most so many rows.
    pub rows: usize,
    /// And bytes of bodies, but always one row.
    pub bytes: usize,
}

/// A receipt names numbers that were never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeverSent;

/// One stream on its way.
#[derive(Clone, Debug)]
struct Line {
    boot: Arc<str>,
    /// Last number that may be sent.
    last: u64,
    /// Last number sent on this connection.
    sent: u64,
    /// Last number ever sent by this process.
    ever_sent: u64,
    receipted: Ledger,
    /// It grows: of this epoch, or of one without a disk.
    grows: bool,
    /// When it last had its turn.
    turn: u64,
}

/// A batch without a receipt.
#[derive(Clone, Copy, Debug)]
struct Flight {
    stream: Stream,
    to: u64,
    bytes: usize,
    at: Duration,
}

/// See the module's head.
#[derive(Debug)]
pub struct Lanes {
    epoch: EpochId,
    boot: Arc<str>,
    /// The epoch without a disk, while there is one.
    afloat: Option<EpochId>,
    lines: BTreeMap<Stream, Line>,
    flying: VecDeque<Flight>,
    turn: u64,
}

impl Lanes {
    /// The streams of this epoch, empty.
    #[must_use]
    pub fn new(epoch: EpochId, boot: Arc<str>) -> Self {
        let mut lanes = Self {
            epoch,
            boot,
            afloat: None,
            lines: BTreeMap::new(),
            flying: VecDeque::new(),
            turn: 0,
        };
        for lane in Lane::ALL {
            lanes.add_growing(Stream { lane, epoch });
        }
        lanes
    }

    fn add_growing(&mut self, stream: Stream) -> &mut Line {
        let boot = Arc::clone(&self.boot);
        self.lines.entry(stream).or_insert_with(|| Line {
            grows: true,
            ..Line::new(boot, 0, Ledger::default())
        })
    }

    /// How far an epoch without a disk may be sent.
    pub fn afloat(&mut self, epoch: EpochId, last: [u64; 3]) {
        self.afloat = Some(epoch);
        for (lane, last) in Lane::ALL.into_iter().zip(last) {
            let line = self.add_growing(Stream { lane, epoch });
            line.last = line.last.max(last);
        }
    }

    /// The disk is back: what is left of the epoch without one is an old epoch's.
    pub fn ashore(&mut self) {
        let Some(epoch) = self.afloat.take() else {
            return;
        };
        for lane in Lane::ALL {
            let stream = Stream { lane, epoch };
            if let Some(line) = self.lines.get_mut(&stream) {
                line.grows = false;
                if line.receipted.through_seq >= line.last {
                    self.lines.remove(&stream);
                }
            }
        }
    }

    /// What the store holds of old epochs; each is sent again from its last receipt.
    pub fn backlog(&mut self, heads: Vec<StreamHead>) {
        for head in heads.into_iter().filter(|h| h.stream.epoch != self.epoch) {
            let last = head.ledger.last_seq;
            let line = Line::new(head.boot, last, head.ledger);
            self.lines.insert(head.stream, line);
        }
    }

    /// How far a lane of this epoch may be sent.
    pub fn head(&mut self, lane: Lane, last: u64) {
        let epoch = self.epoch;
        if let Some(line) = self.lines.get_mut(&Stream { lane, epoch }) {
            line.last = line.last.max(last);
        }
    }

    /// Old epochs with something left, oldest first, as the hello names them.
    #[must_use]
    pub fn draining(&self) -> Vec<EpochId> {
        let mut epochs: Vec<EpochId> = self.lines.keys().map(|stream| stream.epoch).collect();
        epochs.sort_unstable();
        epochs.dedup();
        epochs.retain(|epoch| *epoch != self.epoch);
        epochs.truncate(DRAINING);
        epochs
    }

    /// A new connection: nothing is on its way, everything without a receipt is sent again.
    pub fn restart(&mut self) {
        self.flying.clear();
        for line in self.lines.values_mut() {
            line.sent = line.receipted.through_seq;
        }
    }

    /// The cloud holds these.
    ///
    /// # Errors
    /// When it claims what this process knows it never sent.
    pub fn receipt(&mut self, receipt: &Receipt) -> Result<(), NeverSent> {
        let stream = Stream {
            lane: receipt.lane,
            epoch: receipt.epoch,
        };
        let Some(line) = self.lines.get_mut(&stream) else {
            return Ok(());
        };
        let is_old = !line.grows;
        let could = if is_old { line.last } else { line.ever_sent };
        let claims = receipt.ranges.iter().map(|(_, to)| *to);
        if !is_old && claims.chain([receipt.through_seq]).any(|to| to > could) {
            return Err(NeverSent);
        }
        line.receipted.receipt(receipt, could);
        line.sent = line.sent.max(line.receipted.through_seq);
        let receipted = line.receipted.clone();
        if is_old && receipted.through_seq >= line.last {
            self.lines.remove(&stream);
        }
        self.flying
            .retain(|flight| flight.stream != stream || !receipted.covers(flight.to));
        Ok(())
    }

    /// The next page to ask the store for, if the windows have room: life safety first, then by lane; within
    /// a lane the stream that has waited longest. While the store is not readable, only what memory holds.
    pub fn next_load(&mut self, readable: bool) -> Option<Load> {
        let afloat = self.afloat;
        let may_read = move |stream: &Stream| readable || Some(stream.epoch) == afloat;
        let lane = Lane::ALL
            .into_iter()
            .find(|lane| self.has_unsent(*lane, may_read) && self.has_room(*lane))?;
        if lane != Lane::LifeSafety && self.has_unsent(Lane::LifeSafety, may_read) {
            return None;
        }
        let waiting = self.lines.iter_mut().filter(|(stream, line)| {
            stream.lane == lane && line.sent < line.last && may_read(stream)
        });
        let (stream, line) = waiting.min_by_key(|(_, line)| line.turn)?;
        self.turn += 1;
        line.turn = self.turn;
        let (rows, bytes) = match lane {
            Lane::LifeSafety => (LIFE_SAFETY_BATCH, FRAME_MAX / 4),
            Lane::Supervisory | Lane::Telemetry => (BULK_BATCH, BULK_FLYING / 2),
        };
        Some(Load {
            stream: *stream,
            after: line.sent,
            through: line.last,
            rows,
            bytes,
        })
    }

    /// Makes the batch of a page. None when every row of it has a receipt, or there was none.
    pub fn batch(&mut self, load: &Load, page: Vec<Held>, now: &Now) -> Option<Batch> {
        let line = self.lines.get_mut(&load.stream)?;
        let same_boot = line.boot == self.boot;
        line.sent = line
            .sent
            .max(page.last().map_or(load.through, |row| row.to_seq));
        line.ever_sent = line.ever_sent.max(line.sent);
        let mut bytes = 0;
        let mut records = Vec::with_capacity(page.len());
        let mut to = 0;
        for row in page {
            if line.receipted.covers(row.to_seq) {
                continue;
            }
            to = row.to_seq;
            bytes += row.body.get().len() + RECORD_OVERHEAD;
            records.push(Record {
                seq: row.seq,
                to_seq: (row.to_seq != row.seq).then_some(row.to_seq),
                age: clock::age(row.received, same_boot, now),
                body: row.body,
            });
        }
        if records.is_empty() {
            return None;
        }
        self.flying.push_back(Flight {
            stream: load.stream,
            to,
            bytes,
            at: now.monotonic,
        });
        Some(Batch {
            epoch: load.stream.epoch,
            lane: load.stream.lane,
            records,
        })
    }

    /// When the oldest batch without a receipt was sent: of life safety, of the others.
    #[must_use]
    pub fn oldest_flying(&self) -> (Option<Duration>, Option<Duration>) {
        let oldest = |life_safety: bool| {
            let of = self.flying.iter();
            of.filter(|f| (f.stream.lane == Lane::LifeSafety) == life_safety)
                .map(|f| f.at)
                .min()
        };
        (oldest(true), oldest(false))
    }

    fn has_unsent(&self, lane: Lane, may_read: impl Fn(&Stream) -> bool) -> bool {
        let mut lines = self.lines.iter();
        lines.any(|(stream, line)| stream.lane == lane && line.sent < line.last && may_read(stream))
    }

    fn has_room(&self, lane: Lane) -> bool {
        let of = |life_safety: bool| {
            let flying = self.flying.iter();
            flying.filter(move |f| (f.stream.lane == Lane::LifeSafety) == life_safety)
        };
        match lane {
            Lane::LifeSafety => of(true).count() < LIFE_SAFETY_FLYING,
            Lane::Supervisory | Lane::Telemetry => {
                of(false).map(|f| f.bytes).sum::<usize>() <= BULK_FLYING / 2
            }
        }
    }
}

impl Line {
    fn new(boot: Arc<str>, last: u64, receipted: Ledger) -> Self {
        Self {
            boot,
            last,
            sent: receipted.through_seq,
            ever_sent: receipted.through_seq,
            receipted,
            grows: false,
            turn: 0,
        }
    }
}
