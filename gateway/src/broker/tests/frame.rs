//! Frame checks: every trap of mqtt-server.md section 3 by name, and no input that panics.

use proptest::prelude::*;

use super::super::TOPIC;
use super::super::tests::{
    Connect, DISCONNECT, PINGREQ, Seeded, packet, publish, publish_qos0, text,
};
use super::super::wire::Protocol;
use super::super::{Limits, topic::FilterFault, topic::TopicFault};
use super::*;

const LIMIT: usize = 256 * 1024;

fn connect_fault(frame: &[u8]) -> Option<FrameFault> {
    check_connect(frame, TOPIC).err()
}

fn fault(frame: &[u8]) -> Option<FrameFault> {
    check(frame, TOPIC).err()
}

/// A CONNECT body after the protocol name: level, flags, keep-alive 60, then `fields`.
fn connect(level: u8, flags: u8, fields: &[Vec<u8>]) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend([level, flags, 0, 60]);
    body.extend(fields.concat());
    packet(0x10, &body)
}

fn filters(first: u8, id: u16, entries: &[u8]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(entries);
    packet(first, &body)
}

#[test]
fn frames_are_cut_at_their_length_and_not_before() {
    let frame = publish("a/b", 1, &[7; 300]);
    for cut in 0..frame.len() {
        assert_eq!(complete(&frame[..cut], LIMIT), Ok(None), "{cut} bytes");
    }
    assert_eq!(complete(&frame, LIMIT), Ok(Some(frame.len())));
    let mut two = frame.clone();
    two.extend(PINGREQ);
    assert_eq!(complete(&two, LIMIT), Ok(Some(frame.len())));
}

#[test]
fn an_oversized_claim_fails_from_the_header_alone() {
    assert_eq!(complete(&[0x30, 0x64], 102), Ok(None));
    assert_eq!(complete(&[0x30, 0x65], 102), Err(FrameFault::Oversized));
    let claim = [0x30, 0xFF, 0xFF, 0xFF, 0x7F];
    assert_eq!(complete(&claim, LIMIT), Err(FrameFault::Oversized));
}

#[test]
fn a_length_of_five_bytes_is_no_length() {
    let endless = [0x30, 0xFF, 0xFF, 0xFF, 0xFF];
    assert_eq!(complete(&endless[..4], LIMIT), Ok(None));
    assert_eq!(complete(&endless, LIMIT), Err(FrameFault::Length));
}

#[test]
fn sound_connects_pass() {
    let plain = Connect::new("u", "c");
    assert_eq!(connect_fault(&plain.bytes()), None);
    assert_eq!(connect_fault(&plain.will("a/b", "x", 2).bytes()), None);
    assert_eq!(connect_fault(&connect(4, 0x02, &[text("")])), None);
}

#[test]
fn other_protocols_are_told_apart() {
    for level in [0, 3, 5, 6, 255] {
        let frame = connect(level, 0x02, &[text("c")]);
        assert_eq!(connect_fault(&frame), Some(FrameFault::Level(level)));
    }
    let mut old = text("MQIsdp");
    old.extend([3, 2, 0, 60, 0, 1, b'c']);
    assert_eq!(
        connect_fault(&packet(0x10, &old)),
        Some(FrameFault::ProtocolName)
    );
}

#[test]
fn broken_connects_are_refused() {
    let client = || text("c");
    let cases = [
        (connect(4, 0x03, &[client()]), FrameFault::ConnectFlags), // reserved bit
        (connect(4, 0x0A, &[client()]), FrameFault::ConnectFlags), // will QoS without will
        (connect(4, 0x22, &[client()]), FrameFault::ConnectFlags), // will retain without will
        (
            connect(4, 0x1E, &[client(), text("t"), text("p")]),
            FrameFault::ConnectFlags,
        ), // QoS 3
        (
            connect(4, 0x42, &[client(), text("s")]),
            FrameFault::ConnectFlags,
        ), // secret, no user
        (connect(4, 0x02, &[]), FrameFault::Shape),
        (
            connect(4, 0x02, &[client(), text("left")]),
            FrameFault::Shape,
        ),
        (connect(4, 0x82, &[client()]), FrameFault::Shape),
        (
            connect(4, 0x02, &[vec![0, 2, 0xC3, 0x28]]),
            FrameFault::Text,
        ),
        (connect(4, 0x02, &[text("a\0")]), FrameFault::Text),
        (connect(4, 0x82, &[client(), text("u\0")]), FrameFault::Text),
        (
            connect(4, 0x06, &[client(), text("a/#"), text("")]),
            FrameFault::Topic(TopicFault::Wildcard),
        ),
        (
            connect(4, 0x06, &[client(), text(""), text("")]),
            FrameFault::Topic(TopicFault::Empty),
        ),
        (packet(0x11, &[]), FrameFault::PacketType),
        (packet(0x10, &[]), FrameFault::Shape),
        (PINGREQ.to_vec(), FrameFault::PacketType),
    ];
    for (frame, why) in cases {
        assert_eq!(connect_fault(&frame), Some(why), "{frame:02X?}");
    }
}

