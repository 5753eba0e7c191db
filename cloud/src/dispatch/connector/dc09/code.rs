//! What a receiver is told, in SIA DC-03 event codes.
//!
//! Owns the one table from our kinds to codes. Never decides whether anything is told.

use std::fmt;
use std::str::FromStr;

use domain::kind::Kind;

use super::envelope::FrameError;

/// Two upper-case letters of DC-03.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Code([u8; 2]);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.0;
        write!(f, "{}{}", char::from(first), char::from(second))
    }
}

impl FromStr for Code {
    type Err = FrameError;
    fn from_str(text: &str) -> Result<Self, FrameError> {
        match *text.as_bytes() {
            [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok(Self([a, b])),
            _ => Err(FrameError::Data),
        }
    }
}

/// What is said about an alarm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Say {
    /// It is there.
    Alarm,
    /// Its condition is gone; nothing is closed by that.
    Restoral,
    /// A named person found it to be false after the receiver was told (D7).
    Cancel,
}

/// The code for saying `say` about an event of this kind; none for kinds that open no case and so
/// are never told to a receiver.
///
/// Cancels know only fire and not fire in DC-03: `FC` and `BC`.
#[must_use]
pub const fn code(kind: Kind, say: Say) -> Option<Code> {
    let (alarm, restoral, cancel) = match kind {
        Kind::AlarmPressed => (b"PA", b"PH", b"BC"),
        Kind::AlarmDuress => (b"HA", b"HH", b"BC"),
        // A prealarm and a call point have no code of their own that receivers know.
        Kind::FireSmokeAlarm
        | Kind::FireSmokePrealarm
        | Kind::FireManualCallPointAlarm
        | Kind::FireUnspecifiedAlarm => (b"FA", b"FH", b"FC"),
        Kind::FireHeatAlarm => (b"KA", b"KH", b"FC"),
        // DC-03 knows no carbon monoxide.
        Kind::FireGasAlarm | Kind::FireCoAlarm => (b"GA", b"GH", b"FC"),
        Kind::IntrusionAlarm => (b"BA", b"BH", b"BC"),
        Kind::DoorForced => (b"DF", b"DR", b"BC"),
        Kind::ChildMissing => (b"QA", b"QH", b"BC"),
        Kind::AlarmUnreadable => (b"UA", b"UH", b"BC"),
        Kind::GatewayGap | Kind::GatewayFork => (b"YC", b"YK", b"BC"),
        Kind::GatewayDisk => (b"YX", b"YZ", b"BC"),
        Kind::BridgeOffline => (b"UY", b"UR", b"BC"),
        Kind::AlarmRestored
        | Kind::AlarmSilenced
        | Kind::AlarmTest
        | Kind::AlarmAcknowledged
        | Kind::AlarmReset
        | Kind::TestBegun
        | Kind::TestEnded
        | Kind::TestExpected
        | Kind::PointBypassed
        | Kind::PointInService
        | Kind::DoorReleased
        | Kind::CommandRefused
        | Kind::SirenSounding
        | Kind::LampLit
        | Kind::PresenceCheckedIn
        | Kind::PresenceCheckedOut
        | Kind::PresencePending
        | Kind::PresenceUnassigned
        | Kind::PresenceCorrected
        | Kind::AccessGranted
        | Kind::AccessDenied
        | Kind::AccessRead
        | Kind::AccessExitRequest
        | Kind::DeviceTamper
        | Kind::DeviceBatteryLow
        | Kind::DeviceOffline
        | Kind::DeviceOnline
        | Kind::DeviceFault
        | Kind::ActUnconfirmed
        | Kind::BridgeOnline
        | Kind::IngestRejected
        | Kind::IngestUnmapped
        | Kind::GatewayStarted
        | Kind::GatewayClock
        | Kind::ConfigApplied
        | Kind::ConfigRefused
        | Kind::DoorHeld
        | Kind::LockJammed
        | Kind::WaterLeakAlarm
        | Kind::DoorOpened
        | Kind::DoorClosed
        | Kind::LockLocked
        | Kind::LockUnlocked
        | Kind::CameraDetection
        | Kind::CameraSnapshot => return None,
    };
    Some(Code(*match say {
        Say::Alarm => alarm,
        Say::Restoral => restoral,
        Say::Cancel => cancel,
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use domain::kind::Hazard;

    use super::*;

    #[test]
    fn exactly_the_kinds_that_open_a_case_can_be_told() {
        for kind in Kind::ALL {
            for say in [Say::Alarm, Say::Restoral, Say::Cancel] {
                assert_eq!(
                    code(*kind, say).is_some(),
                    kind.hazard().is_some(),
                    "{kind}"
                );
            }
        }
    }

    #[test]
    fn a_fire_is_cancelled_as_a_fire_and_the_rest_as_not_a_fire() {
        for kind in Kind::ALL {
            let Some(cancel) = code(*kind, Say::Cancel) else {
                continue;
            };
            let fire = kind.hazard() == Some(Hazard::Fire);
            assert_eq!(cancel.to_string(), if fire { "FC" } else { "BC" }, "{kind}");
        }
    }

    #[test]
    fn the_codes_a_monitoring_room_knows_by_heart() {
        let said = |kind, say| code(kind, say).unwrap().to_string();
        assert_eq!(said(Kind::AlarmPressed, Say::Alarm), "PA");
        assert_eq!(said(Kind::AlarmPressed, Say::Restoral), "PH");
        assert_eq!(said(Kind::AlarmDuress, Say::Alarm), "HA");
        assert_eq!(said(Kind::FireSmokeAlarm, Say::Alarm), "FA");
        assert_eq!(said(Kind::FireSmokeAlarm, Say::Restoral), "FH");
        assert_eq!(said(Kind::FireManualCallPointAlarm, Say::Alarm), "FA");
        assert_eq!(said(Kind::FireHeatAlarm, Say::Alarm), "KA");
        assert_eq!(said(Kind::FireGasAlarm, Say::Alarm), "GA");
        assert_eq!(said(Kind::IntrusionAlarm, Say::Alarm), "BA");
        assert_eq!(said(Kind::DoorForced, Say::Alarm), "DF");
        assert_eq!(said(Kind::ChildMissing, Say::Alarm), "QA");
    }
}
