//! What the broker tells about itself: counters for `/metrics` and notices for supervision.
//!
//! Never blocks a connection, and never carries a topic, a payload or what a stranger typed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::hub::{Hub, Qos};

/// Why a connection, or one publish, is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many sockets from this address. Closed without an answer.
    AddressFull,
    /// No TLS handshake on a TLS listener, or the client does not take our certificate. Closed with an alert.
    Tls,
    /// No upgrade to the subprotocol `mqtt` at [`WEBSOCKET_PATH`](super::WEBSOCKET_PATH). Answered 400 or 404 if
    /// it was an upgrade at all, and closed.
    WebSocket,
    /// A protocol level other than 4 (3.1.1) and 5. CONNACK 1 or 0x84.
    ProtocolVersion,
    /// An authentication method of MQTT 5, of which we have none. CONNACK 0x8C.
    Authentication,
    /// No user name, or one we do not know. CONNACK 4 or 0x86.
    UnknownUser,
    /// Wrong or missing secret. CONNACK 4 or 0x86.
    WrongSecret,
    /// Empty client id without a clean session (MQTT-3.1.3-8), or a longer one than
    /// [`CLIENT_ID_BYTES`](super::CLIENT_ID_BYTES). CONNACK 2 or 0x85.
    ClientId,
    /// The will lies outside the credential's topics. CONNACK 5 or 0x87.
    WillNotPermitted,
    /// No connection slot left for this kind of credential. CONNACK 3 or 0x88.
    Full,
    /// A filter outside the credential's topics, answered 0x80 or 0x87, or a publish outside the credential's topics: handed to nobody, acknowledged, connection kept.
    NotPermitted,
}

impl Refusal {
    /// Every refusal, in the order of the counters.
    pub const ALL: [Self; 11] = [
        Self::AddressFull,
        Self::Tls,
        Self::WebSocket,
        Self::ProtocolVersion,
        Self::Authentication,
        Self::UnknownUser,
        Self::WrongSecret,
        Self::ClientId,
        Self::WillNotPermitted,
        Self::Full,
        Self::NotPermitted,
    ];

    /// Name for a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AddressFull => "address_full",
            Self::Tls => "tls",
            Self::WebSocket => "websocket",
            Self::ProtocolVersion => "protocol_version",
            Self::Authentication => "authentication",
            Self::UnknownUser => "unknown_user",
            Self::WrongSecret => "wrong_secret",
            Self::ClientId => "client_id",
            Self::WillNotPermitted => "will_not_permitted",
            Self::Full => "full",
            Self::NotPermitted => "not_permitted",
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client sent DISCONNECT.
    Disconnect,
    /// The client closed without DISCONNECT.
    PeerClosed,
    /// Reading or writing the socket failed.
    Socket,
    /// Turned away, see [`Refusal`].
    Refused,
    /// No handshake and CONNECT within [`Limits::connect_deadline`](super::Limits::connect_deadline).
    ConnectTimeout,
    /// The oldest socket that had not logged in made room for a new one.
    Evicted,
    /// Nothing heard for one and a half keep-alive intervals (MQTT-3.1.2-24).
    KeepAlive,
    /// A newer connection with the same client id (MQTT-3.1.4-2), or too many of one credential.
    TakenOver,
    /// The credential was changed or withdrawn.
    CredentialChanged,
    /// Input that breaks the rules of TLS or WebSocket after the handshake, such as a text frame
    /// (MQTT-6.0.0-1).
    Framing,
    /// Input that breaks the standard.
    Protocol,
    /// A topic name that may not be published to: empty, wildcard, U+0000, too long, too deep.
    Topic,
    /// A packet, or a WebSocket message, above the size limit.
    Oversized,
    /// A publish was not committed: no PUBACK, so the device sends it again.
    CommitFailed,
    /// The peer does not read what we answer.
    OutputStalled,
    /// The intake is gone.
    IntakeClosed,
    /// A defect of ours in this connection's task.
    Panicked,
    /// The broker stops.
    Shutdown,
}

