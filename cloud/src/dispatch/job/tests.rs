#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::dispatch::Target::{Backup, Primary};

fn at(second: u64) -> Timestamp {
    Timestamp::from_micros(1_000_000_000_000_000).after(Duration::from_secs(second))
}

fn job() -> Job {
    Job {
        id: id_of(IncidentId(uuid::Uuid::from_u128(1)), "r/0/0"),
        step: "r/0/0".into(),
        receiver: ReceiverId(uuid::Uuid::from_u128(2)),
        agency: Agency::Police,
        purpose: Purpose::Order,
        line: 0,
        kind: Kind::AlarmPressed,
        point_number: 7,
        occurred_at: at(0),
        queued_at: at(0),
        state: State::Queued { not_before: at(0) },
        attempts: 0,
        failures: 0,
        number: None,
        reached: false,
        target: Primary,
        alternates: false,
        fresh_time: None,
        was_fresh: false,
        exhausted_at: None,
    }
}

const LEASE: Duration = Duration::from_secs(10);

fn claim(targets: Targets, now: Timestamp) -> Input {
    Input::Claim {
        number: 41,
        targets,
        lease_until: now.after(LEASE),
    }
}

fn ended(attempt: u32, outcome: Outcome) -> Input {
    Input::Ended {
        attempt,
        outcome,
        chance: u32::MAX,
    }
}

/// Claims and ends one attempt; gives where it went.
fn attempt(job: &mut Job, targets: Targets, outcome: Outcome, now: Timestamp) -> Target {
    let begun = job.step(&claim(targets, now), now).unwrap();
    job.apply(&begun);
    let Step::Begun {
        attempt, target, ..
    } = begun
    else {
        panic!("{begun:?}")
    };
    let end = job.step(&ended(attempt, outcome), now).unwrap();
    job.apply(&end);
    target
}

const NO_LINE: Outcome = Outcome::NotSent {
    why: NotSent::NoConnection,
};
const NAK: Outcome = Outcome::Nak {
    clock_offset_micros: 5,
};

#[test]
fn an_unanswered_order_goes_to_the_other_address_at_once_and_then_alternates() {
    let mut job = job();
    let two = Targets::WithBackup;
    assert_eq!(attempt(&mut job, two, Outcome::Unanswered, at(0)), Primary);
    assert_eq!(job.due_at(), Some(at(0)));
    assert_eq!(attempt(&mut job, two, Outcome::Unanswered, at(0)), Backup);
    assert_eq!(job.due_at(), Some(at(2)));
    assert_eq!(attempt(&mut job, two, NO_LINE, at(2)), Primary);
    assert_eq!(job.due_at(), Some(at(2)));
    assert_eq!(attempt(&mut job, two, Outcome::Unanswered, at(2)), Backup);
    assert_eq!(job.due_at(), Some(at(6)));
    assert_eq!(job.number, Some(41));
    assert_eq!(job.state.as_str(), "unanswered");
}

#[test]
fn one_address_is_tried_again_after_a_growing_wait() {
    let mut job = job();
    let one = Targets::PrimaryOnly;
    for (begin, due) in [(0, 2), (2, 6), (6, 14), (14, 30), (30, 60), (60, 90)] {
        assert_eq!(attempt(&mut job, one, NO_LINE, at(begin)), Primary);
        assert_eq!(job.due_at(), Some(at(due)));
    }
    assert_eq!(
        job.state.as_str(),
        "queued",
        "nothing ever left this machine"
    );
    assert!(!job.told());
}

#[test]
fn what_our_own_settings_make_unsendable_rings_at_once() {
    let mut job = job();
    let why = crate::dispatch::NotSent::Unsendable;
    attempt(
        &mut job,
        Targets::PrimaryOnly,
        Outcome::NotSent { why },
        at(0),
    );
    let why = RefusedBy::OurSettings;
    assert_eq!(job.state, State::Refused { at: at(0), why });
}

#[test]
fn a_refused_time_is_sent_fresh_once_and_is_a_fault_the_second_time_in_a_row() {
    let mut job = job();
    let one = Targets::PrimaryOnly;
    attempt(&mut job, one, NAK, at(0));
    assert_eq!(job.fresh_time, Some(5));
    assert_eq!(job.due_at(), Some(at(0)), "at once");
    attempt(&mut job, one, Outcome::Unanswered, at(0));
    attempt(&mut job, one, NAK, at(120));
    assert_eq!(
        job.state.as_str(),
        "unanswered",
        "stale again, not in a row"
    );
    attempt(&mut job, one, NAK, at(120));
    let why = RefusedBy::NakAgain;
    assert_eq!(job.state, State::Refused { at: at(120), why });
    assert!(job.in_trouble());
}

