//! Requests in the store: the only SQL over `dispatch` and `attempt` and over a receiver's numbers.
//!
//! The `dispatch` row is what a dispatcher searches; the request itself rests in its case.

use domain::id::{CentreId, DispatchId, IncidentId, ReceiverId};
use domain::time::Timestamp;
use uuid::Uuid;

use super::job::Job;
use super::{Claimed, Outcome, RefusedBy};
use crate::access::Scope;
use crate::db::{DbError, Tx};
use crate::sql;

/// Writes a request's row.
///
/// # Errors
/// When the store fails.
pub async fn save(
    tx: &mut Tx,
    scope: &Scope,
    incident: IncidentId,
    job: &Job,
) -> Result<(), DbError> {
    sql!(
        tx,
        execute,
        "insert into dispatch
         (centre, id, incident, receiver, step, purpose, state, urgency, queued_at, due_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         on conflict (centre, id) do update set state = excluded.state,
           urgency = excluded.urgency, due_at = excluded.due_at",
        scope.own_centre(),
        job.id.0,
        incident.0,
        job.receiver.0,
        job.step.as_str(),
        job.purpose.as_str(),
        job.state.as_str(),
        job.urgency(),
        job.queued_at.micros(),
        job.due_at().map(Timestamp::micros)
    )?;
    Ok(())
}

/// A request that may be claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Whose.
    pub centre: CentreId,
    /// Its case.
    pub incident: IncidentId,
    /// It.
    pub dispatch: DispatchId,
}

/// The most urgent due request of a receiver, seen without any lock: to be looked at again under the
/// centre's.
///
/// # Errors
/// When the store fails.
pub async fn most_urgent(
    tx: &mut Tx,
    receiver: ReceiverId,
    now: Timestamp,
) -> Result<Option<Candidate>, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (Uuid, Uuid, Uuid),
        "select d.centre, d.incident, d.id from dispatch d
         where d.receiver = $1 and d.due_at <= $2
           and not exists (select 1 from dispatch o where o.incident = d.incident
             and o.receiver = d.receiver and o.state = 'sending')
         order by d.urgency, d.due_at limit 1",
        receiver.0,
        now.micros()
    )?;
    Ok(row.map(|(centre, incident, dispatch)| Candidate {
        centre: CentreId(centre),
        incident: IncidentId(incident),
        dispatch: DispatchId(dispatch),
    }))
}

/// Puts a request off, if it is still due and no other of its case is in hand at its receiver; says
/// whether it was.
///
/// # Errors
/// When the store fails.
pub async fn put_off(
    tx: &mut Tx,
    scope: &Scope,
    candidate: &Candidate,
    now: Timestamp,
    until: Timestamp,
) -> Result<bool, DbError> {
    let rows = sql!(
        tx,
        execute,
        "update dispatch set due_at = $4 where centre = $1 and id = $2 and due_at <= $3
           and not exists (select 1 from dispatch o where o.incident = dispatch.incident
             and o.receiver = dispatch.receiver and o.state = 'sending')",
        scope.own_centre(),
        candidate.dispatch.0,
        now.micros(),
        until.micros()
    )?;
    Ok(rows > 0)
}

/// Allocates a receiver's next sequence number: 1 to 9999, then 1 again (SIA DC-09).
///
/// # Errors
/// When the store fails.
pub async fn next_number(tx: &mut Tx, receiver: ReceiverId) -> Result<u16, DbError> {
    let (next,) = sql!(
        tx,
        fetch_one as (i64,),
        "update receiver set next_number = case when next_number >= 9999 then 1
           else next_number + 1 end
         where id = $1 returning next_number",
        receiver.0
    )?;
    let used = if next == 1 { 9_999 } else { next - 1 };
    u16::try_from(used).map_err(DbError::corrupt("receiver.next_number"))
}

/// The bytes of a request's last attempt.
///
/// # Errors
/// When the store fails.
pub async fn last_frame(
    tx: &mut Tx,
    scope: &Scope,
    dispatch: DispatchId,
) -> Result<Option<Vec<u8>>, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (Vec<u8>,),
        "select frame from attempt where centre = $1 and dispatch = $2 order by n desc limit 1",
        scope.own_centre(),
        dispatch.0
    )?;
    Ok(row.map(|(frame,)| frame))
}

/// Keeps an attempt with its bytes, before the first of them leaves.
///
/// # Errors
/// When the store fails.
pub async fn begin_attempt(
    tx: &mut Tx,
    scope: &Scope,
    claimed: &Claimed,
    now: Timestamp,
) -> Result<(), DbError> {
    sql!(
        tx,
        execute,
        "insert into attempt (centre, dispatch, n, target, account, number, frame, begun_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        scope.own_centre(),
        claimed.order.dispatch.0,
        i64::from(claimed.attempt),
        claimed.target.as_str(),
        claimed.order.account.as_str(),
        i64::from(claimed.number),
        claimed.frame.clone(),
        now.micros()
    )?;
    Ok(())
}

/// Keeps how an attempt ended, with the reply's bytes.
///
/// # Errors
/// When the store fails.
pub async fn end_attempt(
    tx: &mut Tx,
    scope: &Scope,
    dispatch: DispatchId,
    attempt: u32,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<(), DbError> {
    let (word, reply) = match outcome {
        Outcome::Received { reply } => ("received", Some(reply.clone())),
        Outcome::Unanswered => ("unanswered", None),
        Outcome::Nak { .. } => ("nak", None),
        Outcome::Refused { why } => match why {
            RefusedBy::Duh => ("refused.duh", None),
            RefusedBy::NakAgain => ("refused.nak", None),
            RefusedBy::UnknownAccount => ("refused.unknown_account", None),
            RefusedBy::OurSettings => ("refused.our_settings", None),
        },
        Outcome::NotSent { .. } => ("not_sent", None),
    };
    sql!(
        tx,
        execute,
        "update attempt set ended_at = $4, outcome = $5, reply = $6
         where centre = $1 and dispatch = $2 and n = $3",
        scope.own_centre(),
        dispatch.0,
        i64::from(attempt),
        now.micros(),
        word,
        reply.clone()
    )?;
    Ok(())
}
