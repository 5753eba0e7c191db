//! Absences in the store: the only SQL that writes `absence`.

use domain::id::{CommandId, GatewayId, PersonId};
use domain::time::Timestamp;
use uuid::Uuid;

use super::{Absence, Service, What};
use crate::access::Scope;
use crate::column::readable;
use crate::db::{DbError, Tx};
use crate::sql;

/// A row as it is read.
pub type Row = (Uuid, Uuid, Uuid, String, bool, i64, i64, String);

/// Reads a row; one that cannot be read counts as not there, so that it keeps no alarm back.
#[must_use]
pub fn absence(row: Row) -> Option<Absence> {
    let (id, gateway, by, what, recognised, begun_at, until_at, heard) = row;
    let what: Option<What> = readable(serde_json::from_str(&what), "absence.what")?;
    Some(Absence {
        id: CommandId(id),
        gateway: GatewayId(gateway),
        by: PersonId(by),
        what: what?,
        recognised,
        begun_at: Timestamp::from_micros(begun_at),
        until_at: Timestamp::from_micros(until_at),
        heard: readable(serde_json::from_str(&heard), "absence.heard")?,
    })
}

/// What is out of full service at a box, as far as it is not over.
///
/// # Errors
/// When the store fails.
pub async fn of_box(tx: &mut Tx, scope: &Scope, gateway: GatewayId) -> Result<Service, DbError> {
    let rows = sql!(
        tx,
        fetch_all as Row,
        "select id, gateway, person, what, recognised, begun_at, until_at, heard from absence
         where centre = $1 and gateway = $2 and ended_at is null",
        scope.own_centre(),
        gateway.0
    )?;
    Ok(Service::of(rows.into_iter().filter_map(absence)))
}

/// What is out of full service at a centre, as far as it is not over.
///
/// # Errors
/// When the store fails.
pub async fn of_centre(tx: &mut Tx, scope: &Scope) -> Result<Vec<Absence>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as Row,
        "select id, gateway, person, what, recognised, begun_at, until_at, heard from absence
         where centre = $1 and ended_at is null order by begun_at, id, gateway",
        scope.own_centre()
    )?;
    Ok(rows.into_iter().filter_map(absence).collect())
}

/// Writes what changed; says whether anything did.
///
/// # Errors
/// When the store fails.
pub async fn save(
    tx: &mut Tx,
    scope: &Scope,
    gateway: GatewayId,
    service: &Service,
) -> Result<bool, DbError> {
    let mut wrote = false;
    for absence in service.changed() {
        write(tx, scope, absence).await?;
        wrote = true;
    }
    for (id, at) in service.ended() {
        end(tx, scope, gateway, id, at).await?;
        wrote = true;
    }
    Ok(wrote)
}

/// Whether one was heard of before, its end included.
///
/// # Errors
/// When the store fails.
pub async fn is_known(
    tx: &mut Tx,
    scope: &Scope,
    gateway: GatewayId,
    id: CommandId,
) -> Result<bool, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (Uuid,),
        "select id from absence where centre = $1 and gateway = $2 and id = $3",
        scope.own_centre(),
        gateway.0,
        id.0
    )?;
    Ok(row.is_some())
}

/// One that ended before its begin came stays over.
async fn write(tx: &mut Tx, scope: &Scope, absence: &Absence) -> Result<(), DbError> {
    let what = serde_json::to_string(&absence.what).map_err(DbError::corrupt("absence.what"))?;
    let heard = serde_json::to_string(&absence.heard).map_err(DbError::corrupt("absence.heard"))?;
    sql!(
        tx,
        execute,
        "insert into absence
         (centre, gateway, id, person, what, recognised, begun_at, until_at, heard)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict (centre, gateway, id) do update set heard = excluded.heard",
        scope.own_centre(),
        absence.gateway.0,
        absence.id.0,
        absence.by.0,
        what.as_str(),
        absence.recognised,
        absence.begun_at.micros(),
        absence.until_at.micros(),
        heard.as_str()
    )?;
    Ok(())
}

/// Ends those that are overdue and cannot be read: they keep nothing back, and nobody else will end them.
///
/// # Errors
/// When the store fails.
pub async fn end_unreadable(
    tx: &mut Tx,
    scope: &Scope,
    last: Timestamp,
    at: Timestamp,
) -> Result<(), DbError> {
    sql!(
        tx,
        execute,
        "update absence set ended_at = $3
         where centre = $1 and ended_at is null and until_at <= $2",
        scope.own_centre(),
        last.micros(),
        at.micros()
    )?;
    Ok(())
}

/// Ends one; of one never heard of it is remembered that it is over.
///
/// # Errors
/// When the store fails.
pub async fn end(
    tx: &mut Tx,
    scope: &Scope,
    gateway: GatewayId,
    id: CommandId,
    at: Timestamp,
) -> Result<(), DbError> {
    sql!(
        tx,
        execute,
        "insert into absence
         (centre, gateway, id, person, what, recognised, begun_at, until_at, ended_at, heard)
         values ($1, $2, $3, $4, 'null', false, $5, $5, $5, '{}')
         on conflict (centre, gateway, id) do update
           set ended_at = coalesce(absence.ended_at, excluded.ended_at)",
        scope.own_centre(),
        gateway.0,
        id.0,
        Uuid::nil(),
        at.micros()
    )?;
    Ok(())
}
