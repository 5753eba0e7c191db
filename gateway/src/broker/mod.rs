//! The box's own MQTT 3.1.1 server: takes in publishes of QoS 0 and 1 from the centre's devices.
//!
//! PUBACK means "on the box's disk": each publish goes to the intake with an [`Ack`], and its PUBACK leaves
//! only after [`Ack::committed`]. It owns sockets, log-ins, wills and connection limits. It knows nothing of
//! alarms, hands nothing out to subscribers (every filter is answered 0x80), and keeps nothing on disk.
//!
//! What it does where MQTT 3.1.1 leaves room:
//! - A publish outside the credential's topics is acknowledged and handed to nobody: it is refused for good,
//!   and a bridge that carries smoke and doors on one connection must not be cut for a stray topic.
//! - At a limit it waits or refuses by name; it never drops what it has accepted.
//! - A will of QoS 2 is handed over as QoS 1: it is published once, by us.
//! - Wills are not published when the broker itself stops (section 3.1.2.5 lets a server defer them): the
//!   devices are well, and a false "offline" from each would follow every update of the box.

mod access;
mod connection;
mod frame;
mod greeting;
mod line;
mod listener;
mod report;
mod session;
mod topic;
mod window;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

pub use access::{Access, Credential};
pub use listener::{BindError, Bound, bind, serve};
pub use report::{CloseReason, Counters, Notice, Refusal};
pub use topic::{FilterFault, TopicFilter, TopicLimits};

/// How sure the sender wants to be. QoS 2 is not carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// QoS 0: no acknowledgement.
    AtMostOnce,
    /// QoS 1: acknowledged after the commit; may come again.
    AtLeastOnce,
}

/// Where a publish comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The client sent it.
    Live,
    /// It is the will of a client that ended without DISCONNECT.
    Will,
}

/// One message for the intake. It is permitted to its credential and its topic is a valid name.
#[derive(Debug)]
pub struct Publish {
    /// The credential it came under.
    pub username: Arc<str>,
    /// The credential is a life-safety one.
    pub reserved: bool,
    /// Topic name.
    pub topic: String,
    /// Body, as sent.
    pub payload: Bytes,
    /// Quality of service asked for.
    pub qos: Qos,
    /// RETAIN flag, as sent.
    pub retain: bool,
    /// DUP flag: the client believes it sent this before.
    pub dup: bool,
    /// Sent, or left as a will.
    pub origin: Origin,
    /// What to answer when it is committed, or not.
    pub ack: Ack,
}

/// The duty to say what became of one publish. Dropped without a word it counts as failed.
#[derive(Debug)]
#[must_use = "dropping it closes the connection"]
pub struct Ack {
    route: Option<(mpsc::UnboundedSender<Settled>, u64)>,
}

/// What became of the publish of one window ticket.
#[derive(Debug)]
struct Settled {
    ticket: u64,
    committed: bool,
}

impl Ack {
    /// One that nobody waits for, such as a will's.
    pub const fn detached() -> Self {
        Self { route: None }
    }

    /// To be settled on `channel` under `ticket`. The channel is bounded by the connection's window.
    fn routed(channel: mpsc::UnboundedSender<Settled>, ticket: u64) -> Self {
        Self {
            route: Some((channel, ticket)),
        }
    }

    /// It is on disk: PUBACK may go out. Harmless for QoS 0.
    pub fn committed(mut self) {
        self.settle(true);
    }

    /// It could not be stored: the connection closes without PUBACK, so the device sends it again. Harmless
    /// for QoS 0.
    pub fn failed(mut self) {
        self.settle(false);
    }

    fn settle(&mut self, committed: bool) {
        if let Some((channel, ticket)) = self.route.take() {
            // An error means that the connection is gone, and with it the need for an answer.
            let _ = channel.send(Settled { ticket, committed });
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        self.settle(false);
    }
}

/// Where the broker listens and how much it takes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses to bind. Port 0 takes a free one, see [`Bound::addresses`].
    pub listen: Vec<SocketAddr>,
    /// Bounds.
    pub limits: Limits,
}

/// Clients logged in at once. Beyond: CONNACK 3, [`Refusal::Full`]. A quarter is kept for life-safety
/// credentials (decisions.md D3).
pub const CONNECTIONS: usize = 512;
/// Sockets that have not logged in. Beyond: the oldest is closed, [`CloseReason::Evicted`].
pub const UNIDENTIFIED: usize = 256;
/// Sockets from one address. Beyond: closed at once, [`Refusal::AddressFull`].
pub const PER_ADDRESS: usize = 256;
/// Clients logged in under one credential: a device or a bridge has one, and lives it lost without a goodbye
/// stay for a while. Beyond: the one longest there makes room, [`CloseReason::Crowded`]. So a leaked secret
/// takes an eighth of the slots at most, and yet never locks its owner out.
pub const PER_CREDENTIAL: usize = 64;
/// Bytes of one packet. Beyond: connection closed, [`CloseReason::Oversized`].
pub const PACKET_BYTES: usize = 256 * 1024;
/// Bytes of a CONNECT, which comes from anyone. Beyond: closed, [`CloseReason::Oversized`].
pub const CONNECT_BYTES: usize = 16 * 1024;
/// Uncommitted publishes of one connection, of either QoS. Beyond: it is not read from.
pub const PENDING_PUBLISHES: usize = 20;
/// Bytes waiting for the peer to read. Beyond: it is not read from.
pub const OUTPUT_BYTES: usize = 64 * 1024;
/// Bytes and levels of a topic name. Beyond: connection closed, [`CloseReason::Topic`].
pub const TOPIC: TopicLimits = TopicLimits {
    bytes: 512,
    levels: 16,
};
/// Time from accept to a sound CONNECT. Beyond: closed, [`CloseReason::ConnectTimeout`].
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Time for the peer to take a byte of a full output. Beyond: closed, [`CloseReason::OutputStalled`].
pub const OUTPUT_PATIENCE: Duration = Duration::from_secs(30);
/// Time at shutdown for pending publishes to be committed and acknowledged. Beyond: connections are cut.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// The bounds; each constant above says what happens at it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// See [`CONNECTIONS`].
    pub connections: usize,
    /// See [`UNIDENTIFIED`].
    pub unidentified: usize,
    /// See [`PER_ADDRESS`].
    pub per_address: usize,
    /// See [`PER_CREDENTIAL`].
    pub per_credential: usize,
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
            connections: CONNECTIONS,
            unidentified: UNIDENTIFIED,
            per_address: PER_ADDRESS,
            per_credential: PER_CREDENTIAL,
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
