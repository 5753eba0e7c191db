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
