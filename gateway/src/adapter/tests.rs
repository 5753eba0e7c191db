//! What holds for every family: whatever comes is read or told, and nothing is made of nothing.
#![allow(clippy::unwrap_used, clippy::panic)]

use domain::config::Role;
use proptest::prelude::*;

use super::book::tests::{book, enrolment};
use super::*;

const ROLES: &[Role] = &[
    Role::PanicButton,
    Role::Keypad,
    Role::Smoke,
    Role::Heat,
    Role::Gas,
    Role::Co,
    Role::ManualCallPoint,
    Role::Water,
    Role::Door,
    Role::Lock,
    Role::Reader,
    Role::Motion,
    Role::Siren,
    Role::Lamp,
    Role::Bridge,
    Role::Panel,
    Role::Node,
];

/// Topics of every family, each with the address it is enrolled at and its ecosystem.
const TOPICS: &[(&str, &str, &str)] = &[
    ("antuo/v1/x/x", "antuo/v1/x/x", "antuo"),
    ("zigbee2mqtt/x", "zigbee2mqtt/x", "zigbee2mqtt"),
    ("zigbee2mqtt/x/smoke", "zigbee2mqtt/x", "zigbee2mqtt"),
    ("zigbee2mqtt/x/action", "zigbee2mqtt/x", "zigbee2mqtt"),
    ("zigbee2mqtt/x/availability", "zigbee2mqtt/x", "zigbee2mqtt"),
    ("zigbee2mqtt/bridge/state", "zigbee2mqtt/x", "zigbee2mqtt"),
    ("nap/binary_sensor/x/state", "nap", "esphome"),
    ("nap/binary_sensor/battery/state", "nap", "esphome"),
    ("nap/lock/x/state", "nap", "esphome"),
    ("nap/cover/x/state", "nap/cover/x", "esphome"),
    ("nap/alarm_control_panel/x/state", "nap", "esphome"),
    ("nap/event/x/state", "nap", "esphome"),
    ("nap/sensor/smoke/state", "nap", "esphome"),
    ("nap/text_sensor/x/state", "nap/text_sensor/x", "esphome"),
    ("nap/switch/x/state", "nap", "esphome"),
    ("nap/own", "nap", "esphome"),
    ("nap/status", "nap", "esphome"),
    (
        "ha/binary_sensor/x/state",
        "ha/binary_sensor/x",
        "ha-statestream",
    ),
    ("ha/lock/x/state", "ha/lock/x", "ha-statestream"),
    ("ha/event/x/event_type", "ha/event/x", "ha-statestream"),
    (
        "ha/binary_sensor/x/battery_level",
        "ha/binary_sensor/x",
        "ha-statestream",
    ),
    (
        "homeassistant/status",
        "ha/binary_sensor/x",
        "ha-statestream",
    ),
];

fn readings(role: Role, at: (&str, &str, &str), payload: &[u8], retained: bool) -> Vec<Reading> {
    let (topic, address, ecosystem) = at;
    let book = book([enrolment("x", ecosystem, address, role)]);
    let signal = Signal {
        topic,
        payload,
        retained,
        username: "x",
    };
    match read(&book, &signal) {
        Heard::Message(message) => message.readings,
        Heard::NoEvidence | Heard::Unenrolled { .. } | Heard::NoAdapter(_) | Heard::Foreign => {
            Vec::new()
        }
    }
}

/// What may be said of a message without content: that it cannot be read, that a device is away.
fn is_harmless(says: &Says) -> bool {
    match says {
        Says::Unread { .. } => true,
        Says::Level { kind, .. } => *kind == Kind::DeviceOffline,
        Says::Moment { .. } | Says::Access { .. } | Says::Echo { .. } => false,
    }
}

fn topic() -> impl Strategy<Value = (&'static str, &'static str, &'static str)> {
    prop::sample::select(TOPICS)
}

fn role() -> impl Strategy<Value = Role> {
    prop::sample::select(ROLES)
}

