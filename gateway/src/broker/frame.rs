//! Checks on raw frames before the protocol crate sees them: pure functions over bytes.
//!
//! The crate panics on some legal and some broken input, and accepts other input that MQTT 3.1.1 forbids
//! (mqtt-server.md section 3). A frame that passes here is safe to hand to it and obeys the standard.
//! Owns nothing, allocates nothing, and never trusts a length it has not compared with the bytes at hand.

use super::topic::{FilterFault, TopicFault, TopicLimits, check_filter, check_name};

/// Why a frame is not taken. Each ends its connection and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameFault {
    /// Remaining Length runs over four bytes (MQTT 3.1.1 section 2.2.3).
    #[error("remaining length is malformed")]
    Length,
    /// The frame claims more bytes than the limit. Found from the header alone.
    #[error("packet is too large")]
    Oversized,
    /// A packet type that a client may not send, or not at this point.
    #[error("packet type is not allowed here")]
    PacketType,
    /// Reserved flag bits are wrong (MQTT-2.2.2-2), or DUP on QoS 0 (MQTT-3.3.1-2), or QoS 3.
    #[error("fixed header flags are wrong")]
    Flags,
    /// Fields do not fit the frame, or bytes are left over.
    #[error("fields do not fit the packet")]
    Shape,
    /// A text is not UTF-8 or holds U+0000 (MQTT-1.5.3-1, MQTT-1.5.3-2).
    #[error("text is malformed")]
    Text,
    /// Packet identifier zero (MQTT-2.3.1-1).
    #[error("packet identifier is zero")]
    PacketId,
    /// Bad topic name in a PUBLISH or a will.
    #[error(transparent)]
    Topic(#[from] TopicFault),
    /// Bad topic filter in a SUBSCRIBE or an UNSUBSCRIBE.
    #[error(transparent)]
    Filter(#[from] FilterFault),
    /// A PUBLISH of QoS 2, which this version does not carry.
    #[error("QoS 2 is not supported")]
    ExactlyOnce,
    /// The first packet names another protocol than MQTT.
    #[error("protocol name is not MQTT")]
    ProtocolName,
    /// CONNECT of another protocol level than 4 (which is 3.1.1).
    #[error("protocol level {0} is not supported")]
    Level(u8),
    /// CONNECT flags contradict each other (MQTT-3.1.2-3, -11, -13, -14, -15, -22).
    #[error("connect flags contradict each other")]
    ConnectFlags,
}

/// Length of the first frame in `buffer`, or `None` while it is incomplete. `limit` is the largest whole
/// frame taken, in bytes; a larger claim fails as soon as the header is there.
pub(super) fn complete(buffer: &[u8], limit: usize) -> Result<Option<usize>, FrameFault> {
    let mut remaining = 0_usize;
    for (index, byte) in buffer.iter().skip(1).take(4).enumerate() {
        remaining |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let length = index + 2 + remaining;
            if length > limit {
                return Err(FrameFault::Oversized);
            }
            return Ok((buffer.len() >= length).then_some(length));
        }
    }
    if buffer.len() >= 5 {
        return Err(FrameFault::Length);
    }
    Ok(None)
}

/// Says whether a first byte can begin a connection. Tells strangers of other protocols, whose bytes may
/// claim any length, without waiting for the rest.
pub(super) const fn begins_connection(first: u8) -> bool {
    first == CONNECT << 4
}

/// Checks the first frame of a connection: it must be a sound CONNECT of MQTT 3.1.1.
pub(super) fn check_connect(frame: &[u8], topics: TopicLimits) -> Result<(), FrameFault> {
    let (first, mut fields) = open(frame)?;
    if !begins_connection(first) {
        return Err(FrameFault::PacketType);
    }
    if fields.binary()? != b"MQTT" {
        return Err(FrameFault::ProtocolName);
    }
    let level = fields.byte()?;
    if level != 4 {
        return Err(FrameFault::Level(level));
    }
    let flags = ConnectFlags::read(fields.byte()?)?;
    fields.number()?;
    fields.text()?;
    if flags.will {
        check_name(fields.utf8()?, topics)?;
        fields.binary()?;
    }
    if flags.username {
        fields.text()?;
    }
    if flags.password {
        fields.binary()?;
    }
    fields.end()
}

