//! Cases in the store: the only SQL over `incident` and `incident_event`.
//!
//! Owns how a case rests and who may read it. Never changes a case by itself: the engine does, under
//! the centre's lock.

use std::collections::BTreeMap;

use domain::id::{CentreId, DeviceId, DispatchId, EventId, IncidentId, PointId, ReceiverId};
use domain::kind::Hazard;
use domain::time::Timestamp;
use uuid::Uuid;

use super::decide::next_deadline;
use super::journal::{self, Said};
use super::timeline::{TimelineLine, timeline};
use super::{Case, Fact, Handling};
use crate::access::{Role, Scope};
use crate::column::{number, storable};
use crate::db::{DbError, Tx};
use crate::dispatch::plan::{Plan, PlanReceiver};
use crate::sql;

/// Lines of a case's story that are shown; older ones stay in the journal.
pub const TIMELINE_LINES: usize = 50;
/// Newest entries a story is told from; what is older stays in the journal.
const TIMELINE_ENTRIES: u32 = 500;
/// Most cases of one list, most urgent or newest first; the rest is not listed.
pub const LIST_MAX: i64 = 200;

/// A case with what is shown around it.
#[derive(Clone, PartialEq, Debug)]
pub struct CaseRecord {
    /// The case.
    pub case: Case,
    /// What people call the centre.
    pub centre_name: String,
    /// What people call the receivers of its requests.
    pub receiver_names: BTreeMap<ReceiverId, String>,
    /// Its story, oldest first, at most [`TIMELINE_LINES`].
    pub timeline: Vec<TimelineLine>,
    /// What the person who closed it wrote; none once erased.
    pub closing_note: Option<String>,
}

/// An activation or clearing kept in a case, coalesced ones too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredEvent {
    /// Journal number.
    pub seq: u64,
    /// The event.
    pub event: EventId,
    /// The device's own id of it.
    pub vendor_id: Option<String>,
    /// The hardware.
    pub device: Option<DeviceId>,
    /// Its input.
    pub point: Option<PointId>,
    /// The word of what happened.
    pub kind: String,
    /// Raised or cleared.
    pub state: String,
    /// By the box's clock.
    pub received_at: Timestamp,
    /// By ours.
    pub committed_at: Timestamp,
    /// Where.
    pub centre: CentreId,
}

/// Which cases a list shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// Those on the board (see [`Case::on_board`]), most urgent first.
    Open,
    /// Those closed, newest first.
    Closed,
    /// All, newest first.
    All,
}

/// Cases, centre's name and case body, that a scope reaches: our own work on a centre ($1), or an
/// operator or shift lead ($2) of its watch room at an instant ($3).
macro_rules! reached {
    ($columns:literal, $rest:literal) => {
        concat!(
            "select ",
            $columns,
            " from incident i join centre c on c.id = i.centre
             where (i.centre = $1 or exists (select 1 from role_grant g
                 where g.person = $2 and g.role in ('operator', 'shift_lead')
                   and g.watch_room = c.watch_room
                   and g.from_at <= $3 and (g.until_at is null or g.until_at > $3))) ",
            $rest
        )
    };
}

/// The cases a scope reaches, at most [`LIST_MAX`].
///
/// # Errors
/// When the store fails or a case cannot be read.
pub async fn cases(
    tx: &mut Tx,
    scope: &Scope,
    which: Which,
    now: Timestamp,
) -> Result<Vec<CaseRecord>, DbError> {
    let query = match which {
        Which::Open => reached!(
            "c.name, i.body",
            "and i.on_board order by i.priority, i.opened_at limit $4"
        ),
        Which::Closed => reached!(
            "c.name, i.body",
            "and i.state = 'closed' order by i.opened_at desc limit $4"
        ),
        Which::All => reached!("c.name, i.body", "order by i.opened_at desc limit $4"),
    };
    let rows = sql!(
        tx,
        fetch_all as (String, String),
        query,
        scope.own_centre(),
        scope.acting_as(Role::Operator),
        now.micros(),
        LIST_MAX
    )?;
    let mut records = Vec::with_capacity(rows.len());
    for (centre_name, body) in rows {
        records.push(record(tx, centre_name, &body).await?);
    }
    Ok(records)
}

