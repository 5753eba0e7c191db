//! CONNECT in both versions, and what a refused one can be told.

use super::*;
use crate::broker::topic::TopicFault;

/// As paho-mqtt 2.1.0 sends it.
const PAHO_V3: &str = "10 29 0004 4d515454 04 ec 001e 0004 7061686f 0003 772f74 0004 676f6e65 \
     0004 75736572 0006 736563726574";
const PAHO_V5: &str = "10 69 0004 4d515454 05 f4 001e \
     1b 11 00000e10 17 00 19 01 21 0007 22 0003 26 0001 61 0001 62 27 00001000 \
     0004 7061686f \
     23 01 01 02 0000003c 03 0004 74657874 08 0001 72 09 0002 0102 18 00000005 26 0001 6b 0001 76 \
     0003 772f74 0004 676f6e65 0004 75736572 0006 736563726574";

fn hello(frame: &[u8]) -> Hello {
    read_connect(frame, TOPIC).unwrap_or_else(|fault| panic!("{fault} in {frame:02x?}"))
}

fn fault(frame: &[u8]) -> Fault {
    read_connect(frame, TOPIC).unwrap_err()
}

/// CONNECT with keep-alive 60 and `fields` after it.
fn connect(level: u8, flags: u8, fields: &[Vec<u8>]) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend([level, flags, 0, 60]);
    body.extend(fields.concat());
    packet(0x10, &body)
}

/// The same of MQTT 5, clean, with one property section and the client id `c`.
fn with_properties(section: &str) -> Vec<u8> {
    let section = hex(section);
    let length = u8::try_from(section.len()).unwrap();
    connect(5, 2, &[vec![length], section, text("c")])
}

#[test]
fn the_recorded_3_1_1_client_is_understood() {
    let expected = Hello {
        version: Version::V3,
        client_id: "paho".to_owned(),
        clean_start: false,
        session_expiry: u32::MAX,
        keep_alive: 30,
        username: Some("user".to_owned()),
        secret: Some(b"secret".to_vec()),
        will: Some(Will {
            message: plain("w/t", b"gone", Qos::AtLeastOnce, true),
            delay: 0,
        }),
        receive_maximum: 65_535,
        maximum_packet: None,
        alias_maximum: 0,
        problem_information: true,
        authentication_method: false,
    };
    assert!(hello(&hex(PAHO_V3)) == expected);
}

#[test]
fn the_recorded_5_client_is_understood() {
    let expected = Hello {
        version: Version::V5,
        client_id: "paho".to_owned(),
        clean_start: false,
        session_expiry: 3600,
        keep_alive: 30,
        username: Some("user".to_owned()),
        secret: Some(b"secret".to_vec()),
        will: Some(Will {
            message: Message {
                properties: Properties {
                    user: vec![("k".to_owned(), "v".to_owned())],
                    ..rich()
                },
                ..plain("w/t", b"gone", Qos::ExactlyOnce, true)
            },
            delay: 5,
        }),
        receive_maximum: 7,
        maximum_packet: Some(4096),
        alias_maximum: 3,
        problem_information: false,
        authentication_method: false,
    };
    assert!(hello(&hex(PAHO_V5)) == expected);
}

#[test]
fn a_short_connect_means_the_defaults() {
    let old = hello(&connect(4, 2, &[text("")]));
    assert_eq!((old.version, old.session_expiry), (Version::V3, 0));
    assert!(old.clean_start && old.client_id.is_empty() && old.will.is_none());

    let new = hello(&connect(5, 0, &[vec![0], text("")]));
    assert_eq!((new.version, new.session_expiry), (Version::V5, 0));
    assert_eq!((new.receive_maximum, new.alias_maximum), (65_535, 0));
    assert_eq!((new.maximum_packet, new.keep_alive), (None, 60));
    assert!(new.problem_information && !new.authentication_method && !new.clean_start);
}

/// The protocol crate's state machine panicked on it (mqtt-server.md section 3).
#[test]
fn an_alias_maximum_of_zero_is_legal() {
    assert_eq!(hello(&with_properties("22 0000")).alias_maximum, 0);
}

#[test]
fn an_authentication_method_is_seen_with_its_data_on_either_side() {
    assert!(hello(&with_properties("15 0001 78")).authentication_method);
    assert!(hello(&with_properties("15 0001 78 16 0001 ff")).authentication_method);
    assert!(hello(&with_properties("16 0001 ff 15 0001 78")).authentication_method);
    let alone = with_properties("16 0001 ff");
    assert_eq!(fault(&alone), Fault::AuthenticationMethod);
}

#[test]
fn a_secret_needs_a_user_name_on_3_1_1_only() {
    let old = connect(4, 0x42, &[text("c"), text("s")]);
    assert_eq!(fault(&old), Fault::ConnectFlags);
    let new = hello(&connect(5, 0x42, &[vec![0], text("c"), text("s")]));
    assert_eq!((new.username, new.secret), (None, Some(b"s".to_vec())));
}

#[test]
fn an_empty_client_id_needs_a_clean_session_on_3_1_1_only() {
    assert_eq!(fault(&connect(4, 0, &[text("")])), Fault::ClientId);
    assert_eq!(Fault::ClientId.refusal(), Refused::ClientIdNotValid);
    assert!(!hello(&connect(5, 0, &[vec![0], text("")])).clean_start);
}

