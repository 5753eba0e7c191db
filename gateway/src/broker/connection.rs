//! One connection from accept to close: the task's loop.
//!
//! Owns the window of uncommitted publishes, the keep-alive and the decision when to read. Hands publishes
//! on and answers them; never decides what one means. Holds no lock across a wait or a call of the protocol.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::access::{Access, Credential};
use super::frame::{FrameFault, check, complete};
use super::greeting::{Guest, greet};
use super::line::{Line, drain, fill};
use super::listener::{Admitted, House, stopped};
use super::report::{CloseReason, Refusal, add};
use super::session::{Lost, Seat, WillFate};
use super::window::Window;
use super::wire::{Arrival, Broken, Incoming, Protocol};
use super::{Ack, Origin, Publish, Qos, Settled};

/// Carries one accepted socket to its end. A panic on the way ends this connection like any other reason.
pub(super) async fn attend<R, W>(reader: R, writer: W, mut admitted: Admitted, house: Arc<House>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut line = Line::new(reader, writer);
    let welcome = AssertUnwindSafe(welcome(&mut line, &mut admitted, &house)).catch_unwind();
    let reason = match welcome.await {
        Ok(Ok(guest)) => serve(line, guest, admitted, &house).await,
        Ok(Err(reason)) => {
            if lingers(reason) {
                tokio::select! {
                    () = admitted.evicted() => {}
                    () = line.finish() => {}
                }
            }
            drop(line);
            reason
        }
        Err(_) => CloseReason::Panicked,
    };
    house.reporter.counters.count_close(reason);
    if reason == CloseReason::Panicked {
        tracing::error!("a connection task panicked; the connection is closed, others go on");
    }
    tracing::debug!(reason = reason.as_str(), "connection ended");
}

/// The log-in, within its deadline and as long as nothing ends it from outside.
async fn welcome<R, W>(
    line: &mut Line<R, W>,
    admitted: &mut Admitted,
    house: &Arc<House>,
) -> Result<Guest, CloseReason>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut shutdown = house.shutdown.clone();
    let guest = tokio::select! {
        biased;
        () = stopped(&mut shutdown) => Err(CloseReason::Shutdown),
        () = admitted.evicted() => Err(CloseReason::Evicted),
        guest = timeout(house.limits.connect_deadline, greet(line, house)) => {
            guest.unwrap_or(Err(CloseReason::ConnectTimeout))
        }
    }?;
    if admitted.identified() {
        Ok(guest)
    } else {
        Err(CloseReason::Evicted)
    }
}

async fn serve<R, W>(
    mut line: Line<R, W>,
    mut guest: Guest,
    admitted: Admitted,
    house: &House,
) -> CloseReason
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let talk = AssertUnwindSafe(talk(&mut line, &mut guest, house)).catch_unwind();
    let reason = talk.await.unwrap_or(CloseReason::Panicked);
    if lingers(reason) {
        line.finish().await;
    }
    // The socket goes first: the will may have to wait for the intake.
    drop((line, admitted));
    let fate = if reason == CloseReason::Disconnect {
        WillFate::Forget
    } else if reason == CloseReason::Shutdown {
        WillFate::Withhold
    } else {
        WillFate::Publish
    };
    guest.seat.leave(fate).await;
    reason
}

/// Whether the peer is still to hear what waits in the output.
fn lingers(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::Refused | CloseReason::CommitFailed | CloseReason::Shutdown
    )
}

async fn talk<R, W>(line: &mut Line<R, W>, guest: &mut Guest, house: &House) -> CloseReason
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (settle, settled) = mpsc::unbounded_channel();
    let mut talk = Talk {
        line,
        house,
        seat: &mut guest.seat,
        protocol: &mut guest.protocol,
        credential: &guest.credential,
        access: &mut guest.access,
        keep_alive: guest.patience,
        window: Window::default(),
        settle,
        settled,
        waiting: None,
        strays: 0,
        stopping: false,
        active: true,
    };
    match talk.run().await {
        Ok(never) => match never {},
        Err(reason) => reason,
    }
}

