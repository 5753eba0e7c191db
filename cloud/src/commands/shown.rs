//! Commands and what is out of full service, as people see it within their reach. Reading only.

use std::collections::BTreeMap;

use domain::id::{CentreId, GatewayId};
use domain::time::Timestamp;
use uuid::Uuid;

use super::store::{Row, columns, given};
use super::{Given, State};
use crate::absence::Absence;
use crate::absence::store::absence;
use crate::access::{Role, Scope};
use crate::column::readable;
use crate::db::{DbError, Tx};
use crate::sql;

/// Commands of one page; the rest is on the next.
pub const PAGE: usize = 100;
/// Commands shown with what is out of full service: those that wait, then the newest.
const NEWEST: i64 = super::WAITING_MAX + 10;

/// A box of a centre.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownBox {
    /// What people call it.
    pub name: String,
    /// When it was last heard by any process.
    pub last_seen_at: Option<Timestamp>,
}

/// What is out of full service at a centre, and its newest commands.
#[derive(Clone, PartialEq, Debug)]
pub struct Served {
    /// The centre.
    pub centre: CentreId,
    /// What people call it.
    pub centre_name: String,
    /// Rises with each change.
    pub version: i64,
    /// Test sessions and bypasses in force.
    pub absences: Vec<Absence>,
    /// Commands that wait, then the newest others.
    pub commands: Vec<Given>,
}

/// Centres that an operator or shift lead ($1) watches at an instant ($2).
macro_rules! watched {
    ($columns:literal, $from:literal, $rest:literal) => {
        concat!(
            "select ",
            $columns,
            " from centre c ",
            $from,
            " where exists (select 1 from role_grant g where g.person = $1
                and g.role in ('operator', 'shift_lead') and g.watch_room = c.watch_room
                and g.from_at <= $2 and (g.until_at is null or g.until_at > $2)) ",
            $rest
        )
    };
}

/// The boxes of a centre.
pub type Boxes = BTreeMap<GatewayId, KnownBox>;

/// The boxes of a centre; none when it is not within reach.
///
/// # Errors
/// When the store fails.
pub async fn boxes(
    tx: &mut Tx,
    scope: &Scope,
    centre: CentreId,
    now: Timestamp,
) -> Result<Boxes, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (Uuid, String, Option<i64>),
        watched!(
            "b.id, b.name, b.last_seen_at",
            "join gateway b on b.centre = c.id",
            "and c.id = $3"
        ),
        scope.acting_as(Role::Operator),
        now.micros(),
        centre.0
    )?;
    let known = |(id, name, seen): (Uuid, String, Option<i64>)| {
        let last_seen_at = seen.map(Timestamp::from_micros);
        (GatewayId(id), KnownBox { name, last_seen_at })
    };
    Ok(rows.into_iter().map(known).collect())
}

/// A page of a centre's commands, newest first, and where the next begins: at most [`PAGE`] after `from`
/// (instant, id and box of the last one seen). Nothing when the centre is not within reach. A row that cannot
/// be read is left out and logged.
///
/// # Errors
/// When the store fails.
pub async fn page(
    tx: &mut Tx,
    scope: &Scope,
    centre: CentreId,
    from: Option<(i64, Uuid, Uuid)>,
    now: Timestamp,
) -> Result<(Vec<Given>, Option<(i64, Uuid, Uuid)>), DbError> {
    let (at, id, gateway) = from.unwrap_or((i64::MAX, Uuid::max(), Uuid::max()));
    let rows = sql!(
        tx,
        fetch_all as Row,
        concat!(
            "select ",
            columns!(),
            " from command k join centre c on c.id = k.centre
             where exists (select 1 from role_grant g where g.person = $1
                and g.role in ('operator', 'shift_lead') and g.watch_room = c.watch_room
                and g.from_at <= $2 and (g.until_at is null or g.until_at > $2))
             and k.centre = $3 and (k.given_at, k.id, k.gateway) < ($4, $5, $6)
             order by k.given_at desc, k.id desc, k.gateway desc limit $7"
        ),
        scope.acting_as(Role::Operator),
        now.micros(),
        centre.0,
        at,
        id,
        gateway,
        i64::try_from(PAGE).unwrap_or(i64::MAX)
    )?;
    let last = rows.last().filter(|_| rows.len() == PAGE);
    let next = last.map(|row| (row.4, row.0, row.1));
    Ok((read(rows), next))
}

