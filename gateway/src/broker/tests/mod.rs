//! The broker through real sockets. Here: the bench and a client that speaks raw bytes.

mod acks;
mod clients;
pub(super) mod corpus;
mod doors;
mod fuzz;
mod hostile;
mod limits;
mod listening;
mod login;
mod onward;
mod stranger;
mod takeover;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ring::digest;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::hub::Qos;

/// A wait that takes this long has failed. No test waits for it when all is well.
pub(super) const HANG: Duration = Duration::from_secs(20);

pub(super) const CONNACK_OK: [u8; 4] = [0x20, 2, 0, 0];
pub(super) const PINGREQ: [u8; 2] = [0xC0, 0];
pub(super) const PINGRESP: [u8; 2] = [0xD0, 0];
pub(super) const DISCONNECT: [u8; 2] = [0xE0, 0];

pub(super) fn puback(id: u8) -> [u8; 4] {
    [0x40, 2, 0, id]
}

/// Seeded numbers (splitmix64), so that a failing run can be run again.
pub(super) struct Seeded(pub(super) u64);

impl Seeded {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

pub(super) fn credential(
    username: &str,
    secret: &str,
    reserved: bool,
    publish: &[&str],
) -> Credential {
    Credential {
        username: username.to_owned(),
        secret_sha256: digest::digest(&digest::SHA256, secret.as_bytes())
            .as_ref()
            .try_into()
            .unwrap(),
        reserved,
        publish: publish
            .iter()
            .map(|filter| TopicFilter::parse(filter).unwrap())
            .collect(),
        never: Arc::default(),
    }
}

/// `btn` (life safety, `btn/#`), `door` (`door/#`), and `z2m` (life safety, `z2m/#`); secret = user name.
pub(super) fn town() -> Access {
    [
        credential("btn", "btn", true, &["btn/#"]),
        credential("door", "door", false, &["door/#"]),
        credential("z2m", "z2m", true, &["z2m/#"]),
    ]
    .into_iter()
    .collect()
}

/// A broker's memory of nobody.
pub(super) fn memory(kept: hub::Limits) -> Memory {
    Memory {
        outlet: Outlet::new(Hub::new(kept), Clock::system()),
        run: "test".to_owned(),
    }
}

/// A broker at work on free loopback ports, one of each kind.
pub(super) struct Bench {
    pub(super) doors: Doors,
    /// Plain TCP.
    pub(super) address: SocketAddr,
    pub(super) access: watch::Sender<Arc<Access>>,
    pub(super) intake: mpsc::Receiver<Work>,
    pub(super) notices: mpsc::Receiver<Notice>,
    pub(super) counters: Arc<Counters>,
    pub(super) shutdown: watch::Sender<bool>,
    pub(super) served: JoinHandle<()>,
}

impl Bench {
    pub(super) async fn start(limits: Limits) -> Self {
        Self::with_intake(limits, 64).await
    }

    pub(super) async fn with_intake(limits: Limits, room: usize) -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        let settings = Settings {
            doors: Doors {
                tcp: vec![any],
                tls: vec![any],
                websocket: vec![any],
                websocket_tls: vec![any],
            },
            tls: Some(stranger::server()),
            limits,
        };
        let bound = bind(settings).await.unwrap();
        let doors = bound.addresses().clone();
        let (access, access_seen) = watch::channel(Arc::new(town()));
        let (publishes, intake) = mpsc::channel(room);
        let (notices_to, notices) = mpsc::channel(4096);
        let (shutdown, stop) = watch::channel(false);
        let counters = Arc::new(Counters::default());
        let counted = Arc::clone(&counters);
        let served = tokio::spawn(serve(
            bound,
            access_seen,
            publishes,
            memory(limits.kept),
            notices_to,
            counted,
            stop,
        ));
        Self {
            address: doors.tcp[0],
            doors,
            access,
            intake,
            notices,
            counters,
            shutdown,
            served,
        }
    }

    /// The next publish at the intake. Rows that come before it are committed.
    pub(super) async fn publish(&mut self) -> Publish {
        loop {
            let next = timeout(HANG, self.intake.recv()).await;
            match next.expect("no publish came").expect("the broker is gone") {
                Work::Publish(publish) => return *publish,
                Work::Talk(talk) => talk.ack.committed(),
            }
        }
    }

    /// Commits whatever comes, as a healthy box does.
    pub(super) fn commit_all(&mut self) -> JoinHandle<()> {
        let (_, none) = mpsc::channel(1);
        let mut intake = std::mem::replace(&mut self.intake, none);
        tokio::spawn(async move {
            while let Some(work) = intake.recv().await {
                match work {
                    Work::Publish(publish) => {
                        publish.plan().deliver();
                        publish.ack.committed();
                    }
                    Work::Talk(talk) => talk.ack.committed(),
                }
            }
        })
    }

