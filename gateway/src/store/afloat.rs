//! Events that only memory holds, while the disk takes none: what number each has, what the cloud holds of them,
//! what is left to put on the disk when it is back. Pure.
//!
//! They are numbered in an epoch of their own (D4), so that no number of theirs is ever given out a second time
//! by the file. Shared by the intake, which adds and takes them home, and the uplink, which sends them.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::id::EpochId;
use domain::kind::Lane;
use domain::wire::Receipt;

use super::Held;
use super::row::{Adopted, Body, Entry, Ledger, Row, Stream};
use crate::clock::Received;

/// Rows without a receipt in memory. Beyond: the publish is not taken and its connection closes without an answer.
/// One statement puts them all on the disk, so it is also bounded by what SQLite takes in one.
pub const ROWS: u64 = 2_000;
/// What those rows may cost in bytes. Beyond: as above.
pub const BYTES: u64 = 8 * 1024 * 1024;

/// The last number a publish used in each lane, in the order of [`Lane::ALL`]; 0 = none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers([u64; 3]);

/// See the module's head.
#[derive(Debug, Default)]
pub struct Afloat {
    epoch: Option<EpochId>,
    ledgers: [Ledger; 3],
    rows: BTreeMap<Stream, BTreeMap<u64, Row>>,
}

const fn index(lane: Lane) -> usize {
    match lane {
        Lane::LifeSafety => 0,
        Lane::Supervisory => 1,
        Lane::Telemetry => 2,
    }
}

impl Afloat {
    /// Begins an epoch without a disk.
    pub fn begin(&mut self, epoch: EpochId) {
        *self = Self {
            epoch: Some(epoch),
            ..Self::default()
        };
    }

    /// The rows are on the disk, or the cloud holds them all: memory holds nothing any more.
    pub fn end(&mut self) {
        *self = Self::default();
    }

    /// The epoch without a disk, while there is one.
    #[must_use]
    pub const fn epoch(&self) -> Option<EpochId> {
        self.epoch
    }

    /// Numbers events, all or none. None beyond [`ROWS`] or [`BYTES`], and when the disk takes events.
    pub fn take(&mut self, entries: Vec<Entry>) -> Option<Numbers> {
        let epoch = self.epoch?;
        let (rows, bytes) = self.held();
        let cost = |entry: &Entry| super::row::ROW_OVERHEAD + entry.body.get().len() as u64;
        let more: u64 = entries.iter().map(cost).sum();
        if rows + entries.len() as u64 > ROWS || bytes + more > BYTES {
            return None;
        }
        let mut numbers = Numbers::default();
        for entry in entries {
            let lane = entry.lane;
            let ledger = &mut self.ledgers[index(lane)];
            ledger.last_seq += 1;
            let seq = ledger.last_seq;
            let body = Body::Event(entry.body);
            ledger.rows += 1;
            ledger.bytes += body.cost();
            let stream = Stream { lane, epoch };
            let row = Row {
                stream,
                seq,
                to_seq: seq,
                received: entry.received,
                body,
            };
            self.rows.entry(stream).or_default().insert(seq, row);
            numbers.0[index(lane)] = seq;
        }
        Some(numbers)
    }

    /// Everything numbered so far.
    #[must_use]
    pub fn all(&self) -> Numbers {
        Numbers(Lane::ALL.map(|lane| self.last(lane)))
    }

    /// The last number given out in a lane.
    #[must_use]
    pub const fn last(&self, lane: Lane) -> u64 {
        self.ledgers[index(lane)].last_seq
    }

    /// Whether the cloud holds everything up to these numbers.
    #[must_use]
    pub fn is_receipted(&self, numbers: Numbers) -> bool {
        let ledgers = self.ledgers.iter().zip(numbers.0);
        ledgers
            .into_iter()
            .all(|(ledger, last)| ledger.through_seq >= last)
    }

