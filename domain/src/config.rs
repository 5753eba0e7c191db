//! What the cloud tells a box about its centre (D2): one signed whole per centre and version.
//!
//! The document is written by the cloud, signed as bytes, kept sealed on the box and swapped whole.
//! A queued event never depends on today's Config: it was mapped at intake.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::CredentialDigest;
use crate::id::{
    CentreId, ChildId, DeviceId, GatewayId, PersonId, PointId, PointKey, Username, ZoneId,
};
pub use crate::passage::{Holder, Passage};
use crate::time::Timestamp;

/// The version of the document this program writes. Readers take every version ever shipped.
pub const CONFIG_V: u32 = 1;

/// Everything a box needs to know about its centre.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Document version, [`CONFIG_V`].
    pub v: u32,
    /// The centre.
    pub centre: CentreId,
    /// The box this copy is for (a centre may have several; a point belongs to one).
    pub gateway: GatewayId,
    /// Rises by one in the transaction that changed a part.
    pub version: u64,
    /// The places.
    pub zones: Vec<Zone>,
    /// What each point of this box is.
    pub enrolments: Vec<Enrolment>,
    /// Who may speak on the box's MQTT server.
    pub mqtt_credentials: Vec<MqttCredential>,
    /// Key that hides card numbers, 64 hex digits (D8).
    pub credential_key: String,
    /// Cards and codes, hidden, with their holders.
    pub credentials: Vec<Credential>,
    /// The children, as a roll call needs them.
    pub roster: Vec<RosterChild>,
    /// Which adults may fetch which children.
    pub collectors: Vec<Collector>,
    /// Numbers the centre's policy sets.
    pub policy: Policy,
    /// Who may log in on the box's own page (D10).
    #[serde(default)]
    pub local_users: Vec<LocalUser>,
    /// The centre itself, for whoever must call for help by telephone (G7).
    #[serde(default)]
    pub place: Option<Place>,
    /// When the cloud wrote this document.
    #[serde(default)]
    pub made_at: Option<Timestamp>,
}

/// The centre as a caller must be able to say it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Its postal address.
    pub address: String,
    /// Its IANA time zone, in which its times are shown.
    pub time_zone: String,
}

/// A right of one person on the box's own page; a person with two rights has two entries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LocalUser {
    /// Who.
    pub person: PersonId,
    /// In which capacity.
    pub role: LocalRole,
    /// What they type to log in, and are called on the page.
    pub short_name: String,
    /// Argon2 hash of the box PIN, never of a password of the cloud.
    pub pin_argon2: String,
    /// When the right ends; none = until withdrawn.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

impl LocalUser {
    /// A name as it is compared: without blanks around it, capitals like small letters.
    #[must_use]
    pub fn folded(name: &str) -> String {
        name.trim().to_lowercase()
    }

    /// Whether the right stands at that instant.
    #[must_use]
    pub fn stands_at(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// In which capacity somebody uses the box's own page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalRole {
    /// Looks after children.
    Carer,
    /// Runs the centre.
    Director,
    /// Sets devices up; sees no child.
    Installer,
}

/// A place with one purpose.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Zone {
    /// Its name in ids.
    pub id: ZoneId,
    /// What people call it.
    pub name: String,
}

/// What a point is: the very struct that `decode` reads as context (D2).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Enrolment {
    /// The hardware.
    pub device: DeviceId,
    /// Its input.
    pub point: PointId,
    /// Which adapter reads it, by name (`antuo`, `zigbee2mqtt`, `esphome`, `ha-statestream`).
    pub ecosystem: String,
    /// Where it speaks, in the form its adapter reads (`docs/devices.md`).
    pub address: String,
    /// Vendor model, which may select a profile.
    #[serde(default)]
    pub model: Option<String>,
    /// What the point is for; decides which kinds it may raise (R5).
    pub role: Role,
    /// Where it is.
    #[serde(default)]
    pub zone: Option<ZoneId>,
    /// The zone number a receiver sees, 1 to 999.
    pub number: u16,
    /// Without a condition: a press, not a level.
    #[serde(default)]
    pub momentary: bool,
    /// Returns to normal only by acknowledge, then reset.
    #[serde(default)]
    pub latching: bool,
    /// Longest silence that is still healthy, in seconds; none = not supervised by interval.
    #[serde(default)]
    pub interval_s: Option<u32>,
    /// Which way a reader counts people.
    #[serde(default)]
    pub passage: Passage,
    /// Whether the reader takes the access decision itself.
    #[serde(default = "yes")]
    pub decides: bool,
    /// Ecosystem-specific settings an adapter may read (value maps, polarity, press values).
    #[serde(default)]
    pub options: serde_json::Map<String, serde_json::Value>,
}

const fn yes() -> bool {
    true
}

