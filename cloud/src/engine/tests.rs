#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use domain::id::IncidentId;
use domain::kind::Kind;

use super::stage::{CENTRE, FIRE, MONITORING, POLICE, Stage, centre, id, person, start};
use super::*;
use crate::access::Scope;
use crate::dispatch::{Purpose, RefusedBy};
use crate::incident::journal::{self, Said};
use crate::incident::{Entry, Handling, Priority};
use crate::sql;
use crate::wake::Changed;

const SECOND: Duration = Duration::from_secs(1);

fn received() -> Outcome {
    Outcome::Received {
        reply: b"ack".to_vec(),
    }
}

async fn pressed() -> (Stage, IncidentId) {
    let stage = Stage::new().await;
    stage.alarm(1, stage.press(1)).await;
    let board = stage.board().await;
    let incident = board[0].case.id;
    (stage, incident)
}

#[tokio::test]
async fn a_press_is_a_case_with_an_order_and_a_chain_that_holds() {
    let stage = Stage::new().await;
    let mut wakes = stage.wakes.subscribe();
    stage.alarm(1, stage.press(1)).await;
    let board = stage.board().await;
    assert_eq!(board.len(), 1);
    let case = &board[0].case;
    assert_eq!((case.priority, case.lines[0].number), (Priority::P1, 7));
    let mut woken = Vec::new();
    while let Ok(wake) = wakes.try_recv() {
        woken.push(wake.what);
    }
    assert_eq!(woken, [Changed::Incident(case.id), Changed::Dispatch]);
    let keys: Vec<_> = board[0].timeline.iter().map(|line| line.text_key).collect();
    assert_eq!(keys, ["case.opened", "alarm.raised", "dispatch.queued"]);
    let names: Vec<_> = board[0].receiver_names.values().collect();
    assert_eq!(names, ["police"]);
    let verdict = stage.verdict().await;
    assert_eq!(
        (verdict.entries, verdict.records, verdict.broken),
        (3, 1, None)
    );
}

#[tokio::test]
async fn bytes_and_number_are_kept_before_they_leave_and_stay_through_retries() {
    let (stage, incident) = pressed().await;
    let first = stage.claim(POLICE).await.unwrap();
    assert_eq!(
        (first.attempt, first.number, first.order.purpose),
        (1, 1, Purpose::Order)
    );
    assert_eq!(first.order.point_number, 7);
    assert!(!first.order.possible_repeat);
    assert_eq!(stage.claim(POLICE).await, None, "in hand");
    assert_eq!(stage.claim(FIRE).await, None);
    stage.ended(&first, Outcome::Unanswered).await;
    assert_eq!(stage.claim(POLICE).await, None, "not yet");
    stage.clock.advance(SECOND * 2);
    let second = stage.claim(POLICE).await.unwrap();
    assert_eq!((second.attempt, second.number), (2, 1));
    assert_eq!(second.frame, first.frame);
    assert!(second.order.possible_repeat);
    let clock_offset_micros = 5_000_000;
    stage
        .ended(
            &second,
            Outcome::Nak {
                clock_offset_micros,
            },
        )
        .await;
    let third = stage.claim(POLICE).await.unwrap();
    assert_eq!(third.number, 1);
    let ahead = stage.clock.now().after(SECOND * 5);
    assert_eq!(
        third.frame,
        format!("1234 1 {}", ahead.micros()).into_bytes()
    );
    stage.ended(&third, received()).await;
    let case = stage.case(incident).await.case;
    assert_eq!(case.jobs[0].state.as_str(), "received");
    assert_eq!(
        case.handling.as_str(),
        "open",
        "a machine's reply ends nothing"
    );
    let mut tx = stage.read().await;
    let rows = sql!(
        &mut tx,
        fetch_all as (i64, Option<String>, Option<Vec<u8>>),
        "select n, outcome, reply from attempt order by n"
    );
    let outcomes: Vec<_> = rows
        .unwrap()
        .into_iter()
        .map(|(_, o, r)| (o.unwrap(), r))
        .collect();
    let none = |word: &str| (word.to_owned(), None);
    let ack = ("received".to_owned(), Some(b"ack".to_vec()));
    assert_eq!(outcomes, [none("unanswered"), none("nak"), ack]);
    assert_eq!(stage.verdict().await.broken, None);
}

#[tokio::test]
async fn numbers_of_a_receiver_run_from_1_to_9999_and_begin_again() {
    let (stage, _) = pressed().await;
    stage.change("update receiver set next_number = 9999").await;
    assert_eq!(stage.claim(POLICE).await.unwrap().number, 9_999);
    stage
        .alarm(2, stage.event(2, "smoke", Kind::FireSmokeAlarm))
        .await;
    let centre = stage.claim(MONITORING).await.unwrap();
    assert_eq!(centre.number, 9_999);
    let mut tx = stage.read().await;
    let next = sql!(
        &mut tx,
        fetch_one as (i64,),
        "select next_number from receiver where id = $1",
        id(POLICE)
    );
    assert_eq!(next.unwrap(), (1,));
}

