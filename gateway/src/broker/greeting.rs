//! From an accepted socket to a logged-in client: CONNECT and its answer.
//!
//! Owns nothing beyond the call. Everything here serves strangers: input is small, bounded in time, and
//! answered by name or closed.

use std::convert::Infallible;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{oneshot, watch};

use super::access::{Access, Credential, LoginFault};
use super::codec::{
    self, Fault, Hello, Refused, Version, Welcome, Will, begins_connection, complete, read_connect,
};
use super::line::Line;
use super::listener::House;
use super::report::{CloseReason, Refusal};
use super::seat::Seat;
use super::session::{Asking, NoSeat, Welcomed};
use super::{CLIENT_ID_BYTES, TOPIC_ALIASES};

/// A client that is logged in. Its CONNACK waits in the line's output.
pub(super) struct Guest {
    pub(super) seat: Seat,
    pub(super) version: Version,
    pub(super) credential: Arc<Credential>,
    /// Tells of changes since the log-in was checked.
    pub(super) access: watch::Receiver<Arc<Access>>,
    /// Longest silence allowed, or `None` = no limit.
    pub(super) patience: Option<Duration>,
    /// Bytes of the largest packet the client takes.
    pub(super) limit: Option<u32>,
    /// The session ends with the connection.
    pub(super) fleeting: bool,
    /// Ends when a newer connection has taken the session.
    pub(super) lost: oneshot::Receiver<Infallible>,
}

/// How a CONNECT is turned away: what is counted, what is answered, and whose it was.
struct TurnedAway {
    why: Refusal,
    answer: Refused,
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
    let frame = line.input.split_to(length);
    let hello = match read_connect(&frame, house.limits.topic) {
        Ok(hello) => hello,
        Err(fault) => return Err(turn_away(line, house, &frame, fault)),
    };
    let (version, patience) = (hello.version, patience(hello.keep_alive));
    let (limit, fleeting) = (hello.maximum_packet, hello.session_expiry == 0);
    let mut access = house.access.clone();
    match admit(hello, &mut access, house).await? {
        Ok((seat, credential, welcomed)) => {
            let welcome = welcome(&welcomed, house);
            let present = welcomed.present;
            let written = codec::connack(&mut line.output, version, present, &welcome, limit);
            // Only an absurd limit of the client's is too small for it.
            written.map_err(|codec::TooLarge| CloseReason::Protocol)?;
            Ok(Guest {
                seat,
                version,
                credential,
                access,
                patience,
                limit,
                fleeting,
                lost: welcomed.lost,
            })
        }
        Err(TurnedAway {
            why,
            answer,
            username,
        }) => {
            codec::connack_refused(&mut line.output, version, answer);
            house.reporter.refused(username.as_deref(), why);
            Err(CloseReason::Refused)
        }
    }
}

/// Answers a first frame that is no sound CONNECT, as far as the client could understand it.
fn turn_away<R, W>(
    line: &mut Line<R, W>,
    house: &House,
    frame: &[u8],
    fault: Fault,
) -> CloseReason {
    if let Some(version) = codec::refusal_version(frame) {
        codec::connack_refused(&mut line.output, version, fault.refusal());
    }
    if let Fault::Level(_) = fault {
        house.reporter.refused(None, Refusal::ProtocolVersion);
        return CloseReason::Refused;
    }
    if fault == Fault::ClientId {
        house.reporter.refused(None, Refusal::ClientId);
        return CloseReason::Refused;
    }
    fault.into()
}

/// What a client let in is told of our limits. 3.1.1 has no words for it.
fn welcome(welcomed: &Welcomed, house: &House) -> Welcome {
    let limits = &house.limits;
    let window = u16::try_from(limits.pending_publishes).unwrap_or(u16::MAX);
    let largest = u32::try_from(limits.packet_bytes).unwrap_or(u32::MAX);
    Welcome {
        assigned_client_id: welcomed.assigned.clone(),
        receive_maximum: NonZeroU16::new(window),
        maximum_packet: NonZeroU32::new(largest),
        server_keep_alive: None,
        alias_maximum: TOPIC_ALIASES,
        session_expiry: None,
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
) -> Result<Result<(Seat, Arc<Credential>, Welcomed), TurnedAway>, CloseReason> {
    let credential = match check(&hello, &access.borrow_and_update()) {
        Ok(credential) => credential,
        Err(turned_away) => return Ok(Err(turned_away)),
    };
    let asking = Asking {
        client_id: hello.client_id,
        clean_start: hello.clean_start,
        expiry: hello.session_expiry,
        will: hello.will,
        receive_maximum: hello.receive_maximum,
    };
    let named = hello.version == Version::V5;
    let seat = house.sessions.open(&credential, asking, named).await;
    match seat {
        Ok((seat, welcomed)) => Ok(Ok((seat, credential, welcomed))),
        Err(NoSeat::IntakeClosed) => Err(CloseReason::IntakeClosed),
        Err(NoSeat::NotStored) => Err(CloseReason::CommitFailed),
        Err(NoSeat::Full) => Ok(Err(TurnedAway {
            why: Refusal::Full,
            answer: Refused::ServerUnavailable,
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
    if hello.authentication_method {
        let answer = Refused::BadAuthenticationMethod;
        return Err(turn_away(Refusal::Authentication, answer));
    }
    let credential = access
        .log_in(hello.username.as_deref(), hello.secret.as_deref())
        .map_err(|fault| {
            // One answer for both: it tells a stranger no user name.
            let answer = Refused::BadUserNameOrPassword;
            match fault {
                LoginFault::UnknownUser => turn_away(Refusal::UnknownUser, answer),
                LoginFault::WrongSecret => turn_away(Refusal::WrongSecret, answer),
            }
        })?;
    if hello.client_id.len() > CLIENT_ID_BYTES {
        return Err(turn_away(Refusal::ClientId, Refused::ClientIdNotValid));
    }
    let permits = |will: &Will| credential.may_publish(&will.message.topic);
    if !hello.will.as_ref().is_none_or(permits) {
        return Err(turn_away(Refusal::WillNotPermitted, Refused::NotAuthorized));
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