/// Checks a frame that came after CONNECT.
pub(super) fn check(frame: &[u8], topics: TopicLimits) -> Result<(), FrameFault> {
    let (first, mut fields) = open(frame)?;
    let flags = first & 0x0F;
    match first >> 4 {
        PUBLISH => check_publish(flags, &mut fields, topics),
        SUBSCRIBE | UNSUBSCRIBE if flags != 0b0010 => Err(FrameFault::Flags),
        SUBSCRIBE => check_filters(&mut fields, true),
        UNSUBSCRIBE => check_filters(&mut fields, false),
        PINGREQ | DISCONNECT if flags != 0 => Err(FrameFault::Flags),
        PINGREQ | DISCONNECT => fields.end(),
        _ => Err(FrameFault::PacketType),
    }
}

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const SUBSCRIBE: u8 = 8;
const UNSUBSCRIBE: u8 = 10;
const PINGREQ: u8 = 12;
const DISCONNECT: u8 = 14;

fn check_publish(
    flags: u8,
    fields: &mut Fields<'_>,
    topics: TopicLimits,
) -> Result<(), FrameFault> {
    let duplicate = flags & 0b1000 != 0;
    let qos = (flags >> 1) & 0b11;
    if qos == 3 || (qos == 0 && duplicate) {
        return Err(FrameFault::Flags);
    }
    check_name(fields.utf8()?, topics)?;
    match qos {
        0 => Ok(()),
        1 => fields.packet_id(),
        _ => Err(FrameFault::ExactlyOnce),
    }
}

/// SUBSCRIBE (`with_qos`) and UNSUBSCRIBE: an id and at least one filter (MQTT-3.8.3-3, MQTT-3.10.3-2).
fn check_filters(fields: &mut Fields<'_>, with_qos: bool) -> Result<(), FrameFault> {
    fields.packet_id()?;
    loop {
        check_filter(fields.utf8()?)?;
        if with_qos && fields.byte()? > 2 {
            return Err(FrameFault::Shape);
        }
        if fields.end().is_ok() {
            return Ok(());
        }
    }
}

/// The flags of CONNECT that decide which fields follow.
struct ConnectFlags {
    will: bool,
    username: bool,
    password: bool,
}

impl ConnectFlags {
    fn read(bits: u8) -> Result<Self, FrameFault> {
        let will = bits & 0b0000_0100 != 0;
        let will_details = bits & 0b0011_1000;
        let will_qos = (bits >> 3) & 0b11;
        let username = bits & 0b1000_0000 != 0;
        let password = bits & 0b0100_0000 != 0;
        let reserved = bits & 1 != 0;
        if reserved || will_qos == 3 || (!will && will_details != 0) || (password && !username) {
            return Err(FrameFault::ConnectFlags);
        }
        Ok(Self {
            will,
            username,
            password,
        })
    }
}

/// First byte and body of a frame that [`complete`] has measured.
fn open(frame: &[u8]) -> Result<(u8, Fields<'_>), FrameFault> {
    let (first, rest) = frame.split_first().ok_or(FrameFault::Shape)?;
    let length_bytes = rest
        .iter()
        .position(|byte| byte & 0x80 == 0)
        .ok_or(FrameFault::Length)?;
    let body = rest.get(length_bytes + 1..).ok_or(FrameFault::Shape)?;
    Ok((*first, Fields(body)))
}

/// Reads fields off the front of a packet body.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], FrameFault> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(FrameFault::Shape)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, FrameFault> {
        let (byte, rest) = self.0.split_first().ok_or(FrameFault::Shape)?;
        self.0 = rest;
        Ok(*byte)
    }

    fn number(&mut self) -> Result<u16, FrameFault> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    fn packet_id(&mut self) -> Result<(), FrameFault> {
        match self.number()? {
            0 => Err(FrameFault::PacketId),
            _ => Ok(()),
        }
    }

    fn binary(&mut self) -> Result<&'a [u8], FrameFault> {
        let length = self.number()?;
        self.take(usize::from(length))
    }

    /// A text whose U+0000 the caller looks for.
    fn utf8(&mut self) -> Result<&'a str, FrameFault> {
        std::str::from_utf8(self.binary()?).map_err(|_| FrameFault::Text)
    }

    fn text(&mut self) -> Result<&'a str, FrameFault> {
        let text = self.utf8()?;
        if text.contains('\0') {
            return Err(FrameFault::Text);
        }
        Ok(text)
    }

    fn end(&self) -> Result<(), FrameFault> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(FrameFault::Shape)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "tests/frame.rs"]
mod tests;
