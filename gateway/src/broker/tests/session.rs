//! The table of clients without sockets.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::time::timeout;

use super::super::report::{Counters, Notice};
use super::super::tests::{HANG, credential, town};
use super::*;

struct Bench {
    sessions: Arc<Sessions>,
    access: watch::Sender<Arc<Access>>,
    intake: mpsc::Receiver<Publish>,
    notices: mpsc::Receiver<Notice>,
    counters: Arc<Counters>,
}

fn bench(connections: usize, room: usize) -> Bench {
    bench_of(
        Limits {
            connections,
            ..Limits::default()
        },
        room,
    )
}

fn bench_of(limits: Limits, room: usize) -> Bench {
    let counters = Arc::new(Counters::default());
    let (notices_to, notices) = mpsc::channel(64);
    let (publishes, intake) = mpsc::channel(room);
    let (access, seen) = watch::channel(Arc::new(town()));
    let reporter = Arc::new(Reporter::new(Arc::clone(&counters), notices_to));
    Bench {
        sessions: Arc::new(Sessions::new(&limits, seen, publishes, reporter)),
        access,
        intake,
        notices,
        counters,
    }
}

fn will(payload: &'static str) -> Option<Will> {
    Some(Will {
        topic: "btn/state".to_owned(),
        payload: Bytes::from_static(payload.as_bytes()),
        qos: Qos::AtLeastOnce,
        retain: true,
    })
}

fn message(payload: &'static str) -> Publish {
    Publish {
        username: "btn".into(),
        reserved: true,
        topic: "btn/a".to_owned(),
        payload: Bytes::from_static(payload.as_bytes()),
        qos: Qos::AtMostOnce,
        retain: false,
        dup: false,
        origin: Origin::Live,
        ack: Ack::detached(),
    }
}

fn payload(bench: &mut Bench) -> String {
    let next = bench.intake.try_recv().unwrap();
    String::from_utf8(next.payload.to_vec()).unwrap()
}

async fn open(
    bench: &Bench,
    username: &str,
    client: &str,
    will: Option<Will>,
) -> Result<Seat, NoSeat> {
    let access = town();
    let credential = access.get(username).unwrap();
    bench
        .sessions
        .open(credential, client.to_owned(), will)
        .await
}

