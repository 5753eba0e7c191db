//! Every limit has a named outcome, and who is within it is not touched.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, DuplexStream, ReadBuf, duplex, split};

use super::super::connection::attend;
use super::super::listener::{Door, House};
use super::super::report::Reporter;
use super::super::visit::Visit;
use super::*;

fn limits() -> Limits {
    Limits::default()
}

#[tokio::test]
async fn three_hundred_connections_work_at_once() {
    let limits = Limits {
        per_address: 300,
        kept: hub::Limits {
            per_credential: 300,
            ..KEPT
        },
        ..limits()
    };
    let mut bench = Bench::start(limits).await;
    let mut clients = Vec::new();
    for number in 0..300 {
        clients.push(Raw::log_in(&bench, "door", &number.to_string()).await);
    }
    for raw in &mut clients {
        raw.send(&publish("door/front", 1, b"x")).await;
    }
    for _ in 0..300 {
        bench.publish().await.ack.committed();
    }
    for raw in &mut clients {
        raw.expect(&puback(1)).await;
    }
    assert_eq!(count(&bench.counters.sessions), 300);
    drop(clients);
    bench.open_sockets(0).await;
    until("all sessions to end", || {
        count(&bench.counters.sessions) == 0
    })
    .await;
}

#[tokio::test]
async fn a_stolen_secret_takes_only_its_own_credentials_slots() {
    let bench = Bench::start(limits()).await;
    let mut thief = Vec::new();
    for number in 0..PER_CREDENTIAL {
        thief.push(Raw::log_in(&bench, "btn", &number.to_string()).await);
    }
    // The device itself still gets in; the one longest on line goes.
    Raw::log_in(&bench, "btn", "the device").await.ping().await;
    thief[0].expect_close().await;
    thief[1].ping().await;
    bench.closed(CloseReason::TakenOver, 1).await;
    Raw::log_in(&bench, "z2m", "c").await.ping().await;
}

#[tokio::test]
async fn a_full_house_answers_so_and_keeps_a_quarter_for_life_safety() {
    let limits = Limits {
        kept: hub::Limits {
            connections: 4,
            ..KEPT
        },
        ..limits()
    };
    let bench = Bench::start(limits).await;
    let mut doors = Vec::new();
    for number in 0..3 {
        doors.push(Raw::log_in(&bench, "door", &number.to_string()).await);
    }
    let refused = async |username: &str| {
        let mut raw = Raw::open(&bench).await;
        raw.send(&Connect::new(username, "late").bytes()).await;
        raw.expect(&[0x20, 2, 0, 3]).await;
        raw.expect_close().await;
    };
    refused("door").await;
    let mut button = Raw::log_in(&bench, "btn", "c").await;
    refused("btn").await;
    assert_eq!(bench.refused(Refusal::Full), 2);
    button.ping().await;
    doors.pop();
    until("a slot", || count(&bench.counters.sessions) == 3).await;
    Raw::log_in(&bench, "door", "next").await.ping().await;
}

#[tokio::test]
async fn one_address_has_only_so_many_sockets() {
    let limits = Limits {
        per_address: 3,
        ..limits()
    };
    let mut bench = Bench::start(limits).await;
    let mut inside = Raw::log_in(&bench, "btn", "c").await;
    let (idle, _idle) = (Raw::open(&bench).await, Raw::open(&bench).await);
    bench.open_sockets(3).await;
    Raw::open(&bench).await.expect_close().await;
    assert_eq!(bench.refused(Refusal::AddressFull), 1);
    let refused = Notice::Refused {
        username: None,
        why: Refusal::AddressFull,
    };
    assert!(matches!(bench.notice().await, Notice::Connected { .. }));
    assert_eq!(bench.notice().await, refused);
    inside.ping().await;
    drop(idle);
    bench.open_sockets(2).await;
    Raw::log_in(&bench, "door", "c").await.ping().await;
}

