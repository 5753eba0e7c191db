//! What real clients send, broken by chance, in every state of a connection and over WebSocket: nothing
//! panics, and a client that works beside them notices nothing.

use super::corpus::{Conversation, corpus, mutated, their_credential};
use super::*;

/// Connections, each with some broken packets: a few seconds.
const ROUNDS: usize = 3_000;
/// Rounds between two looks at the others.
const LOOK: usize = 100;

/// Where a connection stands when the first broken packet comes.
const STATES: usize = 5;

/// What is said on one connection.
struct Said {
    /// Brings it into its state.
    prelude: Vec<u8>,
    /// The answer that tells that it is there: the first byte of CONNACK or PUBREC; none: nothing is awaited.
    sign: Option<u8>,
    /// Broken packets among sound ones.
    broken: Vec<u8>,
}

fn said(seeded: &mut Seeded, clients: &[Conversation]) -> Said {
    let client = &clients[seeded.below(clients.len())];
    let connect = &client.packets[0][..];
    let subscribe = client.first(&[0x82]);
    // Its own subscription makes the message come back, so both sides are in the middle of QoS 2.
    let exactly_once = client.first(&[0x34, 0x35]);
    let state = seeded.below(STATES);
    let parts: &[&[u8]] = match state {
        0 => &[],
        1 => &[connect],
        2 => &[connect, subscribe],
        3 => &[connect, exactly_once],
        _ => &[connect, subscribe, exactly_once],
    };
    let mut broken = Vec::new();
    for _ in 0..=seeded.below(4) {
        let [one, other] = [(); 2].map(|()| &client.packets[seeded.below(client.packets.len())]);
        if seeded.below(3) == 0 {
            broken.extend(one);
        } else {
            broken.extend(mutated(seeded, one, other));
        }
    }
    Said {
        prelude: parts.concat(),
        sign: match state {
            0 => None,
            3.. if !exactly_once.is_empty() => Some(0x50),
            _ => Some(0x20),
        },
        broken,
    }
}

/// The same bytes in masked WebSocket frames of chance lengths.
fn framed(seeded: &mut Seeded, bytes: &[u8]) -> Vec<u8> {
    let mut frames = Vec::new();
    let mut left = bytes;
    while !left.is_empty() {
        let (now, later) = left.split_at(1 + seeded.below(left.len().min(125)));
        left = later;
        let key = seeded.bytes(4);
        frames.extend([0x82, 0x80 | now.len() as u8]);
        frames.extend(&key);
        frames.extend(now.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b));
    }
    frames
}

/// Every other time the frames themselves are broken: any bit, or one of the first header.
fn maybe_broken(seeded: &mut Seeded, mut frames: Vec<u8>) -> Vec<u8> {
    if !frames.is_empty() && seeded.below(2) == 0 {
        let reach = [frames.len(), 2][seeded.below(2)];
        frames[seeded.below(reach)] ^= 1 << seeded.below(8);
    }
    frames
}

/// Says it all, then reads until the broker closes too: a reset could take what we said with it.
async fn say<S: AsyncRead + AsyncWrite + Unpin>(stream: S, said: &Said) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut heard = Vec::new();
    let talk = async {
        writer.write_all(&said.prelude).await.unwrap();
        while said.sign.is_some_and(|sign| !heard.contains(&sign)) {
            assert_ne!(reader.read_buf(&mut heard).await.unwrap(), 0, "not let in");
        }
        let saying = async {
            // The broker may close in the middle of it.
            let _ = writer.write_all(&said.broken).await;
            let _ = writer.shutdown().await;
        };
        let _ = tokio::join!(saying, reader.read_to_end(&mut heard));
    };
    timeout(HANG, talk).await.expect("a connection hangs");
}

/// A client at work: what it says is acknowledged and heard, and nothing else is.
async fn works(witness: &mut Raw) {
    let message = publish_qos0("door/front", b"heard");
    witness.send(&message).await;
    witness.expect(&message).await;
    // Nobody hears this one: the filter ends at the level below.
    witness.send(&publish("door", 1, b"x")).await;
    witness.expect(&puback(1)).await;
    witness.ping().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_packets_in_every_state_end_only_their_own_connection() {
    let mut bench = Bench::start(Limits::default()).await;
    let devices = town();
    let mut known = vec![their_credential()];
    known.extend(devices.get("door").map(|door| Credential::clone(door)));
    bench
        .access
        .send_replace(Arc::new(known.into_iter().collect()));
    let committing = bench.commit_all();
    let mut witness = Raw::log_in(&bench, "door", "witness").await;
    let filter = [&[0, 1][..], &text("door/+"), &[0]].concat();
    witness.send(&packet(0x82, &filter)).await;
    witness.expect(&[0x90, 3, 0, 1, 0]).await;
    let clients = corpus();
    let mut seeded = Seeded(0xC0FFEE);
    for round in 0..ROUNDS {
        let mut said = said(&mut seeded, &clients);
        if round % 3 == 0 {
            said.prelude = framed(&mut seeded, &said.prelude);
            let frames = framed(&mut seeded, &said.broken);
            said.broken = maybe_broken(&mut seeded, frames);
            say(bench.websocket().await.into_inner(), &said).await;
        } else {
            say(bench.tcp().await, &said).await;
        }
        if round % LOOK == 0 {
            works(&mut witness).await;
            let panicked = bench.counters.closed(CloseReason::Panicked);
            assert_eq!(panicked, 0, "by round {round}");
        }
    }
    works(&mut witness).await;
    bench.open_sockets(1).await;
    let counters = &bench.counters;
    assert_eq!(counters.closed(CloseReason::Panicked), 0);
    // Too tame a test would pass as well.
    for reason in [
        CloseReason::Protocol,
        CloseReason::Framing,
        CloseReason::PeerClosed,
    ] {
        let times = counters.closed(reason);
        assert!(times > 50, "{reason:?}: {times}");
    }
    let reached = [
        &counters.publishes_qos0,
        &counters.publishes_qos1,
        &counters.publishes_qos2,
        &counters.sent,
    ]
    .map(count);
    assert!(reached.iter().all(|times| *times > 100), "{reached:?}");
    committing.abort();
}
