#![allow(clippy::unwrap_used, clippy::panic)]

use domain::id::{EventId, PointKey};
use uuid::Uuid;

use super::*;
use crate::dispatch::job::Input;
use crate::dispatch::plan::PlanReceiver;
use crate::dispatch::{Agency, Outcome, Purpose, RefusedBy, Targets};
use crate::incident::{Priority, Repeat, Trouble, Withheld};
use domain::id::ReceiverId;

pub(super) fn at(second: u64) -> Timestamp {
    Timestamp::from_micros(1_000_000_000_000_000).after(Duration::from_secs(second))
}

pub(super) fn person(n: u128) -> PersonId {
    PersonId(Uuid::from_u128(n))
}

pub(super) fn plan(agencies: &[Agency], fire_needs_verification: bool) -> Plan {
    let receivers = agencies.iter().enumerate().map(|(i, agency)| PlanReceiver {
        receiver: ReceiverId(Uuid::from_u128(100 + i as u128)),
        agency: *agency,
        account: "1234".into(),
    });
    Plan {
        fire_needs_verification,
        receivers: receivers.collect(),
    }
}

fn everyone() -> Plan {
    plan(&[Agency::Police, Agency::Fire, Agency::Monitoring], true)
}

pub(super) fn report(point: &str, kind: Kind, at: Timestamp) -> Report {
    Report {
        fact: Fact {
            event: EventId(Uuid::from_u128(7)),
            vendor_id: None,
            source: Some(PointKey {
                device: point.parse().unwrap(),
                point: "p".parse().unwrap(),
            }),
            zone: None,
            number: 5,
            kind,
            state: EventState::Raised,
            severity: kind.severity(),
            momentary: kind == Kind::AlarmPressed,
            received_at: at,
            occurred_at: at,
            count: 1,
            withheld: None,
            stamp: None,
            by: None,
            command: None,
            why: None,
            numbers: None,
            record: None,
        },
        same_activation: false,
        overtaken: false,
    }
}

fn withheld(mut report: Report, why: Withheld) -> Report {
    report.fact.withheld = Some(why);
    report
}

fn cleared(mut report: Report) -> Report {
    report.fact.state = EventState::Cleared;
    report
}

fn opened(hazard: Hazard, plan: Plan, first: &Report) -> Case {
    let opening = Opening {
        incident: IncidentId(Uuid::from_u128(1)),
        centre: CentreId(Uuid::from_u128(2)),
        hazard,
        linked_to: None,
        plan,
    };
    open(opening, first, at(0)).unwrap().0
}

fn press(second: u64) -> Report {
    report("btn", Kind::AlarmPressed, at(second))
}

fn smoke(point: &str) -> Report {
    report(point, Kind::FireSmokeAlarm, at(0))
}

fn panic_case() -> Case {
    opened(Hazard::Panic, everyone(), &press(0))
}

/// Decides and applies.
fn does(case: &mut Case, command: Command, second: u64) -> Vec<&'static str> {
    let entries = decide(case, &command, at(second)).unwrap();
    entries.iter().for_each(|entry| case.apply(entry));
    entries.iter().map(Entry::kind).collect()
}

fn says(case: &mut Case, report: Report, second: u64) -> Vec<&'static str> {
    does(case, Command::Report(report), second)
}

fn told(case: &Case) -> Vec<(Agency, Purpose)> {
    case.jobs
        .iter()
        .map(|job| (job.agency, job.purpose))
        .collect()
}

fn sent(case: &mut Case, nth: usize, outcome: Outcome, second: u64) -> Vec<&'static str> {
    let dispatch = case.jobs[nth].id;
    let claim = Input::Claim {
        number: 1,
        targets: Targets::PrimaryOnly,
        lease_until: at(second + 10),
    };
    let input = claim;
    let mut kinds = does(case, Command::Progress { dispatch, input }, second);
    let attempt = case.jobs[nth].attempts;
    let input = Input::Ended {
        attempt,
        outcome,
        chance: 0,
    };
    kinds.extend(does(case, Command::Progress { dispatch, input }, second));
    kinds
}

