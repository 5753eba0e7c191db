//! Packets to a client, appended to its output.
//!
//! Writes whole packets or nothing. A packet that the client's Maximum Packet Size does not allow is not
//! written (MQTT-3.1.2-24); acknowledgements, PINGRESP and DISCONNECT are at most 5 bytes and not measured.

use std::num::NonZeroU16;

use bytes::{BufMut, BytesMut};

use super::property as id;
use super::{
    Delivery, Granted, Message, Outgoing, PublishAnswer, Reason, Refused, ReleaseAnswer,
    Unsubscribed, Version, Welcome, kind,
};

/// The packet is larger than the client, or the protocol, can take. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("packet is too large for the client")]
pub(in crate::broker) struct TooLarge;

/// Largest value of a variable byte integer (MQTT 5 section 1.5.5).
const LARGEST_VARIABLE: usize = 0x0FFF_FFFF;

/// CONNACK for a client that is let in. `limit` is its Maximum Packet Size.
pub(in crate::broker) fn connack(
    output: &mut BytesMut,
    version: Version,
    session_present: bool,
    welcome: &Welcome,
    limit: Option<u32>,
) -> Result<(), TooLarge> {
    let mut body = vec![u8::from(session_present), 0];
    match version {
        Version::V3 => {}
        Version::V5 => put_properties(&mut body, &welcome_properties(welcome)?)?,
    }
    put_packet(output, kind::CONNACK << 4, &body, limit)
}

/// CONNACK for one that is not. Nothing on 3.1.1 where that has no code for it.
pub(in crate::broker) fn connack_refused(output: &mut BytesMut, version: Version, why: Refused) {
    match version {
        Version::V3 => {
            if let Some(code) = why.return_code() {
                output.put_slice(&[kind::CONNACK << 4, 2, 0, code]);
            }
        }
        Version::V5 => output.put_slice(&[kind::CONNACK << 4, 3, 0, why as u8, 0]),
    }
}

/// Answer to a PUBLISH of QoS 1.
pub(in crate::broker) fn puback(
    output: &mut BytesMut,
    version: Version,
    id: NonZeroU16,
    answer: PublishAnswer,
) {
    put_acknowledgement(output, version, kind::PUBACK << 4, id, answer as u8);
}

/// Answer to a PUBLISH of QoS 2.
pub(in crate::broker) fn pubrec(
    output: &mut BytesMut,
    version: Version,
    id: NonZeroU16,
    answer: PublishAnswer,
) {
    put_acknowledgement(output, version, kind::PUBREC << 4, id, answer as u8);
}

/// Answer to a PUBREC.
pub(in crate::broker) fn pubrel(
    output: &mut BytesMut,
    version: Version,
    id: NonZeroU16,
    answer: ReleaseAnswer,
) {
    put_acknowledgement(
        output,
        version,
        kind::PUBREL << 4 | 0b0010,
        id,
        answer as u8,
    );
}

/// Answer to a PUBREL.
pub(in crate::broker) fn pubcomp(
    output: &mut BytesMut,
    version: Version,
    id: NonZeroU16,
    answer: ReleaseAnswer,
) {
    put_acknowledgement(output, version, kind::PUBCOMP << 4, id, answer as u8);
}

/// Answer to a SUBSCRIBE: one for each of its filters, in its order (MQTT-3.9.3-1).
pub(in crate::broker) fn suback(
    output: &mut BytesMut,
    version: Version,
    id: NonZeroU16,
    granted: &[Granted],
    limit: Option<u32>,
) -> Result<(), TooLarge> {
    let mut body = id.get().to_be_bytes().to_vec();
    match version {
        Version::V3 => body.extend(granted.iter().map(|granted| granted.code().min(0x80))),
        Version::V5 => {
            body.push(0);
            body.extend(granted.iter().map(|granted| granted.code()));
        }
    }
    put_packet(output, kind::SUBACK << 4, &body, limit)
}

