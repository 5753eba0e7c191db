//! Names of things. Each id is its own type, so a centre can never be passed where a child is meant.
//!
//! UUIDs name what we make (events, incidents, people); slugs name what an installer labels
//! (zones, devices, points, user names on the box's MQTT server).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

macro_rules! uuid_ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh time-ordered id (RFC 9562, version 7) from the given instant and chance.
            #[must_use]
            pub fn at(now: Timestamp, chance: [u8; 10]) -> Self {
                Self(uuid_v7(now, chance))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )+};
}

uuid_ids! {
    /// One event, minted by the box at intake (D4).
    EventId,
    /// One command to a box; of a test session or bypass also its name (D6).
    CommandId,
    /// One start of a box's process; the numbers of its lanes run within it (D4).
    EpochId,
    /// A protected childcare site.
    CentreId,
    /// A box. A gateway is its key (D10).
    GatewayId,
    /// Anyone with a name: guardian, carer, operator, director, pick-up adult.
    PersonId,
    /// A child enrolled at a centre.
    ChildId,
    /// The case people work on.
    IncidentId,
    /// One request to one agency.
    DispatchId,
    /// A police, fire or monitoring-centre receiver that the operator of the deployment named.
    ReceiverId,
    /// A monitoring room that watches centres.
    WatchRoomId,
}

fn uuid_v7(now: Timestamp, chance: [u8; 10]) -> Uuid {
    let millis = u64::try_from(now.micros().max(0) / 1_000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &chance).into_uuid()
}

/// Longest slug, in bytes. A longer name is refused where it is parsed.
pub const SLUG_MAX: usize = 64;

/// Why a text is not a slug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a name of 1 to {SLUG_MAX} letters, digits, '.', '_' or '-'")]
pub struct NotASlug;

macro_rules! slugs {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text as the installer wrote it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotASlug;
            fn try_from(text: String) -> Result<Self, NotASlug> {
                if is_slug(&text) { Ok(Self(text)) } else { Err(NotASlug) }
            }
        }

        impl FromStr for $name {
            type Err = NotASlug;
            fn from_str(text: &str) -> Result<Self, NotASlug> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(slug: $name) -> Self {
                slug.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

slugs! {
    /// A place with one purpose inside a centre.
    ZoneId,
    /// A piece of hardware, named once per centre.
    DeviceId,
    /// One alarmable input of a device.
    PointId,
    /// A log-in name of a device or bridge on the box's MQTT server.
    Username,
}

fn is_slug(text: &str) -> bool {
    (1..=SLUG_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The full name of one alarmable input within a centre.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PointKey {
    /// The hardware.
    pub device: DeviceId,
    /// Its input.
    pub point: PointId,
}

impl fmt::Display for PointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.device, self.point)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_later_instants_sort_later() {
        let early = EventId::at(Timestamp::from_micros(1_000_000), [0xff; 10]);
        let late = EventId::at(Timestamp::from_micros(1_002_000), [0; 10]);
        assert!(early < late);
        assert_eq!(early.0.get_version_num(), 7);
    }

    #[test]
    fn a_slug_is_a_plain_short_name() {
        assert!("btn-hall.1_a".parse::<DeviceId>().is_ok());
        for bad in [
            "",
            "a/b",
            "门厅",
            "a b",
            &"x".repeat(SLUG_MAX + 1),
            "a+",
            "#",
        ] {
            assert!(bad.parse::<DeviceId>().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<ZoneId>("\"a b\"").is_err());
    }
}