    /// The cloud holds these: memory need not. Says whether that told anything new.
    pub fn receipt(&mut self, receipt: &Receipt) -> bool {
        let stream = Stream {
            lane: receipt.lane,
            epoch: receipt.epoch,
        };
        if self.epoch != Some(receipt.epoch) {
            return false;
        }
        let ledger = &mut self.ledgers[index(receipt.lane)];
        if !ledger.receipt(receipt, ledger.last_seq) {
            return false;
        }
        if let Some(rows) = self.rows.get_mut(&stream) {
            rows.retain(|seq, _| !ledger.covers(*seq));
            ledger.rows = rows.len() as u64;
            ledger.bytes = rows.values().map(|row| row.body.cost()).sum();
        }
        true
    }

    /// Rows of a stream after `after` up to `through`, like [`super::Reader::page`]. None when the stream is not
    /// afloat, so the file has it.
    #[must_use]
    pub fn page(
        &self,
        stream: Stream,
        after: u64,
        through: u64,
        rows: usize,
        bytes: usize,
    ) -> Option<Vec<Held>> {
        if self.epoch != Some(stream.epoch) {
            return None;
        }
        let mut page = Vec::new();
        let mut used = 0;
        let held = self.rows.get(&stream).into_iter().flatten();
        for (seq, row) in held.filter(|(seq, _)| (after + 1..=through).contains(*seq)) {
            let Body::Event(body) = &row.body else {
                continue;
            };
            used += body.get().len();
            if page.len() >= rows || (used > bytes && !page.is_empty()) {
                break;
            }
            page.push(Held {
                seq: *seq,
                to_seq: row.to_seq,
                received: row.received,
                body: body.clone(),
            });
        }
        Some(page)
    }

    /// The oldest life-safety rows without a receipt, up to `rows`.
    #[must_use]
    pub fn life_safety(&self, rows: usize) -> Vec<Held> {
        let stream = |epoch| Stream {
            lane: Lane::LifeSafety,
            epoch,
        };
        let page = |epoch| self.page(stream(epoch), 0, u64::MAX - 1, rows, usize::MAX);
        self.epoch.and_then(page).unwrap_or_default()
    }

    /// When the oldest row of a lane without a receipt was received.
    #[must_use]
    pub fn oldest(&self, lane: Lane) -> Option<Received> {
        let epoch = self.epoch?;
        let rows = self.rows.get(&Stream { lane, epoch })?;
        rows.first_key_value().map(|(_, row)| row.received)
    }

    /// Rows without a receipt and what they cost in bytes.
    #[must_use]
    pub fn held(&self) -> (u64, u64) {
        let sum = |of: fn(&Ledger) -> u64| self.ledgers.iter().map(of).sum();
        (sum(|ledger| ledger.rows), sum(|ledger| ledger.bytes))
    }

    /// What the disk is to take over: the epoch with its counters and the rows without a receipt. None when there
    /// are none.
    #[must_use]
    pub fn leftovers(&self, boot: &Arc<str>) -> Option<Adopted> {
        let epoch = self.epoch?;
        let rows: Vec<Row> = self
            .rows
            .values()
            .flat_map(BTreeMap::values)
            .cloned()
            .collect();
        if rows.is_empty() {
            return None;
        }
        Some(Adopted {
            epoch,
            boot: Arc::clone(boot),
            ledgers: self.ledgers.clone(),
            rows,
        })
    }

