//! Who is logged in: the hub under one lock, and the order of hand-over that a takeover must not break.
//!
//! Owns which connection sits in which session's seat. What a client sends enters the intake under the lock,
//! after the check that its connection still holds the seat: without that an old connection's publish could
//! follow a new one's (mqtt-server.md section 5.1), or a row be written in another order than it was decided.
//! Holds the lock across no wait.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambient::Clock;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::access::{Access, Credential};
use super::report::{Reporter, add};
use super::seat::Seat;
use super::{Ack, Memory, Origin, Publish, Route, Talk, Work};
use crate::hub::{
    Change, ClientId, ClientKey, Generation, Hub, LastWords, Message, Needs, NoRoom, Opened,
    Opening, Plan, SessionId, Source, Will, bare,
};

/// What a client asks for at its log-in.
pub(super) struct Asking {
    pub(super) client_id: String,
    pub(super) clean_start: bool,
    /// Seconds to outlive the connection.
    pub(super) expiry: u32,
    pub(super) will: Option<Will>,
    pub(super) receive_maximum: u16,
}

/// Who sits in a session's seat.
pub(super) struct Sitter {
    pub(super) generation: Generation,
    /// Rung when there is something to hear.
    bell: Arc<Notify>,
    /// Dropped, which tells the connection that it has lost its place.
    license: Option<oneshot::Sender<Infallible>>,
}

pub(super) struct Table {
    pub(super) hub: Hub,
    pub(super) sitters: HashMap<SessionId, Sitter>,
}

/// The hub and who sits where, for whoever plans and delivers. Holds no way into the intake: a message that
/// waits there must not keep it open.
pub(super) struct Hall {
    table: Mutex<Table>,
    clock: Clock,
}

impl std::fmt::Debug for Hall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hall")
    }
}

impl Hall {
    pub(super) fn new(hub: Hub, clock: Clock) -> Self {
        let sitters = HashMap::new();
        Self {
            table: Mutex::new(Table { hub, sitters }),
            clock,
        }
    }

    fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic under the lock leaves a table whose every entry is still whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What one message changes; nothing has happened yet.
    pub(super) fn plan(&self, message: Message, source: Option<Source>) -> Plan {
        self.lock().hub.plan(source, message, self.now())
    }

    /// Hands a committed message to whoever is to hear it.
    pub(super) fn deliver(&self, plan: Plan) {
        let mut table = self.lock();
        for session in table.hub.deliver(plan) {
            if let Some(sitter) = table.sitters.get(&session) {
                sitter.bell.notify_one();
            }
        }
    }
}

/// All sessions. See the module's head.
pub(super) struct Sessions {
    pub(super) hall: Arc<Hall>,
    access: watch::Receiver<Arc<Access>>,
    intake: mpsc::Sender<Work>,
    pub(super) reporter: Arc<Reporter>,
    assigned: AtomicU64,
    /// Tells client ids we gave in this run from those of another.
    run: String,
}

/// Why a client gets no place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoSeat {
    /// All slots for its kind of credential are taken.
    Full,
    /// The intake is gone.
    IntakeClosed,
    /// Its session could not be stored.
    NotStored,
}

/// The connection has lost its session to a newer one.
#[derive(Debug)]
pub(super) struct TakenOver;

/// What a client is told about its session.
pub(super) struct Welcomed {
    /// It was there before.
    pub(super) present: bool,
    /// The client id it is given.
    pub(super) assigned: Option<String>,
    /// Ends when a newer connection has taken the session.
    pub(super) lost: oneshot::Receiver<Infallible>,
}

/// Room in the intake.
pub(super) type Room<'a> = mpsc::Permit<'a, Work>;

/// Room for what follows from a coming or going.
#[derive(Default)]
pub(super) struct Rooms<'a> {
    pub(super) will: Option<Room<'a>>,
    pub(super) rows: Option<Room<'a>>,
}

impl Rooms<'_> {
    const fn suffice(&self, needs: Needs) -> bool {
        (!needs.will || self.will.is_some()) && (!needs.rows || self.rows.is_some())
    }
}

impl Sessions {
    pub(super) fn new(
        memory: Memory,
        access: watch::Receiver<Arc<Access>>,
        intake: mpsc::Sender<Work>,
        reporter: Arc<Reporter>,
    ) -> Self {
        Self {
            hall: memory.outlet.0,
            access,
            intake,
            reporter,
            assigned: AtomicU64::new(0),
            run: memory.run,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        self.hall.lock()
    }

    pub(super) fn now(&self) -> Duration {
        self.hall.now()
    }

    /// Gives a client its place once its session is stored. A connection that held the client id loses it, and
    /// its will goes to the intake before anything of the new one.
    pub(super) async fn open(
        self: &Arc<Self>,
        credential: &Credential,
        asking: Asking,
        named: bool,
    ) -> Result<(Seat, Welcomed), NoSeat> {
        let (key, assigned) = self.key(credential, &asking.client_id, named);
        let opening = Opening {
            key: Arc::clone(&key),
            reserved: credential.reserved,
            clean_start: asking.clean_start,
            expiry: asking.expiry,
            will: asking.will,
            receive_maximum: asking.receive_maximum,
        };
        loop {
            let needs = self.lock().hub.needs_to_open(&opening);
            let rooms = self.rooms(needs).await.ok_or(NoSeat::IntakeClosed)?;
            let (stored, outcome) = oneshot::channel();
            let sat = self.sit(credential, opening.clone(), rooms, Ack::told(stored))?;
            let Some((seat, mut welcomed, waits)) = sat else {
                continue;
            };
            if waits && !matches!(outcome.await, Ok(true)) {
                return Err(NoSeat::NotStored);
            }
            welcomed.assigned = assigned;
            return Ok((seat, welcomed));
        }
    }

    /// Room for what is needed; none once the intake is gone.
    pub(super) async fn rooms(&self, needs: Needs) -> Option<Rooms<'_>> {
        let count = usize::from(needs.will) + usize::from(needs.rows);
        if count == 0 {
            return Some(Rooms::default());
        }
        let mut rooms = self.intake.reserve_many(count).await.ok()?;
        let will = if needs.will { rooms.next() } else { None };
        let rows = if needs.rows { rooms.next() } else { None };
        Some(Rooms { will, rows })
    }

