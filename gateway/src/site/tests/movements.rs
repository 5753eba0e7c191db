//! Taps at readers and the roll call.

use domain::config::{Collector, Credential, Passage};
use domain::digest::{CredentialKey, from_hex_32};
use domain::event::Holder;
use domain::id::PersonId;

use super::*;

fn child(n: u8) -> ChildId {
    ChildId::at(MORNING, [n; 10])
}

fn person(n: u8) -> PersonId {
    PersonId::at(MORNING, [n; 10])
}

/// Readers `in`, `out`, `both`, `none`; cards C1 (child 1), G1 (fetches 1), G2 (fetches 1 and 2),
/// S1 (staff), OLD (expired guardian of 1).
fn rig() -> Rig {
    let readers = [
        ("in", Passage::In),
        ("out", Passage::Out),
        ("both", Passage::Both),
        ("none", Passage::None),
    ];
    let mut config = config(readers.map(|(name, passage)| Enrolment {
        passage,
        decides: name != "in",
        ..own(name, Role::Reader)
    }));
    let key = CredentialKey::new(&from_hex_32(&config.credential_key).unwrap());
    let card = |number: &str, holder| Credential {
        hidden: key.hide(number),
        holder,
        from: None,
        until: None,
    };
    config.credentials = vec![
        card("C1", Holder::Child(child(1))),
        card("G1", Holder::Guardian(person(1))),
        card("G2", Holder::Pickup(person(2))),
        card("S1", Holder::Staff(person(3))),
        Credential {
            until: Some(MORNING),
            ..card("OLD", Holder::Guardian(person(1)))
        },
    ];
    config.collectors = vec![
        Collector {
            person: person(1),
            children: vec![child(1)],
        },
        Collector {
            person: person(2),
            children: vec![child(1), child(2)],
        },
    ];
    Rig::with(config)
}

impl Rig {
    /// A tap, two minutes after whatever came before. What follows the access event.
    fn tap(&mut self, reader: &str, number: &str) -> Vec<Event> {
        self.advance(secs(120));
        self.tap_now(reader, number, "access.granted")
    }

    fn tap_now(&mut self, reader: &str, number: &str, kind: &str) -> Vec<Event> {
        self.draws += 1;
        let body = format!(
            "{{\"id\":\"{}\",\"kind\":\"{kind}\",\"state\":\"raised\",\"credential\":\"{number}\"}}",
            self.draws
        );
        let mut events = self.send(&format!("antuo/v1/{reader}/x"), &body);
        assert_eq!(events.remove(0).kind.as_str(), kind);
        events
    }

    fn inside(&self) -> Vec<ChildId> {
        self.site.inside().map(|(child, _)| child).collect()
    }
}

fn movement(events: &[Event]) -> (&str, ChildId, HandedBy) {
    assert_eq!(events.len(), 1, "{events:?}");
    let Detail::Movement { child, by, .. } = events[0].detail else {
        panic!("{events:?}");
    };
    (events[0].kind.as_str(), child, by)
}

fn candidates(events: &[Event]) -> Vec<ChildId> {
    assert_eq!(events.len(), 1, "{events:?}");
    let Detail::Pending { candidates, .. } = &events[0].detail else {
        panic!("{events:?}");
    };
    candidates.clone()
}

const IN: &str = "presence.checked_in";
const OUT: &str = "presence.checked_out";

#[test]
fn a_childs_own_card_proves_passage_only() {
    let mut rig = rig();
    assert_eq!(
        movement(&rig.tap("in", "C1")),
        (IN, child(1), HandedBy::Unknown)
    );
    assert_eq!(candidates(&rig.tap("out", "C1")), [child(1)]);
    assert_eq!(
        rig.inside(),
        [child(1)],
        "inside until a carer or an adult's card says otherwise"
    );
    let out = rig.tap_now("out", "G1", "access.granted");
    assert_eq!(movement(&out), (OUT, child(1), HandedBy::Person(person(1))));
    assert_eq!(rig.inside(), []);
}

#[test]
fn an_adult_with_one_child_moves_that_child() {
    let mut rig = rig();
    let by = HandedBy::Person(person(1));
    assert_eq!(movement(&rig.tap("in", "G1")), (IN, child(1), by));
    assert_eq!(rig.tap("in", "G1"), [], "nobody is left outside to bring");
    rig.advance(DROP_OFF);
    assert_eq!(movement(&rig.tap("out", "G1")), (OUT, child(1), by));
    assert_eq!(rig.tap("out", "G1"), []);
    assert_eq!(movement(&rig.tap("both", "G1")), (IN, child(1), by));
    rig.advance(DROP_OFF);
    assert_eq!(movement(&rig.tap("both", "G1")), (OUT, child(1), by));
}

