//! Takeover of a client id, and wills at every kind of end.

use super::*;

fn with_will() -> Connect {
    Connect::new("btn", "c").will("btn/state", "gone", 1)
}

async fn expect_will(bench: &mut Bench) {
    let will = bench.publish().await;
    assert_eq!(
        (&*will.message.topic, &will.message.payload[..]),
        ("btn/state", &b"gone"[..])
    );
    assert_eq!(
        (will.origin, will.message.qos),
        (Origin::Will, Qos::AtLeastOnce)
    );
    assert_eq!(
        (&*will.username, will.reserved, will.dup),
        ("btn", true, false)
    );
    will.ack.committed();
}

#[tokio::test]
async fn a_takeover_closes_the_older_and_publishes_its_will_before_anything_newer() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut old = Raw::log_in_with(&bench, with_will()).await;
    old.send(&publish("btn/hall", 1, b"old")).await;
    let pending = bench.publish().await;
    let mut new = Raw::open(&bench).await;
    let mut bytes = Connect::new("btn", "c").bytes();
    bytes.extend(publish("btn/hall", 1, b"new"));
    new.send(&bytes).await;
    new.expect(&CONNACK_OK).await;
    old.expect_close().await;
    bench.closed(CloseReason::TakenOver, 1).await;
    expect_will(&mut bench).await;
    let taken = bench.publish().await;
    assert_eq!(&taken.message.payload[..], b"new");
    // The old connection's acknowledgement does not reach the new one.
    pending.ack.committed();
    new.ping().await;
    taken.ack.committed();
    new.expect(&puback(1)).await;
    assert_eq!(count(&bench.counters.sessions), 1);
}

/// Old and new connections of one client id send as fast as they can: at the intake, once a connection's
/// first publish is seen, none of an older connection follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_the_first_publish_of_a_newer_connection_none_of_an_older_follows() {
    let mut bench = Bench::with_intake(Limits::default(), 4).await;
    let address = bench.address;
    let clients = tokio::spawn(async move {
        let mut kept = Vec::new();
        for generation in 1..=60_u8 {
            let mut raw = TcpStream::connect(address).await.unwrap();
            let mut bytes = with_will().bytes();
            for number in 0..15 {
                bytes.extend(publish_qos0("btn/hall", &[generation, number]));
            }
            raw.write_all(&bytes).await.unwrap();
            // Logged in, and still sending, when the next one comes.
            let mut connack = [0; 4];
            raw.read_exact(&mut connack).await.unwrap();
            kept.push(raw);
        }
        kept
    });
    let (mut newest, mut wills, mut swaps) = (0, 0, 0);
    while newest < 60 || swaps == 0 {
        let taken = bench.publish().await;
        if taken.origin == Origin::Will {
            wills += 1;
        } else {
            let generation = taken.message.payload[0];
            assert!(generation >= newest, "{generation} after {newest}");
            swaps += u32::from(generation > newest);
            newest = generation;
        }
    }
    assert!(wills > 0 && swaps > 1, "the race was not run");
    let kept = timeout(HANG, clients).await.unwrap().unwrap();
    assert_eq!(bench.counters.closed(CloseReason::Panicked), 0);
    drop(kept);
}

#[tokio::test]
async fn a_will_follows_every_end_without_disconnect() {
    let mut bench = Bench::start(Limits::default()).await;
    // The client vanishes.
    drop(Raw::log_in_with(&bench, with_will()).await);
    expect_will(&mut bench).await;
    // It breaks the protocol.
    let mut raw = Raw::log_in_with(&bench, with_will()).await;
    raw.send(&[0xF0, 0]).await;
    expect_will(&mut bench).await;
    // A commit fails.
    let mut raw = Raw::log_in_with(&bench, with_will()).await;
    raw.send(&publish("btn/hall", 1, b"x")).await;
    bench.publish().await.ack.failed();
    expect_will(&mut bench).await;
    // QoS 2 in a will is handed over as QoS 1.
    drop(
        Raw::log_in_with(
            &bench,
            Connect::new("btn", "c").will("btn/state", "gone", 1),
        )
        .await,
    );
    expect_will(&mut bench).await;
    bench.assert_quiet();
    assert_eq!(count(&bench.counters.wills), 4);
}

#[tokio::test]
async fn disconnect_deletes_the_will() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::log_in_with(&bench, with_will()).await;
    raw.send(&publish("btn/hall", 1, b"last")).await;
    raw.send(&DISCONNECT).await;
    // Bytes after DISCONNECT are not looked at.
    raw.send(&publish("btn/hall", 2, b"too late")).await;
    let last = bench.publish().await;
    assert_eq!(&last.message.payload[..], b"last");
    raw.expect_close().await;
    bench.closed(CloseReason::Disconnect, 1).await;
    until("the session to end", || {
        count(&bench.counters.sessions) == 0
    })
    .await;
    bench.assert_quiet();
    assert_eq!(count(&bench.counters.wills_dropped), 0);
}

#[tokio::test]
async fn a_will_outside_the_topics_is_refused_at_connect() {
    let bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::open(&bench).await;
    let forged = Connect::new("door", "c").will("btn/state", "pressed", 1);
    raw.send(&forged.bytes()).await;
    raw.expect(&[0x20, 2, 0, 5]).await;
    raw.expect_close().await;
    assert_eq!(bench.refused(Refusal::WillNotPermitted), 1);
}

#[tokio::test]
async fn a_withdrawn_credential_leaves_no_will() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::log_in_with(&bench, with_will()).await;
    bench.access.send_replace(Arc::default());
    raw.expect_close().await;
    until("the session to end", || {
        count(&bench.counters.sessions) == 0
    })
    .await;
    bench.assert_quiet();
    assert_eq!(count(&bench.counters.wills_dropped), 1);
}

#[tokio::test]
async fn the_end_of_the_broker_is_no_reason_for_a_will() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::log_in_with(&bench, with_will()).await;
    bench.shutdown.send_replace(true);
    raw.expect_close().await;
    drop(raw);
    timeout(HANG, bench.served).await.unwrap().unwrap();
    assert!(bench.intake.recv().await.is_none());
    assert_eq!(count(&bench.counters.wills_dropped), 1);
}

#[tokio::test]
async fn a_refused_takeover_leaves_the_older_alone() {
    let bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::log_in(&bench, "btn", "c").await;
    let mut thief = Raw::open(&bench).await;
    let wrong = Connect {
        secret: Some("guess".to_owned()),
        ..Connect::new("btn", "c")
    };
    thief.send(&wrong.bytes()).await;
    thief.expect(&[0x20, 2, 0, 4]).await;
    raw.ping().await;
}
