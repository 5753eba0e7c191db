//! Home Assistant's statestream: `{base}/{domain}/{object}/state` in plain text, and one topic for
//! each attribute beside it.
//!
//! An enrolment's address is `{base}/{domain}/{object}`. Home Assistant stands between us and the
//! device like any bridge: its last will is `homeassistant/status`, and `unavailable` is its word for
//! a device that it cannot reach. Owns the topics; what a state says is `entity`'s.

use domain::config::{Enrolment, Role};
use domain::kind::Kind;
use serde_json::Value;

use super::entity::{self, Entity, STATE, is_command, is_discovery};
use super::presence::presence_of;
use super::{Book, Bridge, Heard, Message, Options, Signal};

/// The word an enrolment selects this family by.
pub const NAME: &str = "ha-statestream";
/// Where Home Assistant says whether it is there, whatever the base of the statestream.
const STATUS: &str = "homeassistant/status";

/// The base topic of the Home Assistant that an enrolment stands behind, or is.
pub fn bridge(enrolment: &Enrolment) -> Option<&str> {
    let address = enrolment.address.as_str();
    if enrolment.role == Role::Bridge {
        return Some(address.strip_suffix("/status").unwrap_or(address));
    }
    Entity::at(address, STATE).map(|entity| entity.prefix)
}

/// The address an installer would enrol the entity behind a topic at.
pub fn address<'t>(topic: &'t str, _: &[u8], context: &Options) -> Option<&'t str> {
    if is_discovery(topic) || is_command(topic) {
        return None;
    }
    let is_bridge = context.get("role").and_then(Value::as_str) == Some("bridge");
    match Entity::of(topic) {
        Some(entity) if is_bridge => Some(entity.prefix),
        Some(entity) => Some(entity.address),
        None if is_bridge => topic.strip_suffix("/status").or(Some(topic)),
        None if topic == STATUS => None,
        None => Some(topic),
    }
}

/// Reads a message of a statestream; none when the topic is not one.
pub fn read(book: &Book, signal: &Signal<'_>) -> Option<Heard> {
    let topic = signal.topic;
    if let Some(heard) = status(book, signal) {
        return Some(heard);
    }
    let entity = Entity::of(topic);
    if let Some(points) = enrolled(book, topic) {
        let entity = entity.unwrap_or_else(|| Entity::plain(topic));
        return Some(hear(book, &points, &entity, signal));
    }
    let entity = entity?;
    if let Some(points) = enrolled(book, entity.address) {
        return Some(hear(book, &points, &entity, signal));
    }
    let carrier = book.bridge_of(NAME, topic)?;
    // A whole house is on this stream: only what could be a detector or a door is told.
    let is_told = entity.rest == STATE && entity.is_input() && !signal.payload.is_empty();
    Some(if is_told {
        Heard::Unenrolled {
            source: None,
            through: Some(carrier.point.clone()),
        }
    } else {
        Heard::NoEvidence
    })
}

fn enrolled<'b>(book: &'b Book, address: &str) -> Option<Vec<&'b Enrolment>> {
    let is_device = |e: &&Enrolment| e.role != Role::Bridge;
    let points: Vec<_> = book.at(NAME, address).filter(is_device).collect();
    (!points.is_empty()).then_some(points)
}

fn hear(book: &Book, points: &[&Enrolment], entity: &Entity<'_>, signal: &Signal<'_>) -> Heard {
    if is_command(signal.topic) {
        return Heard::NoEvidence;
    }
    let carrier = book.bridge_of(NAME, signal.topic).map(|b| b.point.clone());
    let mut message = Message::from(carrier.into_iter().chain([points[0].key()]));
    match (entity.component, entity.rest) {
        // The state of an event is when it happened; what happened is an attribute.
        ("event", STATE) => entity::reachable(points, entity, signal.payload, &mut message),
        (_, STATE) => {
            entity::state(book, points, entity, signal.payload, &mut message);
            entity::reachable(points, entity, signal.payload, &mut message);
        }
        _ => entity::attribute(points, entity, signal.payload, &mut message),
    }
    Heard::Message(message)
}

/// Home Assistant's birth and last will.
fn status(book: &Book, signal: &Signal<'_>) -> Option<Heard> {
    let base = signal.topic.strip_suffix("/status")?;
    let is_it = |b: &&Bridge| b.family == NAME && (b.base == base || signal.topic == STATUS);
    let bridge = book.bridges().iter().find(is_it)?;
    let point = &bridge.point;
    let message = presence_of(point, point, Kind::BridgeOffline, signal);
    Some(Heard::Message(message))
}
