//! The box's own MQTT server, 3.1.1 and 5: takes in what the centre's devices publish, and hands on what they
//! subscribe to.
//!
//! An acknowledgement means "on the box's disk": each publish goes to the intake with an [`Ack`], and its
//! PUBACK or PUBREC leaves only after [`Ack::committed`]; sessions, retained messages and the event of one
//! publish are committed together. It owns sockets, log-ins and connection limits; who hears what is the hub's.
//! It knows nothing of alarms. `docs/mqtt.md` lists what is supported.
//!
//! What it does where MQTT leaves room:
//! - A publish outside the credential's topics is acknowledged (MQTT 5: with 0x87) and handed to nobody: it is
//!   refused for good, and a bridge that carries smoke and doors on one connection must not be cut for a stray
//!   topic.
//! - At a limit it waits or refuses by name. What a publisher was acknowledged is committed; what waits for a
//!   subscriber can be dropped at a limit of the hub's, for that subscriber alone and counted.
//! - Wills are not published when the broker itself stops (section 3.1.2.5 lets a server defer them): the
//!   devices are well, and a false "offline" from each would follow every update of the box.

mod access;
mod codec;
mod connection;
mod dialogue;
mod entrance;
mod frames;
mod greeting;
mod line;
mod listener;
mod report;
mod seat;
mod session;
mod topic;
mod visit;
mod window;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ambient::Clock;
use rustls::ServerConfig;
use tokio::sync::{mpsc, oneshot};

pub use access::{Access, Credential};
pub use entrance::WEBSOCKET_PATH;
pub use listener::{BindError, Bound, bind, serve};
pub use report::{CloseReason, Counters, Notice, Refusal};
use session::Hall;
pub(crate) use topic::check_name;
pub use topic::{FilterFault, TopicFilter, TopicLimits};
pub(crate) use window::Window;

use crate::hub::{self, Change, Hub, Message, Plan, Source};

/// What the broker begins with.
#[derive(Debug)]
pub struct Memory {
    /// Who hears what, from before.
    pub outlet: Outlet,
    /// Tells the client ids given in this run from those of another.
    pub run: String,
}

/// The way from the box itself to its clients. It goes through no intake: what the box says is no evidence.
#[derive(Clone, Debug)]
pub struct Outlet(Arc<Hall>);

impl Outlet {
    /// To the clients of a hub; all deadlines run on the clock's monotonic time.
    #[must_use]
    pub fn new(hub: Hub, clock: Clock) -> Self {
        Self(Arc::new(Hall::new(hub, clock)))
    }

    /// Says something at once to whoever listens. What it changes is to be committed some time.
    #[must_use = "what it changes is to be committed"]
    pub fn say(&self, message: Message) -> Vec<Change> {
        let mut plan = self.0.plan(message, None);
        let changes = std::mem::take(&mut plan.changes);
        self.0.deliver(plan);
        changes
    }
}

/// Where a publish comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The client sent it.
    Live,
    /// It is the will of a client that ended without DISCONNECT.
    Will,
    /// Another broker kept it and says it again: it is past (R3). Only a bridge brings such.
    Kept,
}

/// What the broker hands to the intake, in order.
#[derive(Debug)]
pub enum Work {
    /// A message.
    Publish(Box<Publish>),
    /// What clients' own packets change.
    Talk(Talk),
}

/// Rows of the broker's memory to be committed.
#[derive(Debug)]
pub struct Talk {
    /// The rows, in order.
    pub changes: Vec<Change>,
    /// What to answer when they are committed, or not.
    pub ack: Ack,
}

/// One message for the intake. It is permitted to its credential and its topic is a valid name.
#[derive(Debug)]
pub struct Publish {
    /// The credential it came under.
    pub username: Arc<str>,
    /// The credential is a life-safety one.
    pub reserved: bool,
    /// Topic, body, and how it was sent.
    pub message: Message,
    /// DUP flag: the client believes it sent this before.
    pub dup: bool,
    /// Sent, or left as a will.
    pub origin: Origin,
    /// What to answer when it is committed, or not.
    pub ack: Ack,
    /// The way to whoever is to hear it; none = nobody.
    pub route: Option<Route>,
}

