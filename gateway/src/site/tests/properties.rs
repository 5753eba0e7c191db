//! What holds whatever is sent.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn everything() -> Rig {
    let mut bridge = zigbee("z", Role::Bridge);
    bridge.address = "zigbee2mqtt".into();
    let roles = [
        Role::PanicButton,
        Role::Keypad,
        Role::Smoke,
        Role::Co,
        Role::Door,
        Role::Lock,
        Role::Water,
        Role::Reader,
    ];
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let behind = names
        .iter()
        .zip(roles)
        .map(|(name, role)| zigbee(name, role));
    let direct = names
        .iter()
        .zip(roles)
        .map(|(name, role)| own(&format!("own-{name}"), role));
    Rig::new(behind.chain(direct).chain([bridge]))
}

fn topic() -> impl Strategy<Value = String> {
    prop_oneof![
        "zigbee2mqtt/[a-i](/(availability|set|action|smoke|battery|action_code))?",
        "antuo/v1/own-[a-i]/[xy]",
        "zigbee2mqtt/bridge/(state|devices|event)",
        "[a-z/$]{0,12}",
    ]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let member = "\"(smoke|carbon_monoxide|contact|state|action|sos|battery|alarm|alarm_1|test|id|kind|at|credential|action_code)\":(true|false|null|0|1|-1|1e999|\"\"|\"ON\"|\"x\"|\"emergency\"|\"alarm.pressed\"|\"raised\"|\"access.read\"|\\{\"a\":\\[1\\]\\})";
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        prop::collection::vec(member, 0..5)
            .prop_map(|m| format!("{{{}}}", m.join(",")).into_bytes()),
        "(online|offline|true|false|emergency|14)?".prop_map(String::into_bytes),
    ]
}

/// Messages of level and button devices, each with the seconds before it and whether it is a
/// broker's copy.
fn plain() -> impl Strategy<Value = (u64, String, String, bool)> {
    let key = prop_oneof![
        Just(("c", "smoke")),
        Just(("c", "smoke_alarm_1")),
        Just(("c", "heat")),
        Just(("d", "carbon_monoxide")),
        Just(("e", "contact")),
        Just(("f", "state")),
        Just(("g", "water_leak")),
        Just(("a", "sos")),
        Just(("c", "battery_low")),
        Just(("a", "action")),
    ];
    (2u64..30, key, 0u8..4, prop::bool::weighted(0.2)).prop_map(
        |(gap, (device, name), v, retained)| {
            let value = match (name, v) {
                ("state", v) => ["\"LOCK\"", "\"UNLOCK\"", "null", "\"LOCK\""][usize::from(v)],
                ("action", v) => ["\"emergency\"", "\"sos\"", "\"\"", "\"what\""][usize::from(v)],
                (_, v) => ["true", "false", "null", "\"perhaps\""][usize::from(v)],
            };
            let payload = format!("{{\"{name}\":{value}}}");
            (gap, format!("zigbee2mqtt/{device}"), payload, retained)
        },
    )
}

fn gist(event: &Event) -> impl PartialEq + std::fmt::Debug + use<> {
    let same = event.same_as.is_some();
    // Ids differ: what devices are told takes chance too.
    let detail = if event.kind == Kind::DoorReleased {
        Detail::None
    } else {
        event.detail.clone()
    };
    (
        event.source.clone(),
        event.kind,
        event.state,
        event.severity,
        detail,
        same,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_sent_can_bring_the_site_down(
        messages in prop::collection::vec((topic(), payload(), any::<bool>(), 0u64..5_000), 0..40),
    ) {
        let mut rig = everything();
        for (i, (topic, payload, retained, gap)) in messages.into_iter().enumerate() {
            let events = rig.deliver(&topic, &payload, retained, "someone");
            for pair in events.windows(2) {
                prop_assert!(pair[0].order < pair[1].order);
            }
            rig.wait(Duration::from_millis(gap));
            if i % 7 == 6 {
                rig.restart();
            }
        }
    }

    #[test]
    fn no_press_is_swallowed(
        presses in prop::collection::vec((0u64..2_500, 0u8..2, 0u8..12, prop::bool::weighted(0.05)), 1..80),
    ) {
        let mut rig = Rig::new([own("b0", Role::PanicButton), own("b1", Role::PanicButton)]);
        let mut sent = BTreeSet::new();
        let mut told = Vec::new();
        for (gap, device, id, restart) in presses {
            told.extend(rig.wait(Duration::from_millis(gap)));
            if restart {
                rig.restart();
            }
            let device = format!("b{device}");
            let events = rig.press(&device, &id.to_string());
            let fresh = sent.insert((device, id));
            prop_assert!(fresh || events.is_empty(), "a resend tells nothing");
            told.extend(events);
        }
        told.extend(rig.wait(secs(60)));
        let stored: u64 = told
            .iter()
            .filter(|e| e.kind == Kind::AlarmPressed)
            .map(occurrences)
            .sum();
        prop_assert_eq!(stored, u64::try_from(sent.len()).unwrap());
    }

    #[test]
    fn a_restart_anywhere_changes_no_event(
        messages in prop::collection::vec(plain(), 1..40),
        cuts in prop::collection::btree_set(0usize..40, 0..6),
    ) {
        let (mut steady, mut broken) = (everything(), everything());
        for (i, (gap, topic, payload, retained)) in messages.into_iter().enumerate() {
            steady.advance(secs(gap));
            broken.advance(secs(gap));
            if cuts.contains(&i) {
                broken.restart();
            }
            let mut sides = [&mut steady, &mut broken]
                .map(|rig| rig.deliver(&topic, payload.as_bytes(), retained, "z"));
            let [expected, got] = &mut sides;
            prop_assert_eq!(
                expected.iter().map(gist).collect::<Vec<_>>(),
                got.iter().map(gist).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn conditions_begin_and_end_in_turn(messages in prop::collection::vec(plain(), 1..60)) {
        let mut rig = everything();
        let mut open: BTreeMap<String, Severity> = BTreeMap::new();
        for (gap, topic, payload, retained) in messages {
            if payload.contains("action") {
                continue;
            }
            rig.advance(secs(gap));
            for event in rig.deliver(&topic, payload.as_bytes(), retained, "z") {
                let begins = |(begin, end): &&(Kind, Kind)| *end == event.kind && *begin != event.kind;
                let pair = crate::adapter::PAIRS.iter().find(begins);
                let condition = pair.map_or(event.kind, |(begin, _)| *begin);
                let name = format!("{:?} {condition}", event.source);
                let ends = event.state == State::Cleared || event.kind == Kind::LockLocked;
                if matches!(event.kind, Kind::IngestUnmapped | Kind::DoorReleased) {
                    continue;
                } else if ends {
                    prop_assert!(open.remove(&name).is_some(), "{} ended before it began", name);
                } else {
                    let before = open.insert(name.clone(), event.severity);
                    let worse = before.is_none_or(|b| event.severity > b || b == Severity::Unverified);
                    prop_assert!(worse, "{} began twice", name);
                }
            }
        }
    }
}
