//! What can happen, in the trade's words, and what follows from the kind alone: its lane (D3), its
//! hazard (D7), its severity, how it reads on the wire.
//!
//! Owns the one table of kinds. Never decides anything about a particular event.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which queue a record travels in (D3). Sequence numbers and receipts run per lane.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Fire, alarm buttons, intrusion, a missing child. Never shed, always first.
    LifeSafety,
    /// Presence, access decisions, device and box faults. Shed only over its own limit, counted.
    Supervisory,
    /// Door movements, levels, camera notes. Shed first at the size limit, with a tombstone.
    Telemetry,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Self; 3] = [Self::LifeSafety, Self::Supervisory, Self::Telemetry];

    /// The name on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LifeSafety => "life_safety",
            Self::Supervisory => "supervisory",
            Self::Telemetry => "telemetry",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Lane {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|lane| lane.as_str() == text)
            .ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

/// A word that stands in none of our tables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown word {0:?}")]
pub struct UnknownWord(pub String);

/// How bad an event is by itself, before a person looked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A test said so itself: shown as test, never dispatched.
    Test,
    /// Worth a line.
    Info,
    /// Maintenance.
    Low,
    /// Staff today.
    Medium,
    /// Staff now.
    High,
    /// Known only from a retained message: show and ask, never dispatch by itself.
    Unverified,
    /// Automatic dispatch allowed.
    Critical,
}

/// What threatens people; one open case per centre and hazard (D7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hazard {
    /// A person pressed for help.
    Panic,
    /// Smoke, heat, gas, carbon monoxide, a manual call point.
    Fire,
    /// Somebody where nobody should be.
    Intrusion,
    /// A child that cannot be accounted for.
    MissingChild,
    /// The safety chain itself is broken or unreadable.
    Technical,
}

impl Hazard {
    /// All hazards.
    pub const ALL: [Self; 5] = [
        Self::Panic,
        Self::Fire,
        Self::Intrusion,
        Self::MissingChild,
        Self::Technical,
    ];

    /// The name on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Fire => "fire",
            Self::Intrusion => "intrusion",
            Self::MissingChild => "missing_child",
            Self::Technical => "technical",
        }
    }
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Hazard {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|hazard| hazard.as_str() == text)
            .ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $lane:ident, $severity:ident;)+) => {
        /// What an event says happened. The text form is the word on the wire.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Kind { $($(#[$doc])* $name,)+ }

        impl Kind {
            /// Every kind there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The word on the wire and in the store.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The lane events of this kind travel in; a clearing rides with its alarm (D3).
            #[must_use]
            pub const fn lane(self) -> Lane {
                match self { $(Self::$name => Lane::$lane,)+ }
            }

            /// The severity of a live raising of this kind.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)+ }
            }
        }
    };
}