fn read(rows: Vec<Row>) -> Vec<Given> {
    let read = |row| readable(given(row), "command");
    rows.into_iter().filter_map(read).collect()
}

/// The newest command about each point or door of a centre since an instant, for a case within reach already.
///
/// # Errors
/// When the store fails.
pub async fn newest_of_points(
    tx: &mut Tx,
    centre: CentreId,
    since: Timestamp,
) -> Result<Vec<Given>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as Row,
        concat!(
            "select ",
            columns!(),
            " from command k where k.centre = $1 and k.given_at >= $2 and k.device is not null
             and k.given_at = (select max(o.given_at) from command o where o.centre = k.centre
               and o.device = k.device and o.point = k.point)"
        ),
        centre.0,
        since.micros()
    )?;
    Ok(read(rows))
}

/// Whether a centre is listed: something is out of full service there, or a command waits.
macro_rules! listed {
    () => {
        "and (exists (select 1 from absence a where a.centre = c.id and a.ended_at is null)
           or exists (select 1 from command k where k.centre = c.id and k.state in ('given', 'sent')))"
    };
}

/// Names and versions of the centres that are listed, within reach.
///
/// # Errors
/// When the store fails.
pub async fn versions(
    tx: &mut Tx,
    scope: &Scope,
    now: Timestamp,
) -> Result<Vec<(CentreId, i64)>, DbError> {
    let text = concat!(
        "select c.id, h.version from centre c join service_head h on h.centre = c.id
         where exists (select 1 from role_grant g where g.person = $1
            and g.role in ('operator', 'shift_lead') and g.watch_room = c.watch_room
            and g.from_at <= $2 and (g.until_at is null or g.until_at > $2)) ",
        listed!()
    );
    let person = scope.acting_as(Role::Operator);
    let rows = sql!(tx, fetch_all as (Uuid, i64), text, person, now.micros())?;
    Ok(rows
        .into_iter()
        .map(|(centre, version)| (CentreId(centre), version))
        .collect())
}

/// What is out of full service at a centre within reach; none when it is not.
///
/// # Errors
/// When the store fails.
pub async fn served(
    tx: &mut Tx,
    scope: &Scope,
    centre: CentreId,
    now: Timestamp,
) -> Result<Option<Served>, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (String, i64),
        watched!(
            "c.name, coalesce(h.version, 0)",
            "left join service_head h on h.centre = c.id",
            "and c.id = $3"
        ),
        scope.acting_as(Role::Operator),
        now.micros(),
        centre.0
    )?;
    let Some((centre_name, version)) = row else {
        return Ok(None);
    };
    let absences = sql!(
        tx,
        fetch_all as crate::absence::store::Row,
        "select id, gateway, person, what, recognised, begun_at, until_at, heard from absence
         where centre = $1 and ended_at is null order by begun_at, id, gateway",
        centre.0
    )?;
    let newest = sql!(
        tx,
        fetch_all as Row,
        concat!(
            "select ",
            columns!(),
            " from command k where k.centre = $1
             order by case when k.state in ('given', 'sent') then 0 else 1 end, k.given_at desc,
               k.id desc limit $2"
        ),
        centre.0,
        NEWEST
    )?;
    Ok(Some(Served {
        centre,
        centre_name,
        version,
        absences: absences.into_iter().filter_map(absence).collect(),
        commands: read(newest),
    }))
}

impl Served {
    /// Whether anything is out of full service, or a command waits.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        let waits = |given: &Given| match given.state {
            State::Given | State::Sent => true,
            State::Done | State::Refused | State::Expired => false,
        };
        !self.absences.is_empty() || self.commands.iter().any(waits)
    }
}
