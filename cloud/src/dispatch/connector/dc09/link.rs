//! One supervised TCP path to one address of a DC-09 receiver.
//!
//! Owns the connection: one message outstanding, one frame per write, a poll whenever nothing was
//! said for a while, a new connection when the old one is lost. Tells apart what may have left this
//! machine and what cannot have. Never makes or changes a frame of an order and never tries one twice
//! by itself.

use std::future::pending;
use std::io::ErrorKind;
use std::pin::Pin;
use std::time::Duration;

use ambient::{Clock, Entropy};
use domain::backoff::Backoff;
use domain::id::ReceiverId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Sleep, sleep, timeout};
use tracing::Instrument;

use super::super::PathState;
use super::message::Message;
use super::reply::{Replies, Reply, Word};
use crate::dispatch::{NotSent, Outcome, RefusedBy, Target};

/// Longest time to connect and hand a frame to the kernel; covers one lost SYN, which is sent again
/// after 1 s. Beyond it the address counts as unreachable.
const REACH_WAIT: Duration = Duration::from_millis(1_500);
/// How long an order waits for the answer to a poll under way; beyond it the poll's connection is
/// given up and the order goes over a fresh one.
const POLL_YIELDS_AFTER: Duration = Duration::from_millis(500);
/// Pauses between attempts to connect by ourselves; an order never waits for them.
const RECONNECT: Backoff = Backoff {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(10),
};
/// Bytes taken from the socket at once.
const CHUNK: usize = 1_024;

/// When a [`Link::send`] has ended at the latest: behind a connection being made for a poll, its own
/// connection, and the answer.
#[must_use]
pub fn longest_send(reply_within: Duration) -> Duration {
    REACH_WAIT + POLL_YIELDS_AFTER + REACH_WAIT + reply_within
}

/// One path to keep.
#[derive(Clone, Debug)]
pub struct Path {
    /// Whose; for the log.
    pub receiver: ReceiverId,
    /// Which of its addresses; for the log.
    pub target: Target,
    /// `host:port`.
    pub address: String,
    /// What is said when there is nothing to say.
    pub poll: Message,
    /// After so long without a message.
    pub poll_every: Duration,
    /// An answer that takes longer is none.
    pub reply_within: Duration,
}

struct Request {
    message: Message,
    answer: oneshot::Sender<Outcome>,
}

/// A path being kept; it ends when this is dropped.
pub struct Link {
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<PathState>,
}

impl Link {
    /// Starts to keep a path.
    #[must_use]
    pub fn open(path: Path, clock: Clock, entropy: Entropy) -> Self {
        let (requests, inbox) = mpsc::channel(1);
        let (state, watched) = watch::channel(PathState::Unproven { since: clock.now() });
        let span = tracing::info_span!("path", receiver = %path.receiver, target = %path.target);
        let keeper = Keeper {
            path,
            clock,
            entropy,
            state,
            wire: None,
            failures: 0,
            poll_due: Box::pin(sleep(Duration::ZERO)),
            connect_due: Box::pin(sleep(Duration::ZERO)),
        };
        tokio::spawn(keeper.keep(inbox).instrument(span));
        Self {
            requests,
            state: watched,
        }
    }

    /// Sends a message and waits for its answer.
    pub async fn send(&self, message: Message) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        if (self.requests.send(Request { message, answer }).await).is_err() {
            return NO_CONNECTION;
        }
        // The keeper died with the message in hand: it may have left.
        outcome.await.unwrap_or(Outcome::Unanswered)
    }

    /// How the path is.
    #[must_use]
    pub fn state(&self) -> PathState {
        *self.state.borrow()
    }
}

const NO_CONNECTION: Outcome = Outcome::NotSent {
    why: NotSent::NoConnection,
};

/// The connection and what came over it.
struct Wire {
    stream: TcpStream,
    replies: Replies,
    /// An earlier message got no answer yet.
    in_doubt: bool,
}

