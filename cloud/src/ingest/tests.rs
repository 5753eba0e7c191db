#![allow(clippy::unwrap_used, clippy::panic)]

use domain::event::{Detail, HandedBy, How, PreviousEpoch, State};
use domain::id::{ChildId, EventId};
use domain::kind::{Hazard, Kind};
use domain::presence::Presence;
use domain::time::{Age, Order};
use domain::wire::{Cause, Tombstone, WIRE_READS, write_tombstone};
use serde_json::value::RawValue;

use super::*;
use crate::engine::stage::{CHILD, ELSEWHERE, Stage, centre, id, person, record};
use crate::incident::{Case, Priority, Withheld};

fn raw(seq: u64, text: &str) -> Record {
    Record {
        seq,
        to_seq: None,
        age: Age::Known(0),
        body: RawValue::from_string(text.to_owned()).unwrap(),
    }
}

fn tombstone(from: u64, to: u64, cause: Cause) -> Record {
    let body = write_tombstone(Tombstone {
        seq_from: from,
        seq_to: to,
        cause,
        count: to - from + 1,
        first_at: None,
        last_at: None,
    });
    Record {
        seq: from,
        to_seq: Some(to),
        age: Age::Known(0),
        body: body.unwrap(),
    }
}

async fn only_case(stage: &Stage, hazard: Hazard) -> Case {
    let found = stage.board().await.into_iter().map(|record| record.case);
    let mut found: Vec<_> = found.filter(|case| case.hazard == hazard).collect();
    assert_eq!(found.len(), 1, "cases of {hazard}");
    found.remove(0)
}

fn held(receipt: &Receipt) -> (u64, Vec<(u64, u64)>) {
    (receipt.through_seq, receipt.ranges.clone())
}

#[tokio::test]
async fn a_batch_sent_again_changes_nothing() {
    let stage = Stage::new().await;
    let life = |stage: &Stage| {
        let mut again = stage.press(2);
        again.received_at = stage.clock.now();
        vec![
            record(1, stage.press(1)),
            record(2, again),
            record(3, stage.event(3, "smoke", Kind::FireSmokeAlarm)),
            raw(4, "[1]"),
            record(9, stage.press(9)),
        ]
    };
    let doors = |stage: &Stage| -> Vec<Record> {
        let opened = |n: u64| {
            record(
                n,
                stage.event(100 + u128::from(n), "door", Kind::DoorOpened),
            )
        };
        (1..=450).map(opened).collect()
    };
    let first = stage.send(Lane::LifeSafety, life(&stage)).await;
    assert_eq!(held(&first), (4, vec![(9, 9)]));
    let bulk = stage.send(Lane::Telemetry, doors(&stage)).await;
    assert_eq!(held(&bulk), (450, vec![]));
    let before = stage.everything().await;
    assert_eq!(stage.send(Lane::LifeSafety, life(&stage)).await, first);
    assert_eq!(stage.send(Lane::Telemetry, doors(&stage)).await, bulk);
    assert_eq!(stage.everything().await, before);
    assert_eq!(stage.verdict().await.broken, None);
}

#[tokio::test]
async fn each_press_is_kept_with_its_own_number() {
    let stage = Stage::new().await;
    for n in 1..=3 {
        stage.alarm(n, stage.press(u128::from(n))).await;
    }
    let case = only_case(&stage, Hazard::Panic).await;
    assert_eq!(case.lines[0].activations, 3);
    let scope = Scope::worker(centre());
    let now = stage.clock.now();
    let mut tx = stage.read().await;
    let events = crate::incident::shown::events(&mut tx, &scope, case.id, 0, 2, now).await;
    let events = events.unwrap();
    let ids: Vec<_> = events
        .iter()
        .map(|event| event.vendor_id.as_deref())
        .collect();
    assert_eq!(ids, [Some("b-1"), Some("b-2")]);
    let rest =
        crate::incident::shown::events(&mut tx, &scope, case.id, events[1].seq, 9, now).await;
    assert_eq!(rest.unwrap()[0].vendor_id.as_deref(), Some("b-3"));
    let line = stage.case(case.id).await.timeline;
    let presses: Vec<_> = line
        .iter()
        .filter(|line| line.text_key == "alarm.raised")
        .collect();
    assert_eq!(presses.len(), 1, "one line for ten seconds");
    assert_eq!(presses[0].refs.count, Some(3));
}

