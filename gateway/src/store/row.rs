//! What the store holds, as data: numbered rows, the counters of each stream, what is committed together.
//!
//! Never touches a disk.

use std::sync::Arc;

use domain::id::EpochId;
use domain::kind::Lane;
use domain::wire::{Receipt, Tombstone};
use serde_json::value::RawValue;

use crate::clock::Received;
use crate::site::Mark;

/// What a row costs beside its body, in bytes: key, clocks, page overhead.
pub const ROW_OVERHEAD: u64 = 64;
/// What a tombstone's body is counted as, in bytes; it grows by a digit now and then.
pub const TOMBSTONE_BYTES: u64 = 192;

/// One run of numbers: a lane within an epoch (D4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    /// The lane; the most urgent sorts first.
    pub lane: Lane,
    /// The start of the process the numbers belong to.
    pub epoch: EpochId,
}

/// One numbered row.
#[derive(Clone, Debug)]
pub struct Row {
    /// Where it stands.
    pub stream: Stream,
    /// Its number, from 1.
    pub seq: u64,
    /// The last number it stands for.
    pub to_seq: u64,
    /// When it was received; of a tombstone, the first row it replaces.
    pub received: Received,
    /// What it says.
    pub body: Body,
}

/// What a row says.
#[derive(Clone, Debug)]
pub enum Body {
    /// An event's wire bytes, made at intake.
    Event(Box<RawValue>),
    /// The place of rows that will never come.
    Tombstone(Tombstone),
}

impl Body {
    /// Bytes it is counted as against the limits.
    #[must_use]
    pub fn cost(&self) -> u64 {
        match self {
            Self::Event(bytes) => ROW_OVERHEAD + bytes.get().len() as u64,
            Self::Tombstone(_) => ROW_OVERHEAD + TOMBSTONE_BYTES,
        }
    }
}

/// The durable counters of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Last number given out; 0 = none.
    pub last_seq: u64,
    /// Receipted from 1 to here.
    pub through_seq: u64,
    /// Receipted beyond a hole: inclusive, ascending, apart.
    pub ranges: Vec<(u64, u64)>,
    /// Rows held.
    pub rows: u64,
    /// What they cost, in bytes.
    pub bytes: u64,
}

impl Ledger {
    /// Whether nothing of the stream is left to send, and nothing is missing.
    #[must_use]
    pub const fn is_drained(&self) -> bool {
        self.rows == 0 && self.through_seq >= self.last_seq
    }

    /// Whether the cloud holds this number.
    #[must_use]
    pub fn covers(&self, seq: u64) -> bool {
        let within = |(from, to): &(u64, u64)| (*from..=*to).contains(&seq);
        seq <= self.through_seq || self.ranges.iter().any(within)
    }

    /// Takes a receipt into account and says whether it told anything new. What it claims beyond
    /// `last` was never sent and is ignored.
    pub fn receipt(&mut self, receipt: &Receipt, last: u64) -> bool {
        let before = (self.through_seq, self.ranges.clone());
        self.through_seq = self.through_seq.max(receipt.through_seq.min(last));
        let new = receipt
            .ranges
            .iter()
            .filter(|(from, to)| from <= to && *to <= last);
        self.ranges.extend(new);
        (self.through_seq, self.ranges) = merge(self.through_seq, std::mem::take(&mut self.ranges));
        before != (self.through_seq, self.ranges.clone())
    }
}

/// Joins ranges that touch, and the contiguous part with those it has reached.
fn merge(through: u64, mut ranges: Vec<(u64, u64)>) -> (u64, Vec<(u64, u64)>) {
    ranges.sort_unstable();
    let mut through = through;
    let mut apart: Vec<(u64, u64)> = Vec::new();
    for (from, to) in ranges {
        if from <= through.saturating_add(1) {
            through = through.max(to);
            continue;
        }
        match apart.last_mut() {
            Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
            Some(_) | None => apart.push((from, to)),
        }
    }
    (through, apart)
}

