//! Who hears what: sessions, subscriptions, retained messages and wills, as one pure machine (MQTT 3.1.1 and 5
//! section 4).
//!
//! The caller brings the time, commits the [`Change`]s that come back together with the event of the same
//! message, and only then answers or delivers. Owns everything that one client's message means to another
//! client; knows no packet, no socket and no disk, and nothing of what a message means to the centre.
//!
//! What it does where the standard leaves room:
//! - Time during which the box is off does not count: sessions and messages expire that much later.
//! - A message whose waiting line is full is dropped for that client alone and counted: a slow subscriber
//!   never delays a publisher or another subscriber.
//! - Retained messages that do not fit are not kept, nor is the older one on their topic: it would be stale.

mod attendance;
pub mod message;
mod retained;
mod route;
mod session;
mod stored;
mod talk;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use message::{Message, Properties, Qos, RetainHandling, Will};
use retained::Retained;
pub use route::{Plan, Source};
use session::Session;
pub use session::Subscription;
pub use stored::Change;
use stored::{Row, SessionRow};
pub use talk::{Granted, Outgoing, Send};
use tree::{Holder, Tree};

/// A session of this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A connection of a session. A newer one has a higher number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// A client id, unique within its credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey {
    /// The credential's user name.
    pub username: Arc<str>,
    /// The client.
    pub client: ClientId,
}

/// What tells the clients of one credential apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClientId {
    /// The id the client gave, or was told.
    Named(String),
    /// Ours, for a 3.1.1 client that gave none (MQTT-3.1.3-6). Never equal to a given one, never durable.
    Assigned(u64),
}

/// How much is kept; each says what happens beyond.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Clients on line. Beyond: [`NoRoom`]. A quarter is kept for life-safety credentials (D3).
    pub connections: usize,
    /// Clients on line of one credential. Beyond: the one longest on line has to leave. A stolen secret must
    /// not take every slot, nor half-open connections keep a device's next press out.
    pub per_credential: usize,
    /// Durable sessions, on line or not. Beyond: the one that left first is forgotten.
    pub durable: usize,
    /// Subscriptions of a session. Beyond: [`Granted::TooMany`].
    pub subscriptions: usize,
    /// Messages waiting for a session. Beyond: dropped for it, counted.
    pub queue_messages: usize,
    /// Their bytes. Beyond: dropped for it, counted.
    pub queue_bytes: usize,
    /// Topics with a retained message. Beyond: not kept, counted.
    pub retained_topics: usize,
    /// Their bytes. Beyond: not kept, counted.
    pub retained_bytes: usize,
    /// Unsettled messages to a client, if it takes as many. Beyond: the rest waits.
    pub window: usize,
}

/// What was dropped since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Messages for a client whose line was full.
    pub queue_full: u64,
    /// Retained messages that did not fit.
    pub retained_full: u64,
    /// Durable sessions forgotten to make room.
    pub sessions: u64,
}

/// What a client asks for at its log-in.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Who.
    pub key: Arc<ClientKey>,
    /// A life-safety credential stands behind it.
    pub reserved: bool,
    /// Forget what was.
    pub clean_start: bool,
    /// Seconds to outlive the connection.
    pub expiry: u32,
    /// Its last words.
    pub will: Option<Will>,
    /// Unsettled messages it takes at once.
    pub receive_maximum: u16,
}

/// A client's place.
#[derive(Debug)]
pub struct Opened {
    /// Its session.
    pub session: SessionId,
    /// Its connection.
    pub generation: Generation,
    /// The session was there before.
    pub present: bool,
    /// The session whose connection lost its place: this one, or the one it follows.
    pub took_over: Option<SessionId>,
    /// A client of the same credential that has to leave: it has too many.
    pub crowded_out: Option<SessionId>,
    /// To be published now.
    pub will: Option<LastWords>,
    /// To be committed before the answer.
    pub changes: Vec<Change>,
}

/// No slot is left for this kind of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// What has to follow at once, so that the caller can make room for it first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// A will to be published.
    pub will: bool,
    /// Rows to be committed, maybe.
    pub rows: bool,
}

/// A will that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWords {
    /// Whose.
    pub key: Arc<ClientKey>,
    /// A life-safety credential stands behind it.
    pub reserved: bool,
    /// What it says.
    pub message: Message,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// With DISCONNECT, which deletes the will (MQTT-3.14.4-3).
    Properly {
        /// Seconds to outlive the connection, if it says so anew.
        expiry: Option<u32>,
    },
    /// With DISCONNECT 0x04, which keeps the will.
    WithWill {
        /// As above.
        expiry: Option<u32>,
    },
    /// Without a word.
    Lost,
    /// The server stops: the will is not published.
    Stopping,
}