/// Answer to an UNSUBSCRIBE: one for each of its filters, in its order (MQTT-3.11.3-1).
pub(in crate::broker) fn unsuback(
    output: &mut BytesMut,
    version: Version,
    id: NonZeroU16,
    answers: &[Unsubscribed],
    limit: Option<u32>,
) -> Result<(), TooLarge> {
    let mut body = id.get().to_be_bytes().to_vec();
    match version {
        Version::V3 => {}
        Version::V5 => {
            body.push(0);
            body.extend(answers.iter().map(|answer| *answer as u8));
        }
    }
    put_packet(output, kind::UNSUBACK << 4, &body, limit)
}

/// Answer to a PINGREQ.
pub(in crate::broker) fn pingresp(output: &mut BytesMut) {
    output.put_slice(&[kind::PINGRESP << 4, 0]);
}

/// Why the connection ends. Nothing on 3.1.1, where a server just closes.
pub(in crate::broker) fn disconnect(output: &mut BytesMut, version: Version, reason: Reason) {
    match version {
        Version::V3 => {}
        Version::V5 => output.put_slice(&[kind::DISCONNECT << 4, 1, reason as u8]),
    }
}

/// PUBLISH. `limit` is the client's Maximum Packet Size.
pub(in crate::broker) fn publish(
    output: &mut BytesMut,
    version: Version,
    outgoing: &Outgoing<'_>,
    limit: Option<u32>,
) -> Result<(), TooLarge> {
    let (mut first, id) = match outgoing.delivery {
        Delivery::AtMostOnce => (0, None),
        Delivery::AtLeastOnce { id, dup } => (0b0010 | u8::from(dup) << 3, Some(id)),
        Delivery::ExactlyOnce { id, dup } => (0b0100 | u8::from(dup) << 3, Some(id)),
    };
    first |= kind::PUBLISH << 4 | u8::from(outgoing.retain);

    let topic_known = outgoing.alias.is_some_and(|alias| !alias.send_topic);
    let mut head = Vec::new();
    match version {
        Version::V5 if topic_known => put_text(&mut head, "")?,
        Version::V3 | Version::V5 => put_text(&mut head, &outgoing.message.topic)?,
    }
    if let Some(id) = id {
        head.put_u16(id.get());
    }
    match version {
        Version::V3 => {}
        Version::V5 => put_properties(&mut head, &publish_properties(outgoing)?)?,
    }

    let payload = &outgoing.message.payload;
    put_header(output, first, head.len() + payload.len(), limit)?;
    output.put_slice(&head);
    output.put_slice(payload);
    Ok(())
}

fn publish_properties(outgoing: &Outgoing<'_>) -> Result<Vec<u8>, TooLarge> {
    let Message { properties, .. } = outgoing.message;
    let mut section = Vec::new();
    if properties.utf8_payload {
        section.extend([id::PAYLOAD_FORMAT, 1]);
    }
    if let Some(seconds) = outgoing.expiry {
        section.put_u8(id::MESSAGE_EXPIRY);
        section.put_u32(seconds);
    }
    if let Some(content_type) = &properties.content_type {
        section.put_u8(id::CONTENT_TYPE);
        put_text(&mut section, content_type)?;
    }
    if let Some(topic) = &properties.response_topic {
        section.put_u8(id::RESPONSE_TOPIC);
        put_text(&mut section, topic)?;
    }
    if let Some(data) = &properties.correlation {
        section.put_u8(id::CORRELATION);
        put_binary(&mut section, data)?;
    }
    for identifier in outgoing.subscription_ids {
        section.put_u8(id::SUBSCRIPTION_IDENTIFIER);
        let value = usize::try_from(*identifier).map_err(|_| TooLarge)?;
        put_variable(&mut section, value)?;
    }
    if let Some(alias) = outgoing.alias {
        section.put_u8(id::TOPIC_ALIAS);
        section.put_u16(alias.number.get());
    }
    for (name, value) in &properties.user {
        section.put_u8(id::USER);
        put_text(&mut section, name)?;
        put_text(&mut section, value)?;
    }
    Ok(section)
}

