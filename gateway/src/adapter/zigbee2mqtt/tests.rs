//! What a message says, where no corpus case can show it.
#![allow(clippy::unwrap_used, clippy::panic)]

use domain::config::Passage;
use proptest::prelude::*;

use super::super::book::tests::{book, enrolment};
use super::super::{Reading, VendorId};
use super::*;

fn keypad(passage: Passage) -> Book {
    book([Enrolment {
        passage,
        ..enrolment("k", NAME, "zigbee2mqtt/k", Role::Keypad)
    }])
}

fn signal<'a>(topic: &'a str, payload: &'a str) -> Signal<'a> {
    Signal {
        topic,
        payload: payload.as_bytes(),
        retained: false,
        username: "z",
    }
}

fn heard(book: &Book, topic: &str, payload: &str) -> Message {
    match read(book, &signal(topic, payload)) {
        Some(Heard::Message(message)) => message,
        other => panic!("{other:?}"),
    }
}

const CODED: &str = r#"{"action":"disarm","action_code":"4711","action_transaction":9,"admin_code":"4712","last_added_user_code":4713,"users":{"1":{"pin_code":"4714"}}}"#;

#[test]
fn a_code_leaves_only_as_a_digest() {
    let book = keypad(Passage::In);
    let message = heard(&book, "zigbee2mqtt/k", CODED);
    assert_eq!(message.vendor, Some(VendorId::Weak("9".into())));
    assert_eq!(
        message.readings[0].says,
        Says::Access {
            kind: Kind::AccessRead,
            credential: Some(book.hide("4711")),
            how: domain::event::How::Code,
        }
    );
    assert!(!format!("{message:?}").contains("471"));
    let redacted = String::from_utf8(message.redacted.unwrap()).unwrap();
    assert!(!redacted.contains("471"), "{redacted}");
    let alone = heard(&book, "zigbee2mqtt/k/action_code", "4711");
    assert_eq!(alone.redacted, Some(Vec::new()));
    assert!(!format!("{alone:?}").contains("471"));
}

#[test]
fn a_code_at_a_keypad_that_counts_nobody_says_nothing() {
    assert_eq!(
        heard(&keypad(Passage::None), "zigbee2mqtt/k", CODED).readings,
        []
    );
}

#[test]
fn a_call_for_help_never_carries_a_weak_id() {
    let help = CODED.replace("disarm", "panic");
    let message = heard(&keypad(Passage::In), "zigbee2mqtt/k", &help);
    assert_eq!(
        message.vendor, None,
        "a keypad that never advances its number must ring twice"
    );
    assert!(matches!(
        message.readings[..],
        [Reading {
            says: Says::Moment { .. },
            ..
        }]
    ));
}

#[test]
fn the_device_clock_is_read_in_its_three_forms() {
    let at = |value: &str| {
        let payload = format!("{{\"smoke\":false,\"last_seen\":{value}}}");
        heard(&keypad(Passage::None), "zigbee2mqtt/k", &payload).occurred_at
    };
    let expected = Some(Timestamp::from_micros(1_700_000_000_000_000));
    assert_eq!(at("1700000000000"), expected);
    assert_eq!(at("\"2023-11-14T22:13:20Z\""), expected);
    assert_eq!(at("\"2023-11-15T06:13:20+08:00\""), expected);
    assert_eq!(at("\"soon\""), None);
}

#[test]
fn what_a_bridge_says_of_a_device_proves_only_the_bridge_alive() {
    let book = keypad(Passage::None);
    let offline = heard(&book, "zigbee2mqtt/k/availability", "offline");
    let alive: Vec<String> = offline.alive.iter().map(ToString::to_string).collect();
    assert_eq!(alive, ["zigbee2mqtt/bridge"]);
    let state = heard(&book, "zigbee2mqtt/k", "{}");
    assert_eq!(state.alive.len(), 2);
    assert_eq!(heard(&book, "zigbee2mqtt/k", "").alive, []);
}

#[test]
fn inventories_and_commands_are_no_evidence() {
    let book = keypad(Passage::None);
    let huge = "x".repeat(json::PAYLOAD_MAX * 2);
    for topic in [
        "bridge/devices",
        "bridge/request/restart",
        "k/set",
        "k/get/action",
        "x/set/y",
    ] {
        let topic = format!("zigbee2mqtt/{topic}");
        assert_eq!(
            read(&book, &signal(&topic, &huge)),
            Some(Heard::NoEvidence),
            "{topic}"
        );
    }
    assert_eq!(read(&book, &signal("zigbee2mqttx/k", "{}")), None);
    let long = heard(&book, "zigbee2mqtt/k", &huge).readings;
    assert!(matches!(
        long[0].says,
        Says::Unread {
            why: Unread::TooLong,
            key: None
        }
    ));
}

proptest! {
    #[test]
    fn a_detector_never_says_more_than_its_hazard(
        key in "(smoke|alarm_1|alarm|heat|gas|carbon_monoxide|sos|contact|state|action|test|tamper)",
        value in "(true|false|0|1|0.5|\"ON\"|\"off\"|\"LOCK\"|\"emergency\"|null|\"\"|[1]|\\{\\})",
    ) {
        let book = book([enrolment("s", NAME, "zigbee2mqtt/s", Role::Smoke)]);
        let message = heard(&book, "zigbee2mqtt/s", &format!("{{\"{key}\":{value}}}"));
        for reading in message.readings {
            if let Says::Level { kind, .. } | Says::Moment { kind, .. } = reading.says {
                let own = kind.as_str().starts_with("fire.")
                    || [Kind::AlarmTest, Kind::DeviceTamper].contains(&kind);
                prop_assert!(own, "{}", kind);
            }
        }
    }
}