#[test]
fn sound_frames_pass() {
    let good = [
        publish("a/b", 1, b"x"),
        publish_qos0("a", b""),
        packet(0x3B, &publish("a", 9, b"")[2..]), // DUP and RETAIN with QoS 1
        filters(0x82, 1, &[0, 1, b'#', 2, 0, 1, b'a', 0]),
        filters(0xA2, 1, &[0, 1, b'+', 0, 1, b'a']),
        PINGREQ.to_vec(),
        DISCONNECT.to_vec(),
    ];
    for frame in good {
        assert_eq!(fault(&frame), None, "{frame:02X?}");
    }
}

#[test]
fn broken_frames_are_refused() {
    let topic = |name: &str| publish(name, 1, b"x");
    let long = "x".repeat(TOPIC.bytes + 1);
    let deep = "/".repeat(TOPIC.levels);
    let cases = [
        (topic(""), FrameFault::Topic(TopicFault::Empty)),
        (topic("a/+"), FrameFault::Topic(TopicFault::Wildcard)),
        (topic("a\0"), FrameFault::Topic(TopicFault::Nul)),
        (topic(&long), FrameFault::Topic(TopicFault::TooLong)),
        (topic(&deep), FrameFault::Topic(TopicFault::TooDeep)),
        (packet(0x32, &[0, 1, 0xFF, 0, 1]), FrameFault::Text),
        (publish("a", 0, b"x"), FrameFault::PacketId),
        (packet(0x32, &text("a")), FrameFault::Shape), // QoS 1 without room for its id
        (packet(0x30, &[0, 9, b'a']), FrameFault::Shape),
        (packet(0x30, &[]), FrameFault::Shape),
        (packet(0x38, &text("a")), FrameFault::Flags), // DUP on QoS 0
        (packet(0x36, &text("a")), FrameFault::Flags), // QoS 3
        (packet(0x34, &text("a")), FrameFault::ExactlyOnce),
        (packet(0x34, &[0, 1, b'a', 0, 0]), FrameFault::ExactlyOnce), // id 0: a panic of the crate
        (filters(0x80, 1, &[0, 1, b'a', 0]), FrameFault::Flags),
        (filters(0x82, 0, &[0, 1, b'a', 0]), FrameFault::PacketId),
        (filters(0x82, 1, &[]), FrameFault::Shape),
        (filters(0x82, 1, &[0, 1, b'a', 3]), FrameFault::Shape), // QoS 3
        (filters(0x82, 1, &[0, 1, b'a', 4]), FrameFault::Shape), // NoLocal is MQTT 5
        (
            filters(0x82, 1, &[0, 2, b'a', b'#', 0]),
            FrameFault::Filter(FilterFault::MultiLevelMisplaced),
        ),
        (
            filters(0xA2, 1, &[0, 0]),
            FrameFault::Filter(FilterFault::Empty),
        ),
        (filters(0xA0, 1, &[0, 1, b'a']), FrameFault::Flags),
        (packet(0xC1, &[]), FrameFault::Flags),
        (packet(0xC0, &[0]), FrameFault::Shape),
        (packet(0xE2, &[]), FrameFault::Flags),
        (packet(0xE0, &[0]), FrameFault::Shape),
    ];
    for (frame, why) in cases {
        assert_eq!(fault(&frame), Some(why), "{frame:02X?}");
    }
}

#[test]
fn packets_a_client_may_not_send_are_refused() {
    for kind in [0, 1, 2, 4, 5, 6, 7, 9, 11, 13, 15] {
        for flags in 0..16 {
            let frame = packet(kind << 4 | flags, &[0, 1]);
            assert_eq!(fault(&frame), Some(FrameFault::PacketType), "{frame:02X?}");
        }
    }
}