kinds! {
    /// Smoke at alarm level.
    FireSmokeAlarm = "fire.smoke.alarm", LifeSafety, Critical;
    /// Smoke below alarm level.
    FireSmokePrealarm = "fire.smoke.prealarm", LifeSafety, High;
    /// Heat at alarm level.
    FireHeatAlarm = "fire.heat.alarm", LifeSafety, Critical;
    /// Combustible gas.
    FireGasAlarm = "fire.gas.alarm", LifeSafety, Critical;
    /// Carbon monoxide.
    FireCoAlarm = "fire.co.alarm", LifeSafety, Critical;
    /// A manual call point was broken or pressed.
    FireManualCallPointAlarm = "fire.manual_call_point.alarm", LifeSafety, Critical;
    /// A fire whose kind the panel did not say.
    FireUnspecifiedAlarm = "fire.unspecified.alarm", LifeSafety, Critical;
    /// Somebody pressed for help.
    AlarmPressed = "alarm.pressed", LifeSafety, Critical;
    /// The device says its press is over; closes nothing.
    AlarmRestored = "alarm.restored", LifeSafety, Info;
    /// Help asked for under duress.
    AlarmDuress = "alarm.duress", LifeSafety, Critical;
    /// A sounder was silenced; clears nothing.
    AlarmSilenced = "alarm.silenced", LifeSafety, Info;
    /// A device's own test.
    AlarmTest = "alarm.test", LifeSafety, Test;
    /// A named human looked at a point's alarm (D6).
    AlarmAcknowledged = "alarm.acknowledged", LifeSafety, Info;
    /// A named human returned a point to normal (D6).
    AlarmReset = "alarm.reset", LifeSafety, Info;
    /// A test session began (D6).
    TestBegun = "test.begun", LifeSafety, Info;
    /// A test session ended.
    TestEnded = "test.ended", LifeSafety, Info;
    /// The leader of a drill said that a fire alarm is the drill's.
    TestExpected = "test.expected", LifeSafety, Info;
    /// A point was taken out of service; shown as a fault until it is back.
    PointBypassed = "point.bypassed", LifeSafety, Medium;
    /// A point is in service again.
    PointInService = "point.in_service", LifeSafety, Info;
    /// A door was told to go free; whether it did is `lock.unlocked`.
    DoorReleased = "door.released", LifeSafety, Info;
    /// A command could not be done, and why.
    CommandRefused = "command.refused", LifeSafety, Low;
    /// Something in `life_safety` that this program cannot read (D4).
    AlarmUnreadable = "alarm.unreadable", LifeSafety, Critical;
    /// Intrusion.
    IntrusionAlarm = "intrusion.alarm", LifeSafety, High;
    /// A door was forced.
    DoorForced = "door.forced", LifeSafety, High;
    /// A child cannot be accounted for.
    ChildMissing = "child.missing", LifeSafety, Critical;
    /// A child came in.
    PresenceCheckedIn = "presence.checked_in", Supervisory, Info;
    /// A child left with somebody.
    PresenceCheckedOut = "presence.checked_out", Supervisory, Info;
    /// A movement a carer must still decide.
    PresencePending = "presence.pending", Supervisory, Info;
    /// A credential nobody holds.
    PresenceUnassigned = "presence.unassigned", Supervisory, Medium;
    /// A staff correction of an earlier movement.
    PresenceCorrected = "presence.corrected", Supervisory, Info;
    /// A reader or lock let somebody through.
    AccessGranted = "access.granted", Supervisory, Info;
    /// A reader or lock refused somebody.
    AccessDenied = "access.denied", Supervisory, Medium;
    /// A reader read a credential and decided nothing.
    AccessRead = "access.read", Supervisory, Info;
    /// Somebody asked to leave by the exit button.
    AccessExitRequest = "access.exit_request", Supervisory, Info;
    /// A device was opened or moved.
    DeviceTamper = "device.tamper", Supervisory, Medium;
    /// A battery is at or below 15 %, or says so.
    DeviceBatteryLow = "device.battery_low", Supervisory, Low;
    /// A device fell silent or said so.
    DeviceOffline = "device.offline", Supervisory, Medium;
    /// A device is back.
    DeviceOnline = "device.online", Supervisory, Info;
    /// A device is faulty (a chattering one too).
    DeviceFault = "device.fault", Supervisory, Medium;
    /// A siren, lamp or door was told to do something and does not say that it did.
    ActUnconfirmed = "act.unconfirmed", Supervisory, High;
    /// A bridge and everything behind it is away.
    BridgeOffline = "bridge.offline", Supervisory, High;
    /// A bridge is back.
    BridgeOnline = "bridge.online", Supervisory, Info;
    /// Bytes from an enrolled device that cannot be read.
    IngestRejected = "ingest.rejected", Supervisory, Medium;
    /// A readable message that no enrolment explains.
    IngestUnmapped = "ingest.unmapped", Supervisory, High;
    /// The box started; the first record of every lane of an epoch (D4).
    GatewayStarted = "gateway.started", Supervisory, Info;
    /// A hole in a box's numbers.
    GatewayGap = "gateway.gap", Supervisory, High;
    /// The box's clock was corrected or lost.
    GatewayClock = "gateway.clock", Supervisory, Medium;
    /// The box's disk is full or failing.
    GatewayDisk = "gateway.disk", Supervisory, High;
    /// Two records claim one number (D4).
    GatewayFork = "gateway.fork", Supervisory, High;
    /// The box runs this Config version now (D2).
    ConfigApplied = "config.applied", Supervisory, Info;
    /// The box could not use a Config and kept the old one (D2).
    ConfigRefused = "config.refused", Supervisory, High;
    /// A door stands open too long.
    DoorHeld = "door.held", Supervisory, Medium;
    /// A lock is jammed.
    LockJammed = "lock.jammed", Supervisory, Medium;
    /// Water where none should be.
    WaterLeakAlarm = "water.leak.alarm", Supervisory, High;
    /// A door opened.
    DoorOpened = "door.opened", Telemetry, Info;
    /// A door closed.
    DoorClosed = "door.closed", Telemetry, Info;
    /// A lock locked.
    LockLocked = "lock.locked", Telemetry, Info;
    /// A lock unlocked.
    LockUnlocked = "lock.unlocked", Telemetry, Info;
    /// A sounder sounds: the echo of a command, never evidence.
    SirenSounding = "siren.sounding", Telemetry, Info;
    /// A lamp is lit: the echo of a command, never evidence.
    LampLit = "lamp.lit", Telemetry, Info;
    /// A camera saw something.
    CameraDetection = "camera.detection", Telemetry, Info;
    /// A camera took a picture.
    CameraSnapshot = "camera.snapshot", Telemetry, Info;
}