/// One case, if the scope reaches it.
///
/// # Errors
/// When the store fails or the case cannot be read.
pub async fn case(
    tx: &mut Tx,
    scope: &Scope,
    incident: IncidentId,
    now: Timestamp,
) -> Result<Option<CaseRecord>, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (String, String),
        reached!("c.name, i.body", "and i.id = $4"),
        scope.own_centre(),
        scope.acting_as(Role::Operator),
        now.micros(),
        incident.0
    )?;
    match row {
        Some((centre_name, body)) => Ok(Some(record(tx, centre_name, &body).await?)),
        None => Ok(None),
    }
}

/// Where a case is, if the scope reaches it.
///
/// # Errors
/// When the store fails.
pub async fn centre_of(
    tx: &mut Tx,
    scope: &Scope,
    incident: IncidentId,
    now: Timestamp,
) -> Result<Option<CentreId>, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (Uuid,),
        reached!("i.centre", "and i.id = $4"),
        scope.own_centre(),
        scope.acting_as(Role::Operator),
        now.micros(),
        incident.0
    )?;
    Ok(row.map(|(centre,)| CentreId(centre)))
}

/// Where a request's case is and which it is, if the scope reaches it.
///
/// # Errors
/// When the store fails.
pub async fn case_of_dispatch(
    tx: &mut Tx,
    scope: &Scope,
    dispatch: DispatchId,
    now: Timestamp,
) -> Result<Option<(CentreId, IncidentId)>, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (Uuid, Uuid),
        reached!(
            "i.centre, i.id",
            "and i.id = (select d.incident from dispatch d where d.id = $4)"
        ),
        scope.own_centre(),
        scope.acting_as(Role::Operator),
        now.micros(),
        dispatch.0
    )?;
    Ok(row.map(|(centre, incident)| (CentreId(centre), IncidentId(incident))))
}

/// Every activation and clearing kept in a case after a journal number, oldest first.
///
/// # Errors
/// When the store fails or a row cannot be read.
pub async fn events(
    tx: &mut Tx,
    scope: &Scope,
    incident: IncidentId,
    after: u64,
    limit: u32,
    now: Timestamp,
) -> Result<Vec<StoredEvent>, DbError> {
    let Some(centre) = centre_of(tx, scope, incident, now).await? else {
        return Ok(Vec::new());
    };
    let rows = sql!(
        tx,
        fetch_all as EventRow,
        "select seq, event, vendor_id, device, point, kind, state, received_at, committed_at
         from incident_event where centre = $1 and incident = $2 and seq > $3
         order by seq limit $4",
        centre.0,
        incident.0,
        number(after),
        i64::from(limit)
    )?;
    rows.into_iter()
        .map(|row| stored_event(row, centre))
        .collect()
}

type EventRow = (
    i64,
    Uuid,
    Option<String>,
    Option<String>,
    Option<String>,
    String,
    String,
    i64,
    i64,
);

fn stored_event(row: EventRow, centre: CentreId) -> Result<StoredEvent, DbError> {
    let (seq, event, vendor_id, device, point, kind, state, received_at, committed_at) = row;
    Ok(StoredEvent {
        seq: u64::try_from(seq).map_err(DbError::corrupt("incident_event.seq"))?,
        event: EventId(event),
        vendor_id,
        device: device
            .map(DeviceId::try_from)
            .transpose()
            .map_err(DbError::corrupt("incident_event.device"))?,
        point: point
            .map(PointId::try_from)
            .transpose()
            .map_err(DbError::corrupt("incident_event.point"))?,
        kind,
        state,
        received_at: Timestamp::from_micros(received_at),
        committed_at: Timestamp::from_micros(committed_at),
        centre,
    })
}

