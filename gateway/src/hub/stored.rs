//! How sessions and retained messages rest: rows of a key and a JSON body, which the caller seals.
//!
//! Owns the form of keys and bodies, and reads back what any version of it wrote. A row that cannot be read is
//! counted and left out; it keeps nothing else from coming back. Never touches a disk.

use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::Bytes;
use domain::digest::{Sha256, from_hex, to_hex};
use serde::{Deserialize, Serialize};

use super::message::{Message, Properties, Qos};
use super::retained::Kept;
use super::session::{Queued, Subscription};
use super::{ClientId, ClientKey};

/// One row to be written, or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which row.
    pub key: String,
    /// What it says; none = it goes.
    pub body: Option<String>,
}

impl Change {
    fn put(key: String, body: &impl Serialize) -> Self {
        // None of these types has a form that cannot be written; if one had, the row would go.
        let body = serde_json::to_string(body).ok();
        Self { key, body }
    }

    fn remove(key: String) -> Self {
        Self { key, body: None }
    }
}

/// Names a session in keys.
pub(super) fn name_of(key: &ClientKey) -> String {
    let client = match &key.client {
        ClientId::Named(name) => name.as_str(),
        ClientId::Assigned(_) => "",
    };
    let Sha256(digest) = Sha256::of(&[key.username.as_bytes(), &[0], client.as_bytes()]);
    to_hex(digest.get(..16).unwrap_or_default())
}

/// A session's own row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SessionRow {
    pub(super) username: String,
    pub(super) client: String,
    pub(super) reserved: bool,
    pub(super) expiry: u32,
}

#[derive(Serialize, Deserialize)]
struct MessageRow {
    topic: String,
    payload: String,
    #[serde(with = "qos")]
    qos: Qos,
    retain: bool,
    #[serde(default)]
    utf8_payload: bool,
    #[serde(default)]
    expiry: Option<u32>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    response_topic: Option<String>,
    #[serde(default)]
    correlation: Option<String>,
    #[serde(default)]
    user: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
struct QueuedRow {
    message: MessageRow,
    #[serde(with = "qos")]
    qos: Qos,
    retain: bool,
    identifiers: Vec<u32>,
    /// Set once a QoS 2 message is about to go out.
    id: Option<NonZeroU16>,
    released: bool,
}

/// A waiting message and how far it got.
pub(super) struct Found {
    pub(super) item: Queued,
    pub(super) id: Option<NonZeroU16>,
    pub(super) released: bool,
}

pub(super) fn session(name: &str, row: &SessionRow) -> Change {
    Change::put(format!("s/{name}"), row)
}

pub(super) fn no_session(name: &str) -> Change {
    Change::remove(format!("s/{name}"))
}

pub(super) fn subscription(name: &str, filter: &str, asked: &Subscription) -> Change {
    Change::put(format!("f/{name}/{filter}"), asked)
}

pub(super) fn no_subscription(name: &str, filter: &str) -> Change {
    Change::remove(format!("f/{name}/{filter}"))
}

pub(super) fn incoming(name: &str, id: NonZeroU16) -> Change {
    Change::put(format!("i/{name}/{id}"), &())
}

pub(super) fn no_incoming(name: &str, id: NonZeroU16) -> Change {
    Change::remove(format!("i/{name}/{id}"))
}

pub(super) fn queued(
    name: &str,
    number: u64,
    item: &Queued,
    id: Option<NonZeroU16>,
    released: bool,
) -> Change {
    let row = QueuedRow {
        message: MessageRow::from(&*item.message),
        qos: item.qos,
        retain: item.retain,
        identifiers: item.identifiers.clone(),
        id,
        released,
    };
    Change::put(format!("q/{name}/{number:020}"), &row)
}

pub(super) fn not_queued(name: &str, number: u64) -> Change {
    Change::remove(format!("q/{name}/{number:020}"))
}

pub(super) fn retained(message: &Message) -> Change {
    Change::put(format!("r/{}", message.topic), &MessageRow::from(message))
}

pub(super) fn not_retained(topic: &str) -> Change {
    Change::remove(format!("r/{topic}"))
}

/// A row read back.
pub(super) enum Row {
    Session(String, SessionRow),
    Subscription(String, String, Subscription),
    Queued(String, u64, Found),
    Incoming(String, NonZeroU16),
    Retained(Kept),
}

/// Reads a row; none if it is not one of ours.
pub(super) fn read(key: &str, body: &str) -> Option<Row> {
    let (kind, rest) = key.split_once('/')?;
    if kind == "r" {
        let row: MessageRow = serde_json::from_str(body).ok()?;
        let message = Arc::new(row.into_message()?);
        let at = std::time::Duration::ZERO;
        return Some(Row::Retained(Kept { message, at }));
    }
    if kind == "s" {
        return Some(Row::Session(
            rest.to_owned(),
            serde_json::from_str(body).ok()?,
        ));
    }
    let (name, rest) = rest.split_once('/')?;
    let name = name.to_owned();
    match kind {
        "f" => {
            let asked = serde_json::from_str(body).ok()?;
            Some(Row::Subscription(name, rest.to_owned(), asked))
        }
        "q" => {
            let number = rest.parse().ok()?;
            let row: QueuedRow = serde_json::from_str(body).ok()?;
            Some(Row::Queued(name, number, row.into_found(number)?))
        }
        "i" => Some(Row::Incoming(name, rest.parse().ok()?)),
        _ => None,
    }
}

impl From<&Message> for MessageRow {
    fn from(message: &Message) -> Self {
        let properties = message.properties.clone();
        Self {
            topic: message.topic.as_ref().to_owned(),
            payload: to_hex(&message.payload),
            qos: message.qos,
            retain: message.retain,
            utf8_payload: properties.utf8_payload,
            expiry: properties.expiry,
            content_type: properties.content_type,
            response_topic: properties.response_topic,
            correlation: properties.correlation.map(|bytes| to_hex(&bytes)),
            user: properties.user,
        }
    }
}

impl MessageRow {
    fn into_message(self) -> Option<Message> {
        let bytes = |hex: &str| from_hex(hex).ok().map(Bytes::from);
        let correlation = match &self.correlation {
            Some(hex) => Some(bytes(hex)?),
            None => None,
        };
        Some(Message {
            topic: self.topic.into(),
            payload: bytes(&self.payload)?,
            qos: self.qos,
            retain: self.retain,
            properties: Properties {
                utf8_payload: self.utf8_payload,
                expiry: self.expiry,
                content_type: self.content_type,
                response_topic: self.response_topic,
                correlation,
                user: self.user,
            },
        })
    }
}

impl QueuedRow {
    fn into_found(self, number: u64) -> Option<Found> {
        let item = Queued {
            message: Arc::new(self.message.into_message()?),
            qos: self.qos,
            retain: self.retain,
            identifiers: self.identifiers,
            at: std::time::Duration::ZERO,
            number: Some(number),
        };
        Some(Found {
            item,
            id: self.id,
            released: self.released,
        })
    }
}

/// Quality of service as its number.
pub(super) mod qos {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Qos;

    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub fn serialize<S: Serializer>(qos: &Qos, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u8(*qos as u8)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Qos, D::Error> {
        let bits = u8::deserialize(from)?;
        let no_such = || D::Error::custom(format!("no quality of service: {bits}"));
        Qos::from_bits(bits).ok_or_else(no_such)
    }
}
