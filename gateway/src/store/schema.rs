//! The tables of the box's file, and the one way they change: forward, by numbered steps.
//!
//! `PRAGMA user_version` counts the steps taken. A file from a newer program is refused, never touched.

use domain::kind::Lane;
use sqlx::{Connection, SqliteConnection};

/// Each step's SQL, oldest first. Released steps are never edited; a change is a new step.
const STEPS: &[&str] = &[
    // Lanes are numbered 0 life_safety, 1 supervisory, 2 telemetry, so that the key sorts by urgency.
    // Instants and spans are microseconds. Rows are bigger than a key, yet every read and delete runs along
    // the key, so the key carries them.
    "create table epoch (
        ordinal integer primary key,
        id blob not null unique,
        boot text not null
    ) strict;
    create table stream (
        lane integer not null,
        epoch integer not null references epoch (ordinal),
        last_seq integer not null default 0,
        through_seq integer not null default 0,
        ranges text not null default '[]',
        rows integer not null default 0,
        bytes integer not null default 0,
        primary key (lane, epoch)
    ) strict, without rowid;
    create table record (
        lane integer not null,
        epoch integer not null references epoch (ordinal),
        seq integer not null,
        to_seq integer not null,
        up_us integer not null,
        wall_us integer not null,
        trusted integer not null,
        body blob not null,
        primary key (lane, epoch, seq)
    ) strict, without rowid;
    create table mark (
        key text primary key,
        body text not null
    ) strict, without rowid;
    create table seen (
        vendor blob primary key,
        at integer not null
    ) strict, without rowid;
    create index seen_at on seen (at);
    create table config (
        version integer primary key,
        sealed blob not null
    ) strict;",
    // What the MQTT server remembers of its clients and of retained messages; payloads may hold a PIN.
    "create table mqtt (
        key text primary key,
        sealed blob not null
    ) strict, without rowid;",
    // Vendor ids in the order they were taken: keyed by themselves, each touched a page of its own.
    "create table taken (
        n integer primary key,
        at integer not null,
        vendor blob not null
    ) strict;
    insert into taken (at, vendor) select at, vendor from seen order by at;
    drop table seen;
    alter table taken rename to seen;",
];

/// Why the tables cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaFault {
    /// The file was written by a newer program.
    #[error("the file is at step {found}, this program knows {known}")]
    Newer {
        /// Steps taken.
        found: usize,
        /// Steps known.
        known: usize,
    },
    /// The database refused.
    #[error("the tables cannot be made")]
    Database(#[from] sqlx::Error),
}

/// Takes the steps not taken yet, all or none.
///
/// # Errors
/// See [`SchemaFault`].
pub async fn bring_up(connection: &mut SqliteConnection) -> Result<(), SchemaFault> {
    let version: i64 = sqlx::query_scalar("pragma user_version")
        .fetch_one(&mut *connection)
        .await?;
    let found = usize::try_from(version).unwrap_or(usize::MAX);
    let known = STEPS.len();
    let Some(steps) = STEPS.get(found..) else {
        return Err(SchemaFault::Newer { found, known });
    };
    if steps.is_empty() {
        return Ok(());
    }
    let mut tx = connection.begin_with("begin immediate").await?;
    for step in steps {
        sqlx::raw_sql(*step).execute(&mut *tx).await?;
    }
    let done = format!("pragma user_version = {known}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(done))
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// The number of a lane in the file.
#[must_use]
pub const fn lane_number(lane: Lane) -> i64 {
    match lane {
        Lane::LifeSafety => 0,
        Lane::Supervisory => 1,
        Lane::Telemetry => 2,
    }
}

/// The lane of a number in the file.
#[must_use]
pub fn lane_of(number: i64) -> Option<Lane> {
    Lane::ALL
        .into_iter()
        .find(|lane| lane_number(*lane) == number)
}

/// A count as SQLite keeps it. Counts beyond its range cannot occur in the life of a disk.
#[must_use]
pub fn to_sql(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count as SQLite kept it; a negative one, which we never write, reads as zero.
#[must_use]
pub fn from_sql(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