/// A logged-in connection at work. Every step returns an error when the connection is to end.
struct Talk<'a, R, W> {
    line: &'a mut Line<R, W>,
    house: &'a House,
    seat: &'a mut Seat,
    protocol: &'a mut Protocol,
    credential: &'a Arc<Credential>,
    access: &'a mut watch::Receiver<Arc<Access>>,
    keep_alive: Option<Duration>,
    window: Window,
    settle: mpsc::UnboundedSender<Settled>,
    settled: mpsc::UnboundedReceiver<Settled>,
    /// Taken in, but the intake had no room yet.
    waiting: Option<Publish>,
    /// Publishes outside the credential's topics.
    strays: u64,
    /// Shutdown has begun: nothing more is read.
    stopping: bool,
    /// The peer did something since the timer was set.
    active: bool,
}

/// What the timer waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// Nothing: keep-alive is off, or the delay is ours (mqtt-server.md section 5.5).
    Off,
    /// A packet of the peer.
    Packet(Duration),
    /// The peer taking bytes of a full output.
    Drain(Duration),
}

impl Patience {
    fn limit(self) -> Duration {
        match self {
            Self::Off => Duration::ZERO,
            Self::Packet(limit) | Self::Drain(limit) => limit,
        }
    }

    fn run_out(self) -> CloseReason {
        match self {
            Self::Off | Self::Packet(_) => CloseReason::KeepAlive,
            Self::Drain(_) => CloseReason::OutputStalled,
        }
    }
}