impl Enrolment {
    /// The point's full name.
    #[must_use]
    pub fn key(&self) -> PointKey {
        PointKey {
            device: self.device.clone(),
            point: self.point.clone(),
        }
    }

    /// Longest healthy silence, if supervised.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        self.interval_s.map(|s| Duration::from_secs(u64::from(s)))
    }
}

/// What an enrolled point is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// One-touch alarm to the police.
    PanicButton,
    /// A keypad that can ask for help or say who passes.
    Keypad,
    /// Smoke detector.
    Smoke,
    /// Heat detector.
    Heat,
    /// Combustible gas detector.
    Gas,
    /// Carbon monoxide detector.
    Co,
    /// Manual call point.
    ManualCallPoint,
    /// Water leak detector.
    Water,
    /// Door contact.
    Door,
    /// Lock.
    Lock,
    /// Card or code reader.
    Reader,
    /// Motion or vibration.
    Motion,
    /// Sounder or siren: what it says about `alarm` is the echo of a command, never evidence.
    Siren,
    /// Lamp, flash or display that tells of an alarm: what it says of itself is the echo of a command.
    Lamp,
    /// A device that carries others.
    Bridge,
    /// An intruder alarm panel: it speaks for all inputs wired to it.
    Panel,
    /// A device without an input of its own: all that counts is whether it is there and well.
    Node,
}

impl Role {
    /// Whether a credential behind this role gets the reserved slots and the first place in the
    /// writer (D3).
    #[must_use]
    pub const fn is_life_safety(self) -> bool {
        match self {
            Self::PanicButton
            | Self::Keypad
            | Self::Smoke
            | Self::Heat
            | Self::Gas
            | Self::Co
            | Self::ManualCallPoint
            | Self::Motion
            | Self::Bridge
            | Self::Panel => true,
            Self::Water
            | Self::Door
            | Self::Lock
            | Self::Reader
            | Self::Siren
            | Self::Lamp
            | Self::Node => false,
        }
    }
}

/// Who may speak on the box's MQTT server, and where.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MqttCredential {
    /// Log-in name.
    pub username: Username,
    /// SHA-256 of the 128-bit device secret, hex (D10).
    pub secret_sha256: String,
    /// Topic filters it may publish under.
    pub publish: Vec<String>,
}

/// A card or code and its holder (D8).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Credential {
    /// The number under the centre's key.
    pub hidden: CredentialDigest,
    /// Whose it is.
    pub holder: Holder,
    /// Valid from; none = always was.
    #[serde(default)]
    pub from: Option<Timestamp>,
    /// Valid until; none = until withdrawn.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

impl Credential {
    /// Whether it is valid at that instant.
    #[must_use]
    pub fn valid_at(&self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }
}

/// A child as a roll call needs it: id, short name, class, nothing more (D8).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RosterChild {
    /// The child.
    pub id: ChildId,
    /// What the carers call it.
    pub short_name: String,
    /// Class group.
    pub class_group: String,
}

/// An adult who may bring and fetch children.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Collector {
    /// The adult.
    pub person: PersonId,
    /// The children.
    pub children: Vec<ChildId>,
}

/// Numbers the centre's policy sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// Beyond this age an event asks the operator instead of calling an agency, in seconds (D5).
    pub old_after_s: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self { old_after_s: 600 }
    }
}

impl Policy {
    /// [`Self::old_after_s`] as a span.
    #[must_use]
    pub fn old_after(&self) -> Duration {
        Duration::from_secs(u64::from(self.old_after_s))
    }
}

/// Why a Config cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFault {
    /// Not the document we know.
    #[error("config document cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Written by a newer program.
    #[error("config document version {0} is newer than this program ({CONFIG_V})")]
    TooNew(u32),
    /// Two enrolments claim one point or one address with one role.
    #[error("point {0} is enrolled twice")]
    PointTwice(PointKey),
    /// The key that hides card numbers is not 64 hex digits.
    #[error("credential key is not 64 hex digits")]
    BadCredentialKey,
}

impl Config {
    /// Reads and checks a document's bytes.
    ///
    /// # Errors
    /// Names what is wrong; the box then keeps its old Config and says so (D2).
    pub fn read(bytes: &[u8]) -> Result<Self, ConfigFault> {
        let config: Self = serde_json::from_slice(bytes)?;
        if config.v > CONFIG_V {
            return Err(ConfigFault::TooNew(config.v));
        }
        let mut seen = std::collections::BTreeSet::new();
        for enrolment in &config.enrolments {
            if !seen.insert(enrolment.key()) {
                return Err(ConfigFault::PointTwice(enrolment.key()));
            }
        }
        crate::digest::from_hex_32(&config.credential_key)
            .map_err(|_| ConfigFault::BadCredentialKey)?;
        Ok(config)
    }
}
