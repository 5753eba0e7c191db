//! Over random sessions, bypasses and activations: nothing is kept back without both halves, and no call for
//! help ever is, but in a walk test that names its button.

#![allow(clippy::unwrap_used)]

use domain::command::{Bypass, Scope};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const POINTS: [(&str, Role); 5] = [
    ("btn", Role::PanicButton),
    ("smoke", Role::Smoke),
    ("call", Role::ManualCallPoint),
    ("motion", Role::Motion),
    ("panel", Role::Panel),
];

fn key(at: usize) -> PointKey {
    PointKey {
        device: POINTS[at].0.parse().unwrap(),
        point: "x".parse().unwrap(),
    }
}

fn named(n: u128) -> CommandId {
    CommandId(Uuid::from_u128(n))
}

fn second(n: u64) -> Timestamp {
    Timestamp::default().after(Duration::from_secs(n))
}

#[derive(Clone, Debug)]
enum Move {
    Begin(u128, What, bool),
    End(u128),
    Over(usize),
    Wait(u64),
    Alarm { at: usize, kind: Kind, stamp: Stamp },
}

fn any_what() -> impl Strategy<Value = What> {
    let scope = prop_oneof![
        Just(Scope::Centre),
        prop::collection::btree_set(0usize..5, 1..4)
            .prop_map(|some| Scope::Points(some.into_iter().map(key).collect())),
    ];
    let kind = prop::sample::select(vec![TestKind::Walk, TestKind::Maintenance, TestKind::Drill]);
    prop_oneof![
        (scope, kind, 1u16..20).prop_map(|(scope, kind, minutes)| What::Test(Test {
            scope,
            kind,
            minutes,
            reason: "r".into(),
            partner: None,
        })),
        (0usize..5, 1u16..20).prop_map(|(at, minutes)| What::Bypass(Bypass {
            point: key(at),
            minutes,
            reason: "r".into(),
            second: None,
        })),
    ]
}

fn any_move() -> impl Strategy<Value = Move> {
    let kinds = prop::sample::select(vec![
        Kind::AlarmPressed,
        Kind::AlarmDuress,
        Kind::FireSmokeAlarm,
        Kind::FireManualCallPointAlarm,
        Kind::IntrusionAlarm,
    ]);
    let alarm = (0usize..5, kinds, 0u128..3, any::<bool>());
    prop_oneof![
        3 => (0u128..3, any_what(), prop::bool::weighted(0.8))
            .prop_map(|(n, what, ours)| Move::Begin(n, what, ours)),
        1 => (0u128..3).prop_map(Move::End),
        1 => (0usize..5).prop_map(Move::Over),
        1 => (0u64..900).prop_map(Move::Wait),
        6 => alarm.prop_map(|(at, kind, n, test)| Move::Alarm {
            at,
            kind,
            stamp: if test { Stamp::Test(named(n)) } else { Stamp::Bypass(named(n)) },
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn nothing_is_kept_back_without_both_halves_and_no_call_for_help(
        moves in prop::collection::vec(any_move(), 1..60)
    ) {
        let (mut service, mut now) = (Service::default(), second(0));
        let mut begun: BTreeMap<CommandId, (What, bool, Timestamp)> = BTreeMap::new();
        let mut over: BTreeSet<CommandId> = BTreeSet::new();
        // Points that were kept back by a session and whose activation is over.
        let mut heard: BTreeSet<(CommandId, PointKey)> = BTreeSet::new();
        let mut done: BTreeSet<(CommandId, PointKey)> = BTreeSet::new();
        for made in moves {
            match made {
                // A name is used once: the command's id.
                Move::Begin(n, what, ours) if !begun.contains_key(&named(n)) => {
                    let until_at = now.after(what.span());
                    let is_over = over.contains(&named(n));
                    begun.insert(named(n), (what.clone(), ours && !is_over, until_at));
                    service.begin(Absence {
                        id: named(n),
                        gateway: GatewayId(Uuid::nil()),
                        by: PersonId(Uuid::nil()),
                        what,
                        recognised: ours,
                        begun_at: now,
                        until_at,
                        heard: Heard::default(),
                    });
                }
                Move::Begin(..) => {}
                Move::End(n) => {
                    over.insert(named(n));
                    service.end(named(n), now);
                }
                Move::Over(at) => {
                    service.over(&key(at));
                    let ended = heard.iter().filter(|(_, point)| *point == key(at));
                    done.extend(ended.cloned());
                }
                Move::Wait(seconds) => now = now.after(Duration::from_secs(seconds)),
                Move::Alarm { at, kind, stamp } => {
                    let (point, role) = (key(at), POINTS[at].1);
                    let held = service.hold(stamp, &point, role, kind, now);
                    let (Stamp::Test(id) | Stamp::Bypass(id)) = stamp;
                    if held.is_none() {
                        continue;
                    }
                    let (what, ours, until_at) = &begun[&id];
                    prop_assert!(*ours && !over.contains(&id) && now < *until_at);
                    let calls = kind.hazard() == Some(Hazard::Panic)
                        || matches!(role, Role::PanicButton | Role::Panel);
                    match (what, stamp) {
                        (What::Test(test), Stamp::Test(_)) => {
                            prop_assert!(test.covers(&point, role));
                            prop_assert!(!calls || is_walked(test, &point));
                            prop_assert!(!done.contains(&(id, point.clone())), "a second one");
                            heard.insert((id, point));
                        }
                        (What::Bypass(bypass), Stamp::Bypass(_)) => {
                            prop_assert!(!calls && bypass.point == point);
                            prop_assert!(role != Role::ManualCallPoint);
                        }
                        (What::Test(_), Stamp::Bypass(_)) | (What::Bypass(_), Stamp::Test(_)) => {
                            prop_assert!(false, "kept back by what it does not name");
                        }
                    }
                }
            }
        }
    }
}