pub(super) fn received() -> Outcome {
    Outcome::Received { reply: vec![6] }
}

#[test]
fn a_press_calls_the_police_at_once_and_only_them() {
    let case = panic_case();
    assert_eq!(told(&case), [(Agency::Police, Purpose::Order)]);
    assert_eq!(case.jobs[0].due_at(), Some(at(0)));
    assert_eq!(case.jobs[0].point_number, 5);
    assert_eq!((case.priority, case.version), (Priority::P1, 3));
}

#[test]
fn fire_tells_the_monitoring_centre_and_the_fire_service_once_confirmed() {
    let first = smoke("a");
    let mut case = opened(Hazard::Fire, everyone(), &first);
    assert_eq!(told(&case), [(Agency::Monitoring, Purpose::Order)]);
    assert_eq!(case.priority, Priority::P2);
    let kinds = says(&mut case, smoke("b"), 1);
    assert_eq!(kinds[..2], ["alarm.raised", "case.confirmed"]);
    assert_eq!(case.confirmation, Some(Confirmation::SecondPoint));
    assert_eq!(
        told(&case)[1..],
        [
            (Agency::Monitoring, Purpose::Update),
            (Agency::Fire, Purpose::Order),
            (Agency::Fire, Purpose::Update),
        ]
    );
    assert_eq!(case.priority, Priority::P1);
    let direct = opened(Hazard::Fire, plan(&[Agency::Fire], false), &first);
    assert_eq!(told(&direct), [(Agency::Fire, Purpose::Order)]);
}

#[test]
fn a_call_point_confirms_by_itself_and_silence_after_a_minute() {
    let called = report("mcp", Kind::FireManualCallPointAlarm, at(0));
    let case = opened(Hazard::Fire, everyone(), &called);
    assert_eq!(case.confirmation, Some(Confirmation::CallPoint));
    let mut case = opened(Hazard::Fire, everyone(), &smoke("a"));
    assert_eq!(next_deadline(&case), Some(at(60)));
    assert!(does(&mut case, Command::Tick, 59).is_empty());
    let kinds = does(&mut case, Command::Tick, 60);
    assert_eq!(
        kinds,
        ["case.confirmed", "dispatch.queued", "case.escalated"]
    );
    assert_eq!(case.confirmation, Some(Confirmation::Timeout));
    let mut taken = opened(Hazard::Fire, everyone(), &smoke("a"));
    sent(&mut taken, 0, received(), 1);
    does(&mut taken, Command::Acknowledge { by: person(1) }, 30);
    assert!(
        does(&mut taken, Command::Tick, 90).is_empty(),
        "somebody looks"
    );
    assert_eq!(does(&mut taken, Command::Tick, 630), ["case.review_due"]);
    let kinds = does(&mut taken, Command::Tick, 690);
    assert_eq!(kinds[0], "case.confirmed", "and then nobody did");
}

#[test]
fn what_is_withheld_rings_and_asks_but_calls_nobody_until_a_person_says_so() {
    for (why, priority) in [
        (Withheld::Old, Priority::P1),
        (Withheld::Unverified, Priority::P2),
        (Withheld::Test, Priority::P4),
    ] {
        for first in [press(0), smoke("a")] {
            let hazard = first.fact.kind.hazard().unwrap();
            let mut case = opened(hazard, everyone(), &withheld(first, why));
            assert_eq!(case.handling.as_str(), "open");
            assert_eq!(case.priority, priority);
            let kinds = does(&mut case, Command::Tick, 3_600);
            assert_eq!(kinds, ["case.escalated"], "silence confirms nothing here");
            assert!(case.jobs.is_empty());
            does(&mut case, Command::Confirm { by: person(1) }, 3_601);
            assert!(!case.jobs.is_empty());
            assert_eq!(case.priority, Priority::P1);
        }
    }
}

