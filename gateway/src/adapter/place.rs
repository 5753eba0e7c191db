//! On which of the points enrolled at one address a sense lands, as which kind, and how it is said.
//!
//! The role decides, not the key's name (R5): a heat detector that publishes `smoke` says heat. But
//! a carbon monoxide cell inside a smoke detector stays carbon monoxide. Knows no vendor.

use std::borrow::Cow;

use domain::config::{Enrolment, Role};
use domain::event::Unread;
use domain::kind::{Kind, Severity};
use serde_json::Value;

use super::sense::{Sense, Word};
use super::{Message, Says};

/// Charge at or below which a battery is low, in percent.
pub const BATTERY_LOW: f64 = 15.0;

/// Where a sense lands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place<'e> {
    /// On this point, as the raising of this kind.
    At(&'e Enrolment, Kind),
    /// A hazard, and none of the enrolled points is of a kind that tells it.
    Stranger,
    /// Of no interest here.
    Nowhere,
}

/// Finds the place of a sense among the points of one device.
#[must_use]
pub fn place<'e>(sense: Sense, points: &[&'e Enrolment]) -> Place<'e> {
    let by_role = |wanted: Role| points.iter().copied().find(|e| e.role == wanted);
    let found = match sense {
        Sense::Smoke => by_role(Role::Smoke)
            .map(|e| (e, Kind::FireSmokeAlarm))
            .or_else(|| by_role(Role::Heat).map(|e| (e, Kind::FireHeatAlarm)))
            .or_else(|| fire(points).and_then(own))
            .or_else(|| panel(points, Kind::FireSmokeAlarm)),
        Sense::Heat => by_role(Role::Heat)
            .or_else(|| fire(points))
            .map(|e| (e, Kind::FireHeatAlarm))
            .or_else(|| panel(points, Kind::FireHeatAlarm)),
        Sense::Gas => by_role(Role::Gas)
            .or_else(|| fire(points))
            .map(|e| (e, Kind::FireGasAlarm))
            .or_else(|| panel(points, Kind::FireGasAlarm)),
        Sense::Co => by_role(Role::Co)
            .or_else(|| fire(points))
            .map(|e| (e, Kind::FireCoAlarm))
            .or_else(|| panel(points, Kind::FireCoAlarm)),
        Sense::Water => by_role(Role::Water)
            .map(|e| (e, Kind::WaterLeakAlarm))
            .or_else(|| panel(points, Kind::WaterLeakAlarm)),
        Sense::Panic => by_role(Role::PanicButton)
            .or_else(|| by_role(Role::Keypad))
            .map(|e| (e, Kind::AlarmPressed))
            .or_else(|| by_role(Role::ManualCallPoint).and_then(own))
            .or_else(|| panel(points, Kind::AlarmPressed)),
        Sense::Intrusion => by_role(Role::Motion)
            .map(|e| (e, Kind::IntrusionAlarm))
            .or_else(|| panel(points, Kind::IntrusionAlarm)),
        Sense::Prealarm => match by_role(Role::Smoke) {
            Some(e) => Some((e, Kind::FireSmokePrealarm)),
            None => points
                .iter()
                .copied()
                .find(|e| is_fire(e.role))
                .and_then(own),
        },
        Sense::Role => points.iter().copied().find_map(own),
        Sense::Door => by_role(Role::Door)
            .or_else(|| by_role(Role::Lock))
            .map(|e| (e, Kind::DoorOpened)),
        Sense::Forced => by_role(Role::Lock)
            .or_else(|| by_role(Role::Door))
            .map(|e| (e, Kind::DoorForced)),
        Sense::Unlocked => by_role(Role::Lock).map(|e| (e, Kind::LockUnlocked)),
        Sense::Jammed => by_role(Role::Lock).map(|e| (e, Kind::LockJammed)),
        Sense::Tamper => points.first().map(|e| (*e, Kind::DeviceTamper)),
        Sense::Battery => points.first().map(|e| (*e, Kind::DeviceBatteryLow)),
        Sense::Fault => points.first().map(|e| (*e, Kind::DeviceFault)),
        Sense::Away => points.first().map(|e| (*e, Kind::DeviceOffline)),
        Sense::Test => tested(points).map(|e| (e, Kind::AlarmTest)),
        Sense::Silenced => tested(points).map(|e| (e, Kind::AlarmSilenced)),
    };
    match found {
        Some((enrolment, kind)) => Place::At(enrolment, kind),
        None if is_hazard(sense) => Place::Stranger,
        None => Place::Nowhere,
    }
}

/// The severity a word gives a kind at a place; a prealarm that has no kind of its own is mild.
#[must_use]
pub fn severity(sense: Sense, word: Word, kind: Kind) -> Option<Severity> {
    match word {
        Word::Clear => None,
        Word::Active if sense == Sense::Prealarm => Some(Severity::High.min(kind.severity())),
        Word::Active => Some(kind.severity()),
    }
}

/// Whether an unreadable value of this sense must be told.
#[must_use]
pub const fn matters(sense: Sense) -> bool {
    match sense {
        Sense::Battery | Sense::Fault | Sense::Test | Sense::Silenced | Sense::Away => false,
        Sense::Smoke
        | Sense::Prealarm
        | Sense::Heat
        | Sense::Gas
        | Sense::Co
        | Sense::Water
        | Sense::Panic
        | Sense::Role
        | Sense::Door
        | Sense::Forced
        | Sense::Unlocked
        | Sense::Jammed
        | Sense::Intrusion
        | Sense::Tamper => true,
    }
}