impl CloseReason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 18] = [
        Self::Disconnect,
        Self::PeerClosed,
        Self::Socket,
        Self::Refused,
        Self::ConnectTimeout,
        Self::Evicted,
        Self::KeepAlive,
        Self::TakenOver,
        Self::CredentialChanged,
        Self::Framing,
        Self::Protocol,
        Self::Topic,
        Self::Oversized,
        Self::CommitFailed,
        Self::OutputStalled,
        Self::IntakeClosed,
        Self::Panicked,
        Self::Shutdown,
    ];

    /// Name for a metric label and a log line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::PeerClosed => "peer_closed",
            Self::Socket => "socket",
            Self::Refused => "refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::Evicted => "evicted",
            Self::KeepAlive => "keep_alive",
            Self::TakenOver => "taken_over",
            Self::CredentialChanged => "credential_changed",
            Self::Framing => "framing",
            Self::Protocol => "protocol",
            Self::Topic => "topic",
            Self::Oversized => "oversized",
            Self::CommitFailed => "commit_failed",
            Self::OutputStalled => "output_stalled",
            Self::IntakeClosed => "intake_closed",
            Self::Panicked => "panicked",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Counts since start. Gauges say so.
#[derive(Debug, Default)]
pub struct Counters {
    /// Gauge: sockets open, logged in or not.
    pub open: AtomicU64,
    /// Gauge: clients logged in.
    pub sessions: AtomicU64,
    /// Sockets accepted from the listeners.
    pub accepted: AtomicU64,
    /// Failed accepts, such as out of file descriptors. The listener pauses and goes on.
    pub accept_errors: AtomicU64,
    /// QoS 0 publishes handed to the intake.
    pub publishes_qos0: AtomicU64,
    /// QoS 1 publishes handed to the intake.
    pub publishes_qos1: AtomicU64,
    /// QoS 2 publishes handed to the intake.
    pub publishes_qos2: AtomicU64,
    /// Messages sent to subscribers.
    pub sent: AtomicU64,
    /// Gauge: sessions kept, on line or not; a second old at most, like the four below.
    pub kept_sessions: AtomicU64,
    /// Gauge: topics with a retained message.
    pub retained: AtomicU64,
    /// Messages dropped for a subscriber whose line was full.
    pub queue_full: AtomicU64,
    /// Retained messages not kept for want of room.
    pub retained_full: AtomicU64,
    /// Clients put out because their credential had too many; the longest on line goes.
    pub crowded_out: AtomicU64,
    /// Durable sessions forgotten to make room.
    pub sessions_forgotten: AtomicU64,
    /// Messages not sent because they exceed what their subscriber takes.
    pub too_large: AtomicU64,
    /// Wills handed to the intake.
    pub wills: AtomicU64,
    /// Wills dropped because the credential behind them no longer permits their topic, or at shutdown.
    pub wills_dropped: AtomicU64,
    /// PUBACKs and PUBRECs written, refusals for good included.
    pub pubacks: AtomicU64,
    /// Notices lost: the channel was full or, for refusals, the second's allowance spent.
    pub notices_lost: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    closed: [AtomicU64; CloseReason::ALL.len()],
}

impl Counters {
    /// Times something was refused for this reason.
    pub fn refused(&self, why: Refusal) -> u64 {
        self.refused
            .get(why as usize)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Connections ended for this reason.
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed
            .get(reason as usize)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Shows what the hub keeps and what it dropped.
    pub(super) fn show(&self, hub: &Hub) {
        let dropped = hub.dropped();
        for (counter, value) in [
            (&self.kept_sessions, hub.sessions() as u64),
            (&self.retained, hub.retained().0 as u64),
            (&self.queue_full, dropped.queue_full),
            (&self.retained_full, dropped.retained_full),
            (&self.sessions_forgotten, dropped.sessions),
        ] {
            counter.store(value, Ordering::Relaxed);
        }
    }

    pub(super) fn count_publish(&self, qos: Qos) {
        add(match qos {
            Qos::AtMostOnce => &self.publishes_qos0,
            Qos::AtLeastOnce => &self.publishes_qos1,
            Qos::ExactlyOnce => &self.publishes_qos2,
        });
    }

    pub(super) fn count_refusal(&self, why: Refusal) {
        if let Some(count) = self.refused.get(why as usize) {
            add(count);
        }
    }

    pub(super) fn count_close(&self, reason: CloseReason) {
        if let Some(count) = self.closed.get(reason as usize) {
            add(count);
        }
    }
}

/// Adds one to a counter.
pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Takes one off a gauge.
pub(super) fn subtract(gauge: &AtomicU64) {
    gauge.fetch_sub(1, Ordering::Relaxed);
}

/// What supervision hears. A user name appears only if it is one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A client of this credential logged in. A takeover sends `Disconnected` first.
    Connected {
        /// The credential.
        username: String,
    },
    /// A client of this credential is gone.
    Disconnected {
        /// The credential.
        username: String,
    },
    /// Something was turned away.
    Refused {
        /// The credential, if the client named one of ours.
        username: Option<String>,
        /// Why.
        why: Refusal,
    },
}

