//! The table of clients without sockets.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::time::timeout;

use super::super::KEPT;
use super::super::report::{Counters, Notice};
use super::super::seat::{Request, Submitted};
use super::super::tests::{HANG, credential, memory, town};
use super::*;
use crate::hub::Properties;
use crate::hub::{Leaving, Qos};

struct Bench {
    sessions: Arc<Sessions>,
    access: watch::Sender<Arc<Access>>,
    intake: mpsc::Receiver<Work>,
    notices: mpsc::Receiver<Notice>,
    counters: Arc<Counters>,
}

fn bench(connections: usize, room: usize) -> Bench {
    let counters = Arc::new(Counters::default());
    let (notices_to, notices) = mpsc::channel(64);
    let (publishes, intake) = mpsc::channel(room);
    let (access, seen) = watch::channel(Arc::new(town()));
    let reporter = Arc::new(Reporter::new(Arc::clone(&counters), notices_to));
    let kept = crate::hub::Limits {
        connections,
        ..KEPT
    };
    Bench {
        sessions: Arc::new(Sessions::new(memory(kept), seen, publishes, reporter)),
        access,
        intake,
        notices,
        counters,
    }
}

fn said(topic: &str, payload: &'static str, retain: bool) -> Message {
    Message {
        topic: topic.into(),
        payload: Bytes::from_static(payload.as_bytes()),
        qos: Qos::AtMostOnce,
        retain,
        properties: Properties::default(),
    }
}

fn will(payload: &'static str) -> Option<Will> {
    let message = said("btn/state", payload, true);
    Some(Will { message, delay: 0 })
}

fn hand_over(seat: &Seat, room: Room<'_>, payload: &'static str) -> Result<Submitted, TakenOver> {
    let publish = Publish {
        username: "btn".into(),
        reserved: true,
        message: said("btn/a", payload, false),
        dup: false,
        origin: Origin::Live,
        ack: Ack::detached(),
        route: None,
    };
    seat.submit(room, Request::Publish(Box::new(publish)), Ack::detached())
}

fn publish_of(work: Work) -> Publish {
    match work {
        Work::Publish(publish) => *publish,
        Work::Talk(talk) => panic!("{talk:?}"),
    }
}

fn payload(bench: &mut Bench) -> String {
    let next = publish_of(bench.intake.try_recv().unwrap());
    String::from_utf8(next.message.payload.to_vec()).unwrap()
}

async fn open(
    bench: &Bench,
    username: &str,
    client: &str,
    will: Option<Will>,
) -> Result<Seat, NoSeat> {
    let (seat, _) = open_told(bench, username, client, will).await?;
    Ok(seat)
}

async fn open_told(
    bench: &Bench,
    username: &str,
    client: &str,
    will: Option<Will>,
) -> Result<(Seat, Welcomed), NoSeat> {
    let access = town();
    let credential = access.get(username).unwrap();
    bench
        .sessions
        .open(credential, asking(client, will), false)
        .await
}

fn asking(client: &str, will: Option<Will>) -> Asking {
    Asking {
        client_id: client.to_owned(),
        clean_start: true,
        expiry: 0,
        will,
        receive_maximum: u16::MAX,
    }
}

