//! Packets to a client, byte by byte as the standards lay them out.

use std::num::NonZeroU32;

use bytes::BytesMut;

use super::*;

fn written(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut output = BytesMut::new();
    write(&mut output);
    output.to_vec()
}

/// What `write` appends, or that it appends nothing because the packet is too large.
fn tried(write: impl FnOnce(&mut BytesMut) -> Result<(), TooLarge>) -> Result<Vec<u8>, TooLarge> {
    let mut output = BytesMut::from(&b"before"[..]);
    let outcome = write(&mut output);
    let appended = output.strip_prefix(b"before").unwrap().to_vec();
    if outcome.is_err() {
        assert!(appended.is_empty(), "{appended:02x?}");
    }
    outcome.map(|()| appended)
}

fn welcome() -> Welcome {
    Welcome {
        assigned_client_id: Some("x".to_owned()),
        receive_maximum: NonZeroU16::new(20),
        maximum_packet: NonZeroU32::new(0x40000),
        server_keep_alive: Some(60),
        alias_maximum: 8,
        session_expiry: Some(3600),
    }
}

#[test]
fn a_welcome_is_written() {
    let connack = |version, present, welcome: &Welcome| {
        tried(|output| super::connack(output, version, present, welcome, None)).unwrap()
    };
    let nothing = Welcome::default();
    assert_eq!(connack(Version::V3, false, &welcome()), hex("20 02 00 00"));
    assert_eq!(connack(Version::V3, true, &nothing), hex("20 02 01 00"));
    assert_eq!(connack(Version::V5, true, &nothing), hex("20 03 01 00 00"));
    assert_eq!(
        connack(Version::V5, false, &welcome()),
        hex("20 1a 00 00 17 11 00000e10 21 0014 27 00040000 12 0001 78 22 0008 13 003c")
    );
}

#[test]
fn a_welcome_that_the_client_cannot_take_is_not_written() {
    let connack =
        |limit| tried(|output| super::connack(output, Version::V5, false, &welcome(), limit));
    assert_eq!(connack(Some(28)).map(|bytes| bytes.len()), Ok(28));
    assert_eq!(connack(Some(27)), Err(TooLarge));
}

#[test]
fn refusals_are_written() {
    for (why, code, reason) in [
        (Refused::UnsupportedVersion, Some(1), 0x84),
        (Refused::ClientIdNotValid, Some(2), 0x85),
        (Refused::ServerUnavailable, Some(3), 0x88),
        (Refused::BadUserNameOrPassword, Some(4), 0x86),
        (Refused::NotAuthorized, Some(5), 0x87),
        (Refused::BadAuthenticationMethod, Some(5), 0x8C),
        (Refused::Malformed, None, 0x81),
        (Refused::ProtocolError, None, 0x82),
        (Refused::TopicNameInvalid, None, 0x90),
        (Refused::PacketTooLarge, None, 0x95),
    ] {
        let old = written(|output| connack_refused(output, Version::V3, why));
        let expected = code.map_or(vec![], |code| vec![0x20, 2, 0, code]);
        assert_eq!(old, expected, "{why:?}");
        let new = written(|output| connack_refused(output, Version::V5, why));
        assert_eq!(new, [0x20, 3, 0, reason, 0], "{why:?}");
    }
}