const fn is_hazard(sense: Sense) -> bool {
    match sense {
        Sense::Smoke
        | Sense::Prealarm
        | Sense::Heat
        | Sense::Gas
        | Sense::Co
        | Sense::Water
        | Sense::Panic
        | Sense::Intrusion => true,
        Sense::Role
        | Sense::Door
        | Sense::Forced
        | Sense::Unlocked
        | Sense::Jammed
        | Sense::Tamper
        | Sense::Battery
        | Sense::Fault
        | Sense::Test
        | Sense::Away
        | Sense::Silenced => false,
    }
}

const fn is_fire(role: Role) -> bool {
    match role {
        Role::Smoke | Role::Heat | Role::Gas | Role::Co | Role::ManualCallPoint => true,
        Role::PanicButton
        | Role::Keypad
        | Role::Water
        | Role::Door
        | Role::Lock
        | Role::Reader
        | Role::Motion
        | Role::Siren
        | Role::Lamp
        | Role::Bridge
        | Role::Panel
        | Role::Node => false,
    }
}

fn fire<'e>(points: &[&'e Enrolment]) -> Option<&'e Enrolment> {
    points.iter().copied().find(|e| is_fire(e.role))
}

/// A panel tells every hazard of what is wired to it.
fn panel<'e>(points: &[&'e Enrolment], kind: Kind) -> Option<(&'e Enrolment, Kind)> {
    let found = points.iter().copied().find(|e| e.role == Role::Panel)?;
    Some((found, kind))
}

/// The point a device's own test concerns: a detector, a button, a leak sensor.
fn tested<'e>(points: &[&'e Enrolment]) -> Option<&'e Enrolment> {
    points.iter().copied().find(|e| {
        let others = [Role::PanicButton, Role::Keypad, Role::Water, Role::Panel];
        is_fire(e.role) || others.contains(&e.role)
    })
}

/// What a point tells when the key does not say. A motion sensor's or siren's `alarm` is nothing.
fn own(enrolment: &Enrolment) -> Option<(&Enrolment, Kind)> {
    let kind = match enrolment.role {
        Role::Smoke => Kind::FireSmokeAlarm,
        Role::Heat => Kind::FireHeatAlarm,
        Role::Gas => Kind::FireGasAlarm,
        Role::Co => Kind::FireCoAlarm,
        Role::ManualCallPoint => Kind::FireManualCallPointAlarm,
        Role::Water => Kind::WaterLeakAlarm,
        Role::PanicButton => Kind::AlarmPressed,
        Role::Door => Kind::DoorOpened,
        Role::Keypad
        | Role::Lock
        | Role::Reader
        | Role::Motion
        | Role::Siren
        | Role::Lamp
        | Role::Bridge
        | Role::Panel
        | Role::Node => return None,
    };
    Some((enrolment, kind))
}

/// What a press at a button, a keypad or a panel calls for.
#[must_use]
pub fn call(button: &Enrolment) -> Kind {
    own(button).map_or(Kind::AlarmPressed, |(_, kind)| kind)
}

/// Says a word about a sense at its place. A hazard that no point here can tell is told as unmapped
/// while it is there.
pub fn tell(sense: Sense, word: Word, key: &str, points: &[&Enrolment], message: &mut Message) {
    match (place(sense, points), word) {
        (Place::At(enrolment, kind), _) => message.says(
            &enrolment.key(),
            Says::Level {
                kind,
                key: Cow::Owned(key.to_owned()),
                active: severity(sense, word, kind),
            },
        ),
        (Place::Stranger, Word::Active) => {
            unread(points, Unread::NotThisRole, key, message);
        }
        (Place::Stranger, Word::Clear) | (Place::Nowhere, _) => {}
    }
}

/// Says that one key's value cannot be understood.
pub fn unread(points: &[&Enrolment], why: Unread, key: &str, message: &mut Message) {
    if let Some(first) = points.first() {
        let key = Some(Cow::Owned(key.to_owned()));
        message.says(&first.key(), Says::Unread { why, key });
    }
}

/// Whether a charge in percent is low; none when it is no percentage or the device hangs on the
/// mains.
#[must_use]
pub fn is_low(value: &Value, points: &[&Enrolment]) -> Option<bool> {
    let mains = points
        .iter()
        .any(|e| e.options.get("mains") == Some(&Value::Bool(true)));
    let percent = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().trim_end_matches('%').trim_end().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }?;
    ((0.0..=100.0).contains(&percent) && !mains).then_some(percent <= BATTERY_LOW)
}

/// What the installer says an ON means (`on` in the options): that it is there, or that it is not.
/// None when nothing was said.
#[must_use]
pub fn on_means(points: &[&Enrolment]) -> Option<Word> {
    let word = points
        .iter()
        .find_map(|e| e.options.get("on").and_then(Value::as_str))?
        .trim();
    let is = |words: &[&str]| words.iter().any(|known| known.eq_ignore_ascii_case(word));
    if is(&[
        "open", "opened", "unlocked", "active", "alarm", "wet", "pressed", "detected",
    ]) {
        Some(Word::Active)
    } else if is(&[
        "closed", "close", "locked", "inactive", "clear", "normal", "dry", "released", "ok",
        "safe", "idle",
    ]) {
        Some(Word::Clear)
    } else {
        None
    }
}

/// Whether the installer named a key of this device in a list of its options.
#[must_use]
pub fn is_listed(points: &[&Enrolment], list: &str, key: &str) -> bool {
    points.iter().any(|e| {
        e.options
            .get(list)
            .and_then(Value::as_array)
            .is_some_and(|keys| keys.iter().any(|k| k.as_str() == Some(key)))
    })
}
