//! A damaged file at start: set aside for evidence, never deleted, and what reads is taken over.
//!
//! The new file is built beside the old one and swapped in by renames that can be interrupted anywhere. What
//! could not be read shows later as holes, which the box closes with `damaged` tombstones.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ambient::Clock;
use domain::time::Timestamp;
use sqlx::{Connection, SqliteConnection};

use super::reader::{self, ReadError, StreamHead};
use super::row::{SealedConfig, SealedRow};
use super::schema::{self, SchemaFault};
use super::{OpenError, connect};
use crate::site::{Mark, UNIQUE_FOR};

/// Time spent on taking rows over, the most urgent lane first. Beyond: the rest is left in the file set
/// aside and counted as damaged, so that the box does not stand deaf for minutes.
const SALVAGE: Duration = Duration::from_secs(10);
/// Rows taken over at once; a tenth of it, then a hundredth, next to a damaged page.
const CHUNK: i64 = 500;

/// A file that could be read.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) connection: SqliteConnection,
    pub(super) streams: Vec<StreamHead>,
    pub(super) configs: Vec<SealedConfig>,
    pub(super) marks: Vec<Mark>,
    pub(super) mqtt: Vec<SealedRow>,
}

/// Opens the file; a damaged one is replaced first. Says whether that happened.
pub(super) async fn open_or_rescue(path: &Path, clock: &Clock) -> Result<(Found, bool), OpenError> {
    if beside(path, ".ready").exists() {
        swap(path, clock.now())?;
    }
    if !marker(path).exists() {
        match open(path, clock.now()).await {
            Ok(found) => return Ok((found, false)),
            Err(error) if is_damage(&error) => {
                tracing::error!(error = %crate::chain(&error), "the store is damaged");
            }
            Err(error) => return Err(error),
        }
    }
    rebuild(path, clock).await?;
    Ok((open(path, clock.now()).await?, true))
}

/// The file that says the store was found damaged while in use.
pub(super) fn marker(path: &Path) -> PathBuf {
    beside(path, ".unsound")
}

/// Opens the file and reads everything a start needs, so that damage there is met now. The bulk of the rows
/// is checked later, beside the work.
async fn open(path: &Path, now: Timestamp) -> Result<Found, OpenError> {
    let mut connection = connect(path).await.map_err(ReadError::from)?;
    schema::bring_up(&mut connection).await?;
    let streams = reader::all_streams(&mut connection).await?;
    reader::last_rows(&mut connection).await?;
    let configs = reader::all_configs(&mut connection).await?;
    let marks = reader::all_marks(&mut connection, now.before(UNIQUE_FOR)).await?;
    let mqtt = reader::all_mqtt(&mut connection).await?;
    Ok(Found {
        connection,
        streams,
        configs,
        marks,
        mqtt,
    })
}

/// Whether an error says that the file, not the machine, is at fault.
fn is_damage(error: &OpenError) -> bool {
    match error {
        OpenError::Schema(SchemaFault::Newer { .. }) | OpenError::Directory(_) => false,
        OpenError::Schema(SchemaFault::Database(source))
        | OpenError::Read(ReadError::Database(source)) => says_damage(source),
        OpenError::Read(ReadError::Nonsense(_)) => true,
        OpenError::Write(_) => false,
    }
}

/// SQLITE_CORRUPT, SQLITE_NOTADB, or SQLITE_ERROR: our SQL does not change, so a table or column that is
/// missing means damage too (sqlite.org/rescode.html).
pub(super) fn says_damage(error: &sqlx::Error) -> bool {
    const DAMAGE: [i32; 3] = [1, 11, 26];
    let code = error.as_database_error().and_then(|e| e.code());
    let code = code.and_then(|code| code.parse::<i32>().ok());
    let undecodable = matches!(error, sqlx::Error::ColumnDecode { .. });
    undecodable || code.is_some_and(|code| DAMAGE.contains(&(code & 0xff)))
}

async fn rebuild(path: &Path, clock: &Clock) -> Result<(), OpenError> {
    let fresh = beside(path, ".new");
    for suffix in ["", "-wal", "-shm"] {
        remove(&beside(&fresh, suffix))?;
    }
    let mut connection = connect(&fresh).await.map_err(ReadError::from)?;
    schema::bring_up(&mut connection).await?;
    match salvage(&mut connection, path, clock).await {
        Ok(rows) => tracing::warn!(rows, "rows of the damaged store were taken over"),
        Err(error) => tracing::error!(%error, "the damaged store could not be read on"),
    }
    connection.close().await.map_err(ReadError::from)?;
    fs::rename(&fresh, beside(path, ".ready"))?;
    swap(path, clock.now())?;
    Ok(())
}

