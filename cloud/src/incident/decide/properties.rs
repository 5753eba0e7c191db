//! Properties of a case over random histories.

#![allow(clippy::unwrap_used)]

use domain::id::{CentreId, IncidentId};
use domain::kind::Severity;
use proptest::prelude::*;
use uuid::Uuid;

use super::tests::{at, person, plan, received, report};
use super::*;
use crate::dispatch::job::Input;
use crate::dispatch::{Agency, Outcome, Purpose, RefusedBy, Targets};
use crate::incident::Withheld;

/// `withheld`: how likely a report may not call an agency by itself.
fn any_report(withheld: f64) -> impl Strategy<Value = Report> {
    let kinds = prop::sample::select(vec![
        Kind::FireSmokeAlarm,
        Kind::FireSmokePrealarm,
        Kind::FireManualCallPointAlarm,
    ]);
    let why = prop::option::weighted(
        withheld,
        prop::sample::select(vec![
            Withheld::Old,
            Withheld::Test,
            Withheld::Unverified,
            Withheld::NotCritical,
        ]),
    );
    (0u8..3, kinds, why, any::<[bool; 2]>(), 0u8..6).prop_map(
        |(point, kind, why, [clear, momentary], odd)| {
            let mut report = report(&format!("p{point}"), kind, at(0));
            report.fact.withheld = why;
            report.fact.momentary = momentary;
            if why.is_some() {
                report.fact.severity = Severity::High;
            }
            if clear {
                report.fact.state = EventState::Cleared;
            }
            report.same_activation = odd == 0;
            report.overtaken = odd == 1;
            report
        },
    )
}

#[derive(Clone, Debug)]
enum Move {
    Report(Box<Report>),
    Person(u128, u8),
    Send(usize, Outcome),
    Wait(u64),
}

fn any_move(withheld: f64) -> impl Strategy<Value = Move> {
    let outcome = prop_oneof![
        Just(received()),
        Just(Outcome::Unanswered),
        Just(Outcome::Refused {
            why: RefusedBy::Duh
        }),
    ];
    // Seldom a confirmation or an end, or most histories would be over before they are interesting.
    let acts = prop::sample::select(vec![0_u8, 0, 0, 0, 0, 0, 1, 2, 2, 3, 4]);
    prop_oneof![
        6 => any_report(withheld).prop_map(|report| Move::Report(Box::new(report))),
        3 => (1u128..3, acts).prop_map(|(who, what)| Move::Person(who, what)),
        4 => (0usize..6, outcome).prop_map(|(nth, outcome)| Move::Send(nth, outcome)),
        3 => (0u64..400).prop_map(Move::Wait),
    ]
}

fn command(case: &Case, made: &Move, now: Timestamp) -> Command {
    match made {
        Move::Report(report) => Command::Report(*report.clone()),
        Move::Person(n, 0) => Command::Acknowledge { by: person(*n) },
        Move::Person(n, 1) => Command::Confirm { by: person(*n) },
        Move::Person(n, 2) => Command::Note {
            by: person(*n),
            text: "t".into(),
        },
        Move::Person(n, what) => Command::Close {
            by: person(*n),
            cause: if *what == 3 {
                Cause::FalseAlarm
            } else {
                Cause::Real
            },
            note: "n".into(),
        },
        Move::Send(nth, outcome) => match case.jobs.get(*nth) {
            Some(job) => Command::Progress {
                dispatch: job.id,
                input: if job.due_at().is_some() {
                    Input::Claim {
                        number: 3,
                        targets: Targets::WithBackup,
                        lease_until: now.after(Duration::from_secs(5)),
                    }
                } else {
                    Input::Ended {
                        attempt: job.attempts,
                        outcome: outcome.clone(),
                        chance: 1,
                    }
                },
            },
            None => Command::Tick,
        },
        Move::Wait(_) => Command::Tick,
    }
}

/// A first report and what follows; in half of all histories hardly anything may call an agency by itself.
fn any_history() -> impl Strategy<Value = (Report, Vec<Move>)> {
    prop::sample::select(vec![0.4, 0.99]).prop_flat_map(|withheld| {
        let moves = prop::collection::vec(any_move(withheld), 0..60);
        (any_report(withheld), moves)
    })
}

proptest! {
    #[test]
    fn a_case_is_its_entries_and_keeps_its_promises(
        hazard in prop::sample::select(vec![Hazard::Panic, Hazard::Fire]),
        verify in any::<bool>(),
        (first, moves) in any_history(),
    ) {
        let agencies = [Agency::Police, Agency::Monitoring, Agency::Fire];
        let opening = Opening {
            incident: IncidentId(Uuid::from_u128(1)),
            centre: CentreId(Uuid::from_u128(2)),
            hazard,
            linked_to: None,
            plan: plan(&agencies, verify),
        };
        let (mut case, mut entries) = open(opening, &first, at(0)).unwrap();
        let mut now = at(0);
        for made in moves {
            if let Move::Wait(seconds) = made {
                now = now.after(Duration::from_secs(seconds));
            }
            let before = case.clone();
            let command = command(&case, &made, now);
            let Ok(new) = decide(&case, &command, now) else {
                prop_assert!(before.is_closed());
                continue;
            };
            new.iter().for_each(|entry| case.apply(entry));
            entries.extend(new);
            prop_assert!(case.priority <= before.priority);
            let by_person = matches!(command, Command::Close { .. });
            prop_assert!(before.is_closed() == case.is_closed() || by_person);
            prop_assert!(case.is_closed() || next_deadline(&case).is_some(), "it can fall silent");
            if command == Command::Tick {
                let next = next_deadline(&case);
                prop_assert!(next.is_none_or(|next| next > now), "a tick leaves work undone");
            }
            for job in &case.jobs {
                let dispatchable = case.confirmation == Some(Confirmation::Person)
                    || case.lines[job.line].live_since.is_some();
                prop_assert!(dispatchable, "told of a withheld alarm");
                let stopped = job.due_at().is_none() || job.purpose == Purpose::Cancel;
                prop_assert!(stopped || !case.is_over());
            }
        }
        let mut ids: Vec<_> = case.jobs.iter().map(|job| job.id).collect();
        ids.sort();
        ids.dedup();
        prop_assert_eq!(ids.len(), case.jobs.len());
        prop_assert_eq!(Case::rebuild(&entries), Some(case.clone()));
        let written = serde_json::to_string(&entries).unwrap();
        let read: Vec<Entry> = serde_json::from_str(&written).unwrap();
        prop_assert_eq!(Case::rebuild(&read), Some(case));
    }
}
