//! Reading the box's file on a connection of its own, beside the writer.
//!
//! Owns read-only queries: pages of rows, ledgers, the site's state. Never writes, never holds more than the
//! page asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use domain::id::EpochId;
use domain::kind::Lane;
use domain::time::Timestamp;
use serde_json::value::RawValue;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{ConnectOptions, Connection, Row as _, SqliteConnection};
use uuid::Uuid;

use super::row::{Ledger, SealedConfig, SealedRow, Stream};
use super::schema::{from_sql, lane_number, lane_of, to_sql};
use super::{Sentry, rescue, waiting};
use crate::clock::Received;
use crate::site::{Mark, SEEN_MAX};

/// Rows the driver may buffer on their way from SQLite's thread.
const ROW_BUFFER: usize = 512;

/// A stored row as it is sent.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its number.
    pub seq: u64,
    /// The last number it stands for.
    pub to_seq: u64,
    /// When it was received.
    pub received: Received,
    /// Its bytes.
    pub body: Box<RawValue>,
}

/// A stream as the store knows it.
#[derive(Clone, Debug)]
pub struct StreamHead {
    /// Which.
    pub stream: Stream,
    /// The boot its rows' monotonic times count from.
    pub boot: Arc<str>,
    /// Its counters.
    pub ledger: Ledger,
}

/// What is wrong with reading.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database refused, or a value has the wrong shape.
    #[error("the store cannot be read")]
    Database(#[from] sqlx::Error),
    /// A row names a lane or an id that cannot be.
    #[error("the store holds a value that cannot be: {0}")]
    Nonsense(&'static str),
    /// SQLite looked through the file and found it damaged.
    #[error("the store is damaged: {0}")]
    Unsound(String),
}

impl ReadError {
    /// Whether it says that the file, not the machine, is at fault.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Database(source) => rescue::says_damage(source),
            Self::Nonsense(_) | Self::Unsound(_) => true,
        }
    }
}

/// A read-only connection. What it meets of damage it reports to its sentry.
#[derive(Debug)]
pub struct Reader {
    connection: SqliteConnection,
    path: PathBuf,
    sentry: Sentry,
}

impl Reader {
    /// Opens the file for reading. The writer must have made it.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub async fn open(path: &Path, sentry: Sentry) -> Result<Self, ReadError> {
        Ok(Self {
            connection: sentry.heed_read(connect(path).await)?,
            path: path.to_owned(),
            sentry,
        })
    }

    /// A second connection to the same file.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub async fn another(&self) -> Result<Self, ReadError> {
        Self::open(&self.path, self.sentry.clone()).await
    }

    /// Rows of a stream after `after` up to `through`, in order: at most `rows`, and no more than `bytes` of
    /// bodies, but always one.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn page(
        &mut self,
        stream: Stream,
        after: u64,
        through: u64,
        rows: usize,
        bytes: usize,
    ) -> Result<Vec<Held>, ReadError> {
        let found = rows_of(&mut self.connection, stream, after, through, rows).await;
        let mut page: Vec<Held> = Vec::new();
        let mut used = 0;
        for held in self.sentry.heed_read(found)? {
            used += held.body.get().len();
            if used > bytes && !page.is_empty() {
                break;
            }
            page.push(held);
        }
        Ok(page)
    }

    /// Every stream that has something left to send, or something missing, in the order of the epochs.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn streams(&mut self) -> Result<Vec<StreamHead>, ReadError> {
        let found = all_streams(&mut self.connection).await;
        let mut heads = self.sentry.heed_read(found)?;
        heads.retain(|head| !head.ledger.is_drained());
        Ok(heads)
    }

    /// When the oldest rows of a lane were received, one an epoch, each with the boot it was received in.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn oldest(&mut self, lane: Lane) -> Result<Vec<(Received, String)>, ReadError> {
        let found = waiting::oldest(&mut self.connection, lane).await;
        self.sentry.heed_read(found)
    }

    /// The oldest life-safety rows, up to `limit`, with the boot each counts from.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn waiting_life_safety(
        &mut self,
        limit: usize,
    ) -> Result<Vec<(Received, String, Box<RawValue>)>, ReadError> {
        let found = waiting::life_safety(&mut self.connection, limit).await;
        self.sentry.heed_read(found)
    }

    /// The durable state of the site, with the vendor ids seen since `since`.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn marks(&mut self, since: Timestamp) -> Result<Vec<Mark>, ReadError> {
        let found = all_marks(&mut self.connection, since).await;
        self.sentry.heed_read(found)
    }

    /// Numbers of old epochs that are neither held nor receipted: the holes only this box can close (D4).
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn holes(&mut self, present: EpochId) -> Result<Vec<(Stream, u64, u64)>, ReadError> {
        let found = all_holes(&mut self.connection, present).await;
        self.sentry.heed_read(found)
    }

    /// Has SQLite look through the whole file (`PRAGMA quick_check`).
    ///
    /// # Errors
    /// See [`ReadError`]; [`ReadError::Unsound`] when it finds damage.
    pub async fn check(&mut self) -> Result<(), ReadError> {
        let checked = quick_check(&mut self.connection).await;
        self.sentry.heed_read(checked)
    }

    /// Ends the connection in good order.
    pub async fn close(self) {
        // A reader that cannot close has nothing to lose.
        let _ = self.connection.close().await;
    }
}