#[test]
fn a_live_press_in_a_withheld_case_calls_at_once() {
    let mut case = opened(
        Hazard::Panic,
        everyone(),
        &withheld(press(0), Withheld::Old),
    );
    let kinds = says(&mut case, press(5), 5);
    assert_eq!(kinds, ["alarm.raised", "dispatch.queued"]);
}

#[test]
fn a_press_again_rings_again_and_updates_the_told_once_a_minute() {
    let mut case = panic_case();
    sent(&mut case, 0, received(), 1);
    does(&mut case, Command::Acknowledge { by: person(1) }, 2);
    assert!(case.lines[0].acknowledged);
    assert_eq!(says(&mut case, press(3), 3), ["alarm.raised"]);
    assert_eq!(case.handling.as_str(), "open");
    assert!(!case.lines[0].acknowledged);
    assert_eq!(case.lines[0].activations, 2);
    assert_eq!(
        says(&mut case, press(60), 60),
        ["alarm.raised", "dispatch.queued"]
    );
    assert_eq!(
        says(&mut case, press(130), 130),
        ["alarm.raised"],
        "still unsent"
    );
    sent(&mut case, 1, received(), 131);
    says(&mut case, press(132), 132);
    let purposes: Vec<_> = case.jobs.iter().map(|job| job.purpose).collect();
    assert_eq!(purposes, [Purpose::Order, Purpose::Update, Purpose::Update]);
}

#[test]
fn a_case_can_be_taken_over_and_taking_it_twice_changes_nothing() {
    let mut case = panic_case();
    let take = |n| Command::Acknowledge { by: person(n) };
    assert_eq!(does(&mut case, take(1), 1), ["case.acknowledged"]);
    assert!(does(&mut case, take(1), 2).is_empty());
    assert_eq!(does(&mut case, take(2), 3), ["case.acknowledged"]);
    assert!(matches!(case.handling, Handling::Acknowledged { by, .. } if by == person(2)));
}

#[test]
fn a_level_said_again_is_no_activation_but_a_worse_one_is() {
    let pre = report("a", Kind::FireSmokePrealarm, at(0));
    let mut case = opened(
        Hazard::Fire,
        everyone(),
        &withheld(pre, Withheld::NotCritical),
    );
    assert!(case.jobs.is_empty());
    let worse = says(&mut case, smoke("a"), 1);
    assert_eq!(worse, ["alarm.raised", "dispatch.queued"]);
    let again = decide(&case, &Command::Report(smoke("a")), at(2)).unwrap();
    assert!(matches!(
        again[..],
        [Entry::Repeated {
            why: Repeat::Level,
            ..
        }]
    ));
    assert_eq!(says(&mut case, cleared(smoke("a")), 3), ["alarm.restored"]);
    assert_eq!(case.handling.as_str(), "open", "restoral closes nothing");
    assert_eq!(says(&mut case, smoke("a"), 4), ["alarm.raised"]);
    assert_eq!(case.confirmation, None, "one point is one point");
}

#[test]
fn what_belongs_to_an_earlier_activation_is_kept_without_a_ring() {
    let mut case = panic_case();
    let mut same = press(1);
    same.same_activation = true;
    assert_eq!(says(&mut case, same.clone(), 1), ["alarm.repeated"]);
    assert_eq!(case.lines[0].activations, 1);
    same.fact.source = report("other", Kind::AlarmPressed, at(1)).fact.source;
    let kinds = says(&mut case, same, 1);
    assert_eq!(kinds[0], "alarm.raised", "its first half may be lost");
}

#[test]
fn no_receiver_is_loud() {
    let case = opened(Hazard::Panic, plan(&[Agency::Fire], true), &press(0));
    assert!(case.jobs.is_empty());
    assert_eq!(case.missing, [Agency::Police]);
    let mut fire = opened(Hazard::Fire, plan(&[], true), &smoke("a"));
    assert_eq!(fire.priority, Priority::P1);
    does(&mut fire, Command::Acknowledge { by: person(1) }, 1);
    let kinds = does(&mut fire, Command::Confirm { by: person(1) }, 2);
    assert_eq!(kinds, ["case.confirmed", "dispatch.no_receiver"]);
    assert_eq!(fire.handling.as_str(), "open", "it rings anew");
    assert!(
        !says(&mut fire, smoke("b"), 3).contains(&"dispatch.no_receiver"),
        "once"
    );
}