/// One event on its way into the store.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The lane it goes into: its kind's, but for the first record of every lane.
    pub lane: Lane,
    /// When it was received.
    pub received: Received,
    /// Its wire bytes.
    pub body: Box<RawValue>,
    /// A fact about the box itself: few, and kept whatever the limits say.
    pub of_the_box: bool,
}

/// A Config as it rests: sealed under the box key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedConfig {
    /// Its version, in clear.
    pub version: u64,
    /// Suite, key name, nonce and ciphertext.
    pub sealed: Vec<u8>,
}

/// A row of the MQTT server's memory, sealed under the box key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedRow {
    /// Which.
    pub key: String,
    /// Suite, key name, nonce and ciphertext; none = the row goes.
    pub sealed: Option<Vec<u8>>,
}

/// An epoch that ran in memory while the disk took nothing, and comes home with what the cloud has not got.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// Its id.
    pub epoch: EpochId,
    /// The boot its rows were received in.
    pub boot: Arc<str>,
    /// Its counters, in the order of [`Lane::ALL`]; they count the rows.
    pub ledgers: [Ledger; 3],
    /// The rows, under the numbers they have.
    pub rows: Vec<Row>,
}

/// What must be committed together, or not at all.
#[derive(Clone, Debug, Default)]
pub struct Submission {
    /// An epoch of the time without a disk.
    pub adopted: Option<Box<Adopted>>,
    /// Events, in the order they were decided.
    pub entries: Vec<Entry>,
    /// Durable state of the site that follows from them.
    pub marks: Vec<Mark>,
    /// A Config taken.
    pub config: Option<SealedConfig>,
    /// What the MQTT server is to remember, in order.
    pub mqtt: Vec<SealedRow>,
}

impl Submission {
    /// Whether there is nothing to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.adopted.is_none()
            && self.entries.is_empty()
            && self.marks.is_empty()
            && self.config.is_none()
            && self.mqtt.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use domain::time::Timestamp;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn receipt(through_seq: u64, ranges: Vec<(u64, u64)>) -> Receipt {
        Receipt {
            epoch: EpochId::at(Timestamp::default(), [0; 10]),
            lane: Lane::Telemetry,
            through_seq,
            ranges,
        }
    }

    proptest! {
        #[test]
        fn receipts_add_up_to_the_set_they_name(
            last in 1u64..60,
            told in prop::collection::vec((0u64..70, prop::collection::vec((1u64..70, 0u64..9), 0..4)), 1..8)
        ) {
            let mut ledger = Ledger { last_seq: last, ..Ledger::default() };
            let mut held = BTreeSet::new();
            for (through, spans) in told {
                let ranges: Vec<_> = spans.into_iter().map(|(from, len)| (from, from + len)).collect();
                held.extend(1..=through.min(last));
                for (from, to) in ranges.iter().filter(|(_, to)| *to <= last) {
                    held.extend(*from..=*to);
                }
                ledger.receipt(&receipt(through, ranges), last);
            }
            let mut named: BTreeSet<u64> = (1..=ledger.through_seq).collect();
            for (from, to) in &ledger.ranges {
                prop_assert!(*from > ledger.through_seq + 1, "a touching range is no hole");
                named.extend(*from..=*to);
            }
            prop_assert_eq!(named, held);
        }
    }

    #[test]
    fn a_receipt_that_tells_nothing_new_says_so() {
        let mut ledger = Ledger {
            last_seq: 9,
            ..Ledger::default()
        };
        assert!(ledger.receipt(&receipt(2, vec![(5, 6)]), 9));
        assert!(!ledger.receipt(&receipt(1, vec![(5, 5)]), 9));
        assert!(ledger.receipt(&receipt(4, vec![]), 9));
        assert_eq!((ledger.through_seq, ledger.ranges.len()), (6, 0));
    }
}
