//! Each fault of a packet after CONNECT by name, and the code each fault is answered with.

use std::collections::HashSet;
use std::mem::discriminant;

use super::*;
use crate::broker::topic::{FilterFault, TopicFault};

/// Frames that are at fault in the same way in both versions.
const IN_BOTH: [(&str, Fault); 24] = [
    ("30 ff ff ff ff 01", Fault::VariableInteger),
    ("", Fault::Short),
    ("c0", Fault::Short),
    ("c0 01", Fault::Short),
    ("40 01 00", Fault::Short),
    ("30 02 0001", Fault::Short),
    ("c0 00 00", Fault::Leftover),
    ("c0 01 00", Fault::Leftover),
    ("10 00", Fault::PacketType),      // CONNECT again
    ("20 02 0000", Fault::PacketType), // CONNACK and the server's others
    ("90 00", Fault::PacketType),
    ("b0 00", Fault::PacketType),
    ("d0 00", Fault::PacketType),
    ("00 00", Fault::PacketType),
    ("c1 00", Fault::Flags),
    ("60 02 0001", Fault::Flags),
    ("80 06 0001 0001 61 00", Fault::Flags),
    ("a0 05 0001 0001 61", Fault::Flags),
    ("e1 00", Fault::Flags),
    ("40 02 0000", Fault::PacketId),
    ("62 02 0000", Fault::PacketId),
    ("36 05 0001 61 0001", Fault::Qos),
    ("38 03 0001 61", Fault::Duplicate),
    ("30 04 0002 c328", Fault::Text),
];

/// Bodies of packets of one kind: what stands before the property section, and what stands behind it.
const AROUND_PROPERTIES: [(&str, &str, &str, Fault); 13] = [
    ("32", "0001 61 0000", "", Fault::PacketId),
    ("34", "0001 61 0000", "", Fault::PacketId),
    ("30", "0002 612b", "", Fault::Topic(TopicFault::Wildcard)),
    ("30", "0002 6123", "", Fault::Topic(TopicFault::Wildcard)),
    ("30", "0002 6100", "", Fault::Topic(TopicFault::Nul)),
    ("82", "0000", "0001 61 00", Fault::PacketId),
    ("a2", "0000", "0001 61", Fault::PacketId),
    ("82", "0001", "", Fault::NoFilters),
    ("a2", "0001", "", Fault::NoFilters),
    ("82", "0001", "0001 61", Fault::Short), // no options
    ("82", "0001", "0000 00", Fault::Filter(FilterFault::Empty)),
    (
        "82",
        "0001",
        "0002 6123 00",
        Fault::Filter(FilterFault::MultiLevelMisplaced),
    ),
    (
        "a2",
        "0001",
        "0002 612b",
        Fault::Filter(FilterFault::SingleLevelMisplaced),
    ),
];

const IN_V3: [(&str, Fault); 8] = [
    ("f0 00", Fault::PacketType), // no AUTH
    ("40 03 0001 00", Fault::Leftover),
    ("40 04 0001 00 00", Fault::Leftover),
    ("e0 01 00", Fault::Leftover),
    ("30 02 0000", Fault::Topic(TopicFault::Empty)),
    ("82 06 0001 0001 61 03", Fault::SubscriptionOptions),
    ("82 06 0001 0001 61 04", Fault::SubscriptionOptions), // No Local
    ("82 06 0001 0001 61 10", Fault::SubscriptionOptions),
];