/// The way from one message to the clients that subscribed to it.
#[derive(Clone, Debug)]
pub struct Route {
    hall: Arc<Hall>,
    source: Option<Source>,
}

/// What a message changes for other clients. Dropped, nothing has happened.
#[derive(Debug, Default)]
#[must_use = "deliver it once its rows are committed"]
pub struct Planned {
    /// To be committed with the events of the message.
    pub changes: Vec<Change>,
    onward: Option<(Arc<Hall>, Plan)>,
}

impl Publish {
    /// Plans what the message changes for other clients.
    pub fn plan(&self) -> Planned {
        let Some(route) = &self.route else {
            return Planned::default();
        };
        let mut plan = route.hall.plan(self.message.clone(), route.source);
        Planned {
            changes: std::mem::take(&mut plan.changes),
            onward: Some((Arc::clone(&route.hall), plan)),
        }
    }
}

impl Planned {
    /// Hands the message on, once its rows are committed.
    pub fn deliver(self) {
        if let Some((hall, plan)) = self.onward {
            hall.deliver(plan);
        }
    }
}

/// The duty to say what became of one piece of work. Dropped without a word it counts as failed.
#[derive(Debug)]
#[must_use = "dropping it closes the connection"]
pub struct Ack(Option<Told>);

#[derive(Debug)]
enum Told {
    /// A connection, under a ticket of its window.
    Connection(mpsc::UnboundedSender<Settled>, u64),
    /// A log-in.
    LogIn(oneshot::Sender<bool>),
}

/// What became of the work of one window ticket.
#[derive(Debug)]
pub(crate) struct Settled {
    /// The ticket.
    pub(crate) ticket: u64,
    /// It is on disk.
    pub(crate) committed: bool,
}

impl Ack {
    /// One that nobody waits for, such as a will's.
    pub const fn detached() -> Self {
        Self(None)
    }

    /// To be settled on `channel` under `ticket`. The channel is bounded by the connection's window.
    pub(crate) fn routed(channel: mpsc::UnboundedSender<Settled>, ticket: u64) -> Self {
        Self(Some(Told::Connection(channel, ticket)))
    }

    fn told(channel: oneshot::Sender<bool>) -> Self {
        Self(Some(Told::LogIn(channel)))
    }

    /// It is on disk: the answer may go out. Harmless for QoS 0.
    pub fn committed(mut self) {
        self.settle(true);
    }

    /// It could not be stored: the connection closes without an answer, so the device sends it again.
    /// Harmless for QoS 0.
    pub fn failed(mut self) {
        self.settle(false);
    }

    fn settle(&mut self, committed: bool) {
        // An error means that whoever waited is gone, and with it the need for an answer.
        match self.0.take() {
            Some(Told::Connection(channel, ticket)) => {
                let _ = channel.send(Settled { ticket, committed });
            }
            Some(Told::LogIn(channel)) => {
                let _ = channel.send(committed);
            }
            None => {}
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        self.settle(false);
    }
}

/// Where the broker listens, by what is spoken below MQTT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doors {
    /// Plain TCP.
    pub tcp: Vec<SocketAddr>,
    /// TLS.
    pub tls: Vec<SocketAddr>,
    /// WebSocket, at [`WEBSOCKET_PATH`].
    pub websocket: Vec<SocketAddr>,
    /// The same over TLS.
    pub websocket_tls: Vec<SocketAddr>,
}

/// Where the broker listens and how much it takes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses to bind. Port 0 takes a free one, see [`Bound::addresses`].
    pub doors: Doors,
    /// The server side of TLS; without it no TLS listener can be bound.
    pub tls: Option<Arc<ServerConfig>>,
    /// Bounds.
    pub limits: Limits,
}

