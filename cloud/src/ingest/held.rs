//! What is held of one lane of one epoch: pure arithmetic on numbers (D4).

use domain::id::EpochId;
use domain::kind::Lane;
use domain::wire::Receipt;

/// Most ranges kept beyond the first hole. Beyond it the highest are not remembered: the box sends
/// them again and they are known as repeats.
pub const RANGES_MAX: usize = 1_000;

/// The numbers held: 1 to `through`, and inclusive ranges beyond a hole, ascending and apart.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// Every number from 1 to this is held.
    pub through: u64,
    /// What is held beyond the first hole.
    pub ranges: Vec<(u64, u64)>,
}

impl Held {
    /// Takes inclusive stretches of numbers into account, in any order.
    #[must_use]
    pub fn with(&self, stretches: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut all: Vec<(u64, u64)> = self.ranges.clone();
        all.extend(stretches);
        all.sort_unstable();
        let mut held = Self {
            through: self.through,
            ranges: Vec::new(),
        };
        for (from, to) in all {
            held.join(from, to);
        }
        held.ranges.truncate(RANGES_MAX);
        held
    }

    /// Adds a stretch that begins at or after every one added before.
    fn join(&mut self, from: u64, to: u64) {
        if from <= self.through.saturating_add(1) {
            self.through = self.through.max(to);
            return;
        }
        match self.ranges.last_mut() {
            Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
            Some(_) | None => self.ranges.push((from, to)),
        }
    }

    /// The highest number held; 0 if none.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.ranges.last().map_or(self.through, |last| last.1)
    }

    /// The holes that were not there `before`: those that begin beyond all that was held then.
    #[must_use]
    pub fn new_holes(&self, before: &Self) -> Vec<(u64, u64)> {
        let mut holes = Vec::new();
        let mut last = self.through;
        for (from, to) in &self.ranges {
            holes.push((last + 1, from - 1));
            last = *to;
        }
        holes.retain(|(from, _)| *from > before.highest());
        holes
    }

    /// The receipt that says so.
    #[must_use]
    pub fn receipt(self, epoch: EpochId, lane: Lane) -> Receipt {
        Receipt {
            epoch,
            lane,
            through_seq: self.through,
            ranges: self.ranges,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_hole_is_new_once_and_closes() {
        let none = Held::default();
        let first = none.with([(1, 3)]);
        assert_eq!(first.new_holes(&none), []);
        let jump = first.with([(7, 9)]);
        assert_eq!(jump.new_holes(&first), [(4, 6)]);
        let part = jump.with([(5, 5)]);
        assert_eq!(part.new_holes(&jump), [], "part of a known hole");
        assert_eq!(part.ranges, [(5, 5), (7, 9)]);
        let closed = part.with([(4, 6)]);
        assert_eq!((closed.through, closed.ranges.len()), (9, 0));
    }

    proptest! {
        #[test]
        fn it_holds_exactly_what_came_in_any_order(
            stretches in prop::collection::vec((1u64..60, 0u64..5), 0..30)
        ) {
            let mut held = Held::default();
            let mut numbers = BTreeSet::new();
            for (from, more) in stretches {
                let before = held.clone();
                held = before.with([(from, from + more)]);
                let missing = |n: &u64| *n > before.highest() && *n < from;
                let holes = held.new_holes(&before);
                let fresh: BTreeSet<u64> = holes.iter().flat_map(|(a, b)| *a..=*b).collect();
                let expected: BTreeSet<u64> = (1..from).filter(missing).collect();
                prop_assert_eq!(fresh, expected);
                numbers.extend(from..=from + more);
            }
            let beyond = held.ranges.iter().flat_map(|(a, b)| *a..=*b);
            let all: BTreeSet<u64> = (1..=held.through).chain(beyond).collect();
            prop_assert_eq!(all, numbers);
            let mut last = held.through;
            for (from, to) in &held.ranges {
                prop_assert!(*from > last + 1 && from <= to);
                last = *to;
            }
        }
    }
}
