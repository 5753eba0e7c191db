//! The answers of one connection that wait for a commit, in order of arrival. Pure.
//!
//! Commits may finish in any order; answers leave in the order their causes came (MQTT-4.6.0-2). Owns the
//! count that stops the reading; knows no socket and no packet.

use std::collections::VecDeque;

#[derive(Debug)]
struct Slot<A> {
    answer: A,
    settled: bool,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Window<A> {
    oldest: u64,
    slots: VecDeque<Slot<A>>,
}

impl<A> Default for Window<A> {
    fn default() -> Self {
        Self {
            oldest: 0,
            slots: VecDeque::new(),
        }
    }
}

impl<A> Window<A> {
    /// Takes in what will be answered so, and returns the ticket it is settled under.
    pub(crate) fn open(&mut self, answer: A) -> u64 {
        let ticket = self.oldest + self.slots.len() as u64;
        self.slots.push_back(Slot {
            answer,
            settled: false,
        });
        ticket
    }

    /// Marks one as done. A ticket settled before, or unknown, changes nothing.
    pub(crate) fn settle(&mut self, ticket: u64) {
        if let Some(slot) = self.slot(ticket) {
            slot.settled = true;
        }
    }

    /// The answer that waits under this ticket.
    pub(crate) fn answer(&mut self, ticket: u64) -> Option<&mut A> {
        self.slot(ticket).map(|slot| &mut slot.answer)
    }

    /// The next answer due: the oldest, once it is settled.
    pub(crate) fn next(&mut self) -> Option<A> {
        let slot = self.slots.pop_front_if(|slot| slot.settled)?;
        self.oldest += 1;
        Some(slot.answer)
    }

    /// Everything that waits, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &A> {
        self.slots.iter().map(|slot| &slot.answer)
    }

    /// Answers in the window.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    fn slot(&mut self, ticket: u64) -> Option<&mut Slot<A>> {
        let index = ticket.checked_sub(self.oldest)?;
        self.slots.get_mut(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_wait_for_everything_before_them() {
        let mut window = Window::default();
        let (first, second, third) = (window.open(7), window.open(0), window.open(9));
        window.settle(third);
        assert_eq!(window.next(), None);
        window.settle(first);
        assert_eq!(
            (window.next(), window.next(), window.len()),
            (Some(7), None, 2)
        );
        *window.answer(second).unwrap() = 8;
        assert_eq!(window.iter().collect::<Vec<_>>(), [&8, &9]);
        window.settle(second);
        assert_eq!(
            (window.next(), window.next(), window.len()),
            (Some(8), Some(9), 0)
        );
    }

    #[test]
    fn late_and_unknown_tickets_change_nothing() {
        let mut window = Window::default();
        let ticket = window.open(1);
        window.settle(ticket);
        assert_eq!(window.next(), Some(1));
        window.settle(ticket);
        window.settle(ticket + 5);
        assert_eq!(window.answer(ticket), None);
        assert_eq!((window.open(2), window.next()), (ticket + 1, None));
    }

    proptest! {
        /// Whatever the order of commits: every answer comes once, in order of arrival, and never before its
        /// own commit.
        #[test]
        fn order_of_arrival_is_kept(seed in prop::collection::vec(any::<prop::sample::Index>(), 1..40)) {
            let mut window = Window::default();
            let mut open: Vec<_> = (0..seed.len()).map(|n| (window.open(n), n)).collect();
            let (mut answered, mut committed) = (Vec::new(), Vec::new());
            for index in &seed {
                let (ticket, n) = open.swap_remove(index.index(open.len()));
                committed.push(n);
                window.settle(ticket);
                while let Some(next) = window.next() {
                    prop_assert!(committed.contains(&next));
                    answered.push(next);
                }
            }
            prop_assert_eq!(answered, (0..seed.len()).collect::<Vec<_>>());
            prop_assert_eq!(window.len(), 0);
        }
    }
}
