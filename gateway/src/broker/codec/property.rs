//! Property sections of MQTT 5 (section 2.2.2), as clients send them.
//!
//! Owns the property identifiers and what holds for each whatever the packet: once or many, and its values.

use std::num::NonZeroU16;

use bytes::Bytes;

use super::super::topic::{TopicLimits, check_name};
use super::fields::Fields;
use super::{Fault, Hello, Properties, Version};

pub(super) const PAYLOAD_FORMAT: u8 = 0x01;
pub(super) const MESSAGE_EXPIRY: u8 = 0x02;
pub(super) const CONTENT_TYPE: u8 = 0x03;
pub(super) const RESPONSE_TOPIC: u8 = 0x08;
pub(super) const CORRELATION: u8 = 0x09;
pub(super) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
pub(super) const SESSION_EXPIRY: u8 = 0x11;
pub(super) const ASSIGNED_CLIENT_ID: u8 = 0x12;
pub(super) const SERVER_KEEP_ALIVE: u8 = 0x13;
pub(super) const AUTHENTICATION_METHOD: u8 = 0x15;
pub(super) const AUTHENTICATION_DATA: u8 = 0x16;
pub(super) const PROBLEM_INFORMATION: u8 = 0x17;
pub(super) const WILL_DELAY: u8 = 0x18;
pub(super) const RESPONSE_INFORMATION: u8 = 0x19;
pub(super) const SERVER_REFERENCE: u8 = 0x1C;
pub(super) const REASON_STRING: u8 = 0x1F;
pub(super) const RECEIVE_MAXIMUM: u8 = 0x21;
pub(super) const ALIAS_MAXIMUM: u8 = 0x22;
pub(super) const TOPIC_ALIAS: u8 = 0x23;
pub(super) const USER: u8 = 0x26;
pub(super) const MAXIMUM_PACKET: u8 = 0x27;

/// A response topic is passed on, never routed by, so only its shape counts.
const ANY_LENGTH: TopicLimits = TopicLimits {
    bytes: usize::MAX,
    levels: usize::MAX,
};

/// Reads a section: `take` reads the value of one property, or says that it does not belong here.
pub(super) fn each<'a>(
    version: Version,
    fields: &mut Fields<'a>,
    mut take: impl FnMut(u8, &mut Fields<'a>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    match version {
        Version::V3 => return Ok(()),
        Version::V5 => {}
    }
    let length = fields.variable()?;
    let mut section = fields.part(length)?;
    let mut seen = 0_u64;
    while !section.is_empty() {
        // A variable byte integer by the standard, but the highest one known is 0x2A.
        let id = section.byte()?;
        let bit = 1_u64.checked_shl(id.into()).ok_or(Fault::Property(id))?;
        if seen & bit != 0 && id != USER {
            return Err(Fault::PropertyTwice(id));
        }
        seen |= bit;
        take(id, &mut section)?;
    }
    Ok(())
}

/// Properties of CONNECT (section 3.1.2.11) into `hello`.
pub(super) fn connect(fields: &mut Fields<'_>, hello: &mut Hello) -> Result<(), Fault> {
    let mut data = false;
    each(hello.version, fields, |id, value| {
        match id {
            SESSION_EXPIRY => hello.session_expiry = value.four_bytes()?,
            RECEIVE_MAXIMUM => hello.receive_maximum = nonzero(id, value.two_bytes()?)?,
            MAXIMUM_PACKET => hello.maximum_packet = Some(nonzero(id, value.four_bytes()?)?),
            ALIAS_MAXIMUM => hello.alias_maximum = value.two_bytes()?,
            PROBLEM_INFORMATION => hello.problem_information = flag(id, value)?,
            RESPONSE_INFORMATION => drop(flag(id, value)?),
            AUTHENTICATION_METHOD => {
                value.text()?;
                hello.authentication_method = true;
            }
            AUTHENTICATION_DATA => {
                value.binary()?;
                data = true;
            }
            _ => skip_user(id, value)?,
        }
        Ok(())
    })?;
    if data && !hello.authentication_method {
        return Err(Fault::AuthenticationMethod);
    }
    Ok(())
}

/// Properties of a will (section 3.1.3.2), with its delay.
pub(super) fn will(version: Version, fields: &mut Fields<'_>) -> Result<(Properties, u32), Fault> {
    let mut properties = Properties::default();
    let mut delay = 0;
    each(version, fields, |id, value| match id {
        WILL_DELAY => {
            delay = value.four_bytes()?;
            Ok(())
        }
        _ => of_message(id, value, &mut properties),
    })?;
    Ok((properties, delay))
}

