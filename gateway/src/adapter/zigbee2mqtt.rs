//! zigbee2mqtt 1.x and 2.x in every output it can be set to.
//!
//! One message repeats the whole cached state of a device, so nothing here is an edge: each known
//! key becomes a level, and `site` finds what changed. Topics that carry commands are never
//! evidence (R8); codes and PINs leave only as keyed digests.

mod actions;
mod keys;
mod models;
mod orders;

use std::borrow::Cow;

use domain::config::{Enrolment, Role};
use domain::event::Unread;
use domain::id::PointKey;
use domain::kind::Kind;
use domain::time::Timestamp;
use serde_json::Value;

use super::json::{self, Pairs};
use super::place::{Place, is_listed, is_low, matters, on_means, place, tell};
use super::presence::presence_of;
use super::sense::{Sense, Word, Words};
use super::{AVAILABILITY, Book, Heard, Message, Options, Says, Signal, book::below};
use keys::{Meaning, meaning};
pub use orders::order;

/// The word an enrolment selects this family by.
pub const NAME: &str = "zigbee2mqtt";
/// The base topic it comes with.
const DEFAULT_BASE: &str = "zigbee2mqtt";

/// The base topic of the bridge an enrolment stands behind, or is. A base of several levels needs
/// its bridge enrolled.
pub fn bridge(enrolment: &Enrolment) -> Option<&str> {
    let address = enrolment.address.as_str();
    if enrolment.role == Role::Bridge {
        let base = address.strip_suffix("/state").unwrap_or(address);
        return Some(base.strip_suffix("/bridge").unwrap_or(base));
    }
    address.split_once('/').map(|(base, _)| base)
}

/// Whether a topic lies below the base it comes with.
pub fn is_spoken(topic: &str) -> bool {
    below(topic, DEFAULT_BASE).is_some()
}

/// The address an installer would enrol the device behind a topic at; none for a topic that is no
/// device's. The option `output` is the setting of that name.
pub fn address<'t>(topic: &'t str, payload: &[u8], options: &Options) -> Option<&'t str> {
    let (base, rest) = topic.split_once('/')?;
    if options.get("role").and_then(Value::as_str) == Some("bridge") {
        return Some(base);
    }
    let (above, last) = topic.rsplit_once('/')?;
    if rest.starts_with("bridge/") || is_command(above, last) {
        return None;
    }
    let is_attribute = match options.get("output").and_then(Value::as_str) {
        Some("attribute") => true,
        Some("attribute_and_json") => !payload.starts_with(b"{"),
        // Beside JSON the action has a topic of its own.
        Some(_) | None => last == "action",
    };
    if last == AVAILABILITY || is_attribute {
        (above != base).then_some(above)
    } else {
        Some(topic)
    }
}

/// Reads a message of zigbee2mqtt; none when the topic is not one.
pub fn read(book: &Book, signal: &Signal<'_>) -> Option<Heard> {
    let carrier = book.bridge_of(NAME, signal.topic);
    let base = carrier.map_or(DEFAULT_BASE, |bridge| bridge.base.as_str());
    let rest = below(signal.topic, base)?;
    let carrier = carrier.map(|bridge| &bridge.point);
    if rest == "bridge/state" {
        return Some(match carrier {
            Some(point) => Heard::Message(presence_of(point, point, Kind::BridgeOffline, signal)),
            None => Heard::NoEvidence,
        });
    }
    if rest.starts_with("bridge/") {
        return Some(Heard::NoEvidence);
    }
    if let Some(points) = enrolled(book, signal.topic) {
        let alive = points[0].key();
        let mut message = Message::from(carrier.cloned().into_iter().chain([alive]));
        whole(book, &points, signal, &mut message);
        return Some(Heard::Message(message));
    }
    Some(part(book, carrier, signal))
}

/// Whether a topic ends in `set`, `get`, or one of them and an attribute (R8).
fn is_command(above: &str, last: &str) -> bool {
    let is = |word: &str| matches!(word, "set" | "get");
    is(last) || above.rsplit_once('/').is_some_and(|(_, word)| is(word))
}