#[tokio::test]
async fn a_job_is_claimed_by_one_of_many() {
    let (stage, _) = pressed().await;
    let claims = (0..8).map(|_| stage.claim(POLICE));
    let claimed = futures_util::future::join_all(claims).await;
    assert_eq!(claimed.into_iter().flatten().count(), 1);
}

#[tokio::test]
async fn a_lapsed_lease_is_found_by_the_ticker_and_a_late_reply_counts() {
    let (stage, incident) = pressed().await;
    let lost = stage.claim(POLICE).await.unwrap();
    stage.clock.advance(SECOND * 11);
    stage.engine.tick(centre(), incident).await.unwrap();
    assert_eq!(
        stage.case(incident).await.case.jobs[0].state.as_str(),
        "unanswered"
    );
    stage.ended(&lost, received()).await;
    assert_eq!(
        stage.case(incident).await.case.jobs[0].state.as_str(),
        "received"
    );
}

#[tokio::test]
async fn people_act_only_on_what_they_watch() {
    let (stage, incident) = pressed().await;
    let elsewhere = stage.operator(3).await;
    let acted = stage
        .engine
        .act(&elsewhere, incident, Act::Acknowledge)
        .await;
    assert!(matches!(acted, Err(ActError::NotFound)));
    let now = stage.clock.now();
    let seen = shown::cases(&mut stage.read().await, &elsewhere, shown::Which::All, now).await;
    assert!(seen.unwrap().is_empty());
    let dispatch = stage.case(incident).await.case.jobs[0].id;
    let confirm = stage
        .engine
        .confirm_dispatch(&elsewhere, dispatch, "r".into(), "x".into());
    assert!(matches!(confirm.await, Err(ActError::NotFound)));
    let worker = Scope::worker(centre());
    let acted = stage.engine.act(&worker, incident, Act::Acknowledge).await;
    assert!(
        matches!(acted, Err(ActError::NotFound)),
        "no person, no act"
    );
    let here = stage.operator(1).await;
    stage
        .engine
        .act(&here, incident, Act::Acknowledge)
        .await
        .unwrap();
    let case = stage.case(incident).await.case;
    assert!(matches!(case.handling, Handling::Acknowledged { by, .. } if by == person(1)));
    stage.change("update role_grant set until_at = 1").await;
    let acted = stage
        .engine
        .act(&here, incident, Act::Note("n".into()))
        .await;
    assert!(
        matches!(acted, Err(ActError::NotFound)),
        "a right withdrawn"
    );
    let mut tx = stage.read().await;
    let list = shown::cases(&mut tx, &here, shown::Which::All, now).await;
    let one = shown::case(&mut tx, &here, incident, now).await.unwrap();
    let events = shown::events(&mut tx, &here, incident, 0, 9, now).await;
    assert!(list.unwrap().is_empty() && one.is_none() && events.unwrap().is_empty());
}

#[tokio::test]
async fn a_false_panic_takes_two_people_and_calls_the_police_off() {
    let (stage, incident) = pressed().await;
    let order = stage.claim(POLICE).await.unwrap();
    stage.ended(&order, received()).await;
    let close = || Act::Close {
        cause: Cause::FalseAlarm,
        note: "child played".into(),
    };
    let (one, two) = (stage.operator(1).await, stage.operator(2).await);
    let acted = stage.engine.act(&one, incident, close()).await.unwrap();
    assert_eq!(acted, Acted::NeedsSecondPerson);
    let acted = stage.engine.act(&two, incident, close()).await.unwrap();
    assert_eq!(acted, Acted::Done);
    assert!(stage.board().await.is_empty());
    let closed = stage.case(incident).await;
    assert_eq!(closed.closing_note.as_deref(), Some("child played"));
    let again = stage.engine.act(&one, incident, Act::Confirm).await;
    assert!(matches!(again, Err(ActError::Refused(Refusal::Closed))));
    let cancel = stage.claim(POLICE).await.unwrap();
    assert_eq!((cancel.order.purpose, cancel.number), (Purpose::Cancel, 2));
    stage
        .ended(
            &cancel,
            Outcome::Refused {
                why: RefusedBy::Duh,
            },
        )
        .await;
    assert_eq!(
        stage.board().await.len(),
        1,
        "a cancel that failed stays in sight"
    );
    let dispatch = cancel.order.dispatch;
    let confirm = stage
        .engine
        .confirm_dispatch(&one, dispatch, "77".into(), "desk".into());
    assert_eq!(confirm.await.unwrap(), Acted::Done);
    assert!(stage.board().await.is_empty());
    let mut tx = stage.read().await;
    let named = sql!(
        &mut tx,
        fetch_all as (i64,),
        "select seq from journal_person where person = $1 order by seq",
        id(1)
    );
    assert_eq!(named.unwrap().len(), 3, "proposed, closed, confirmed");
    assert_eq!(stage.verdict().await.broken, None);
}

