//! Commands in the store: the SQL our own work needs over `command` and `service_head`, and what of a
//! centre the rules ask for.

use domain::config::Enrolment;
use domain::id::{CentreId, CommandId, EventId, GatewayId, PersonId};
use domain::time::Timestamp;
use uuid::Uuid;

use super::rules::Site;
use super::{Answer, Given, State, point_of};
use crate::access::Scope;
use crate::column::readable;
use crate::db::{DbError, Tx};
use crate::sql;

/// A row's columns, in the order of [`given`].
macro_rules! columns {
    () => {
        "k.id, k.gateway, k.person, k.act, k.given_at, k.expires_at, k.state, k.sent_at,
         k.answered_at, k.why, k.fact"
    };
}
pub(super) use columns;

/// A row as it is read.
pub(super) type Row = (
    Uuid,
    Uuid,
    Uuid,
    String,
    i64,
    i64,
    String,
    Option<i64>,
    Option<i64>,
    Option<String>,
    Option<Uuid>,
);

/// Reads a row.
pub(super) fn given(row: Row) -> Result<Given, DbError> {
    let (id, gateway, by, act, given_at, expires_at, state, sent_at, answered_at, why, fact) = row;
    let read = |text: String| serde_json::from_str(&text).map_err(DbError::corrupt("command.why"));
    Ok(Given {
        id: CommandId(id),
        gateway: GatewayId(gateway),
        by: PersonId(by),
        act: serde_json::from_str(&act).map_err(DbError::corrupt("command.act"))?,
        given_at: Timestamp::from_micros(given_at),
        expires_at: Timestamp::from_micros(expires_at),
        state: state.parse().map_err(DbError::corrupt("command.state"))?,
        sent_at: sent_at.map(Timestamp::from_micros),
        answered_at: answered_at.map(Timestamp::from_micros),
        why: why.map(read).transpose()?,
        fact: fact.map(EventId),
    })
}

/// What a centre has, as far as the rules ask. A point whose enrolment cannot be read is not served.
///
/// # Errors
/// When the store fails.
pub async fn site(tx: &mut Tx, scope: &Scope) -> Result<Site, DbError> {
    let centre = scope.own_centre();
    let mut site = Site::default();
    let text = "select id from gateway where centre = $1";
    for (gateway,) in sql!(tx, fetch_all as (Uuid,), text, centre)? {
        site.gateways.insert(GatewayId(gateway));
    }
    let text = "select gateway, body from enrolment where centre = $1";
    for (gateway, body) in sql!(tx, fetch_all as (Uuid, String), text, centre)? {
        let read = serde_json::from_str::<Enrolment>(&body);
        if let Some(enrolment) = readable(read, "enrolment.body") {
            let served = (GatewayId(gateway), enrolment.role);
            site.points.insert(enrolment.key(), served);
        }
    }
    // Those begun, and those on their way: a session may be ended before its begin is known.
    let text = "select id, gateway from absence where centre = $1 and ended_at is null
        union select id, gateway from command where centre = $1 and state in ('given', 'sent')
          and act like '{\"do\":\"test_begin\"%'";
    for (id, gateway) in sql!(tx, fetch_all as (Uuid, Uuid), text, centre)? {
        let boxes = site.sessions.entry(CommandId(id)).or_default();
        boxes.insert(GatewayId(gateway));
    }
    Ok(site)
}

/// How many commands of the centre wait for an answer.
///
/// # Errors
/// When the store fails.
pub async fn waiting(tx: &mut Tx, scope: &Scope) -> Result<i64, DbError> {
    let (count,) = sql!(
        tx,
        fetch_one as (i64,),
        "select count(*) from command where centre = $1 and state in ('given', 'sent')",
        scope.own_centre()
    )?;
    Ok(count)
}

/// Every box's row of one command.
///
/// # Errors
/// When the store fails or a row cannot be read.
pub async fn of_id(tx: &mut Tx, scope: &Scope, id: CommandId) -> Result<Vec<Given>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as Row,
        concat!(
            "select ",
            columns!(),
            " from command k where k.centre = $1 and k.id = $2 order by k.gateway"
        ),
        scope.own_centre(),
        id.0
    )?;
    rows.into_iter().map(given).collect()
}

/// Writes a new command down.
///
/// # Errors
/// When the store fails.
pub async fn insert(tx: &mut Tx, scope: &Scope, new: &Given) -> Result<(), DbError> {
    let act = serde_json::to_string(&new.act).map_err(DbError::corrupt("command.act"))?;
    let point = point_of(&new.act);
    sql!(
        tx,
        execute,
        "insert into command
         (centre, id, gateway, person, act, device, point, given_at, expires_at, state)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        scope.own_centre(),
        new.id.0,
        new.gateway.0,
        new.by.0,
        act.as_str(),
        point.map(|key| key.device.as_str()),
        point.map(|key| key.point.as_str()),
        new.given_at.micros(),
        new.expires_at.micros(),
        new.state.as_str()
    )?;
    Ok(())
}