#[test]
fn a_panic_is_a_false_alarm_only_for_two_people() {
    let close = |n| Command::Close {
        by: person(n),
        cause: Cause::FalseAlarm,
        note: String::new(),
    };
    let mut case = panic_case();
    assert_eq!(does(&mut case, close(1), 10), ["close.proposed"]);
    assert!(
        does(&mut case, close(1), 20).is_empty(),
        "the same person again"
    );
    assert_eq!(
        does(&mut case, close(2), 611),
        ["close.proposed"],
        "too late"
    );
    says(&mut case, press(620), 620);
    assert_eq!(
        does(&mut case, close(1), 621),
        ["close.proposed"],
        "new facts"
    );
    assert!(does(&mut case, close(2), 700).contains(&"case.closed"));
    assert!(matches!(
        case.handling,
        Handling::Closed { by, second: Some(second), .. } if by == person(1) && second == person(2)
    ));
    let late = decide(&case, &close(3), at(701));
    assert_eq!(late, Err(Refusal::Closed));
    let mut fire = opened(Hazard::Fire, everyone(), &smoke("a"));
    assert!(does(&mut fire, close(1), 1).contains(&"case.closed"));
}

#[test]
fn nobody_recalls_the_police_alone_whatever_the_cause() {
    let close = |n, cause| Command::Close {
        by: person(n),
        cause,
        note: String::new(),
    };
    for cause in [Cause::FalseAlarm, Cause::Drill, Cause::Technical] {
        let mut case = panic_case();
        assert_eq!(does(&mut case, close(1, cause), 10), ["close.proposed"]);
        let other = if cause == Cause::Drill {
            Cause::Technical
        } else {
            Cause::Drill
        };
        let second = does(&mut case, close(2, other), 11);
        assert_eq!(
            second,
            ["close.proposed"],
            "another cause is another proposal"
        );
        assert!(does(&mut case, close(1, other), 12).contains(&"case.closed"));
    }
}

#[test]
fn closing_as_not_real_cancels_what_may_have_arrived_and_stops_the_rest() {
    let twice = plan(&[Agency::Police, Agency::Police, Agency::Police], true);
    let mut case = opened(Hazard::Panic, twice, &press(0));
    sent(&mut case, 0, received(), 1);
    sent(&mut case, 1, Outcome::Unanswered, 1);
    let close = |n, cause| Command::Close {
        by: person(n),
        cause,
        note: String::new(),
    };
    let mut real = case.clone();
    does(&mut real, close(1, Cause::Real), 2);
    let states: Vec<_> = real.jobs.iter().map(|job| job.state.as_str()).collect();
    assert_eq!(
        states,
        ["received", "unanswered", "queued"],
        "it was real: who has not been told still must be"
    );
    sent(&mut real, 2, received(), 3);
    assert_eq!(real.jobs[2].state.as_str(), "received");
    let why = crate::dispatch::RefusedBy::Duh;
    let mut unheard = case.clone();
    does(&mut unheard, close(1, Cause::Real), 2);
    sent(&mut unheard, 2, Outcome::Refused { why }, 3);
    assert!(
        unheard.on_board(),
        "nobody took it: somebody must telephone"
    );
    does(&mut case, close(1, Cause::FalseAlarm), 2);
    does(&mut case, close(2, Cause::FalseAlarm), 3);
    let states: Vec<_> = case
        .jobs
        .iter()
        .map(|job| (job.state.as_str(), job.purpose))
        .collect();
    assert_eq!(
        states,
        [
            ("received", Purpose::Order),
            ("cancelled", Purpose::Order),
            ("cancelled", Purpose::Order),
            ("queued", Purpose::Cancel),
            ("queued", Purpose::Cancel),
        ]
    );
    assert!(!case.on_board());
    sent(&mut case, 3, received(), 4);
    assert_eq!(
        does(&mut case, Command::Tick, 604),
        ["dispatch.exhausted", "dispatch.telephone_exhausted"]
    );
    assert!(case.on_board(), "an undelivered cancel stays in sight");
}