#[tokio::test]
async fn idle_strangers_make_room_for_who_comes_and_logs_in() {
    let limits = Limits {
        unidentified: 2,
        ..limits()
    };
    let bench = Bench::start(limits).await;
    let mut inside = Raw::log_in(&bench, "btn", "c").await;
    let mut oldest = Raw::open(&bench).await;
    bench.open_sockets(2).await;
    let mut second = Raw::open(&bench).await;
    bench.open_sockets(3).await;
    let mut newcomer = Raw::log_in(&bench, "door", "c").await;
    oldest.expect_close().await;
    bench.closed(CloseReason::Evicted, 1).await;
    // Who has logged in is not in that queue any more.
    let mut later = Raw::open(&bench).await;
    bench.open_sockets(4).await;
    inside.ping().await;
    newcomer.ping().await;
    for raw in [&mut second, &mut later] {
        raw.send(&Connect::new("z2m", "c").bytes()).await;
        raw.expect(&CONNACK_OK).await;
    }
}

#[tokio::test]
async fn who_does_not_log_in_is_closed_at_the_deadline() {
    let limits = Limits {
        connect_deadline: Duration::from_millis(50),
        ..limits()
    };
    let bench = Bench::start(limits).await;
    let mut silent = Raw::open(&bench).await;
    let mut slow = Raw::open(&bench).await;
    slow.send(&Connect::new("btn", "c").bytes()[..9]).await;
    silent.expect_close().await;
    slow.expect_close().await;
    bench.closed(CloseReason::ConnectTimeout, 2).await;
}

#[tokio::test]
async fn packets_up_to_the_limit_pass_and_larger_claims_close_at_once() {
    let mut bench = Bench::start(limits()).await;
    let mut raw = Raw::log_in(&bench, "btn", "c").await;
    let overhead = publish("btn/hall", 1, &[0; 100_000]).len() - 100_000;
    let largest = publish("btn/hall", 1, &vec![7; PACKET_BYTES - overhead]);
    assert_eq!(largest.len(), PACKET_BYTES);
    raw.send(&largest).await;
    let taken = bench.publish().await;
    assert_eq!(taken.message.payload.len(), PACKET_BYTES - overhead);
    taken.ack.committed();
    raw.expect(&puback(1)).await;
    // The header alone is enough, and 256 MB are never asked for.
    raw.send(&[0x32, 0xFF, 0xFF, 0xFF, 0x7F]).await;
    raw.expect_close().await;
    bench.closed(CloseReason::Oversized, 1).await;
    let mut stranger = Raw::open(&bench).await;
    stranger
        .send(&packet(0x10, &vec![0; CONNECT_BYTES])[..4])
        .await;
    stranger.expect_close().await;
    bench.closed(CloseReason::Oversized, 2).await;
}

/// A connection without a socket, for what a socket's buffers would hide.
struct Hall {
    house: Arc<House>,
    door: Arc<Door>,
    counters: Arc<Counters>,
    intake: mpsc::Receiver<Work>,
    /// Held so that neither ends.
    _ends: (watch::Sender<Arc<Access>>, watch::Sender<bool>),
}

fn hall(limits: Limits) -> Hall {
    let counters = Arc::new(Counters::default());
    let (notices, _) = mpsc::channel(1);
    let (publishes, intake) = mpsc::channel(64);
    let (access, seen) = watch::channel(Arc::new(town()));
    let (shutdown, stop) = watch::channel(false);
    let reporter = Arc::new(Reporter::new(Arc::clone(&counters), notices));
    let house = Arc::new(House::new(
        limits,
        seen,
        publishes,
        reporter,
        memory(limits.kept),
        stop,
    ));
    Hall {
        door: Arc::new(Door::new(&house)),
        house,
        counters,
        intake,
        _ends: (access, shutdown),
    }
}

