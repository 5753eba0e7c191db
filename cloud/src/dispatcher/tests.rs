//! The dispatcher over a real store and engine, against receivers that do as they are told.

#![allow(clippy::unwrap_used, clippy::panic)]

use domain::event::State;
use domain::id::{CentreId, EventId, IncidentId, PointKey};
use domain::kind::Kind;
use domain::time::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::*;
use crate::dispatch::connector::PathState;
use crate::dispatch::connector::dc09::double::{Act, Double, acks, nak, polls_acked, word};
use crate::dispatch::connector::dc09::frame::Frame;
use crate::incident::decide::Report;
use crate::incident::entry::Fact;
use crate::trial::{Trial, fixture, id};

/// 08:15:30, 22 November 2026.
const NOW: Timestamp = Timestamp::from_micros(1_795_335_330_000_000);

struct Room {
    trial: Trial,
    engine: Engine,
    wakes: Wakes,
    clock: Clock,
    changes: broadcast::Receiver<Wake>,
}

/// A running dispatcher.
struct Running {
    receivers: Receivers,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    async fn stopped(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

fn document(police: &str, backup: Option<&str>, fire: &str) -> Value {
    let mut document = fixture();
    for (at, primary, backup) in [(0, police, backup), (1, fire, None)] {
        let dc09 = &mut document["receivers"][at]["dc09"];
        dc09["primary"] = json!(primary);
        dc09["backup"] = json!(backup);
        dc09["reply_timeout_ms"] = json!(60_000);
    }
    document["centres"][0]["fire_needs_verification"] = json!(false);
    document
}

impl Room {
    async fn new(document: &Value) -> Self {
        let trial = Trial::empty().await;
        trial.import(document).await.unwrap();
        let (wakes, clock) = (Wakes::new(), Clock::manual(NOW));
        let engine = Engine::new(
            trial.db.clone(),
            clock.clone(),
            Entropy::seeded(1),
            wakes.clone(),
        );
        Self {
            trial,
            engine,
            clock,
            changes: wakes.subscribe(),
            wakes,
        }
    }

    fn dispatcher(&self) -> Running {
        let dispatcher = Dispatcher::new(
            self.trial.db.clone(),
            self.engine.clone(),
            self.clock.clone(),
            Entropy::seeded(2),
            self.wakes.clone(),
            Metrics::default(),
        );
        let receivers = dispatcher.receivers();
        let (stop, told) = oneshot::channel();
        let task = tokio::spawn(dispatcher.run(async { drop(told.await) }));
        Running {
            receivers,
            stop,
            task,
        }
    }

    async fn happens(&self, kind: Kind) {
        self.happens_at(id(0xc001), kind).await;
    }

    async fn happens_at(&self, centre: Uuid, kind: Kind) {
        let report = Report {
            fact: Fact {
                event: EventId::at(NOW, [kind as u8; 10]),
                vendor_id: None,
                source: Some(PointKey {
                    device: "d".parse().unwrap(),
                    point: "p".parse().unwrap(),
                }),
                zone: None,
                number: 7,
                kind,
                state: State::Raised,
                severity: kind.severity(),
                momentary: kind == Kind::AlarmPressed,
                received_at: NOW,
                occurred_at: NOW,
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
        };
        let mut work = self.engine.begin(CentreId(centre)).await.unwrap();
        work.judge(&[report]).await.unwrap();
        self.engine.commit(work).await.unwrap();
    }

    /// Case, state and attempts of the request of a hazard.
    async fn request(&self, hazard: &str) -> (IncidentId, String, Vec<(i64, String, Vec<u8>)>) {
        let mut tx = self.trial.db.read().await.unwrap();
        let (incident, dispatch, state) = sql!(
            &mut tx,
            fetch_one as (Uuid, Uuid, String),
            "select i.id, d.id, d.state from dispatch d join incident i on i.id = d.incident
             where i.hazard = $1",
            hazard
        )
        .unwrap();
        let attempts = sql!(
            &mut tx,
            fetch_all as (i64, String, Vec<u8>),
            "select number, target, frame from attempt where dispatch = $1 order by n",
            dispatch
        );
        (IncidentId(incident), state, attempts.unwrap())
    }

    /// Waits until the request of a hazard is in a state.
    async fn until(&mut self, hazard: &str, state: &str) -> Vec<(i64, String, Vec<u8>)> {
        loop {
            let (_, is, attempts) = self.request(hazard).await;
            if is == state {
                return attempts;
            }
            self.changes.recv().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_press_reaches_the_police_in_the_bytes_that_were_committed() {
    let mut police = Double::listen(acks).await;
    let fire = Double::listen(acks).await;
    let mut room = Room::new(&document(&police.address, None, &fire.address)).await;
    let running = room.dispatcher();
    room.happens(Kind::AlarmPressed).await;
    let frame = police.frame().await;
    let attempts = room.until("panic", "received").await;
    assert_eq!(
        attempts,
        [(1, "primary".to_owned(), frame.encode().unwrap())]
    );
    running.stopped().await;
}

#[tokio::test]
async fn what_was_due_before_the_start_is_found() {
    let police = Double::listen(acks).await;
    let fire = Double::listen(acks).await;
    let mut room = Room::new(&document(&police.address, None, &fire.address)).await;
    room.happens(Kind::AlarmPressed).await;
    let running = room.dispatcher();
    room.until("panic", "received").await;
    running.stopped().await;
}

#[tokio::test]
async fn a_dead_receiver_delays_no_other() {
    let police = Double::listen(acks).await;
    let mut fire = Double::listen(polls_acked(|_| Vec::new())).await;
    let mut room = Room::new(&document(&police.address, None, &fire.address)).await;
    let running = room.dispatcher();
    room.happens(Kind::FireSmokeAlarm).await;
    fire.frame().await;
    room.happens(Kind::AlarmPressed).await;
    room.until("panic", "received").await;
    assert_eq!(room.request("fire").await.1, "sending");
    running.task.abort();
}

#[tokio::test]
async fn the_backup_takes_over_with_the_same_bytes() {
    let mut primary = Double::listen(polls_acked(|_| vec![Act::Close])).await;
    let mut backup = Double::listen(acks).await;
    let fire = Double::listen(acks).await;
    let document = document(&primary.address, Some(&backup.address), &fire.address);
    let mut room = Room::new(&document).await;
    let running = room.dispatcher();
    room.happens(Kind::AlarmPressed).await;
    let first = primary.frame().await;
    assert_eq!(backup.frame().await, first);
    let attempts = room.until("panic", "received").await;
    let bytes = first.encode().unwrap();
    assert_eq!(
        attempts,
        [
            (1, "primary".to_owned(), bytes.clone()),
            (1, "backup".to_owned(), bytes)
        ]
    );
    running.stopped().await;
}

#[tokio::test]
async fn after_a_nak_the_time_is_fresh_and_the_number_the_same() {
    // A receiver a minute ahead that minds.
    let picky = |frame: &Frame| match frame.time.unwrap().to_string().as_str() {
        "08:16:30,11-22-2026" => acks(frame),
        _ => vec![Act::Say(nak("_08:16:30,11-22-2026"))],
    };
    let mut police = Double::listen(polls_acked(picky)).await;
    let fire = Double::listen(acks).await;
    let mut room = Room::new(&document(&police.address, None, &fire.address)).await;
    let running = room.dispatcher();
    room.happens(Kind::AlarmPressed).await;
    let (refused, taken) = (police.frame().await, police.frame().await);
    room.until("panic", "received").await;
    let time = refused.time;
    assert_eq!(refused, Frame { time, ..taken });
    running.stopped().await;
}

#[tokio::test]
async fn a_stop_waits_for_the_answer_in_hand_and_takes_nothing_more() {
    let gate = Arc::new(Notify::new());
    let held = gate.clone();
    let mut police = Double::listen(polls_acked(move |frame| {
        vec![Act::Wait(held.clone()), Act::Say(word("ACK", frame))]
    }))
    .await;
    let fire = Double::listen(acks).await;
    let mut document = document(&police.address, None, &fire.address);
    let receiver = document["receivers"][0]["id"].clone();
    document["centres"][1]["accounts"] = json!([{ "receiver": receiver, "account": "5678" }]);
    let room = Room::new(&document).await;
    room.happens_at(id(0xc001), Kind::AlarmPressed).await;
    room.happens_at(id(0xc002), Kind::AlarmPressed).await;
    let running = room.dispatcher();
    police.frame().await;
    running.stop.send(()).unwrap();
    tokio::task::yield_now().await;
    gate.notify_one();
    running.task.await.unwrap();
    let mut tx = room.trial.db.read().await.unwrap();
    let states = sql!(
        &mut tx,
        fetch_all as (String,),
        "select state from dispatch order by state"
    );
    assert_eq!(
        states.unwrap(),
        [("queued".to_owned(),), ("received".to_owned(),)]
    );
}

#[tokio::test]
async fn after_a_death_the_same_bytes_go_again_once_the_lease_has_lapsed() {
    let mut police = Double::listen(polls_acked(|_| Vec::new())).await;
    let fire = Double::listen(acks).await;
    let mut room = Room::new(&document(&police.address, None, &fire.address)).await;
    let dying = room.dispatcher();
    room.happens(Kind::AlarmPressed).await;
    let first = police.frame().await;
    dying.task.abort();
    assert!(dying.task.await.unwrap_err().is_cancelled());
    let running = room.dispatcher();
    // Longer than any lease, and the engine is told that time has passed.
    room.clock.advance(Duration::from_secs(120));
    let (incident, _, _) = room.request("panic").await;
    let centre = CentreId(id(0xc001));
    room.engine.tick(centre, incident).await.unwrap();
    assert_eq!(police.frame().await, first);
    let attempts = room.until("panic", "sending").await;
    assert_eq!(attempts.len(), 2);
    running.task.abort();
}

#[tokio::test]
async fn new_and_changed_receivers_are_found() {
    let wrong = Double::listen(polls_acked(|_| Vec::new())).await;
    let mut police = Double::listen(acks).await;
    let fire = Double::listen(acks).await;
    let mut room = Room::new(&document(&wrong.address, None, &fire.address)).await;
    let running = room.dispatcher();
    let changed = document(&police.address, None, &fire.address);
    room.trial.import(&changed).await.unwrap();
    police.polled().await;
    room.happens(Kind::AlarmPressed).await;
    room.until("panic", "received").await;
    assert_eq!(running.receivers.paths().len(), 2);
    running.stopped().await;
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_shown_and_send_nothing() {
    let mut fire = Double::listen(acks).await;
    let mut room = Room::new(&document("127.0.0.1:1", None, &fire.address)).await;
    let mut write = room
        .trial
        .db
        .write(crate::db::Urgency::Other)
        .await
        .unwrap();
    sql!(
        write.tx(),
        execute,
        "update receiver set settings = '{}' where agency = 'police'"
    )
    .unwrap();
    write.commit().await.unwrap();
    let running = room.dispatcher();
    fire.polled().await;
    let unusable = (running.receivers.paths().iter())
        .filter(|(_, paths)| matches!(paths.primary, PathState::Unusable { .. }))
        .count();
    assert_eq!(unusable, 1);
    room.happens(Kind::AlarmPressed).await;
    loop {
        let (_, state, attempts) = room.request("panic").await;
        if state == "refused" && attempts.len() == 1 {
            assert_eq!(attempts, [(1, "primary".to_owned(), Vec::new())]);
            break;
        }
        room.changes.recv().await.unwrap();
    }
    running.stopped().await;
}
