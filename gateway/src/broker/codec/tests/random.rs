//! Bytes of chance and broken bytes: none makes a reader panic, and what a reader takes obeys what the
//! types promise. Overflow checks are on in tests.

use std::sync::Arc;

use mqtt_protocol_core::mqtt::packet::{v3_1_1, v5_0};
use proptest::prelude::*;

use super::super::fields::Frame;
use super::oracle::client_frame;
use super::*;
use crate::broker::tests::corpus::corpus;
use crate::broker::topic::{TopicLimits, check_filter, check_name};

/// Small packets of every kind, for chance to work on.
const SEEDS: [&str; 22] = [
    "40 02 0007",
    "40 0f 0007 87 0b 1f 0001 6e 26 0001 61 0001 62",
    "50 04 0007 80 00",
    "62 02 0003",
    "62 03 0003 92",
    "70 04 0003 92 00",
    "82 0e 0004 0003 612f23 02 0003 2b2f62 00",
    "82 19 0004 03 0b ac02 0003 612f23 1e 000a 2473686172652f672f62 21",
    "82 07 0001 00 0001 61 01",
    "a2 0c 0005 0003 612f23 0003 2b2f62",
    "a2 14 0005 00 0003 612f23 000a 2473686172652f672f62",
    "c0 00",
    "e0 00",
    "e0 07 04 05 11 0000000a",
    "e0 0a 00 08 1f 0001 6e 1c 0001 73",
    "f0 0c 19 0a 15 0002 6162 16 0002 00ff",
    "30 05 0003 612f62",
    "30 07 0000 03 23 0003 78",
    "32 08 0003 612f62 0002 79",
    "34 09 0003 612f62 0003 00 7a",
    "10 0d 0004 4d515454 04 02 003c 0001 63",
    "10 10 0004 4d515454 05 02 003c 02 17 00 0001 63",
];

/// What real clients sent.
fn real() -> Vec<Vec<u8>> {
    let conversations = corpus().into_iter();
    conversations.flat_map(|one| one.packets).collect()
}

fn seed() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0..SEEDS.len()).prop_map(|index| hex(SEEDS[index])),
        proptest::sample::select(real()),
        client_frame().prop_map(|(_, frame)| frame),
    ]
}

/// One change to a frame. Positions count around its end.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Flip(usize, u8),
    Remove(usize),
    Insert(usize, u8),
    Cut(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<usize>();
    // Small numbers are lengths and identifiers, more often than the rest.
    let byte = prop_oneof![0_u8..48, any::<u8>()];
    prop_oneof![
        (at, byte.clone()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at, 0_u8..8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        at.prop_map(Change::Remove),
        (at, byte).prop_map(|(at, byte)| Change::Insert(at, byte)),
        at.prop_map(Change::Cut),
    ]
}

fn apply(frame: &mut Vec<u8>, change: &Change) {
    let length = frame.len();
    if length == 0 {
        return;
    }
    match *change {
        Change::Set(at, byte) => frame[at % length] = byte,
        Change::Flip(at, bit) => frame[at % length] ^= 1 << bit,
        Change::Remove(at) => drop(frame.remove(at % length)),
        Change::Insert(at, byte) => frame.insert(at % (length + 1), byte),
        Change::Cut(at) => frame.truncate(at % length),
    }
}

/// A broken frame, most often with a Remaining Length that fits it again.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    (seed(), proptest::collection::vec(change(), 1..5), 0..4_u8).prop_map(
        |(frame, changes, refit)| {
            let mut inner = Frame::open(&frame).unwrap();
            if refit > 0 {
                let mut body = inner.body.rest().to_vec();
                changes.iter().for_each(|change| apply(&mut body, change));
                packet(frame[0], &body)
            } else {
                let mut frame = frame;
                changes.iter().for_each(|change| apply(&mut frame, change));
                frame
            }
        },
    )
}

const ANY_LENGTH: TopicLimits = TopicLimits {
    bytes: usize::MAX,
    levels: usize::MAX,
};

fn sound_text(text: &str) {
    assert!(!text.contains('\0') && text.len() <= 65_535);
}

fn sound_message(message: &Message) {
    let Message { properties, .. } = message;
    if let Some(topic) = &properties.response_topic {
        assert_eq!(check_name(topic, ANY_LENGTH), Ok(()));
    }
    properties
        .content_type
        .iter()
        .for_each(|text| sound_text(text));
    for (name, value) in &properties.user {
        sound_text(name);
        sound_text(value);
    }
}

fn sound_filter(filter: &str) {
    assert_eq!(check_filter(filter), Ok(()));
}