fn enrolled<'b>(book: &'b Book, address: &str) -> Option<Vec<&'b Enrolment>> {
    let is_device = |e: &&Enrolment| e.role != Role::Bridge;
    let points: Vec<_> = book.at(NAME, address).filter(is_device).collect();
    (!points.is_empty()).then_some(points)
}

/// A topic below a device's own: its availability, a command, one attribute.
fn part(book: &Book, carrier: Option<&PointKey>, signal: &Signal<'_>) -> Heard {
    let Some((address, name)) = signal.topic.rsplit_once('/') else {
        return Heard::NoEvidence;
    };
    if is_command(address, name) {
        return Heard::NoEvidence;
    }
    match enrolled(book, address) {
        Some(points) if name == AVAILABILITY => {
            let point = points[0].key();
            let by = carrier.unwrap_or(&point);
            Heard::Message(presence_of(&point, by, Kind::DeviceOffline, signal))
        }
        Some(points) => {
            let alive = carrier.cloned().into_iter().chain([points[0].key()]);
            let mut message = Message::from(alive);
            attribute(book, &points, name, signal, &mut message);
            Heard::Message(message)
        }
        None if name == AVAILABILITY || signal.payload.is_empty() => Heard::NoEvidence,
        None => Heard::Unenrolled {
            source: None,
            through: carrier.cloned(),
        },
    }
}

/// A device's whole state as one object.
fn whole(book: &Book, points: &[&Enrolment], signal: &Signal<'_>, message: &mut Message) {
    // Zero length means that a retained copy was deleted or a device renamed.
    if signal.payload.is_empty() {
        message.alive.clear();
        return;
    }
    let pairs = match json::object(signal.payload) {
        Ok(pairs) => pairs,
        Err(why) => {
            message.says(&points[0].key(), Says::Unread { why, key: None });
            return;
        }
    };
    message.redacted = json::redacted(&pairs);
    message.occurred_at = last_seen(&pairs);
    orders::hear(points, &pairs, message);
    let lone = !pairs.iter().any(|(key, _)| says_hazard(key, points));
    for (key, value) in &pairs {
        match meaning_here(key, points) {
            Some(Meaning::Action) => actions::act(book, points, &pairs, value, message),
            Some(Meaning::Alarm) if alarm_is_level(points, lone && value.is_boolean()) => {
                level(Meaning::Truth(Sense::Role), key, value, points, message);
            }
            Some(Meaning::Alarm) | None => {}
            Some(meaning) => level(meaning, key, value, points, message),
        }
    }
}