    pub(super) async fn notice(&mut self) -> Notice {
        let next = timeout(HANG, self.notices.recv()).await;
        next.expect("no notice came").expect("the broker is gone")
    }

    /// Waits until so many connections ended for this reason.
    pub(super) async fn closed(&self, reason: CloseReason, times: u64) {
        let seen = || self.counters.closed(reason) == times;
        until(&format!("{times} x {reason:?}"), seen).await;
    }

    pub(super) async fn open_sockets(&self, expected: u64) {
        until("sockets to close", || {
            count(&self.counters.open) == expected
        })
        .await;
    }

    pub(super) fn refused(&self, why: Refusal) -> u64 {
        self.counters.refused(why)
    }

    /// Nothing waits at the intake.
    pub(super) fn assert_quiet(&mut self) {
        assert!(self.intake.try_recv().is_err(), "an unexpected publish");
    }
}

pub(super) fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Waits for a state that no event announces.
pub(super) async fn until(what: &str, reached: impl Fn() -> bool) {
    let wait = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(timeout(HANG, wait).await.is_ok(), "waited in vain: {what}");
}

/// A client of raw bytes.
pub(super) struct Raw<S = TcpStream>(pub(super) S);

impl Raw {
    pub(super) async fn open(bench: &Bench) -> Self {
        Self(TcpStream::connect(bench.address).await.unwrap())
    }

    /// Logged in with a clean session, secret = user name, keep-alive off.
    pub(super) async fn log_in(bench: &Bench, username: &str, client_id: &str) -> Self {
        Self::log_in_with(bench, Connect::new(username, client_id)).await
    }

    pub(super) async fn log_in_with(bench: &Bench, connect: Connect) -> Self {
        let mut raw = Self::open(bench).await;
        raw.send(&connect.bytes()).await;
        raw.expect(&CONNACK_OK).await;
        raw
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// The next bytes are exactly these.
    pub(super) async fn expect(&mut self, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        let read = timeout(HANG, self.0.read_exact(&mut got)).await;
        read.expect("no answer came").expect("connection closed");
        assert_eq!(got, bytes);
    }

    /// Closed by the broker with nothing more to read.
    pub(super) async fn expect_close(&mut self) {
        let mut rest = Vec::new();
        let read = timeout(HANG, self.0.read_to_end(&mut rest)).await;
        let read = read.expect("the connection stays open");
        // A reset is a close too: the broker may leave input of ours unread.
        if read.is_ok() {
            assert!(rest.is_empty(), "unexpected bytes {rest:02X?}");
        }
    }

    /// All that still comes until the broker closes.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let read = timeout(HANG, self.0.read_to_end(&mut rest)).await;
        // A reset is a close too.
        let _ = read.expect("the connection stays open");
        rest
    }

    /// The broker has dealt with everything sent so far, and has nothing else to say.
    pub(super) async fn ping(&mut self) {
        self.send(&PINGREQ).await;
        self.expect(&PINGRESP).await;
    }
}

/// A CONNECT in the making.
pub(super) struct Connect {
    pub(super) username: Option<String>,
    pub(super) secret: Option<String>,
    pub(super) client_id: String,
    pub(super) clean: bool,
    pub(super) keep_alive: u16,
    /// Topic, payload, QoS.
    pub(super) will: Option<(String, String, u8)>,
}

impl Connect {
    pub(super) fn new(username: &str, client_id: &str) -> Self {
        Self {
            username: Some(username.to_owned()),
            secret: Some(username.to_owned()),
            client_id: client_id.to_owned(),
            clean: true,
            keep_alive: 0,
            will: None,
        }
    }

    pub(super) fn will(mut self, topic: &str, payload: &str, qos: u8) -> Self {
        self.will = Some((topic.to_owned(), payload.to_owned(), qos));
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        let mut fields = text(&self.client_id);
        if let Some((topic, payload, qos)) = &self.will {
            flags |= 0b100 | (qos << 3);
            fields.extend(text(topic));
            fields.extend(text(payload));
        }
        if let Some(username) = &self.username {
            flags |= 0x80;
            fields.extend(text(username));
        }
        if let Some(secret) = &self.secret {
            flags |= 0x40;
            fields.extend(text(secret));
        }
        let mut body = text("MQTT");
        body.extend([4, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        body.extend(fields);
        packet(0x10, &body)
    }
}

pub(super) fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// A frame with its remaining length.
pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut left = body.len();
    loop {
        let more = left > 0x7F;
        bytes.push((left & 0x7F) as u8 | (u8::from(more) << 7));
        left >>= 7;
        if !more {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// QoS 1.
pub(super) fn publish(topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic);
    body.extend(id.to_be_bytes());
    body.extend(payload);
    packet(0x32, &body)
}

pub(super) fn publish_qos0(topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic);
    body.extend(payload);
    packet(0x30, &body)
}
