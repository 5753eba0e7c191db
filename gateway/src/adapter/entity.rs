//! Entities of Home Assistant's model, which ESPHome shares: a component, an object id, and a state
//! in plain text.
//!
//! Owns what an entity's state says about the points enrolled there. Knows neither who publishes it
//! nor what was said before.

mod event;
mod names;
mod topic;
mod words;

use std::borrow::Cow;

use domain::config::{Enrolment, Passage, Role};
use domain::event::{State, Unread};
use domain::kind::Kind;
use serde_json::Value;

use super::place::{is_listed, is_low, matters, on_means, tell, unread};
use super::sense::{Sense, Word};
use super::{Book, Message, Says, antuo, json};
use names::Name;
pub use topic::{Entity, STATE, is_command, is_discovery};

/// What the state of an entity says about the points enrolled for it.
pub fn state(
    book: &Book,
    points: &[&Enrolment],
    entity: &Entity<'_>,
    payload: &[u8],
    message: &mut Message,
) {
    if is_private(points, entity) {
        message.redacted = Some(Vec::new());
    }
    let value = match read(entity, payload, message) {
        Ok(value) => value,
        Err(why) if entity.speaks() => {
            message.says(&points[0].key(), Says::Unread { why, key: None });
            return;
        }
        Err(_) => return,
    };
    let Some(text) = value else {
        return;
    };
    match entity.component {
        "lock" => look_up(words::LOCK, entity, &text, points, message),
        "cover" => look_up(words::COVER, entity, &text, points, message),
        "alarm_control_panel" => look_up(words::PANEL, entity, &text, points, message),
        "event" => event::press(points, entity, &text, message),
        "sensor" | "text_sensor" => sensor(book, points, entity, &text, message),
        "binary_sensor" => binary(points, entity, &text, message),
        "switch" | "input_boolean" if on_means(points).is_some() => {
            binary(points, entity, &text, message);
        }
        "" if is_credential(points, entity) => credential(book, points, &text, message),
        "" => binary(points, entity, &text, message),
        // A lamp, a siren, a button: the echo of somebody's command, not evidence (R8).
        _ => {}
    }
}

/// The state as a word; none when it says nothing (R4).
fn read(
    entity: &Entity<'_>,
    payload: &[u8],
    message: &mut Message,
) -> Result<Option<String>, Unread> {
    let text = json::text(payload)?.trim();
    // Zero length means that a retained copy was deleted.
    if text.is_empty() {
        message.alive.clear();
        return Ok(None);
    }
    let value = match text.as_bytes()[0] {
        b'{' => member(entity, payload, message)?,
        b'[' => return Err(Unread::WrongType),
        b'"' => serde_json::from_str(text).map_err(|_| Unread::NotJson)?,
        _ => Value::String(text.to_owned()),
    };
    if json::says_nothing(&value) {
        return Ok(None);
    }
    let word = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return Err(Unread::WrongType),
    };
    let nothing = ["none", "nan"].iter().any(|w| word.eq_ignore_ascii_case(w));
    Ok((!nothing).then_some(word))
}

/// The member of a document that is its state.
fn member(entity: &Entity<'_>, payload: &[u8], message: &mut Message) -> Result<Value, Unread> {
    let pairs = json::object(payload)?;
    if message.redacted.is_none() {
        message.redacted = json::redacted(&pairs);
    }
    let names: &[&str] = if entity.component == "event" {
        &["event_type"]
    } else {
        &[STATE, "value", "event_type"]
    };
    let found = names
        .iter()
        .find_map(|name| pairs.iter().find(|(key, _)| key == name));
    found
        .map(|(_, value)| value.clone())
        .ok_or(Unread::MissingField)
}