fn welcome_properties(welcome: &Welcome) -> Result<Vec<u8>, TooLarge> {
    let mut section = Vec::new();
    if let Some(seconds) = welcome.session_expiry {
        section.put_u8(id::SESSION_EXPIRY);
        section.put_u32(seconds);
    }
    if let Some(maximum) = welcome.receive_maximum {
        section.put_u8(id::RECEIVE_MAXIMUM);
        section.put_u16(maximum.get());
    }
    if let Some(maximum) = welcome.maximum_packet {
        section.put_u8(id::MAXIMUM_PACKET);
        section.put_u32(maximum.get());
    }
    if let Some(client_id) = &welcome.assigned_client_id {
        section.put_u8(id::ASSIGNED_CLIENT_ID);
        put_text(&mut section, client_id)?;
    }
    if welcome.alias_maximum > 0 {
        section.put_u8(id::ALIAS_MAXIMUM);
        section.put_u16(welcome.alias_maximum);
    }
    if let Some(seconds) = welcome.server_keep_alive {
        section.put_u8(id::SERVER_KEEP_ALIVE);
        section.put_u16(seconds);
    }
    Ok(section)
}

/// The short form where the reason is 0 (MQTT 5 section 3.4.2.1), which is the only form of 3.1.1.
fn put_acknowledgement(
    output: &mut BytesMut,
    version: Version,
    first: u8,
    id: NonZeroU16,
    reason: u8,
) {
    let [high, low] = id.get().to_be_bytes();
    match version {
        Version::V5 if reason != 0 => output.put_slice(&[first, 3, high, low, reason]),
        Version::V3 | Version::V5 => output.put_slice(&[first, 2, high, low]),
    }
}

fn put_packet(
    output: &mut BytesMut,
    first: u8,
    body: &[u8],
    limit: Option<u32>,
) -> Result<(), TooLarge> {
    put_header(output, first, body.len(), limit)?;
    output.put_slice(body);
    Ok(())
}

/// First byte and Remaining Length, once the whole packet is known to fit. Makes room for the rest.
fn put_header(
    output: &mut BytesMut,
    first: u8,
    remaining: usize,
    limit: Option<u32>,
) -> Result<(), TooLarge> {
    let mut length = Vec::with_capacity(4);
    put_variable(&mut length, remaining)?;
    let whole = 1 + length.len() + remaining;
    let limit = limit.map_or(usize::MAX, |bytes| {
        usize::try_from(bytes).unwrap_or(usize::MAX)
    });
    if whole > limit {
        return Err(TooLarge);
    }
    output.reserve(whole);
    output.put_u8(first);
    output.put_slice(&length);
    Ok(())
}

fn put_properties(body: &mut Vec<u8>, section: &[u8]) -> Result<(), TooLarge> {
    put_variable(body, section.len())?;
    body.put_slice(section);
    Ok(())
}

fn put_text(body: &mut Vec<u8>, text: &str) -> Result<(), TooLarge> {
    put_binary(body, text.as_bytes())
}

fn put_binary(body: &mut Vec<u8>, data: &[u8]) -> Result<(), TooLarge> {
    body.put_u16(u16::try_from(data.len()).map_err(|_| TooLarge)?);
    body.put_slice(data);
    Ok(())
}

fn put_variable(body: &mut Vec<u8>, value: usize) -> Result<(), TooLarge> {
    if value > LARGEST_VARIABLE {
        return Err(TooLarge);
    }
    let mut rest = value;
    loop {
        // Seven bits always fit.
        let low = (rest & 0x7F) as u8;
        rest >>= 7;
        if rest == 0 {
            body.put_u8(low);
            return Ok(());
        }
        body.put_u8(low | 0x80);
    }
}
