//! Plays put down by hand, and what must be counted in them: signals, cards, times. Cases and agencies are tested in
//! `cases`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::books::Seen;
use crate::clock::Micros;
use crate::ledger::Sent;
use crate::site::tests::town_and_site;
use crate::town::Passage;
use crate::view::{CentreName, Dispatch, ReceiverName};

/// A play put down by hand: one call writes the ledger's side, another the cloud's.
pub(super) struct Play {
    pub(super) town: Town,
    pub(super) books: Books,
    pub(super) observed: Observed,
}

const S: i64 = 1_000_000;

impl Play {
    pub(super) fn new() -> Play {
        let (town, _site) = town_and_site();
        let mut books = Books::default();
        books
            .receivers
            .extend(Agency::ALL.map(|agency| agency.word().to_owned()));
        Play {
            town,
            books,
            observed: Observed::default(),
        }
    }

    fn centre(&self) -> &Centre {
        &self.town.centres[0]
    }

    pub(super) fn sent(&mut self, id: &str, device: &str, deed: Deed, at_s: i64) -> &mut Entry {
        let (point, kind, qos) = match device {
            "btn-hall" | "btn-nap" => ("button", "alarm.pressed", 1),
            "door-in" | "door-out" => ("reader", "access.granted", 1),
            "nap-smoke" => ("smoke", "fire.smoke.alarm", 0),
            _ => ("smoke", "fire.smoke.alarm", 1),
        };
        let sent = Sent {
            id: id.to_owned(),
            centre: self.centre().id,
            device: device.to_owned(),
            point: point.to_owned(),
            kind: kind.to_owned(),
            deed,
            qos,
            excluded: false,
            at: Micros(at_s * S),
        };
        let puback_at = (qos == 1).then_some(Micros(at_s * S + 1000));
        self.books.entries.push(Entry {
            sent,
            puback_at,
            copies: 1,
        });
        self.books.entries.last_mut().unwrap()
    }

    pub(super) fn case(&mut self, id: &str, hazard: &str, opened_s: i64) -> &mut Incident {
        let centre = CentreName {
            id: self.centre().id.to_string(),
            name: "阳光".to_owned(),
        };
        self.observed.incidents.push(Incident {
            id: id.to_owned(),
            centre,
            hazard: hazard.to_owned(),
            priority: 1,
            state: "open".to_owned(),
            opened_at: Micros(opened_s * S),
            closed: None,
            alarms: Vec::new(),
            dispatches: Vec::new(),
            confirmation: None,
            linked_to: None,
        });
        self.observed.incidents.last_mut().unwrap()
    }

    pub(super) fn stored(&mut self, case: &str, id: Option<&str>, device: &str, state: &str) {
        let (point, kind) = if device.starts_with("btn") {
            ("button", "alarm.pressed")
        } else {
            ("smoke", "fire.smoke.alarm")
        };
        let seq = self.observed.events.len() as i64;
        self.observed.events.push((
            case.to_owned(),
            StoredEvent {
                seq,
                event: format!("e-{seq}"),
                vendor_id: id.map(str::to_owned),
                device: device.to_owned(),
                point: point.to_owned(),
                kind: kind.to_owned(),
                state: state.to_owned(),
                centre: self.centre().id.to_string(),
            },
        ));
    }

    /// A message at a receiver, and the cloud's row for it.
    pub(super) fn told(&mut self, case: &str, agency: Agency, number: u16, code: &str, at_ms: i64) {
        let account = self
            .centre()
            .account_at(&self.town, agency)
            .unwrap()
            .to_owned();
        self.books.received.push(Received {
            receiver: agency.word().to_owned(),
            number,
            id: "SIA-DCS".to_owned(),
            data: format!("#{account}|Nri1/{code}"),
            account,
            at: Micros(at_ms * 1000),
            repeat: false,
        });
        let receiver = self.town.receiver(agency.word()).unwrap();
        let purpose = match self
            .observed
            .incidents
            .iter()
            .find(|other| other.id == case)
        {
            _ if code.starts_with("BC") => "cancel",
            Some(case)
                if case
                    .dispatches
                    .iter()
                    .any(|dispatch| dispatch.receiver.agency == agency.word()) =>
            {
                "update"
            }
            _ => "order",
        };
        let dispatch = Dispatch {
            id: format!("d-{number}"),
            receiver: ReceiverName {
                id: receiver.id.to_string(),
                name: receiver.name.clone(),
                agency: agency.word().to_owned(),
            },
            purpose: purpose.to_owned(),
            state: "received".to_owned(),
            received_at: Some(Micros(at_ms * 1000)),
        };
        if let Some(case) = self
            .observed
            .incidents
            .iter_mut()
            .find(|other| other.id == case)
        {
            case.dispatches.push(dispatch);
        }
    }

    fn tap(&mut self, id: &str, passage: Passage, at_s: i64) -> Uuid {
        let child = self.centre().children[0].id;
        let device = if passage == Passage::In {
            "door-in"
        } else {
            "door-out"
        };
        self.sent(
            id,
            device,
            Deed::Tap {
                holder: Uuid::nil(),
                children: vec![child],
                passage,
            },
            at_s,
        );
        child
    }