/// One box's row of a command, if there is one.
///
/// # Errors
/// When the store fails or the row cannot be read.
pub async fn find(
    tx: &mut Tx,
    scope: &Scope,
    gateway: GatewayId,
    id: CommandId,
) -> Result<Option<Given>, DbError> {
    let all = of_id(tx, scope, id).await?;
    Ok(all.into_iter().find(|given| given.gateway == gateway))
}

/// Notes a box's answer. A command answered before stays as it was; one whose time had passed is answered
/// all the same.
///
/// # Errors
/// When the store fails.
pub async fn answer(
    tx: &mut Tx,
    scope: &Scope,
    gateway: GatewayId,
    answer: &Answer,
    fact: EventId,
    now: Timestamp,
) -> Result<(), DbError> {
    let state = match answer.why {
        None => State::Done,
        Some(_) => State::Refused,
    };
    let why = answer.why.as_ref().map(serde_json::to_string).transpose();
    sql!(
        tx,
        execute,
        "update command set state = $4, answered_at = $5, why = $6, fact = $7
         where centre = $1 and id = $2 and gateway = $3 and state in ('given', 'sent', 'expired')",
        scope.own_centre(),
        answer.command.0,
        gateway.0,
        state.as_str(),
        now.micros(),
        why.map_err(DbError::corrupt("command.why"))?,
        fact.0
    )?;
    Ok(())
}

/// Commands of a box that wait for an answer and are still good, oldest first.
///
/// # Errors
/// When the store fails. A row that cannot be read is left out and logged.
pub async fn to_send(
    tx: &mut Tx,
    scope: &Scope,
    gateway: GatewayId,
    now: Timestamp,
) -> Result<Vec<Given>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as Row,
        concat!(
            "select ",
            columns!(),
            " from command k where k.centre = $1 and k.gateway = $2 and k.state in ('given', 'sent')
             and k.expires_at > $3 order by k.given_at, k.id"
        ),
        scope.own_centre(),
        gateway.0,
        now.micros()
    )?;
    let read = |row| readable(given(row), "command");
    Ok(rows.into_iter().filter_map(read).collect())
}

/// Notes that a command is about to be handed to the box's connection for the first time; false if that is
/// noted already, or its time has passed.
///
/// # Errors
/// When the store fails.
pub async fn sending(
    tx: &mut Tx,
    scope: &Scope,
    gateway: GatewayId,
    id: CommandId,
    now: Timestamp,
) -> Result<bool, DbError> {
    let rows = sql!(
        tx,
        execute,
        "update command set state = 'sent', sent_at = $4
         where centre = $1 and id = $2 and gateway = $3 and state = 'given' and expires_at > $4",
        scope.own_centre(),
        id.0,
        gateway.0,
        now.micros()
    )?;
    Ok(rows > 0)
}

/// Ends the commands of a centre whose time has passed, and gives them.
///
/// # Errors
/// When the store fails.
pub async fn expire(tx: &mut Tx, scope: &Scope, now: Timestamp) -> Result<Vec<Given>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as Row,
        concat!(
            "select ",
            columns!(),
            " from command k where k.centre = $1 and k.state in ('given', 'sent')
             and k.expires_at <= $2 order by k.given_at, k.id, k.gateway"
        ),
        scope.own_centre(),
        now.micros()
    )?;
    sql!(
        tx,
        execute,
        "update command set state = 'expired', answered_at = $2
         where centre = $1 and state in ('given', 'sent') and expires_at <= $2",
        scope.own_centre(),
        now.micros()
    )?;
    let read = |row| readable(given(row), "command");
    Ok(rows.into_iter().filter_map(read).collect())
}

/// Centres with a command or a session whose time has passed.
///
/// # Errors
/// When the store fails.
pub async fn due(tx: &mut Tx, now: Timestamp, over: Timestamp) -> Result<Vec<CentreId>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (Uuid,),
        "select centre from command where state in ('given', 'sent') and expires_at <= $1
         union select centre from absence where ended_at is null and until_at <= $2",
        now.micros(),
        over.micros()
    )?;
    Ok(rows.into_iter().map(|(centre,)| CentreId(centre)).collect())
}

/// Notes that something of a centre's commands or absences changed.
///
/// # Errors
/// When the store fails.
pub async fn touch(tx: &mut Tx, scope: &Scope) -> Result<(), DbError> {
    sql!(
        tx,
        execute,
        "insert into service_head (centre, version) values ($1, 1)
         on conflict (centre) do update set version = service_head.version + 1",
        scope.own_centre()
    )?;
    Ok(())
}

/// Whether a person has a right of one of these words at the centre now: an operator or shift lead of its
/// watch room, or a director, installer or carer of its own.
///
/// # Errors
/// When the store fails.
pub async fn rights_of(
    tx: &mut Tx,
    scope: &Scope,
    person: PersonId,
    now: Timestamp,
) -> Result<Vec<String>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (String,),
        "select distinct g.role from role_grant g join centre c on c.id = $1
         where g.person = $2 and g.from_at <= $3 and (g.until_at is null or g.until_at > $3)
           and ((g.role in ('operator', 'shift_lead') and g.watch_room = c.watch_room)
             or (g.role in ('director', 'installer', 'carer') and g.centre = c.id))",
        scope.own_centre(),
        person.0,
        now.micros()
    )?;
    Ok(rows.into_iter().map(|(role,)| role).collect())
}