async fn rows_of(
    connection: &mut SqliteConnection,
    stream: Stream,
    after: u64,
    through: u64,
    rows: usize,
) -> Result<Vec<Held>, ReadError> {
    let found = sqlx::query(
        "select seq, to_seq, up_us, wall_us, trusted, body from record
         where lane = ? and epoch = (select ordinal from epoch where id = ?) and seq > ? and seq <= ?
         order by seq limit ?",
    )
    .bind(lane_number(stream.lane))
    .bind(stream.epoch.0)
    .bind(to_sql(after))
    .bind(to_sql(through))
    .bind(to_sql(rows as u64))
    .fetch_all(connection)
    .await?;
    found.iter().map(read_held).collect()
}

async fn quick_check(connection: &mut SqliteConnection) -> Result<(), ReadError> {
    let verdict: String = sqlx::query_scalar("pragma quick_check(1)")
        .fetch_one(connection)
        .await?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(ReadError::Unsound(verdict))
    }
}

async fn all_holes(
    connection: &mut SqliteConnection,
    present: EpochId,
) -> Result<Vec<(Stream, u64, u64)>, ReadError> {
    let mut tx = connection.begin().await?;
    let found = sqlx::query(
        "select s.lane, e.id, s.last_seq, s.through_seq, s.ranges, h.seq, h.before
         from stream s join epoch e on e.ordinal = s.epoch
         join (select lane, epoch, seq, before from (
                 select lane, epoch, seq,
                   lag(to_seq, 1, 0) over (partition by lane, epoch order by seq) as before
                 from record)
               where seq > before + 1
               union all
               select lane, epoch, last_seq + 1, coalesce((
                 select to_seq from record r where r.lane = t.lane and r.epoch = t.epoch
                 order by seq desc limit 1), 0)
               from stream t) h on h.lane = s.lane and h.epoch = s.epoch
         where e.id <> ? and h.seq > h.before + 1 order by s.epoch, s.lane, h.seq",
    )
    .bind(present.0)
    .fetch_all(&mut *tx)
    .await?;
    tx.rollback().await?;
    let mut holes = Vec::new();
    for row in &found {
        let (stream, through, ranges) = (
            read_key(row)?,
            from_sql(row.try_get("through_seq")?),
            read_ranges(row)?,
        );
        let before = from_sql(row.try_get("before")?);
        let seq = from_sql(row.try_get("seq")?);
        let missing = without(before.max(through) + 1, seq - 1, &ranges);
        holes.extend(missing.into_iter().map(|(from, to)| (stream, from, to)));
    }
    Ok(holes)
}

/// Every stream in the file, in the order of the epochs.
pub(super) async fn all_streams(
    connection: &mut SqliteConnection,
) -> Result<Vec<StreamHead>, ReadError> {
    let found = sqlx::query(
        "select s.lane, e.id, e.boot, s.last_seq, s.through_seq, s.ranges, s.rows, s.bytes
         from stream s join epoch e on e.ordinal = s.epoch order by s.epoch, s.lane",
    )
    .fetch_all(connection)
    .await?;
    found.iter().map(read_stream).collect()
}

/// Touches the last row of every stream.
pub(super) async fn last_rows(connection: &mut SqliteConnection) -> Result<(), ReadError> {
    sqlx::query(
        "select (select length(body) from record r where r.lane = s.lane and r.epoch = s.epoch
                 order by seq desc limit 1) from stream s",
    )
    .fetch_all(connection)
    .await?;
    Ok(())
}

/// The durable state of the site, with the vendor ids seen since `since`.
pub(super) async fn all_marks(
    connection: &mut SqliteConnection,
    since: Timestamp,
) -> Result<Vec<Mark>, ReadError> {
    let states = sqlx::query("select key, body from mark")
        .fetch_all(&mut *connection)
        .await?;
    let seen = sqlx::query(
        "select vendor, at from (select n, vendor, at from seen where at >= ? order by n desc limit ?)
         order by n",
    )
    .bind(since.micros())
    .bind(to_sql(SEEN_MAX as u64))
    .fetch_all(connection)
    .await?;
    let mut marks = Vec::with_capacity(states.len() + seen.len());
    for row in &states {
        marks.push(Mark::State {
            key: row.try_get("key")?,
            body: Some(row.try_get("body")?),
        });
    }
    for row in &seen {
        let vendor: Vec<u8> = row.try_get("vendor")?;
        let vendor = vendor.try_into();
        marks.push(Mark::Seen {
            vendor: vendor.map_err(|_| ReadError::Nonsense("length of a vendor id"))?,
            at: Timestamp::from_micros(row.try_get("at")?),
        });
    }
    Ok(marks)
}

