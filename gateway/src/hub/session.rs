//! One client's session: what it subscribed to, what waits for it, what is under way (MQTT 5 section 4.1).
//!
//! Owns packet ids of messages going out and the ids of QoS 2 messages that came in. Pure; knows no other
//! session.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use super::message::{Message, Qos, RetainHandling, Will};
use super::retained::left;
use super::stored::name_of;
use super::{ClientKey, Generation};

/// What a client asked of one filter.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Subscription {
    /// Highest quality wanted.
    #[serde(with = "super::stored::qos")]
    pub qos: Qos,
    /// Not what it published itself.
    pub no_local: bool,
    /// RETAIN as the publisher set it, instead of cleared.
    pub retain_as_published: bool,
    /// At the next subscribing.
    pub retain_handling: RetainHandling,
    /// The number it wants to hear with each message.
    pub identifier: Option<u32>,
}

/// A message waiting for one client.
#[derive(Clone, Debug)]
pub struct Queued {
    /// What.
    pub message: Arc<Message>,
    /// How sure it is to be.
    pub qos: Qos,
    /// RETAIN as this client gets it.
    pub retain: bool,
    /// The numbers of the subscriptions it came by.
    pub identifiers: Vec<u32>,
    /// When it came.
    pub at: Duration,
    /// Its row on disk; none if it has none.
    pub number: Option<u64>,
}

/// A message sent and not settled.
#[derive(Clone, Debug)]
pub(super) struct UnderWay {
    pub(super) id: NonZeroU16,
    pub(super) item: Queued,
    pub(super) phase: Phase,
    /// The present connection has not heard of it yet.
    pub(super) again: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// PUBLISH is out.
    Published,
    /// PUBREC came: PUBREL is out or due.
    Released,
}

/// A will, and from when it is due.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) will: Will,
    /// None while the client is connected.
    pub(super) due: Option<Duration>,
}

/// The connection a session is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OnLine {
    pub(super) generation: Generation,
    /// Unsettled messages it takes at once.
    pub(super) window: usize,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) key: Arc<ClientKey>,
    /// What its rows are called.
    pub(super) name: Arc<str>,
    /// A life-safety credential stands behind it.
    pub(super) reserved: bool,
    /// Seconds it outlives its connection; 0 = not at all, `u32::MAX` = for ever.
    pub(super) expiry: u32,
    pub(super) on_line: Option<OnLine>,
    /// Since when it has no connection.
    pub(super) left_at: Duration,
    pub(super) will: Option<Pending>,
    pub(super) subscriptions: BTreeMap<String, Subscription>,
    queue: VecDeque<Queued>,
    queue_bytes: usize,
    under_way: VecDeque<UnderWay>,
    last_id: u16,
    /// Ids of QoS 2 messages taken in and not released (section 4.3.3).
    pub(super) incoming: BTreeSet<NonZeroU16>,
}

impl Session {
    pub(super) fn new(key: Arc<ClientKey>, reserved: bool) -> Self {
        Self {
            name: name_of(&key).into(),
            key,
            reserved,
            expiry: 0,
            on_line: None,
            left_at: Duration::ZERO,
            will: None,
            subscriptions: BTreeMap::new(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            under_way: VecDeque::new(),
            last_id: 0,
            incoming: BTreeSet::new(),
        }
    }

    /// Whether it is kept on disk.
    pub(super) const fn is_durable(&self) -> bool {
        self.expiry > 0
    }

    pub(super) fn is_on(&self, generation: Generation) -> bool {
        self.on_line.is_some_and(|on| on.generation == generation)
    }

    /// Messages waiting, and their bytes.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.queue.len(), self.queue_bytes)
    }

    pub(super) fn push(&mut self, item: Queued) {
        self.queue_bytes += item.message.cost();
        self.queue.push_back(item);
    }

    fn pop(&mut self) -> Option<Queued> {
        let item = self.queue.pop_front()?;
        self.queue_bytes -= item.message.cost();
        Some(item)
    }

    /// Drops what waits to be sent at most once: its connection is gone.
    pub(super) fn drop_at_most_once(&mut self) {
        self.queue.retain(|item| item.qos != Qos::AtMostOnce);
        self.queue_bytes = self.queue.iter().map(|item| item.message.cost()).sum();
    }

    /// A new connection hears again of everything that is not settled, in the old order (section 4.4). What
    /// was published at most once is gone with the old connection.
    pub(super) fn begin_again(&mut self) {
        for under_way in &mut self.under_way {
            under_way.again = true;
        }
    }

    /// The next one that the present connection has not heard of.
    pub(super) fn heard_again(&mut self) -> Option<&UnderWay> {
        let next = self.under_way.iter_mut().find(|u| u.again)?;
        next.again = false;
        Some(next)
    }

    /// The next message to go out: wanted still, and within the window. Expired ones are taken out on the
    /// way; their rows come back.
    pub(super) fn next(
        &mut self,
        window: usize,
        now: Duration,
        expired: &mut Vec<u64>,
    ) -> Option<(Queued, Option<NonZeroU16>)> {
        loop {
            let first = self.queue.front()?;
            if first.qos != Qos::AtMostOnce && self.under_way.len() >= window {
                return None;
            }
            let item = self.pop()?;
            if left(&item.message, item.at, now) == Some(0) {
                expired.extend(item.number);
                continue;
            }
            if item.qos == Qos::AtMostOnce {
                return Some((item, None));
            }
            let id = self.free_id();
            self.under_way.push_back(UnderWay {
                id,
                item: item.clone(),
                phase: Phase::Published,
                again: false,
            });
            return Some((item, Some(id)));
        }
    }

    /// The next id after the last one that is not under way. The window is far smaller than the ids.
    fn free_id(&mut self) -> NonZeroU16 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Some(id) = NonZeroU16::new(self.last_id)
                && self.under_way.iter().all(|u| u.id != id)
            {
                return id;
            }
        }
    }

    /// Puts a message under way that was so before a restart.
    pub(super) fn restore_under_way(&mut self, id: NonZeroU16, item: Queued, released: bool) {
        let phase = if released {
            Phase::Released
        } else {
            Phase::Published
        };
        self.last_id = self.last_id.max(id.get());
        self.under_way.push_back(UnderWay {
            id,
            item,
            phase,
            again: true,
        });
    }

    /// Takes a message of this quality out once its last acknowledgement came: PUBACK or PUBCOMP.
    pub(super) fn settle(&mut self, id: NonZeroU16, qos: Qos) -> Option<Queued> {
        let at = self
            .under_way
            .iter()
            .position(|u| u.id == id && u.item.qos == qos)?;
        self.under_way.remove(at).map(|u| u.item)
    }

    /// Takes a PUBREC; gives the message, if it is one of QoS 2 under way.
    pub(super) fn release(&mut self, id: NonZeroU16) -> Option<&Queued> {
        let found = self
            .under_way
            .iter_mut()
            .find(|u| u.id == id && u.item.qos == Qos::ExactlyOnce)?;
        found.phase = Phase::Released;
        Some(&found.item)
    }

    /// Rows of every message that waits or is under way.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        let under_way = self.under_way.iter().filter_map(|u| u.item.number);
        under_way.chain(self.queue.iter().filter_map(|item| item.number))
    }
}
