//! What operators see: the cases of their watch room's centres.
//!
//! Reading only. Each statement binds the person and asks `role_grant` at that instant, so a case of
//! another room is not there at all.

use std::collections::BTreeMap;

use domain::id::{CentreId, IncidentId, ReceiverId};
use domain::time::Timestamp;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::access::{Role, Scope};
use crate::db::{DbError, Tx};
use crate::incident::Case;
use crate::sql;

/// Cases in one answer; older ones are left out of a list.
pub const CASES_MAX: i64 = 500;
/// Activations in one answer; the rest is on the next page.
pub const EVENTS_MAX: i64 = 500;
/// Timeline entries shown with a case; older ones are in the journal only.
pub const TIMELINE_MAX: i64 = 50;

/// Which cases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// Those on the board: not closed, or closed with a cancel that did not get through.
    Open,
    /// Closed ones.
    Closed,
    /// All.
    All,
}

/// A case as an operator may see it.
pub struct Seen {
    /// The case.
    pub case: Case,
    /// Name of its centre.
    pub centre: String,
    /// Names of the receivers in its plan.
    pub receivers: BTreeMap<ReceiverId, String>,
    /// The last entries of its journal, oldest first.
    pub timeline: Vec<Moment>,
}

/// One entry of a case's journal: header only, no person.
pub struct Moment {
    /// Its number in the centre's journal.
    pub seq: i64,
    /// When it was written.
    pub at: i64,
    /// Its kind.
    pub kind: String,
    /// What it refers to: cases, devices, zones.
    pub refs: Box<RawValue>,
}

/// A stored activation or clearing of a case.
pub struct Activation {
    /// Its number in the case.
    pub seq: i64,
    /// The event.
    pub event: Uuid,
    /// The device's own id.
    pub vendor_id: Option<String>,
    /// The hardware.
    pub device: Option<String>,
    /// Its input.
    pub point: Option<String>,
    /// What happened.
    pub kind: String,
    /// Began or ended.
    pub state: String,
    /// By the box's clock.
    pub received_at: i64,
    /// By the cloud's clock.
    pub committed_at: i64,
    /// Where.
    pub centre: Uuid,
}

/// The part of a statement that lets only the own watch room through: `$1` is the person, `$2` now.
macro_rules! watched {
    ($select:literal, $rest:literal) => {
        concat!(
            $select,
            " from incident i join centre c on c.id = i.centre
              where exists (select 1 from role_grant g where g.watch_room = c.watch_room
                  and g.person = $1 and g.role in ('operator', 'shift_lead')
                  and g.from_at <= $2 and (g.until_at is null or g.until_at > $2)) ",
            $rest
        )
    };
}

/// The cases within the scope, the most urgent first, then the newest.
///
/// # Errors
/// When the store fails.
pub async fn cases(
    tx: &mut Tx,
    scope: &Scope,
    which: Which,
    now: Timestamp,
) -> Result<Vec<Seen>, DbError> {
    let query = match which {
        Which::Open => watched!(
            "select i.body, c.name",
            "and i.on_board order by i.priority, i.opened_at desc, i.id limit $3"
        ),
        Which::Closed => watched!(
            "select i.body, c.name",
            "and i.state = 'closed' order by i.opened_at desc, i.id limit $3"
        ),
        Which::All => watched!(
            "select i.body, c.name",
            "order by i.opened_at desc, i.id limit $3"
        ),
    };
    let rows = sql!(
        tx,
        fetch_all as (String, String),
        query,
        scope.acting_as(Role::Operator),
        now.micros(),
        CASES_MAX
    )?;
    let mut seen = Vec::with_capacity(rows.len());
    for (body, centre) in rows {
        seen.push(whole(tx, &body, centre).await?);
    }
    Ok(seen)
}

/// Names and versions of the cases on the board within the scope.
///
/// # Errors
/// When the store fails.
pub async fn versions(
    tx: &mut Tx,
    scope: &Scope,
    now: Timestamp,
) -> Result<Vec<(IncidentId, i64)>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (Uuid, i64),
        watched!("select i.id, i.version", "and i.on_board"),
        scope.acting_as(Role::Operator),
        now.micros()
    )?;
    let named = |(id, version)| (IncidentId(id), version);
    Ok(rows.into_iter().map(named).collect())
}

