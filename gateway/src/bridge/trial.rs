//! A broker for tests that does what a test says, byte by byte, and a bridge to it.

use std::net::SocketAddr;
use std::time::Duration;

use ambient::Entropy;
use domain::backoff::Backoff;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Board, Driver, Pace, Settings, board};
use crate::broker::Work;
use crate::site::Tell;
use crate::testing::{Scratch, box_clock};

/// A wait that takes this long has failed. No test waits for it when all is well.
pub const HANG: Duration = Duration::from_secs(20);
/// Tries follow each other at once.
pub const EAGER: Pace = Pace {
    rest: Backoff {
        first: Duration::from_millis(1),
        longest: Duration::from_millis(1),
    },
    silent_after: Duration::from_secs(3600),
};

/// The broker's door.
pub struct House(TcpListener);

/// A line to it, and the CONNECT that opened it.
pub struct Guest(TcpStream, pub Vec<u8>);

/// A bridge at work.
pub struct Bridge {
    pub board: Board,
    pub stop: watch::Sender<bool>,
    pub tells: broadcast::Sender<Tell>,
    task: JoinHandle<()>,
}

pub fn settings(address: SocketAddr, topics: &[&str]) -> Settings {
    let table = format!("name = \"house\"\naddress = \"{address}\"\ntopics = {topics:?}");
    Settings::read(toml::from_str(&table).unwrap()).unwrap()
}

impl Bridge {
    pub fn start(
        scratch: &Scratch,
        settings: Settings,
        pace: Pace,
        work: mpsc::Sender<Work>,
    ) -> Self {
        let (board, mut seats) = board(std::slice::from_ref(&settings), Duration::ZERO);
        let tells = broadcast::Sender::new(super::TELLS);
        let driver = Driver {
            password: settings.password().unwrap(),
            settings,
            client_id: "antuo-test".into(),
            marker: scratch.path().join("bridge-house.session"),
            seat: seats.remove(0),
            work,
            tells: tells.clone(),
            clock: box_clock(),
            entropy: Entropy::seeded(1),
            pace,
        };
        let (stop, stopped) = watch::channel(false);
        Self {
            board,
            stop,
            tells,
            task: tokio::spawn(driver.run(stopped)),
        }
    }

    /// Ends it; what is still read from the line is left to the test.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        timeout(HANG, self.task).await.expect("goes on").unwrap();
    }
}

impl House {
    pub async fn open() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Takes the next line and its log-in.
    pub async fn log_in(&self, session_present: bool) -> Guest {
        let (stream, _) = timeout(HANG, self.0.accept())
            .await
            .expect("nobody")
            .unwrap();
        let mut guest = Guest(stream, Vec::new());
        let (first, body) = guest.read().await.expect("CONNECT");
        assert_eq!((first, &body[..7]), (0x10, &b"\0\x04MQTT\x04"[..]));
        assert_eq!(body[7] & 2, 0, "the session is to be kept");
        guest.write(&[0x20, 2, u8::from(session_present), 0]).await;
        guest.1 = body;
        guest
    }

    /// The same, and grants its subscription.
    pub async fn welcome(&self, session_present: bool) -> Guest {
        let mut guest = self.log_in(session_present).await;
        guest.answer_subscribe(&[1]).await;
        guest
    }
}

impl Guest {
    pub async fn answer_subscribe(&mut self, codes: &[u8]) {
        let (first, body) = self.read().await.expect("SUBSCRIBE");
        assert_eq!(first, 0x82);
        let length = u8::try_from(codes.len() + 2).unwrap();
        let packet = [&[0x90, length, body[0], body[1]], codes].concat();
        self.write(&packet).await;
    }

    /// Publishes; `flags` = DUP 8, QoS 2 or 0 (as 2 * QoS), RETAIN 1.
    pub async fn publish(&mut self, flags: u8, id: u16, topic: &str, payload: &[u8]) {
        let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
        body.extend_from_slice(topic.as_bytes());
        if flags & 6 != 0 {
            body.extend_from_slice(&id.to_be_bytes());
        }
        body.extend_from_slice(payload);
        let mut packet = vec![0x30 | flags];
        let mut left = body.len();
        loop {
            let byte = u8::try_from(left % 128).unwrap();
            left /= 128;
            packet.push(byte | if left > 0 { 128 } else { 0 });
            if left == 0 {
                break;
            }
        }
        packet.extend_from_slice(&body);
        self.write(&packet).await;
    }

    /// The packet id of the next acknowledgement; none when the line ends.
    pub async fn ack(&mut self) -> Option<u16> {
        let (first, body) = self.read().await?;
        assert_eq!((first, body.len()), (0x40, 2));
        Some(u16::from_be_bytes([body[0], body[1]]))
    }

    /// The next packet that is no ping; none when the line ends.
    pub async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let packet = timeout(HANG, self.read_any()).await.expect("silence")?;
            if packet.0 != 0xC0 {
                return Some(packet);
            }
            self.write(&[0xD0, 0]).await;
        }
    }

    async fn read_any(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.0.read_u8().await.ok()?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.0.read_u8().await.ok()?;
            length |= usize::from(byte & 127) << shift;
            shift += 7;
            if byte < 128 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.ok()?;
        Some((first, body))
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }
}