#[test]
fn a_padded_length_is_taken_on_3_1_1_only() {
    let pad = |frame: &[u8]| {
        let mut padded = vec![frame[0], frame[1] | 0x80, 0];
        padded.extend(&frame[2..]);
        padded
    };
    assert!(read_connect(&pad(&connect(4, 2, &[text("c")])), TOPIC).is_ok());
    let new = pad(&connect(5, 2, &[vec![0], text("c")]));
    assert_eq!(fault(&new), Fault::VariableInteger);
    assert!(read(Version::V3, &pad(&[0xC0, 0]), TOPIC).is_ok());
    let new = read(Version::V5, &pad(&[0xC0, 0]), TOPIC);
    assert_eq!(new, Err(Fault::VariableInteger));
}

#[test]
fn broken_connects_are_refused_in_both_versions() {
    for level in [4, 5] {
        let none = if level == 5 { vec![0] } else { vec![] };
        let of = |flags, fields: &[Vec<u8>]| {
            connect(
                level,
                flags,
                &[std::slice::from_ref(&none), fields].concat(),
            )
        };
        let will = |topic: &str| of(6, &[text("c"), none.clone(), text(topic), text("p")]);
        assert_eq!(hello(&will("t")).will.unwrap().message.topic.as_ref(), "t");
        let cases = [
            (of(0x03, &[text("c")]), Fault::ConnectFlags), // reserved bit
            (of(0x0A, &[text("c")]), Fault::ConnectFlags), // will QoS without will
            (of(0x22, &[text("c")]), Fault::ConnectFlags), // will retain without will
            (of(0x1E, &[text("c"), text("t"), text("p")]), Fault::Qos),
            (of(0x02, &[]), Fault::Short),
            (of(0x82, &[text("c")]), Fault::Short),
            (of(0x82, &[text("c"), vec![0, 9, b'u']]), Fault::Short),
            (of(0x02, &[text("c"), text("left")]), Fault::Leftover),
            (of(0x02, &[vec![0, 2, 0xC3, 0x28]]), Fault::Text),
            (of(0x02, &[text("a\0")]), Fault::Text),
            (of(0x02, &[vec![0, 3, 0xED, 0xA0, 0x80]]), Fault::Text), // half a surrogate
            (of(0x82, &[text("c"), text("u\0")]), Fault::Text),
            (will("a/#"), Fault::Topic(TopicFault::Wildcard)),
            (will(""), Fault::Topic(TopicFault::Empty)),
            (will("a\0"), Fault::Topic(TopicFault::Nul)),
            (
                will(&"x".repeat(TOPIC.bytes + 1)),
                Fault::Topic(TopicFault::TooLong),
            ),
        ];
        for (frame, why) in cases {
            assert_eq!(fault(&frame), why, "{frame:02x?}");
        }
    }
}

#[test]
fn broken_properties_are_refused() {
    for (section, why) in [
        ("22 0001 22 0001", Fault::PropertyTwice(0x22)),
        ("21 0000", Fault::PropertyValue(0x21)),
        ("27 00000000", Fault::PropertyValue(0x27)),
        ("17 02", Fault::PropertyValue(0x17)),
        ("19 02", Fault::PropertyValue(0x19)),
        ("23 0001", Fault::Property(0x23)), // an alias is for PUBLISH
        ("18 00000001", Fault::Property(0x18)), // a delay is for the will
        ("00", Fault::Property(0x00)),
        ("2b", Fault::Property(0x2B)),
        ("ff", Fault::Property(0xFF)),
        ("11 000000", Fault::Short), // the section ends inside the property
        ("26 0001 61", Fault::Short),
        ("26 0001 00 0000", Fault::Text),
    ] {
        assert_eq!(fault(&with_properties(section)), why, "{section}");
    }
    let user = "26 0000 0001 62";
    hello(&with_properties(&format!("{user} {user}")));

    let beyond = connect(5, 2, &[vec![9], text("c")]);
    assert_eq!(fault(&beyond), Fault::Short);
    let padded = connect(5, 2, &[vec![0x80, 0], text("c")]);
    assert_eq!(fault(&padded), Fault::VariableInteger);
    let delay_in_publish = hex("30 09 0001 61 05 18 00000001");
    let taken = read(Version::V5, &delay_in_publish, TOPIC);
    assert_eq!(taken, Err(Fault::Property(0x18)));
}

#[test]
fn the_first_packet_is_a_connect_of_a_known_version() {
    for (frame, why, refusal) in [
        (hex("c0 00"), Fault::PacketType, None),
        (hex("11 00"), Fault::Flags, None),
        (hex("10 00"), Fault::Short, None),
        (
            packet(0x10, &hex("0006 4d5149736470 03 02 003c 0001 63")),
            Fault::ProtocolName,
            None,
        ),
        (
            connect(3, 2, &[text("c")]),
            Fault::Level(3),
            Some(Version::V3),
        ),
        (
            connect(6, 2, &[text("c")]),
            Fault::Level(6),
            Some(Version::V5),
        ),
        (connect(4, 3, &[]), Fault::ConnectFlags, Some(Version::V3)),
        (connect(5, 3, &[]), Fault::ConnectFlags, Some(Version::V5)),
    ] {
        assert_eq!(fault(&frame), why, "{frame:02x?}");
        assert_eq!(refusal_version(&frame), refusal, "{frame:02x?}");
    }
    assert_eq!(refusal_version(b"GET / HTTP/1.1"), None);
    assert!(begins_connection(0x10) && !begins_connection(b'G') && !begins_connection(0x11));
}

#[test]
fn a_hello_does_not_show_its_secret() {
    let shown = format!("{:?}", hello(&hex(PAHO_V5)));
    assert!(
        shown.contains("paho") && !shown.contains("115, 101"),
        "{shown}"
    );
}
