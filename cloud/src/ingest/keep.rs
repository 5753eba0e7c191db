//! Records, forks and lane progress in the store: the only SQL over `record`, `record_fork` and
//! `lane_progress` that ingest needs.

use std::collections::HashSet;

use domain::event::{Detail, Event};
use domain::id::EpochId;
use domain::kind::Lane;
use domain::time::Timestamp;
use sqlx::{AssertSqlSafe, Postgres, Row, Sqlite, Transaction};
use uuid::Uuid;

use super::BoxIdentity;
use super::arrived::{Arrived, Reading, TOMBSTONE};
use super::held::Held;
use crate::access::Scope;
use crate::column::{number, readable};
use crate::db::{DbError, Tx};
use crate::incident::entry::Numbers;
use crate::sql;

/// The lane some records came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The box.
    pub from: BoxIdentity,
    /// Its epoch.
    pub epoch: EpochId,
    /// The lane.
    pub lane: Lane,
}

/// What became of records that were offered to the store.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// Places in the list of those not known before.
    pub fresh: Vec<usize>,
    /// Places of those not known before whose number is taken by another record.
    pub forks: Vec<usize>,
    /// Holes that were not there before.
    pub holes: Vec<(u64, u64)>,
}

/// Keeps records and what is held of their lane.
///
/// # Errors
/// When the store fails or a row cannot be read.
pub async fn keep(
    tx: &mut Tx,
    scope: &Scope,
    place: &Place,
    arrived: &[Arrived],
    now: Timestamp,
) -> Result<Kept, DbError> {
    // Taken first, so that a box's old and new connection never keep one lane side by side.
    let before = take_lane(tx, scope, place).await?;
    let mut fresh = insert(tx, scope, place, arrived, now).await?;
    let mut kept = Kept::default();
    for (i, record) in arrived.iter().enumerate() {
        if fresh.remove(&number(record.seq)) {
            kept.fresh.push(i);
        } else if is_fork(tx, scope, place, record, now).await? {
            kept.forks.push(i);
        }
    }
    let held = before.with(arrived.iter().map(|record| (record.seq, record.to_seq)));
    kept.holes = held.new_holes(&before);
    if held != before {
        save_lane(tx, scope, place, &held).await?;
    }
    Ok(kept)
}

async fn take_lane(tx: &mut Tx, scope: &Scope, place: &Place) -> Result<Held, DbError> {
    sql!(
        tx,
        execute,
        "insert into lane_progress (centre, gateway, epoch, lane, through_seq, ranges)
         values ($1, $2, $3, $4, 0, '[]') on conflict do nothing",
        scope.own_centre(),
        place.from.gateway.0,
        place.epoch.0,
        place.lane.as_str()
    )?;
    let (through, ranges) = sql!(
        tx,
        fetch_one as (i64, String),
        "update lane_progress set through_seq = through_seq
         where centre = $1 and gateway = $2 and epoch = $3 and lane = $4
         returning through_seq, ranges",
        scope.own_centre(),
        place.from.gateway.0,
        place.epoch.0,
        place.lane.as_str()
    )?;
    Ok(read_held(through, &ranges))
}

/// What a lane's row says. What of it cannot be read is not held: the box sends it again, and it is
/// known as a repeat.
fn read_held(through: i64, ranges: &str) -> Held {
    let through = readable(u64::try_from(through), "lane_progress.through_seq");
    let ranges = readable(serde_json::from_str(ranges), "lane_progress.ranges");
    Held {
        through: through.unwrap_or_default(),
        ranges: ranges.unwrap_or_default(),
    }
}

async fn save_lane(tx: &mut Tx, scope: &Scope, place: &Place, held: &Held) -> Result<(), DbError> {
    let ranges =
        serde_json::to_string(&held.ranges).map_err(DbError::corrupt("lane_progress.ranges"))?;
    sql!(
        tx,
        execute,
        "update lane_progress set through_seq = $5, ranges = $6
         where centre = $1 and gateway = $2 and epoch = $3 and lane = $4",
        scope.own_centre(),
        place.from.gateway.0,
        place.epoch.0,
        place.lane.as_str(),
        number(held.through),
        ranges.as_str()
    )?;
    Ok(())
}

/// A lane of some epoch of a box.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaneHeld {
    /// The epoch.
    pub epoch: EpochId,
    /// The lane.
    pub lane: Lane,
    /// What is held of it.
    pub held: Held,
    /// The last number the box says it used; 0 = not told, or told as lost.
    pub expected: u64,
}