#[test]
fn acknowledgements_are_written() {
    let answer = PublishAnswer::NotAuthorized;
    let missing = ReleaseAnswer::PacketIdNotFound;
    let id = id(0x0102);
    for (version, bad, absent) in [
        (Version::V3, "02 0102", "02 0102"),
        (Version::V5, "03 0102 87", "03 0102 92"),
    ] {
        let ok = PublishAnswer::Success;
        let bytes = written(|output| puback(output, version, id, ok));
        assert_eq!(bytes, hex("40 02 0102"));
        let bytes = written(|output| puback(output, version, id, answer));
        assert_eq!(bytes, hex(&format!("40 {bad}")));
        let bytes = written(|output| pubrec(output, version, id, ok));
        assert_eq!(bytes, hex("50 02 0102"));
        let bytes = written(|output| pubrec(output, version, id, answer));
        assert_eq!(bytes, hex(&format!("50 {bad}")));
        let ok = ReleaseAnswer::Success;
        let bytes = written(|output| pubrel(output, version, id, ok));
        assert_eq!(bytes, hex("62 02 0102"));
        let bytes = written(|output| pubrel(output, version, id, missing));
        assert_eq!(bytes, hex(&format!("62 {absent}")));
        let bytes = written(|output| pubcomp(output, version, id, ok));
        assert_eq!(bytes, hex("70 02 0102"));
        let bytes = written(|output| pubcomp(output, version, id, missing));
        assert_eq!(bytes, hex(&format!("70 {absent}")));
    }
}

#[test]
fn every_filter_gets_its_answer() {
    let granted = [
        Granted::Qos(Qos::AtMostOnce),
        Granted::Qos(Qos::AtLeastOnce),
        Granted::Qos(Qos::ExactlyOnce),
        Granted::NotAuthorized,
        Granted::QuotaExceeded,
    ];
    let suback =
        |version, limit| tried(|output| super::suback(output, version, id(1), &granted, limit));
    assert_eq!(
        suback(Version::V3, None),
        Ok(hex("90 07 0001 00 01 02 80 80"))
    );
    let new = hex("90 08 0001 00 00 01 02 87 97");
    assert_eq!(suback(Version::V5, Some(10)), Ok(new));
    assert_eq!(suback(Version::V5, Some(9)), Err(TooLarge));
}

#[test]
fn every_unsubscribed_filter_gets_its_answer() {
    let answers = [Unsubscribed::Success, Unsubscribed::NoSubscriptionExisted];
    let unsuback =
        |version, limit| tried(|output| super::unsuback(output, version, id(9), &answers, limit));
    assert_eq!(unsuback(Version::V3, None), Ok(hex("b0 02 0009")));
    let new = hex("b0 05 0009 00 00 11");
    assert_eq!(unsuback(Version::V5, None), Ok(new));
    assert_eq!(unsuback(Version::V5, Some(6)), Err(TooLarge));
}

#[test]
fn pings_are_answered_and_ends_are_told() {
    assert_eq!(written(pingresp), hex("d0 00"));
    let end = |version| written(|output| disconnect(output, version, Reason::SessionTakenOver));
    assert_eq!(end(Version::V3), hex(""));
    assert_eq!(end(Version::V5), hex("e0 01 8e"));
}

fn outgoing(message: &Message, delivery: Delivery) -> Outgoing<'_> {
    Outgoing {
        message,
        delivery,
        retain: false,
        subscription_ids: &[],
        expiry: None,
        alias: None,
    }
}

fn publish(
    version: Version,
    outgoing: &Outgoing<'_>,
    limit: Option<u32>,
) -> Result<Vec<u8>, TooLarge> {
    tried(|output| super::publish(output, version, outgoing, limit))
}

#[test]
fn publishes_are_written_in_both_versions() {
    let message = plain("a/b", b"x", Qos::ExactlyOnce, true);
    for (delivery, retain, old, new) in [
        (
            Delivery::AtMostOnce,
            false,
            "30 06 0003 612f62 78",
            "30 07 0003 612f62 00 78",
        ),
        (
            Delivery::AtLeastOnce {
                id: id(2),
                dup: false,
            },
            true,
            "33 08 0003 612f62 0002 78",
            "33 09 0003 612f62 0002 00 78",
        ),
        (
            Delivery::ExactlyOnce {
                id: id(0x100),
                dup: true,
            },
            false,
            "3c 08 0003 612f62 0100 78",
            "3c 09 0003 612f62 0100 00 78",
        ),
    ] {
        let outgoing = Outgoing {
            retain,
            ..outgoing(&message, delivery)
        };
        assert_eq!(publish(Version::V3, &outgoing, None), Ok(hex(old)));
        assert_eq!(publish(Version::V5, &outgoing, None), Ok(hex(new)));
    }
}

