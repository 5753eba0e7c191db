//! Publishes that wait for the writer, the reserved ones first. Pure.
//!
//! Order within one log-in is kept: a log-in is reserved or not as a whole. Owns how many go into one commit.

use std::collections::VecDeque;

/// Publishes of ordinary log-ins in one commit (D3). Beyond: the rest goes into the next.
pub const OTHERS: usize = 100;
/// Publishes of reserved log-ins in one commit. Beyond: the rest goes into the next.
pub const RESERVED: usize = 400;
/// Bytes of payloads waiting. Beyond: no more are taken from the MQTT server, which then stops reading.
pub const WAITING_BYTES: usize = 32 * 1024 * 1024;

/// See the module's head.
#[derive(Debug)]
pub struct Queue<T> {
    reserved: VecDeque<(usize, T)>,
    others: VecDeque<(usize, T)>,
    bytes: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            reserved: VecDeque::new(),
            others: VecDeque::new(),
            bytes: 0,
        }
    }
}

/// What one commit may still take.
#[derive(Debug)]
pub struct Turn {
    reserved: usize,
    others: usize,
}

impl Turn {
    /// A whole commit.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            reserved: RESERVED,
            others: OTHERS,
        }
    }
}

impl<T> Queue<T> {
    /// Takes one in, with the size of its payload.
    pub fn push(&mut self, reserved: bool, bytes: usize, item: T) {
        self.bytes += bytes;
        let line = if reserved {
            &mut self.reserved
        } else {
            &mut self.others
        };
        line.push_back((bytes, item));
    }

    /// The next one that this turn may still take.
    pub fn pop(&mut self, turn: &mut Turn) -> Option<T> {
        let from = |line: &mut VecDeque<(usize, T)>, left: &mut usize| {
            let next = if *left > 0 { line.pop_front() } else { None };
            *left -= usize::from(next.is_some());
            next
        };
        let next = from(&mut self.reserved, &mut turn.reserved)
            .or_else(|| from(&mut self.others, &mut turn.others));
        let (bytes, item) = next?;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(item)
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reserved.is_empty() && self.others.is_empty()
    }

    /// Whether another may be taken in.
    #[must_use]
    pub const fn has_room(&self) -> bool {
        self.bytes < WAITING_BYTES
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_press_passes_a_thousand_doors_and_doors_are_counted_out() {
        let mut queue = Queue::default();
        for n in 0..1000 {
            queue.push(false, 10, n);
        }
        queue.push(true, 10, 5000);
        let mut turn = Turn::new();
        let taken: Vec<_> = std::iter::from_fn(|| queue.pop(&mut turn)).collect();
        assert_eq!((taken[0], taken.len()), (5000, 1 + OTHERS));
    }

    #[test]
    fn at_the_limit_of_bytes_no_more_is_taken() {
        let mut queue = Queue::default();
        queue.push(false, WAITING_BYTES, ());
        assert!(!queue.has_room());
        queue.pop(&mut Turn::new());
        assert!(queue.has_room() && queue.is_empty());
    }

    proptest! {
        #[test]
        fn each_kind_keeps_its_order_and_nothing_is_lost(kinds in prop::collection::vec(any::<bool>(), 0..1500)) {
            let mut queue = Queue::default();
            for (n, reserved) in kinds.iter().enumerate() {
                queue.push(*reserved, 1, (*reserved, n));
            }
            let mut out = Vec::new();
            while !queue.is_empty() {
                let mut turn = Turn::new();
                let before = out.len();
                out.extend(std::iter::from_fn(|| queue.pop(&mut turn)));
                prop_assert!(out.len() - before <= OTHERS + RESERVED);
            }
            for kind in [true, false] {
                let of: Vec<_> = out.iter().filter(|(r, _)| *r == kind).map(|(_, n)| *n).collect();
                prop_assert!(of.is_sorted());
            }
            prop_assert_eq!(out.len(), kinds.len());
        }
    }
}
