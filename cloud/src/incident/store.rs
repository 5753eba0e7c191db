//! Cases in the store: how a case's row is written and read back by our own work.
//!
//! A row that cannot be read is rebuilt from the case's journal. If that fails too the case is set
//! aside: it stays on the board, out of the way of every other, and the next alarm of its hazard
//! opens a new case. Never changes a case by itself: the engine does, under the centre's lock.

use domain::id::{CentreId, IncidentId, ReceiverId};
use domain::kind::Hazard;
use domain::time::Timestamp;
use uuid::Uuid;

use super::decide::next_deadline;
use super::journal::{self, Said};
use super::{Case, Fact, Handling, Priority};
use crate::access::Scope;
use crate::column::{number, storable};
use crate::db::{DbError, Tx};
use crate::dispatch::plan::{Plan, PlanReceiver};
use crate::sql;

/// Entries of a case's journal read at once when its row is rebuilt.
const ENTRIES_AT_ONCE: u32 = 500;

/// A case's row, as far as it can be read.
#[derive(Clone, PartialEq, Debug)]
pub enum Read {
    /// The case.
    Case(Box<Case>),
    /// Neither its row nor its journal gives it back.
    Unreadable,
}

/// A centre's cases that are not closed.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct OpenCases {
    /// One per hazard at most, oldest first.
    pub cases: Vec<Case>,
    /// Those that cannot be read and are not set aside yet.
    pub unreadable: Vec<IncidentId>,
}

/// Reads a row; if it cannot be read, rebuilds the case from its journal.
///
/// # Errors
/// When the store fails.
pub async fn read(
    tx: &mut Tx,
    centre: CentreId,
    incident: IncidentId,
    body: &str,
) -> Result<Read, DbError> {
    let why = match serde_json::from_str::<Case>(body) {
        Ok(case) if case.id == incident && case.centre == centre => {
            return Ok(Read::Case(Box::new(case)));
        }
        Ok(_) => "it is of another case".to_owned(),
        Err(error) => error.to_string(),
    };
    let rebuilt = rebuilt(tx, centre, incident).await?;
    let done = if rebuilt.is_some() {
        "rebuilt from its journal"
    } else {
        "its journal cannot be read either"
    };
    tracing::error!(%centre, %incident, why, "a case's row cannot be read: {done}");
    Ok(rebuilt.map_or(Read::Unreadable, |case| Read::Case(Box::new(case))))
}

/// A case from its journal; none if an entry is erased or cannot be read.
async fn rebuilt(
    tx: &mut Tx,
    centre: CentreId,
    incident: IncidentId,
) -> Result<Option<Case>, DbError> {
    let (mut entries, mut after) = (Vec::new(), 0);
    loop {
        let page = journal::of_case(tx, centre, incident, after, ENTRIES_AT_ONCE).await;
        let page = match page {
            Err(DbError::Corrupt { .. }) => return Ok(None),
            page => page?,
        };
        let Some(last) = page.last() else {
            return Ok(Case::rebuild(&entries).filter(|case| case.id == incident));
        };
        after = last.seq;
        for kept in page {
            match kept.said {
                Some(Said::Case(_, entry)) => entries.push(*entry),
                Some(Said::Batch(_) | Said::Command(_)) | None => return Ok(None),
            }
        }
    }
}

/// Every case of a centre that is not closed and not set aside.
///
/// # Errors
/// When the store fails.
pub async fn open_of_centre(tx: &mut Tx, scope: &Scope) -> Result<OpenCases, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (Uuid, Uuid, String),
        "select centre, id, body from incident
         where centre = $1 and state <> 'closed' and not unreadable order by opened_at, id",
        scope.own_centre()
    )?;
    let mut open = OpenCases::default();
    for (centre, id, body) in rows {
        let id = IncidentId(id);
        match read(tx, CentreId(centre), id, &body).await? {
            Read::Case(case) => open.cases.push(*case),
            Read::Unreadable => open.unreadable.push(id),
        }
    }
    Ok(open)
}

/// One case of a centre, for our own work.
///
/// # Errors
/// When the store fails; [`DbError::Corrupt`] when the case cannot be read.
pub async fn of_centre(
    tx: &mut Tx,
    scope: &Scope,
    incident: IncidentId,
) -> Result<Option<Case>, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (Uuid, String),
        "select centre, body from incident where centre = $1 and id = $2",
        scope.own_centre(),
        incident.0
    )?;
    let Some((centre, body)) = row else {
        return Ok(None);
    };
    match read(tx, CentreId(centre), incident, &body).await? {
        Read::Case(case) => Ok(Some(*case)),
        Read::Unreadable => Err(DbError::corrupt("incident.body")("nor can its journal")),
    }
}

/// Sets a case that cannot be read aside: on the board at the top, and in nobody's way.
///
/// # Errors
/// When the store fails.
pub async fn set_aside(tx: &mut Tx, scope: &Scope, incident: IncidentId) -> Result<(), DbError> {
    sql!(
        tx,
        execute,
        "update incident set unreadable = true, on_board = true, priority = $3,
           deadline_at = null, version = version + 1
         where centre = $1 and id = $2 and not unreadable",
        scope.own_centre(),
        incident.0,
        i64::from(Priority::P1.0)
    )?;
    Ok(())
}

