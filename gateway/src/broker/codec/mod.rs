//! Bytes of MQTT 3.1.1 and MQTT 5 to our own words and back: pure functions, one reader for both versions.
//!
//! Owns every rule that the two standards put on the bytes of one packet, and the words the broker speaks of
//! packets in. Never keeps state between packets, never touches a socket, and never reserves memory for a
//! length that it has not compared with the bytes at hand. What needs memory of the connection is not judged
//! here: whether an alias is known or within our maximum, whether an id is in use, whether DISCONNECT may
//! raise the session expiry (MQTT 5 section 3.14.2.2.2), whether an authentication method is wanted.

mod answer;
mod fault;
mod fields;
mod property;
mod read;
mod write;

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

pub(in crate::broker) use crate::hub::{Message, Properties, Qos, RetainHandling, Will};
pub(in crate::broker) use answer::{
    Granted, PublishAnswer, Reason, Refused, ReleaseAnswer, Unsubscribed,
};
pub(in crate::broker) use fault::Fault;
pub(in crate::broker) use fields::{begins_connection, complete};
pub(in crate::broker) use read::{read, read_connect, refusal_version};
pub(in crate::broker) use write::{
    TooLarge, connack, connack_refused, disconnect, pingresp, puback, pubcomp, publish, pubrec,
    pubrel, suback, unsuback,
};

/// Version of the protocol that a connection speaks, fixed by its CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V3,
    /// MQTT 5.0, protocol version 5.
    V5,
}

/// What CONNECT asks for.
#[derive(PartialEq, Eq)]
pub(in crate::broker) struct Hello {
    pub(in crate::broker) version: Version,
    /// May be empty: the server picks one. On 3.1.1 only with `clean_start`.
    pub(in crate::broker) client_id: String,
    pub(in crate::broker) clean_start: bool,
    /// Seconds to keep the session after the connection; `u32::MAX` = for ever. On 3.1.1 that or 0.
    pub(in crate::broker) session_expiry: u32,
    /// Seconds; 0 = off.
    pub(in crate::broker) keep_alive: u16,
    pub(in crate::broker) username: Option<String>,
    /// On MQTT 5 possible without a user name.
    pub(in crate::broker) secret: Option<Vec<u8>>,
    pub(in crate::broker) will: Option<Will>,
    /// How many QoS 1 and 2 messages the client takes at once; never 0.
    pub(in crate::broker) receive_maximum: u16,
    /// Bytes of the largest packet the client takes; never 0.
    pub(in crate::broker) maximum_packet: Option<u32>,
    /// Highest topic alias that we may use towards the client; 0 = none.
    pub(in crate::broker) alias_maximum: u16,
    /// The client takes reason strings and user properties in any packet.
    pub(in crate::broker) problem_information: bool,
    /// An authentication method was named.
    pub(in crate::broker) authentication_method: bool,
}

/// Without the secret, the user name and the will.
impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("clean_start", &self.clean_start)
            .finish_non_exhaustive()
    }
}

/// A packet of the client after its CONNECT.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::broker) enum Incoming {
    Publish(Arrival),
    /// `refused`: done all the same, not to be sent again (MQTT-4.4.0-2).
    Puback {
        id: NonZeroU16,
        refused: bool,
    },
    /// `refused`: the exchange ends here, no PUBREL follows (MQTT-4.3.3-4).
    Pubrec {
        id: NonZeroU16,
        refused: bool,
    },
    Pubrel {
        id: NonZeroU16,
    },
    Pubcomp {
        id: NonZeroU16,
    },
    Subscribe(Subscribe),
    Unsubscribe {
        id: NonZeroU16,
        /// At least one.
        filters: Vec<String>,
    },
    Ping,
    Disconnect {
        /// The will is to be published all the same. Never on 3.1.1.
        with_will: bool,
        /// Replaces the session expiry of CONNECT.
        session_expiry: Option<u32>,
    },
    /// MQTT 5 only. Out of place on a connection that names no authentication method.
    Auth,
}

