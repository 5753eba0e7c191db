//! Publishes that wait for the writer, the reserved ones first. Pure.
//!
//! Within a class the log-ins take turns, so that one that floods delays no other's press. Order within one
//! log-in is kept: a log-in is reserved or not as a whole. Owns how many go into one commit.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Publishes of ordinary log-ins in one commit (D3). Beyond: the rest goes into the next.
pub const OTHERS: usize = 100;
/// Publishes of reserved log-ins in one commit. Beyond: the rest goes into the next.
pub const RESERVED: usize = 400;
/// Bytes of payloads waiting. Beyond: no more are taken from the MQTT server, which then stops reading.
pub const WAITING_BYTES: usize = 32 * 1024 * 1024;

/// See the module's head.
#[derive(Debug)]
pub struct Queue<T> {
    reserved: Class<T>,
    others: Class<T>,
    bytes: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            reserved: Class::default(),
            others: Class::default(),
            bytes: 0,
        }
    }
}

/// The log-ins of one class that have something waiting.
#[derive(Debug)]
struct Class<T> {
    waiting: HashMap<Arc<str>, VecDeque<(usize, T)>>,
    /// Each log-in with something waiting, once.
    turns: VecDeque<Arc<str>>,
}

impl<T> Default for Class<T> {
    fn default() -> Self {
        Self {
            waiting: HashMap::new(),
            turns: VecDeque::new(),
        }
    }
}

impl<T> Class<T> {
    fn push(&mut self, username: &Arc<str>, item: (usize, T)) {
        let line = self.waiting.entry(Arc::clone(username)).or_default();
        if line.is_empty() {
            self.turns.push_back(Arc::clone(username));
        }
        line.push_back(item);
    }

    fn pop(&mut self) -> Option<(usize, T)> {
        let username = self.turns.pop_front()?;
        let line = self.waiting.get_mut(&username)?;
        let item = line.pop_front();
        if line.is_empty() {
            self.waiting.remove(&username);
        } else {
            self.turns.push_back(username);
        }
        item
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
    /// Takes one in, with its log-in and the size of its payload.
    pub fn push(&mut self, username: &Arc<str>, reserved: bool, bytes: usize, item: T) {
        self.bytes += bytes;
        let class = if reserved {
            &mut self.reserved
        } else {
            &mut self.others
        };
        class.push(username, (bytes, item));
    }

    /// The next one that this turn may still take.
    pub fn pop(&mut self, turn: &mut Turn) -> Option<T> {
        let from = |class: &mut Class<T>, left: &mut usize| {
            let next = if *left > 0 { class.pop() } else { None };
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
        self.reserved.turns.is_empty() && self.others.turns.is_empty()
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

    fn name(n: usize) -> Arc<str> {
        format!("user-{n}").into()
    }

    fn one_turn<T>(queue: &mut Queue<T>) -> Vec<T> {
        let mut turn = Turn::new();
        std::iter::from_fn(|| queue.pop(&mut turn)).collect()
    }

    #[test]
    fn a_press_passes_a_thousand_doors_and_doors_are_counted_out() {
        let mut queue = Queue::default();
        for n in 0..1000 {
            queue.push(&name(0), false, 10, n);
        }
        queue.push(&name(1), true, 10, 5000);
        let taken = one_turn(&mut queue);
        assert_eq!((taken[0], taken.len()), (5000, 1 + OTHERS));
    }

    /// However much of other life-safety log-ins came before it.
    #[test]
    fn a_press_is_in_the_next_commit_whatever_other_buttons_send() {
        let mut queue = Queue::default();
        for n in 0..10_000 {
            queue.push(&name(n % 3), true, 10, n);
        }
        queue.push(&name(3), true, 10, 99_999);
        let taken = one_turn(&mut queue);
        assert_eq!(taken.len(), RESERVED);
        let at = taken.iter().position(|n| *n == 99_999);
        assert_eq!(at, Some(3), "each of the others once, then the press");
    }

    #[test]
    fn at_the_limit_of_bytes_no_more_is_taken() {
        let mut queue = Queue::default();
        queue.push(&name(0), false, WAITING_BYTES, ());
        assert!(!queue.has_room());
        queue.pop(&mut Turn::new());
        assert!(queue.has_room() && queue.is_empty());
    }

    proptest! {
        #[test]
        fn each_log_in_keeps_its_order_and_nothing_is_lost(users in prop::collection::vec(0_usize..6, 0..1500)) {
            let mut queue = Queue::default();
            for (n, user) in users.iter().enumerate() {
                queue.push(&name(*user), user % 2 == 0, 1, (*user, n));
            }
            let mut out = Vec::new();
            while !queue.is_empty() {
                let taken = one_turn(&mut queue);
                prop_assert!(!taken.is_empty() && taken.len() <= OTHERS + RESERVED);
                out.extend(taken);
            }
            for user in 0..6 {
                let of: Vec<_> = out.iter().filter(|(u, _)| *u == user).map(|(_, n)| *n).collect();
                prop_assert!(of.is_sorted());
            }
            prop_assert_eq!(out.len(), users.len());
        }
    }
}
