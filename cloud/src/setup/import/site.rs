//! The parts of the import document that an installer writes: points, MQTT log-ins, cards.

use domain::config::{Enrolment, Passage, Role};
use domain::id::{GatewayId, Username};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::cursor::{At, Wrong};
use super::document::NAME_MAX;

/// Longest MQTT topic or filter, in characters. A longer one is refused.
const TOPIC_MAX: usize = 512;
/// Digits of a device secret: 128 bits (D10).
const SECRET_DIGITS: usize = 32;
/// Letters and digits of a card number. A longer one is refused.
const CARD_MAX: usize = 64;
/// Longest supervision interval: a week, in seconds. A longer one is refused.
const INTERVAL_MAX: u32 = 7 * 86_400;

/// An enrolled point and the box it belongs to.
pub struct Point {
    pub path: String,
    pub gateway: GatewayId,
    pub enrolment: Enrolment,
}

/// A log-in on a box's MQTT server.
pub struct Door {
    pub path: String,
    pub gateway: GatewayId,
    pub username: Username,
    pub secret: String,
    pub publish: Vec<String>,
}

/// A card and its holder. The number lives only as long as the import runs.
pub struct Card {
    pub path: String,
    pub number: String,
    pub holder_kind: &'static str,
    pub holder: Uuid,
}

pub fn point(at: &At<'_>) -> Result<Point, Wrong> {
    let f = at.fields(&[
        "gateway",
        "device",
        "point",
        "ecosystem",
        "address",
        "model",
        "role",
        "zone",
        "number",
        "momentary",
        "latching",
        "interval_s",
        "passage",
        "decides",
        "options",
    ])?;
    let flag = |name: &str| f.optional(name, At::bool);
    let number = f.get("number")?.number(1, 999)?;
    let enrolment = Enrolment {
        device: f.get("device")?.slug()?,
        point: f.get("point")?.slug()?,
        // Any word: what the box has no adapter for it tells as such, and never drops.
        ecosystem: f.get("ecosystem")?.text(NAME_MAX)?,
        address: topic(&f.get("address")?)?,
        model: f.optional("model", |at| at.text(NAME_MAX))?,
        role: role(&f.get("role")?)?,
        zone: f.optional("zone", At::slug)?,
        number: u16::try_from(number).unwrap_or(u16::MAX),
        momentary: flag("momentary")?.unwrap_or(false),
        latching: flag("latching")?.unwrap_or(false),
        interval_s: f.optional("interval_s", |at| at.number(1, INTERVAL_MAX))?,
        passage: f.optional("passage", passage)?.unwrap_or_default(),
        decides: flag("decides")?.unwrap_or(true),
        options: f.optional("options", At::any_object)?.unwrap_or_default(),
    };
    Ok(Point {
        path: at.path.clone(),
        gateway: GatewayId(f.get("gateway")?.uuid()?),
        enrolment,
    })
}

fn role(at: &At<'_>) -> Result<Role, Wrong> {
    worded(
        at,
        &[
            "panic_button",
            "keypad",
            "smoke",
            "heat",
            "gas",
            "co",
            "manual_call_point",
            "water",
            "door",
            "lock",
            "reader",
            "motion",
            "bridge",
            "siren",
            "lamp",
            "panel",
            "node",
        ],
    )
}

fn passage(at: &At<'_>) -> Result<Passage, Wrong> {
    worded(at, &["none", "in", "out", "both"])
}

/// A word that the domain reads too.
fn worded<T: DeserializeOwned>(at: &At<'_>, words: &[&'static str]) -> Result<T, Wrong> {
    let word = at.word(words)?;
    serde_json::from_value(word.into()).map_err(|_| at.wrong("is a word this program lost"))
}

pub fn door(at: &At<'_>) -> Result<Door, Wrong> {
    let f = at.fields(&["gateway", "username", "secret", "publish"])?;
    Ok(Door {
        path: at.path.clone(),
        gateway: GatewayId(f.get("gateway")?.uuid()?),
        username: f.get("username")?.slug()?,
        secret: f.get("secret")?.hex(SECRET_DIGITS, SECRET_DIGITS)?,
        publish: f.each("publish", filter)?,
    })
}

/// A topic without wildcards (MQTT 3.1.1, 4.7).
fn topic(at: &At<'_>) -> Result<String, Wrong> {
    let text = at.text(TOPIC_MAX)?;
    if text.contains(['#', '+']) {
        return Err(at.wrong("must be a topic without '#' and '+'"));
    }
    Ok(text)
}

/// A topic filter: '+' stands for one whole level, '#' for all the rest (MQTT 3.1.1, 4.7.1).
fn filter(at: &At<'_>) -> Result<String, Wrong> {
    let text = at.text(TOPIC_MAX)?;
    let levels = text.split('/').collect::<Vec<_>>();
    let right = levels.iter().enumerate().all(|(i, level)| match *level {
        "+" => true,
        "#" => i + 1 == levels.len(),
        other => !other.contains(['#', '+']),
    });
    if right {
        Ok(text)
    } else {
        Err(at.wrong("must be a topic filter: '+' is one whole level, '#' the whole end"))
    }
}

pub fn card(at: &At<'_>) -> Result<Card, Wrong> {
    let f = at.fields(&["card", "holder"])?;
    let card = f.get("card")?;
    // The form `CredentialKey::hide` reads: separators and case do not matter.
    let number = card.text(CARD_MAX * 2)?;
    let number: String = number
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_uppercase())
        .collect();
    if !(1..=CARD_MAX).contains(&number.len()) {
        return Err(card.wrong(format!("must be 1 to {CARD_MAX} letters and digits")));
    }
    let holder = f.get("holder")?.fields(&["kind", "id"])?;
    Ok(Card {
        path: at.path.clone(),
        number,
        holder_kind: holder
            .get("kind")?
            .word(&["child", "guardian", "pickup", "staff", "visitor"])?,
        holder: holder.get("id")?.uuid()?,
    })
}
