//! Our own device schema: `antuo/v1/{device}/{point}`, one JSON object a message.
//!
//! Strict, because its writers can read the schema: what breaks it is told, never guessed. Only the
//! device's clock is taken leniently, being evidence and nothing more (R12).

use std::borrow::Cow;

use domain::config::{Enrolment, Role};
use domain::digest::CredentialDigest;
use domain::event::{How, State, Unread};
use domain::id::PointKey;
use domain::kind::Kind;
use domain::time::Timestamp;
use serde_json::Value;

use super::json::{self, Pairs};
use super::{Book, Heard, Message, Order, PAIRS, Says, Signal, VendorId, Wish, book::below};

/// The word an enrolment selects this family by.
pub const NAME: &str = "antuo";
/// Longest message id, in bytes. A longer one is rejected as too long.
pub const ID_MAX: usize = 64;
const PREFIX: &str = "antuo/v1";
/// Last level of the topic on which a device is told something (R8: never evidence).
const SET: &str = "set";
const ACCESS: &[Kind] = &[
    Kind::AccessRead,
    Kind::AccessGranted,
    Kind::AccessDenied,
    Kind::AccessExitRequest,
];

/// Whether a topic is one of our own.
pub fn is_spoken(topic: &str) -> bool {
    below(topic, PREFIX).is_some()
}

/// Reads a message of our own schema; none when the topic is not one.
pub fn read(book: &Book, signal: &Signal<'_>) -> Option<Heard> {
    let place = below(signal.topic, PREFIX)?;
    let told = signal
        .topic
        .strip_suffix(SET)
        .and_then(|t| t.strip_suffix('/'));
    if told.is_some_and(|address| book.at(NAME, address).next().is_some()) {
        return Some(Heard::NoEvidence);
    }
    let Some(enrolment) = book.at(NAME, signal.topic).next() else {
        return Some(Heard::Unenrolled {
            source: named(place),
            through: None,
        });
    };
    let point = enrolment.key();
    let message = Message::from([point.clone()]);
    Some(Heard::Message(match json::object(signal.payload) {
        Err(why) => message.unread(&point, why),
        Ok(pairs) => {
            let redacted = json::redacted(&pairs);
            match say(book, enrolment, &pairs) {
                Ok(said) => Message {
                    alive: message.alive,
                    redacted,
                    ..said
                },
                Err(why) => Message {
                    redacted,
                    ..message
                }
                .unread(&point, why),
            }
        }
    }))
}

/// How a device of our own schema is told: `{its topic}/set`, one JSON object.
pub fn order(enrolment: &Enrolment, wish: Wish, id: &str) -> Option<Order> {
    let mut body = serde_json::json!({"id": id, "do": wish.as_str()});
    if let Some(why) = wish.why() {
        body["why"] = why.into();
    }
    Some(Order {
        topic: format!("{}/{SET}", enrolment.address),
        payload: body.to_string().into_bytes(),
        // Whether a released contact opens is up to people.
        echoes: enrolment.role != Role::Door,
    })
}

fn named(place: &str) -> Option<PointKey> {
    let (device, point) = place.split_once('/')?;
    Some(PointKey {
        device: device.parse().ok()?,
        point: point.parse().ok()?,
    })
}

fn say(book: &Book, enrolment: &Enrolment, pairs: &Pairs) -> Result<Message, Unread> {
    let id = required_text(pairs, "id")?;
    if id.is_empty() {
        return Err(Unread::MissingField);
    }
    if id.len() > ID_MAX {
        return Err(Unread::TooLong);
    }
    let kind: Kind = required_text(pairs, "kind")?
        .parse()
        .map_err(|_| Unread::UnknownWord)?;
    let state = match required_text(pairs, "state")? {
        "raised" => State::Raised,
        "cleared" => State::Cleared,
        _ => return Err(Unread::UnknownWord),
    };
    if !fits(enrolment.role, kind) {
        return Err(Unread::NotThisRole);
    }
    let mut message = Message {
        vendor: Some(VendorId::Unique(id.to_owned())),
        occurred_at: field(pairs, "at")
            .and_then(Value::as_i64)
            .map(Timestamp::from_micros),
        ..Message::default()
    };
    let says = statement(book, enrolment, kind, state, pairs)?;
    message.says(&enrolment.key(), says);
    Ok(message)
}

