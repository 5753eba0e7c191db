//! ESPHome nodes on MQTT: `{prefix}/{component}/{object}/state` in plain text, and
//! `{prefix}/status` as birth and last will.
//!
//! An enrolment's address is one entity, `{prefix}/{component}/{object}`, or the whole node,
//! `{prefix}`. Owns the topics; what a state says is `entity`'s. Commands, logs and discovery are
//! never evidence (R8).

use std::borrow::Cow;
use std::collections::BTreeSet;

use domain::config::{Enrolment, Role};
use domain::id::PointKey;
use domain::kind::Kind;
use serde_json::Value;

use super::entity::{self, Entity, STATE, is_command, is_discovery};
use super::presence::{is_there, presence_of};
use super::{
    AVAILABILITY, Book, Bridge, Heard, Message, Options, Order, Says, Signal, Wish, book::below,
};

/// The word an enrolment selects this family by.
pub const NAME: &str = "esphome";
const STATUS: &str = "status";
/// Home Assistant's own birth and last will, which no node speaks for.
const HOME_ASSISTANT: &str = "homeassistant/status";
/// Topics of a node that are for the person who programs it.
const CHATTER: &[&str] = &["debug", "log", "logs"];

/// The base topic of the node that was enrolled as a bridge.
pub fn bridge(enrolment: &Enrolment) -> Option<&str> {
    let address = enrolment.address.as_str();
    (enrolment.role == Role::Bridge).then(|| address.strip_suffix("/status").unwrap_or(address))
}

/// Whether a topic looks like one of this family.
pub fn is_spoken(topic: &str) -> bool {
    Entity::of(topic).is_some_and(|entity| entity.rest == STATE)
}

/// The address an installer would enrol the node behind a topic at.
pub fn address<'t>(topic: &'t str, _: &[u8], _: &Options) -> Option<&'t str> {
    if is_discovery(topic) {
        return None;
    }
    if let Some(entity) = Entity::of(topic) {
        return (entity.rest == STATE).then_some(entity.prefix);
    }
    match topic.rsplit_once('/') {
        _ if topic == HOME_ASSISTANT => None,
        Some((prefix, STATUS)) => Some(prefix),
        Some((_, last)) if CHATTER.contains(&last) || is_command(topic) => None,
        Some(_) | None => Some(topic),
    }
}

/// Reads a message of a node; none when the topic is not one.
pub fn read(book: &Book, signal: &Signal<'_>) -> Option<Heard> {
    let topic = signal.topic;
    if is_discovery(topic) {
        return Some(Heard::NoEvidence);
    }
    let entity = Entity::of(topic);
    let plain = Entity::plain(topic);
    if let Some(points) = enrolled(book, topic) {
        return Some(hear(book, &points, &entity.unwrap_or(plain), signal));
    }
    if let Some(entity) = entity {
        return of_entity(book, &entity, signal);
    }
    let (above, last) = topic.rsplit_once('/')?;
    if last == STATUS {
        return status(book, above, signal);
    }
    let mut node = Some(above);
    while let Some(prefix) = node {
        if let Some(points) = enrolled(book, prefix) {
            let aside = topic.split('/').any(|level| CHATTER.contains(&level));
            return Some(if aside || is_command(topic) {
                Heard::NoEvidence
            } else {
                hear(book, &points, &plain, signal)
            });
        }
        node = prefix.rsplit_once('/').map(|(above, _)| above);
    }
    None
}

fn enrolled<'b>(book: &'b Book, address: &str) -> Option<Vec<&'b Enrolment>> {
    let is_device = |e: &&Enrolment| e.role != Role::Bridge;
    let points: Vec<_> = book.at(NAME, address).filter(is_device).collect();
    (!points.is_empty()).then_some(points)
}