#[test]
fn an_order_in_hand_at_closing_is_cancelled_but_never_retried() {
    let mut case = panic_case();
    let dispatch = case.jobs[0].id;
    let claim = |second: u64| Command::Progress {
        dispatch,
        input: Input::Claim {
            number: 1,
            targets: Targets::PrimaryOnly,
            lease_until: at(second + 10),
        },
    };
    does(&mut case, claim(0), 0);
    for n in [1, 2] {
        let (by, cause, note) = (person(n), Cause::FalseAlarm, String::new());
        does(&mut case, Command::Close { by, cause, note }, 1);
    }
    let cancel = case.jobs[1].id;
    assert_eq!(case.jobs[1].purpose, Purpose::Cancel);
    let Command::Progress { input, .. } = claim(2) else {
        panic!()
    };
    let overtaking = Command::Progress {
        dispatch: cancel,
        input,
    };
    assert!(does(&mut case, overtaking.clone(), 2).is_empty());
    let kinds = does(&mut case, Command::Tick, 10);
    assert_eq!(kinds, ["dispatch.failed", "dispatch.cancelled"]);
    assert_eq!(does(&mut case, overtaking, 10), ["dispatch.sending"]);
}

#[test]
fn refused_and_exhausted_orders_ring_again_until_a_human_confirms_by_telephone() {
    let mut case = panic_case();
    does(&mut case, Command::Acknowledge { by: person(1) }, 1);
    let why = RefusedBy::Duh;
    let kinds = sent(&mut case, 0, Outcome::Refused { why }, 2);
    assert_eq!(
        kinds[1..],
        ["dispatch.refused", "dispatch.telephone_refused"]
    );
    assert_eq!(case.handling.as_str(), "open");
    let input = Input::Accept {
        by: person(1),
        reference: "77".into(),
        spoke_to: "x".into(),
    };
    let dispatch = case.jobs[0].id;
    let accept = Command::Progress { dispatch, input };
    assert_eq!(does(&mut case, accept.clone(), 3), ["dispatch.accepted"]);
    assert_eq!(decide(&case, &accept, at(4)), Err(Refusal::DispatchSettled));
    let mut stuck = panic_case();
    assert_eq!(next_deadline(&stuck), Some(at(60)));
    let entries = decide(&stuck, &Command::Tick, at(600)).unwrap();
    let trouble = Trouble::Exhausted { dispatch };
    assert!(
        entries
            .iter()
            .any(|e| matches!(e, Entry::Troubled { trouble: t, .. } if *t == trouble))
    );
    entries.iter().for_each(|entry| stuck.apply(entry));
    assert!(
        stuck.jobs[0].due_at().is_some(),
        "nobody even tried, and it is still to be sent"
    );
}

#[test]
fn reports_go_to_the_case_of_their_hazard_or_point() {
    let fire = opened(Hazard::Fire, everyone(), &smoke("a"));
    let open = [panic_case(), fire];
    assert_eq!(route(&open, &smoke("b")), Route::Joins(1));
    assert_eq!(route(&open, &cleared(smoke("a"))), Route::Joins(1));
    assert_eq!(route(&open, &cleared(smoke("b"))), Route::Nowhere);
    let silenced = report("btn", Kind::AlarmSilenced, at(0));
    assert_eq!(route(&open, &silenced), Route::Joins(0));
    assert_eq!(route(&open[..1], &smoke("b")), Route::Opens(Hazard::Fire));
    let mut late = smoke("b");
    late.overtaken = true;
    assert_eq!(route(&open[..1], &late), Route::Nowhere, "judged before");
    let door = report("a", Kind::DoorOpened, at(0));
    assert_eq!(route(&open, &door), Route::Nowhere);
}