#[tokio::test]
async fn an_alarm_after_the_close_is_a_new_case_linked_to_the_old_one() {
    let (stage, first) = pressed().await;
    let one = stage.operator(1).await;
    let note = String::new();
    let cause = Cause::Real;
    stage
        .engine
        .act(&one, first, Act::Close { cause, note })
        .await
        .unwrap();
    stage.clock.advance(SECOND * 60);
    stage.alarm(2, stage.press(2)).await;
    let board = stage.board().await;
    assert_eq!(board[0].case.linked_to, Some(first));
    assert_ne!(board[0].case.id, first);
}

#[tokio::test]
async fn rows_rebuilt_from_the_journal_are_the_rows() {
    let (stage, _) = pressed().await;
    let one = stage.operator(1).await;
    stage
        .alarm(2, stage.event(2, "smoke-1", Kind::FireSmokeAlarm))
        .await;
    stage
        .alarm(3, stage.event(3, "smoke-2", Kind::FireSmokeAlarm))
        .await;
    stage.alarm(4, stage.press(4)).await;
    for receiver in [POLICE, FIRE, MONITORING] {
        let claimed = stage.claim(receiver).await.unwrap();
        stage.ended(&claimed, Outcome::Unanswered).await;
        stage.clock.advance(SECOND * 3);
        let claimed = stage.claim(receiver).await.unwrap();
        stage.ended(&claimed, received()).await;
    }
    for record in stage.board().await {
        stage.clock.advance(SECOND * 61);
        stage.engine.tick(centre(), record.case.id).await.unwrap();
        stage
            .engine
            .act(&one, record.case.id, Act::Acknowledge)
            .await
            .unwrap();
        stage
            .engine
            .act(&one, record.case.id, Act::Confirm)
            .await
            .unwrap();
    }
    let scope = Scope::worker(centre());
    let cases = stage.board().await;
    assert_eq!(cases.len(), 2);
    for CaseRow {
        case,
        body,
        state,
        priority,
        deadline,
    } in case_rows(&stage).await
    {
        let mut tx = stage.read().await;
        let kept = journal::of_case(&mut tx, centre(), case, 0, 10_000)
            .await
            .unwrap();
        let entries: Vec<Entry> = kept
            .into_iter()
            .map(|kept| match kept.said {
                Some(Said::Case(_, entry)) => *entry,
                other => panic!("{other:?}"),
            })
            .collect();
        let rebuilt = Case::rebuild(&entries).unwrap();
        assert_eq!(serde_json::to_string(&rebuilt).unwrap(), body);
        assert_eq!(rebuilt.handling.as_str(), state);
        assert_eq!(i64::from(rebuilt.priority.0), priority);
        let next = crate::incident::decide::next_deadline(&rebuilt);
        assert_eq!(next.map(|at| at.micros()), deadline);
        let jobs = sql!(
            &mut tx,
            fetch_all as (uuid::Uuid, String, i64, Option<i64>),
            "select id, state, urgency, due_at from dispatch where incident = $1",
            case.0
        );
        let mut rows = jobs.unwrap();
        rows.sort();
        let mut expected: Vec<_> = (rebuilt.jobs.iter())
            .map(|job| {
                let due = job.due_at().map(|at| at.micros());
                (job.id.0, job.state.as_str().to_owned(), job.urgency(), due)
            })
            .collect();
        expected.sort();
        assert_eq!(rows, expected);
        let events = shown::events(&mut tx, &scope, case, 0, 500, start())
            .await
            .unwrap();
        let facts = entries
            .iter()
            .filter_map(Entry::fact)
            .map(|fact| fact.event);
        assert_eq!(
            events.iter().map(|e| e.event).collect::<Vec<_>>(),
            facts.collect::<Vec<_>>()
        );
    }
    assert_eq!(stage.verdict().await.broken, None);
}

struct CaseRow {
    case: IncidentId,
    body: String,
    state: String,
    priority: i64,
    deadline: Option<i64>,
}

async fn case_rows(stage: &Stage) -> Vec<CaseRow> {
    let mut tx = stage.read().await;
    let rows = sql!(
        &mut tx,
        fetch_all as (uuid::Uuid, String, String, i64, Option<i64>),
        "select id, body, state, priority, deadline_at from incident where centre = $1",
        id(CENTRE)
    );
    let rows = rows.unwrap().into_iter();
    rows.map(|(case, body, state, priority, deadline)| CaseRow {
        case: IncidentId(case),
        body,
        state,
        priority,
        deadline,
    })
    .collect()
}

