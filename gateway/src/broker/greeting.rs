//! From an accepted socket to a logged-in client: CONNECT and its answer.
//!
//! Owns nothing beyond the call. Everything here serves strangers: input is small, bounded in time, and
//! answered by name or closed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::access::{Access, Credential, LoginFault};
use super::frame::{FrameFault, begins_connection, check_connect, complete};
use super::line::Line;
use super::listener::House;
use super::report::{CloseReason, Refusal};
use super::session::{NoSeat, Seat};
use super::wire::{ConnectAnswer, Hello, Incoming, Protocol, Will, refuse_level};

/// A client that is logged in. Its CONNACK waits in the line's output.
pub(super) struct Guest {
    pub(super) seat: Seat,
    pub(super) protocol: Protocol,
    pub(super) credential: Arc<Credential>,
    /// Tells of changes since the log-in was checked.
    pub(super) access: watch::Receiver<Arc<Access>>,
    /// Longest silence allowed, or `None` = no limit.
    pub(super) patience: Option<Duration>,
}

/// How a CONNECT is turned away: what is counted, what is answered, and whose it was.
struct TurnedAway {
    why: Refusal,
    answer: ConnectAnswer,
    username: Option<String>,
}

/// Reads CONNECT and logs the client in. On a refusal the answer waits in the line's output.
///
/// # Errors
/// Why the connection is to be closed.
pub(super) async fn greet<R, W>(
    line: &mut Line<R, W>,
    house: &Arc<House>,
) -> Result<Guest, CloseReason>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let length = first_frame(line, house).await?;
    let frame = line.input.get(..length).unwrap_or_default();
    if let Err(fault) = check_connect(frame, house.limits.topic) {
        if let FrameFault::Level(level) = fault {
            line.output.extend_from_slice(refuse_level(level));
            house.reporter.refused(None, Refusal::ProtocolVersion);
            return Err(CloseReason::Refused);
        }
        return Err(fault.into());
    }
    let mut protocol = Protocol::new(&house.limits);
    let incoming = protocol.receive(frame, &mut line.output)?;
    line.input.advance(length);
    let Incoming::Connect(hello) = incoming else {
        return Err(CloseReason::Protocol);
    };
    let patience = patience(hello.keep_alive);
    let mut access = house.access.clone();
    let outcome = admit(hello, &mut access, house).await?;
    let answer = match &outcome {
        Ok(_) => ConnectAnswer::Accepted,
        Err(turned_away) => turned_away.answer,
    };
    protocol.answer_connect(answer, &mut line.output)?;
    match outcome {
        Ok((seat, credential)) => Ok(Guest {
            seat,
            protocol,
            credential,
            access,
            patience,
        }),
        Err(TurnedAway { why, username, .. }) => {
            house.reporter.refused(username.as_deref(), why);
            Err(CloseReason::Refused)
        }
    }
}

/// Waits for the whole first frame and returns its length.
async fn first_frame<R, W>(line: &mut Line<R, W>, house: &House) -> Result<usize, CloseReason>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        if line
            .input
            .first()
            .is_some_and(|byte| !begins_connection(*byte))
        {
            return Err(CloseReason::Protocol);
        }
        if let Some(length) = complete(&line.input, house.limits.connect_bytes)? {
            return Ok(length);
        }
        line.fill().await?;
    }
}

/// One and a half keep-alive intervals (MQTT-3.1.2-24); 0 turns it off (section 3.1.2.10).
fn patience(keep_alive_seconds: u16) -> Option<Duration> {
    (keep_alive_seconds > 0).then(|| Duration::from_millis(1_500) * u32::from(keep_alive_seconds))
}

/// Decides on a sound CONNECT. The outer error closes without an answer.
async fn admit(
    hello: Hello,
    access: &mut watch::Receiver<Arc<Access>>,
    house: &House,
) -> Result<Result<(Seat, Arc<Credential>), TurnedAway>, CloseReason> {
    let credential = match check(&hello, &access.borrow_and_update()) {
        Ok(credential) => credential,
        Err(turned_away) => return Ok(Err(turned_away)),
    };
    let seat = house
        .sessions
        .open(&credential, hello.client_id, hello.will)
        .await;
    match seat {
        Ok(seat) => Ok(Ok((seat, credential))),
        Err(NoSeat::IntakeClosed) => Err(CloseReason::IntakeClosed),
        Err(NoSeat::Full) => Ok(Err(TurnedAway {
            why: Refusal::Full,
            answer: ConnectAnswer::ServerUnavailable,
            username: Some(credential.username.clone()),
        })),
    }
}

fn check(hello: &Hello, access: &Access) -> Result<Arc<Credential>, TurnedAway> {
    let known = hello.username.as_deref().and_then(|name| access.get(name));
    let turn_away = |why, answer| TurnedAway {
        why,
        answer,
        username: known.map(|credential| credential.username.clone()),
    };
    let credential = access
        .log_in(hello.username.as_deref(), hello.secret.as_deref())
        .map_err(|fault| match fault {
            LoginFault::UnknownUser => {
                turn_away(Refusal::UnknownUser, ConnectAnswer::NotAuthorized)
            }
            LoginFault::WrongSecret => {
                turn_away(Refusal::WrongSecret, ConnectAnswer::BadUserNameOrPassword)
            }
        })?;
    if hello.client_id.is_empty() && !hello.clean_session {
        return Err(turn_away(
            Refusal::ClientId,
            ConnectAnswer::IdentifierRejected,
        ));
    }
    let permits = |will: &Will| credential.may_publish(&will.topic);
    if !hello.will.as_ref().is_none_or(permits) {
        return Err(turn_away(
            Refusal::WillNotPermitted,
            ConnectAnswer::NotAuthorized,
        ));
    }
    Ok(credential)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_one_and_a_half_keep_alives_and_endless_at_zero() {
        assert_eq!(patience(0), None);
        assert_eq!(patience(1), Some(Duration::from_millis(1_500)));
        assert_eq!(patience(u16::MAX), Some(Duration::from_millis(98_302_500)));
    }
}