proptest! {
    #[test]
    fn any_bytes_on_any_topic_are_survived(
        role in role(),
        at in topic(),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        retained in any::<bool>(),
    ) {
        for reading in readings(role, at, &bytes, retained) {
            // Only a whole message of ASCII could say something by chance.
            prop_assert!(is_harmless(&reading.says) || bytes.is_ascii(), "{reading:?}");
        }
    }

    #[test]
    fn anything_like_json_on_any_topic_is_survived(
        role in role(),
        at in topic(),
        text in "[\\[\\]{}:,\"\\\\ a-zA-Z0-9.烟-]{0,120}",
    ) {
        readings(role, at, text.as_bytes(), false);
    }

    #[test]
    fn nothing_is_made_of_nothing(
        role in role(),
        at in topic(),
        key in "(smoke|alarm|contact|state|action|event_type|sos|battery|tamper|lock_state|value)",
        nothing in "(|null|\"\"|\"null\"|\"unknown\"|\"Unknown\"|\"unavailable\"|\"undefined\"|\\{\\}|\\[\\])",
        bare in any::<bool>(),
        retained in any::<bool>(),
    ) {
        let payload = if bare { nothing.clone() } else { format!("{{\"{key}\":{nothing}}}") };
        for reading in readings(role, at, payload.as_bytes(), retained) {
            prop_assert!(is_harmless(&reading.says), "{payload} {reading:?}");
        }
        let text = nothing.trim_matches('"');
        for reading in readings(role, at, text.as_bytes(), retained) {
            let is_card = matches!(reading.says, Says::Access { .. });
            prop_assert!(is_harmless(&reading.says) && !is_card, "{text} {reading:?}");
        }
    }
}

/// A code, a card number, a person's name: nothing of them leaves an adapter but a keyed digest.
#[test]
fn no_private_text_leaves_an_entity() {
    for (role, topic, address) in [
        (Role::Keypad, "gate/text_sensor/entered/state", "gate"),
        (Role::Keypad, "gate/sensor/code/state", "gate"),
        (Role::Reader, "gate/text_sensor/tag/state", "gate"),
        (Role::Reader, "gate/card", "gate"),
        (Role::Lock, "gate/text/pin/state", "gate"),
        (Role::Lock, "gate/text_sensor/last_code/state", "gate"),
    ] {
        let book = book([enrolment("x", "esphome", address, role)]);
        let signal = Signal {
            topic,
            payload: b"47114711",
            retained: false,
            username: "x",
        };
        let Heard::Message(message) = read(&book, &signal) else {
            panic!("{topic}");
        };
        assert_eq!(message.redacted, Some(Vec::new()), "{topic}");
        assert!(!format!("{message:?}").contains("4711"), "{topic}");
    }
    let event = r#"{"event_type":"granted","card":"47114711"}"#;
    let book = book([enrolment("x", "esphome", "gate", Role::Reader)]);
    let signal = Signal {
        topic: "gate/event/reader/state",
        payload: event.as_bytes(),
        retained: false,
        username: "x",
    };
    let Heard::Message(message) = read(&book, &signal) else {
        panic!();
    };
    let redacted = String::from_utf8(message.redacted.unwrap()).unwrap();
    assert!(redacted.contains("granted") && !redacted.contains("4711"));
}

/// The registry is the only place where a family is named.
#[test]
fn an_earlier_family_never_hides_a_later_ones_device() {
    let book = book([
        enrolment("a", "ha-statestream", "ha/binary_sensor/a", Role::Smoke),
        enrolment("b", "esphome", "ha/binary_sensor/b", Role::Smoke),
        enrolment("c", "tasmota", "ha/binary_sensor/c", Role::Smoke),
    ]);
    let heard = |topic: &str, payload: &str| {
        let signal = Signal {
            topic,
            payload: payload.as_bytes(),
            retained: false,
            username: "x",
        };
        read(&book, &signal)
    };
    for device in ["a", "b"] {
        let heard = heard(&format!("ha/binary_sensor/{device}/state"), "on");
        let Heard::Message(message) = heard else {
            panic!("{heard:?}");
        };
        assert_eq!(message.readings[0].point.device.to_string(), device);
    }
    assert!(matches!(
        heard("ha/binary_sensor/c/state", "on"),
        Heard::NoAdapter(_)
    ));
    assert!(matches!(
        heard("ha/binary_sensor/d/state", "on"),
        Heard::Unenrolled { .. }
    ));
}
