//! On which of the points enrolled at one address a sense lands, and as which kind.
//!
//! The role decides, not the key's name (R5): a heat detector that publishes `smoke` says heat. But
//! a carbon monoxide cell inside a smoke detector stays carbon monoxide.

use domain::config::{Enrolment, Role};
use domain::kind::{Kind, Severity};

use super::keys::{Sense, Word};

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
            .or_else(|| by_role(Role::ManualCallPoint).and_then(own))
            .or_else(|| fire(points).map(|e| (e, Kind::FireSmokeAlarm))),
        Sense::Heat => by_role(Role::Heat)
            .or_else(|| fire(points))
            .map(|e| (e, Kind::FireHeatAlarm)),
        Sense::Gas => by_role(Role::Gas)
            .or_else(|| fire(points))
            .map(|e| (e, Kind::FireGasAlarm)),
        Sense::Co => by_role(Role::Co)
            .or_else(|| fire(points))
            .map(|e| (e, Kind::FireCoAlarm)),
        Sense::Water => by_role(Role::Water).map(|e| (e, Kind::WaterLeakAlarm)),
        Sense::Panic => by_role(Role::PanicButton)
            .or_else(|| by_role(Role::Keypad))
            .map(|e| (e, Kind::AlarmPressed))
            .or_else(|| by_role(Role::ManualCallPoint).and_then(own)),
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
        Sense::Battery | Sense::Fault | Sense::Test | Sense::Silenced => false,
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
        | Sense::Panic => true,
        Sense::Role
        | Sense::Door
        | Sense::Forced
        | Sense::Unlocked
        | Sense::Jammed
        | Sense::Tamper
        | Sense::Battery
        | Sense::Fault
        | Sense::Test
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
        | Role::Bridge => false,
    }
}

fn fire<'e>(points: &[&'e Enrolment]) -> Option<&'e Enrolment> {
    points.iter().copied().find(|e| is_fire(e.role))
}

/// The point a device's own test concerns: a detector, a button, a leak sensor.
fn tested<'e>(points: &[&'e Enrolment]) -> Option<&'e Enrolment> {
    points.iter().copied().find(|e| {
        is_fire(e.role) || matches!(e.role, Role::PanicButton | Role::Keypad | Role::Water)
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
        Role::Keypad | Role::Lock | Role::Reader | Role::Motion | Role::Siren | Role::Bridge => {
            return None;
        }
    };
    Some((enrolment, kind))
}
