//! What one connection has in the air: the queue, what was handed to the client, what has a packet id and no PUBACK.
//!
//! The client library ties a publish to its PUBACK by nothing but the order in which it reports the packet ids it gave
//! out; and it may lose its own queue without a word. So this machine keeps every message until its PUBACK, and after
//! a lost connection everything comes again, in the old order, with the same vendor id. Pure.

use crate::device::Sending;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Most messages handed over and not acknowledged. Further ones wait here, not in the client's queue.
pub const IN_FLIGHT: usize = 20;

#[derive(Debug, Clone)]
struct Item {
    order: u64,
    sending: Arc<Sending>,
}

/// See the head of the module.
#[derive(Debug, Default)]
pub struct Window {
    next_order: u64,
    queue: VecDeque<Item>,
    /// Handed to the client, packet id not reported yet.
    handed: VecDeque<Item>,
    /// By packet id.
    unacknowledged: BTreeMap<u16, Item>,
}

impl Window {
    /// Takes a message in.
    pub fn push(&mut self, sending: Arc<Sending>) {
        self.queue.push_back(Item {
            order: self.next_order,
            sending,
        });
        self.next_order += 1;
    }

    /// The next message to hand to the client, if the window has room. It counts as handed from here on.
    pub fn hand(&mut self) -> Option<Arc<Sending>> {
        if self.handed.len() + self.unacknowledged.len() >= IN_FLIGHT {
            return None;
        }
        let item = self.queue.pop_front()?;
        let sending = Arc::clone(&item.sending);
        self.handed.push_back(item);
        Some(sending)
    }

    /// The client wrote the message handed to it longest ago, under this packet id (0: QoS 0, done with).
    pub fn written(&mut self, packet: u16) {
        if let Some(item) = self.handed.pop_front()
            && packet != 0
        {
            self.unacknowledged.insert(packet, item);
        }
    }

    /// A PUBACK came; the message it is for.
    pub fn acknowledged(&mut self, packet: u16) -> Option<Arc<Sending>> {
        self.unacknowledged.remove(&packet).map(|item| item.sending)
    }

    /// The connection is gone: whatever has no PUBACK goes back to the head of the queue. QoS 0 is lost, as it is.
    pub fn lost(&mut self) {
        let mut back: Vec<Item> = self.handed.drain(..).collect();
        back.extend(std::mem::take(&mut self.unacknowledged).into_values());
        back.retain(|item| item.sending.sent.qos > 0);
        back.sort_by_key(|item| item.order);
        for item in back.into_iter().rev() {
            self.queue.push_front(item);
        }
    }

    /// Messages that still wait for anything.
    pub fn len(&self) -> usize {
        self.queue.len() + self.handed.len() + self.unacknowledged.len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::device;
    use crate::site::tests::town_and_site;
    use proptest::prelude::*;

    fn sending(id: usize) -> Arc<Sending> {
        let (_town, site) = town_and_site();
        Arc::new(device::press(
            &site,
            &site.buttons[0],
            id.to_string(),
            crate::clock::Micros(0),
        ))
    }

    #[test]
    fn the_window_is_kept() {
        let mut window = Window::default();
        (0..30).for_each(|id| window.push(sending(id)));
        let mut handed = 0;
        while window.hand().is_some() {
            handed += 1;
        }
        assert_eq!(handed, IN_FLIGHT);
        window.written(1);
        assert!(window.hand().is_none(), "written is not acknowledged");
        assert_eq!(window.acknowledged(1).unwrap().sent.id, "0");
        assert_eq!(window.hand().unwrap().sent.id, "20");
    }

    #[test]
    fn qos_0_is_gone_once_written_or_lost() {
        let (_town, site) = town_and_site();
        let zigbee = |id: &str| {
            let spot = &site.zigbee_smokes[0];
            Arc::new(device::zigbee_smoke(&site, spot, true, id.to_owned()))
        };
        let mut window = Window::default();
        window.push(zigbee("a"));
        window.hand().unwrap();
        window.written(0);
        assert_eq!(window.len(), 0);
        window.push(zigbee("b"));
        window.hand().unwrap();
        window.lost();
        assert_eq!(window.len(), 0);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push,
        Hand,
        Written,
        Acknowledged,
        Lost,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Push),
            4 => Just(Step::Hand),
            4 => Just(Step::Written),
            3 => Just(Step::Acknowledged),
            1 => Just(Step::Lost),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// Against a model of the other end: each message is acknowledged at most once by us, a PUBACK is put down to
        /// the very message the other end acknowledged, and in the end none is left over.
        #[test]
        fn nothing_is_lost_and_no_puback_is_put_down_to_another(steps in steps()) {
            let mut window = Window::default();
            let (mut pushed, mut acknowledged) = (0_usize, Vec::new());
            let (mut client, mut wire): (VecDeque<String>, VecDeque<(u16, String)>) = Default::default();
            let mut packet = 0_u16;
            let drain = (0..2_000).map(|n| [Step::Hand, Step::Written, Step::Acknowledged][n % 3].clone());
            for step in steps.into_iter().chain(drain) {
                match step {
                    Step::Push => {
                        window.push(sending(pushed));
                        pushed += 1;
                    }
                    Step::Hand => client.extend(window.hand().map(|sending| sending.sent.id.clone())),
                    Step::Written => if let Some(id) = client.pop_front() {
                        packet = packet % 100 + 1;
                        window.written(packet);
                        wire.push_back((packet, id));
                    },
                    Step::Acknowledged => if let Some((packet, id)) = wire.pop_front() {
                        prop_assert_eq!(&window.acknowledged(packet).unwrap().sent.id, &id);
                        acknowledged.push(id.parse::<usize>().unwrap());
                    },
                    Step::Lost => {
                        window.lost();
                        client.clear();
                        wire.clear();
                        packet = 0;
                    }
                }
            }
            prop_assert_eq!(window.len(), 0);
            prop_assert_eq!(acknowledged, (0..pushed).collect::<Vec<_>>(), "each once, in order");
        }
    }
}
