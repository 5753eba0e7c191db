//! What zigbee2mqtt's keys and words mean, before anybody asks on which point.
//!
//! Facts of the interface, read from device definitions and user reports (design library,
//! `devices.md` 2.1). Words match exactly, never by substring.

use super::super::sense::{Sense, Word, Words};
use Sense::{
    Battery, Co, Door, Fault, Forced, Gas, Heat, Jammed, Panic, Prealarm, Role, Silenced, Smoke,
    Tamper, Test, Unlocked, Water,
};
use Word::{Active, Clear};

/// How to read the value of a key.
#[derive(Clone, Copy, Debug)]
pub enum Meaning {
    /// True or 1 or ON: there.
    Truth(Sense),
    /// True: not there.
    Inverse(Sense),
    /// Like [`Self::Truth`], but a number is a concentration and says nothing.
    Flag(Sense),
    /// A word of a table.
    Words(Words),
    /// A charge in percent; low at or below `BATTERY_LOW`.
    Percent,
    /// The generic `alarm`, which is the siren's switch on most devices that have it.
    Alarm,
    /// A momentary action.
    Action,
}

/// What a key means, in any case of its letters; none for the many that say nothing about safety.
#[must_use]
pub fn meaning(key: &str) -> Option<Meaning> {
    let key = key.to_ascii_lowercase();
    Some(match key.as_str() {
        "smoke" | "smoke_alarm_1" | "smoke_alarm_2" => Meaning::Truth(Smoke),
        "smoke_state" => Meaning::Words(SMOKE_STATE),
        "halo_alert_state" => Meaning::Words(HALO),
        "heat" | "heat_alarm_1" | "heat_alarm_2" => Meaning::Truth(Heat),
        "gas" | "gas_alarm_1" | "gas_alarm_2" => Meaning::Flag(Gas),
        "gas_sensor_state" => Meaning::Words(GAS_STATE),
        "carbon_monoxide" | "carbon_monoxide_alarm_1" | "carbon_monoxide_alarm_2" => {
            Meaning::Truth(Co)
        }
        "co_state" => Meaning::Words(CO_STATE),
        "alarm_state" => Meaning::Words(ALARM_STATE),
        "alarm_1" | "alarm_2" => Meaning::Truth(Role),
        "alarm" => Meaning::Alarm,
        "water_leak" | "active_water_leak" | "water_leak_both_zones" => Meaning::Truth(Water),
        "water_leakage_state" => Meaning::Words(LEAKAGE_STATE),
        "sos" | "sos_alarm" => Meaning::Truth(Panic),
        "contact" | "garage_door_contact" => Meaning::Inverse(Door),
        "contact_alarm_1" => Meaning::Truth(Door),
        "opening_state" => Meaning::Words(OPENING_STATE),
        "door_state" => Meaning::Words(DOOR_STATE),
        "state" | "lock_state" => Meaning::Words(LOCK_STATE),
        "tamper" | "tamper_alarm" => Meaning::Truth(Tamper),
        "battery_low" => Meaning::Truth(Battery),
        "battery" | "battery2" | "smoke_battery" => Meaning::Percent,
        "battery_state" | "battery_level" | "battery_low_1" => Meaning::Words(BATTERY_STATE),
        "trouble" | "battery_defect" | "device_fault" | "fault_alarm" | "end_of_life" => {
            Meaning::Truth(Fault)
        }
        "fault" => Meaning::Words(FAULT),
        "reliability" => Meaning::Words(RELIABILITY),
        "endoflife" => Meaning::Words(END_OF_LIFE),
        "self_test_result" | "self_test" | "test_alarm_result" => Meaning::Words(SELF_TEST),
        "test" | "testing" | "test_in_progress" | "test_mode" => Meaning::Truth(Test),
        "hush" | "smoke_alarm_silenced" => Meaning::Truth(Silenced),
        "action" | "click" => Meaning::Action,
        _ => return numbered(&key),
    })
}

/// Keys with the number of an input in them.
fn numbered(key: &str) -> Option<Meaning> {
    let stem = |prefix: &str| key.strip_prefix(prefix).is_some_and(is_number);
    if ["water_leak_alarm_", "water_leak_wire_", "water_leak_zone_"]
        .into_iter()
        .any(stem)
    {
        return Some(Meaning::Truth(Water));
    }
    let rest = key
        .strip_prefix("channel_")
        .or_else(|| key.strip_prefix("input_"))?;
    let (input, rest) = rest.split_once('_')?;
    let (what, output) = rest.rsplit_once('_')?;
    match what {
        _ if !is_number(input) || !is_number(output) => None,
        "leak_detect" => Some(Meaning::Words(LEAK_DETECT)),
        "battery_low" => Some(Meaning::Words(BATTERY_STATE)),
        _ => None,
    }
}