#[tokio::test]
async fn an_old_press_rings_and_asks() {
    let stage = Stage::new().await;
    let mut old = record(1, stage.press(1));
    old.age = Age::Known(601_000);
    stage.send(Lane::LifeSafety, vec![old]).await;
    let case = only_case(&stage, Hazard::Panic).await;
    assert_eq!((case.priority, case.jobs.len()), (Priority::P1, 0));
    assert_eq!(case.lines[0].withheld, Some(Withheld::Old));
    let mut unknown = record(2, stage.press(2));
    unknown.age = Age::AtLeast(1);
    stage.send(Lane::LifeSafety, vec![unknown]).await;
    assert!(only_case(&stage, Hazard::Panic).await.jobs.is_empty());
}

#[tokio::test]
async fn life_safety_behind_a_hole_is_judged_at_once_and_the_hole_is_told_once() {
    let stage = Stage::new().await;
    stage.alarm(1, stage.press(1)).await;
    let receipt = stage.alarm(4, stage.press(4)).await;
    assert_eq!(held(&receipt), (1, vec![(4, 4)]));
    let gap = only_case(&stage, Hazard::Technical).await;
    assert_eq!(
        (gap.lines[0].kind, gap.priority),
        (Kind::GatewayGap, Priority::P2)
    );
    assert_eq!(
        only_case(&stage, Hazard::Panic).await.lines[0].activations,
        2
    );
    stage.alarm(5, stage.press(5)).await;
    let late = stage.alarm(2, stage.press(2)).await;
    assert_eq!(held(&late), (2, vec![(4, 5)]));
    let case = only_case(&stage, Hazard::Panic).await;
    assert_eq!(
        case.lines[0].activations, 3,
        "an overtaken one is a note only"
    );
    let closed = stage
        .send(Lane::LifeSafety, vec![tombstone(3, 3, Cause::Shed)])
        .await;
    assert_eq!(held(&closed), (5, vec![]));
    assert_eq!(
        only_case(&stage, Hazard::Technical).await.version,
        gap.version
    );
}

#[tokio::test]
async fn a_hole_in_telemetry_is_a_fault_and_damage_is_worse() {
    let stage = Stage::new().await;
    let door = |n: u64| record(n, stage.event(u128::from(n), "door", Kind::DoorOpened));
    stage.send(Lane::Telemetry, vec![door(1), door(5)]).await;
    let gap = only_case(&stage, Hazard::Technical).await;
    assert_eq!(gap.priority, Priority::P3);
    stage
        .send(Lane::Telemetry, vec![tombstone(2, 4, Cause::Damaged)])
        .await;
    let gap = only_case(&stage, Hazard::Technical).await;
    assert_eq!((gap.priority, gap.lines[0].activations), (Priority::P2, 2));
    assert_eq!(stage.verdict().await.broken, None);
}

#[tokio::test]
async fn two_records_of_one_number_are_both_kept_and_told() {
    let stage = Stage::new().await;
    stage
        .alarm(1, stage.event(1, "smoke", Kind::FireSmokeAlarm))
        .await;
    let forked = || vec![record(1, stage.press(2))];
    stage.send(Lane::LifeSafety, forked()).await;
    let fork = only_case(&stage, Hazard::Technical).await;
    assert_eq!(fork.lines[0].kind, Kind::GatewayFork);
    let press = only_case(&stage, Hazard::Panic).await;
    assert_eq!(press.jobs.len(), 1, "it is an alarm all the same");
    let before = stage.everything().await;
    stage.send(Lane::LifeSafety, forked()).await;
    assert_eq!(stage.everything().await, before);
    let door = |n: u128| vec![record(1, stage.event(n, "door", Kind::DoorOpened))];
    stage.send(Lane::Telemetry, door(7)).await;
    stage.send(Lane::Telemetry, door(8)).await;
    assert_eq!(
        only_case(&stage, Hazard::Technical).await.lines[0].activations,
        2
    );
    assert_eq!(stage.verdict().await.broken, None);
}