    /// What the cloud is known to hold, a lane each.
    #[must_use]
    pub fn receipts(&self) -> Vec<Receipt> {
        let Some(epoch) = self.epoch else {
            return Vec::new();
        };
        let lanes = Lane::ALL.into_iter().zip(&self.ledgers);
        lanes
            .map(|(lane, ledger)| Receipt {
                epoch,
                lane,
                through_seq: ledger.through_seq,
                ranges: ledger.ranges.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::testing::{entry, epoch};

    const LIFE: Lane = Lane::LifeSafety;

    fn receipt(lane: Lane, through_seq: u64) -> Receipt {
        Receipt {
            epoch: epoch(2),
            lane,
            through_seq,
            ranges: vec![],
        }
    }

    fn afloat() -> Afloat {
        let mut afloat = Afloat::default();
        afloat.begin(epoch(2));
        afloat
    }

    fn page(afloat: &Afloat, after: u64) -> Vec<u64> {
        let stream = Stream {
            lane: LIFE,
            epoch: epoch(2),
        };
        let page = afloat.page(stream, after, 100, 2, usize::MAX).unwrap();
        page.iter().map(|held| held.seq).collect()
    }

    #[test]
    fn a_publish_is_done_when_the_cloud_holds_each_of_its_rows_and_no_sooner() {
        let mut afloat = afloat();
        let both = afloat
            .take(vec![entry(LIFE, 1), entry(Lane::Supervisory, 2)])
            .unwrap();
        let press = afloat.take(vec![entry(LIFE, 3)]).unwrap();
        assert_eq!(page(&afloat, 0), [1, 2]);
        assert!(afloat.receipt(&receipt(LIFE, 1)));
        assert!(!afloat.is_receipted(both) && !afloat.is_receipted(press));
        assert_eq!(
            page(&afloat, 0),
            [2],
            "what the cloud holds memory need not"
        );
        assert!(afloat.receipt(&receipt(Lane::Supervisory, 1)));
        assert!(afloat.is_receipted(both) && !afloat.is_receipted(press));
        assert!(afloat.receipt(&receipt(LIFE, 2)));
        assert!(afloat.is_receipted(press) && afloat.is_receipted(afloat.all()));
        assert_eq!((afloat.held(), afloat.oldest(LIFE)), ((0, 0), None));
        assert!(afloat.leftovers(&"boot".into()).is_none());
    }

    #[test]
    fn a_receipt_of_another_epoch_or_for_what_was_never_numbered_does_nothing() {
        let mut afloat = afloat();
        let press = afloat.take(vec![entry(LIFE, 1)]).unwrap();
        let other = Receipt {
            epoch: epoch(1),
            ..receipt(LIFE, 9)
        };
        assert!(!afloat.receipt(&other) && !afloat.is_receipted(press));
        assert!(afloat.receipt(&receipt(LIFE, 9)));
        let next = afloat.take(vec![entry(LIFE, 2)]).unwrap();
        assert!(!afloat.is_receipted(next));
    }

    #[test]
    fn what_is_left_goes_home_with_its_numbers_and_the_memory_is_empty_after() {
        let mut afloat = afloat();
        let entries = (1..=3).map(|n| entry(LIFE, n)).collect();
        afloat.take(entries).unwrap();
        afloat.receipt(&receipt(LIFE, 1));
        let home = afloat.leftovers(&"boot".into()).unwrap();
        let seqs: Vec<_> = home.rows.iter().map(|row| row.seq).collect();
        assert_eq!((home.epoch, seqs), (epoch(2), vec![2, 3]));
        let ledger = &home.ledgers[0];
        assert_eq!(
            (ledger.last_seq, ledger.through_seq, ledger.rows),
            (3, 1, 2)
        );
        afloat.end();
        assert_eq!((afloat.epoch(), afloat.held()), (None, (0, 0)));
        assert_eq!(afloat.take(vec![entry(LIFE, 4)]), None);
    }

    #[test]
    fn memory_is_bounded_and_a_receipt_makes_room() {
        let mut afloat = afloat();
        for n in 1..=ROWS {
            afloat.take(vec![entry(LIFE, n)]).unwrap();
        }
        assert_eq!(afloat.take(vec![entry(LIFE, 0)]), None);
        assert_eq!(afloat.last(LIFE), ROWS, "nothing half taken");
        afloat.receipt(&receipt(LIFE, 1));
        assert!(afloat.take(vec![entry(LIFE, 0)]).is_some());
    }
}