async fn record(tx: &mut Tx, centre_name: String, body: &str) -> Result<CaseRecord, DbError> {
    let case = read_case(body)?;
    let names = sql!(
        tx,
        fetch_all as (Uuid, String),
        "select distinct r.id, r.name from dispatch d join receiver r on r.id = d.receiver
         where d.centre = $1 and d.incident = $2",
        case.centre.0,
        case.id.0
    )?;
    let entries = journal::tail_of_case(tx, &case, TIMELINE_ENTRIES).await?;
    let closing_note = entries.iter().rev().find_map(|kept| match &kept.said {
        Some(Said::Case(_, entry)) => entry.closing_note().map(str::to_owned),
        Some(Said::Batch(_)) | None => None,
    });
    Ok(CaseRecord {
        centre_name,
        receiver_names: names
            .into_iter()
            .map(|(id, name)| (ReceiverId(id), name))
            .collect(),
        timeline: timeline(&entries, TIMELINE_LINES),
        closing_note,
        case,
    })
}

fn read_case(body: &str) -> Result<Case, DbError> {
    serde_json::from_str(body).map_err(DbError::corrupt("incident.body"))
}

/// Every case of a centre that is not closed; one per hazard at most.
///
/// # Errors
/// When the store fails or a case cannot be read.
pub async fn open_of_centre(tx: &mut Tx, scope: &Scope) -> Result<Vec<Case>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (String,),
        "select body from incident where centre = $1 and state <> 'closed' order by opened_at, id",
        scope.own_centre()
    )?;
    rows.iter().map(|(body,)| read_case(body)).collect()
}

/// One case of a centre, for our own work.
///
/// # Errors
/// When the store fails or the case cannot be read.
pub async fn of_centre(
    tx: &mut Tx,
    scope: &Scope,
    incident: IncidentId,
) -> Result<Option<Case>, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (String,),
        "select body from incident where centre = $1 and id = $2",
        scope.own_centre(),
        incident.0
    )?;
    row.map(|(body,)| read_case(&body)).transpose()
}

/// The newest case of a hazard at a centre, if it closed at that instant or later.
///
/// # Errors
/// When the store fails or the case cannot be read.
pub async fn closed_since(
    tx: &mut Tx,
    scope: &Scope,
    hazard: Hazard,
    since: Timestamp,
) -> Result<Option<IncidentId>, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (String,),
        "select body from incident where centre = $1 and hazard = $2
         order by opened_at desc, id desc limit 1",
        scope.own_centre(),
        hazard.as_str()
    )?;
    let newest = row.map(|(body,)| read_case(&body)).transpose()?;
    Ok(newest.and_then(|case| match case.handling {
        Handling::Closed { at, .. } if at >= since => Some(case.id),
        Handling::Closed { .. } | Handling::Open { .. } | Handling::Acknowledged { .. } => None,
    }))
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
         (centre, id, hazard, state, priority, on_board, opened_at, deadline_at, version, body)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         on conflict (centre, id) do update set state = excluded.state,
           priority = excluded.priority, on_board = excluded.on_board,
           deadline_at = excluded.deadline_at, version = excluded.version, body = excluded.body",
        scope.own_centre(),
        case.id.0,
        case.hazard.as_str(),
        case.handling.as_str(),
        i64::from(case.priority.0),
        case.on_board(),
        case.opened_at.micros(),
        next_deadline(case).map(Timestamp::micros),
        number(case.version),
        body.clone()
    )?;
    Ok(())
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

/// How many cases stand on the board, by priority, for metrics.
///
/// # Errors
/// When the store fails.
pub async fn open_by_priority(tx: &mut Tx) -> Result<Vec<(i64, i64)>, DbError> {
    Ok(sql!(
        tx,
        fetch_all as (i64, i64),
        "select priority, count(*) from incident where on_board group by priority order by priority"
    )?)
}