/// What is held of every lane a box ever used.
///
/// # Errors
/// When the store fails.
pub async fn lanes(
    tx: &mut Tx,
    scope: &Scope,
    from: &BoxIdentity,
) -> Result<Vec<LaneHeld>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (Uuid, String, i64, String, i64),
        "select epoch, lane, through_seq, ranges, expected_seq from lane_progress
         where centre = $1 and gateway = $2 order by epoch, lane",
        scope.own_centre(),
        from.gateway.0
    )?;
    let lane = |(epoch, lane, through, ranges, expected): (Uuid, String, i64, String, i64)| {
        Some(LaneHeld {
            epoch: EpochId(epoch),
            lane: readable(lane.parse(), "lane_progress.lane")?,
            held: read_held(through, &ranges),
            expected: readable(u64::try_from(expected), "lane_progress.expected_seq")?,
        })
    };
    Ok(rows.into_iter().filter_map(lane).collect())
}

/// Notes how far the epoch before went, as the first record of a lane says (D4). Never less than before: a box
/// without its disk names the epoch it stands beside while that still grows.
///
/// # Errors
/// When the store fails.
pub async fn expect_end(
    tx: &mut Tx,
    scope: &Scope,
    place: &Place,
    first: &Event,
) -> Result<(), DbError> {
    let Detail::Started {
        previous: Some(previous),
        ..
    } = &first.detail
    else {
        return Ok(());
    };
    sql!(
        tx,
        execute,
        "insert into lane_progress
         (centre, gateway, epoch, lane, through_seq, ranges, expected_seq)
         values ($1, $2, $3, $4, 0, '[]', $5)
         on conflict (centre, gateway, epoch, lane) do update
           set expected_seq = case when lane_progress.expected_seq > excluded.expected_seq
             then lane_progress.expected_seq else excluded.expected_seq end",
        scope.own_centre(),
        place.from.gateway.0,
        previous.epoch.0,
        place.lane.as_str(),
        number(previous.last_seq)
    )?;
    Ok(())
}

/// Notes that an end was told; false if it was already.
///
/// # Errors
/// When the store fails.
pub async fn tell_once(tx: &mut Tx, scope: &Scope, end: &Numbers) -> Result<bool, DbError> {
    let told = sql!(
        tx,
        execute,
        "update lane_progress set expected_seq = 0
         where centre = $1 and gateway = $2 and epoch = $3 and lane = $4 and expected_seq = $5",
        scope.own_centre(),
        end.gateway.0,
        end.epoch.0,
        end.lane.as_str(),
        number(end.to)
    )?;
    Ok(told > 0)
}

/// What is held of a lane; nothing if it was never heard of.
///
/// # Errors
/// When the store fails.
pub async fn held(tx: &mut Tx, scope: &Scope, place: &Place) -> Result<Held, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (i64, String),
        "select through_seq, ranges from lane_progress
         where centre = $1 and gateway = $2 and epoch = $3 and lane = $4",
        scope.own_centre(),
        place.from.gateway.0,
        place.epoch.0,
        place.lane.as_str()
    )?;
    Ok(row.map_or_else(Held::default, |(through, ranges)| {
        read_held(through, &ranges)
    }))
}

/// Whether a record whose number is taken says something else and is new: it is kept beside the
/// first. A tombstone in the place of a record that did arrive is kept and is no fork.
async fn is_fork(
    tx: &mut Tx,
    scope: &Scope,
    place: &Place,
    record: &Arrived,
    now: Timestamp,
) -> Result<bool, DbError> {
    let (known,) = sql!(
        tx,
        fetch_one as (Vec<u8>,),
        "select body from record
         where centre = $1 and gateway = $2 and epoch = $3 and lane = $4 and seq = $5",
        scope.own_centre(),
        place.from.gateway.0,
        place.epoch.0,
        place.lane.as_str(),
        number(record.seq)
    )?;
    if known == record.body {
        return Ok(false);
    }
    let digest = domain::digest::Sha256::of(&[&record.body]);
    let new = sql!(
        tx,
        execute,
        "insert into record_fork
         (centre, gateway, epoch, lane, seq, digest, committed_at, body)
         values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing",
        scope.own_centre(),
        place.from.gateway.0,
        place.epoch.0,
        place.lane.as_str(),
        number(record.seq),
        digest.0.to_vec(),
        now.micros(),
        record.body.clone()
    )?;
    Ok(new > 0 && !matches!(record.reading, Reading::Tombstone(_)))
}

/// Whether the record that holds a number is a tombstone: then another one there is no fault.
///
/// # Errors
/// When the store fails.
pub async fn is_tombstone(
    tx: &mut Tx,
    scope: &Scope,
    place: &Place,
    seq: u64,
) -> Result<bool, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (Option<String>,),
        "select kind from record
         where centre = $1 and gateway = $2 and epoch = $3 and lane = $4 and seq = $5",
        scope.own_centre(),
        place.from.gateway.0,
        place.epoch.0,
        place.lane.as_str(),
        number(seq)
    )?;
    Ok(row.is_some_and(|(kind,)| kind.as_deref() == Some(TOMBSTONE)))
}

