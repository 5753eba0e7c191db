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
use domain::kind::Lane;
use domain::time::Timestamp;
use sqlx::{Connection, SqliteConnection};

use super::reader::{self, ReadError, StreamHead};
use super::row::{SealedConfig, SealedRow};
use super::schema::{self, SchemaFault, lane_number};
use super::{OpenError, Place, connect, statements};
use crate::site::{Mark, UNIQUE_FOR};

/// Time spent on taking rows over, the most urgent lane first. Beyond: the rest is left in the file set
/// aside and counted as damaged, so that the box does not stand deaf for minutes.
const SALVAGE: Duration = Duration::from_secs(10);
/// Rows taken over at once; next to a damaged page ever fewer, down to one.
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

/// Opens the file and begins the epoch; a damaged file is replaced first. Says whether that happened.
pub(super) async fn open_or_rescue(
    path: &Path,
    place: &Place,
    clock: &Clock,
) -> Result<(Found, bool), OpenError> {
    if beside(path, ".ready").exists() {
        swap(path, clock.now())?;
    }
    if !marker(path).exists() {
        match open(path, place, clock.now()).await {
            Ok(found) => return Ok((found, false)),
            Err(error) if is_damage(&error) => {
                tracing::error!(error = %crate::chain(&error), "the store is damaged");
            }
            Err(error) => return Err(error),
        }
    }
    rebuild(path, clock).await?;
    Ok((open(path, place, clock.now()).await?, true))
}

/// The file that says the store was found damaged while in use.
pub(super) fn marker(path: &Path) -> PathBuf {
    beside(path, ".unsound")
}

/// Opens the file, reads everything a start needs and begins the epoch, so that damage there is met now. The
/// bulk of the rows is checked later, beside the work.
async fn open(path: &Path, place: &Place, now: Timestamp) -> Result<Found, OpenError> {
    let mut connection = connect(path).await.map_err(ReadError::from)?;
    match read_and_begin(&mut connection, place, now).await {
        Ok(read) => Ok(Found {
            connection,
            streams: read.streams,
            configs: read.configs,
            marks: read.marks,
            mqtt: read.mqtt,
        }),
        Err(error) => {
            // Closed before the file is moved: SQLite tidies up by name. It need not succeed on a broken one.
            let _ = connection.close().await;
            Err(error)
        }
    }
}

/// What a start needs of the file.
struct Read {
    streams: Vec<StreamHead>,
    configs: Vec<SealedConfig>,
    marks: Vec<Mark>,
    mqtt: Vec<SealedRow>,
}

async fn read_and_begin(
    connection: &mut SqliteConnection,
    place: &Place,
    now: Timestamp,
) -> Result<Read, OpenError> {
    schema::bring_up(connection).await?;
    let streams = reader::all_streams(connection).await?;
    reader::last_rows(connection).await?;
    let configs = reader::all_configs(connection).await?;
    let marks = reader::all_marks(connection, now.before(UNIQUE_FOR)).await?;
    let mqtt = reader::all_mqtt(connection).await?;
    statements::begin_epoch(connection, place.epoch, &place.boot).await?;
    Ok(Read {
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
        OpenError::Schema(SchemaFault::Database(source)) => says_damage(source),
        OpenError::Read(error) => error.is_damage(),
        OpenError::Write(error) => error.is_damage(),
    }
}

/// SQLITE_CORRUPT, SQLITE_NOTADB, or SQLITE_ERROR: our SQL does not change, so a table or column that is
/// missing means damage too (sqlite.org/rescode.html). A statement that asks too much is the asker's fault.
pub(super) fn says_damage(error: &sqlx::Error) -> bool {
    const DAMAGE: [i32; 3] = [1, 11, 26];
    let Some(refusal) = error.as_database_error() else {
        return matches!(error, sqlx::Error::ColumnDecode { .. });
    };
    let code = refusal.code().and_then(|code| code.parse::<i32>().ok());
    let damaged = code.is_some_and(|code| DAMAGE.contains(&(code & 0xff)));
    damaged && !refusal.message().starts_with("too many ")
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

/// Copies what reads. Without the epochs there is no more to copy: no row could be placed.
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
    // Columns named and no index used: `select *` copies indexes page by page and fails with any of them.
    for whole in [
        "insert or ignore into main.config (version, sealed)
         select version, sealed from damaged.config not indexed",
        "insert or ignore into main.mark (key, body)
         select key, body from damaged.mark not indexed",
        "insert into main.seen (at, vendor)
         select at, vendor from damaged.seen not indexed order by at",
        "insert or ignore into main.mqtt (key, sealed)
         select key, sealed from damaged.mqtt not indexed",
    ] {
        if let Err(error) = sqlx::query(whole).execute(&mut *into).await {
            tracing::error!(%error, "a table of the damaged store could not be taken over");
        }
    }
    copy_epochs(into).await?;
    let counted = sqlx::query(
        "insert into main.stream (lane, epoch, last_seq, through_seq, ranges, rows, bytes)
         select lane, epoch, last_seq, through_seq, ranges, rows, bytes from damaged.stream",
    )
    .execute(&mut *into)
    .await;
    if let Err(error) = counted {
        tracing::error!(%error, "the counters of the damaged store are made anew from its rows");
    }
    let epochs: Vec<i64> = sqlx::query_scalar("select ordinal from main.epoch order by ordinal")
        .fetch_all(&mut *into)
        .await?;
    let mut streams = Vec::with_capacity(Lane::ALL.len() * epochs.len());
    for lane in Lane::ALL {
        streams.extend(epochs.iter().map(|epoch| (lane_number(lane), *epoch)));
    }
    let until = clock.monotonic() + SALVAGE;
    let mut rows = 0;
    for stream in streams {
        for direction in [Direction::Up, Direction::Down] {
            rows += copy_rows(into, stream, direction, clock, until).await?;
        }
    }
    // Counters that did not read: from nothing receipted, so that what is missing shows as a hole.
    sqlx::query(
        "insert or ignore into main.stream (lane, epoch, last_seq)
         select lane, epoch, max(to_seq) from main.record group by lane, epoch",
    )
    .execute(&mut *into)
    .await?;
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

/// The epochs, without which no row has a place: from their table, or else from its index, which knows all but
/// the boot. Ages of rows of an unknown boot are lower bounds.
async fn copy_epochs(into: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let from_table = "insert into main.epoch (ordinal, id, boot)
                      select ordinal, id, boot from damaged.epoch not indexed";
    let from_index = "insert into main.epoch (ordinal, id, boot)
                      select ordinal, id, '' from damaged.epoch order by id";
    match sqlx::query(from_table).execute(&mut *into).await {
        Err(error) if says_damage(&error) => {
            tracing::error!(%error, "the epochs of the damaged store are taken from their index");
            sqlx::query(from_index).execute(into).await?;
            Ok(())
        }
        outcome => outcome.map(|_| ()),
    }
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
    while clock.monotonic() < until {
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
            Err(error) if says_damage(&error) && chunk == 1 => break,
            Err(error) if says_damage(&error) => chunk = (chunk / 10).max(1),
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
