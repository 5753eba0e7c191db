//! What the box says to a centre's sirens, lamps and doors, in the words of their families.
//!
//! Owns the wishes and who can be told one. There is no wish that locks a door, so none can be said. Never
//! decides when something is wished: that is for `site`.

use domain::config::{Enrolment, Role};
use serde_json::Value;

use super::family;

/// What a siren, lamp or door is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// A siren sounds.
    Sound(Why),
    /// A siren is silent.
    Silence,
    /// A lamp is lit.
    Light(Why),
    /// A lamp is dark.
    Dark,
    /// A door goes free.
    Release,
}

/// Why a siren sounds or a lamp is lit; devices that can make the two differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Why {
    /// The cloud has not got an alarm: people must dial 110 / 119 themselves (G7).
    NotForwarded,
    /// An alarm.
    Alarm,
}

impl Wish {
    /// One of each kind.
    pub const ALL: [Self; 5] = [
        Self::Sound(Why::Alarm),
        Self::Silence,
        Self::Light(Why::Alarm),
        Self::Dark,
        Self::Release,
    ];

    /// The word of our own schema, and the option that overrides it elsewhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sound(_) => "sound",
            Self::Silence => "silence",
            Self::Light(_) => "light",
            Self::Dark => "dark",
            Self::Release => "release",
        }
    }

    /// Why, where there is a reason to tell apart.
    #[must_use]
    pub const fn why(self) -> Option<&'static str> {
        match self {
            Self::Sound(why) | Self::Light(why) => Some(match why {
                Why::NotForwarded => "not_forwarded",
                Why::Alarm => "alarm",
            }),
            Self::Release => Some("alarm"),
            Self::Silence | Self::Dark => None,
        }
    }
}

/// A message to a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Whether the device says afterwards what it does.
    pub echoes: bool,
}

/// How a device is told, under an id of ours; none when its family has no words for it.
#[must_use]
pub fn order(enrolment: &Enrolment, wish: Wish, id: &str) -> Option<Order> {
    let order = (family(&enrolment.ecosystem)?.order)(enrolment, wish, id)?;
    let silent = enrolment.options.get("confirms") == Some(&Value::Bool(false));
    Some(Order {
        echoes: order.echoes && !silent,
        ..order
    })
}

/// Whether a wish of this kind is any matter of an enrolment's: a door contact is no lock, unless the
/// installer says how it is released.
#[must_use]
pub fn can_be_told(enrolment: &Enrolment, wish: Wish) -> bool {
    match wish {
        Wish::Sound(_) | Wish::Silence => enrolment.role == Role::Siren,
        Wish::Light(_) | Wish::Dark => enrolment.role == Role::Lamp,
        Wish::Release => match enrolment.role {
            Role::Lock => true,
            Role::Door => enrolment.options.contains_key(Wish::Release.as_str()),
            Role::PanicButton
            | Role::Keypad
            | Role::Smoke
            | Role::Heat
            | Role::Gas
            | Role::Co
            | Role::ManualCallPoint
            | Role::Water
            | Role::Reader
            | Role::Motion
            | Role::Siren
            | Role::Lamp
            | Role::Bridge
            | Role::Panel
            | Role::Node => false,
        },
    }
}
