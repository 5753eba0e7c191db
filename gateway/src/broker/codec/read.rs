//! Packets of a client, read and checked in one pass, the same code for both versions.

use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::Bytes;

use super::super::topic::{TopicLimits, check_filter, check_name};
use super::fields::{Fields, Frame};
use super::{
    Arrival, Fault, Filter, Hello, Incoming, Message, Properties, Qos, RetainHandling, Subscribe,
    Version, Will, kind, property,
};

/// Reads the first frame of a connection, which must be a CONNECT.
pub(in crate::broker) fn read_connect(frame: &[u8], topics: TopicLimits) -> Result<Hello, Fault> {
    let mut frame = Frame::open(frame)?;
    let version = connect_version(&mut frame)?;
    if version == Version::V5 {
        frame.require_minimal_length()?;
    }
    let fields = &mut frame.body;
    let flags = ConnectFlags::read(version, fields.byte()?)?;
    let mut hello = Hello::new(version, flags.clean_start, fields.two_bytes()?);
    property::connect(fields, &mut hello)?;
    hello.client_id = fields.text()?.to_owned();
    if let Some((qos, retain)) = flags.will {
        hello.will = Some(read_will(version, fields, qos, retain, topics)?);
    }
    if flags.username {
        hello.username = Some(fields.text()?.to_owned());
    }
    if flags.secret {
        hello.secret = Some(fields.binary()?.to_vec());
    }
    fields.end()?;
    if version == Version::V3 && hello.client_id.is_empty() && !hello.clean_start {
        return Err(Fault::ClientId);
    }
    Ok(hello)
}

/// Which version a refusal of this first frame has to speak. `None` for strangers of other protocols, who
/// would not understand any.
pub(in crate::broker) fn refusal_version(frame: &[u8]) -> Option<Version> {
    match connect_version(&mut Frame::open(frame).ok()?) {
        Ok(version) => Some(version),
        Err(Fault::Level(level)) if level > 5 => Some(Version::V5),
        Err(Fault::Level(_)) => Some(Version::V3),
        Err(_) => None,
    }
}

/// Reads a frame that came after CONNECT.
pub(in crate::broker) fn read(
    version: Version,
    frame: &[u8],
    topics: TopicLimits,
) -> Result<Incoming, Fault> {
    let mut frame = Frame::open(frame)?;
    if version == Version::V5 {
        frame.require_minimal_length()?;
    }
    match frame.kind {
        kind::PUBLISH => {}
        kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE => frame.require_flags(0b0010)?,
        _ => frame.require_flags(0)?,
    }
    let fields = &mut frame.body;
    let incoming = match frame.kind {
        kind::PUBLISH => Incoming::Publish(read_publish(version, frame.flags, fields, topics)?),
        kind::PUBACK => {
            let (id, refused) = read_acknowledgement(version, fields, answers_publish)?;
            Incoming::Puback { id, refused }
        }
        kind::PUBREC => {
            let (id, refused) = read_acknowledgement(version, fields, answers_publish)?;
            Incoming::Pubrec { id, refused }
        }
        kind::PUBREL => {
            let (id, _) = read_acknowledgement(version, fields, answers_release)?;
            Incoming::Pubrel { id }
        }
        kind::PUBCOMP => {
            let (id, _) = read_acknowledgement(version, fields, answers_release)?;
            Incoming::Pubcomp { id }
        }
        kind::SUBSCRIBE => Incoming::Subscribe(read_subscribe(version, fields)?),
        kind::UNSUBSCRIBE => read_unsubscribe(version, fields)?,
        kind::PINGREQ => Incoming::Ping,
        kind::DISCONNECT => read_disconnect(version, fields)?,
        kind::AUTH if version == Version::V5 => read_auth(version, fields)?,
        _ => return Err(Fault::PacketType),
    };
    frame.body.end()?;
    Ok(incoming)
}

/// Reads up to the protocol level.
fn connect_version(frame: &mut Frame<'_>) -> Result<Version, Fault> {
    if frame.kind != kind::CONNECT {
        return Err(Fault::PacketType);
    }
    frame.require_flags(0)?;
    if frame.body.binary()? != b"MQTT" {
        return Err(Fault::ProtocolName);
    }
    match frame.body.byte()? {
        4 => Ok(Version::V3),
        5 => Ok(Version::V5),
        level => Err(Fault::Level(level)),
    }
}

