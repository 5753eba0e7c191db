//! What PUBACK means, its order, back-pressure, and the pending publishes at shutdown.

use super::*;

async fn publish_many(raw: &mut Raw, ids: std::ops::RangeInclusive<u8>) {
    for id in ids {
        let payload = [id];
        raw.send(&publish("btn/hall", u16::from(id), &payload))
            .await;
    }
}

#[tokio::test]
async fn puback_leaves_only_after_the_commit() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::log_in(&bench, "btn", "c").await;
    raw.send(&publish("btn/hall", 7, b"pressed")).await;
    let taken = bench.publish().await;
    assert_eq!((&*taken.username, taken.reserved), ("btn", true));
    assert_eq!(
        (&*taken.message.topic, &taken.message.payload[..]),
        ("btn/hall", &b"pressed"[..])
    );
    assert_eq!(
        (taken.message.qos, taken.origin),
        (Qos::AtLeastOnce, Origin::Live)
    );
    assert_eq!((taken.message.retain, taken.dup), (false, false));
    raw.ping().await; // nothing was said before the pong
    taken.ack.committed();
    raw.expect(&puback(7)).await;
    assert_eq!(count(&bench.counters.pubacks), 1);
    assert_eq!(count(&bench.counters.publishes_qos1), 1);
}

#[tokio::test]
async fn dup_and_retain_are_handed_on() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::log_in(&bench, "btn", "c").await;
    let mut again = publish("btn/hall", 7, b"");
    again[0] = 0x3B;
    raw.send(&again).await;
    let taken = bench.publish().await;
    assert!(taken.dup && taken.message.retain && taken.message.payload.is_empty());
    taken.ack.committed();
    raw.expect(&puback(7)).await;
}

#[tokio::test]
async fn pubacks_keep_the_order_of_arrival_whatever_the_order_of_commits() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::log_in(&bench, "btn", "c").await;
    publish_many(&mut raw, 1..=3).await;
    raw.send(&publish_qos0("btn/hall", b"4")).await;
    publish_many(&mut raw, 5..=5).await;
    let mut acks = Vec::new();
    for _ in 0..5 {
        acks.push(bench.publish().await.ack);
    }
    let first = acks.remove(0);
    for ack in acks.into_iter().rev() {
        ack.committed();
    }
    raw.ping().await;
    first.committed();
    for id in [1, 2, 3, 5] {
        raw.expect(&puback(id)).await;
    }
    raw.ping().await;
}

#[tokio::test]
async fn a_failed_commit_closes_without_puback_and_keeps_what_was_committed_before() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::log_in(&bench, "btn", "c").await;
    publish_many(&mut raw, 1..=3).await;
    let (first, second, third) = (
        bench.publish().await,
        bench.publish().await,
        bench.publish().await,
    );
    third.ack.committed();
    first.ack.committed();
    second.ack.failed();
    raw.expect(&puback(1)).await;
    raw.expect_close().await;
    drop(raw);
    bench.closed(CloseReason::CommitFailed, 1).await;
}

#[tokio::test]
async fn an_ack_dropped_without_a_word_closes_without_puback() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::log_in(&bench, "btn", "c").await;
    publish_many(&mut raw, 1..=1).await;
    drop(bench.publish().await);
    raw.expect_close().await;
    drop(raw);
    bench.closed(CloseReason::CommitFailed, 1).await;
}

#[tokio::test]
async fn for_qos_0_every_outcome_is_harmless() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::log_in(&bench, "btn", "c").await;
    for _ in 0..3 {
        raw.send(&publish_qos0("btn/hall", b"x")).await;
    }
    let taken = bench.publish().await;
    assert_eq!(taken.message.qos, Qos::AtMostOnce);
    taken.ack.committed();
    bench.publish().await.ack.failed();
    drop(bench.publish().await);
    publish_many(&mut raw, 9..=9).await;
    bench.publish().await.ack.committed();
    raw.expect(&puback(9)).await;
    raw.ping().await;
    assert_eq!(count(&bench.counters.publishes_qos0), 3);
}

#[tokio::test]
async fn an_ack_after_the_connection_is_gone_is_harmless() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::log_in(&bench, "btn", "c").await;
    publish_many(&mut raw, 1..=2).await;
    let (first, second) = (bench.publish().await, bench.publish().await);
    drop(raw);
    bench.open_sockets(0).await;
    first.ack.committed();
    second.ack.failed();
    let mut raw = Raw::log_in(&bench, "btn", "c").await;
    raw.ping().await;
}

#[tokio::test]
async fn at_20_pending_the_connection_is_not_read_from_and_keep_alive_rests() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut connect = Connect::new("btn", "c");
    connect.keep_alive = 1;
    let mut raw = Raw::log_in_with(&bench, connect).await;
    publish_many(&mut raw, 1..=25).await;
    let mut acks = Vec::new();
    for _ in 0..PENDING_PUBLISHES {
        acks.push(bench.publish().await.ack);
    }
    // Longer than the keep-alive allows: a client must not pay for our stall.
    tokio::time::sleep(Duration::from_millis(2_000)).await;
    bench.assert_quiet();
    acks.remove(0).committed();
    raw.expect(&puback(1)).await;
    assert_eq!(bench.publish().await.message.payload[0], 21);
    // Dropped: closes, for its own reason and no other.
    raw.expect_close().await;
    assert_eq!(bench.counters.closed(CloseReason::KeepAlive), 0);
}