impl Wire {
    /// Waits for bytes; false when the connection is over.
    async fn read(&mut self) -> bool {
        let mut chunk = [0; CHUNK];
        match self.stream.read(&mut chunk).await {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.replies.feed(&chunk[..length]);
                true
            }
        }
    }

    /// Takes what has already arrived, without waiting; false when the connection is over.
    fn read_present(&mut self) -> bool {
        let mut chunk = [0; CHUNK];
        loop {
            match self.stream.try_read(&mut chunk) {
                Ok(0) => return false,
                Ok(length) => self.replies.feed(&chunk[..length]),
                Err(nothing) => return nothing.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    /// Waits for the answer to `message`; none when the connection is over.
    async fn hear(&mut self, message: &Message) -> Option<Reply> {
        loop {
            let alone = !self.in_doubt;
            let replies = std::iter::from_fn(|| self.replies.next_reply());
            if let Some(reply) = { replies }.find(|reply| message.is_answered_by(reply, alone)) {
                self.in_doubt = false;
                return Some(reply);
            }
            if !self.read().await {
                return None;
            }
        }
    }

    /// An acknowledgement of `message` that came too late for its last attempt. Whatever else came
    /// before it belongs to nothing and is dropped.
    fn late_acknowledgement(&mut self, message: &Message) -> Option<Reply> {
        std::iter::from_fn(|| self.replies.next_reply())
            .find(|reply| reply.word == Word::Ack && message.is_answered_by(reply, false))
    }
}

/// What became of the bytes.
enum Written {
    /// The kernel has them all.
    Whole,
    /// Not one left.
    Nothing,
    /// Some left, and the connection is over.
    Part,
}

/// What came back.
enum Heard {
    Reply(Reply),
    Nothing(Written),
}

/// What the keeper turns to next.
enum Next {
    Request(Request),
    Poll,
    Connect,
    Lost,
    End,
}

/// The task that keeps one path.
struct Keeper {
    path: Path,
    clock: Clock,
    entropy: Entropy,
    state: watch::Sender<PathState>,
    wire: Option<Wire>,
    /// Failures in a row, for the pause before the next attempt.
    failures: u32,
    poll_due: Pin<Box<Sleep>>,
    connect_due: Pin<Box<Sleep>>,
}

impl Keeper {
    async fn keep(mut self, mut inbox: mpsc::Receiver<Request>) {
        loop {
            match self.next(&mut inbox).await {
                Next::Request(request) => self.carry(request).await,
                Next::Poll => {
                    if let Some(request) = self.poll(&mut inbox).await {
                        self.carry(request).await;
                    }
                }
                Next::Connect => self.reconnect().await,
                Next::Lost => self.lose(),
                Next::End => return,
            }
        }
    }

    async fn next(&mut self, inbox: &mut mpsc::Receiver<Request>) -> Next {
        let connected = self.wire.is_some();
        let lost = async {
            match &mut self.wire {
                Some(wire) => while wire.read().await {},
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            request = inbox.recv() => request.map_or(Next::End, Next::Request),
            () = lost => Next::Lost,
            () = &mut self.poll_due, if connected => Next::Poll,
            () = &mut self.connect_due, if !connected => Next::Connect,
        }
    }

    async fn carry(&mut self, request: Request) {
        let outcome = self.deliver(&request.message).await;
        // Nobody waits any more: the dispatcher is going down and the lease will lapse.
        let _ = request.answer.send(outcome);
    }

    async fn deliver(&mut self, message: &Message) -> Outcome {
        let open = self.wire.as_mut().is_some_and(Wire::read_present);
        let late = (self.wire.as_mut()).and_then(|wire| wire.late_acknowledgement(message));
        if !open {
            self.wire = None;
        }
        let heard = match late {
            Some(reply) => Heard::Reply(reply),
            None => self.exchange(message).await,
        };
        match heard {
            Heard::Reply(reply) => {
                self.heard(&reply);
                self.outcome(reply)
            }
            Heard::Nothing(written) => {
                self.silent();
                match written {
                    Written::Whole | Written::Part => Outcome::Unanswered,
                    Written::Nothing => NO_CONNECTION,
                }
            }
        }
    }

    /// Sends and waits. An unanswered connection is kept once, since a slow receiver's answer may
    /// still come; the second time it is taken for dead.
    async fn exchange(&mut self, message: &Message) -> Heard {
        let written = self.write(message.bytes()).await;
        let (Written::Whole, Some(wire)) = (&written, &mut self.wire) else {
            self.lose();
            return Heard::Nothing(written);
        };
        self.poll_due = Box::pin(sleep(self.path.poll_every));
        match timeout(self.path.reply_within, wire.hear(message)).await {
            Ok(Some(reply)) => return Heard::Reply(reply),
            Err(_) if !wire.in_doubt => wire.in_doubt = true,
            Ok(None) | Err(_) => self.lose(),
        }
        Heard::Nothing(Written::Whole)
    }

    /// Hands bytes to the kernel over the present connection or, if that takes none, a fresh one.
    async fn write(&mut self, bytes: &[u8]) -> Written {
        let mut sent = 0;
        let wire = self.wire.take();
        let address = &self.path.address;
        let attempt = async {
            if let Some(mut wire) = wire
                && (wrote(&mut wire.stream, bytes, &mut sent).await || sent > 0)
            {
                return Some(wire);
            }
            let mut wire = connect(address).await?;
            wrote(&mut wire.stream, bytes, &mut sent).await;
            Some(wire)
        };
        let wire = timeout(REACH_WAIT, attempt).await.ok().flatten();
        if sent == bytes.len() && wire.is_some() {
            self.wire = wire;
            Written::Whole
        } else if sent == 0 {
            Written::Nothing
        } else {
            Written::Part
        }
    }

    /// Asks the receiver whether it is there. Gives back an order that came in between and must not
    /// wait.
    async fn poll(&mut self, inbox: &mut mpsc::Receiver<Request>) -> Option<Request> {
        let poll = self.path.poll.clone();
        let mut request = None;
        self.poll_due = Box::pin(sleep(self.path.poll_every));
        let reply = match (self.write(poll.bytes()).await, &mut self.wire) {
            (Written::Whole, Some(wire)) => {
                let mut hear = Box::pin(timeout(self.path.reply_within, wire.hear(&poll)));
                tokio::select! {
                    biased;
                    reply = &mut hear => reply.ok().flatten(),
                    came = inbox.recv() => {
                        request = came;
                        let soon = timeout(POLL_YIELDS_AFTER, hear).await;
                        soon.ok().and_then(Result::ok).flatten()
                    }
                }
            }
            (Written::Whole | Written::Part | Written::Nothing, _) => None,
        };
        match (reply, &request) {
            (Some(reply), _) => self.heard(&reply),
            (None, Some(_)) => self.wire = None,
            (None, None) => {
                self.lose();
                self.silent();
            }
        }
        request
    }

    async fn reconnect(&mut self) {
        match timeout(REACH_WAIT, connect(&self.path.address)).await {
            Ok(Some(wire)) => {
                self.wire = Some(wire);
                // A connection alone proves nothing; ask at once unless the receiver just answered.
                if !self.state.borrow().is_up() {
                    self.poll_due = Box::pin(sleep(Duration::ZERO));
                }
            }
            Ok(None) | Err(_) => {
                self.lose();
                self.silent();
            }
        }
    }

    /// Gives the connection up and plans the next.
    fn lose(&mut self) {
        self.wire = None;
        self.failures = self.failures.saturating_add(1);
        let chance = self.entropy.bytes().map_or(0, u32::from_le_bytes);
        self.connect_due = Box::pin(sleep(RECONNECT.delay(self.failures, chance)));
    }

    fn outcome(&self, reply: Reply) -> Outcome {
        match (reply.word, reply.number, reply.time) {
            (Word::Ack, ..) => Outcome::Received { reply: reply.bytes },
            (Word::Nak, None, _) => Outcome::Refused {
                why: RefusedBy::UnknownAccount,
            },
            (Word::Nak, Some(_), time) => {
                let now = self.clock.now().micros();
                let offset = time.map(|time| time.instant().micros().saturating_sub(now));
                Outcome::Nak {
                    clock_offset_micros: offset.unwrap_or(0),
                }
            }
            (Word::Duh, ..) => Outcome::Refused {
                why: RefusedBy::Duh,
            },
            (Word::Unread, ..) => Outcome::Unanswered,
        }
    }

    fn heard(&mut self, reply: &Reply) {
        self.failures = 0;
        let now = self.clock.now();
        let takes = match (reply.word, reply.time) {
            // With its clock in it, it only minds the time of what we said.
            (Word::Ack, _) | (Word::Nak, Some(_)) => true,
            (Word::Nak, None) | (Word::Duh | Word::Unread, _) => false,
        };
        let before = *self.state.borrow();
        let next = match (before, takes) {
            (PathState::Up { since, .. }, true) => PathState::Up {
                since,
                last_reply_at: now,
            },
            (PathState::Refusing { since, .. }, false) => PathState::Refusing {
                since,
                last_reply_at: now,
            },
            (_, true) => PathState::Up {
                since: now,
                last_reply_at: now,
            },
            (_, false) => PathState::Refusing {
                since: now,
                last_reply_at: now,
            },
        };
        self.show(before, next);
    }

    fn silent(&mut self) {
        let before = *self.state.borrow();
        let last_reply_at = match before {
            PathState::Silent { .. } => return,
            PathState::Up { last_reply_at, .. } | PathState::Refusing { last_reply_at, .. } => {
                Some(last_reply_at)
            }
            PathState::Unproven { .. } | PathState::Unusable { .. } => None,
        };
        let next = PathState::Silent {
            since: self.clock.now(),
            last_reply_at,
        };
        self.show(before, next);
    }

    fn show(&self, before: PathState, next: PathState) {
        if before.is_up() && !next.is_up() {
            tracing::warn!("receiver's path is not up any more");
        } else if !before.is_up() && next.is_up() {
            tracing::info!("receiver's path is up");
        }
        self.state.send_replace(next);
    }
}

async fn connect(address: &str) -> Option<Wire> {
    let stream = TcpStream::connect(address).await.ok()?;
    // Without it the kernel may hold a frame back or glue two together.
    stream.set_nodelay(true).ok()?;
    Some(Wire {
        stream,
        replies: Replies::default(),
        in_doubt: false,
    })
}

/// Writes all of `bytes`, counting what left; false when the connection is over.
async fn wrote(stream: &mut TcpStream, bytes: &[u8], sent: &mut usize) -> bool {
    while *sent < bytes.len() {
        match stream.write(&bytes[*sent..]).await {
            Ok(0) | Err(_) => return false,
            Ok(length) => *sent += length,
        }
    }
    true
}

#[cfg(test)]
mod tests;
