//! Strangers and broken devices: garbage in every state of a connection harms nobody else.

use super::*;

/// One stretch of input that no client of ours would send.
fn garbage(seeded: &mut Seeded) -> Vec<u8> {
    let length = 1 + seeded.below(60);
    let mut bytes = seeded.bytes(length);
    match seeded.below(4) {
        // Pure noise.
        0 => {}
        // A frame of true length with noise inside.
        1 => bytes = packet(bytes[0], &bytes[1..]),
        // A PUBLISH that is nearly right.
        2 => {
            let mut frame = publish("btn/hall", seeded.below(3) as u16, &bytes);
            let at = seeded.below(frame.len());
            frame[at] = seeded.next() as u8;
            bytes = frame;
        }
        // A CONNECT that is nearly right.
        _ => {
            let mut frame = Connect::new("btn", "c").will("btn/a", "w", 1).bytes();
            let at = seeded.below(frame.len());
            frame[at] = seeded.next() as u8;
            bytes = frame;
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_in_every_state_ends_only_the_connection_that_sent_it() {
    // On a busy machine we come faster than the broker ends connections; the door's limits are not the matter.
    let limits = Limits {
        unidentified: 4_000,
        per_address: 4_000,
        ..Limits::default()
    };
    let mut bench = Bench::start(limits).await;
    let committing = bench.commit_all();
    let mut witness = Raw::log_in(&bench, "door", "witness").await;
    let mut seeded = Seeded(0xBAD);
    for round in 0..3_000_u32 {
        let mut socket = TcpStream::connect(bench.address).await.unwrap();
        let mut bytes = Vec::new();
        if round % 3 > 0 {
            bytes.extend(Connect::new("btn", &round.to_string()).bytes());
        }
        if round % 3 > 1 {
            bytes.extend(publish("btn/hall", 1, b"sound"));
        }
        bytes.extend(garbage(&mut seeded));
        // The broker may close in the middle of it.
        let _ = socket.write_all(&bytes).await;
        drop(socket);
        if round % 500 == 0 {
            witness.send(&publish("door/front", 1, b"x")).await;
            witness.expect(&puback(1)).await;
        }
    }
    let counters = &bench.counters;
    // The last ones may still wait in the kernel, where no gauge sees them.
    until("every connection to be accepted", || {
        count(&counters.accepted) == 3_001
    })
    .await;
    bench.open_sockets(1).await;
    witness.ping().await;
    let ended = || {
        CloseReason::ALL
            .iter()
            .map(|r| counters.closed(*r))
            .sum::<u64>()
    };
    until("every connection to end for a counted reason", || {
        ended() == 3_000
    })
    .await;
    assert_eq!(counters.closed(CloseReason::Panicked), 0);
    assert!(
        counters.closed(CloseReason::Protocol) > 300,
        "too tame a test"
    );
    until("the sessions to end", || count(&counters.sessions) == 1).await;
    bench.shutdown.send_replace(true);
    timeout(HANG, bench.served).await.unwrap().unwrap();
    timeout(HANG, committing).await.unwrap().unwrap();
}

/// Hundreds of sockets that stop in the middle of a frame and wait, while a button works on.
#[tokio::test]
async fn half_sent_packets_hold_up_nobody() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut stuck = Vec::new();
    let whole = Connect::new("btn", "x").bytes();
    for number in 0..200 {
        let mut raw = Raw::open(&bench).await;
        raw.send(&whole[..number % whole.len()]).await;
        stuck.push(raw);
    }
    let mut button = Raw::log_in(&bench, "btn", "c").await;
    button.send(&publish("btn/hall", 1, b"pressed")).await;
    bench.publish().await.ack.committed();
    button.expect(&puback(1)).await;
    drop(stuck);
    bench.open_sockets(1).await;
}

/// A busy stray client fills no channel: it gets its acknowledgements, supervision gets few notices.
#[tokio::test]
async fn a_flood_outside_the_topics_is_answered_and_told_sparingly() {
    let mut bench = Bench::start(Limits::default()).await;
    let mut raw = Raw::log_in(&bench, "door", "c").await;
    for _ in 0..100 {
        let burst: Vec<u8> = (1..=20)
            .flat_map(|id| publish("btn/hall", id, b"x"))
            .collect();
        raw.send(&burst).await;
        for id in 1..=20 {
            raw.expect(&puback(id)).await;
        }
    }
    assert_eq!(bench.refused(Refusal::NotPermitted), 2_000);
    let notices = std::iter::from_fn(|| bench.notices.try_recv().ok()).count();
    assert!((2..=13).contains(&notices), "{notices} notices");
    bench.assert_quiet();
}
