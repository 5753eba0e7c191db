//! What a client's own packets change: subscriptions, and the acknowledgements of what it was sent.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use super::message::{Qos, RetainHandling};
use super::retained::left;
use super::session::{Phase, Queued, Session, Subscription};
use super::stored::{self, Change};
use super::{Generation, Hub, SessionId, bare, holder};

/// What became of one filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// It is in force.
    Yes {
        /// Highest quality given.
        qos: Qos,
        /// Retained messages are to follow, see [`Hub::greet`].
        greet: bool,
    },
    /// The session has as many as it may have.
    TooMany,
}

/// A packet to a client.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// What.
    pub send: Send,
    /// To be committed before it leaves.
    pub changes: Vec<Change>,
}

/// See [`Outgoing`].
#[derive(Clone, Debug)]
pub enum Send {
    /// A message.
    Publish {
        /// The message and how this client gets it.
        item: Queued,
        /// Its packet id; none at QoS 0.
        id: Option<NonZeroU16>,
        /// An earlier connection may have heard it.
        dup: bool,
        /// Seconds for which it is still wanted.
        expiry: Option<u32>,
    },
    /// PUBREL.
    Release(NonZeroU16),
}

impl Hub {
    /// Adds or replaces a subscription. `filter` is well formed and permitted.
    pub fn subscribe(
        &mut self,
        id: SessionId,
        filter: &str,
        asked: Subscription,
        changes: &mut Vec<Change>,
    ) -> Granted {
        let Some(session) = self.sessions.get_mut(&id) else {
            return Granted::TooMany;
        };
        let known = session.subscriptions.contains_key(filter);
        if !known && session.subscriptions.len() >= self.limits.subscriptions {
            return Granted::TooMany;
        }
        let is_shared = bare(filter) != filter;
        let greet = !is_shared
            && match asked.retain_handling {
                RetainHandling::Always => true,
                RetainHandling::IfNew => !known,
                RetainHandling::Never => false,
            };
        if session.is_durable() {
            changes.push(stored::subscription(&session.name, filter, &asked));
        }
        let qos = asked.qos;
        session
            .subscriptions
            .insert(filter.to_owned(), asked.clone());
        self.tree.insert(bare(filter), holder(id, filter), asked);
        Granted::Yes { qos, greet }
    }

    /// Takes a subscription out. Says whether there was one.
    pub fn unsubscribe(&mut self, id: SessionId, filter: &str, changes: &mut Vec<Change>) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else {
            return false;
        };
        let known = session.subscriptions.remove(filter).is_some();
        self.tree.remove(bare(filter), &holder(id, filter));
        if known && session.is_durable() {
            changes.push(stored::no_subscription(&session.name, filter));
        }
        known
    }

    /// Filters of a session.
    #[must_use]
    pub fn filters(&self, id: SessionId) -> Vec<String> {
        let session = self.sessions.get(&id);
        session.map_or_else(Vec::new, |s| s.subscriptions.keys().cloned().collect())
    }

    /// The next packet for a connection; none while there is nothing, or its window is full.
    pub fn next(
        &mut self,
        id: SessionId,
        generation: Generation,
        now: Duration,
    ) -> Option<Outgoing> {
        let session = self.on(id, generation)?;
        let name = Arc::clone(&session.name);
        if let Some(under_way) = session.heard_again() {
            let send = match under_way.phase {
                Phase::Published => Send::Publish {
                    item: under_way.item.clone(),
                    id: Some(under_way.id),
                    dup: true,
                    expiry: left(&under_way.item.message, under_way.item.at, now),
                },
                Phase::Released => Send::Release(under_way.id),
            };
            let changes = Vec::new();
            return Some(Outgoing { send, changes });
        }
        let window = session.on_line.map_or(0, |on| on.window);
        let mut expired = Vec::new();
        let next = session.next(window, now, &mut expired);
        let rows = expired.into_iter().map(|n| stored::not_queued(&name, n));
        self.rest.extend(rows);
        let (item, packet) = next?;
        let mut changes = Vec::new();
        if let (Some(number), Some(packet), Qos::ExactlyOnce) = (item.number, packet, item.qos) {
            changes.push(stored::queued(&name, number, &item, Some(packet), false));
        }
        let send = Send::Publish {
            expiry: left(&item.message, item.at, now),
            item,
            id: packet,
            dup: false,
        };
        Some(Outgoing { send, changes })
    }

    /// Takes PUBACK (of QoS 1) or PUBCOMP (of QoS 2). False if nothing of that kind is under way. Its row
    /// goes with the next tick: until then a restart would send it again, as QoS 1 allows and a second
    /// PUBREL does no harm.
    pub fn acknowledged(
        &mut self,
        id: SessionId,
        generation: Generation,
        packet: NonZeroU16,
        qos: Qos,
    ) -> bool {
        let Some(session) = self.on(id, generation) else {
            return false;
        };
        let Some(item) = session.settle(packet, qos) else {
            return false;
        };
        let name = &session.name;
        let row = item.number.map(|number| stored::not_queued(name, number));
        self.rest.extend(row);
        true
    }

    /// Takes PUBREC. None if no QoS 2 message has this id; otherwise PUBREL is due once the changes are
    /// committed.
    pub fn received(
        &mut self,
        id: SessionId,
        generation: Generation,
        packet: NonZeroU16,
    ) -> Option<Vec<Change>> {
        let session = self.on(id, generation)?;
        let name = Arc::clone(&session.name);
        let item = session.release(packet)?;
        let row = |number| stored::queued(&name, number, item, Some(packet), true);
        Some(item.number.map(row).into_iter().collect())
    }

    /// Whether a QoS 2 message with this id was taken in and not released.
    #[must_use]
    pub fn is_known(&self, id: SessionId, packet: NonZeroU16) -> bool {
        let session = self.sessions.get(&id);
        session.is_some_and(|session| session.incoming.contains(&packet))
    }

    /// Takes PUBREL. None if the id is unknown; otherwise PUBCOMP is due once the changes are committed.
    pub fn released(
        &mut self,
        id: SessionId,
        generation: Generation,
        packet: NonZeroU16,
    ) -> Option<Vec<Change>> {
        let session = self.on(id, generation)?;
        if !session.incoming.remove(&packet) {
            return None;
        }
        let row = session
            .is_durable()
            .then(|| stored::no_incoming(&session.name, packet));
        Some(row.into_iter().collect())
    }

    fn on(&mut self, id: SessionId, generation: Generation) -> Option<&mut Session> {
        self.sessions.get_mut(&id).filter(|s| s.is_on(generation))
    }
}