/// Says which journal entry chains a record.
///
/// # Errors
/// When the store fails.
pub async fn set_chained(
    tx: &mut Tx,
    scope: &Scope,
    place: &Place,
    seq: u64,
    entry: u64,
) -> Result<(), DbError> {
    sql!(
        tx,
        execute,
        "update record set chained = $6
         where centre = $1 and gateway = $2 and epoch = $3 and lane = $4 and seq = $5",
        scope.own_centre(),
        place.from.gateway.0,
        place.epoch.0,
        place.lane.as_str(),
        number(seq),
        number(entry)
    )?;
    Ok(())
}

/// Inserts records whose number is free and gives those numbers.
async fn insert(
    tx: &mut Tx,
    scope: &Scope,
    place: &Place,
    arrived: &[Arrived],
    now: Timestamp,
) -> Result<HashSet<i64>, DbError> {
    let rows = match tx {
        Tx::Sqlite(tx) => insert_sqlite(tx, scope, place, arrived, now).await?,
        Tx::Postgres(tx) => insert_postgres(tx, scope, place, arrived, now).await?,
    };
    Ok(rows.into_iter().collect())
}

/// Values that all rows of one insert share.
const SHARED: usize = 5;
/// Values of each row's own.
const OWN: usize = 9;

async fn insert_sqlite(
    tx: &mut Transaction<'static, Sqlite>,
    scope: &Scope,
    place: &Place,
    arrived: &[Arrived],
    now: Timestamp,
) -> Result<Vec<i64>, DbError> {
    let row = |i: usize| {
        let at = SHARED + i * OWN;
        let own: Vec<String> = (at + 1..=at + OWN).map(|n| format!("?{n}")).collect();
        format!("(?1, ?2, ?3, ?4, ?5, {})", own.join(", "))
    };
    let rows: Vec<String> = (0..arrived.len()).map(row).collect();
    let text = format!(
        "insert into record (centre, gateway, epoch, lane, committed_at, seq, to_seq, event, kind,
           device, point, received_at, body, salt)
         values {} on conflict do nothing returning seq",
        rows.join(", ")
    );
    let mut query = sqlx::query(AssertSqlSafe(text))
        .bind(scope.own_centre())
        .bind(place.from.gateway.0)
        .bind(place.epoch.0)
        .bind(place.lane.as_str())
        .bind(now.micros());
    for record in arrived {
        let traces = record.traces();
        let (device, point) = traces.source.map(|key| (key.device, key.point)).unzip();
        query = query
            .bind(number(record.seq))
            .bind(number(record.to_seq))
            .bind(traces.event.map(|event| event.0))
            .bind(traces.kind)
            .bind(device.map(String::from))
            .bind(point.map(String::from))
            .bind(traces.received_at.map(Timestamp::micros))
            .bind(&record.body)
            .bind(&record.salt[..]);
    }
    let rows = query.fetch_all(&mut **tx).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

async fn insert_postgres(
    tx: &mut Transaction<'static, Postgres>,
    scope: &Scope,
    place: &Place,
    arrived: &[Arrived],
    now: Timestamp,
) -> Result<Vec<i64>, DbError> {
    let traces: Vec<_> = arrived.iter().map(Arrived::traces).collect();
    let source = |i: usize| traces.get(i).and_then(|t| t.source.as_ref());
    let at = 0..arrived.len();
    let rows = sqlx::query(
        "insert into record (centre, gateway, epoch, lane, committed_at, seq, to_seq, event, kind,
           device, point, received_at, body, salt)
         select $1, $2, $3, $4, $5, r.* from unnest($6::bigint[], $7::bigint[], $8::uuid[],
           $9::text[], $10::text[], $11::text[], $12::bigint[], $13::bytea[], $14::bytea[]) as r
         on conflict do nothing returning seq",
    )
    .bind(scope.own_centre())
    .bind(place.from.gateway.0)
    .bind(place.epoch.0)
    .bind(place.lane.as_str())
    .bind(now.micros())
    .bind(arrived.iter().map(|r| number(r.seq)).collect::<Vec<_>>())
    .bind(arrived.iter().map(|r| number(r.to_seq)).collect::<Vec<_>>())
    .bind(
        traces
            .iter()
            .map(|t| t.event.map(|e| e.0))
            .collect::<Vec<_>>(),
    )
    .bind(traces.iter().map(|t| t.kind.clone()).collect::<Vec<_>>())
    .bind(
        at.clone()
            .map(|i| source(i).map(|key| key.device.to_string()))
            .collect::<Vec<_>>(),
    )
    .bind(
        at.map(|i| source(i).map(|key| key.point.to_string()))
            .collect::<Vec<_>>(),
    )
    .bind(
        traces
            .iter()
            .map(|t| t.received_at.map(Timestamp::micros))
            .collect::<Vec<_>>(),
    )
    .bind(arrived.iter().map(|r| r.body.clone()).collect::<Vec<_>>())
    .bind(arrived.iter().map(|r| r.salt.to_vec()).collect::<Vec<_>>())
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