impl<R, W> Talk<'_, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    async fn run(&mut self) -> Result<std::convert::Infallible, CloseReason> {
        let mut shutdown = self.house.shutdown.clone();
        let mut patience = Patience::Off;
        let mut timer = pin!(sleep(Duration::ZERO));
        loop {
            self.work()?;
            let reading = self.takes_frames();
            let now = self.patience();
            if std::mem::take(&mut self.active) || now != patience {
                patience = now;
                timer.set(sleep(patience.limit()));
            }
            let line = &mut *self.line;
            tokio::select! {
                biased;
                lost = self.seat.lost() => return Err(lost.into()),
                () = stopped(&mut shutdown), if !self.stopping => self.stopping = true,
                Ok(()) = self.access.changed() => self.check_credential()?,
                Some(settled) = self.settled.recv() => self.settle(&settled)?,
                written = drain(&mut line.writer, &mut line.output), if !line.output.is_empty() => {
                    written?;
                    self.active |= matches!(patience, Patience::Drain(_));
                }
                room = self.house.intake.reserve(), if self.waiting.is_some() => {
                    let room = room.map_err(|_| CloseReason::IntakeClosed)?;
                    hand_over(self.seat, room, &mut self.waiting)?;
                }
                read = fill(&mut line.reader, &mut line.input), if reading => read?,
                () = timer.as_mut(), if patience != Patience::Off => return Err(patience.run_out()),
            }
        }
    }

    /// Everything that needs no waiting: due acknowledgements, then whole frames while they may be taken.
    fn work(&mut self) -> Result<(), CloseReason> {
        loop {
            self.acknowledge()?;
            if self.stopping && self.window.len() == 0 && self.line.output.is_empty() {
                return Err(CloseReason::Shutdown);
            }
            if !self.takes_frames() {
                return Ok(());
            }
            let Some(length) = complete(&self.line.input, self.house.limits.packet_bytes)? else {
                return Ok(());
            };
            self.take_frame(length)?;
        }
    }

    fn takes_frames(&self) -> bool {
        !self.stopping && !self.delayed_by_us() && !self.delayed_by_peer()
    }

    fn delayed_by_us(&self) -> bool {
        self.waiting.is_some() || self.window.len() >= self.house.limits.pending_publishes
    }

    fn delayed_by_peer(&self) -> bool {
        self.line.output.len() >= self.house.limits.output_bytes
    }

    fn patience(&self) -> Patience {
        if self.delayed_by_peer() {
            Patience::Drain(self.house.limits.output_patience)
        } else if self.stopping || self.delayed_by_us() {
            Patience::Off
        } else {
            self.keep_alive.map_or(Patience::Off, Patience::Packet)
        }
    }

    fn check_credential(&self) -> Result<(), CloseReason> {
        let access = self.access.borrow();
        if access.get(&self.credential.username) == Some(self.credential) {
            Ok(())
        } else {
            Err(CloseReason::CredentialChanged)
        }
    }

    /// Takes one commit report and all that are there with it, so that their acknowledgements share a write.
    fn settle(&mut self, first: &Settled) -> Result<(), CloseReason> {
        self.settle_one(first)?;
        while let Ok(settled) = self.settled.try_recv() {
            self.settle_one(&settled)?;
        }
        Ok(())
    }

    fn settle_one(&mut self, settled: &Settled) -> Result<(), CloseReason> {
        if !settled.committed && self.window.expects_ack(settled.ticket) {
            self.acknowledge()?;
            return Err(CloseReason::CommitFailed);
        }
        self.window.settle(settled.ticket);
        Ok(())
    }

    fn acknowledge(&mut self) -> Result<(), CloseReason> {
        while let Some(packet_id) = self.window.next_ack() {
            self.protocol
                .acknowledge(packet_id, &mut self.line.output)?;
            add(&self.house.reporter.counters.pubacks);
        }
        Ok(())
    }

    fn take_frame(&mut self, length: usize) -> Result<(), CloseReason> {
        let frame = self.line.input.get(..length).unwrap_or_default();
        check(frame, self.house.limits.topic)?;
        let output = &mut self.line.output;
        let incoming = self.protocol.receive(frame, output)?;
        self.active = true;
        match incoming {
            Incoming::Publish(arrival) => self.take_publish(arrival)?,
            Incoming::Subscribe { packet_id, filters } => {
                self.protocol.refuse_filters(packet_id, filters, output)?;
            }
            Incoming::Unsubscribe { packet_id } => {
                self.protocol.confirm_unsubscribe(packet_id, output)?;
            }
            Incoming::Ping => {}
            Incoming::Disconnect => return Err(CloseReason::Disconnect),
            Incoming::Connect(_) => return Err(CloseReason::Protocol),
        }
        self.line.input.advance(length);
        Ok(())
    }

    fn take_publish(&mut self, arrival: Arrival) -> Result<(), CloseReason> {
        let ticket = self.window.open(arrival.packet_id);
        if !self.credential.may_publish(&arrival.topic) {
            self.window.settle(ticket);
            self.count_stray();
            return Ok(());
        }
        let qos = arrival
            .packet_id
            .map_or(Qos::AtMostOnce, |_| Qos::AtLeastOnce);
        self.waiting = Some(Publish {
            username: Arc::clone(self.seat.username()),
            reserved: self.credential.reserved,
            topic: arrival.topic,
            payload: arrival.payload,
            qos,
            retain: arrival.retain,
            dup: arrival.dup,
            origin: Origin::Live,
            ack: Ack::routed(self.settle.clone(), ticket),
        });
        match self.house.intake.try_reserve() {
            Ok(room) => hand_over(self.seat, room, &mut self.waiting),
            Err(mpsc::error::TrySendError::Full(())) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(())) => Err(CloseReason::IntakeClosed),
        }
    }

    /// Tells of the 1st, 2nd, 4th, 8th... stray publish of a connection; counts each.
    fn count_stray(&mut self) {
        self.strays += 1;
        let reporter = &self.house.reporter;
        reporter.counters.count_refusal(Refusal::NotPermitted);
        if self.strays.is_power_of_two() {
            let username = Some(self.credential.username.as_str());
            reporter.notify_refusal(username, Refusal::NotPermitted);
        }
    }
}

fn hand_over(
    seat: &mut Seat,
    room: mpsc::Permit<'_, Publish>,
    waiting: &mut Option<Publish>,
) -> Result<(), CloseReason> {
    match waiting.take() {
        Some(publish) => Ok(seat.hand_over(room, publish)?),
        None => Ok(()),
    }
}

impl From<Lost> for CloseReason {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::TakenOver => Self::TakenOver,
            Lost::Crowded => Self::Crowded,
        }
    }
}

impl From<Broken> for CloseReason {
    fn from(Broken: Broken) -> Self {
        Self::Protocol
    }
}

impl From<FrameFault> for CloseReason {
    fn from(fault: FrameFault) -> Self {
        match fault {
            FrameFault::Oversized => Self::Oversized,
            FrameFault::ExactlyOnce => Self::ExactlyOnce,
            FrameFault::Topic(_) => Self::Topic,
            FrameFault::Length
            | FrameFault::PacketType
            | FrameFault::Flags
            | FrameFault::Shape
            | FrameFault::Text
            | FrameFault::PacketId
            | FrameFault::Filter(_)
            | FrameFault::ProtocolName
            | FrameFault::Level(_)
            | FrameFault::ConnectFlags => Self::Protocol,
        }
    }
}