#[tokio::test]
async fn an_event_in_the_place_of_a_tombstone_is_taken_and_no_fork() {
    let stage = Stage::new().await;
    stage
        .send(Lane::LifeSafety, vec![tombstone(1, 3, Cause::Shed)])
        .await;
    stage.alarm(1, stage.press(1)).await;
    stage.alarm(2, stage.press(2)).await;
    let case = only_case(&stage, Hazard::Panic).await;
    assert_eq!(case.lines[0].activations, 2);
    assert_eq!(stage.board().await.len(), 1, "nothing is wrong");
    stage
        .send(Lane::LifeSafety, vec![tombstone(2, 2, Cause::Damaged)])
        .await;
    assert_eq!(stage.board().await.len(), 1, "what arrived is not lost");
}

#[tokio::test]
async fn what_cannot_be_read_is_kept_whole_receipted_and_in_life_safety_told() {
    let stage = Stage::new().await;
    let press = stage.press(1);
    let odd = record(3, press.clone());
    let odd = odd.body.get().replace("alarm.pressed", "alarm.telepathy");
    let records = vec![
        raw(1, r#"{"v":9,"x":[1, 2]}"#),
        raw(2, "null"),
        raw(3, &odd),
    ];
    let receipt = stage.send(Lane::LifeSafety, records).await;
    assert_eq!(held(&receipt), (3, vec![]));
    let case = only_case(&stage, Hazard::Technical).await;
    assert_eq!(
        (case.lines[0].kind, case.lines[0].activations),
        (Kind::AlarmUnreadable, 3)
    );
    assert_eq!(case.priority, Priority::P2);
    let mut tx = stage.read().await;
    let rows = sql!(
        &mut tx,
        fetch_all as (Vec<u8>, Option<uuid::Uuid>, Option<i64>),
        "select body, event, chained from record order by seq"
    );
    let rows = rows.unwrap();
    assert_eq!(rows[0].0, br#"{"v":9,"x":[1, 2]}"#);
    assert_eq!(rows[2].1, Some(press.id.0));
    assert!(rows.iter().all(|(_, _, chained)| chained.is_some()));
    drop(tx);
    stage.send(Lane::Telemetry, vec![raw(1, "7")]).await;
    assert_eq!(
        only_case(&stage, Hazard::Technical).await.version,
        case.version
    );
}

#[tokio::test]
async fn a_zero_byte_dams_nothing() {
    let stage = Stage::new().await;
    let mut press = stage.press(1);
    press.vendor_id = Some("a\0b".into());
    let mut moved = stage.event(2, "reader", Kind::PresenceCheckedIn);
    moved.vendor_id = Some("\0".into());
    moved.detail = Detail::Movement {
        child: ChildId(id(CHILD)),
        by: HandedBy::Unknown,
        how: How::Card,
    };
    let odd = record(1, stage.press(3))
        .body
        .get()
        .replace("alarm.pressed", "a\\u0000");
    stage.alarm(1, press).await;
    stage.send(Lane::Supervisory, vec![record(1, moved)]).await;
    let receipt = stage.send(Lane::Telemetry, vec![raw(1, &odd)]).await;
    assert_eq!(receipt.through_seq, 1);
    assert_eq!(stage.verdict().await.broken, None);
}

#[tokio::test]
async fn another_centres_event_is_kept_told_and_applied_to_neither() {
    let stage = Stage::new().await;
    let mut foreign = stage.press(1);
    foreign.centre = CentreId(id(ELSEWHERE));
    stage.alarm(1, foreign).await;
    let case = only_case(&stage, Hazard::Technical).await;
    assert_eq!(case.lines[0].kind, Kind::AlarmUnreadable);
    let mut tx = stage.read().await;
    let rows = sql!(
        &mut tx,
        fetch_all as (uuid::Uuid, String),
        "select centre, hazard from incident"
    );
    assert_eq!(rows.unwrap(), [(centre().0, "technical".to_owned())]);
}

#[tokio::test]
async fn a_lost_bridge_opens_a_case_among_bulk_records_and_its_return_shows() {
    let stage = Stage::new().await;
    let records = vec![
        record(1, stage.event(1, "reader", Kind::AccessRead)),
        record(2, stage.event(2, "bridge", Kind::BridgeOffline)),
    ];
    stage.send(Lane::Supervisory, records).await;
    let case = only_case(&stage, Hazard::Technical).await;
    assert_eq!(case.lines[0].state, State::Raised);
    let back = vec![record(3, stage.event(3, "bridge", Kind::BridgeOnline))];
    stage.send(Lane::Supervisory, back).await;
    let case = only_case(&stage, Hazard::Technical).await;
    assert_eq!(case.lines[0].state, State::Cleared);
    assert_eq!(case.handling.as_str(), "open", "its return closes nothing");
}

#[tokio::test]
async fn presence_is_one_state_in_any_order_of_arrival() {
    let stage = Stage::new().await;
    let moved = |n: u128, order: i64, kind, child: u128| {
        let mut event = stage.event(n, "reader", kind);
        event.order = Order(order);
        event.detail = Detail::Movement {
            child: ChildId(id(child)),
            by: HandedBy::Person(person(1)),
            how: How::Card,
        };
        event
    };
    let mut wakes = stage.wakes.subscribe();
    let records = vec![
        record(1, moved(1, 10, Kind::PresenceCheckedIn, CHILD)),
        record(2, moved(2, 30, Kind::PresenceCheckedOut, CHILD)),
        record(3, moved(3, 20, Kind::PresenceCheckedIn, CHILD)),
        record(4, moved(4, 40, Kind::PresenceCheckedIn, 0xdead)),
    ];
    let receipt = stage.send(Lane::Supervisory, records).await;
    assert_eq!(receipt.through_seq, 4, "an unknown child dams nothing");
    assert_eq!(
        wakes.try_recv().unwrap().what,
        Changed::Child(ChildId(id(CHILD)))
    );
    let late = record(5, moved(5, 25, Kind::PresenceCheckedIn, CHILD));
    stage.send(Lane::Supervisory, vec![late]).await;
    assert!(wakes.try_recv().is_err(), "nothing changed");
    let mut tx = stage.read().await;
    let rows = sql!(
        &mut tx,
        fetch_all as (String, i64),
        "select body, version from presence"
    );
    let rows = rows.unwrap();
    assert_eq!(rows.len(), 1);
    let presence: Presence = serde_json::from_str(&rows[0].0).unwrap();
    assert!(!presence.standing.counts_as_inside());
    let moves = sql!(
        &mut tx,
        fetch_all as (i64, String),
        "select order_hlc, body from movement order by order_hlc"
    );
    let moves = moves.unwrap();
    assert_eq!(
        moves.iter().map(|(o, _)| *o).collect::<Vec<_>>(),
        [10, 20, 25, 30]
    );
    assert!(moves[3].1.contains("outside"));
}

fn hello(stage: &Stage, draining: Vec<EpochId>) -> Hello {
    Hello {
        speaks: WIRE_READS.to_vec(),
        gateway: stage.identity().gateway,
        epoch: EpochId(id(0xf9)),
        draining,
        config_version: 4,
        program: "test".into(),
    }
}

#[tokio::test]
async fn a_welcome_says_what_is_held_and_who_is_not_welcome() {
    let stage = Stage::new().await;
    let from = stage.identity();
    stage.alarm(1, stage.press(1)).await;
    let greeted = stage
        .ingest
        .welcome(&from, &hello(&stage, vec![stage.epoch()]))
        .await
        .unwrap();
    assert_eq!(greeted.v, 1);
    let held: Vec<_> = greeted
        .receipts
        .iter()
        .map(|r| (r.epoch, r.lane, r.through_seq))
        .collect();
    assert_eq!(held, [(stage.epoch(), Lane::LifeSafety, 1)]);
    let mut other = hello(&stage, vec![]);
    other.gateway = GatewayId(id(0xa2));
    let refused = stage.ingest.welcome(&from, &other).await;
    assert!(matches!(
        refused,
        Err(IngestError::Refused(Refused::NotThisGateway))
    ));
    let mut newer = hello(&stage, vec![]);
    newer.speaks = vec![99];
    let refused = stage.ingest.welcome(&from, &newer).await;
    assert!(matches!(
        refused,
        Err(IngestError::Refused(Refused::UnknownVersion))
    ));
    let mut tx = stage.read().await;
    let applied = sql!(
        &mut tx,
        fetch_one as (i64, Option<i64>),
        "select config_applied, last_seen_at from gateway where id = $1",
        from.gateway.0
    );
    assert_eq!(applied.unwrap(), (4, Some(stage.clock.now().micros())));
    drop(tx);
    let mut applied = stage.event(2, "box", Kind::ConfigApplied);
    applied.detail = Detail::Config { version: 5 };
    stage
        .send(Lane::Supervisory, vec![record(1, applied)])
        .await;
    let mut tx = stage.read().await;
    let applied = sql!(
        &mut tx,
        fetch_one as (i64,),
        "select config_applied from gateway where id = $1",
        from.gateway.0
    );
    assert_eq!(applied.unwrap(), (5,));
}

#[tokio::test]
async fn an_epoch_whose_end_never_comes_is_a_gap_told_once() {
    let stage = Stage::new().await;
    let from = stage.identity();
    stage.alarm(1, stage.press(1)).await;
    let mut started = stage.event(50, "box", Kind::GatewayStarted);
    started.source = None;
    started.detail = Detail::Started {
        previous: Some(PreviousEpoch {
            epoch: stage.epoch(),
            last_seq: 3,
        }),
        boot: "b".into(),
    };
    let batch = Batch {
        epoch: EpochId(id(0xf9)),
        lane: Lane::LifeSafety,
        records: vec![record(1, started)],
    };
    stage.ingest.batch(&from, batch).await.unwrap();
    let draining = hello(&stage, vec![stage.epoch()]);
    stage.ingest.welcome(&from, &draining).await.unwrap();
    assert_eq!(stage.board().await.len(), 1, "it is still draining");
    for _ in 0..2 {
        stage
            .ingest
            .welcome(&from, &hello(&stage, vec![]))
            .await
            .unwrap();
        let gap = only_case(&stage, Hazard::Technical).await;
        assert_eq!((gap.lines[0].activations, gap.priority), (1, Priority::P2));
    }
}

#[tokio::test]
async fn numbers_no_lane_can_have_are_refused_and_others_are_not() {
    let stage = Stage::new().await;
    for (seq, to_seq) in [(0, None), (u64::MAX, None), (5, Some(4))] {
        let mut impossible = record(1, stage.press(1));
        (impossible.seq, impossible.to_seq) = (seq, to_seq);
        let batch = Batch {
            epoch: stage.epoch(),
            lane: Lane::LifeSafety,
            records: vec![impossible],
        };
        let refused = stage.ingest.batch(&stage.identity(), batch).await;
        assert!(matches!(
            refused,
            Err(IngestError::Refused(Refused::BrokenFrame))
        ));
    }
    let mut greedy = record(1, stage.press(1));
    greedy.to_seq = Some(10);
    let receipt = stage.send(Lane::LifeSafety, vec![greedy]).await;
    assert_eq!(receipt.through_seq, 1, "an event stands for itself alone");
    let receipt = stage.send(Lane::LifeSafety, vec![]).await;
    assert_eq!(receipt.through_seq, 1);
}

#[tokio::test]
async fn lanes_and_repeats_side_by_side_lose_and_double_nothing() {
    let stage = Stage::new().await;
    let send = |lane, records: Vec<Record>| {
        let (ingest, from) = (stage.ingest.clone(), stage.identity());
        let epoch = stage.epoch();
        async move {
            let batch = Batch {
                epoch,
                lane,
                records,
            };
            ingest.batch(&from, batch).await.unwrap()
        }
    };
    let presses = |stage: &Stage| -> Vec<Record> {
        (1..=60)
            .map(|n| record(n, stage.press(u128::from(n))))
            .collect()
    };
    let doors = |stage: &Stage| -> Vec<Record> {
        let door = |n: u64| stage.event(1_000 + u128::from(n), "door", Kind::DoorOpened);
        (1..=300).map(|n| record(n, door(n))).collect()
    };
    let (a, b, c, d) = tokio::join!(
        send(Lane::LifeSafety, presses(&stage)),
        send(Lane::Telemetry, doors(&stage)),
        send(Lane::LifeSafety, presses(&stage)),
        send(Lane::Telemetry, doors(&stage)),
    );
    assert_eq!(
        [a.through_seq, b.through_seq, c.through_seq, d.through_seq],
        [60, 300, 60, 300]
    );
    let case = only_case(&stage, Hazard::Panic).await;
    assert_eq!(case.lines[0].activations, 60);
    assert_eq!(stage.verdict().await.broken, None);
    let EventId(first) = stage.press(1).id;
    let mut tx = stage.read().await;
    let kept = sql!(
        &mut tx,
        fetch_one as (i64,),
        "select count(*) from incident_event where event = $1",
        first
    );
    assert_eq!(kept.unwrap(), (1,));
}

#[tokio::test]
async fn damaged_rows_of_a_point_and_its_lane_keep_no_alarm_waiting() {
    let stage = Stage::new().await;
    stage.alarm(1, stage.press(1)).await;
    stage.change("update alarm set body = '['").await;
    stage.change("update enrolment set body = '{}'").await;
    stage
        .change("update lane_progress set ranges = 'x', through_seq = -1")
        .await;
    let receipt = stage.alarm(2, stage.press(2)).await;
    assert_eq!((receipt.through_seq, receipt.ranges), (0, vec![(2, 2)]));
    let receipt = stage.alarm(1, stage.press(1)).await;
    assert_eq!(receipt.through_seq, 2);
    let case = stage.board().await.remove(0).case;
    assert_eq!(case.lines[0].activations, 2);
}

#[tokio::test]
async fn a_hello_with_thousands_of_epochs_is_answered_with_what_is_held() {
    let stage = Stage::new().await;
    stage.alarm(1, stage.press(1)).await;
    let strange = (0..20_000).map(|n| EpochId(id(0x9_0000 + n)));
    let draining = strange.chain([stage.epoch()]).collect();
    let hello = hello(&stage, draining);
    let welcome = stage.ingest.welcome(&stage.identity(), &hello).await;
    let receipts = welcome.unwrap().receipts;
    assert_eq!((receipts.len(), receipts[0].through_seq), (1, 1));
}

#[tokio::test]
async fn a_case_stays_small_whatever_points_are_invented() {
    let stage = Stage::new().await;
    for chunk in 0..12_u64 {
        let smoke = |n: u64| {
            let device = format!("invented-{n}");
            record(n, stage.event(u128::from(n), &device, Kind::FireSmokeAlarm))
        };
        let numbers = chunk * 50 + 1..=chunk * 50 + 50;
        stage
            .send(Lane::LifeSafety, numbers.map(smoke).collect())
            .await;
    }
    let case = stage.board().await.remove(0).case;
    assert_eq!(case.lines.len(), crate::incident::LINES_MAX + 1);
    let shared = case.lines.last().unwrap();
    assert_eq!((&shared.source, shared.kind), (&None, Kind::FireSmokeAlarm));
    assert_eq!(stage.verdict().await.broken, None);
}