/// What follows from time or a leaving.
#[derive(Debug, Default)]
pub struct Aftermath {
    /// To be published now.
    pub wills: Vec<LastWords>,
    /// To be committed some time.
    pub changes: Vec<Change>,
    /// A will was not published because the server stops.
    pub withheld: bool,
}

/// See the module's head.
#[derive(Debug)]
pub struct Hub {
    limits: Limits,
    sessions: BTreeMap<SessionId, Session>,
    by_key: HashMap<Arc<ClientKey>, SessionId>,
    tree: Tree<Subscription>,
    retained: Retained,
    dropped: Dropped,
    numbers: u64,
    /// Messages so far, for share groups.
    turns: usize,
    /// Rows to be removed with the next tick.
    rest: Vec<Change>,
}

impl Hub {
    /// One that knows nobody.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            sessions: BTreeMap::new(),
            by_key: HashMap::new(),
            tree: Tree::default(),
            retained: Retained::default(),
            dropped: Dropped::default(),
            numbers: 0,
            turns: 0,
            rest: Vec::new(),
        }
    }

    /// What the rows kept say, and how many of them say nothing any more: those go with the first tick.
    #[must_use]
    pub fn restore(limits: Limits, rows: &[(String, String)]) -> (Self, usize) {
        let mut hub = Self::new(limits);
        let mut names = HashMap::new();
        let (mut parts, mut useless) = (Vec::new(), Vec::new());
        for (key, body) in rows {
            match stored::read(key, body) {
                Some(Row::Session(name, row)) => {
                    names.insert(name, hub.restore_session(row));
                }
                Some(Row::Retained(kept)) => hub.retained.keep(kept.message, kept.at),
                Some(part) => parts.push((key, part)),
                None => useless.push(key),
            }
        }
        for (key, part) in parts {
            if hub.restore_part(&names, part).is_none() {
                useless.push(key);
            }
        }
        let gone = useless.iter().map(|key| Change {
            key: (*key).clone(),
            body: None,
        });
        hub.rest.extend(gone);
        (hub, useless.len())
    }

    fn restore_session(&mut self, row: SessionRow) -> SessionId {
        let key = Arc::new(ClientKey {
            username: row.username.into(),
            client: ClientId::Named(row.client),
        });
        let id = self.add_session(key, row.reserved);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.expiry = row.expiry;
        }
        id
    }

    fn restore_part(&mut self, names: &HashMap<String, SessionId>, part: Row) -> Option<()> {
        match part {
            Row::Subscription(name, filter, asked) => {
                let id = *names.get(&name)?;
                self.tree
                    .insert(bare(&filter), holder(id, &filter), asked.clone());
                let session = self.sessions.get_mut(&id)?;
                session.subscriptions.insert(filter, asked);
            }
            // Rows come in the order of their keys, so of their numbers.
            Row::Queued(name, number, found) => {
                let session = self.sessions.get_mut(names.get(&name)?)?;
                match found.id {
                    Some(id) => session.restore_under_way(id, found.item, found.released),
                    None => session.push(found.item),
                }
                self.numbers = self.numbers.max(number);
            }
            Row::Incoming(name, id) => {
                let session = self.sessions.get_mut(names.get(&name)?)?;
                session.incoming.insert(id);
            }
            Row::Session(..) | Row::Retained(_) => return None,
        }
        Some(())
    }

    /// What was dropped since start.
    #[must_use]
    pub const fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Topics with a retained message and their bytes.
    #[must_use]
    pub fn retained(&self) -> (usize, usize) {
        self.retained.size()
    }

    /// Sessions, on line or not.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn add_session(&mut self, key: Arc<ClientKey>, reserved: bool) -> SessionId {
        let id = SessionId(self.number());
        self.by_key.insert(Arc::clone(&key), id);
        self.sessions.insert(id, Session::new(key, reserved));
        id
    }
}

/// A filter without its share prefix, `$share/GROUP/`.
#[must_use]
pub fn bare(filter: &str) -> &str {
    filter
        .strip_prefix("$share/")
        .and_then(|rest| rest.split_once('/'))
        .map_or(filter, |(_, bare)| bare)
}

fn holder(session: SessionId, filter: &str) -> Holder {
    let group = filter.strip_prefix("$share/").map(str::to_owned);
    Holder { session, group }
}