/// One case; none when there is none within the scope.
///
/// # Errors
/// When the store fails.
pub async fn case(
    tx: &mut Tx,
    scope: &Scope,
    incident: IncidentId,
    now: Timestamp,
) -> Result<Option<Seen>, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (String, String),
        watched!("select i.body, c.name", "and i.id = $3"),
        scope.acting_as(Role::Operator),
        now.micros(),
        incident.0
    )?;
    match row {
        Some((body, centre)) => whole(tx, &body, centre).await.map(Some),
        None => Ok(None),
    }
}

/// The case a request belongs to; none when there is none within the scope.
///
/// # Errors
/// When the store fails.
pub async fn case_of_dispatch(
    tx: &mut Tx,
    scope: &Scope,
    dispatch: Uuid,
    now: Timestamp,
) -> Result<Option<Seen>, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (String, String),
        watched!(
            "select i.body, c.name",
            "and i.id = (select d.incident from dispatch d where d.id = $3)"
        ),
        scope.acting_as(Role::Operator),
        now.micros(),
        dispatch
    )?;
    match row {
        Some((body, centre)) => whole(tx, &body, centre).await.map(Some),
        None => Ok(None),
    }
}

async fn whole(tx: &mut Tx, body: &str, centre: String) -> Result<Seen, DbError> {
    let case: Case = serde_json::from_str(body).map_err(DbError::corrupt("incident.body"))?;
    Ok(Seen {
        receivers: receivers(tx, &case).await?,
        timeline: timeline(tx, case.centre, case.id).await?,
        case,
        centre,
    })
}

async fn receivers(tx: &mut Tx, case: &Case) -> Result<BTreeMap<ReceiverId, String>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (Uuid, String),
        "select distinct r.id, r.name from receiver r join dispatch d on d.receiver = r.id
         where d.centre = $1 and d.incident = $2",
        case.centre.0,
        case.id.0
    )?;
    let named = |(id, name)| (ReceiverId(id), name);
    Ok(rows.into_iter().map(named).collect())
}

async fn timeline(
    tx: &mut Tx,
    centre: CentreId,
    incident: IncidentId,
) -> Result<Vec<Moment>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (i64, i64, String, String),
        "select seq, at, kind, refs from journal where centre = $1 and incident = $2
         order by seq desc limit $3",
        centre.0,
        incident.0,
        TIMELINE_MAX
    )?;
    let moment = |(seq, at, kind, refs)| {
        let refs = RawValue::from_string(refs).map_err(DbError::corrupt("journal.refs"))?;
        Ok(Moment {
            seq,
            at,
            kind,
            refs,
        })
    };
    rows.into_iter().rev().map(moment).collect()
}

/// The stored activations of a case after a number, at most [`EVENTS_MAX`]; none when there is no
/// such case within the scope.
///
/// # Errors
/// When the store fails.
pub async fn activations(
    tx: &mut Tx,
    scope: &Scope,
    incident: IncidentId,
    after: i64,
    now: Timestamp,
) -> Result<Option<Vec<Activation>>, DbError> {
    type Row = (
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
    let found = sql!(
        tx,
        fetch_optional as (Uuid,),
        watched!("select i.centre", "and i.id = $3"),
        scope.acting_as(Role::Operator),
        now.micros(),
        incident.0
    )?;
    let Some((centre,)) = found else {
        return Ok(None);
    };
    let rows = sql!(
        tx,
        fetch_all as Row,
        "select seq, event, vendor_id, device, point, kind, state, received_at, committed_at
         from incident_event where centre = $1 and incident = $2 and seq > $3
         order by seq limit $4",
        centre,
        incident.0,
        after,
        EVENTS_MAX
    )?;
    let activation = |row: Row| Activation {
        seq: row.0,
        event: row.1,
        vendor_id: row.2,
        device: row.3,
        point: row.4,
        kind: row.5,
        state: row.6,
        received_at: row.7,
        committed_at: row.8,
        centre,
    };
    Ok(Some(rows.into_iter().map(activation).collect()))
}