fn statement(
    book: &Book,
    enrolment: &Enrolment,
    kind: Kind,
    state: State,
    pairs: &Pairs,
) -> Result<Says, Unread> {
    if ACCESS.contains(&kind) {
        if state == State::Cleared {
            return Err(Unread::WrongType);
        }
        if kind == Kind::AccessExitRequest {
            return Ok(Says::Moment { kind, state });
        }
        return Ok(Says::Access {
            kind,
            credential: Some(credential(book, pairs)?),
            how: how(enrolment.role),
        });
    }
    // A press carries an id of its own: each is an activation, whatever came before.
    if matches!(kind, Kind::AlarmPressed | Kind::AlarmDuress) {
        return Ok(match state {
            State::Raised => Says::Moment { kind, state },
            State::Cleared => Says::Moment {
                kind: Kind::AlarmRestored,
                state,
            },
        });
    }
    if enrolment.momentary && kind.hazard().is_some() {
        return Ok(Says::Moment { kind, state });
    }
    Ok(level(kind, state))
}

/// A condition by its raising kind: `door.closed` raised is `door.opened` gone.
fn level(kind: Kind, state: State) -> Says {
    let ended = PAIRS.iter().find(|(_, end)| *end == kind);
    let raising = ended.map_or(kind, |(raising, _)| *raising);
    let there = (state == State::Raised) != ended.is_some();
    Says::Level {
        kind: raising,
        key: Cow::Borrowed("state"),
        active: there.then(|| raising.severity()),
    }
}

fn credential(book: &Book, pairs: &Pairs) -> Result<CredentialDigest, Unread> {
    match field(pairs, "credential") {
        None | Some(Value::Null) => Err(Unread::MissingField),
        Some(Value::String(number)) if !number.is_empty() => Ok(book.hide(number)),
        Some(_) => Err(Unread::WrongType),
    }
}

/// By what means a credential is given at a point of this role.
#[must_use]
pub const fn how(role: Role) -> How {
    match role {
        Role::Keypad => How::Code,
        Role::PanicButton
        | Role::Smoke
        | Role::Heat
        | Role::Gas
        | Role::Co
        | Role::ManualCallPoint
        | Role::Water
        | Role::Door
        | Role::Lock
        | Role::Reader
        | Role::Motion
        | Role::Siren
        | Role::Lamp
        | Role::Bridge
        | Role::Panel
        | Role::Node => How::Card,
    }
}

fn field<'p>(pairs: &'p Pairs, name: &str) -> Option<&'p Value> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, v)| v)
}

fn required_text<'p>(pairs: &'p Pairs, name: &str) -> Result<&'p str, Unread> {
    match field(pairs, name) {
        None | Some(Value::Null) => Err(Unread::MissingField),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Unread::WrongType),
    }
}

