//! What does not fit: rows counted in a tombstone that stands in their place (D3, D4).

use std::time::Duration;

use domain::kind::Lane;
use domain::wire::{Cause, Tombstone};

use super::super::row::{Body, Entry, ROW_OVERHEAD, Row, Stream, TOMBSTONE_BYTES};
use super::{Effect, Held, Open, Outbox, TOMBSTONE_SPAN, index};
use crate::clock::Received;

/// How much the outbox holds (G7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of rows in all lanes.
    pub bytes: u64,
    /// Rows in all lanes.
    pub rows: u64,
    /// Bytes of `bytes` that only life safety and facts about the box may use; the same share of `rows`.
    pub reserve_bytes: u64,
}

impl Limits {
    /// 2 GiB or 5,000,000 rows, 256 MiB of it for life safety alone (G7).
    pub const DEFAULT: Self = Self {
        bytes: 2 << 30,
        rows: 5_000_000,
        reserve_bytes: 256 << 20,
    };

    /// Bytes and rows up to which a lane may still add. Telemetry stops at three quarters of the open part,
    /// so that it is shed before supervisory; life safety never stops.
    pub(super) fn ceiling(&self, lane: Lane) -> Option<(u64, u64)> {
        let reserve_rows = u128::from(self.rows) * u128::from(self.reserve_bytes);
        let reserve_rows = reserve_rows / u128::from(self.bytes.max(1));
        let rows = self
            .rows
            .saturating_sub(u64::try_from(reserve_rows).unwrap_or(u64::MAX));
        let bytes = self.bytes.saturating_sub(self.reserve_bytes);
        match lane {
            Lane::LifeSafety => None,
            Lane::Supervisory => Some((bytes, rows)),
            Lane::Telemetry => Some((bytes / 4 * 3, rows / 4 * 3)),
        }
    }
}

impl Outbox {
    pub(super) fn has_room(&self, lane: Lane, entry: &Entry) -> bool {
        let Some((max_bytes, max_rows)) = self.limits.ceiling(lane) else {
            return true;
        };
        let total = self.total();
        let cost = ROW_OVERHEAD + entry.body.get().len() as u64;
        total.rows < max_rows && total.bytes + cost <= max_bytes
    }

    pub(super) fn total(&self) -> Held {
        let sum = |of: fn(&Held) -> u64| self.held.iter().map(of).sum();
        Held {
            rows: sum(|held| held.rows),
            bytes: sum(|held| held.bytes),
        }
    }

    /// Counts a row instead of keeping it. Its number is used up, so the tombstone stands for it (G2).
    pub(super) fn shed_into_tombstone(&mut self, entry: &Entry, now: Duration) {
        let stream = Stream {
            lane: entry.lane,
            epoch: self.epoch,
        };
        self.close_old(now);
        self.before();
        if self.open[index(entry.lane)].is_none() {
            self.add(stream, 1, ROW_OVERHEAD + TOMBSTONE_BYTES);
        }
        let ledger = self.touch(stream);
        ledger.last_seq += 1;
        let seq = ledger.last_seq;
        let open = self.open[index(entry.lane)].get_or_insert(Open {
            tombstone: Tombstone {
                seq_from: seq,
                seq_to: seq,
                cause: Cause::Shed,
                count: 0,
                first_at: Some(entry.received.wall),
                last_at: None,
            },
            received: entry.received,
            since: now,
            stored: false,
            dirty: false,
        });
        open.tombstone.seq_to = seq;
        open.tombstone.count += 1;
        open.tombstone.last_at = Some(entry.received.wall);
        open.dirty = true;
        self.shed += 1;
        self.shedding = true;
    }

    /// Emits the open tombstone of a lane if it changed.
    pub(super) fn write_open(&mut self, lane: Lane, effects: &mut Vec<Effect>) {
        let epoch = self.epoch;
        let Some(open) = self.open[index(lane)].as_mut().filter(|open| open.dirty) else {
            return;
        };
        let row = Row {
            stream: Stream { lane, epoch },
            seq: open.tombstone.seq_from,
            to_seq: open.tombstone.seq_to,
            received: open.received,
            body: Body::Tombstone(open.tombstone.clone()),
        };
        effects.push(if open.stored {
            Effect::Replace(row)
        } else {
            Effect::Append(vec![row])
        });
        open.stored = true;
        open.dirty = false;
    }

    pub(super) fn close(&mut self, lane: Lane) {
        self.before();
        self.open[index(lane)] = None;
    }

    pub(super) fn close_old(&mut self, now: Duration) {
        let is_old = |open: &Open| now >= open.since + TOMBSTONE_SPAN && !open.dirty;
        for lane in Lane::ALL {
            if self.open[index(lane)].as_ref().is_some_and(is_old) {
                self.open[index(lane)] = None;
            }
        }
    }

    /// Nine tenths of where telemetry stops: far enough that the fault does not flicker.
    pub(super) fn is_relieved(&self) -> bool {
        let total = self.total();
        let ceiling = self.limits.ceiling(Lane::Telemetry);
        ceiling.is_some_and(|(bytes, rows)| {
            total.bytes <= bytes / 10 * 9 && total.rows <= rows / 10 * 9
        })
    }
}

pub(super) fn damaged(stream: Stream, from: u64, to: u64, at: Received) -> Row {
    Row {
        stream,
        seq: from,
        to_seq: to,
        received: at,
        body: Body::Tombstone(Tombstone {
            seq_from: from,
            seq_to: to,
            cause: Cause::Damaged,
            count: to - from + 1,
            first_at: None,
            last_at: None,
        }),
    }
}
