//! Every writing statement of the box's file. Each is one statement over many rows: each costs two thread
//! hops, so none is ever looped over rows.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::id::EpochId;
use domain::kind::Lane;
use domain::time::Timestamp;
use domain::wire::write_tombstone;
use sqlx::query_builder::Separated;
use sqlx::{Connection as _, QueryBuilder, Row as _, Sqlite, SqliteConnection};

use super::WriteError;
use super::row::{Body, Ledger, ROW_OVERHEAD, Row, SealedConfig, SealedRow, Stream};
use super::schema::{lane_number, to_sql};
use crate::site::{Mark, SEEN_MAX, UNIQUE_FOR};

/// Configs kept: the one in force and the one before (D2).
const CONFIGS_KEPT: u64 = 2;
/// Rows of one statement; SQLite takes 32,766 values in one (sqlite.org/limits.html).
const ROWS_AT_ONCE: usize = 1_000;
/// Rows up to which a statement is kept prepared: most commits are that small and much alike. A longer one is
/// prepared anew, for a kept one costs memory by its length.
const PREPARED_ROWS: usize = 32;
/// Expired vendor ids removed for each new one: more than one, so that the table shrinks.
const EXPIRED_PER_NEW: usize = 2;

/// Inserts rows. Their epochs must be in the table of epochs.
pub async fn append(connection: &mut SqliteConnection, rows: Vec<Row>) -> Result<(), WriteError> {
    let prepared = rows.len() <= PREPARED_ROWS;
    let mut tuples = Vec::with_capacity(rows.len());
    for row in rows {
        let body = bytes_of(&row.body)?;
        tuples.push((row, body));
    }
    let mut query = QueryBuilder::<Sqlite>::new(
        "insert into record (lane, epoch, seq, to_seq, up_us, wall_us, trusted, body) ",
    );
    query.push_values(tuples, |mut tuple, (row, body)| {
        push_stream(&mut tuple, row.stream);
        tuple
            .push_bind(to_sql(row.seq))
            .push_bind(to_sql(row.to_seq))
            .push_bind(micros(row.received.up))
            .push_bind(row.received.wall.micros())
            .push_bind(i64::from(row.received.trusted))
            .push_bind(body);
    });
    let query = query.build().persistent(prepared);
    query.execute(connection).await?;
    Ok(())
}

/// Two columns: a lane, and the epoch's number in the file. An epoch the file does not know is a null there,
/// which the tables refuse.
fn push_stream(tuple: &mut Separated<'_, Sqlite, &'static str>, stream: Stream) {
    tuple
        .push_bind(lane_number(stream.lane))
        .push("(select ordinal from epoch where id = ")
        .push_bind_unseparated(stream.epoch.0)
        .push_unseparated(")");
}

