//! What vendors' payloads say, as readings about enrolled points.
//!
//! Owns the registry of device families and the words a reading is made of. An adapter is a pure
//! function of one message: it knows no state, so it never decides whether something is new. That
//! is for `site`.

pub mod antuo;
mod book;
mod entity;
mod esphome;
mod json;
mod order;
mod place;
mod presence;
mod sense;
mod statestream;
pub mod zigbee2mqtt;

use std::borrow::Cow;

use domain::config::Enrolment;
use domain::digest::CredentialDigest;
use domain::event::{How, State, Unread};
use domain::id::PointKey;
use domain::kind::{Kind, Severity};
use domain::time::Timestamp;

#[cfg(test)]
pub use book::tests::{config, enrolment};
pub use book::{BadCredentialKey, Book, Bridge};
pub use json::is_secret;
pub use order::{Order, Why, Wish, can_be_told, order};

/// One MQTT message as it reached the box.
#[derive(Clone, Copy)]
pub struct Signal<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Payload, unread.
    pub payload: &'a [u8],
    /// A broker's retained replay; false for every publish to our own server.
    pub retained: bool,
    /// Who published it, as logged in on our server.
    pub username: &'a str,
}

/// A family of devices that speak alike.
struct Family {
    /// The word an enrolment's `ecosystem` selects it by.
    name: &'static str,
    /// Reads a message; `None` when the topic is not one of this family.
    read: fn(&Book, &Signal<'_>) -> Option<Heard>,
    /// The base topic of the bridge an enrolment stands behind, or is.
    bridge: fn(&Enrolment) -> Option<&str>,
    /// The address at which an installer would enrol what speaks on a topic; `None` for a topic that
    /// is no device's.
    address: for<'t> fn(&'t str, &[u8], &Options) -> Option<&'t str>,
    /// Whether a topic looks like this family's when nobody says whose it is.
    is_spoken: fn(&str) -> bool,
    /// How a siren, lamp or door of this family is told to do something; `None` where it cannot be.
    order: fn(&Enrolment, Wish, &str) -> Option<Order>,
    /// How such a device is made to publish at QoS 1.
    at_least_once: &'static str,
}

/// What an installer set beside address and role.
type Options = serde_json::Map<String, serde_json::Value>;

/// The registry: a new family is one file and one entry here. Of two families that read the same
/// topic the earlier one counts.
const FAMILIES: &[Family] = &[
    Family {
        name: antuo::NAME,
        read: antuo::read,
        bridge: |_| None,
        address: |topic, _, _| Some(topic),
        is_spoken: antuo::is_spoken,
        order: antuo::order,
        at_least_once: "publish at QoS 1, and again under the same id until the PUBACK comes",
    },
    Family {
        name: zigbee2mqtt::NAME,
        read: zigbee2mqtt::read,
        bridge: zigbee2mqtt::bridge,
        address: zigbee2mqtt::address,
        is_spoken: zigbee2mqtt::is_spoken,
        order: zigbee2mqtt::order,
        at_least_once: "set `qos: 1` at the device in zigbee2mqtt's configuration.yaml, or under \
                        `device_options` for all of them",
    },
    Family {
        name: statestream::NAME,
        read: statestream::read,
        bridge: statestream::bridge,
        address: statestream::address,
        is_spoken: |_| false,
        order: |_, _, _| None,
        at_least_once: "Home Assistant publishes its states at QoS 1: something between it and this box lowers \
                        it, such as a bridge of its broker; set that to QoS 1",
    },
    Family {
        name: esphome::NAME,
        read: esphome::read,
        bridge: esphome::bridge,
        address: esphome::address,
        is_spoken: esphome::is_spoken,
        order: esphome::order,
        at_least_once: "set `qos: 1` at the entity in the node's YAML",
    },
];

fn family(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.name == name)
}

/// The ecosystem that a topic looks like.
#[must_use]
pub fn looks_like(topic: &str) -> Option<&'static str> {
    let found = FAMILIES.iter().find(|family| (family.is_spoken)(topic))?;
    Some(found.name)
}

/// The address at which an installer would enrol what speaks on a topic; the topic itself where no
/// adapter knows better.
#[must_use]
pub fn address<'t>(
    ecosystem: &str,
    topic: &'t str,
    payload: &[u8],
    options: &Options,
) -> Option<&'t str> {
    match family(ecosystem) {
        Some(family) => (family.address)(topic, payload, options),
        None => Some(topic),
    }
}

/// What became of a message.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// An enrolled point or bridge spoke.
    Message(Message),
    /// A known family's topic that never carries evidence: commands, inventories (R8).
    NoEvidence,
    /// A known family's topic, and nobody enrolled the device.
    Unenrolled {
        /// The point, where the topic itself names one.
        source: Option<PointKey>,
        /// The bridge it came through, thereby proven alive.
        through: Option<PointKey>,
    },
    /// An enrolled point whose ecosystem no adapter speaks.
    NoAdapter(PointKey),
    /// No family's topic and no enrolment's.
    Foreign,
}

/// What one message says.
#[derive(Debug, PartialEq, Default)]
pub struct Message {
    /// Points proven alive by it: the device's, its bridge's.
    pub alive: Vec<PointKey>,
    /// The device's own name for this message.
    pub vendor: Option<VendorId>,
    /// The device's own clock: evidence only (R12).
    pub occurred_at: Option<Timestamp>,
    /// The payload without its secrets; none when it held none.
    pub redacted: Option<Vec<u8>>,
    /// What it says, in order.
    pub readings: Vec<Reading>,
}

