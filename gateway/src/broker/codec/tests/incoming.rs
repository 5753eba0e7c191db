//! Packets of a client after CONNECT, as the standards lay them out. "Recorded" is from paho-mqtt 2.1.0.

use super::*;

const BOTH: [Version; 2] = [Version::V3, Version::V5];

fn filter(filter: &str, qos: Qos) -> Filter {
    Filter {
        filter: filter.to_owned(),
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Always,
    }
}

fn arrival(message: Message, id: Option<u16>) -> Incoming {
    Incoming::Publish(Arrival {
        message,
        id: id.and_then(NonZeroU16::new),
        dup: false,
        alias: None,
    })
}

#[test]
fn recorded_publishes_of_3_1_1_are_understood() {
    for (frame, message, id) in [
        (
            "30 06 0003 612f62 78",
            (&b"x"[..], Qos::AtMostOnce, false),
            None,
        ),
        (
            "33 08 0003 612f62 0002 79",
            (b"y", Qos::AtLeastOnce, true),
            Some(2),
        ),
        (
            "34 08 0003 612f62 0003 7a",
            (b"z", Qos::ExactlyOnce, false),
            Some(3),
        ),
        ("30 05 0003 612f62", (b"", Qos::AtMostOnce, false), None),
    ] {
        let (payload, qos, retain) = message;
        let expected = arrival(plain("a/b", payload, qos, retain), id);
        assert_eq!(take(Version::V3, &hex(frame)), expected, "{frame}");
    }
}

#[test]
fn recorded_publishes_of_5_are_understood() {
    for (frame, message, id) in [
        (
            "30 07 0003 612f62 00 78",
            (&b"x"[..], Qos::AtMostOnce),
            None,
        ),
        (
            "34 09 0003 612f62 0003 00 7a",
            (b"z", Qos::ExactlyOnce),
            Some(3),
        ),
    ] {
        let expected = arrival(plain("a/b", message.0, message.1, false), id);
        assert_eq!(take(Version::V5, &hex(frame)), expected, "{frame}");
    }
    let rich_frame = hex(
        "33 31 0003 612f62 0002 28 01 01 02 0000003c 03 0004 74657874 08 0001 72 \
         09 0002 0102 23 0003 26 0001 6b 0001 31 26 0001 6b 0001 32 79",
    );
    let expected = Incoming::Publish(Arrival {
        message: Message {
            properties: rich(),
            ..plain("a/b", b"y", Qos::AtLeastOnce, true)
        },
        id: Some(id(2)),
        dup: false,
        alias: Some(id(3)),
    });
    assert_eq!(take(Version::V5, &rich_frame), expected);
}

#[test]
fn dup_is_read_and_an_alias_can_stand_for_the_topic() {
    let Incoming::Publish(again) = take(Version::V3, &hex("3a 05 0001 61 0001")) else {
        panic!("not a publish");
    };
    assert!(again.dup && again.message.payload.is_empty());

    let Incoming::Publish(by_alias) = take(Version::V5, &hex("30 07 0000 03 23 ffff 78")) else {
        panic!("not a publish");
    };
    assert_eq!(by_alias.message.topic.as_ref(), "");
    assert_eq!(by_alias.alias, Some(NonZeroU16::MAX));
}

#[test]
fn payload_format_zero_is_the_same_as_none() {
    let taken = take(Version::V5, &hex("30 06 0001 61 02 01 00"));
    assert_eq!(
        taken,
        arrival(plain("a", b"", Qos::AtMostOnce, false), None)
    );
}

#[test]
fn acknowledgements_are_read_in_both_versions() {
    let refused = false;
    for version in BOTH {
        let read = |frame| take(version, &hex(frame));
        assert_eq!(read("40 02 0007"), Incoming::Puback { id: id(7), refused });
        assert_eq!(read("50 02 0008"), Incoming::Pubrec { id: id(8), refused });
        assert_eq!(read("62 02 0003"), Incoming::Pubrel { id: id(3) });
        assert_eq!(
            read("70 02 ffff"),
            Incoming::Pubcomp {
                id: NonZeroU16::MAX
            }
        );
    }
}

/// Among them PUBREC 0x10, which the protocol crate's state machine took for a refusal.
#[test]
fn reasons_say_whether_the_client_refuses() {
    let read = |frame: &str| take(Version::V5, &hex(frame));
    for (reason, refused) in [("00", false), ("10", false), ("80", true), ("97", true)] {
        let id = id(7);
        let puback = read(&format!("40 03 0007 {reason}"));
        assert_eq!(puback, Incoming::Puback { id, refused });
        let pubrec = read(&format!("50 04 0007 {reason} 00"));
        assert_eq!(pubrec, Incoming::Pubrec { id, refused });
    }
    let explained = read("40 0f 0007 87 0b 1f 0001 6e 26 0001 61 0001 62");
    assert_eq!(
        explained,
        Incoming::Puback {
            id: id(7),
            refused: true
        }
    );
    assert_eq!(read("62 03 0003 92"), Incoming::Pubrel { id: id(3) });
    assert_eq!(read("70 04 0003 92 00"), Incoming::Pubcomp { id: id(3) });
}