/// Which kinds a point of a role may speak of (R5).
fn fits(role: Role, kind: Kind) -> bool {
    use Kind as K;
    const ANY: &[Kind] = &[
        K::DeviceTamper,
        K::DeviceBatteryLow,
        K::DeviceFault,
        K::DeviceOffline,
        K::DeviceOnline,
    ];
    const TESTS: &[Kind] = &[K::AlarmTest, K::AlarmSilenced];
    const PANEL: &[Kind] = &[
        K::IntrusionAlarm,
        K::AlarmPressed,
        K::AlarmDuress,
        K::FireSmokeAlarm,
        K::FireHeatAlarm,
        K::FireGasAlarm,
        K::FireCoAlarm,
        K::FireManualCallPointAlarm,
        K::FireUnspecifiedAlarm,
        K::WaterLeakAlarm,
    ];
    const PRESS: &[Kind] = &[K::AlarmPressed, K::AlarmDuress, K::AlarmTest];
    let own: [&[Kind]; 2] = match role {
        Role::PanicButton => [PRESS, &[]],
        Role::Keypad => [PRESS, ACCESS],
        Role::Smoke => [&[K::FireSmokeAlarm, K::FireSmokePrealarm], TESTS],
        Role::Heat => [&[K::FireHeatAlarm], TESTS],
        Role::Gas => [&[K::FireGasAlarm], TESTS],
        Role::Co => [&[K::FireCoAlarm], TESTS],
        Role::ManualCallPoint => [&[K::FireManualCallPointAlarm], TESTS],
        Role::Water => [&[K::WaterLeakAlarm], TESTS],
        Role::Door => [
            &[K::DoorOpened, K::DoorClosed, K::DoorForced, K::DoorHeld],
            &[],
        ],
        Role::Lock => [&[K::LockLocked, K::LockUnlocked, K::LockJammed], ACCESS],
        Role::Reader => [ACCESS, &[]],
        Role::Motion => [&[K::IntrusionAlarm], &[]],
        Role::Siren => [&[K::SirenSounding], &[]],
        Role::Lamp => [&[K::LampLit], &[]],
        Role::Node => [&[], &[]],
        Role::Panel => [PANEL, TESTS],
        Role::Bridge => [&[K::BridgeOffline, K::BridgeOnline], &[]],
    };
    ANY.contains(&kind) || own.iter().any(|kinds| kinds.contains(&kind))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::adapter::Reading;
    use crate::adapter::book::tests::{book, enrolment};

    fn heard(role: Role, body: &str) -> Message {
        let book = book([enrolment("b", NAME, "antuo/v1/b/x", role)]);
        let signal = Signal {
            topic: "antuo/v1/b/x",
            payload: body.as_bytes(),
            retained: false,
            username: "b",
        };
        match read(&book, &signal) {
            Some(Heard::Message(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    fn why(role: Role, body: &str) -> Unread {
        match heard(role, body).readings[..] {
            [
                Reading {
                    says: Says::Unread { why, key: None },
                    ..
                },
            ] => why,
            ref other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_press_is_a_moment_with_an_id() {
        let message = heard(
            Role::PanicButton,
            r#"{"id":"b-17","kind":"alarm.pressed","state":"raised","at":5,"extra":1}"#,
        );
        assert_eq!(message.vendor, Some(VendorId::Unique("b-17".into())));
        assert_eq!(message.occurred_at, Some(Timestamp::from_micros(5)));
        assert_eq!(
            message.readings[0].says,
            Says::Moment {
                kind: Kind::AlarmPressed,
                state: State::Raised
            }
        );
    }

    #[test]
    fn a_bad_clock_never_costs_a_press() {
        let body = r#"{"id":"1","kind":"alarm.pressed","state":"raised","at":"yesterday"}"#;
        let message = heard(Role::PanicButton, body);
        assert_eq!((message.occurred_at, message.readings.len()), (None, 1));
    }

    #[test]
    fn each_breach_of_the_schema_has_its_name() {
        let press =
            |rest: &str| format!("{{\"kind\":\"alarm.pressed\",\"state\":\"raised\"{rest}}}");
        let button = |body: &str| why(Role::PanicButton, body);
        assert_eq!(button(&press("")), Unread::MissingField);
        assert_eq!(button(&press(",\"id\":\"\"")), Unread::MissingField);
        assert_eq!(button(&press(",\"id\":5")), Unread::WrongType);
        let long = format!(",\"id\":\"{}\"", "x".repeat(ID_MAX + 1));
        assert_eq!(button(&press(&long)), Unread::TooLong);
        assert_eq!(button("{}"), Unread::MissingField);
        assert_eq!(button(""), Unread::NotJson);
        let word = r#"{"id":"1","kind":"alarm.shout","state":"raised"}"#;
        assert_eq!(button(word), Unread::UnknownWord);
        let state = r#"{"id":"1","kind":"alarm.pressed","state":"on"}"#;
        assert_eq!(button(state), Unread::UnknownWord);
        let fire = r#"{"id":"1","kind":"fire.smoke.alarm","state":"raised"}"#;
        assert_eq!(button(fire), Unread::NotThisRole);
        let tap = r#"{"id":"1","kind":"access.read","state":"raised"}"#;
        assert_eq!(why(Role::Reader, tap), Unread::MissingField);
    }

    #[test]
    fn a_card_number_stays_inside() {
        let body = r#"{"id":"1","kind":"access.granted","state":"raised","credential":"04A1B2C3"}"#;
        let message = heard(Role::Reader, body);
        let shown = format!("{message:?}");
        assert!(!shown.contains("04A1B2C3"), "{shown}");
        let redacted = String::from_utf8(message.redacted.unwrap()).unwrap();
        assert!(!redacted.contains("04A1B2C3"), "{redacted}");
    }

    #[test]
    fn a_closed_door_is_an_open_one_gone() {
        let level = |kind, state| {
            let body = format!("{{\"id\":\"1\",\"kind\":\"{kind}\",\"state\":\"{state}\"}}");
            match heard(Role::Door, &body).readings[..] {
                [
                    Reading {
                        says: Says::Level { kind, active, .. },
                        ..
                    },
                ] => (kind, active.is_some()),
                ref other => panic!("{other:?}"),
            }
        };
        assert_eq!(level("door.opened", "raised"), (Kind::DoorOpened, true));
        assert_eq!(level("door.opened", "cleared"), (Kind::DoorOpened, false));
        assert_eq!(level("door.closed", "raised"), (Kind::DoorOpened, false));
    }

    const DOCUMENT: &str = include_str!("../../../docs/devices.md");

    fn words_between_ticks(text: &str) -> Vec<&str> {
        text.split('`').skip(1).step_by(2).collect()
    }

    /// The published table of roles and kinds is the one that is enforced.
    #[test]
    fn the_document_names_every_kind_of_every_role() {
        let mut documented = std::collections::BTreeSet::new();
        let rows = DOCUMENT.lines().filter(|line| line.starts_with("| "));
        let any = "`device.battery_low`, `device.tamper`, `device.fault`, `device.offline`, `device.online`";
        for row in rows {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            for word in words_between_ticks(cells[1]) {
                let Ok(role) = serde_json::from_value::<Role>(word.into()) else {
                    continue;
                };
                let own = format!("{any}, {}", cells[2]);
                let mut kinds = words_between_ticks(&own);
                kinds.sort_unstable();
                let all = Kind::ALL.iter().filter(|kind| fits(role, **kind));
                let mut fitting: Vec<&str> = all.map(|kind| kind.as_str()).collect();
                fitting.sort_unstable();
                assert_eq!(kinds, fitting, "{word}");
                documented.insert(role);
            }
        }
        assert_eq!(documented.len(), 17);
        assert!(DOCUMENT.contains(&format!("| any | {any} |")));
    }

    /// Every example can be pasted and is understood.
    #[test]
    fn the_documents_examples_are_understood() {
        let mut role = None;
        let mut examples = 0;
        for line in DOCUMENT.lines() {
            if let Some((word, _)) = line.strip_prefix("# ").and_then(|l| l.split_once(':')) {
                role = serde_json::from_value(word.into()).ok();
            }
            let (Some(role), Some((_, sent))) = (role, line.split_once(" -q 1 -t ")) else {
                continue;
            };
            let (topic, body) = sent.split_once(" -m ").unwrap();
            let book = book([enrolment("b", NAME, topic, role)]);
            let signal = Signal {
                topic,
                payload: body.trim_matches('\'').as_bytes(),
                retained: false,
                username: "b",
            };
            let Some(Heard::Message(message)) = read(&book, &signal) else {
                panic!("{line}");
            };
            let said = &message.readings[0].says;
            assert!(!matches!(said, Says::Unread { .. }), "{line}: {said:?}");
            examples += 1;
        }
        assert_eq!(examples, 6);
    }
}
