//! A message as it goes from one client to others, the same whatever version each of them speaks.
//!
//! Data only: no packet and no socket.

use std::sync::Arc;

use bytes::Bytes;

/// How sure sender or receiver want to be (MQTT section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Qos {
    /// QoS 0: no acknowledgement.
    AtMostOnce = 0,
    /// QoS 1: acknowledged; may come again.
    AtLeastOnce = 1,
    /// QoS 2: acknowledged in two steps; comes once.
    ExactlyOnce = 2,
}

impl Qos {
    /// From its two bits; 3 is none.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// What MQTT 5 says beside a message. Empty from 3.1.1, left out to 3.1.1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// The payload is said to be UTF-8 text.
    pub utf8_payload: bool,
    /// Seconds from its receipt after which nobody wants it any more.
    pub expiry: Option<u32>,
    /// What the payload is.
    pub content_type: Option<String>,
    /// Where an answer is wanted.
    pub response_topic: Option<String>,
    /// What the answer is to carry.
    pub correlation: Option<Bytes>,
    /// Names and values of the clients' own, in order.
    pub user: Vec<(String, String)>,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Topic name.
    pub topic: Arc<str>,
    /// Body, as sent.
    pub payload: Bytes,
    /// As published.
    pub qos: Qos,
    /// To be kept for those who subscribe later.
    pub retain: bool,
    /// See [`Properties`].
    pub properties: Properties,
}

impl Message {
    /// What it costs to keep, in bytes.
    #[must_use]
    pub fn cost(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let properties = &self.properties;
        let user = properties.user.iter().map(|(n, v)| n.len() + v.len());
        OVERHEAD
            + self.topic.len()
            + self.payload.len()
            + text(&properties.content_type)
            + text(&properties.response_topic)
            + properties.correlation.as_ref().map_or(0, Bytes::len)
            + user.sum::<usize>()
    }
}

/// What any message costs beside its texts, in bytes.
const OVERHEAD: usize = 128;

/// What to publish for a client that ends without DISCONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// The message.
    pub message: Message,
    /// Seconds to wait for the client to come back first (MQTT 5 section 3.1.3.2.2).
    pub delay: u32,
}

/// Which retained messages a new subscription is to get (MQTT 5 section 3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetainHandling {
    /// All that match, each time. What 3.1.1 always does.
    Always,
    /// All that match, if the subscription was not there before.
    IfNew,
    /// None.
    Never,
}