fn sound_hello(hello: &Hello) {
    sound_text(&hello.client_id);
    assert!(hello.receive_maximum > 0 && hello.maximum_packet != Some(0));
    if let Some(Will { message, .. }) = &hello.will {
        assert_eq!(check_name(&message.topic, TOPIC), Ok(()));
        sound_message(message);
    }
    if hello.version == Version::V3 {
        assert!(hello.username.is_some() || hello.secret.is_none());
        assert!(hello.clean_start || !hello.client_id.is_empty());
        assert_eq!(hello.session_expiry == 0, hello.clean_start);
    }
}

fn sound_publish(version: Version, arrival: &Arrival) {
    let Arrival {
        message,
        id,
        dup,
        alias,
    } = arrival;
    assert_eq!(id.is_some(), message.qos > Qos::AtMostOnce);
    assert!(!dup || id.is_some());
    if alias.is_none() || !message.topic.is_empty() {
        assert_eq!(check_name(&message.topic, TOPIC), Ok(()));
    }
    if version == Version::V3 {
        assert_eq!(
            (alias, &message.properties),
            (&None, &Properties::default())
        );
    }
    sound_message(message);
}

fn sound(version: Version, incoming: &Incoming) {
    match incoming {
        Incoming::Publish(arrival) => sound_publish(version, arrival),
        Incoming::Subscribe(subscribe) => {
            assert!(!subscribe.filters.is_empty());
            assert!(
                subscribe
                    .identifier
                    .is_none_or(|id| (1..1 << 28).contains(&id))
            );
            for filter in &subscribe.filters {
                sound_filter(&filter.filter);
                let shared = version == Version::V5 && filter.filter.starts_with("$share/");
                assert!(!shared || (!filter.no_local && filter.filter.split('/').count() > 2));
            }
        }
        Incoming::Unsubscribe { filters, .. } => {
            assert!(!filters.is_empty());
            filters.iter().for_each(|filter| sound_filter(filter));
        }
        Incoming::Disconnect {
            with_will,
            session_expiry,
        } => {
            assert!(version == Version::V5 || (!with_will && session_expiry.is_none()));
        }
        Incoming::Auth => assert_eq!(version, Version::V5),
        Incoming::Puback { .. }
        | Incoming::Pubrec { .. }
        | Incoming::Pubrel { .. }
        | Incoming::Pubcomp { .. }
        | Incoming::Ping => {}
    }
}

/// Whatever we take the crate takes too, to the last byte: we are the stricter of the two.
fn agreed(version: Version, frame: &[u8]) -> bool {
    let body = Frame::open(frame).unwrap().body.rest();
    let shared: Arc<[u8]> = Arc::from(body);
    let flags = frame[0] & 0x0F;
    macro_rules! used {
        ($name:ident, $($input:expr),+) => {
            match version {
                Version::V3 => v3_1_1::$name::parse($($input),+).map(|(_, used)| used),
                Version::V5 => v5_0::$name::parse($($input),+).map(|(_, used)| used),
            }
        };
    }
    let used = match frame[0] >> 4 {
        1 => used!(Connect, body),
        3 => used!(Publish, flags, shared),
        4 => used!(Puback, body),
        5 => used!(Pubrec, body),
        6 => used!(Pubrel, body),
        7 => used!(Pubcomp, body),
        8 => used!(Subscribe, body),
        10 => used!(Unsubscribe, body),
        12 => used!(Pingreq, body),
        14 => used!(Disconnect, body),
        _ => v5_0::Auth::parse(body).map(|(_, used)| used),
    };
    used == Ok(body.len())
}

fn examine(frame: &[u8]) {
    let _ = refusal_version(frame);
    let _ = complete(frame, 1000);
    if let Ok(hello) = read_connect(frame, TOPIC) {
        sound_hello(&hello);
        // MQTT 5 allows it, the crate does not.
        let secret_alone = hello.secret.is_some() && hello.username.is_none();
        assert!(secret_alone || agreed(hello.version, frame), "{frame:02x?}");
    }
    for version in [Version::V3, Version::V5] {
        if let Ok(incoming) = read(version, frame, TOPIC) {
            sound(version, &incoming);
            assert!(agreed(version, frame), "{version:?} {frame:02x?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn chance_is_survived(frame in proptest::collection::vec(any::<u8>(), 0..64)) {
        examine(&frame);
        if let Some((first, body)) = frame.split_first() {
            examine(&packet(*first, body));
        }
    }

    #[test]
    fn broken_frames_are_survived(frame in mutated()) {
        examine(&frame);
    }
}

#[test]
fn the_seeds_are_sound() {
    for frame in SEEDS.map(hex).into_iter().chain(real()) {
        let taken = [Version::V3, Version::V5].map(|version| read(version, &frame, TOPIC).is_ok());
        let first = read_connect(&frame, TOPIC).is_ok();
        assert!(first || taken.contains(&true), "{frame:02x?}");
        examine(&frame);
    }
}
