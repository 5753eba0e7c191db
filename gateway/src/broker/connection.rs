//! One connection from accept to close: the task's loop.
//!
//! Owns the keep-alive and the decision when to read. What packets mean is for [`super::dialogue`]. Holds no
//! lock across a wait.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::sleep;

use super::Settled;
use super::access::{Access, Credential};
use super::codec::{self, Fault, Reason, Version, complete};
use super::dialogue::Dialogue;
use super::greeting::{Guest, greet};
use super::line::{Line, drain, fill};
use super::listener::{Admitted, House, stopped};
use super::report::CloseReason;
use super::visit::{Visit, ended};
use crate::hub::Leaving;

/// Carries one stream of MQTT bytes to its end. A panic on the way ends this connection like any other reason.
pub(super) async fn attend<R, W>(reader: R, writer: W, mut visit: Visit)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let house = Arc::clone(&visit.house);
    let mut line = Line::new(reader, writer);
    let welcome = AssertUnwindSafe(welcome(&mut line, &mut visit)).catch_unwind();
    let reason = match welcome.await {
        Ok(Ok(guest)) => serve(line, guest, visit.admitted, &house).await,
        Ok(Err(reason)) => {
            if lingers(reason) {
                tokio::select! {
                    () = visit.admitted.evicted() => {}
                    () = line.finish() => {}
                }
            }
            drop(line);
            reason
        }
        Err(_) => CloseReason::Panicked,
    };
    ended(&house, reason);
}

/// The log-in.
async fn welcome<R, W>(line: &mut Line<R, W>, visit: &mut Visit) -> Result<Guest, CloseReason>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let house = Arc::clone(&visit.house);
    let guest = visit.step(greet(line, &house)).await?;
    if visit.admitted.identified() {
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
    let end = talk.await.unwrap_or(End {
        reason: CloseReason::Panicked,
        leaving: Leaving::Lost,
        fault: None,
    });
    if let Some(reason) = end.fault.or_else(|| farewell(end.reason)) {
        codec::disconnect(&mut line.output, guest.version, reason);
    }
    if lingers(end.reason) || (guest.version == Version::V5 && line.owes()) {
        line.finish().await;
    }
    // The socket goes first: the will may have to wait for the intake.
    drop((line, admitted));
    guest.seat.leave(end.leaving).await;
    end.reason
}

/// How a conversation ended.
struct End {
    reason: CloseReason,
    leaving: Leaving,
    /// What the client did wrong, if it did.
    fault: Option<Reason>,
}

/// What an MQTT 5 client is told when we close (section 3.14.2.1); none when it closed, or cannot hear.
const fn farewell(reason: CloseReason) -> Option<Reason> {
    match reason {
        CloseReason::Disconnect
        | CloseReason::PeerClosed
        | CloseReason::Socket
        | CloseReason::Refused
        | CloseReason::ConnectTimeout
        | CloseReason::Evicted
        | CloseReason::Framing
        | CloseReason::OutputStalled
        | CloseReason::Panicked => None,
        CloseReason::KeepAlive => Some(Reason::KeepAliveTimeout),
        CloseReason::TakenOver => Some(Reason::SessionTakenOver),
        CloseReason::CredentialChanged => Some(Reason::AdministrativeAction),
        CloseReason::Protocol => Some(Reason::ProtocolError),
        CloseReason::Topic => Some(Reason::TopicNameInvalid),
        CloseReason::Oversized => Some(Reason::PacketTooLarge),
        CloseReason::CommitFailed => Some(Reason::ImplementationSpecific),
        CloseReason::IntakeClosed | CloseReason::Shutdown => Some(Reason::ServerShuttingDown),
    }
}

/// Whether the peer is still to hear what waits in the output.
fn lingers(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::Refused | CloseReason::CommitFailed | CloseReason::Shutdown
    )
}

async fn talk<R, W>(line: &mut Line<R, W>, guest: &mut Guest, house: &House) -> End
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (settle, settled) = mpsc::unbounded_channel();
    let Guest {
        seat,
        version,
        credential,
        access,
        patience,
        limit,
        fleeting,
        lost,
    } = guest;
    let bell = seat.bell();
    let dialogue = Dialogue::new(house, seat, credential, *version, *limit, *fleeting, settle);
    let mut talk = Talk {
        line,
        house,
        dialogue,
        credential,
        access,
        keep_alive: *patience,
        settled,
        bell,
        stopping: false,
        active: true,
    };
    let reason = match talk.run(lost).await {
        Ok(never) => match never {},
        Err(reason) => reason,
    };
    let leaving = match reason {
        CloseReason::Disconnect => talk.dialogue.leaving,
        CloseReason::Shutdown => Leaving::Stopping,
        CloseReason::PeerClosed
        | CloseReason::Socket
        | CloseReason::Refused
        | CloseReason::ConnectTimeout
        | CloseReason::Evicted
        | CloseReason::KeepAlive
        | CloseReason::TakenOver
        | CloseReason::CredentialChanged
        | CloseReason::Framing
        | CloseReason::Protocol
        | CloseReason::Topic
        | CloseReason::Oversized
        | CloseReason::CommitFailed
        | CloseReason::OutputStalled
        | CloseReason::IntakeClosed
        | CloseReason::Panicked => Leaving::Lost,
    };
    End {
        reason,
        leaving,
        fault: talk.dialogue.fault,
    }
}