fn is_number(text: &str) -> bool {
    (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

const SMOKE_STATE: Words = &[
    ("alarm", &[(Smoke, Active)]),
    ("normal", &[(Smoke, Clear)]),
    ("none", &[(Smoke, Clear)]),
    ("detecting", &[]),
];
const GAS_STATE: Words = &[("alarm", &[(Gas, Active)]), ("normal", &[(Gas, Clear)])];
const CO_STATE: Words = &[("alarm", &[(Co, Active)]), ("normal", &[(Co, Clear)])];
const ALARM_STATE: Words = &[
    ("normal", &[(Role, Clear), (Prealarm, Clear)]),
    ("prealarm", &[(Prealarm, Active)]),
    ("alarmed", &[(Role, Active)]),
    ("warning_alarm", &[(Role, Active)]),
    ("critical_alarm", &[(Role, Active)]),
];
/// One state of many: only `safe` is an explicit end, and silencing is none (R7).
const HALO: Words = &[
    (
        "safe",
        &[
            (Smoke, Clear),
            (Co, Clear),
            (Prealarm, Clear),
            (Silenced, Clear),
            (Test, Clear),
            (Battery, Clear),
            (Fault, Clear),
        ],
    ),
    ("pre_smoke", &[(Prealarm, Active)]),
    ("smoke", &[(Smoke, Active)]),
    ("interconnect_smoke", &[(Smoke, Active)]),
    ("carbon_monoxide", &[(Co, Active)]),
    ("interconnect_carbon_monoxide", &[(Co, Active)]),
    ("silenced", &[(Silenced, Active)]),
    ("low_battery", &[(Battery, Active)]),
    ("very_low_battery", &[(Battery, Active)]),
    ("failed_battery", &[(Battery, Active)]),
    ("end_of_life", &[(Fault, Active)]),
    ("co_test", &[(Test, Active)]),
    ("smoke_test", &[(Test, Active)]),
    ("weather", &[]),
    ("other", &[]),
];
const LEAKAGE_STATE: Words = &[
    ("water_leakage_yes", &[(Water, Active)]),
    ("water_leakage_no", &[(Water, Clear)]),
];
const LEAK_DETECT: Words = &[("leak", &[(Water, Active)]), ("dry", &[(Water, Clear)])];
const OPENING_STATE: Words = &[
    ("open", &[(Door, Active)]),
    ("tilted", &[(Door, Active)]),
    ("closed", &[(Door, Clear)]),
];
const DOOR_STATE: Words = &[
    ("open", &[(Door, Active)]),
    ("closed", &[(Door, Clear), (Forced, Clear), (Jammed, Clear)]),
    ("error_jammed", &[(Jammed, Active)]),
    ("error_forced_open", &[(Forced, Active)]),
    ("error_unspecified", &[(Fault, Active)]),
];
const LOCK_STATE: Words = &[
    ("lock", &[(Unlocked, Clear)]),
    ("locked", &[(Unlocked, Clear)]),
    ("unlock", &[(Unlocked, Active)]),
    ("unlocked", &[(Unlocked, Active)]),
    ("not_fully_locked", &[(Unlocked, Active)]),
];
const BATTERY_STATE: Words = &[
    ("low", &[(Battery, Active)]),
    ("normal", &[(Battery, Clear)]),
    ("medium", &[(Battery, Clear)]),
    ("middle", &[(Battery, Clear)]),
    ("high", &[(Battery, Clear)]),
    ("usb", &[(Battery, Clear)]),
];
const FAULT: Words = &[
    ("none", &[(Fault, Clear)]),
    ("false", &[(Fault, Clear)]),
    ("true", &[(Fault, Active)]),
    ("fault", &[(Fault, Active)]),
    ("serious_fault", &[(Fault, Active)]),
    ("sensor_fault", &[(Fault, Active)]),
    ("probe_fault", &[(Fault, Active)]),
    ("power_fault", &[(Fault, Active)]),
];
const RELIABILITY: Words = &[
    ("no_fault_detected", &[(Fault, Clear)]),
    ("unreliable_other", &[(Fault, Active)]),
    ("process_error", &[(Fault, Active)]),
];
const END_OF_LIFE: Words = &[
    ("normal", &[(Fault, Clear)]),
    ("expires_soon", &[(Fault, Clear)]),
    ("expired", &[(Fault, Active)]),
];
/// `checking` is also the resting value of several models, so it is no test by itself.
const SELF_TEST: Words = &[
    ("success", &[(Fault, Clear)]),
    ("check_success", &[(Fault, Clear)]),
    ("check success", &[(Fault, Clear)]),
    ("failure", &[(Fault, Active)]),
    ("check_failure", &[(Fault, Active)]),
    ("check failure", &[(Fault, Active)]),
    ("comm_fault", &[(Fault, Active)]),
    ("radar_fault", &[(Fault, Active)]),
];