impl Hello {
    /// With what holds when CONNECT is silent about it.
    const fn new(version: Version, clean_start: bool, keep_alive: u16) -> Self {
        let session_expiry = match version {
            Version::V3 if !clean_start => u32::MAX,
            Version::V3 | Version::V5 => 0,
        };
        Self {
            version,
            client_id: String::new(),
            clean_start,
            session_expiry,
            keep_alive,
            username: None,
            secret: None,
            will: None,
            receive_maximum: u16::MAX,
            maximum_packet: None,
            alias_maximum: 0,
            problem_information: true,
            authentication_method: false,
        }
    }
}

/// The flags of CONNECT, which decide what fields follow.
struct ConnectFlags {
    clean_start: bool,
    /// Its QoS and RETAIN.
    will: Option<(Qos, bool)>,
    username: bool,
    secret: bool,
}

impl ConnectFlags {
    fn read(version: Version, bits: u8) -> Result<Self, Fault> {
        let set = |bit: u8| bits & (1 << bit) != 0;
        let qos = Qos::from_bits((bits >> 3) & 0b11).ok_or(Fault::Qos)?;
        let will = set(2).then_some((qos, set(5)));
        let (username, secret) = (set(7), set(6));
        // MQTT 5 dropped this rule of 3.1.1 (MQTT-3.1.2-22).
        let secret_alone = version == Version::V3 && secret && !username;
        let details_alone = will.is_none() && (qos != Qos::AtMostOnce || set(5));
        if set(0) || secret_alone || details_alone {
            return Err(Fault::ConnectFlags);
        }
        Ok(Self {
            clean_start: set(1),
            will,
            username,
            secret,
        })
    }
}

fn read_will(
    version: Version,
    fields: &mut Fields<'_>,
    qos: Qos,
    retain: bool,
    topics: TopicLimits,
) -> Result<Will, Fault> {
    let (properties, delay) = property::will(version, fields)?;
    let topic = fields.utf8()?;
    check_name(topic, topics).map_err(Fault::Topic)?;
    let payload = fields.binary()?;
    Ok(Will {
        message: message(topic, payload, qos, retain, properties),
        delay,
    })
}

fn read_publish(
    version: Version,
    flags: u8,
    fields: &mut Fields<'_>,
    topics: TopicLimits,
) -> Result<Arrival, Fault> {
    let qos = Qos::from_bits((flags >> 1) & 0b11).ok_or(Fault::Qos)?;
    let dup = flags & 0b1000 != 0;
    if dup && qos == Qos::AtMostOnce {
        return Err(Fault::Duplicate);
    }
    let topic = fields.utf8()?;
    let id = match qos {
        Qos::AtMostOnce => None,
        Qos::AtLeastOnce | Qos::ExactlyOnce => Some(fields.packet_id()?),
    };
    let (properties, alias) = property::publish(version, fields)?;
    match version {
        Version::V5 if topic.is_empty() && alias.is_some() => {}
        Version::V5 if topic.is_empty() => return Err(Fault::NoTopic),
        Version::V3 | Version::V5 => check_name(topic, topics).map_err(Fault::Topic)?,
    }
    let retain = flags & 1 != 0;
    Ok(Arrival {
        message: message(topic, fields.rest(), qos, retain, properties),
        id,
        dup,
        alias,
    })
}

/// Copies, so that a message kept for long does not keep the buffer it came in.
fn message(topic: &str, payload: &[u8], qos: Qos, retain: bool, properties: Properties) -> Message {
    Message {
        topic: Arc::from(topic),
        payload: Bytes::copy_from_slice(payload),
        qos,
        retain,
        properties,
    }
}

/// A packet id and, on MQTT 5, a reason that can be left out when it is 0 (section 3.4.2.1). Says whether
/// the reason is a refusal.
fn read_acknowledgement(
    version: Version,
    fields: &mut Fields<'_>,
    known: fn(u8) -> bool,
) -> Result<(NonZeroU16, bool), Fault> {
    let id = fields.packet_id()?;
    let reason = read_reason(version, fields, known)?;
    if !fields.is_empty() {
        property::acknowledgement(version, fields)?;
    }
    Ok((id, reason >= 0x80))
}

/// A trailing reason code; 0 when the packet ends before it, and always on 3.1.1.
fn read_reason(
    version: Version,
    fields: &mut Fields<'_>,
    known: fn(u8) -> bool,
) -> Result<u8, Fault> {
    if version == Version::V3 || fields.is_empty() {
        return Ok(0);
    }
    let reason = fields.byte()?;
    if !known(reason) {
        return Err(Fault::ReasonCode(reason));
    }
    Ok(reason)
}