/// A device's own id or counter for a message (D4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VendorId {
    /// Never used twice by one device: a second sight within 24 h is a resend.
    Unique(String),
    /// Wraps or restarts: only an identical body within 5 minutes is a resend.
    Weak(String),
}

/// One statement about one enrolled point.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The point.
    pub point: PointKey,
    /// The statement.
    pub says: Says,
}

/// What a payload can say about a point.
#[derive(Debug, Clone, PartialEq)]
pub enum Says {
    /// One key of a condition says that it is there, or explicitly that it is not. Keys of one kind
    /// are OR-ed by the level store.
    Level {
        /// The kind whose raising the condition is.
        kind: Kind,
        /// The vendor's key, unique within the kind.
        key: Cow<'static, str>,
        /// How bad, or none for an explicit "not there".
        active: Option<Severity>,
    },
    /// Something that happened and has no end: a press, an exit request.
    Moment {
        /// What.
        kind: Kind,
        /// Raised, or cleared where a device tells the end of a press.
        state: State,
    },
    /// A credential at a reader, a lock or a keypad.
    Access {
        /// `access.read`, `access.granted` or `access.denied`.
        kind: Kind,
        /// The hidden number, where one was read.
        credential: Option<CredentialDigest>,
        /// Card or code.
        how: How,
    },
    /// A siren, lamp or door says what it does: the echo of a command, never evidence.
    Echo {
        /// `siren.sounding` or `lamp.lit`.
        kind: Kind,
        /// Whether it does.
        on: bool,
    },
    /// Something that could not be understood.
    Unread {
        /// Why.
        why: Unread,
        /// The one key concerned; none for the whole message.
        key: Option<Cow<'static, str>>,
    },
}

/// The key under which a device or bridge says itself whether it is there.
pub const AVAILABILITY: &str = "availability";

/// Conditions whose end has a word of its own; the raising word first.
pub const PAIRS: [(Kind, Kind); 5] = [
    (Kind::DoorOpened, Kind::DoorClosed),
    (Kind::LockUnlocked, Kind::LockLocked),
    (Kind::DeviceOffline, Kind::DeviceOnline),
    (Kind::BridgeOffline, Kind::BridgeOnline),
    (Kind::AlarmPressed, Kind::AlarmRestored),
];

/// The kind under which an unreadable or unmapped input is told (R11).
#[must_use]
pub const fn ingest_kind(why: Unread) -> Kind {
    match why {
        Unread::NotUtf8
        | Unread::NotJson
        | Unread::TooDeep
        | Unread::TooLong
        | Unread::MissingField
        | Unread::WrongType => Kind::IngestRejected,
        Unread::UnknownWord | Unread::NotThisRole | Unread::NotEnrolled | Unread::NoAdapter => {
            Kind::IngestUnmapped
        }
    }
}

/// Reads one message with whichever family knows who sent it.
#[must_use]
pub fn read(book: &Book, signal: &Signal<'_>) -> Heard {
    let mut otherwise = None;
    for family in FAMILIES {
        match (family.read)(book, signal) {
            Some(message @ Heard::Message(_)) => return message,
            Some(heard) => otherwise = otherwise.or(Some(heard)),
            None => {}
        }
    }
    match book.without_adapter(signal.topic) {
        Some(point) => Heard::NoAdapter(point.clone()),
        None => otherwise.unwrap_or(Heard::Foreign),
    }
}

/// The points that a message says something about, sorted.
#[must_use]
pub fn speakers(book: &Book, signal: &Signal<'_>) -> Vec<PointKey> {
    let mut points: Vec<_> = match read(book, signal) {
        Heard::Message(message) => message.readings.into_iter().map(|r| r.point).collect(),
        Heard::NoAdapter(point) => vec![point],
        Heard::NoEvidence | Heard::Unenrolled { .. } | Heard::Foreign => Vec::new(),
    };
    points.sort();
    points.dedup();
    points
}

/// How a device of that ecosystem is made to publish at QoS 1.
#[must_use]
pub fn at_least_once(ecosystem: &str) -> &'static str {
    family(ecosystem).map_or(
        "set the QoS of what it publishes to 1; if it cannot, a lost message stays lost",
        |family| family.at_least_once,
    )
}

impl Message {
    /// A message that only proves points alive.
    fn from(alive: impl IntoIterator<Item = PointKey>) -> Self {
        Self {
            alive: alive.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Adds a statement. Of two about one key of one condition the active one stays: a document
    /// that names a key twice must not hide an alarm.
    fn says(&mut self, point: &PointKey, says: Says) {
        if let Says::Level { kind, key, active } = &says {
            for known in &mut self.readings {
                if let Says::Level {
                    kind: k,
                    key: name,
                    active: was,
                } = &mut known.says
                    && known.point == *point
                    && *k == *kind
                    && name == key
                {
                    *was = (*was).max(*active);
                    return;
                }
            }
        }
        self.readings.push(Reading {
            point: point.clone(),
            says,
        });
    }

    /// Adds "cannot be understood", of the whole message.
    fn unread(mut self, point: &PointKey, why: Unread) -> Self {
        self.says(point, Says::Unread { why, key: None });
        self
    }
}

#[cfg(test)]
mod tests;