const IN_V5: [(&str, Fault); 38] = [
    ("c0 80 00", Fault::VariableInteger),
    ("30 05 0001 61 8000", Fault::VariableInteger),
    ("30 07 0001 61 ffffffff", Fault::VariableInteger),
    ("30 03 0001 61", Fault::Short), // no property length
    ("30 04 0001 61 01", Fault::Short),
    ("30 05 0001 61 01 01", Fault::Short),
    ("30 03 0000 00", Fault::NoTopic),
    ("32 05 0000 0001 00", Fault::NoTopic),
    ("30 07 0001 61 03 23 0000", Fault::TopicAlias),
    ("30 06 0001 61 02 0b 01", Fault::SubscriptionIdentifier),
    ("30 06 0001 61 02 01 02", Fault::PropertyValue(0x01)),
    ("30 08 0001 61 04 01 01 01 01", Fault::PropertyTwice(0x01)),
    ("30 08 0001 61 04 03 0001 00", Fault::Text),
    ("30 07 0001 61 03 21 0001", Fault::Property(0x21)),
    (
        "30 08 0001 61 04 08 0001 23",
        Fault::ResponseTopic(TopicFault::Wildcard),
    ),
    (
        "30 07 0001 61 03 08 0000",
        Fault::ResponseTopic(TopicFault::Empty),
    ),
    (
        "30 08 0001 61 04 08 0001 00",
        Fault::ResponseTopic(TopicFault::Nul),
    ),
    ("82 09 0001 02 0b 00 0001 61 00", Fault::PropertyValue(0x0B)),
    (
        "82 0b 0001 04 0b 01 0b 02 0001 61 00",
        Fault::PropertyTwice(0x0B),
    ),
    ("82 0a 0001 03 0b 8100 0001 61 00", Fault::VariableInteger),
    ("a2 08 0001 02 0b 01 0001 61", Fault::Property(0x0B)),
    ("82 07 0001 00 0001 61 40", Fault::SubscriptionOptions),
    ("82 07 0001 00 0001 61 80", Fault::SubscriptionOptions),
    ("82 07 0001 00 0001 61 03", Fault::SubscriptionQos),
    ("82 07 0001 00 0001 61 30", Fault::RetainHandling),
    ("40 03 0001 92", Fault::ReasonCode(0x92)),
    ("50 03 0001 01", Fault::ReasonCode(0x01)),
    ("62 03 0001 80", Fault::ReasonCode(0x80)),
    ("70 03 0001 10", Fault::ReasonCode(0x10)),
    ("e0 01 8e", Fault::ReasonCode(0x8E)), // a server's
    ("f0 01 01", Fault::ReasonCode(0x01)),
    ("f0 01 18", Fault::Short), // no properties
    ("f0 02 18 00", Fault::AuthenticationMethod),
    ("40 05 0001 00 01 11", Fault::Property(0x11)),
    ("40 05 0001 00 00 00", Fault::Leftover),
    ("e0 03 00 00 00", Fault::Leftover),
    ("e0 05 00 03 21 0001", Fault::Property(0x21)),
    ("f0 05 18 03 21 0001", Fault::Property(0x21)),
];

fn shared(name: &str, options: u8) -> Vec<u8> {
    packet(0x82, &[vec![0, 1, 0], text(name), vec![options]].concat())
}

/// All frames of this file.
fn cases() -> Vec<(Version, Vec<u8>, Fault)> {
    let mut cases = Vec::new();
    for (frame, fault) in IN_BOTH {
        cases.extend([Version::V3, Version::V5].map(|version| (version, hex(frame), fault)));
    }
    for (first, before, behind, fault) in AROUND_PROPERTIES {
        let first = hex(first)[0];
        let (before, behind) = (hex(before), hex(behind));
        let old = packet(first, &[before.clone(), behind.clone()].concat());
        cases.push((Version::V3, old, fault));
        let new = packet(first, &[before, vec![0], behind].concat());
        cases.push((Version::V5, new, fault));
    }
    cases.extend(IN_V3.map(|(frame, fault)| (Version::V3, hex(frame), fault)));
    cases.extend(IN_V5.map(|(frame, fault)| (Version::V5, hex(frame), fault)));
    for name in [
        "$share/",
        "$share/g",
        "$share/g/",
        "$share//a",
        "$share/+/a",
        "$share/#",
    ] {
        cases.push((Version::V5, shared(name, 1), Fault::SharedFilter));
        let unsubscribe = packet(0xA2, &[vec![0, 1, 0], text(name)].concat());
        cases.push((Version::V5, unsubscribe, Fault::SharedFilter));
    }
    cases.push((
        Version::V5,
        shared("$share/g/a", 0x05),
        Fault::SharedNoLocal,
    ));
    for (name, fault) in [
        ("x".repeat(TOPIC.bytes + 1), TopicFault::TooLong),
        ("/".repeat(TOPIC.levels), TopicFault::TooDeep),
    ] {
        let frame = packet(0x30, &text(&name));
        cases.push((Version::V3, frame, Fault::Topic(fault)));
    }
    cases
}