#[test]
fn properties_are_written_on_5_and_dropped_on_3_1_1() {
    let message = Message {
        properties: rich(),
        ..plain("a/b", b"y", Qos::AtLeastOnce, false)
    };
    let outgoing = Outgoing {
        subscription_ids: &[1, 300],
        expiry: Some(30),
        alias: Some(Alias {
            number: id(3),
            send_topic: true,
        }),
        ..outgoing(&message, Delivery::AtMostOnce)
    };
    let old = hex("30 06 0003 612f62 79");
    assert_eq!(publish(Version::V3, &outgoing, None), Ok(old));
    let new = hex(
        "30 34 0003 612f62 2d 01 01 02 0000001e 03 0004 74657874 08 0001 72 09 0002 0102 \
         0b 01 0b ac02 23 0003 26 0001 6b 0001 31 26 0001 6b 0001 32 79",
    );
    assert_eq!(publish(Version::V5, &outgoing, None), Ok(new));
}

#[test]
fn a_known_alias_stands_for_the_topic_on_5_only() {
    let message = plain("a/b", b"x", Qos::AtMostOnce, false);
    let outgoing = Outgoing {
        alias: Some(Alias {
            number: id(3),
            send_topic: false,
        }),
        ..outgoing(&message, Delivery::AtMostOnce)
    };
    let old = hex("30 06 0003 612f62 78");
    assert_eq!(publish(Version::V3, &outgoing, None), Ok(old));
    let new = hex("30 07 0000 03 23 0003 78");
    assert_eq!(publish(Version::V5, &outgoing, None), Ok(new));
}

/// Around the sizes where Remaining Length grows by a byte.
#[test]
fn a_publish_larger_than_the_client_takes_is_not_written() {
    for payload in [0, 122, 123, 124, 16_378, 16_379, 16_380, 70_000] {
        let message = plain("a", &vec![7; payload], Qos::AtMostOnce, false);
        let outgoing = outgoing(&message, Delivery::AtMostOnce);
        let bytes = publish(Version::V5, &outgoing, None).unwrap();
        assert_eq!(complete(&bytes, usize::MAX), Ok(Some(bytes.len())));
        let size = u32::try_from(bytes.len()).unwrap();
        assert_eq!(publish(Version::V5, &outgoing, Some(size)), Ok(bytes));
        let tight = publish(Version::V5, &outgoing, Some(size - 1));
        assert_eq!(tight, Err(TooLarge));
    }
}

#[test]
fn what_the_wire_cannot_carry_is_not_written() {
    let long = "x".repeat(65_536);
    let messages = [
        plain(&long, b"", Qos::AtMostOnce, false),
        Message {
            properties: Properties {
                content_type: Some(long.clone()),
                ..Properties::default()
            },
            ..plain("a", b"", Qos::AtMostOnce, false)
        },
    ];
    for message in &messages {
        let outgoing = outgoing(message, Delivery::AtMostOnce);
        assert_eq!(publish(Version::V5, &outgoing, None), Err(TooLarge));
    }
    let message = plain("a", b"", Qos::AtMostOnce, false);
    let outgoing = Outgoing {
        subscription_ids: &[268_435_456],
        ..outgoing(&message, Delivery::AtMostOnce)
    };
    assert_eq!(publish(Version::V5, &outgoing, None), Err(TooLarge));
    let welcome = Welcome {
        assigned_client_id: Some(long),
        ..Welcome::default()
    };
    let connack = tried(|output| super::connack(output, Version::V5, false, &welcome, None));
    assert_eq!(connack, Err(TooLarge));
}