    /// The key of a client, and the id it is given if it gave none. `named`: such a client is told its id and
    /// may come back under it (MQTT 5); otherwise its session ends with the connection (MQTT-3.1.3-6).
    fn key(
        &self,
        credential: &Credential,
        client_id: &str,
        named: bool,
    ) -> (Arc<ClientKey>, Option<String>) {
        let number = || self.assigned.fetch_add(1, Ordering::Relaxed);
        let (client, assigned) = if !client_id.is_empty() {
            (ClientId::Named(client_id.to_owned()), None)
        } else if named {
            let id = format!("auto-{}-{}", self.run, number());
            (ClientId::Named(id.clone()), Some(id))
        } else {
            (ClientId::Assigned(number()), None)
        };
        let username = credential.username.as_str().into();
        (Arc::new(ClientKey { username, client }), assigned)
    }

    /// The seat, what its client is told, and whether rows are to be stored first. None: more room is needed
    /// than there was a moment ago.
    fn sit(
        self: &Arc<Self>,
        credential: &Credential,
        opening: Opening,
        rooms: Rooms<'_>,
        ack: Ack,
    ) -> Result<Option<(Seat, Welcomed, bool)>, NoSeat> {
        let key = Arc::clone(&opening.key);
        let mut table = self.lock();
        if !rooms.suffice(table.hub.needs_to_open(&opening)) {
            return Ok(None);
        }
        let opened = table.hub.open(opening);
        let opened: Opened = opened.map_err(|NoRoom| NoSeat::Full)?;
        if let Some(oldest) = opened.crowded_out
            && let Some(sitter) = table.sitters.get_mut(&oldest)
        {
            // It leaves by itself, will and all.
            sitter.license = None;
            add(&self.reporter.counters.crowded_out);
        }
        if let Some(old) = opened.took_over {
            // Its license goes with the old sitter.
            table.sitters.remove(&old);
            self.reporter.disconnected(&key.username);
        }
        self.speak(opened.will, rooms.will);
        let mut changes = opened.changes;
        for filter in table.hub.filters(opened.session) {
            // What the credential may hear can have changed since.
            if !credential.may_subscribe(bare(&filter)) {
                table.hub.unsubscribe(opened.session, &filter, &mut changes);
            }
        }
        let (license, lost) = oneshot::channel();
        let bell = Arc::new(Notify::new());
        let sitter = Sitter {
            generation: opened.generation,
            bell: Arc::clone(&bell),
            license: Some(license),
        };
        table.sitters.insert(opened.session, sitter);
        let waits = !changes.is_empty();
        if waits {
            send_talk(rooms.rows, changes, ack);
        }
        drop(table);
        self.reporter.connected(&key.username);
        let seat = Seat {
            sessions: Arc::clone(self),
            key,
            session: opened.session,
            generation: opened.generation,
            bell,
        };
        let welcomed = Welcomed {
            present: opened.present,
            assigned: None,
            lost,
        };
        Ok(Some((seat, welcomed, waits)))
    }

    /// Publishes last words, if their credential still permits them.
    pub(super) fn speak(self: &Arc<Self>, words: Option<LastWords>, room: Option<Room<'_>>) {
        let Some(words) = words else {
            return;
        };
        let access = self.access.borrow();
        let credential = access.get(&words.key.username);
        let permitted = credential.is_some_and(|c| c.may_publish(&words.message.topic));
        match room.filter(|_| permitted) {
            Some(room) => {
                add(&self.reporter.counters.wills);
                room.send(Work::Publish(Box::new(self.last_publish(words))));
            }
            None => add(&self.reporter.counters.wills_dropped),
        }
    }

    fn last_publish(self: &Arc<Self>, words: LastWords) -> Publish {
        Publish {
            username: Arc::clone(&words.key.username),
            reserved: words.reserved,
            message: words.message,
            dup: false,
            origin: Origin::Will,
            ack: Ack::detached(),
            route: Some(Route {
                hall: Arc::clone(&self.hall),
                source: None,
            }),
        }
    }

    /// Lets time act: delayed wills, sessions that are over, rows that need no waiting. To be called once a
    /// second.
    pub(super) async fn tick(self: &Arc<Self>) {
        let Ok(room) = self.intake.reserve().await else {
            return;
        };
        let wills = self.age(room);
        for words in wills {
            let room = self.intake.reserve().await.ok();
            self.speak(Some(words), room);
        }
    }

    fn age(&self, room: Room<'_>) -> Vec<LastWords> {
        let mut table = self.lock();
        let aftermath = table.hub.tick(self.now());
        self.reporter.counters.show(&table.hub);
        if !aftermath.changes.is_empty() {
            send_talk(Some(room), aftermath.changes, Ack::detached());
        }
        aftermath.wills
    }
}

/// Rows go into the intake while the lock is held, so in the order they were decided. Without room, which
/// only the end of the process brings, they are not stored, and the ack says so.
pub(super) fn send_talk(room: Option<Room<'_>>, changes: Vec<Change>, ack: Ack) {
    if let Some(room) = room {
        room.send(Work::Talk(Talk { changes, ack }));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "tests/session.rs"]
mod tests;