/// Moves the damaged file away and the new one in. Its log moves first: a log must never meet another file.
fn swap(path: &Path, now: Timestamp) -> io::Result<()> {
    let aside = beside(path, &format!(".damaged-{}", now.micros()));
    for suffix in ["-wal", "-shm", ""] {
        let from = beside(path, suffix);
        if from.exists() {
            fs::rename(&from, beside(&aside, suffix))?;
        }
    }
    fs::rename(beside(path, ".ready"), path)?;
    remove(&marker(path))?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    tracing::warn!(file = %aside.display(), "the damaged store was set aside");
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Copies what reads. The first table that does not read at all ends it: nothing after it could be placed.
async fn salvage(
    into: &mut SqliteConnection,
    from: &Path,
    clock: &Clock,
) -> Result<usize, sqlx::Error> {
    // Safe without a sync a chunk: until the file is complete and renamed, nobody relies on it. Closing syncs.
    sqlx::raw_sql("pragma synchronous = normal")
        .execute(&mut *into)
        .await?;
    sqlx::query("attach ? as damaged")
        .bind(uri(from))
        .execute(&mut *into)
        .await?;
    let outcome = copy(into, clock).await;
    // The attached file may be beyond closing; the connection is closed next in any case.
    let _ = sqlx::raw_sql("detach damaged").execute(&mut *into).await;
    outcome
}

async fn copy(into: &mut SqliteConnection, clock: &Clock) -> Result<usize, sqlx::Error> {
    for whole in [
        "insert or ignore into main.config select * from damaged.config",
        "insert or ignore into main.mark select * from damaged.mark",
        "insert or ignore into main.seen select * from damaged.seen",
        "insert or ignore into main.mqtt select * from damaged.mqtt",
    ] {
        if let Err(error) = sqlx::query(whole).execute(&mut *into).await {
            tracing::error!(%error, "a table of the damaged store could not be taken over");
        }
    }
    sqlx::query("insert into main.epoch select * from damaged.epoch")
        .execute(&mut *into)
        .await?;
    sqlx::query("insert into main.stream select * from damaged.stream")
        .execute(&mut *into)
        .await?;
    let streams: Vec<(i64, i64)> =
        sqlx::query_as("select lane, epoch from main.stream order by lane, epoch")
            .fetch_all(&mut *into)
            .await?;
    let until = clock.monotonic() + SALVAGE;
    let mut rows = 0;
    for stream in streams {
        for direction in [Direction::Up, Direction::Down] {
            rows += copy_rows(into, stream, direction, clock, until).await?;
        }
    }
    sqlx::query(
        "update main.stream set
           rows = (select count(*) from main.record r where r.lane = stream.lane and r.epoch = stream.epoch),
           bytes = (select coalesce(sum(length(body) + ?), 0) from main.record r
                    where r.lane = stream.lane and r.epoch = stream.epoch)",
    )
    .bind(schema::to_sql(super::row::ROW_OVERHEAD))
    .execute(into)
    .await?;
    Ok(rows)
}

/// How rows of one stream are walked: from the first number up, then from the last one down, each until the
/// damage or what is already there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl Direction {
    const fn start(self) -> i64 {
        match self {
            Self::Up => 0,
            Self::Down => i64::MAX,
        }
    }

    const fn sql(self) -> &'static str {
        match self {
            Self::Up => {
                "insert or ignore into main.record select * from damaged.record
                 where lane = ? and epoch = ? and seq > ? order by seq limit ? returning seq"
            }
            Self::Down => {
                "insert or ignore into main.record select * from damaged.record
                 where lane = ? and epoch = ? and seq < ? order by seq desc limit ? returning seq"
            }
        }
    }

    fn furthest(self, seqs: &[i64]) -> Option<i64> {
        match self {
            Self::Up => seqs.iter().max().copied(),
            Self::Down => seqs.iter().min().copied(),
        }
    }
}

async fn copy_rows(
    into: &mut SqliteConnection,
    (lane, epoch): (i64, i64),
    direction: Direction,
    clock: &Clock,
    until: Duration,
) -> Result<usize, sqlx::Error> {
    let (mut at, mut chunk, mut total) = (direction.start(), CHUNK, 0);
    while chunk > 0 && clock.monotonic() < until {
        let copied = sqlx::query_scalar(direction.sql())
            .bind(lane)
            .bind(epoch)
            .bind(at)
            .bind(chunk)
            .fetch_all(&mut *into)
            .await;
        match copied {
            Ok(seqs) => {
                let Some(furthest) = direction.furthest(&seqs) else {
                    break;
                };
                at = furthest;
                total += seqs.len();
            }
            Err(error) if says_damage(&error) => chunk /= 10,
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

/// The file as a read-only URI (sqlite.org/uri.html).
fn uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for c in path.to_string_lossy().chars() {
        match c {
            '%' => uri.push_str("%25"),
            '?' => uri.push_str("%3f"),
            '#' => uri.push_str("%23"),
            other => uri.push(other),
        }
    }
    uri.push_str("?mode=ro");
    uri
}