/// What a person of this centre's watch room sees.
async fn seen(stage: &Stage, which: shown::Which) -> Vec<shown::Shown> {
    let scope = stage.operator(1).await;
    let mut tx = stage.read().await;
    let seen = shown::cases(&mut tx, &scope, which, stage.clock.now()).await;
    seen.unwrap()
}

#[tokio::test]
async fn a_case_whose_row_is_damaged_goes_on_from_its_journal() {
    let (stage, incident) = pressed().await;
    let before = stage.case(incident).await;
    stage.change("update incident set body = '{'").await;
    assert_eq!(stage.case(incident).await, before);
    stage.alarm(2, stage.press(2)).await;
    let order = stage.claim(POLICE).await.unwrap();
    assert_eq!(order.order.incident, incident);
    let board = stage.board().await;
    assert_eq!((board.len(), board[0].case.id), (1, incident));
    assert_eq!(board[0].case.lines[0].activations, 2);
    stage.change("update incident set body = '{'").await;
    stage.ended(&order, received()).await;
    let mut tx = stage.read().await;
    let (body,) = sql!(&mut tx, fetch_one as (String,), "select body from incident").unwrap();
    assert!(
        serde_json::from_str::<Case>(&body).is_ok(),
        "the row is whole again"
    );
    assert_eq!(stage.verdict().await.broken, None);
}

/// Damages every case's row and its journal beyond repair.
async fn damage(stage: &Stage) {
    stage.change("update incident set body = '{'").await;
    let text = "update journal set body = null where kind = 'alarm.raised'";
    stage.change(text).await;
}

#[tokio::test]
async fn a_case_that_is_lost_stays_in_sight_and_in_nobodys_way() {
    let (stage, lost) = pressed().await;
    damage(&stage).await;
    assert!(stage.claim(POLICE).await.is_none());
    stage.alarm(2, stage.press(2)).await;
    let board = seen(&stage, shown::Which::Open).await;
    let [shown::Shown::Unreadable(first), shown::Shown::Case(second)] = &board[..] else {
        panic!("{board:?}")
    };
    assert_eq!((first.id, first.hazard.as_str()), (lost, "panic"));
    assert_eq!(second.case.linked_to, Some(lost));
    let order = stage.claim(POLICE).await.unwrap();
    assert_eq!(order.order.incident, second.case.id);
    stage.ended(&order, received()).await;
    assert_eq!(stage.claim(POLICE).await, None, "what is lost is put off");
    let one = stage.operator(1).await;
    let acted = stage.engine.act(&one, lost, Act::Acknowledge).await;
    let damaged = matches!(acted, Err(ActError::Engine(error)) if error.is_corrupt());
    assert!(damaged);
    stage.clock.advance(SECOND * 61);
    stage.alarm(3, stage.press(3)).await;
    assert_eq!(seen(&stage, shown::Which::Open).await.len(), 2);
    assert!(
        stage.claim(POLICE).await.is_some(),
        "an update of the second"
    );
}

#[tokio::test]
async fn the_deadline_of_a_case_that_is_lost_sets_it_aside() {
    let (stage, lost) = pressed().await;
    damage(&stage).await;
    stage.engine.tick(centre(), lost).await.unwrap();
    let mut tx = stage.read().await;
    let due = store::due(&mut tx, stage.clock.now().after(SECOND * 999), 9).await;
    assert_eq!(due.unwrap(), []);
    assert_eq!(store::unreadable(&mut tx).await.unwrap(), 1);
}

#[tokio::test]
async fn a_damaged_closed_case_keeps_no_alarm_waiting() {
    let (stage, first) = pressed().await;
    let close = Act::Close {
        cause: Cause::Real,
        note: "n".into(),
    };
    let one = stage.operator(1).await;
    stage.engine.act(&one, first, close).await.unwrap();
    damage(&stage).await;
    stage.alarm(2, stage.press(2)).await;
    let board = stage.board().await;
    assert_eq!(board.len(), 1);
    assert_eq!(board[0].case.linked_to, Some(first));
    let closed = seen(&stage, shown::Which::Closed).await;
    assert!(matches!(&closed[..], [shown::Shown::Unreadable(case)] if case.id == first));
}

#[tokio::test]
async fn a_request_its_case_does_not_know_is_put_off() {
    let (stage, _) = pressed().await;
    stage
        .change(
            "insert into dispatch (centre, id, incident, receiver, step, purpose, state, urgency,
               queued_at, due_at)
             select centre, centre, incident, receiver, 'x', purpose, state, -1, queued_at, due_at
             from dispatch",
        )
        .await;
    assert!(stage.claim(POLICE).await.is_some());
}
