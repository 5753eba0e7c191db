//! The publishes of one connection that wait for their commit, in order of arrival. Pure.
//!
//! Commits may finish in any order; acknowledgements leave in the order the publishes came
//! (MQTT-4.6.0-2). Owns the count that stops the reading; knows no socket and no packet.

use std::collections::VecDeque;
use std::num::NonZeroU16;

/// One publish in the window. QoS 0 has no packet id and only takes up its place.
#[derive(Clone, Copy, Debug)]
struct Slot {
    packet_id: Option<NonZeroU16>,
    settled: bool,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Window {
    oldest: u64,
    slots: VecDeque<Slot>,
}

impl Window {
    /// Takes a publish in and returns the ticket it is settled under.
    pub(super) fn open(&mut self, packet_id: Option<NonZeroU16>) -> u64 {
        let ticket = self.oldest + self.slots.len() as u64;
        self.slots.push_back(Slot {
            packet_id,
            settled: false,
        });
        ticket
    }

    /// Marks a publish as done. A ticket settled before, or unknown, changes nothing.
    pub(super) fn settle(&mut self, ticket: u64) {
        if let Some(slot) = self.slot(ticket) {
            slot.settled = true;
        }
    }

    /// Says whether the publish of this ticket expects an acknowledgement.
    pub(super) fn expects_ack(&mut self, ticket: u64) -> bool {
        self.slot(ticket)
            .is_some_and(|slot| slot.packet_id.is_some())
    }

    /// The next packet id to acknowledge: the oldest, once it and all before it are settled.
    pub(super) fn next_ack(&mut self) -> Option<NonZeroU16> {
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.settled) {
            self.oldest += 1;
            if slot.packet_id.is_some() {
                return slot.packet_id;
            }
        }
        None
    }

    /// Publishes in the window.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    fn slot(&mut self, ticket: u64) -> Option<&mut Slot> {
        let index = ticket.checked_sub(self.oldest)?;
        self.slots.get_mut(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u16) -> Option<NonZeroU16> {
        NonZeroU16::new(number)
    }

    #[test]
    fn acknowledgements_wait_for_everything_before_them() {
        let mut window = Window::default();
        let (first, second, third) = (window.open(id(7)), window.open(None), window.open(id(9)));
        window.settle(third);
        assert_eq!(window.next_ack(), None);
        window.settle(first);
        assert_eq!(window.next_ack(), id(7));
        assert_eq!(window.next_ack(), None);
        assert_eq!(window.len(), 2);
        window.settle(second);
        assert_eq!(window.next_ack(), id(9));
        assert_eq!(window.len(), 0);
    }

    #[test]
    fn one_packet_id_twice_is_two_publishes() {
        let mut window = Window::default();
        let (first, second) = (window.open(id(7)), window.open(id(7)));
        window.settle(first);
        assert_eq!((window.next_ack(), window.next_ack()), (id(7), None));
        window.settle(second);
        assert_eq!(window.next_ack(), id(7));
    }

    #[test]
    fn late_and_unknown_tickets_change_nothing() {
        let mut window = Window::default();
        let ticket = window.open(id(1));
        window.settle(ticket);
        assert_eq!(window.next_ack(), id(1));
        window.settle(ticket);
        window.settle(ticket + 5);
        assert!(!window.expects_ack(ticket));
        let next = window.open(id(2));
        assert_eq!((next, window.next_ack()), (ticket + 1, None));
    }

    proptest! {
        /// Whatever the order of commits: every id is acknowledged once, in order of arrival, and never
        /// before its own commit.
        #[test]
        fn order_of_arrival_is_kept(
            publishes in prop::collection::vec(any::<bool>(), 1..40),
            seed in prop::collection::vec(any::<prop::sample::Index>(), 40),
        ) {
            let mut window = Window::default();
            let mut open = Vec::new();
            let mut expected = Vec::new();
            for (number, at_least_once) in (1_u16..).zip(&publishes) {
                let packet_id = if *at_least_once { id(number) } else { None };
                expected.extend(packet_id);
                open.push((window.open(packet_id), packet_id));
            }
            let (mut acknowledged, mut committed) = (Vec::new(), Vec::new());
            for index in seed.iter().take(publishes.len()) {
                let (ticket, packet_id) = open.swap_remove(index.index(open.len()));
                committed.extend(packet_id);
                window.settle(ticket);
                while let Some(next) = window.next_ack() {
                    prop_assert!(committed.contains(&next));
                    acknowledged.push(next);
                }
            }
            prop_assert_eq!(acknowledged, expected);
            prop_assert_eq!(window.len(), 0);
        }
    }
}