#[test]
fn empty_and_unmeasured_bytes_are_refused() {
    for bytes in [&[][..], &[0x30], &[0x30, 0xFF], &[0x30, 0xFF, 0xFF]] {
        assert!(fault(bytes).is_some() && connect_fault(bytes).is_some());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_measured_and_checked_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        limit in 0_usize..300,
    ) {
        if let Ok(Some(length)) = complete(&bytes, limit) {
            prop_assert!(length >= 2 && length <= limit && length <= bytes.len());
        }
        let _ = check(&bytes, TOPIC);
        let _ = check_connect(&bytes, TOPIC);
    }

    #[test]
    fn what_is_built_soundly_passes_and_is_read_back_unchanged(
        topic in "[a-z/]{1,30}", id in 1_u16.., payload in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let frame = publish(&topic, id, &payload);
        prop_assert_eq!(complete(&frame, LIMIT), Ok(Some(frame.len())));
        // `/` alone can be deeper than the limit.
        if topic.split('/').count() <= TOPIC.levels {
            prop_assert_eq!(check(&frame, TOPIC), Ok(()));
            let mut protocol = logged_in();
            let read = protocol.receive(&frame, &mut bytes::BytesMut::new());
            let Ok(super::super::wire::Incoming::Publish(arrival)) = read else {
                return Err(TestCaseError::fail("not a publish"));
            };
            prop_assert_eq!(arrival.topic, topic);
            prop_assert_eq!(arrival.packet_id.map(u16::from), Some(id));
            prop_assert_eq!(&arrival.payload[..], &payload[..]);
        }
    }
}

fn logged_in() -> Protocol {
    let mut protocol = Protocol::new(&Limits::default());
    let mut output = bytes::BytesMut::new();
    let connect = Connect::new("u", "c").bytes();
    assert!(protocol.receive(&connect, &mut output).is_ok());
    let accepted = super::super::wire::ConnectAnswer::Accepted;
    assert!(protocol.answer_connect(accepted, &mut output).is_ok());
    assert_eq!(&output[..], super::super::tests::CONNACK_OK);
    protocol
}

/// Sound packets, mutated: bytes changed, cut, doubled, joined. Whatever passes the check is taken by the
/// protocol crate without a panic. The same loop without the check panics within a few thousand rounds.
#[test]
fn nothing_that_passes_the_check_panics_the_protocol() {
    let mut seeded = Seeded(0x5EED);
    let (mut passed, mut taken) = (0, 0);
    for _ in 0..60_000 {
        let mut protocol = Protocol::new(&Limits::default());
        let mut output = bytes::BytesMut::new();
        let first = mutate(
            &Connect::new("u", "c").will("a/b", "w", 1).bytes(),
            &mut seeded,
        );
        if complete(&first, LIMIT) != Ok(Some(first.len())) || connect_fault(&first).is_some() {
            protocol = logged_in();
        } else if protocol.receive(&first, &mut output).is_ok() {
            let accepted = super::super::wire::ConnectAnswer::Accepted;
            assert!(protocol.answer_connect(accepted, &mut output).is_ok());
        }
        for _ in 0..8 {
            let frame = mutate(&sound(&mut seeded), &mut seeded);
            let whole = complete(&frame, LIMIT) == Ok(Some(frame.len()));
            if whole && fault(&frame).is_none() {
                passed += 1;
                taken += usize::from(protocol.receive(&frame, &mut output).is_ok());
            }
        }
    }
    assert!(passed > 50_000, "only {passed} frames passed: a blunt test");
    assert_eq!(
        taken, passed,
        "the check lets through what the crate refuses"
    );
}

fn sound(seeded: &mut Seeded) -> Vec<u8> {
    let id = seeded.below(4) as u16;
    match seeded.below(7) {
        0 => publish("a/b", id, b"payload"),
        1 => publish_qos0("a/b", b"payload"),
        2 => filters(0x82, id, &[0, 3, b'a', b'/', b'#', 1]),
        3 => filters(0xA2, id, &[0, 1, b'+']),
        4 => PINGREQ.to_vec(),
        5 => packet(0x34, &publish("a", id, b"")[2..]),
        _ => packet(0x62, &id.to_be_bytes()),
    }
}

fn mutate(frame: &[u8], seeded: &mut Seeded) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    for _ in 0..seeded.below(3) {
        let at = seeded.below(bytes.len());
        match seeded.below(4) {
            0 => bytes[at] = seeded.next() as u8,
            1 => bytes[at] ^= 1 << seeded.below(8),
            2 => bytes.truncate(at.max(1)),
            _ => bytes.insert(at, seeded.next() as u8),
        }
    }
    bytes
}