#[tokio::test]
async fn after_a_takeover_the_old_connection_hands_over_nothing() {
    let mut bench = bench(8, 8);
    let (old, told) = open_told(&bench, "btn", "c", will("gone")).await.unwrap();
    let room = bench.sessions.intake.reserve().await.unwrap();
    let new = open(&bench, "btn", "c", None).await.unwrap();
    assert!(told.lost.await.is_err());
    assert!(hand_over(&old, room, "late").is_err());
    let room = bench.sessions.intake.reserve().await.unwrap();
    hand_over(&new, room, "new").unwrap();
    assert_eq!(payload(&mut bench), "gone");
    assert_eq!(payload(&mut bench), "new");
    old.leave(Leaving::Lost).await;
    assert!(bench.intake.try_recv().is_err());
    assert_eq!(bench.counters.sessions.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn one_client_id_under_two_credentials_is_two_clients() {
    let bench = bench(8, 8);
    let (_one, mut told) = open_told(&bench, "btn", "c", None).await.unwrap();
    let _two = open(&bench, "door", "c", None).await.unwrap();
    let empty = oneshot::error::TryRecvError::Empty;
    assert_eq!(told.lost.try_recv().unwrap_err(), empty, "by a stranger");
}

#[tokio::test]
async fn clients_without_an_id_never_meet_each_other_or_a_given_id() {
    let bench = bench(8, 8);
    let mut seats = Vec::new();
    for id in ["", "", "1", "2"] {
        seats.push(open(&bench, "btn", id, None).await.unwrap());
    }
    assert_eq!(bench.counters.sessions.load(Ordering::Relaxed), 4);
    drop(seats);
    assert_eq!(bench.counters.sessions.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_quarter_of_the_slots_is_kept_for_life_safety() {
    let bench = bench(8, 8);
    let mut seats = Vec::new();
    for number in 0..6 {
        seats.push(
            open(&bench, "door", &number.to_string(), None)
                .await
                .unwrap(),
        );
    }
    assert_eq!(
        open(&bench, "door", "7", None).await.err(),
        Some(NoSeat::Full)
    );
    seats.push(open(&bench, "btn", "a", None).await.unwrap());
    seats.push(open(&bench, "btn", "b", None).await.unwrap());
    assert_eq!(
        open(&bench, "btn", "c", None).await.err(),
        Some(NoSeat::Full)
    );
    // Who is in may come back, though the house is full.
    seats.push(open(&bench, "door", "3", None).await.unwrap());
    seats.push(open(&bench, "btn", "a", None).await.unwrap());
    // A slot given back is a slot for anyone of its kind.
    drop(seats);
    assert!(open(&bench, "door", "9", None).await.is_ok());
}

#[tokio::test]
async fn life_safety_clients_do_not_use_up_the_ordinary_slots_before_the_house_is_full() {
    let bench = bench(8, 8);
    let mut seats = Vec::new();
    for number in 0..2 {
        seats.push(
            open(&bench, "btn", &number.to_string(), None)
                .await
                .unwrap(),
        );
    }
    for number in 0..6 {
        seats.push(
            open(&bench, "door", &number.to_string(), None)
                .await
                .unwrap(),
        );
    }
    assert_eq!(
        open(&bench, "door", "x", None).await.err(),
        Some(NoSeat::Full)
    );
}

#[tokio::test]
async fn the_fate_of_a_will() {
    let mut bench = bench(8, 8);
    let seat = open(&bench, "btn", "c", will("published")).await.unwrap();
    seat.leave(Leaving::Lost).await;
    let seat = open(&bench, "btn", "c", will("forgotten")).await.unwrap();
    seat.leave(Leaving::Properly { expiry: None }).await;
    let seat = open(&bench, "btn", "c", will("withheld")).await.unwrap();
    seat.leave(Leaving::Stopping).await;
    let published = publish_of(bench.intake.try_recv().unwrap());
    let message = &published.message;
    assert_eq!(&message.payload[..], b"published");
    assert_eq!((published.origin, message.retain), (Origin::Will, true));
    assert_eq!(&*published.username, "btn");
    assert!(published.reserved && &*message.topic == "btn/state");
    assert!(bench.intake.try_recv().is_err());
    assert_eq!(bench.counters.wills.load(Ordering::Relaxed), 1);
    assert_eq!(bench.counters.wills_dropped.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_will_of_a_withdrawn_credential_is_not_published() {
    let mut bench = bench(8, 8);
    let seat = open(&bench, "btn", "c", will("stolen")).await.unwrap();
    bench.access.send_replace(Arc::default());
    seat.leave(Leaving::Lost).await;
    let narrowed: Access = [credential("btn", "btn", true, &["btn/a"])]
        .into_iter()
        .collect();
    let seat = open(&bench, "btn", "c", will("too wide now"))
        .await
        .unwrap();
    bench.access.send_replace(Arc::new(narrowed));
    seat.leave(Leaving::Lost).await;
    assert!(bench.intake.try_recv().is_err());
    assert_eq!(bench.counters.wills_dropped.load(Ordering::Relaxed), 2);
}

/// The will waits for a full intake; a successor that comes meanwhile waits behind it, and it is published
/// once.
#[tokio::test]
async fn a_will_that_waits_for_room_still_comes_before_the_successor() {
    let mut bench = bench(8, 1);
    let seat = open(&bench, "btn", "c", will("gone")).await.unwrap();
    let room = bench.sessions.intake.reserve().await.unwrap();
    hand_over(&seat, room, "last words").unwrap();
    let leaving = tokio::spawn(seat.leave(Leaving::Lost));
    let sessions = Arc::clone(&bench.sessions);
    let coming = tokio::spawn(async move {
        let access = town();
        let credential = access.get("btn").unwrap();
        let opened = sessions.open(credential, asking("c", None), false).await;
        let (seat, _) = opened.unwrap();
        let room = sessions.intake.reserve().await.unwrap();
        hand_over(&seat, room, "hello").unwrap();
        seat
    });
    let mut heard = Vec::new();
    for _ in 0..3 {
        let next = timeout(HANG, bench.intake.recv()).await.unwrap().unwrap();
        let next = publish_of(next);
        heard.push(String::from_utf8(next.message.payload.to_vec()).unwrap());
    }
    assert_eq!(heard, ["last words", "gone", "hello"]);
    timeout(HANG, leaving).await.unwrap().unwrap();
    let _seat = timeout(HANG, coming).await.unwrap().unwrap();
    assert!(bench.intake.try_recv().is_err());
}

#[tokio::test]
async fn notices_of_a_takeover_end_with_connected() {
    let mut bench = bench(8, 8);
    let old = open(&bench, "btn", "c", None).await.unwrap();
    let new = open(&bench, "btn", "c", None).await.unwrap();
    drop(old);
    drop(new);
    let username = || "btn".to_owned();
    let expected = [
        Notice::Connected {
            username: username(),
        },
        Notice::Disconnected {
            username: username(),
        },
        Notice::Connected {
            username: username(),
        },
        Notice::Disconnected {
            username: username(),
        },
    ];
    for notice in expected {
        assert_eq!(bench.notices.try_recv(), Ok(notice));
    }
    assert!(bench.notices.try_recv().is_err());
}

#[tokio::test]
async fn without_an_intake_a_will_is_counted_as_dropped_and_nobody_waits() {
    let mut bench = bench(8, 8);
    let seat = open(&bench, "btn", "c", will("gone")).await.unwrap();
    bench.intake.close();
    seat.leave(Leaving::Lost).await;
    assert_eq!(bench.counters.wills_dropped.load(Ordering::Relaxed), 1);
    assert_eq!(bench.counters.sessions.load(Ordering::Relaxed), 0);
    let _old = open(&bench, "btn", "d", will("gone")).await.unwrap();
    assert_eq!(
        open(&bench, "btn", "d", None).await.err(),
        Some(NoSeat::IntakeClosed)
    );
}
