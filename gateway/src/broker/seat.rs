//! The place of one connection: everything a client does passes here, under the lock of the sessions.
//!
//! Owns the check that the connection still holds its session. Holds the lock across no wait.

use std::num::NonZeroU16;
use std::sync::Arc;

use tokio::sync::Notify;

use super::report::add;
use super::session::{Room, Rooms, Sessions, Table, TakenOver, send_talk};
use super::{Ack, Publish, Route, Work};
use crate::hub::{
    Change, ClientKey, Generation, Granted, Leaving, Outgoing, Qos, SessionId, Source, Subscription,
};

/// What a client sends that the intake must see.
#[derive(Debug)]
pub(super) enum Request {
    /// A message.
    Publish(Box<Publish>),
    /// Filters asked for; those not permitted are named by their place only.
    Subscribe(Vec<Option<(String, Subscription)>>),
    /// Filters given up.
    Unsubscribe(Vec<String>),
    /// PUBREL.
    Release(NonZeroU16),
    /// PUBREC.
    Received(NonZeroU16),
    /// Rows that must be stored before a packet leaves.
    Store(Vec<Change>),
}

/// What became of a [`Request`] so far; the rest waits for its commit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Submitted {
    /// Nothing to say.
    Done,
    /// Of each filter; none = not permitted.
    Subscribed(Vec<Option<Granted>>),
    /// Of each filter: whether it was there.
    Unsubscribed(Vec<bool>),
    /// Whether the packet id is known.
    Known(bool),
}

/// The place of one connection. Dropped, it is left without the will.
pub(super) struct Seat {
    pub(super) sessions: Arc<Sessions>,
    pub(super) key: Arc<ClientKey>,
    pub(super) session: SessionId,
    pub(super) generation: Generation,
    pub(super) bell: Arc<Notify>,
}

impl Seat {
    /// The credential's user name.
    pub(super) fn username(&self) -> &Arc<str> {
        &self.key.username
    }

    /// The way of a message from here. `exactly_once`: the packet id of a QoS 2 message.
    pub(super) fn route(&self, exactly_once: Option<NonZeroU16>) -> Route {
        Route {
            hall: Arc::clone(&self.sessions.hall),
            source: Some(Source {
                session: self.session,
                exactly_once,
            }),
        }
    }

    /// Rung when there may be something to hear.
    pub(super) fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    /// Hands a request to the intake, unless the session is lost.
    pub(super) fn submit(
        &self,
        room: Room<'_>,
        request: Request,
        ack: Ack,
    ) -> Result<Submitted, TakenOver> {
        let mut table = self.sessions.lock();
        if !self.is_mine(&table) {
            return Err(TakenOver);
        }
        let mut changes = Vec::new();
        let submitted = match request {
            Request::Publish(mut publish) => {
                self.sessions
                    .reporter
                    .counters
                    .count_publish(publish.message.qos);
                publish.ack = ack;
                room.send(Work::Publish(publish));
                return Ok(Submitted::Done);
            }
            Request::Subscribe(filters) => {
                let mut grant = |(filter, asked): (String, Subscription)| {
                    table
                        .hub
                        .subscribe(self.session, &filter, asked, &mut changes)
                };
                let granted = filters.into_iter().map(|f| f.map(&mut grant)).collect();
                Submitted::Subscribed(granted)
            }
            Request::Unsubscribe(filters) => {
                let mut drop =
                    |filter: &String| table.hub.unsubscribe(self.session, filter, &mut changes);
                Submitted::Unsubscribed(filters.iter().map(&mut drop).collect())
            }
            Request::Release(id) => {
                let known = table.hub.released(self.session, self.generation, id);
                Submitted::Known(known.map(|rows| changes = rows).is_some())
            }
            Request::Received(id) => {
                let known = table.hub.received(self.session, self.generation, id);
                Submitted::Known(known.map(|rows| changes = rows).is_some())
            }
            Request::Store(rows) => {
                changes = rows;
                Submitted::Done
            }
        };
        send_talk(Some(room), changes, ack);
        Ok(submitted)
    }

    /// Queues the retained messages a committed subscription is to get.
    pub(super) fn greet(&self, filter: &str) {
        let now = self.sessions.now();
        self.sessions.lock().hub.greet(self.session, filter, now);
    }

    /// The next packet for this connection.
    pub(super) fn next(&self) -> Option<Outgoing> {
        let now = self.sessions.now();
        let mut table = self.sessions.lock();
        table.hub.next(self.session, self.generation, now)
    }

    /// PUBACK, or PUBCOMP at QoS 2. Unknown ids change nothing.
    pub(super) fn acknowledged(&self, id: NonZeroU16, qos: Qos) {
        let mut table = self.sessions.lock();
        table
            .hub
            .acknowledged(self.session, self.generation, id, qos);
    }

    /// Whether a QoS 2 message with this id was taken in and not released.
    pub(super) fn is_known(&self, id: NonZeroU16) -> bool {
        self.sessions.lock().hub.is_known(self.session, id)
    }

    /// Leaves for good. A will to publish waits for room in the intake; until then the place is held, so that
    /// a successor publishes it first.
    pub(super) async fn leave(self, leaving: Leaving) {
        let sessions = Arc::clone(&self.sessions);
        let needs = sessions.lock().hub.needs_to_close(self.session, leaving);
        if let Some(rooms) = sessions.rooms(needs).await {
            self.vacate(rooms, leaving);
        }
    }

    fn is_mine(&self, table: &Table) -> bool {
        let sitter = table.sitters.get(&self.session);
        sitter.is_some_and(|sitter| sitter.generation == self.generation)
    }

    fn vacate(&self, rooms: Rooms<'_>, leaving: Leaving) {
        let sessions = &self.sessions;
        let mut table = sessions.lock();
        if !self.is_mine(&table) {
            return;
        }
        table.sitters.remove(&self.session);
        let now = sessions.now();
        let mut aftermath = table.hub.close(self.session, self.generation, leaving, now);
        sessions.reporter.disconnected(&self.key.username);
        if aftermath.withheld {
            add(&sessions.reporter.counters.wills_dropped);
        }
        sessions.speak(aftermath.wills.pop(), rooms.will);
        if !aftermath.changes.is_empty() {
            send_talk(rooms.rows, aftermath.changes, Ack::detached());
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.vacate(Rooms::default(), Leaving::Stopping);
    }
}