/// One key on a topic of its own (`output: attribute`).
fn attribute(
    book: &Book,
    points: &[&Enrolment],
    name: &str,
    signal: &Signal<'_>,
    message: &mut Message,
) {
    let Some(meaning) = meaning_here(name, points) else {
        if json::is_secret(name) {
            message.redacted = Some(Vec::new());
        }
        return;
    };
    let value = match json::text(signal.payload) {
        Ok(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
        Err(why) => {
            message.says(&points[0].key(), Says::Unread { why, key: None });
            return;
        }
    };
    let only_here = points
        .iter()
        .any(|e| e.options.get("output").and_then(Value::as_str) == Some("attribute"));
    match meaning {
        Meaning::Action if only_here => {
            actions::act(book, points, &Vec::new(), &value, message);
        }
        // Beside JSON it is a copy of the press that the JSON told (R8).
        Meaning::Action => {}
        Meaning::Alarm if alarm_is_level(points, false) => {
            level(Meaning::Truth(Sense::Role), name, &value, points, message);
        }
        Meaning::Alarm => {}
        Meaning::Truth(_)
        | Meaning::Inverse(_)
        | Meaning::Flag(_)
        | Meaning::Words(_)
        | Meaning::Percent => level(meaning, name, &value, points, message),
    }
}

/// What a key means on these points: the installer's word first, then the model's, then the table.
fn meaning_here(key: &str, points: &[&Enrolment]) -> Option<Meaning> {
    if is_listed(points, "alarm_fields", key) {
        return Some(Meaning::Truth(Sense::Role));
    }
    let said = models::meaning(key, points).unwrap_or_else(|| meaning(key));
    match said {
        Some(Meaning::Inverse(sense)) if on_means(points) == Some(Word::Active) => {
            Some(Meaning::Truth(sense))
        }
        other => other,
    }
}

/// Whether the generic `alarm` is the detector's level. On most devices it is the siren's switch;
/// it counts on a heat detector, or where no other key tells the hazard.
fn alarm_is_level(points: &[&Enrolment], lone: bool) -> bool {
    points.iter().any(|e| match e.role {
        Role::Heat => true,
        Role::Smoke | Role::Gas | Role::Co => lone,
        Role::PanicButton
        | Role::Keypad
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
        | Role::Node => false,
    })
}

fn says_hazard(key: &str, points: &[&Enrolment]) -> bool {
    let lands = |sense: Sense| matches!(place(sense, points), Place::At(_, kind) if kind.hazard().is_some());
    match meaning(key) {
        Some(Meaning::Truth(sense) | Meaning::Inverse(sense) | Meaning::Flag(sense)) => {
            lands(sense)
        }
        Some(Meaning::Words(words)) => senses(words).any(lands),
        Some(Meaning::Percent | Meaning::Alarm | Meaning::Action) | None => false,
    }
}

fn senses(words: Words) -> impl Iterator<Item = Sense> {
    words
        .iter()
        .flat_map(|(_, says)| says.iter())
        .map(|(sense, _)| *sense)
}

/// Turns one value into levels, or tells that it cannot be.
fn level(meaning: Meaning, key: &str, value: &Value, points: &[&Enrolment], message: &mut Message) {
    if json::says_nothing(value) {
        return;
    }
    let word = |truth: bool| if truth { Word::Active } else { Word::Clear };
    let single = |sense, truth: Option<bool>| truth.map(|truth| vec![(sense, word(truth))]);
    let (said, about): (Option<Vec<(Sense, Word)>>, Vec<Sense>) = match meaning {
        Meaning::Truth(sense) => (single(sense, json::truth(value)), vec![sense]),
        Meaning::Inverse(sense) => (single(sense, json::truth(value).map(|t| !t)), vec![sense]),
        Meaning::Flag(_) if value.is_number() => return,
        Meaning::Flag(sense) => (single(sense, json::truth(value)), vec![sense]),
        Meaning::Words(words) => (look_up(words, value), senses(words).collect()),
        Meaning::Percent => (single(Sense::Battery, is_low(value, points)), Vec::new()),
        Meaning::Alarm | Meaning::Action => return,
    };
    match said {
        Some(said) => {
            for (sense, word) in said {
                tell(sense, word, key, points, message);
            }
        }
        None => {
            let at = about.into_iter().filter(|s| matters(*s)).find_map(|sense| {
                match place(sense, points) {
                    Place::At(enrolment, _) => Some(enrolment),
                    Place::Stranger | Place::Nowhere => None,
                }
            });
            if let Some(enrolment) = at {
                let why = Unread::UnknownWord;
                let key = Some(Cow::Owned(key.to_owned()));
                message.says(&enrolment.key(), Says::Unread { why, key });
            }
        }
    }
}

fn look_up(words: Words, value: &Value) -> Option<Vec<(Sense, Word)>> {
    let text = match (value, json::truth(value)) {
        (Value::String(text), _) => Cow::Borrowed(text.trim()),
        (_, Some(truth)) => Cow::Owned(truth.to_string()),
        (_, None) => return None,
    };
    words
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(&text))
        .map(|(_, says)| says.to_vec())
}

/// `last_seen` in the three forms it can be set to.
fn last_seen(pairs: &Pairs) -> Option<Timestamp> {
    let (_, value) = pairs.iter().find(|(key, _)| key == "last_seen")?;
    let micros = match value {
        Value::Number(number) => number.as_i64()?.checked_mul(1_000)?,
        Value::String(text) => text.parse::<jiff::Timestamp>().ok()?.as_microsecond(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    Some(Timestamp::from_micros(micros))
}

#[cfg(test)]
mod tests;