#[test]
fn broken_packets_are_refused_by_name() {
    for (version, frame, fault) in cases() {
        let taken = read(version, &frame, TOPIC);
        assert_eq!(taken, Err(fault), "{version:?} {frame:02x?}");
    }
}

/// Fault, DISCONNECT reason and CONNACK refusal.
const CODES: [(Fault, u8, u8); 36] = [
    (Fault::VariableInteger, 0x81, 0x81),
    (Fault::Oversized, 0x95, 0x95),
    (Fault::PacketType, 0x82, 0x82),
    (Fault::Flags, 0x81, 0x81),
    (Fault::Short, 0x81, 0x81),
    (Fault::Leftover, 0x81, 0x81),
    (Fault::Text, 0x81, 0x81),
    (Fault::PacketId, 0x82, 0x82),
    (Fault::Qos, 0x81, 0x81),
    (Fault::Duplicate, 0x82, 0x82),
    (Fault::NoTopic, 0x82, 0x82),
    (Fault::Topic(TopicFault::Empty), 0x90, 0x90),
    (Fault::Topic(TopicFault::Nul), 0x81, 0x81),
    (Fault::Topic(TopicFault::Wildcard), 0x90, 0x90),
    (Fault::Topic(TopicFault::TooLong), 0x90, 0x90),
    (Fault::Topic(TopicFault::TooDeep), 0x90, 0x90),
    (Fault::ResponseTopic(TopicFault::Wildcard), 0x90, 0x90),
    (Fault::ResponseTopic(TopicFault::Nul), 0x81, 0x81),
    (Fault::TopicAlias, 0x94, 0x82),
    (Fault::SubscriptionIdentifier, 0x82, 0x82),
    (Fault::NoFilters, 0x82, 0x82),
    (Fault::Filter(FilterFault::Empty), 0x81, 0x81),
    (Fault::SharedFilter, 0x81, 0x81),
    (Fault::SharedNoLocal, 0x82, 0x82),
    (Fault::SubscriptionOptions, 0x81, 0x81),
    (Fault::SubscriptionQos, 0x82, 0x82),
    (Fault::RetainHandling, 0x82, 0x82),
    (Fault::ProtocolName, 0x82, 0x84),
    (Fault::Level(6), 0x82, 0x84),
    (Fault::ConnectFlags, 0x81, 0x81),
    (Fault::ClientId, 0x82, 0x85),
    (Fault::Property(0), 0x81, 0x81),
    (Fault::PropertyTwice(0), 0x82, 0x82),
    (Fault::PropertyValue(0), 0x82, 0x82),
    (Fault::AuthenticationMethod, 0x82, 0x82),
    (Fault::ReasonCode(0), 0x81, 0x81),
];

#[test]
fn each_fault_has_its_codes() {
    for (fault, reason, refusal) in CODES {
        assert_eq!(fault.reason() as u8, reason, "{fault:?}");
        assert_eq!(fault.refusal() as u8, refusal, "{fault:?}");
    }
}

/// Those that only a CONNECT or a stream has are provoked in the other files.
#[test]
fn each_fault_is_provoked() {
    let elsewhere = [
        Fault::Oversized,
        Fault::ProtocolName,
        Fault::Level(0),
        Fault::ConnectFlags,
        Fault::ClientId,
    ];
    let provoked: HashSet<_> = cases()
        .iter()
        .map(|(_, _, fault)| discriminant(fault))
        .chain(elsewhere.iter().map(discriminant))
        .collect();
    for (fault, _, _) in CODES {
        assert!(provoked.contains(&discriminant(&fault)), "{fault:?}");
    }
}
