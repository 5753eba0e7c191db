//! Since when rows have waited: the oldest of a lane, whatever a rescue put before it.
//!
//! Reads only. A `damaged` tombstone has the number of its hole but the time of its own making, so it never
//! speaks for a row behind it.

use domain::kind::Lane;
use domain::wire::{Cause, Says, read_body};
use serde_json::value::RawValue;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::reader::{Held, ReadError, read_held};
use super::schema::{lane_number, to_sql};
use crate::clock::Received;

/// When the oldest row of each epoch was received, with the boot of that epoch. Between boots only
/// [`crate::clock::age`] compares.
pub(super) async fn oldest(
    connection: &mut SqliteConnection,
    lane: Lane,
) -> Result<Vec<(Received, String)>, ReadError> {
    let firsts = sqlx::query(
        "select r.seq, r.to_seq, r.up_us, r.wall_us, r.trusted, r.body, e.ordinal, e.boot
         from epoch e join record r on r.lane = ?1 and r.epoch = e.ordinal
           and r.seq = (select min(seq) from record where lane = ?1 and epoch = e.ordinal)
         order by e.ordinal",
    )
    .bind(lane_number(lane))
    .fetch_all(&mut *connection)
    .await?;
    let mut oldest = Vec::with_capacity(firsts.len());
    for first in &firsts {
        let received = behind_tombstones(connection, lane, first).await?;
        oldest.push((received, first.try_get("boot")?));
    }
    Ok(oldest)
}

/// The oldest life-safety rows, epoch by epoch, with the boot each counts from.
pub(super) async fn life_safety(
    connection: &mut SqliteConnection,
    limit: usize,
) -> Result<Vec<(Received, String, Box<RawValue>)>, ReadError> {
    let rows = sqlx::query(
        "select r.seq, r.to_seq, r.up_us, r.wall_us, r.trusted, r.body, e.boot
         from record r join epoch e on e.ordinal = r.epoch
         where r.lane = ? order by r.epoch, r.seq limit ?",
    )
    .bind(lane_number(Lane::LifeSafety))
    .bind(to_sql(limit as u64))
    .fetch_all(connection)
    .await?;
    let row = |row: &SqliteRow| {
        let held = read_held(row)?;
        Ok((held.received, row.try_get("boot")?, held.body))
    };
    rows.iter().map(row).collect()
}

/// When the first row was received that is no `damaged` tombstone; the first one's time if there is no other.
async fn behind_tombstones(
    connection: &mut SqliteConnection,
    lane: Lane,
    first: &SqliteRow,
) -> Result<Received, ReadError> {
    let epoch: i64 = first.try_get("ordinal")?;
    let first = read_held(first)?;
    let received = first.received;
    let mut held = first;
    while is_damaged(&held) {
        let next = sqlx::query(
            "select seq, to_seq, up_us, wall_us, trusted, body from record
             where lane = ? and epoch = ? and seq > ? order by seq limit 1",
        )
        .bind(lane_number(lane))
        .bind(epoch)
        .bind(to_sql(held.to_seq))
        .fetch_optional(&mut *connection)
        .await?;
        let Some(row) = next else {
            return Ok(received);
        };
        held = read_held(&row)?;
    }
    Ok(held.received)
}

fn is_damaged(held: &Held) -> bool {
    let says = read_body(&held.body);
    matches!(says, Ok(Says::Tombstone(tombstone)) if tombstone.cause == Cause::Damaged)
}
