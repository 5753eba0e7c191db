//! One device's connection to its box, over `rumqttc`: keeps it up, hands messages over, notes PUBACKs in the ledger.
//!
//! Each attempt gets a client of its own and the client's queue is never relied upon (`window`). The task that polls
//! awaits nothing but the poll and the order to cut the line, after which that client is thrown away.

use crate::addresses::Broker;
use crate::clock::Clock;
use crate::device::Sending;
use crate::ledger::DeviceLedger;
use crate::town::MqttCredential;
use crate::window::{IN_FLIGHT, Window};
use rumqttc::{AsyncClient, Event, EventLoop, LastWill, MqttOptions, Outgoing, Packet, QoS};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Room in the client's request queue: our window and a disconnect. It is never full.
const CLIENT_QUEUE: usize = IN_FLIGHT + 4;

/// Largest packet either way. A larger one ends the connection in the client library.
const MAX_PACKET: usize = 256 * 1024;

/// A line that answers no ping this long is given up.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Longest wait for a connection, in seconds.
const CONNECT_TIMEOUT_S: u64 = 2;

/// First and longest pause between attempts; it doubles in between.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Longest wait for a clean goodbye before the task is dropped.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a bridge leaves with the broker and says on each connection.
#[derive(Debug, Clone)]
pub struct Bridge {
    /// Said first on each connection, retained.
    pub online: Sending,
    /// Payload of the last will on the same topic.
    pub will: &'static str,
}

/// A running connection. Ends with [`Publisher::stop`].
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    broker: Broker,
    credential: MqttCredential,
    bridge: Option<Bridge>,
    ledger: DeviceLedger,
    clock: Clock,
    air: Mutex<Air>,
    cut: Notify,
    stopping: AtomicBool,
    connected: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Air {
    window: Window,
    /// There from CONNACK until the connection ends.
    client: Option<AsyncClient>,
}

impl Publisher {
    /// Starts to connect, for ever.
    pub fn start(
        broker: Broker,
        credential: MqttCredential,
        bridge: Option<Bridge>,
        ledger: DeviceLedger,
        clock: Clock,
    ) -> Publisher {
        let shared = Arc::new(Shared {
            broker,
            credential,
            bridge,
            ledger,
            clock,
            air: Mutex::new(Air::default()),
            cut: Notify::new(),
            stopping: AtomicBool::new(false),
            connected: watch::Sender::new(false),
            waiting: watch::Sender::new(0),
        });
        let task = tokio::spawn(keep_up(Arc::clone(&shared)));
        Publisher { shared, task }
    }

    /// Takes a message over. At QoS 1 it is sent until its PUBACK; at QoS 0 it is dropped when there is no connection,
    /// as a bridge does.
    pub fn publish(&self, sending: Sending) {
        let mut air = self.shared.air();
        if sending.sent.qos > 0 || air.client.is_some() {
            air.window.push(Arc::new(sending));
            self.shared.top_up(&mut air);
        }
    }

    /// Drops the line without a goodbye, if it is up. It comes back by itself.
    pub fn cut(&self) {
        self.shared.cut.notify_waiters();
    }

    /// Waits until the box has taken the log-in.
    pub async fn until_connected(&self) {
        let mut connected = self.shared.connected.subscribe();
        let _sender_lives = connected.wait_for(|connected| *connected).await;
    }

    /// Waits until nothing waits for a PUBACK.
    pub async fn until_idle(&self) {
        let mut waiting = self.shared.waiting.subscribe();
        let _sender_lives = waiting.wait_for(|waiting| *waiting == 0).await;
    }

    /// True while the box has taken the log-in.
    pub fn connected(&self) -> bool {
        *self.shared.connected.borrow()
    }

    /// Messages without PUBACK.
    pub fn waiting(&self) -> usize {
        *self.shared.waiting.borrow()
    }

    /// Says goodbye and ends.
    pub async fn stop(mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let client = self.shared.air().client.clone();
        match client {
            Some(client) if client.try_disconnect().is_ok() => {
                if tokio::time::timeout(GOODBYE, &mut self.task).await.is_err() {
                    self.task.abort();
                }
            }
            Some(_) | None => self.task.abort(),
        }
    }
}

async fn keep_up(shared: Arc<Shared>) {
    let mut pause = PAUSE.0;
    while !shared.stopping.load(Ordering::Relaxed) {
        if let Some((host, port)) = shared.broker.address() {
            let (client, events) = shared.client(&host, port);
            tokio::select! {
                () = converse(&shared, client, events) => {}
                () = shared.cut.notified() => {}
            }
            pause = if shared.ended() {
                PAUSE.0
            } else {
                (pause * 2).min(PAUSE.1)
            };
        }
        if !shared.stopping.load(Ordering::Relaxed) {
            tokio::time::sleep(pause).await;
        }
    }
}

/// One connection from start to end.
async fn converse(shared: &Shared, client: AsyncClient, mut events: EventLoop) {
    loop {
        match events.poll().await {
            // We have said goodbye; whether the box hangs up as well does not matter.
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(event) => shared.on(event, &client),
            Err(error) => {
                tracing::debug!(user = shared.credential.username, %error, "connection ended");
                return;
            }
        }
    }
}