#[tokio::test]
async fn after_a_takeover_the_old_connection_hands_over_nothing() {
    let mut bench = bench(8, 8);
    let mut old = open(&bench, "btn", "c", will("gone")).await.unwrap();
    let room = bench.sessions.intake.reserve().await.unwrap();
    let mut new = open(&bench, "btn", "c", None).await.unwrap();
    old.lost().await;
    assert!(old.hand_over(room, message("late")).is_err());
    let room = bench.sessions.intake.reserve().await.unwrap();
    new.hand_over(room, message("new")).unwrap();
    assert_eq!(payload(&mut bench), "gone");
    assert_eq!(payload(&mut bench), "new");
    old.leave(WillFate::Publish).await;
    assert!(bench.intake.try_recv().is_err());
    assert_eq!(bench.counters.sessions.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn one_client_id_under_two_credentials_is_two_clients() {
    let bench = bench(8, 8);
    let mut one = open(&bench, "btn", "c", None).await.unwrap();
    let _two = open(&bench, "door", "c", None).await.unwrap();
    tokio::select! {
        biased;
        _ = one.lost() => panic!("taken over by a stranger"),
        () = std::future::ready(()) => {}
    }
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
async fn a_crowded_credential_puts_its_longest_client_out_and_touches_no_other() {
    let limits = Limits {
        per_credential: 2,
        ..Limits::default()
    };
    let mut bench = bench_of(limits, 8);
    let mut door = open(&bench, "door", "1", None).await.unwrap();
    let mut first = open(&bench, "btn", "1", will("gone")).await.unwrap();
    let mut second = open(&bench, "btn", "2", None).await.unwrap();
    // Who comes back under its own id takes its own place.
    let _again = open(&bench, "btn", "2", None).await.unwrap();
    assert_eq!(second.lost().await, Lost::TakenOver);
    let mut third = open(&bench, "btn", "", None).await.unwrap();
    assert_eq!(payload(&mut bench), "gone");
    let room = bench.sessions.intake.reserve().await.unwrap();
    let late = first.hand_over(room, message("late"));
    assert_eq!(late, Err(Lost::Crowded));
    for seat in [&mut door, &mut third] {
        let room = bench.sessions.intake.reserve().await.unwrap();
        seat.hand_over(room, message("still here")).unwrap();
    }
    assert_eq!(bench.counters.sessions.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn the_will_of_who_is_put_out_waits_for_room_like_any_other() {
    let limits = Limits {
        per_credential: 1,
        ..Limits::default()
    };
    let mut bench = bench_of(limits, 1);
    let mut old = open(&bench, "btn", "1", will("gone")).await.unwrap();
    let room = bench.sessions.intake.reserve().await.unwrap();
    old.hand_over(room, message("before")).unwrap();
    let sessions = Arc::clone(&bench.sessions);
    let town = town();
    let opening = sessions.open(town.get("btn").unwrap(), "2".to_owned(), None);
    let all = async { tokio::join!(opening, old.lost(), bench.intake.recv()) };
    let (new, last, before) = timeout(HANG, all).await.expect("it waits in vain");
    assert!(new.is_ok());
    assert_eq!(&before.unwrap().payload[..], b"before");
    assert_eq!(payload(&mut bench), "gone");
    assert_eq!(last, Lost::Crowded);
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
    seat.leave(WillFate::Publish).await;
    let seat = open(&bench, "btn", "c", will("forgotten")).await.unwrap();
    seat.leave(WillFate::Forget).await;
    let seat = open(&bench, "btn", "c", will("withheld")).await.unwrap();
    seat.leave(WillFate::Withhold).await;
    let published = bench.intake.try_recv().unwrap();
    assert_eq!(&published.payload[..], b"published");
    assert_eq!((published.origin, published.retain), (Origin::Will, true));
    assert_eq!(&*published.username, "btn");
    assert!(published.reserved && published.topic == "btn/state");
    assert!(bench.intake.try_recv().is_err());
    assert_eq!(bench.counters.wills.load(Ordering::Relaxed), 1);
    assert_eq!(bench.counters.wills_dropped.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_will_of_a_withdrawn_credential_is_not_published() {
    let mut bench = bench(8, 8);
    let seat = open(&bench, "btn", "c", will("stolen")).await.unwrap();
    bench.access.send_replace(Arc::default());
    seat.leave(WillFate::Publish).await;
    let narrowed: Access = [credential("btn", "btn", true, &["btn/a"])]
        .into_iter()
        .collect();
    let seat = open(&bench, "btn", "c", will("too wide now"))
        .await
        .unwrap();
    bench.access.send_replace(Arc::new(narrowed));
    seat.leave(WillFate::Publish).await;
    assert!(bench.intake.try_recv().is_err());
    assert_eq!(bench.counters.wills_dropped.load(Ordering::Relaxed), 2);
}

/// The will waits for a full intake; a successor that comes meanwhile waits behind it, and it is published
/// once.
#[tokio::test]
async fn a_will_that_waits_for_room_still_comes_before_the_successor() {
    let mut bench = bench(8, 1);
    let mut seat = open(&bench, "btn", "c", will("gone")).await.unwrap();
    let room = bench.sessions.intake.reserve().await.unwrap();
    seat.hand_over(room, message("last words")).unwrap();
    let leaving = tokio::spawn(seat.leave(WillFate::Publish));
    let sessions = Arc::clone(&bench.sessions);
    let coming = tokio::spawn(async move {
        let access = town();
        let mut seat = sessions
            .open(access.get("btn").unwrap(), "c".to_owned(), None)
            .await
            .unwrap();
        let room = sessions.intake.reserve().await.unwrap();
        seat.hand_over(room, message("hello")).unwrap();
        seat
    });
    let mut heard = Vec::new();
    for _ in 0..3 {
        let next = timeout(HANG, bench.intake.recv()).await.unwrap().unwrap();
        heard.push(String::from_utf8(next.payload.to_vec()).unwrap());
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
    seat.leave(WillFate::Publish).await;
    assert_eq!(bench.counters.wills_dropped.load(Ordering::Relaxed), 1);
    assert_eq!(bench.counters.sessions.load(Ordering::Relaxed), 0);
    let _old = open(&bench, "btn", "d", will("gone")).await.unwrap();
    assert_eq!(
        open(&bench, "btn", "d", None).await.err(),
        Some(NoSeat::IntakeClosed)
    );
}