#[test]
fn an_adult_leaving_soon_after_handing_in_takes_nobody() {
    for way_out in ["out", "both"] {
        let mut rig = rig();
        movement(&rig.tap("in", "G1"));
        assert_eq!(candidates(&rig.tap(way_out, "G1")), [child(1)]);
        assert_eq!(
            rig.inside(),
            [child(1)],
            "inside until a carer says otherwise"
        );
        assert_eq!(rig.tap(way_out, "G1"), [], "asked already");
        assert_eq!(rig.inside(), [child(1)]);
        rig.advance(DROP_OFF);
        let by = HandedBy::Person(person(1));
        assert_eq!(movement(&rig.tap("out", "G1")), (OUT, child(1), by));
    }
}

#[test]
fn several_children_are_never_guessed() {
    let mut rig = rig();
    assert_eq!(candidates(&rig.tap("in", "G2")), [child(1), child(2)]);
    assert_eq!(
        rig.tap_now("in", "G2", "access.granted"),
        [],
        "the same tap asks once"
    );
    assert_eq!(rig.inside(), []);
    rig.tap("in", "G1");
    let last = rig.tap("in", "G2");
    assert_eq!(movement(&last), (IN, child(2), HandedBy::Person(person(2))));
}

#[test]
fn two_taps_within_a_minute_are_one() {
    let mut rig = rig();
    movement(&rig.tap("both", "G1"));
    rig.advance(secs(59));
    assert_eq!(rig.tap_now("both", "G1", "access.read"), []);
    assert_eq!(
        rig.tap_now("out", "G1", "access.read"),
        [],
        "brought and gone again by itself"
    );
    rig.restart();
    assert_eq!(rig.tap_now("both", "C1", "access.read"), []);
    assert_eq!(rig.inside(), [child(1)]);
    rig.advance(DROP_OFF);
    movement(&rig.tap_now("both", "G1", "access.read"));
    assert_eq!(rig.inside(), []);
}

#[test]
fn an_adult_right_behind_a_childs_own_card_is_named() {
    let mut rig = rig();
    rig.tap("in", "C1");
    rig.advance(secs(5));
    let named = rig.tap_now("in", "G1", "access.read");
    assert_eq!(
        movement(&named),
        (IN, child(1), HandedBy::Person(person(1)))
    );
}

#[test]
fn what_moves_nobody_is_still_told() {
    let mut rig = rig();
    assert_eq!(rig.tap("none", "G1"), []);
    assert_eq!(rig.tap("in", "S1"), []);
    assert_eq!(
        rig.tap_now("in", "G1", "access.denied"),
        [],
        "a refusal lets nobody in"
    );
    assert_eq!(
        words(&rig.tap("in", "4711")),
        ["presence.unassigned raised"]
    );
    assert_eq!(rig.tap("none", "4711"), []);
    assert_eq!(rig.inside(), []);
}

#[test]
fn an_expired_card_moves_nobody_unless_the_clock_knows_no_date() {
    let mut rig = rig();
    assert_eq!(words(&rig.tap("in", "OLD")), ["presence.unassigned raised"]);
    rig.now.clock_trust = ClockTrust::Unset;
    assert_eq!(movement(&rig.tap("in", "OLD")).0, IN);
}

#[test]
fn the_roll_survives_a_restart() {
    let mut rig = rig();
    rig.tap("in", "G1");
    rig.restart();
    assert_eq!(rig.inside(), [child(1)]);
}

#[test]
fn no_event_holds_a_card_number() {
    let mut rig = rig();
    rig.advance(secs(1));
    let body = "{\"id\":\"1\",\"kind\":\"access.read\",\"state\":\"raised\",\"credential\":\"0987654321\"}";
    let events = rig.send("antuo/v1/in/x", body);
    assert_eq!(events.len(), 2);
    let shown = format!("{events:?}{:?}", rig.store);
    assert!(!shown.contains("0987654321"), "{shown}");
    let unreadable = rig.send("antuo/v1/in/x", "0987654321").remove(0);
    let plain = Sha256::of(&[b"0987654321"]);
    assert!(
        unreadable.signal.is_some_and(|digest| digest != plain),
        "a digest anybody can try"
    );
}