/// What the MQTT server remembers, by key.
pub(super) async fn all_mqtt(
    connection: &mut SqliteConnection,
) -> Result<Vec<SealedRow>, ReadError> {
    let rows = sqlx::query("select key, sealed from mqtt order by key")
        .fetch_all(connection)
        .await?;
    let row = |row: &SqliteRow| {
        Ok(SealedRow {
            key: row.try_get("key")?,
            sealed: Some(row.try_get("sealed")?),
        })
    };
    rows.iter().map(row).collect()
}

/// The Configs kept, newest first.
pub(super) async fn all_configs(
    connection: &mut SqliteConnection,
) -> Result<Vec<SealedConfig>, ReadError> {
    let found = sqlx::query("select version, sealed from config order by version desc")
        .fetch_all(connection)
        .await?;
    let read = |row: &SqliteRow| {
        Ok(SealedConfig {
            version: from_sql(row.try_get("version")?),
            sealed: row.try_get("sealed")?,
        })
    };
    found.iter().map(read).collect()
}

async fn connect(path: &Path) -> Result<SqliteConnection, ReadError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .row_buffer_size(ROW_BUFFER)
        .busy_timeout(Duration::from_secs(5));
    Ok(options.connect().await?)
}

/// The parts of `from..=to` that no range covers.
fn without(from: u64, to: u64, ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut left = Vec::new();
    let mut next = from;
    for (start, end) in ranges {
        if *start > to {
            break;
        }
        if *start > next {
            left.push((next, *start - 1));
        }
        next = next.max(end.saturating_add(1));
    }
    if next <= to {
        left.push((next, to));
    }
    left
}

/// All ledgers by stream, as the outbox starts from.
pub(super) fn by_stream(heads: &[StreamHead]) -> BTreeMap<Stream, Ledger> {
    heads
        .iter()
        .map(|head| (head.stream, head.ledger.clone()))
        .collect()
}

fn read_key(row: &SqliteRow) -> Result<Stream, ReadError> {
    let lane = lane_of(row.try_get("lane")?).ok_or(ReadError::Nonsense("lane"))?;
    let epoch: Uuid = row.try_get("id")?;
    Ok(Stream {
        lane,
        epoch: EpochId(epoch),
    })
}

fn read_ranges(row: &SqliteRow) -> Result<Vec<(u64, u64)>, ReadError> {
    let text: String = row.try_get("ranges")?;
    serde_json::from_str(&text).map_err(|_| ReadError::Nonsense("ranges"))
}

fn read_stream(row: &SqliteRow) -> Result<StreamHead, ReadError> {
    let boot: String = row.try_get("boot")?;
    Ok(StreamHead {
        stream: read_key(row)?,
        boot: boot.into(),
        ledger: Ledger {
            last_seq: from_sql(row.try_get("last_seq")?),
            through_seq: from_sql(row.try_get("through_seq")?),
            ranges: read_ranges(row)?,
            rows: from_sql(row.try_get("rows")?),
            bytes: from_sql(row.try_get("bytes")?),
        },
    })
}

fn read_received(row: &SqliteRow) -> Result<Received, ReadError> {
    Ok(Received {
        up: Duration::from_micros(from_sql(row.try_get("up_us")?)),
        wall: Timestamp::from_micros(row.try_get("wall_us")?),
        trusted: row.try_get::<i64, _>("trusted")? != 0,
    })
}

pub(super) fn read_held(row: &SqliteRow) -> Result<Held, ReadError> {
    let bytes: Vec<u8> = row.try_get("body")?;
    Ok(Held {
        seq: from_sql(row.try_get("seq")?),
        to_seq: from_sql(row.try_get("to_seq")?),
        received: read_received(row)?,
        body: readable(bytes)?,
    })
}

/// The body as JSON. One that damage made unreadable travels as a text, so that the cloud keeps it whole
/// instead of a hole (D4).
fn readable(bytes: Vec<u8>) -> Result<Box<RawValue>, ReadError> {
    let text = String::from_utf8(bytes)
        .unwrap_or_else(|damaged| String::from_utf8_lossy(damaged.as_bytes()).into_owned());
    match RawValue::from_string(text.clone()) {
        Ok(body) => Ok(body),
        Err(_) => serde_json::value::to_raw_value(&text)
            .map_err(|_| ReadError::Nonsense("body of a record")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_what_no_range_covers() {
        assert_eq!(without(1, 9, &[]), [(1, 9)]);
        assert_eq!(without(1, 9, &[(3, 4), (7, 20)]), [(1, 2), (5, 6)]);
        assert_eq!(without(1, 9, &[(1, 9)]), []);
        assert_eq!(without(5, 9, &[(1, 6)]), [(7, 9)]);
        assert_eq!(without(5, 4, &[]), []);
    }

    #[test]
    fn a_damaged_body_still_travels() {
        assert_eq!(readable(b"{\"v\":1}".to_vec()).unwrap().get(), "{\"v\":1}");
        assert_eq!(readable(b"{\"v\":".to_vec()).unwrap().get(), r#""{\"v\":""#);
        assert!(readable(vec![0xff, 0xfe]).is_ok());
    }
}