/// Properties of a PUBLISH (section 3.3.2.3), with its topic alias.
pub(super) fn publish(
    version: Version,
    fields: &mut Fields<'_>,
) -> Result<(Properties, Option<NonZeroU16>), Fault> {
    let mut properties = Properties::default();
    let mut alias = None;
    each(version, fields, |id, value| match id {
        TOPIC_ALIAS => {
            alias = Some(NonZeroU16::new(value.two_bytes()?).ok_or(Fault::TopicAlias)?);
            Ok(())
        }
        SUBSCRIPTION_IDENTIFIER => Err(Fault::SubscriptionIdentifier),
        _ => of_message(id, value, &mut properties),
    })?;
    Ok((properties, alias))
}

/// Properties of a SUBSCRIBE (section 3.8.2.1): its subscription identifier.
pub(super) fn subscribe(version: Version, fields: &mut Fields<'_>) -> Result<Option<u32>, Fault> {
    let mut identifier = None;
    each(version, fields, |id, value| match id {
        SUBSCRIPTION_IDENTIFIER => {
            identifier = Some(nonzero(id, value.variable()?)?);
            Ok(())
        }
        _ => skip_user(id, value),
    })?;
    Ok(identifier)
}

/// Properties of an UNSUBSCRIBE (section 3.10.2.1).
pub(super) fn unsubscribe(version: Version, fields: &mut Fields<'_>) -> Result<(), Fault> {
    each(version, fields, skip_user)
}

/// Properties of PUBACK, PUBREC, PUBREL and PUBCOMP.
pub(super) fn acknowledgement(version: Version, fields: &mut Fields<'_>) -> Result<(), Fault> {
    each(version, fields, |id, value| match id {
        REASON_STRING => value.text().map(drop),
        _ => skip_user(id, value),
    })
}

/// Properties of a DISCONNECT (section 3.14.2.2): the new session expiry.
pub(super) fn disconnect(version: Version, fields: &mut Fields<'_>) -> Result<Option<u32>, Fault> {
    let mut session_expiry = None;
    each(version, fields, |id, value| match id {
        SESSION_EXPIRY => {
            session_expiry = Some(value.four_bytes()?);
            Ok(())
        }
        REASON_STRING | SERVER_REFERENCE => value.text().map(drop),
        _ => skip_user(id, value),
    })?;
    Ok(session_expiry)
}

/// Properties of an AUTH (section 3.15.2.2).
pub(super) fn auth(version: Version, fields: &mut Fields<'_>) -> Result<(), Fault> {
    let mut method = false;
    each(version, fields, |id, value| match id {
        AUTHENTICATION_METHOD => {
            method = true;
            value.text().map(drop)
        }
        REASON_STRING => value.text().map(drop),
        AUTHENTICATION_DATA => value.binary().map(drop),
        _ => skip_user(id, value),
    })?;
    if method {
        Ok(())
    } else {
        Err(Fault::AuthenticationMethod)
    }
}

/// One of the properties that a PUBLISH and a will have in common.
fn of_message(id: u8, value: &mut Fields<'_>, into: &mut Properties) -> Result<(), Fault> {
    match id {
        PAYLOAD_FORMAT => into.utf8_payload = flag(id, value)?,
        MESSAGE_EXPIRY => into.expiry = Some(value.four_bytes()?),
        CONTENT_TYPE => into.content_type = Some(value.text()?.to_owned()),
        RESPONSE_TOPIC => {
            let topic = value.utf8()?;
            check_name(topic, ANY_LENGTH).map_err(Fault::ResponseTopic)?;
            into.response_topic = Some(topic.to_owned());
        }
        CORRELATION => into.correlation = Some(Bytes::copy_from_slice(value.binary()?)),
        USER => {
            let name = value.text()?.to_owned();
            into.user.push((name, value.text()?.to_owned()));
        }
        _ => return Err(Fault::Property(id)),
    }
    Ok(())
}

/// A user property of a packet that is not passed on; any other one does not belong there.
fn skip_user(id: u8, value: &mut Fields<'_>) -> Result<(), Fault> {
    if id != USER {
        return Err(Fault::Property(id));
    }
    value.text()?;
    value.text()?;
    Ok(())
}

fn flag(id: u8, value: &mut Fields<'_>) -> Result<bool, Fault> {
    match value.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Fault::PropertyValue(id)),
    }
}

fn nonzero<T: Default + PartialEq>(id: u8, value: T) -> Result<T, Fault> {
    if value == T::default() {
        return Err(Fault::PropertyValue(id));
    }
    Ok(value)
}