#[test]
fn a_lapsed_lease_is_unanswered_and_a_late_reply_still_counts() {
    let mut job = job();
    job.apply(
        &job.step(&claim(Targets::PrimaryOnly, at(0)), at(0))
            .unwrap(),
    );
    assert_eq!(job.late(at(9)), None);
    job.apply(&job.late(at(10)).unwrap());
    assert_eq!(job.due_at(), Some(at(10)));
    assert!(job.reached, "a repeat must be marked");
    let stale = ended(
        1,
        Outcome::Refused {
            why: RefusedBy::Duh,
        },
    );
    assert_eq!(
        job.step(&stale, at(11)),
        None,
        "nobody waits for that any more"
    );
    let reply = vec![6];
    let late = job.step(&ended(1, Outcome::Received { reply }), at(11));
    job.apply(&late.unwrap());
    assert_eq!(job.state.as_str(), "received");
}

#[test]
fn what_is_never_received_is_exhausted_and_still_tried_each_minute() {
    let mut job = job();
    let one = Targets::PrimaryOnly;
    attempt(&mut job, one, Outcome::Unanswered, at(0));
    assert_eq!(job.late(at(599)), None);
    job.apply(&job.late(at(600)).unwrap());
    assert!(job.in_trouble());
    assert_eq!(job.late(at(9_000)), None, "told once");
    attempt(&mut job, one, Outcome::Unanswered, at(700));
    assert_eq!(job.due_at(), Some(at(760)));
    assert_eq!(job.state.as_str(), "exhausted");
    let reply = vec![6];
    attempt(&mut job, one, Outcome::Received { reply }, at(760));
    assert!(!job.in_trouble());
}

#[derive(Clone, Debug)]
enum Move {
    Claim(bool),
    End(u32, Outcome),
    Wait(u64),
    Accept,
    Stop,
}

fn any_move() -> impl Strategy<Value = Move> {
    let outcome = prop_oneof![
        1 => Just(Outcome::Received { reply: vec![1] }),
        4 => Just(Outcome::Unanswered),
        4 => Just(NO_LINE),
        2 => Just(NAK),
        1 => Just(Outcome::Refused { why: RefusedBy::Duh }),
    ];
    prop_oneof![
        8 => any::<bool>().prop_map(Move::Claim),
        8 => (0u32..2, outcome).prop_map(|(back, outcome)| Move::End(back, outcome)),
        6 => (0u64..200).prop_map(Move::Wait),
        1 => Just(Move::Accept),
        1 => Just(Move::Stop),
    ]
}

proptest! {
    #[test]
    fn a_job_is_settled_in_trouble_or_has_a_next_moment(
        moves in prop::collection::vec(any_move(), 1..80)
    ) {
        let mut job = job();
        let mut now = at(0);
        let mut may_have_arrived = false;
        for made in moves {
            let before = job.clone();
            let step = match made {
                Move::Claim(two) => {
                    let targets = if two { Targets::WithBackup } else { Targets::PrimaryOnly };
                    job.step(&claim(targets, now), now)
                }
                Move::End(back, outcome) => {
                    let step = job.step(&ended(job.attempts.saturating_sub(back), outcome), now);
                    may_have_arrived |= matches!(
                        step,
                        Some(Step::Received { .. } | Step::Failed { how: Failure::Unanswered, .. })
                    );
                    step
                }
                Move::Wait(seconds) => {
                    now = now.after(Duration::from_secs(seconds));
                    let step = job.late(now);
                    may_have_arrived |= matches!(step, Some(Step::Failed { .. }));
                    step
                }
                Move::Accept => job.step(
                    &Input::Accept {
                        by: PersonId(uuid::Uuid::from_u128(9)),
                        reference: "r".into(),
                        spoke_to: "s".into(),
                    },
                    now,
                ),
                Move::Stop => job.stop(now),
            };
            if let Some(step) = &step {
                job.apply(step);
            }
            prop_assert_eq!(job.reached, may_have_arrived);
            prop_assert!(before.number.is_none() || before.number == job.number);
            prop_assert!(job.attempts >= before.attempts);
            match job.state {
                State::Queued { .. } | State::Unanswered { .. } => {
                    prop_assert!(job.due_at().is_some() && job.deadline().is_some());
                }
                State::Sending { lease_until, .. } => {
                    prop_assert_eq!(job.deadline(), Some(lease_until));
                }
                State::Exhausted { not_before, .. } => {
                    prop_assert!(job.in_trouble());
                    prop_assert!(not_before <= now.after(SLOW_RETRY));
                }
                State::Refused { .. } => prop_assert!(job.in_trouble()),
                State::Received { .. } => {
                    let stays = matches!(before.state, State::Cancelled { .. } | State::Accepted { .. });
                    prop_assert!(!stays);
                }
                State::Accepted { .. } | State::Cancelled { .. } => {}
            }
        }
    }
}