impl Kind {
    /// The hazard a raising of this kind belongs to, if it can open a case (D7).
    #[must_use]
    pub const fn hazard(self) -> Option<Hazard> {
        match self {
            Self::AlarmPressed | Self::AlarmDuress => Some(Hazard::Panic),
            Self::FireSmokeAlarm
            | Self::FireSmokePrealarm
            | Self::FireHeatAlarm
            | Self::FireGasAlarm
            | Self::FireCoAlarm
            | Self::FireManualCallPointAlarm
            | Self::FireUnspecifiedAlarm => Some(Hazard::Fire),
            Self::IntrusionAlarm | Self::DoorForced => Some(Hazard::Intrusion),
            Self::ChildMissing => Some(Hazard::MissingChild),
            Self::AlarmUnreadable
            | Self::GatewayGap
            | Self::GatewayFork
            | Self::GatewayDisk
            | Self::BridgeOffline => Some(Hazard::Technical),
            Self::AlarmRestored
            | Self::AlarmSilenced
            | Self::AlarmTest
            | Self::AlarmAcknowledged
            | Self::AlarmReset
            | Self::TestBegun
            | Self::TestEnded
            | Self::TestExpected
            | Self::PointBypassed
            | Self::PointInService
            | Self::DoorReleased
            | Self::CommandRefused
            | Self::PresenceCheckedIn
            | Self::PresenceCheckedOut
            | Self::PresencePending
            | Self::PresenceUnassigned
            | Self::PresenceCorrected
            | Self::AccessGranted
            | Self::AccessDenied
            | Self::AccessRead
            | Self::AccessExitRequest
            | Self::DeviceTamper
            | Self::DeviceBatteryLow
            | Self::DeviceOffline
            | Self::DeviceOnline
            | Self::DeviceFault
            | Self::ActUnconfirmed
            | Self::BridgeOnline
            | Self::IngestRejected
            | Self::IngestUnmapped
            | Self::GatewayStarted
            | Self::GatewayClock
            | Self::ConfigApplied
            | Self::ConfigRefused
            | Self::DoorHeld
            | Self::LockJammed
            | Self::WaterLeakAlarm
            | Self::DoorOpened
            | Self::DoorClosed
            | Self::LockLocked
            | Self::LockUnlocked
            | Self::SirenSounding
            | Self::LampLit
            | Self::CameraDetection
            | Self::CameraSnapshot => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(input)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back() {
        for kind in Kind::ALL {
            assert_eq!(kind.as_str().parse::<Kind>().unwrap(), *kind);
        }
        assert!("fire.smoke".parse::<Kind>().is_err());
    }

    #[test]
    fn people_in_danger_always_travel_first() {
        for kind in Kind::ALL {
            if matches!(
                kind.hazard(),
                Some(Hazard::Panic | Hazard::Fire | Hazard::Intrusion | Hazard::MissingChild)
            ) {
                assert_eq!(kind.lane(), Lane::LifeSafety, "{kind}");
            }
        }
    }
}