/// How many cases are set aside, for metrics.
///
/// # Errors
/// When the store fails.
pub async fn unreadable(tx: &mut Tx) -> Result<i64, DbError> {
    let text = "select count(*) from incident where unreadable";
    let (count,) = sql!(tx, fetch_one as (i64,), text)?;
    Ok(count)
}

/// The newest case of a hazard at a centre, if it closed at that instant or later or is set aside.
///
/// # Errors
/// When the store fails.
pub async fn before_it(
    tx: &mut Tx,
    scope: &Scope,
    hazard: Hazard,
    since: Timestamp,
) -> Result<Option<IncidentId>, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (Uuid, Option<i64>, bool),
        "select id, closed_at, unreadable from incident where centre = $1 and hazard = $2
         order by opened_at desc, id desc limit 1",
        scope.own_centre(),
        hazard.as_str()
    )?;
    let linked = |closed_at: Option<i64>| closed_at.is_some_and(|at| at >= since.micros());
    Ok(row
        .filter(|(_, closed_at, unreadable)| *unreadable || linked(*closed_at))
        .map(|(id, _, _)| IncidentId(id)))
}

/// The plan in force at a centre.
///
/// # Errors
/// When the store fails or a row cannot be read.
pub async fn plan_of_centre(tx: &mut Tx, scope: &Scope) -> Result<Plan, DbError> {
    let (fire_needs_verification,) = sql!(
        tx,
        fetch_one as (bool,),
        "select fire_needs_verification from centre where id = $1",
        scope.own_centre()
    )?;
    let rows = sql!(
        tx,
        fetch_all as (Uuid, String, String),
        "select r.id, r.agency, a.account from receiver_account a
         join receiver r on r.id = a.receiver where a.centre = $1 order by r.id",
        scope.own_centre()
    )?;
    let receivers = rows.into_iter().map(|(receiver, agency, account)| {
        Ok(PlanReceiver {
            receiver: ReceiverId(receiver),
            agency: agency
                .parse()
                .map_err(DbError::corrupt("receiver.agency"))?,
            account,
        })
    });
    Ok(Plan {
        fire_needs_verification,
        receivers: receivers.collect::<Result<_, DbError>>()?,
    })
}

/// Writes a case's row.
///
/// # Errors
/// When the store fails.
pub async fn save(tx: &mut Tx, scope: &Scope, case: &Case) -> Result<(), DbError> {
    let body = serde_json::to_string(case).map_err(DbError::corrupt("incident.body"))?;
    sql!(
        tx,
        execute,
        "insert into incident
         (centre, id, hazard, state, priority, on_board, opened_at, deadline_at, version, body,
           closed_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         on conflict (centre, id) do update set state = excluded.state,
           priority = excluded.priority, on_board = excluded.on_board,
           deadline_at = excluded.deadline_at, version = excluded.version, body = excluded.body,
           closed_at = excluded.closed_at",
        scope.own_centre(),
        case.id.0,
        case.hazard.as_str(),
        case.handling.as_str(),
        i64::from(case.priority.0),
        case.on_board(),
        case.opened_at.micros(),
        next_deadline(case).map(Timestamp::micros),
        number(case.version),
        body.clone(),
        closed_at(case).map(Timestamp::micros)
    )?;
    Ok(())
}

fn closed_at(case: &Case) -> Option<Timestamp> {
    match case.handling {
        Handling::Closed { at, .. } => Some(at),
        Handling::Open { .. } | Handling::Acknowledged { .. } => None,
    }
}

/// Keeps an activation or clearing with its case.
///
/// # Errors
/// When the store fails.
pub async fn keep_event(
    tx: &mut Tx,
    scope: &Scope,
    incident: IncidentId,
    seq: u64,
    fact: &Fact,
    now: Timestamp,
) -> Result<(), DbError> {
    let state = match fact.state {
        domain::event::State::Raised => "raised",
        domain::event::State::Cleared => "cleared",
    };
    sql!(
        tx,
        execute,
        "insert into incident_event (centre, incident, seq, event, vendor_id, device, point, kind,
           state, received_at, committed_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        scope.own_centre(),
        incident.0,
        number(seq),
        fact.event.0,
        fact.vendor_id.as_deref().map(storable),
        fact.source.as_ref().map(|key| key.device.as_str()),
        fact.source.as_ref().map(|key| key.point.as_str()),
        fact.kind.as_str(),
        state,
        fact.received_at.micros(),
        now.micros()
    )?;
    Ok(())
}

/// Cases whose deadline has come, the most overdue first.
///
/// # Errors
/// When the store fails.
pub async fn due(
    tx: &mut Tx,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<(CentreId, IncidentId)>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (Uuid, Uuid),
        "select centre, id from incident where deadline_at <= $1 order by deadline_at limit $2",
        now.micros(),
        i64::from(limit)
    )?;
    Ok(rows
        .into_iter()
        .map(|(centre, id)| (CentreId(centre), IncidentId(id)))
        .collect())
}