/// On and off at one input.
fn binary(points: &[&Enrolment], entity: &Entity<'_>, text: &str, message: &mut Message) {
    let named = if is_listed(points, "alarm_fields", entity.object) {
        Name::About(Sense::Role)
    } else {
        names::name(entity.object, points)
    };
    let sense = match named {
        Name::About(sense) => sense,
        Name::Neutral => match names::own(points) {
            Some(sense) => sense,
            None => return at_reader(points, text, message),
        },
        Name::Exit => return exit(points, text, message),
        Name::Other | Name::Credential => return,
    };
    let is_inverse = sense == Sense::Away
        || (on_means(points) == Some(Word::Clear) && words::is_of_the_role(sense));
    say(
        words::binary(sense, text, is_inverse),
        sense,
        entity,
        points,
        message,
    );
}

/// A number, or a word at a text sensor. A concentration is no alarm, whatever its height.
fn sensor(
    book: &Book,
    points: &[&Enrolment],
    entity: &Entity<'_>,
    text: &str,
    message: &mut Message,
) {
    let named = names::name(entity.object, points);
    if is_credential(points, entity) {
        return credential(book, points, text, message);
    }
    let number = text.trim_end_matches('%').trim_end().parse::<f64>().ok();
    match (named, number) {
        (Name::About(Sense::Battery), Some(number)) => {
            // Many nodes name a voltage `battery`.
            let is_voltage = number <= 5.0 && number.fract() != 0.0;
            if let Some(low) = is_low(&Value::from(number), points).filter(|_| !is_voltage) {
                let word = if low { Word::Active } else { Word::Clear };
                tell(Sense::Battery, word, entity.address, points, message);
            }
        }
        (Name::About(sense), None) => {
            say(
                words::binary(sense, text, sense == Sense::Away),
                sense,
                entity,
                points,
                message,
            );
        }
        (Name::Neutral, None) if points.iter().any(|e| e.address == entity.address) => {
            if let Some(sense) = names::own(points)
                && let Some(said) = words::binary(sense, text, false)
            {
                say(Some(said), sense, entity, points, message);
            }
        }
        (Name::Neutral | Name::About(_) | Name::Other | Name::Exit | Name::Credential, _) => {}
    }
}

/// Says what a word means, or tells that nobody knows it.
fn say(
    said: Option<words::Said>,
    about: Sense,
    entity: &Entity<'_>,
    points: &[&Enrolment],
    message: &mut Message,
) {
    match said {
        Some(said) => {
            for (sense, word) in said {
                tell(sense, word, entity.address, points, message);
            }
        }
        None if matters(about) && names::lands(about, points) => {
            unread(points, Unread::UnknownWord, entity.address, message);
        }
        None => {}
    }
}

fn look_up(
    table: super::sense::Words,
    entity: &Entity<'_>,
    text: &str,
    points: &[&Enrolment],
    message: &mut Message,
) {
    let said = table
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text))
        .map(|(_, says)| says.to_vec());
    let about = table
        .iter()
        .find_map(|(_, says)| says.first())
        .map_or(Sense::Role, |(sense, _)| *sense);
    say(said, about, entity, points, message);
}

fn with_role<'e>(points: &[&'e Enrolment], roles: &[Role]) -> Option<&'e Enrolment> {
    points.iter().copied().find(|e| roles.contains(&e.role))
}

/// A known card held to a reader, as a node with a fixed list of cards shows it.
fn at_reader(points: &[&Enrolment], text: &str, message: &mut Message) {
    let reader = with_role(points, &[Role::Reader]);
    if let (Some(reader), Some(true)) = (reader, json::truth(&Value::from(text))) {
        message.says(
            &reader.key(),
            Says::Access {
                kind: Kind::AccessRead,
                credential: None,
                how: antuo::how(reader.role),
            },
        );
    }
}

/// An exit button beside a reader or a lock.
fn exit(points: &[&Enrolment], text: &str, message: &mut Message) {
    let found = with_role(points, &[Role::Reader, Role::Lock, Role::Keypad]);
    if let (Some(point), Some(true)) = (found, json::truth(&Value::from(text))) {
        message.says(
            &point.key(),
            Says::Moment {
                kind: Kind::AccessExitRequest,
                state: State::Raised,
            },
        );
    }
}