/// Writes a tombstone that has grown over the row with its first number.
pub async fn replace(connection: &mut SqliteConnection, row: Row) -> Result<(), WriteError> {
    sqlx::query(
        "update record set to_seq = ?, body = ?
         where lane = ? and epoch = (select ordinal from epoch where id = ?) and seq = ?",
    )
    .bind(to_sql(row.to_seq))
    .bind(bytes_of(&row.body)?)
    .bind(lane_number(row.stream.lane))
    .bind(row.stream.epoch.0)
    .bind(to_sql(row.seq))
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes the site's state. Of two marks under one key the later holds.
pub async fn mark(connection: &mut SqliteConnection, marks: Vec<Mark>) -> Result<(), WriteError> {
    let mut states: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut seen: BTreeMap<[u8; 16], Timestamp> = BTreeMap::new();
    for mark in marks {
        match mark {
            Mark::State { key, body } => {
                states.insert(key, body);
            }
            Mark::Seen { vendor, at } => {
                seen.insert(vendor, at);
            }
        }
    }
    let (kept, gone): (Vec<_>, Vec<_>) = states.into_iter().partition(|(_, body)| body.is_some());
    keep_states(connection, kept).await?;
    drop_states(connection, gone).await?;
    remember(connection, seen).await
}

async fn keep_states(
    connection: &mut SqliteConnection,
    states: Vec<(String, Option<String>)>,
) -> Result<(), WriteError> {
    if states.is_empty() {
        return Ok(());
    }
    let prepared = states.len() <= PREPARED_ROWS;
    let mut query = QueryBuilder::<Sqlite>::new("insert into mark (key, body) ");
    query.push_values(states, |mut tuple, (key, body)| {
        tuple.push_bind(key).push_bind(body);
    });
    query.push(" on conflict (key) do update set body = excluded.body");
    let query = query.build().persistent(prepared);
    query.execute(connection).await?;
    Ok(())
}

async fn drop_states(
    connection: &mut SqliteConnection,
    states: Vec<(String, Option<String>)>,
) -> Result<(), WriteError> {
    if states.is_empty() {
        return Ok(());
    }
    let mut query = QueryBuilder::<Sqlite>::new("delete from mark where key in (");
    let mut keys = query.separated(", ");
    for (key, _) in states {
        keys.push_bind(key);
    }
    query.push(")");
    query.build().persistent(false).execute(connection).await?;
    Ok(())
}

async fn remember(
    connection: &mut SqliteConnection,
    seen: BTreeMap<[u8; 16], Timestamp>,
) -> Result<(), WriteError> {
    let Some(latest) = seen.values().max().copied() else {
        return Ok(());
    };
    let expired = to_sql((seen.len() * EXPIRED_PER_NEW) as u64);
    let prepared = seen.len() <= PREPARED_ROWS;
    let mut query = QueryBuilder::<Sqlite>::new("insert into seen (at, vendor) ");
    query.push_values(seen, |mut tuple, (vendor, at)| {
        tuple.push_bind(at.micros()).push_bind(vendor.to_vec());
    });
    let query = query.build().persistent(prepared);
    query.execute(&mut *connection).await?;
    sqlx::query(
        "delete from seen where n in (select n from seen order by n limit ?)
         and (at < ? or n <= (select max(n) from seen) - ?)",
    )
    .bind(expired)
    .bind(latest.before(UNIQUE_FOR).micros())
    .bind(to_sql(SEEN_MAX as u64))
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes what the MQTT server remembers. Of two rows under one key the later holds.
pub async fn remember_mqtt(
    connection: &mut SqliteConnection,
    rows: Vec<SealedRow>,
) -> Result<(), WriteError> {
    let rows: BTreeMap<String, Option<Vec<u8>>> =
        rows.into_iter().map(|row| (row.key, row.sealed)).collect();
    let (kept, gone): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, row)| row.is_some());
    for some in kept.chunks(ROWS_AT_ONCE) {
        let mut query = QueryBuilder::<Sqlite>::new("insert into mqtt (key, sealed) ");
        query.push_values(some, |mut tuple, (key, sealed)| {
            tuple.push_bind(key).push_bind(sealed.as_deref());
        });
        query.push(" on conflict (key) do update set sealed = excluded.sealed");
        let query = query.build().persistent(false);
        query.execute(&mut *connection).await?;
    }
    for some in gone.chunks(ROWS_AT_ONCE) {
        let mut query = QueryBuilder::<Sqlite>::new("delete from mqtt where key in (");
        let mut keys = query.separated(", ");
        for (key, _) in some {
            keys.push_bind(key);
        }
        query.push(")");
        let query = query.build().persistent(false);
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Keeps a Config and the one before it.
pub async fn keep_config(
    connection: &mut SqliteConnection,
    config: SealedConfig,
) -> Result<(), WriteError> {
    sqlx::query("insert or replace into config (version, sealed) values (?, ?)")
        .bind(to_sql(config.version))
        .bind(config.sealed)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "delete from config where version not in (select version from config order by version desc limit ?)",
    )
    .bind(to_sql(CONFIGS_KEPT))
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes rows that lie wholly within an interval, the oldest first, and says how many and what they cost.
pub async fn delete(
    connection: &mut SqliteConnection,
    stream: Stream,
    from: u64,
    to: u64,
    limit: u64,
) -> Result<(u64, u64), WriteError> {
    let gone = sqlx::query(
        "delete from record
         where lane = ?1 and epoch = (select ordinal from epoch where id = ?2) and seq in (
           select seq from record
           where lane = ?1 and epoch = (select ordinal from epoch where id = ?2)
             and seq between ?3 and ?4 and to_seq <= ?4 order by seq limit ?5)
         returning length(body) as size",
    )
    .bind(lane_number(stream.lane))
    .bind(stream.epoch.0)
    .bind(to_sql(from))
    .bind(to_sql(to))
    .bind(to_sql(limit))
    .fetch_all(connection)
    .await?;
    let mut bytes = 0;
    for row in &gone {
        let size: i64 = row.try_get("size")?;
        bytes += ROW_OVERHEAD + super::schema::from_sql(size);
    }
    Ok((gone.len() as u64, bytes))
}

/// Saves the counters of streams whose epochs are in the table of epochs.
pub async fn save(
    connection: &mut SqliteConnection,
    ledgers: Vec<(Stream, Ledger)>,
) -> Result<(), WriteError> {
    if ledgers.is_empty() {
        return Ok(());
    }
    let mut tuples = Vec::with_capacity(ledgers.len());
    for (stream, ledger) in ledgers {
        let ranges = serde_json::to_string(&ledger.ranges)?;
        tuples.push((stream, ledger, ranges));
    }
    let mut query = QueryBuilder::<Sqlite>::new(
        "insert into stream (lane, epoch, last_seq, through_seq, ranges, rows, bytes) ",
    );
    query.push_values(tuples, |mut tuple, (stream, ledger, ranges)| {
        push_stream(&mut tuple, stream);
        tuple
            .push_bind(to_sql(ledger.last_seq))
            .push_bind(to_sql(ledger.through_seq))
            .push_bind(ranges)
            .push_bind(to_sql(ledger.rows))
            .push_bind(to_sql(ledger.bytes));
    });
    query.push(
        " on conflict (lane, epoch) do update set last_seq = excluded.last_seq,
           through_seq = excluded.through_seq, ranges = excluded.ranges,
           rows = excluded.rows, bytes = excluded.bytes",
    );
    query.build().execute(connection).await?;
    Ok(())
}

/// Begins an epoch, in a transaction of its own: its row, its three streams, and an end to old epochs with
/// nothing left in them but the one before, which the new one names.
pub async fn begin_epoch(
    connection: &mut SqliteConnection,
    epoch: EpochId,
    boot: &str,
) -> Result<(), WriteError> {
    let mut tx = connection.begin_with("begin immediate").await?;
    write_epoch(&mut tx, epoch, boot).await?;
    Ok(tx.commit().await?)
}

/// Notes an epoch that ran in memory. It stands before every other: the next start names the newest epoch of the
/// file as the one before it, and that is the present one.
pub async fn adopt_epoch(
    connection: &mut SqliteConnection,
    epoch: EpochId,
    boot: &str,
) -> Result<(), WriteError> {
    sqlx::query(
        "insert into epoch (ordinal, id, boot)
         values ((select coalesce(min(ordinal), 1) - 1 from epoch), ?, ?)",
    )
    .bind(epoch.0)
    .bind(boot)
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_epoch(
    connection: &mut SqliteConnection,
    epoch: EpochId,
    boot: &str,
) -> Result<(), WriteError> {
    sqlx::query(
        "delete from stream where rows = 0 and through_seq >= last_seq
         and epoch <> (select max(ordinal) from epoch)",
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "delete from epoch where ordinal <> (select max(ordinal) from epoch)
         and ordinal not in (select epoch from stream)",
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "insert into epoch (ordinal, id, boot)
         values ((select coalesce(max(ordinal), 0) + 1 from epoch), ?, ?)",
    )
    .bind(epoch.0)
    .bind(boot)
    .execute(&mut *connection)
    .await?;
    let streams = Lane::ALL
        .into_iter()
        .map(|lane| (Stream { lane, epoch }, Ledger::default()));
    save(connection, streams.collect()).await
}

fn bytes_of(body: &Body) -> Result<Vec<u8>, WriteError> {
    match body {
        Body::Event(bytes) => Ok(bytes.get().as_bytes().to_vec()),
        Body::Tombstone(tombstone) => {
            let bytes = write_tombstone(tombstone.clone())?;
            Ok(bytes.get().as_bytes().to_vec())
        }
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
