//! One line to a broker, from log-in to loss.
//!
//! A client is made anew for each line: an acknowledgement of a former line must never reach the next one,
//! where that packet id may stand for another message. Three loops run side by side and none waits for the
//! others. One reads: it waits for the line and, when the window is full, for the intake. One acknowledges:
//! its requests go into a channel with room for every packet id there is, so it never waits for the line. One
//! tells devices what is asked of them.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish as Packet3, QoS, SubAck,
    SubscribeFilter,
};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};

use super::translate::{heard, is_deaf, refused};
use super::{Driver, Line, PACKET_BYTES_MAX, SHUTDOWN_GRACE, WINDOW};
use crate::broker::{Ack, Publish, Settled, TopicFilter, Window, Work};
use crate::site::Tell;

/// Requests to the client that wait for the line: an acknowledgement for each of the 65,535 packet ids a
/// broker can have under way, and a few more. The channel takes memory only as it fills.
const REQUESTS: usize = 65_535 + 16;
/// Bytes of one packet of ours: a SUBSCRIBE of all filters fits.
const SENT_BYTES: usize = 64 * 1024;
/// How often the line is tried when nothing is said. Unanswered once: the line is lost.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Time for DISCONNECT to leave.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a line ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It broke or was refused.
    Lost(Arc<str>),
    /// A message was not committed: it must come again.
    NotStored,
    /// Nobody takes messages any more.
    IntakeGone,
    /// The box stops.
    Stopped,
}

/// What the loops share.
struct Talk<'d> {
    driver: &'d Driver,
    client: AsyncClient,
    username: Arc<str>,
    window: Mutex<Window<Packet3>>,
    places: Semaphore,
    is_up: AtomicBool,
    is_closing: AtomicBool,
}

/// Holds one line until it ends.
pub(super) async fn converse(driver: &Driver, stop: watch::Receiver<bool>) -> Ended {
    let (client, events) = AsyncClient::new(options(driver), REQUESTS);
    let talk = Talk {
        driver,
        client,
        username: format!("bridge:{}", driver.settings.name).into(),
        window: Mutex::default(),
        places: Semaphore::new(WINDOW as usize),
        is_up: AtomicBool::new(false),
        is_closing: AtomicBool::new(false),
    };
    let (settled_in, settled) = mpsc::unbounded_channel();
    let ended = tokio::select! {
        ended = talk.listen(events, settled_in) => ended,
        ended = talk.acknowledge(settled) => ended,
        ended = talk.speak() => ended,
        () = talk.finish(stop) => Ended::Stopped,
    };
    driver.seat.counters.uncommitted.set(0);
    ended
}

fn options(driver: &Driver) -> MqttOptions {
    let address = &driver.settings.address;
    let mut options = MqttOptions::new(&driver.client_id, &address.host, address.port);
    options.set_clean_session(false);
    options.set_manual_acks(true);
    options.set_keep_alive(KEEP_ALIVE);
    options.set_max_packet_size(PACKET_BYTES_MAX, SENT_BYTES);
    if let (Some(log_in), Some(password)) = (&driver.settings.log_in, &driver.password) {
        options.set_credentials(&log_in.username, password.as_str());
    }
    options
}