/// Whether a text is a card number or a code: at a reader or a keypad, unless its name says that it
/// is something else.
fn is_credential(points: &[&Enrolment], entity: &Entity<'_>) -> bool {
    with_role(points, &[Role::Reader, Role::Keypad]).is_some()
        && ["sensor", "text_sensor", ""].contains(&entity.component)
        && match names::name(entity.object, points) {
            Name::Credential | Name::Neutral => true,
            Name::About(_) | Name::Other | Name::Exit => false,
        }
}

/// Whether a state may hold a number or code that must not rest anywhere.
fn is_private(points: &[&Enrolment], entity: &Entity<'_>) -> bool {
    is_credential(points, entity) || json::is_secret(entity.object)
}

/// What a reader or keypad read: a decision, a call for help, or a number that leaves only hidden.
fn credential(book: &Book, points: &[&Enrolment], text: &str, message: &mut Message) {
    let Some(point) = with_role(points, &[Role::Reader, Role::Keypad]) else {
        return;
    };
    if let Some(kind) = event::decision(text) {
        let how = antuo::how(point.role);
        let credential = None;
        message.says(
            &point.key(),
            Says::Access {
                kind,
                credential,
                how,
            },
        );
        return;
    }
    if point.role == Role::Keypad {
        if event::is_help(text) {
            let (kind, state) = (Kind::AlarmPressed, State::Raised);
            message.says(&point.key(), Says::Moment { kind, state });
            return;
        }
        // A code at a keypad that counts nobody says nothing.
        if point.passage == Passage::None {
            return;
        }
    }
    message.says(
        &point.key(),
        Says::Access {
            kind: Kind::AccessRead,
            credential: Some(book.hide(text)),
            how: antuo::how(point.role),
        },
    );
}

/// One attribute of an entity on a topic of its own: battery, tamper, the type of an event. All else
/// describes the entity and says nothing.
pub fn attribute(
    points: &[&Enrolment],
    entity: &Entity<'_>,
    payload: &[u8],
    message: &mut Message,
) {
    let name = entity.rest;
    if json::is_secret(name) || ["changed_by", "user", "username"].contains(&name) {
        message.redacted = Some(Vec::new());
        return;
    }
    let known = [
        "battery",
        "battery_level",
        "battery_low",
        "low_battery",
        "tamper",
        "tampered",
        "event_type",
    ];
    if !known.contains(&name) {
        return;
    }
    let value = match json::text(payload) {
        Ok(text) => {
            let text = text.trim();
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
        }
        Err(why) => {
            message.says(&points[0].key(), Says::Unread { why, key: None });
            return;
        }
    };
    let truth = json::truth(&value);
    let (sense, is_there) = match name {
        "event_type" => {
            if let (Value::String(word), "event") = (&value, entity.component) {
                event::press(points, entity, word.trim(), message);
            }
            return;
        }
        "battery" | "battery_level" => (Sense::Battery, is_low(&value, points)),
        "battery_low" | "low_battery" => (Sense::Battery, truth),
        _ => (Sense::Tamper, truth),
    };
    if let Some(is_there) = is_there {
        let word = if is_there { Word::Active } else { Word::Clear };
        let key = format!("{}/{name}", entity.address);
        tell(sense, word, &key, points, message);
    }
}

/// The publisher says that it cannot reach an entity, or, by any other word, that it can.
pub fn reachable(
    points: &[&Enrolment],
    entity: &Entity<'_>,
    payload: &[u8],
    message: &mut Message,
) {
    let Ok(text) = json::text(payload) else {
        return;
    };
    let word = text.trim().trim_matches('"').trim();
    let is_away = word.eq_ignore_ascii_case("unavailable");
    if is_away || !(json::says_nothing(&Value::from(word))) {
        message.says(
            &points[0].key(),
            Says::Level {
                kind: Kind::DeviceOffline,
                key: Cow::Owned(entity.address.to_owned()),
                active: is_away.then(|| Kind::DeviceOffline.severity()),
            },
        );
    }
}