/// Reasons of PUBACK and PUBREC (sections 3.4.2.1 and 3.5.2.1).
const fn answers_publish(reason: u8) -> bool {
    matches!(
        reason,
        0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99
    )
}

/// Reasons of PUBREL and PUBCOMP (sections 3.6.2.1 and 3.7.2.1).
const fn answers_release(reason: u8) -> bool {
    matches!(reason, 0x00 | 0x92)
}

/// Reasons of DISCONNECT that a client may send (section 3.14.2.1).
const fn ends_client(reason: u8) -> bool {
    matches!(
        reason,
        0x00 | 0x04 | 0x80..=0x83 | 0x90 | 0x93..=0x99
    )
}

/// Reasons of AUTH that a client may send (section 3.15.2.1), and the success of an empty one.
const fn authenticates(reason: u8) -> bool {
    matches!(reason, 0x00 | 0x18 | 0x19)
}

fn read_subscribe(version: Version, fields: &mut Fields<'_>) -> Result<Subscribe, Fault> {
    let id = fields.packet_id()?;
    let identifier = property::subscribe(version, fields)?;
    let mut filters = Vec::new();
    while !fields.is_empty() {
        let (filter, shared) = read_filter(version, fields)?;
        let filter = with_options(version, filter, fields.byte()?)?;
        if shared && filter.no_local {
            return Err(Fault::SharedNoLocal);
        }
        filters.push(filter);
    }
    if filters.is_empty() {
        return Err(Fault::NoFilters);
    }
    Ok(Subscribe {
        id,
        identifier,
        filters,
    })
}

fn read_unsubscribe(version: Version, fields: &mut Fields<'_>) -> Result<Incoming, Fault> {
    let id = fields.packet_id()?;
    property::unsubscribe(version, fields)?;
    let mut filters = Vec::new();
    while !fields.is_empty() {
        filters.push(read_filter(version, fields)?.0.to_owned());
    }
    if filters.is_empty() {
        return Err(Fault::NoFilters);
    }
    Ok(Incoming::Unsubscribe { id, filters })
}

/// A well-formed filter, and whether it is a shared subscription.
fn read_filter<'a>(version: Version, fields: &mut Fields<'a>) -> Result<(&'a str, bool), Fault> {
    let filter = fields.utf8()?;
    check_filter(filter).map_err(Fault::Filter)?;
    // On 3.1.1 `$share` is a level like any other.
    let shared = match version {
        Version::V3 => None,
        Version::V5 => filter.strip_prefix("$share/"),
    };
    if let Some(shared) = shared {
        let (share, rest) = shared.split_once('/').ok_or(Fault::SharedFilter)?;
        if share.is_empty() || share.contains(['+', '#']) || rest.is_empty() {
            return Err(Fault::SharedFilter);
        }
    }
    Ok((filter, shared.is_some()))
}

fn with_options(version: Version, filter: &str, options: u8) -> Result<Filter, Fault> {
    let (reserved, qos_3) = match version {
        Version::V3 => (0b1111_1100, Fault::SubscriptionOptions),
        Version::V5 => (0b1100_0000, Fault::SubscriptionQos),
    };
    if options & reserved != 0 {
        return Err(Fault::SubscriptionOptions);
    }
    Ok(Filter {
        filter: filter.to_owned(),
        qos: Qos::from_bits(options & 0b11).ok_or(qos_3)?,
        no_local: options & 0b0100 != 0,
        retain_as_published: options & 0b1000 != 0,
        retain_handling: match options >> 4 {
            0 => RetainHandling::Always,
            1 => RetainHandling::IfNew,
            2 => RetainHandling::Never,
            _ => return Err(Fault::RetainHandling),
        },
    })
}

fn read_disconnect(version: Version, fields: &mut Fields<'_>) -> Result<Incoming, Fault> {
    let reason = read_reason(version, fields, ends_client)?;
    let session_expiry = if fields.is_empty() {
        None
    } else {
        property::disconnect(version, fields)?
    };
    Ok(Incoming::Disconnect {
        with_will: reason != 0,
        session_expiry,
    })
}

fn read_auth(version: Version, fields: &mut Fields<'_>) -> Result<Incoming, Fault> {
    if !fields.is_empty() {
        read_reason(version, fields, authenticates)?;
        property::auth(version, fields)?;
    }
    Ok(Incoming::Auth)
}