#[test]
fn recorded_subscribes_are_understood() {
    let old = hex("82 0e 0004 0003 612f23 02 0003 2b2f62 00");
    let expected = Incoming::Subscribe(Subscribe {
        id: id(4),
        identifier: None,
        filters: vec![
            filter("a/#", Qos::ExactlyOnce),
            filter("+/b", Qos::AtMostOnce),
        ],
    });
    assert_eq!(take(Version::V3, &old), expected);

    let new = hex("82 19 0004 03 0b ac02 0003 612f23 1e 000a 2473686172652f672f62 21");
    let expected = Incoming::Subscribe(Subscribe {
        id: id(4),
        identifier: Some(300),
        filters: vec![
            Filter {
                no_local: true,
                retain_as_published: true,
                retain_handling: RetainHandling::IfNew,
                ..filter("a/#", Qos::ExactlyOnce)
            },
            Filter {
                retain_handling: RetainHandling::Never,
                ..filter("$share/g/b", Qos::AtLeastOnce)
            },
        ],
    });
    assert_eq!(take(Version::V5, &new), expected);
}

#[test]
fn the_largest_subscription_identifier_is_read() {
    let Incoming::Subscribe(subscribe) =
        take(Version::V5, &hex("82 0c 0001 05 0b ffffff7f 0001 61 00"))
    else {
        panic!("not a subscribe");
    };
    assert_eq!(subscribe.identifier, Some(268_435_455));
}

/// Old clients may use `$share` as a name of their own, and get it as such.
#[test]
fn dollar_share_means_nothing_on_3_1_1() {
    let frame = |name: &str| packet(0x82, &[vec![0, 1], text(name), vec![1]].concat());
    for name in ["$share", "$share/", "$share/g", "$share/g/a/#"] {
        take(Version::V3, &frame(name));
    }
}

#[test]
fn recorded_unsubscribes_are_understood() {
    let expected = |filters: [&str; 2]| Incoming::Unsubscribe {
        id: id(5),
        filters: filters.map(str::to_owned).to_vec(),
    };
    let old = hex("a2 0c 0005 0003 612f23 0003 2b2f62");
    assert_eq!(take(Version::V3, &old), expected(["a/#", "+/b"]));
    let new = hex("a2 14 0005 00 0003 612f23 000a 2473686172652f672f62");
    assert_eq!(take(Version::V5, &new), expected(["a/#", "$share/g/b"]));
}

#[test]
fn pings_are_read() {
    for version in BOTH {
        assert_eq!(take(version, &hex("c0 00")), Incoming::Ping);
    }
}

#[test]
fn farewells_say_what_becomes_of_will_and_session() {
    let farewell = |with_will, session_expiry| Incoming::Disconnect {
        with_will,
        session_expiry,
    };
    assert_eq!(take(Version::V3, &hex("e0 00")), farewell(false, None));
    for (frame, expected) in [
        ("e0 00", farewell(false, None)),
        ("e0 01 00", farewell(false, None)),
        ("e0 02 00 00", farewell(false, None)),
        ("e0 01 04", farewell(true, None)),
        ("e0 01 98", farewell(true, None)),
        ("e0 07 04 05 11 0000000a", farewell(true, Some(10))), // recorded
        ("e0 0a 00 08 1f 0001 6e 1c 0001 73", farewell(false, None)),
    ] {
        assert_eq!(take(Version::V5, &hex(frame)), expected, "{frame}");
    }
}

#[test]
fn auth_is_read_on_5() {
    for frame in [
        "f0 00",
        "f0 07 00 05 15 0002 6162",
        "f0 0c 19 0a 15 0002 6162 16 0002 00ff",
    ] {
        assert_eq!(take(Version::V5, &hex(frame)), Incoming::Auth, "{frame}");
    }
}

#[test]
fn frames_are_cut_at_their_length_and_not_before() {
    let frame = packet(0x30, &[text("a"), vec![7; 300]].concat());
    for cut in 0..frame.len() {
        assert_eq!(complete(&frame[..cut], 1000), Ok(None), "{cut} bytes");
    }
    assert_eq!(complete(&frame, 1000), Ok(Some(frame.len())));
    let two = [frame.clone(), hex("c0 00")].concat();
    assert_eq!(complete(&two, 1000), Ok(Some(frame.len())));
}

#[test]
fn an_oversized_claim_fails_from_the_header_alone() {
    assert_eq!(complete(&hex("30 64"), 102), Ok(None));
    assert_eq!(complete(&hex("30 65"), 102), Err(Fault::Oversized));
    let claim = hex("30 ff ff ff 7f");
    assert_eq!(complete(&claim, 256 * 1024), Err(Fault::Oversized));
}

#[test]
fn a_length_of_five_bytes_is_no_length() {
    let endless = hex("30 ff ff ff ff");
    assert_eq!(complete(&endless[..4], 1000), Ok(None));
    assert_eq!(complete(&endless, 1000), Err(Fault::VariableInteger));
}

#[test]
fn the_lesser_quality_is_the_minimum() {
    assert_eq!(Qos::ExactlyOnce.min(Qos::AtLeastOnce) as u8, 1);
    assert_eq!(Qos::AtMostOnce.min(Qos::AtLeastOnce) as u8, 0);
}