    fn presence(&mut self, child: Uuid, id: &str, kind: &str) {
        let event = format!("p-{}", self.observed.family.len());
        self.observed.family.push((
            child,
            PresenceEvent {
                event,
                vendor_id: Some(id.to_owned()),
                kind: kind.to_owned(),
            },
        ));
    }

    fn seen(&mut self, child: Uuid, state: &str, at_ms: i64) {
        self.books.seen.push(Seen {
            child,
            state: state.to_owned(),
            at: Micros(at_ms * 1000),
        });
    }

    pub(super) fn tally(&self) -> Tally {
        // The index of the books is made while they are read; entries put in by hand need none.
        count(&self.town, &self.books, &self.observed)
    }
}

/// A press at second 10 that opened a case and went to the police 12 ms later.
pub(super) fn one_press() -> Play {
    let mut play = Play::new();
    play.sent("v1", "btn-hall", Deed::Press, 10);
    play.case("i1", "panic", 10);
    play.stored("i1", Some("v1"), "btn-hall", "raised");
    play.told("i1", Agency::Police, 1, "PA011", 10_012);
    play
}

#[test]
fn a_press_that_went_all_the_way_is_clean() {
    let tally = one_press().tally();
    assert!(tally.clean(), "{tally:?}");
    assert_eq!((tally.published, tally.puback, tally.journalled), (1, 1, 1));
    assert_eq!((tally.incidents, tally.dispatches_received), (1, 1));
    assert_eq!(
        tally.press_to_receiver,
        Latencies {
            ms: vec![12.0],
            excluded: 0
        }
    );
}

#[test]
fn an_acknowledged_press_the_cloud_does_not_show_is_missing_and_named() {
    let mut play = one_press();
    play.sent("v2", "btn-nap", Deed::Press, 20);
    play.sent("v3", "btn-nap", Deed::Press, 22).puback_at = None;
    let tally = play.tally();
    assert_eq!(
        (
            tally.published,
            tally.puback,
            tally.journalled,
            tally.missing.len()
        ),
        (3, 2, 1, 1)
    );
    assert!(
        tally.missing[0].contains("v2") && tally.missing[0].contains("btn-nap/button"),
        "{:?}",
        tally.missing
    );
    assert!(tally.doubled.is_empty());
}

#[test]
fn the_same_vendor_id_at_another_centre_is_not_this_press() {
    let mut play = one_press();
    play.observed.events[0].1.centre = play.town.centres[1].id.to_string();
    let tally = play.tally();
    assert_eq!(tally.missing.len(), 1);
    assert!(
        tally
            .doubled
            .iter()
            .any(|finding| finding.contains("no such point")),
        "{:?}",
        tally.doubled
    );
}

#[test]
fn a_press_stored_twice_is_doubled() {
    let mut play = one_press();
    play.stored("i1", Some("v1"), "btn-hall", "raised");
    assert_eq!(play.tally().doubled.len(), 1);
}

#[test]
fn a_second_case_from_one_press_is_doubled() {
    let mut play = one_press();
    play.case("i2", "panic", 11);
    let tally = play.tally();
    assert!(
        tally.doubled.iter().any(|finding| finding.contains("i2")),
        "{:?}",
        tally.doubled
    );
}

#[test]
fn a_case_of_a_hazard_we_never_cause_is_doubled_and_a_technical_one_is_not() {
    let mut play = one_press();
    play.case("i2", "technical", 11);
    assert!(play.tally().clean());
    play.case("i3", "intrusion", 12);
    assert_eq!(play.tally().doubled.len(), 1);
}

#[test]
fn a_second_press_in_the_open_case_needs_no_order_and_may_have_an_update() {
    let mut play = one_press();
    play.sent("v2", "btn-hall", Deed::Press, 13);
    play.stored("i1", Some("v2"), "btn-hall", "raised");
    assert!(play.tally().clean());
    play.told("i1", Agency::Police, 2, "PA011", 71_000);
    let tally = play.tally();
    assert!(tally.clean(), "{tally:?}");
    assert_eq!(
        tally.press_to_receiver.ms,
        [12.0],
        "only the press that opened the case is timed"
    );
}

#[test]
fn an_order_sent_twice_under_two_numbers_is_doubled_and_a_repeat_is_not() {
    let mut play = one_press();
    let mut repeat = play.books.received[0].clone();
    repeat.at = Micros(13 * S);
    play.books.received.push(repeat);
    assert!(
        play.tally().clean(),
        "same number and data: a repeat, marked or not"
    );
    play.told("i1", Agency::Police, 2, "PA011", 10_050);
    assert_eq!(play.tally().doubled.len(), 1);
}

#[test]
fn a_second_order_row_for_one_case_is_doubled() {
    let mut play = one_press();
    play.sent("v2", "btn-hall", Deed::Press, 13);
    play.stored("i1", Some("v2"), "btn-hall", "raised");
    play.told("i1", Agency::Police, 2, "PA011", 71_000);
    play.observed.incidents[0].dispatches[1].purpose = "order".to_owned();
    assert_eq!(play.tally().doubled.len(), 1);
}