impl Talk<'_> {
    /// Reads the line. Never cancelled but at its end, so nothing is half read or half written.
    async fn listen(
        &self,
        mut events: EventLoop,
        settled: mpsc::UnboundedSender<Settled>,
    ) -> Ended {
        events.network_options.set_tcp_nodelay(true);
        loop {
            let event = match events.poll().await {
                Ok(event) => event,
                Err(error) => return Ended::Lost(crate::chain(&error).into()),
            };
            let ended = match event {
                Event::Incoming(Packet::ConnAck(ack)) => self.logged_in(ack.session_present),
                Event::Incoming(Packet::SubAck(ack)) => self.subscribed(&ack),
                Event::Incoming(Packet::Publish(publish)) => self.take(publish, &settled).await,
                Event::Outgoing(rumqttc::Outgoing::Disconnect) => Some(Ended::Stopped),
                Event::Incoming(_) | Event::Outgoing(_) => None,
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    /// A session that was there and is no more: what that broker held for the box is gone.
    fn logged_in(&self, session_present: bool) -> Option<Ended> {
        let driver = self.driver;
        let forgot = !session_present && driver.had_session();
        driver.seat.counters.connects.add(1);
        if forgot {
            driver.seat.counters.forgotten.add(1);
            let name = &driver.settings.name;
            tracing::error!(bridge = %name, "that broker forgot the box: messages may be lost");
        }
        driver
            .seat
            .change(|standing| standing.forgot = Some(forgot));
        let filters = driver.settings.topics.iter();
        let filters = filters.map(|f| SubscribeFilter::new(f.to_string(), QoS::AtLeastOnce));
        match self.client.try_subscribe_many(filters) {
            Ok(()) => None,
            Err(error) => Some(Ended::Lost(crate::chain(&error).into())),
        }
    }

    fn subscribed(&self, ack: &SubAck) -> Option<Ended> {
        let driver = self.driver;
        let refused = refused(&driver.settings.topics, &ack.return_codes);
        let name = &driver.settings.name;
        if !refused.is_empty() {
            tracing::error!(bridge = %name, ?refused, "that broker does not grant these topics");
        }
        let is_deaf = is_deaf(&ack.return_codes);
        self.is_up.store(!is_deaf, Ordering::Relaxed);
        let now = driver.clock.now().monotonic;
        driver.seat.change(|standing| {
            standing.refused = refused;
            if !is_deaf {
                standing.line = Line::Up { since: now };
            }
        });
        if is_deaf {
            return Some(Ended::Lost("that broker grants none of the topics".into()));
        }
        driver.remember_session();
        tracing::info!(bridge = %name, "hears a broker");
        None
    }

    /// Hands a message on. While the box stops it is left for the next line.
    async fn take(
        &self,
        publish: Packet3,
        settled: &mpsc::UnboundedSender<Settled>,
    ) -> Option<Ended> {
        if self.is_closing.load(Ordering::Relaxed) {
            return None;
        }
        let counters = &self.driver.seat.counters;
        counters.messages.add(1);
        counters.qos0.add(u64::from(publish.qos == QoS::AtMostOnce));
        // Whoever answers as that broker speaks for what was asked of it, and for nothing else.
        let is_asked = |filter: &TopicFilter| filter.matches(&publish.topic);
        let asked = self.driver.settings.topics.iter().any(is_asked);
        let heard = heard(&publish).filter(|_| asked);
        match self.places.acquire().await {
            Ok(place) => place.forget(),
            Err(_) => return Some(Ended::IntakeGone),
        }
        let ticket = {
            let mut window = self.window();
            let ticket = window.open(receipt(&publish));
            counters.uncommitted.set(window.len() as u64);
            ticket
        };
        let Some(heard) = heard else {
            counters.unusable.add(1);
            return self.settle(&Settled {
                ticket,
                committed: true,
            });
        };
        counters.cut.add(u64::from(heard.cut));
        let work = Work::Publish(Box::new(Publish {
            username: Arc::clone(&self.username),
            reserved: true,
            message: heard.message,
            dup: publish.dup,
            origin: heard.origin,
            ack: Ack::routed(settled.clone(), ticket),
            route: None,
        }));
        match self.driver.work.send(work).await {
            Ok(()) => None,
            Err(_) => Some(Ended::IntakeGone),
        }
    }

    /// Acknowledges what is on disk, in the order in which it came.
    async fn acknowledge(&self, mut settled: mpsc::UnboundedReceiver<Settled>) -> Ended {
        while let Some(one) = settled.recv().await {
            if let Some(ended) = self.settle(&one) {
                return ended;
            }
        }
        Ended::IntakeGone
    }

    fn settle(&self, settled: &Settled) -> Option<Ended> {
        let counters = &self.driver.seat.counters;
        if !settled.committed {
            counters.not_stored.add(1);
            return Some(Ended::NotStored);
        }
        let mut window = self.window();
        window.settle(settled.ticket);
        while let Some(receipt) = window.next() {
            self.places.add_permits(1);
            if let Err(error) = self.client.try_ack(&receipt) {
                return Some(Ended::Lost(crate::chain(&error).into()));
            }
            counters
                .acknowledged
                .add(u64::from(receipt.qos != QoS::AtMostOnce));
        }
        counters.uncommitted.set(window.len() as u64);
        None
    }

    /// Tells devices behind that broker what is asked of them, while the line is up.
    async fn speak(&self) -> Ended {
        let mut tells = self.driver.tells.subscribe();
        loop {
            let tell = match tells.recv().await {
                Ok(tell) => tell,
                Err(RecvError::Lagged(missed)) => {
                    tracing::error!(missed, "devices were told more than a bridge could carry");
                    continue;
                }
                // Nobody tells anything any more; the line goes on.
                Err(RecvError::Closed) => pending().await,
            };
            let is_there =
                |filter: &TopicFilter| filter.matches(&tell.topic) || filter.matches(&tell.address);
            if !self.is_up.load(Ordering::Relaxed)
                || !self.driver.settings.topics.iter().any(is_there)
            {
                continue;
            }
            let Tell { topic, payload, .. } = tell;
            let said = self
                .client
                .try_publish(topic, QoS::AtLeastOnce, false, payload);
            if let Err(error) = said {
                return Ended::Lost(crate::chain(&error).into());
            }
        }
    }

    /// Once told to stop: lets what was read be committed and acknowledged, then says goodbye.
    async fn finish(&self, mut stop: watch::Receiver<bool>) {
        // An error means that whoever could say stop is gone.
        let _ = stop.wait_for(|stop| *stop).await;
        if !self.is_up.load(Ordering::Relaxed) {
            return;
        }
        self.is_closing.store(true, Ordering::Relaxed);
        let all = timeout(SHUTDOWN_GRACE, self.places.acquire_many(WINDOW)).await;
        drop(all);
        if self.client.try_disconnect().is_ok() {
            // The reading loop ends when it has left.
            sleep(FAREWELL).await;
        }
    }

    fn window(&self) -> MutexGuard<'_, Window<Packet3>> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is left of a message once it is handed on: enough to acknowledge it.
fn receipt(publish: &Packet3) -> Packet3 {
    let mut receipt = Packet3::new("", publish.qos, "");
    receipt.pkid = publish.pkid;
    receipt
}
