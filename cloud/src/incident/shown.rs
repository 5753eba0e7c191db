//! Cases as people see them, within their reach.
//!
//! The only SQL that asks who may see a case. Reading only. A case whose row cannot be read and that
//! its journal does not give back either is shown as [`Shown::Unreadable`], never left out and never
//! in the way of another.

use std::collections::BTreeMap;

use domain::id::{CentreId, DeviceId, DispatchId, EventId, IncidentId, PointId, ReceiverId};
use domain::time::Timestamp;
use uuid::Uuid;

use super::Case;
use super::journal::{self, Said};
use super::store::{Read, read};
use super::timeline::{TimelineLine, timeline};
use crate::access::{Role, Scope};
use crate::column::number;
use crate::commands::{self, Given};
use crate::db::{DbError, Tx};
use crate::sql;

/// Lines of a case's story that are shown; older ones stay in the journal.
pub const TIMELINE_LINES: usize = 50;
/// Newest entries a story is told from; what is older stays in the journal.
const TIMELINE_ENTRIES: u32 = 500;
/// Most cases of one list, most urgent or newest first; the rest is not listed.
pub const LIST_MAX: i64 = 200;

/// A case as far as it can be shown.
#[derive(Clone, PartialEq, Debug)]
pub enum Shown {
    /// All of it.
    Case(Box<CaseRecord>),
    /// What stands beside a row that cannot be read.
    Unreadable(UnreadableCase),
}

/// A case of which only the columns are known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnreadableCase {
    /// Its name.
    pub id: IncidentId,
    /// Where.
    pub centre: CentreId,
    /// What people call the centre.
    pub centre_name: String,
    /// What threatens people: a word of [`Hazard`](domain::kind::Hazard).
    pub hazard: String,
    /// A word of [`Handling`](super::Handling), as it last was.
    pub state: String,
    /// How urgent.
    pub priority: i64,
    /// When the first report was committed.
    pub opened_at: Timestamp,
    /// Rises with each change.
    pub version: i64,
    /// Whether it is on the board.
    pub on_board: bool,
}

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
    /// The newest command about each point of the centre since the case opened.
    pub commands: Vec<Given>,
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

type CaseRow = (
    Uuid,
    Uuid,
    String,
    String,
    String,
    i64,
    i64,
    i64,
    bool,
    String,
);

/// `reached!` with the columns of a [`CaseRow`].
macro_rules! reached_cases {
    ($rest:literal) => {
        reached!(
            "i.id, i.centre, c.name, i.hazard, i.state, i.priority, i.opened_at, i.version,
             i.on_board, i.body",
            $rest
        )
    };
}

/// The cases a scope reaches, at most [`LIST_MAX`].
///
/// # Errors
/// When the store fails.
pub async fn cases(
    tx: &mut Tx,
    scope: &Scope,
    which: Which,
    now: Timestamp,
) -> Result<Vec<Shown>, DbError> {
    let query = match which {
        Which::Open => reached_cases!("and i.on_board order by i.priority, i.opened_at limit $4"),
        Which::Closed => {
            reached_cases!("and i.state = 'closed' order by i.opened_at desc limit $4")
        }
        Which::All => reached_cases!("order by i.opened_at desc limit $4"),
    };
    let rows = sql!(
        tx,
        fetch_all as CaseRow,
        query,
        scope.own_centre(),
        scope.acting_as(Role::Operator),
        now.micros(),
        LIST_MAX
    )?;
    let mut cases = Vec::with_capacity(rows.len());
    for row in rows {
        cases.push(shown(tx, row).await?);
    }
    Ok(cases)
}

/// One case, if the scope reaches it.
///
/// # Errors
/// When the store fails.
pub async fn case(
    tx: &mut Tx,
    scope: &Scope,
    incident: IncidentId,
    now: Timestamp,
) -> Result<Option<Shown>, DbError> {
    let row = sql!(
        tx,
        fetch_optional as CaseRow,
        reached_cases!("and i.id = $4"),
        scope.own_centre(),
        scope.acting_as(Role::Operator),
        now.micros(),
        incident.0
    )?;
    match row {
        Some(row) => Ok(Some(shown(tx, row).await?)),
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

async fn shown(tx: &mut Tx, row: CaseRow) -> Result<Shown, DbError> {
    let (id, centre, centre_name, hazard, state, priority, opened_at, version, on_board, body) =
        row;
    let (id, centre) = (IncidentId(id), CentreId(centre));
    match read(tx, centre, id, &body).await? {
        Read::Case(case) => {
            let record = record(tx, centre_name, *case).await?;
            Ok(Shown::Case(Box::new(record)))
        }
        Read::Unreadable => Ok(Shown::Unreadable(UnreadableCase {
            id,
            centre,
            centre_name,
            hazard,
            state,
            priority,
            opened_at: Timestamp::from_micros(opened_at),
            version,
            on_board,
        })),
    }
}

async fn record(tx: &mut Tx, centre_name: String, case: Case) -> Result<CaseRecord, DbError> {
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
        Some(Said::Batch(_) | Said::Command(_)) | None => None,
    });
    Ok(CaseRecord {
        centre_name,
        receiver_names: names
            .into_iter()
            .map(|(id, name)| (ReceiverId(id), name))
            .collect(),
        timeline: timeline(&entries, TIMELINE_LINES),
        closing_note,
        commands: commands::shown::newest_of_points(tx, case.centre, case.opened_at).await?,
        case,
    })
}