#[test]
fn an_order_before_or_without_its_press_is_doubled() {
    for (code, at_ms) in [
        ("PA012", 10_020),
        ("PA011", 5_000),
        ("PA099", 10_020),
        ("FA021", 10_020),
    ] {
        let mut play = one_press();
        play.told("", Agency::Police, 7, code, at_ms);
        play.books.received.sort_by_key(|message| message.at);
        assert!(!play.tally().doubled.is_empty(), "{code} at {at_ms}");
    }
}

#[test]
fn an_order_about_another_centre_is_doubled() {
    let mut play = one_press();
    let account = play.town.centres[1]
        .account_at(&play.town, Agency::Police)
        .unwrap()
        .to_owned();
    play.books.received[0].data = format!("#{account}|Nri1/PA011");
    play.books.received[0].account = account;
    let tally = play.tally();
    assert_eq!(tally.doubled.len(), 1);
    assert!(
        tally
            .contradictions
            .iter()
            .any(|finding| finding.contains("never heard")),
        "{:?}",
        tally.contradictions
    );
}

#[test]
fn a_case_the_police_never_heard_of_is_a_contradiction_even_if_the_cloud_says_received() {
    let mut play = one_press();
    play.books.received.clear();
    let tally = play.tally();
    assert!(tally.missing.is_empty() && tally.doubled.is_empty());
    assert_eq!(
        tally.contradictions.len(),
        2,
        "never heard, and claimed: {:?}",
        tally.contradictions
    );
    play.books.receivers.remove("police");
    assert!(
        play.tally().clean(),
        "without the receiver's ledger nothing is said about it"
    );
}

#[test]
fn taps_are_counted_by_child_and_timed_by_the_parents_stream() {
    let mut play = Play::new();
    let child = play.tap("t1", Passage::In, 10);
    play.presence(child, "t1", "presence.checked_in");
    play.seen(child, "expected", 9_000);
    play.seen(child, "present", 10_031);
    play.tap("t2", Passage::Out, 20);
    play.presence(child, "t2", "presence.checked_out");
    play.seen(child, "left", 20_040);
    let tally = play.tally();
    assert!(tally.clean(), "{tally:?}");
    assert_eq!(
        tally.checkin_to_parent,
        Latencies {
            ms: vec![31.0, 40.0],
            excluded: 0
        }
    );
}

#[test]
fn a_tap_nobody_shows_is_missing_and_one_shown_twice_is_doubled() {
    let mut play = Play::new();
    let child = play.tap("t1", Passage::In, 10);
    assert_eq!(play.tally().missing.len(), 1);
    play.presence(child, "t1", "presence.checked_in");
    assert!(play.tally().clean());
    play.presence(child, "t1", "presence.checked_in");
    assert_eq!(play.tally().doubled.len(), 1);
}

#[test]
fn a_tap_shown_to_another_childs_parent_is_missing_and_doubled() {
    let mut play = Play::new();
    play.tap("t1", Passage::In, 10);
    let other = play.centre().children[1].id;
    play.presence(other, "t1", "presence.checked_in");
    let tally = play.tally();
    assert_eq!((tally.missing.len(), tally.doubled.len()), (1, 1));
}

#[test]
fn a_check_in_without_a_tap_is_doubled_and_a_wrong_direction_contradicts() {
    let mut play = Play::new();
    let child = play.tap("t1", Passage::In, 10);
    play.presence(child, "t1", "presence.checked_out");
    play.presence(child, "t9", "presence.checked_in");
    let tally = play.tally();
    assert_eq!((tally.doubled.len(), tally.contradictions.len()), (1, 1));
}

#[test]
fn a_tap_the_open_stream_never_showed_contradicts_and_excluded_ones_are_counted_apart() {
    let mut play = Play::new();
    let child = play.tap("t1", Passage::In, 10);
    play.presence(child, "t1", "presence.checked_in");
    play.seen(child, "expected", 9_000);
    assert_eq!(play.tally().contradictions.len(), 1);
    play.books.entries[0].sent.excluded = true;
    let tally = play.tally();
    assert!(tally.clean());
    assert_eq!(tally.checkin_to_parent.excluded, 1);
    let mut play = one_press();
    play.books.entries[0].copies = 2;
    assert_eq!(
        play.tally().press_to_receiver,
        Latencies {
            ms: vec![],
            excluded: 1
        }
    );
}

#[test]
fn a_late_line_of_the_next_tap_is_not_taken_for_this_one() {
    let mut play = Play::new();
    let child = play.tap("t1", Passage::In, 10);
    play.presence(child, "t1", "presence.checked_in");
    play.tap("t2", Passage::Out, 20);
    play.presence(child, "t2", "presence.checked_out");
    play.tap("t3", Passage::In, 30);
    play.presence(child, "t3", "presence.checked_in");
    play.seen(child, "left", 20_005);
    play.seen(child, "present", 30_005);
    let tally = play.tally();
    assert_eq!(
        (
            tally.contradictions.len(),
            tally.checkin_to_parent.ms.as_slice()
        ),
        (1, [5.0, 5.0].as_slice())
    );
}