fn of_entity(book: &Book, entity: &Entity<'_>, signal: &Signal<'_>) -> Option<Heard> {
    let points = enrolled(book, entity.address).or_else(|| enrolled(book, entity.prefix));
    let Some(points) = points else {
        return stranger(book, entity, signal);
    };
    Some(if entity.rest == STATE {
        hear(book, &points, entity, signal)
    } else {
        Heard::NoEvidence
    })
}

/// An entity nobody enrolled. On a node of ours only what could be a detector or a door is told.
fn stranger(book: &Book, entity: &Entity<'_>, signal: &Signal<'_>) -> Option<Heard> {
    if entity.rest != STATE || signal.payload.is_empty() {
        return None;
    }
    let on_node = |e: &Enrolment| e.ecosystem == NAME && node_of(&e.address, entity.prefix);
    Some(
        if !entity.is_input() && book.config().enrolments.iter().any(on_node) {
            Heard::NoEvidence
        } else {
            Heard::Unenrolled {
                source: None,
                through: book.bridge_of(NAME, signal.topic).map(|b| b.point.clone()),
            }
        },
    )
}

fn hear(book: &Book, points: &[&Enrolment], entity: &Entity<'_>, signal: &Signal<'_>) -> Heard {
    let carrier = book.bridge_of(NAME, signal.topic).map(|b| b.point.clone());
    let mut message = Message::from(carrier.into_iter().chain([points[0].key()]));
    entity::state(book, points, entity, signal.payload, &mut message);
    Heard::Message(message)
}

/// Birth and last will of a node: of the bridge enrolled for it, or of each device on it.
fn status(book: &Book, prefix: &str, signal: &Signal<'_>) -> Option<Heard> {
    let is_it = |bridge: &&Bridge| bridge.family == NAME && bridge.base == prefix;
    if let Some(bridge) = book.bridges().iter().find(is_it) {
        let point = &bridge.point;
        let message = presence_of(point, point, Kind::BridgeOffline, signal);
        return Some(Heard::Message(message));
    }
    let leads: BTreeSet<&PointKey> = book
        .config()
        .enrolments
        .iter()
        .filter(|e| e.ecosystem == NAME && node_of(&e.address, prefix))
        .filter_map(|e| book.lead(&e.device))
        .collect();
    let first = *leads.first()?;
    let there = match is_there(signal.payload) {
        Ok(Some(there)) => there,
        Ok(None) => return Some(Heard::NoEvidence),
        Err(why) => return Some(Heard::Message(Message::default().unread(first, why))),
    };
    // A last will is the broker's word, not a sign of life.
    let alive = leads.iter().filter(|_| there).map(|lead| (*lead).clone());
    let mut message = Message::from(alive);
    let kind = Kind::DeviceOffline;
    for lead in leads {
        message.says(
            lead,
            Says::Level {
                kind,
                key: Cow::Borrowed(AVAILABILITY),
                active: (!there).then(|| kind.severity()),
            },
        );
    }
    Some(Heard::Message(message))
}

/// How a switch, siren, light or lock of a node is told: `{entity}/command` in plain words. An entity must be
/// enrolled by itself, for a node does not say which one is meant.
pub fn order(enrolment: &Enrolment, wish: Wish, _: &str) -> Option<Order> {
    let entity = Entity::at(&enrolment.address, STATE)?;
    let given = enrolment.options.get(wish.as_str()).and_then(Value::as_str);
    let word = given.unwrap_or(match wish {
        Wish::Sound(_) | Wish::Light(_) => "ON",
        Wish::Silence | Wish::Dark => "OFF",
        Wish::Release => "UNLOCK",
    });
    Some(Order {
        topic: format!("{}/command", entity.address),
        payload: word.as_bytes().to_vec(),
        echoes: enrolment.role == Role::Lock,
    })
}

/// Whether an address lies on the node with this prefix.
fn node_of(address: &str, prefix: &str) -> bool {
    match Entity::at(address, STATE).or_else(|| Entity::of(address)) {
        Some(entity) => entity.prefix == prefix,
        None => address == prefix || below(address, prefix).is_some_and(|rest| !rest.contains('/')),
    }
}