/// A logged-in connection at work. Every step returns an error when the connection is to end.
struct Talk<'a, R, W> {
    line: &'a mut Line<R, W>,
    house: &'a House,
    dialogue: Dialogue<'a>,
    credential: &'a Arc<Credential>,
    access: &'a mut watch::Receiver<Arc<Access>>,
    keep_alive: Option<Duration>,
    settled: mpsc::UnboundedReceiver<Settled>,
    bell: Arc<Notify>,
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
    async fn run(
        &mut self,
        lost: &mut oneshot::Receiver<Infallible>,
    ) -> Result<Infallible, CloseReason> {
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
                _ = &mut *lost => return Err(CloseReason::TakenOver),
                () = stopped(&mut shutdown), if !self.stopping => self.stopping = true,
                Ok(()) = self.access.changed() => self.check_credential()?,
                Some(settled) = self.settled.recv() => self.settle(&settled)?,
                written = drain(&mut line.writer, &mut line.output, &mut line.flushed), if line.owes() => {
                    written?;
                    self.active |= matches!(patience, Patience::Drain(_));
                }
                room = self.house.intake.reserve(), if self.dialogue.is_waiting() => {
                    let room = room.map_err(|_| CloseReason::IntakeClosed)?;
                    self.dialogue.hand_over(room)?;
                }
                () = self.bell.notified() => {}
                read = fill(&mut line.reader, &mut line.input), if reading => read?,
                () = timer.as_mut(), if patience != Patience::Off => return Err(patience.run_out()),
            }
        }
    }

    /// Everything that needs no waiting: due answers, whole frames while they may be taken, then messages for
    /// the client.
    fn work(&mut self) -> Result<(), CloseReason> {
        while self.take_frame()? {}
        if self.stopping {
            if self.dialogue.pending() == 0 && !self.line.owes() {
                return Err(CloseReason::Shutdown);
            }
            return Ok(());
        }
        self.dialogue.send_onward(&mut self.line.output)
    }

    /// Writes the answers that are due and takes the next frame; false if there is none to take now.
    fn take_frame(&mut self) -> Result<bool, CloseReason> {
        self.dialogue.answer(&mut self.line.output);
        if !self.takes_frames() {
            return Ok(false);
        }
        let length = complete(&self.line.input, self.house.limits.packet_bytes);
        let length = length.map_err(|fault| {
            self.dialogue.fault = Some(fault.reason());
            CloseReason::from(fault)
        })?;
        let Some(length) = length else {
            return Ok(false);
        };
        let frame = self.line.input.split_to(length);
        self.active = true;
        self.dialogue.take(&frame, &mut self.line.output)?;
        Ok(true)
    }

    fn takes_frames(&self) -> bool {
        !self.stopping && !self.delayed_by_us() && !self.delayed_by_peer()
    }

    fn delayed_by_us(&self) -> bool {
        self.dialogue.is_waiting() || self.dialogue.pending() >= self.house.limits.pending_publishes
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

    /// Takes one commit report and all that are there with it, so that their answers share a write. After a
    /// failed one the answers before it still leave.
    fn settle(&mut self, first: &Settled) -> Result<(), CloseReason> {
        let mut outcome = self.dialogue.settle(first);
        while outcome.is_ok()
            && let Ok(settled) = self.settled.try_recv()
        {
            outcome = self.dialogue.settle(&settled);
        }
        self.dialogue.answer(&mut self.line.output);
        outcome
    }
}

impl From<Fault> for CloseReason {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Oversized => Self::Oversized,
            Fault::Topic(_) => Self::Topic,
            Fault::VariableInteger
            | Fault::PacketType
            | Fault::Flags
            | Fault::Short
            | Fault::Leftover
            | Fault::Text
            | Fault::PacketId
            | Fault::Qos
            | Fault::Duplicate
            | Fault::NoTopic
            | Fault::ResponseTopic(_)
            | Fault::TopicAlias
            | Fault::SubscriptionIdentifier
            | Fault::NoFilters
            | Fault::Filter(_)
            | Fault::SharedFilter
            | Fault::SharedNoLocal
            | Fault::SubscriptionOptions
            | Fault::SubscriptionQos
            | Fault::RetainHandling
            | Fault::ProtocolName
            | Fault::Level(_)
            | Fault::ConnectFlags
            | Fault::ClientId
            | Fault::Property(_)
            | Fault::PropertyTwice(_)
            | Fault::PropertyValue(_)
            | Fault::AuthenticationMethod
            | Fault::ReasonCode(_) => Self::Protocol,
        }
    }
}