/// Clients logged in at once. Beyond: CONNACK 3, [`Refusal::Full`]. A quarter is kept for life-safety
/// credentials (decisions.md D3).
pub const CONNECTIONS: usize = 512;
/// Clients logged in at once under one credential. Beyond: the one longest on line is closed,
/// [`CloseReason::TakenOver`].
pub const PER_CREDENTIAL: usize = 64;
/// Sockets that have not logged in. Beyond: the oldest of the address that has most is closed,
/// [`CloseReason::Evicted`].
pub const UNIDENTIFIED: usize = 256;
/// Sockets from one address. Beyond: closed at once, [`Refusal::AddressFull`].
pub const PER_ADDRESS: usize = 256;
/// Bytes of one packet, and of one WebSocket message. Beyond: connection closed, [`CloseReason::Oversized`].
pub const PACKET_BYTES: usize = 256 * 1024;
/// Bytes of a CONNECT, which comes from anyone; on a WebSocket, of all that comes before the log-in. Beyond:
/// closed, [`CloseReason::Oversized`], or [`Refusal::WebSocket`] before the upgrade.
pub const CONNECT_BYTES: usize = 16 * 1024;
/// Uncommitted publishes of one connection, of either QoS. Beyond: it is not read from.
pub const PENDING_PUBLISHES: usize = 20;
/// Bytes waiting for the peer to read. Beyond: it is not read from. TLS and WebSocket may hold as much again.
pub const OUTPUT_BYTES: usize = 64 * 1024;
/// Bytes and levels of a topic name. Beyond: connection closed, [`CloseReason::Topic`].
pub const TOPIC: TopicLimits = TopicLimits {
    bytes: 512,
    levels: 16,
};
/// Bytes of a client id. Beyond: CONNACK 2, [`Refusal::ClientId`].
pub const CLIENT_ID_BYTES: usize = 512;
/// Topic aliases of one connection (MQTT 5). Beyond: closed, [`CloseReason::Protocol`] (0x94).
pub const TOPIC_ALIASES: u16 = 16;
/// Time from accept to a sound CONNECT, handshakes included. Beyond: closed, [`CloseReason::ConnectTimeout`].
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Time for the peer to take a byte of a full output. Beyond: closed, [`CloseReason::OutputStalled`].
pub const OUTPUT_PATIENCE: Duration = Duration::from_secs(30);
/// Time at shutdown for pending publishes to be committed and acknowledged. Beyond: connections are cut.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// What is kept for clients; each field of [`hub::Limits`] says what happens at it.
pub const KEPT: hub::Limits = hub::Limits {
    connections: CONNECTIONS,
    per_credential: PER_CREDENTIAL,
    durable: 1_024,
    subscriptions: 256,
    queue_messages: 1_000,
    queue_bytes: 4 * 1024 * 1024,
    retained_topics: 10_000,
    retained_bytes: 16 * 1024 * 1024,
    window: 32,
};

/// The bounds; each constant above says what happens at it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// See [`KEPT`].
    pub kept: hub::Limits,
    /// See [`UNIDENTIFIED`].
    pub unidentified: usize,
    /// See [`PER_ADDRESS`].
    pub per_address: usize,
    /// See [`PACKET_BYTES`].
    pub packet_bytes: usize,
    /// See [`CONNECT_BYTES`].
    pub connect_bytes: usize,
    /// See [`PENDING_PUBLISHES`].
    pub pending_publishes: usize,
    /// See [`OUTPUT_BYTES`].
    pub output_bytes: usize,
    /// See [`TOPIC`].
    pub topic: TopicLimits,
    /// See [`CONNECT_DEADLINE`].
    pub connect_deadline: Duration,
    /// See [`OUTPUT_PATIENCE`].
    pub output_patience: Duration,
    /// See [`SHUTDOWN_GRACE`].
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            kept: KEPT,
            unidentified: UNIDENTIFIED,
            per_address: PER_ADDRESS,
            packet_bytes: PACKET_BYTES,
            connect_bytes: CONNECT_BYTES,
            pending_publishes: PENDING_PUBLISHES,
            output_bytes: OUTPUT_BYTES,
            topic: TOPIC,
            connect_deadline: CONNECT_DEADLINE,
            output_patience: OUTPUT_PATIENCE,
            shutdown_grace: SHUTDOWN_GRACE,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
