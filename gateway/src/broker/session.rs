//! Who is logged in: one table, and the order of hand-over that a takeover must not break.
//!
//! Owns which connection a client id belongs to, each client's will, and the connection slots, those of one
//! credential included. A publish
//! enters the intake under the table's lock, after the check that its connection still holds the client id:
//! without that an old connection's publish could follow a new one's (mqtt-server.md section 5.1).
//! Keeps nothing of a client that is gone, and holds the lock across no wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};

use super::access::{Access, Credential};
use super::report::{Reporter, add};
use super::wire::Will;
use super::{Ack, Limits, Origin, Publish, Qos};

/// A client id, unique within its credential.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientKey {
    pub(super) username: Arc<str>,
    pub(super) client: ClientId,
}

/// What tells the clients of one credential apart.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum ClientId {
    /// The id the client gave.
    Named(String),
    /// Ours, for a client that gave none (MQTT-3.1.3-6). Never equal to a given one.
    Assigned(u64),
}

/// A logged-in client.
struct Session {
    generation: u64,
    reserved: bool,
    will: Option<Will>,
    /// Tells the connection that it has lost its place, and to what. None once told.
    license: Option<oneshot::Sender<Lost>>,
}

impl Session {
    fn put_out(&mut self, lost: Lost) {
        if let Some(license) = self.license.take() {
            // A connection that has gone in the meantime need not be told.
            let _ = license.send(lost);
        }
    }
}

/// To what a connection lost its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// A newer connection with its client id.
    TakenOver,
    /// A newer client of its credential, of which there were too many.
    Crowded,
}

#[derive(Default)]
struct Table {
    clients: HashMap<Arc<ClientKey>, Session>,
    /// Clients whose credential is not `reserved`.
    ordinary: usize,
    generations: u64,
}

impl Table {
    fn insert(&mut self, key: Arc<ClientKey>, session: Session) {
        self.ordinary += usize::from(!session.reserved);
        self.clients.insert(key, session);
    }

    fn remove(&mut self, key: &ClientKey) -> Option<Session> {
        let session = self.clients.remove(key)?;
        self.ordinary -= usize::from(!session.reserved);
        Some(session)
    }

    /// Whom a new client puts out: the one with its client id, or else the one longest there of a credential
    /// that has its fill.
    fn replaced(&self, key: &Arc<ClientKey>, most: usize) -> Option<(Arc<ClientKey>, Lost)> {
        if self.clients.contains_key(key) {
            return Some((Arc::clone(key), Lost::TakenOver));
        }
        let mine = || {
            let clients = self.clients.iter();
            clients.filter(|(other, _)| other.username == key.username)
        };
        if mine().count() < most.max(1) {
            return None;
        }
        let oldest = mine().min_by_key(|(_, session)| session.generation);
        oldest.map(|(other, _)| (Arc::clone(other), Lost::Crowded))
    }

    /// Says whether a slot is left for a client, not counting the one it would replace.
    fn has_room(&self, connections: usize, reserved: bool, replaced: Option<&Session>) -> bool {
        let total = self.clients.len() - usize::from(replaced.is_some());
        let ordinary = self.ordinary - usize::from(replaced.is_some_and(|old| !old.reserved));
        total < connections && (reserved || ordinary < connections - connections.div_ceil(4))
    }
}

/// All logged-in clients. See the module's head.
pub(super) struct Sessions {
    table: Mutex<Table>,
    connections: usize,
    per_credential: usize,
    access: watch::Receiver<Arc<Access>>,
    intake: mpsc::Sender<Publish>,
    reporter: Arc<Reporter>,
}

/// Why a client gets no place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoSeat {
    /// All slots for its kind of credential are taken.
    Full,
    /// The intake is gone.
    IntakeClosed,
}

/// What becomes of the will when a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WillFate {
    /// The client ended without DISCONNECT.
    Publish,
    /// DISCONNECT deletes it (MQTT-3.14.4-3).
    Forget,
    /// The broker stops; see the head of [`super`].
    Withhold,
}

impl Sessions {
    /// Of [`Limits::connections`], a quarter is kept for reserved credentials.
    pub(super) fn new(
        limits: &Limits,
        access: watch::Receiver<Arc<Access>>,
        intake: mpsc::Sender<Publish>,
        reporter: Arc<Reporter>,
    ) -> Self {
        Self {
            table: Mutex::default(),
            connections: limits.connections,
            per_credential: limits.per_credential,
            access,
            intake,
            reporter,
        }
    }

    /// Gives a client its place. A connection that held the client id loses it, and its will goes to the
    /// intake before anything of the new one; that may have to wait for room in the intake.
    pub(super) async fn open(
        self: &Arc<Self>,
        credential: &Credential,
        client_id: String,
        mut will: Option<Will>,
    ) -> Result<Seat, NoSeat> {
        let username: Arc<str> = credential.username.as_str().into();
        let key = Arc::new(self.key(username, client_id));
        let mut room = None;
        loop {
            if let Some(seat) = self.try_open(&key, credential.reserved, &mut will, &mut room)? {
                return Ok(seat);
            }
            room = Some(
                self.intake
                    .reserve()
                    .await
                    .map_err(|_| NoSeat::IntakeClosed)?,
            );
        }
    }

    fn key(&self, username: Arc<str>, client_id: String) -> ClientKey {
        let client = if client_id.is_empty() {
            ClientId::Assigned(self.lock().next_generation())
        } else {
            ClientId::Named(client_id)
        };
        ClientKey { username, client }
    }