impl Hall {
    /// A client of a pipe with room for `room` bytes each way, and the task that serves it.
    fn enter(&self, room: usize) -> (DuplexStream, JoinHandle<()>) {
        let (client, server) = duplex(room);
        let (reader, writer) = split(server);
        let admitted = self.door.admit("10.0.0.1".parse().unwrap()).unwrap();
        let task = attend(
            reader,
            writer,
            Visit::new(admitted, Arc::clone(&self.house)),
        );
        (client, tokio::spawn(task))
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_not_read_from_and_then_closed() {
    let limits = Limits {
        output_bytes: 64,
        output_patience: Duration::from_millis(50),
        ..limits()
    };
    let hall = hall(limits);
    let (mut client, task) = hall.enter(128);
    client
        .write_all(&Connect::new("btn", "c").bytes())
        .await
        .unwrap();
    let mut sent = 0;
    while client.write_all(&PINGREQ).await.is_ok() {
        sent += 1;
    }
    timeout(HANG, task).await.unwrap().unwrap();
    assert_eq!(hall.counters.closed(CloseReason::OutputStalled), 1);
    // Both pipes, the output and one read: a bound, not the whole flood.
    assert!(
        sent < 5_000,
        "{sent} pings taken from a peer that reads none"
    );
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.starts_with(&CONNACK_OK));
}

/// Reading slowly is no offence, however long it takes: one answer far above the limit, taken byte by byte.
#[tokio::test]
async fn a_peer_that_reads_slowly_is_waited_for() {
    let limits = Limits {
        output_bytes: 64,
        output_patience: Duration::from_secs(2),
        ..limits()
    };
    let mut hall = hall(limits);
    let (mut client, task) = hall.enter(16);
    client
        .write_all(&Connect::new("btn", "c").bytes())
        .await
        .unwrap();
    let mut connack = [0; 4];
    client.read_exact(&mut connack).await.unwrap();
    let mut subscribe = vec![0, 1];
    for _ in 0..200 {
        subscribe.extend([0, 1, b'a', 0]);
    }
    client.write_all(&packet(0x82, &subscribe)).await.unwrap();
    let Some(Work::Talk(talk)) = hall.intake.recv().await else {
        panic!("no subscription came")
    };
    talk.ack.committed();
    let mut suback = Vec::new();
    while suback.len() < 205 {
        tokio::time::sleep(Duration::from_millis(15)).await;
        suback.push(timeout(HANG, client.read_u8()).await.unwrap().unwrap());
    }
    assert!(suback[5..].iter().all(|code| *code == 0x80));
    client.write_all(&DISCONNECT).await.unwrap();
    timeout(HANG, task).await.unwrap().unwrap();
    assert_eq!(hall.counters.closed(CloseReason::Disconnect), 1);
}

/// Closing with unread input resets a TCP connection, and some stacks then throw away the answer unread.
#[tokio::test]
async fn a_refused_client_is_read_from_until_it_closes() {
    let hall = hall(limits());
    let (mut client, task) = hall.enter(64);
    client
        .write_all(&Connect::new("nobody", "c").bytes())
        .await
        .unwrap();
    let mut answer = Vec::new();
    timeout(HANG, client.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer, [0x20, 2, 0, 4]);
    client.write_all(&[0; 1_000]).await.unwrap();
    drop(client);
    timeout(HANG, task).await.unwrap().unwrap();
    assert_eq!(hall.counters.closed(CloseReason::Refused), 1);
}

/// Reads what it is given, then panics as a defect of ours would.
struct Defect(std::io::Cursor<Vec<u8>>);

impl AsyncRead for Defect {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let read = Pin::new(&mut self.0).poll_read(context, buffer);
        assert!(!buffer.filled().is_empty(), "a defect, planted");
        read
    }
}

#[tokio::test]
async fn a_panic_in_one_connection_is_cleaned_up_and_counted_and_its_will_is_published() {
    let mut hall = hall(limits());
    let connect = Connect::new("btn", "c").will("btn/state", "gone", 1);
    for (bytes, sessions) in [
        (connect.bytes(), true),
        (connect.bytes()[..7].to_vec(), false),
    ] {
        let admitted = hall.door.admit("10.0.0.1".parse().unwrap()).unwrap();
        let reader = Defect(std::io::Cursor::new(bytes));
        let task = attend(
            reader,
            tokio::io::sink(),
            Visit::new(admitted, Arc::clone(&hall.house)),
        );
        tokio::spawn(task).await.unwrap();
        assert_eq!(hall.intake.try_recv().is_ok(), sessions, "the will");
    }
    assert_eq!(hall.counters.closed(CloseReason::Panicked), 2);
    assert_eq!(count(&hall.counters.open), 0);
    assert_eq!(count(&hall.counters.sessions), 0);
}