/// Refusal notices a second, so that a knocking stranger cannot crowd out the others. Beyond: counted only.
pub(super) const REFUSAL_NOTICES_PER_SECOND: u32 = 16;

/// Counts, and tells supervision. Never waits: a full channel loses the notice and counts that.
pub(super) struct Reporter {
    /// The counts.
    pub(super) counters: Arc<Counters>,
    notices: mpsc::Sender<Notice>,
    allowance: AtomicU32,
}

impl Reporter {
    pub(super) fn new(counters: Arc<Counters>, notices: mpsc::Sender<Notice>) -> Self {
        Self {
            counters,
            notices,
            allowance: AtomicU32::new(REFUSAL_NOTICES_PER_SECOND),
        }
    }

    /// Renews the allowance of refusal notices. To be called once a second.
    pub(super) fn renew(&self) {
        self.allowance
            .store(REFUSAL_NOTICES_PER_SECOND, Ordering::Relaxed);
    }

    pub(super) fn connected(&self, username: &str) {
        add(&self.counters.sessions);
        let username = username.to_owned();
        self.notify(Notice::Connected { username });
    }

    pub(super) fn disconnected(&self, username: &str) {
        subtract(&self.counters.sessions);
        let username = username.to_owned();
        self.notify(Notice::Disconnected { username });
    }

    /// Counts a refusal and tells of it while the allowance lasts.
    pub(super) fn refused(&self, username: Option<&str>, why: Refusal) {
        self.counters.count_refusal(why);
        self.notify_refusal(username, why);
    }

    /// Tells of a refusal that is counted elsewhere.
    pub(super) fn notify_refusal(&self, username: Option<&str>, why: Refusal) {
        let spent = self
            .allowance
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_err();
        if spent {
            add(&self.counters.notices_lost);
            return;
        }
        let username = username.map(str::to_owned);
        self.notify(Notice::Refused { username, why });
    }

    fn notify(&self, notice: Notice) {
        if self.notices.try_send(notice).is_err() {
            add(&self.counters.notices_lost);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_has_its_own_counter_and_name() {
        let counters = Counters::default();
        for why in Refusal::ALL {
            counters.count_refusal(why);
        }
        for reason in CloseReason::ALL {
            counters.count_close(reason);
        }
        assert!(Refusal::ALL.iter().all(|why| counters.refused(*why) == 1));
        assert!(CloseReason::ALL.iter().all(|r| counters.closed(*r) == 1));
        let names: HashSet<_> = Refusal::ALL.iter().map(|why| why.as_str()).collect();
        assert_eq!(names.len(), Refusal::ALL.len());
        let names: HashSet<_> = CloseReason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(names.len(), CloseReason::ALL.len());
    }

    fn reporter(room: usize) -> (Reporter, mpsc::Receiver<Notice>) {
        let (notices, received) = mpsc::channel(room);
        (Reporter::new(Arc::default(), notices), received)
    }

    #[test]
    fn refusals_beyond_the_allowance_leave_room_for_the_others() {
        let (reporter, mut received) = reporter(64);
        reporter.connected("btn");
        for _ in 0..40 {
            reporter.refused(None, Refusal::UnknownUser);
        }
        reporter.disconnected("btn");
        let heard: Vec<Notice> = std::iter::from_fn(|| received.try_recv().ok()).collect();
        let refusal = Notice::Refused {
            username: None,
            why: Refusal::UnknownUser,
        };
        let allowed = REFUSAL_NOTICES_PER_SECOND as usize;
        assert_eq!(heard.iter().filter(|n| **n == refusal).count(), allowed);
        let username = "btn".to_owned();
        assert_eq!(heard.last(), Some(&Notice::Disconnected { username }));
        assert_eq!(reporter.counters.refused(Refusal::UnknownUser), 40);
        let lost = reporter.counters.notices_lost.load(Ordering::Relaxed);
        assert_eq!(lost, 40 - allowed as u64);
        reporter.renew();
        reporter.refused(None, Refusal::UnknownUser);
        assert_eq!(received.try_recv(), Ok(refusal));
    }

    #[test]
    fn a_full_channel_loses_the_notice_and_counts_it() {
        let (reporter, _received) = reporter(1);
        reporter.connected("a");
        reporter.connected("b");
        assert_eq!(reporter.counters.notices_lost.load(Ordering::Relaxed), 1);
        assert_eq!(reporter.counters.sessions.load(Ordering::Relaxed), 2);
    }
}
