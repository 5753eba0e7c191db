//! The codec, packet by packet. Here: what the files have in common.

mod connect;
mod faults;
mod incoming;
mod oracle;
mod outgoing;
mod random;

use std::num::NonZeroU16;

use bytes::Bytes;

pub(super) use crate::broker::TOPIC;
pub(super) use crate::broker::tests::{packet, text};

use super::*;

/// Bytes written as hex, blanks for the eye.
fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|digit| *digit != b' ').collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn id(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

fn plain(topic: &str, payload: &[u8], qos: Qos, retain: bool) -> Message {
    Message {
        topic: topic.into(),
        payload: Bytes::copy_from_slice(payload),
        qos,
        retain,
        properties: Properties::default(),
    }
}

/// All that a message can carry.
fn rich() -> Properties {
    Properties {
        utf8_payload: true,
        expiry: Some(60),
        content_type: Some("text".to_owned()),
        response_topic: Some("r".to_owned()),
        correlation: Some(Bytes::from_static(&[1, 2])),
        user: vec![
            ("k".to_owned(), "1".to_owned()),
            ("k".to_owned(), "2".to_owned()),
        ],
    }
}

fn take(version: Version, frame: &[u8]) -> Incoming {
    read(version, frame, TOPIC).unwrap_or_else(|fault| panic!("{fault} in {frame:02x?}"))
}