#[tokio::test]
async fn qos_0_fills_the_window_too() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::log_in(&bench, "btn", "c").await;
    for _ in 0..=PENDING_PUBLISHES {
        raw.send(&publish_qos0("btn/hall", b"x")).await;
    }
    let mut acks = Vec::new();
    for _ in 0..PENDING_PUBLISHES {
        acks.push(bench.publish().await.ack);
    }
    let more = timeout(Duration::from_millis(50), bench.intake.recv()).await;
    assert!(more.is_err(), "beyond the window");
    acks.clear();
    bench.publish().await.ack.committed();
}

#[tokio::test]
async fn a_full_intake_makes_connections_wait_and_loses_nothing() {
    let mut bench = Bench::with_intake(Limits::default(), 1).await;
    let mut clients = Vec::new();
    for client in 0..4_u8 {
        let mut raw = Raw::log_in(&bench, "btn", &client.to_string()).await;
        for id in 1..=10 {
            raw.send(&publish("btn/hall", id, &[client, id as u8]))
                .await;
        }
        clients.push(raw);
    }
    let mut last = [0; 4];
    for _ in 0..40 {
        let taken = bench.publish().await;
        let (client, id) = (
            usize::from(taken.message.payload[0]),
            taken.message.payload[1],
        );
        assert_eq!(id, last[client] + 1, "order of one client");
        last[client] = id;
        taken.ack.committed();
    }
    for raw in &mut clients {
        for id in 1..=10 {
            raw.expect(&puback(id)).await;
        }
    }
}

#[tokio::test]
async fn a_publish_outside_the_topics_is_acknowledged_in_order_and_handed_to_nobody() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::log_in(&bench, "door", "c").await;
    let connected = Notice::Connected {
        username: "door".to_owned(),
    };
    assert_eq!(bench.notice().await, connected);
    raw.send(&publish("door/front", 1, b"open")).await;
    raw.send(&publish("btn/hall", 2, b"forged")).await;
    raw.send(&publish_qos0("btn/hall", b"forged")).await;
    raw.send(&publish("door/front", 3, b"closed")).await;
    let (first, third) = (bench.publish().await, bench.publish().await);
    assert_eq!(
        (&first.message.payload[..], &third.message.payload[..]),
        (&b"open"[..], &b"closed"[..])
    );
    raw.ping().await;
    first.ack.committed();
    raw.expect(&puback(1)).await;
    raw.expect(&puback(2)).await;
    third.ack.committed();
    raw.expect(&puback(3)).await;
    raw.send(&publish("btn/hall", 4, b"forged")).await;
    raw.expect(&puback(4)).await;
    assert_eq!(bench.refused(Refusal::NotPermitted), 3);
    // One notice for the first, one for the second, none for the third.
    let refused = Notice::Refused {
        username: Some("door".to_owned()),
        why: Refusal::NotPermitted,
    };
    assert_eq!(bench.notice().await, refused);
    assert_eq!(bench.notice().await, refused);
    assert!(bench.notices.try_recv().is_err());
    bench.assert_quiet();
}

#[tokio::test]
async fn an_intake_that_is_gone_ends_connections() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::log_in(&bench, "btn", "c").await;
    bench.intake.close();
    publish_many(&mut raw, 1..=1).await;
    raw.expect_close().await;
    bench.closed(CloseReason::IntakeClosed, 1).await;
}

#[tokio::test]
async fn shutdown_waits_for_pending_commits_and_answers_them() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::log_in(&bench, "btn", "c").await;
    let mut idle = Raw::log_in(&bench, "door", "c").await;
    let mut stranger = Raw::open(&bench).await;
    publish_many(&mut raw, 1..=2).await;
    let (first, second) = (bench.publish().await, bench.publish().await);
    bench.shutdown.send_replace(true);
    idle.expect_close().await;
    stranger.expect_close().await;
    // Not read any more: these come again after the restart.
    publish_many(&mut raw, 3..=3).await;
    second.ack.committed();
    first.ack.committed();
    raw.expect(&puback(1)).await;
    raw.expect(&puback(2)).await;
    raw.expect_close().await;
    drop((raw, idle, stranger));
    timeout(HANG, bench.served).await.unwrap().unwrap();
    assert_eq!(bench.counters.closed(CloseReason::Shutdown), 3);
    assert_eq!(count(&bench.counters.open), 0);
    assert!(TcpStream::connect(bench.address).await.is_err());
    assert!(bench.intake.recv().await.is_none());
}

#[tokio::test]
async fn shutdown_cuts_what_is_not_committed_in_time() {
    let limits = Limits {
        shutdown_grace: Duration::from_millis(50),
        ..Limits::default()
    };
    let mut bench = Bench::start(limits).await;
    let mut raw = Raw::log_in(&bench, "btn", "c").await;
    publish_many(&mut raw, 1..=1).await;
    let pending = bench.publish().await;
    bench.shutdown.send_replace(true);
    raw.expect_close().await;
    timeout(HANG, bench.served).await.unwrap().unwrap();
    assert_eq!(bench.counters.closed(CloseReason::Shutdown), 1);
    assert_eq!(count(&bench.counters.sessions), 0);
    pending.ack.committed();
}

#[tokio::test]
async fn a_dropped_shutdown_handle_stops_the_broker() {
    let bench = Bench::start(Limits::default()).await;
    drop(bench.shutdown);
    timeout(HANG, bench.served).await.unwrap().unwrap();
}