/// A PUBLISH of the client.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::broker) struct Arrival {
    pub(in crate::broker) message: Message,
    /// Present exactly when the message's QoS is above 0.
    pub(in crate::broker) id: Option<NonZeroU16>,
    /// Never with QoS 0.
    pub(in crate::broker) dup: bool,
    pub(in crate::broker) alias: Option<NonZeroU16>,
}

/// A SUBSCRIBE of the client.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::broker) struct Subscribe {
    pub(in crate::broker) id: NonZeroU16,
    /// Subscription Identifier, 1 to 268,435,455.
    pub(in crate::broker) identifier: Option<u32>,
    /// At least one.
    pub(in crate::broker) filters: Vec<Filter>,
}

/// One topic filter with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::broker) struct Filter {
    /// Well formed; may begin with `$share/`, which means something on MQTT 5 only.
    pub(in crate::broker) filter: String,
    pub(in crate::broker) qos: Qos,
    pub(in crate::broker) no_local: bool,
    pub(in crate::broker) retain_as_published: bool,
    pub(in crate::broker) retain_handling: RetainHandling,
}

/// What CONNACK tells a client that is let in. On 3.1.1 nothing of it can be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::broker) struct Welcome {
    /// For a client that came without an id.
    pub(in crate::broker) assigned_client_id: Option<String>,
    /// Absent = 65,535.
    pub(in crate::broker) receive_maximum: Option<NonZeroU16>,
    /// Bytes of the largest packet we take. Absent = what the protocol can carry.
    pub(in crate::broker) maximum_packet: Option<NonZeroU32>,
    /// Seconds that the client has to use instead of its own (MQTT-3.2.2-21).
    pub(in crate::broker) server_keep_alive: Option<u16>,
    /// Highest topic alias the client may use; 0 = none.
    pub(in crate::broker) alias_maximum: u16,
    /// Seconds, when they are not what the client asked for.
    pub(in crate::broker) session_expiry: Option<u32>,
}

/// A PUBLISH to a client.
#[derive(Debug)]
pub(in crate::broker) struct Outgoing<'a> {
    /// Its own `qos`, `retain` and `properties.expiry` are not written, those below are.
    pub(in crate::broker) message: &'a Message,
    pub(in crate::broker) delivery: Delivery,
    pub(in crate::broker) retain: bool,
    /// Identifiers of the subscriptions that it matched, each 1 to 268,435,455.
    pub(in crate::broker) subscription_ids: &'a [u32],
    /// Seconds left of the message's expiry (MQTT-3.3.2-6).
    pub(in crate::broker) expiry: Option<u32>,
    pub(in crate::broker) alias: Option<Alias>,
}

/// How a PUBLISH is sent. QoS 0 has neither packet id nor DUP, the others have both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::enum_variant_names)] // the standard's words
pub(in crate::broker) enum Delivery {
    AtMostOnce,
    AtLeastOnce { id: NonZeroU16, dup: bool },
    ExactlyOnce { id: NonZeroU16, dup: bool },
}

/// A topic alias of ours. On 3.1.1 it is left out and the topic is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) struct Alias {
    pub(in crate::broker) number: NonZeroU16,
    /// The client does not know it yet.
    pub(in crate::broker) send_topic: bool,
}

/// Packet types, the upper half of a packet's first byte.
mod kind {
    pub(super) const CONNECT: u8 = 1;
    pub(super) const CONNACK: u8 = 2;
    pub(super) const PUBLISH: u8 = 3;
    pub(super) const PUBACK: u8 = 4;
    pub(super) const PUBREC: u8 = 5;
    pub(super) const PUBREL: u8 = 6;
    pub(super) const PUBCOMP: u8 = 7;
    pub(super) const SUBSCRIBE: u8 = 8;
    pub(super) const SUBACK: u8 = 9;
    pub(super) const UNSUBSCRIBE: u8 = 10;
    pub(super) const UNSUBACK: u8 = 11;
    pub(super) const PINGREQ: u8 = 12;
    pub(super) const PINGRESP: u8 = 13;
    pub(super) const DISCONNECT: u8 = 14;
    pub(super) const AUTH: u8 = 15;
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