    /// `None`: there is an old will to publish, which needs `room` first.
    fn try_open<'a>(
        self: &'a Arc<Self>,
        key: &Arc<ClientKey>,
        reserved: bool,
        will: &mut Option<Will>,
        room: &mut Option<mpsc::Permit<'a, Publish>>,
    ) -> Result<Option<Seat>, NoSeat> {
        let mut table = self.lock();
        let replaced = table.replaced(key, self.per_credential);
        let old = replaced
            .as_ref()
            .and_then(|(key, _)| table.clients.get(key));
        if old.is_some_and(|session| session.will.is_some()) && room.is_none() {
            return Ok(None);
        }
        if !table.has_room(self.connections, reserved, old) {
            return Err(NoSeat::Full);
        }
        if let Some((key, lost)) = replaced
            && let Some(mut old) = table.remove(&key)
        {
            old.put_out(lost);
            self.bury(&key, old, room.take(), WillFate::Publish);
        }
        let (license, lost) = oneshot::channel();
        let generation = table.next_generation();
        let session = Session {
            generation,
            reserved,
            will: will.take(),
            license: Some(license),
        };
        table.insert(Arc::clone(key), session);
        self.reporter.connected(&key.username);
        Ok(Some(Seat {
            sessions: Arc::clone(self),
            key: Arc::clone(key),
            generation,
            lost,
        }))
    }

    /// Ends a session that is out of the table: its will, and supervision's notice. Called under the
    /// lock, so that no publish of a successor comes before.
    fn bury(
        &self,
        key: &ClientKey,
        session: Session,
        room: Option<mpsc::Permit<'_, Publish>>,
        fate: WillFate,
    ) {
        self.reporter.disconnected(&key.username);
        let Some(will) = session.will.filter(|_| fate != WillFate::Forget) else {
            return;
        };
        match room.filter(|_| fate == WillFate::Publish && self.permits(key, &will)) {
            Some(room) => {
                add(&self.reporter.counters.wills);
                room.send(will.into_publish(Arc::clone(&key.username), session.reserved));
            }
            None => add(&self.reporter.counters.wills_dropped),
        }
    }

    /// A will is checked again when it is due: the credential may be gone by now.
    fn permits(&self, key: &ClientKey, will: &Will) -> bool {
        self.access
            .borrow()
            .get(&key.username)
            .is_some_and(|credential| credential.may_publish(&will.topic))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic under the lock leaves a table whose every entry is still whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn next_generation(&mut self) -> u64 {
        self.generations += 1;
        self.generations
    }
}

impl Will {
    fn into_publish(self, username: Arc<str>, reserved: bool) -> Publish {
        Publish {
            username,
            reserved,
            topic: self.topic,
            payload: self.payload,
            qos: self.qos,
            retain: self.retain,
            dup: false,
            origin: Origin::Will,
            ack: Ack::detached(),
        }
    }
}

/// The place of one connection in the table. Dropped, it is vacated without the will.
pub(super) struct Seat {
    sessions: Arc<Sessions>,
    key: Arc<ClientKey>,
    generation: u64,
    lost: oneshot::Receiver<Lost>,
}

impl Seat {
    /// The credential's user name.
    pub(super) fn username(&self) -> &Arc<str> {
        &self.key.username
    }

    /// Returns once the place is lost. Not to be awaited again after that.
    pub(super) async fn lost(&mut self) -> Lost {
        (&mut self.lost).await.unwrap_or(Lost::TakenOver)
    }

    /// Hands a publish to the intake, unless the place is lost.
    pub(super) fn hand_over(
        &mut self,
        room: mpsc::Permit<'_, Publish>,
        publish: Publish,
    ) -> Result<(), Lost> {
        let table = self.sessions.lock();
        if !self.is_mine(&table) {
            return Err(self.lost.try_recv().unwrap_or(Lost::TakenOver));
        }
        let counters = &self.sessions.reporter.counters;
        match publish.qos {
            Qos::AtMostOnce => add(&counters.publishes_qos0),
            Qos::AtLeastOnce => add(&counters.publishes_qos1),
        }
        room.send(publish);
        Ok(())
    }

    /// Leaves for good. A will to publish waits for room in the intake; until then the place is held, so that
    /// a successor publishes it first.
    pub(super) async fn leave(self, fate: WillFate) {
        if fate == WillFate::Publish && self.has_will() {
            if let Ok(room) = self.sessions.intake.reserve().await {
                self.vacate(Some(room), fate);
            }
        } else {
            self.vacate(None, fate);
        }
    }

    fn has_will(&self) -> bool {
        let table = self.sessions.lock();
        self.is_mine(&table)
            && table
                .clients
                .get(&self.key)
                .is_some_and(|session| session.will.is_some())
    }

    fn is_mine(&self, table: &Table) -> bool {
        table
            .clients
            .get(&self.key)
            .is_some_and(|session| session.generation == self.generation)
    }

    fn vacate(&self, room: Option<mpsc::Permit<'_, Publish>>, fate: WillFate) {
        let mut table = self.sessions.lock();
        if !self.is_mine(&table) {
            return;
        }
        if let Some(session) = table.remove(&self.key) {
            self.sessions.bury(&self.key, session, room, fate);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.vacate(None, WillFate::Withhold);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "tests/session.rs"]
mod tests;