impl Shared {
    fn air(&self) -> std::sync::MutexGuard<'_, Air> {
        self.air.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self, host: &str, port: u16) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new(&self.credential.username, host, port);
        options.set_credentials(&self.credential.username, &self.credential.secret);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_max_packet_size(MAX_PACKET, MAX_PACKET);
        if let Some(bridge) = &self.bridge {
            options.set_last_will(LastWill::new(
                &bridge.online.topic,
                bridge.will,
                QoS::AtLeastOnce,
                true,
            ));
        }
        let (client, mut events) = AsyncClient::new(options, CLIENT_QUEUE);
        events.network_options.set_tcp_nodelay(true);
        events
            .network_options
            .set_connection_timeout(CONNECT_TIMEOUT_S);
        (client, events)
    }

    fn on(&self, event: Event, client: &AsyncClient) {
        let mut air = self.air();
        match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                air.client = Some(client.clone());
                self.connected.send_replace(true);
                if let Some(bridge) = &self.bridge {
                    air.window.push(Arc::new(bridge.online.clone()));
                }
            }
            Event::Outgoing(Outgoing::Publish(packet)) => air.window.written(packet),
            Event::Incoming(Packet::PubAck(ack)) => {
                if let Some(sending) = air.window.acknowledged(ack.pkid) {
                    self.ledger.puback(&sending.sent.id, self.clock.now());
                }
            }
            Event::Incoming(_) | Event::Outgoing(_) => {}
        }
        self.top_up(&mut air);
    }

    /// Hands over what the window has room for.
    fn top_up(&self, air: &mut Air) {
        while let Some(client) = &air.client
            && let Some(sending) = air.window.hand()
        {
            let mut sent = sending.sent.clone();
            sent.at = self.clock.now();
            let qos = if sent.qos == 0 {
                QoS::AtMostOnce
            } else {
                QoS::AtLeastOnce
            };
            self.ledger.handed(sent);
            if let Err(error) =
                client.try_publish(&sending.topic, qos, sending.retain, sending.payload.clone())
            {
                // The connection is over and will say so; `lost` brings the message back.
                tracing::debug!(user = self.credential.username, %error, "not handed over");
                air.client = None;
            }
        }
        self.waiting.send_replace(air.window.len());
    }

    /// Puts back what was in the air; true when the box had taken the log-in.
    fn ended(&self) -> bool {
        let mut air = self.air();
        air.window.lost();
        air.client = None;
        self.waiting.send_replace(air.window.len());
        self.connected.send_replace(false)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::books::Books;
    use crate::clock::Micros;
    use crate::device;
    use crate::ledger::tests::Scratch;
    use crate::site::tests::town_and_site;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// Reads one MQTT packet shorter than 16 KiB: first byte and body.
    async fn packet(socket: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
        let first = socket.read_u8().await.ok()?;
        let mut length = usize::from(socket.read_u8().await.ok()?);
        if length >= 128 {
            length = length - 128 + 128 * usize::from(socket.read_u8().await.ok()?);
        }
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await.ok()?;
        Some((first, body))
    }

    /// Takes a log-in.
    async fn accept(listener: &TcpListener) -> TcpStream {
        let (mut socket, _) = listener.accept().await.unwrap();
        assert_eq!(packet(&mut socket).await.unwrap().0, 0x10, "CONNECT");
        socket.write_all(&[0x20, 2, 0, 0]).await.unwrap();
        socket
    }

    /// The next QoS 1 publish: packet id and vendor id.
    async fn publish(socket: &mut TcpStream) -> (u16, String) {
        let (first, body) = packet(socket).await.unwrap();
        assert_eq!(first & 0xF6, 0x32, "PUBLISH at QoS 1");
        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let id = u16::from_be_bytes([body[2 + topic], body[3 + topic]]);
        let payload: serde_json::Value = serde_json::from_slice(&body[4 + topic..]).unwrap();
        (id, payload["id"].as_str().unwrap().to_owned())
    }

    async fn puback(socket: &mut TcpStream, id: u16) {
        socket
            .write_all(&[&[0x40, 2], id.to_be_bytes().as_slice()].concat())
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn after_a_lost_line_what_has_no_puback_comes_again_with_the_same_id() {
        let (town, site) = town_and_site();
        let (scratch, clock) = (Scratch::new("publisher"), Clock::start());
        let path = scratch.0.join("devices.jsonl");
        let ledger = DeviceLedger::open(&path, "r").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let broker = Broker::At(listener.local_addr().unwrap());
        let credential = town.centres[0].mqtt_credentials[0].clone();
        let publisher = Publisher::start(broker, credential, None, ledger.clone(), clock);
        let press = |id: &str| {
            publisher.publish(device::press(
                &site,
                &site.buttons[0],
                id.to_owned(),
                Micros(1),
            ))
        };

        press("queued before the line is up");
        let mut socket = accept(&listener).await;
        press("b");
        press("c");
        let (first, id) = publish(&mut socket).await;
        assert_eq!(id, "queued before the line is up");
        let (second, _) = publish(&mut socket).await;
        assert_ne!(first, second);
        publish(&mut socket).await;
        puback(&mut socket, second).await;
        publisher.until_connected().await;
        while !ledger.is_done("b") {
            tokio::task::yield_now().await;
        }
        drop(socket);

        let mut socket = accept(&listener).await;
        let mut again = Vec::new();
        for _ in 0..2 {
            let (packet, id) = publish(&mut socket).await;
            again.push(id);
            puback(&mut socket, packet).await;
        }
        publisher.until_idle().await;
        assert_eq!(again, ["queued before the line is up", "c"]);

        publisher.cut();
        press("d");
        let mut socket = accept(&listener).await;
        let (packet, id) = publish(&mut socket).await;
        assert_eq!(id, "d");
        puback(&mut socket, packet).await;
        publisher.until_idle().await;
        publisher.stop().await;

        let books = Books::read(&[path]).unwrap();
        let copies: Vec<u32> = books.entries.iter().map(|entry| entry.copies).collect();
        assert_eq!(
            (books.entries.len(), copies[..3].to_vec()),
            (4, vec![2, 1, 2])
        );
        assert!(books.entries.iter().all(|entry| entry.puback_at.is_some()));
    }
}
