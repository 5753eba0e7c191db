//! A look at the file from outside, for a person: how full, how fast, how sound. Beside a running box too.
//!
//! Reads only, and reports damage to nobody: that is for the box itself.

use std::path::Path;
use std::time::Duration;

use domain::kind::Lane;
use domain::time::Timestamp;
use sqlx::{Connection, SqliteConnection};

use super::ReadError;
use super::outbox::Held;
use super::reader::{all_configs, all_streams, connect, quick_check};
use super::row::{ROW_OVERHEAD, SealedConfig};
use super::schema::{self, from_sql, lane_number, to_sql};

/// How far back the rate is counted.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Newest supervisory rows looked through for the last Config taken. Beyond: its age is not known.
const LOOKED_THROUGH: u64 = 100_000;

/// What was written lately and still waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lately {
    /// Rows and their cost in bytes.
    pub held: Held,
    /// How long ago the oldest of them was received, by the wall clock; a day at most.
    pub span: Duration,
}

/// What was seen.
#[derive(Debug)]
pub struct Survey {
    /// What each lane holds, in the order of [`Lane::ALL`].
    pub lanes: [Held; 3],
    /// Rows of the last day that wait; none when nothing waits.
    pub lately: Option<Lately>,
    /// The Configs kept, newest first.
    pub configs: Vec<SealedConfig>,
    /// When the newest Config was taken, if the record of it still waits.
    pub configured_at: Option<Timestamp>,
    /// Steps of the tables the file has taken, and those this program knows.
    pub steps: (u64, u64),
}

/// Looks through the file, the whole of it.
///
/// # Errors
/// See [`ReadError`].
pub async fn survey(path: &Path, now: Timestamp) -> Result<Survey, ReadError> {
    let mut connection = connect(path).await?;
    let seen = look(&mut connection, now).await;
    // A reader that cannot close has nothing to lose.
    let _ = connection.close().await;
    seen
}

async fn look(connection: &mut SqliteConnection, now: Timestamp) -> Result<Survey, ReadError> {
    quick_check(connection).await?;
    let version: i64 = sqlx::query_scalar("pragma user_version")
        .fetch_one(&mut *connection)
        .await?;
    let mut lanes = [Held::default(); 3];
    for head in all_streams(connection).await? {
        let at = usize::try_from(lane_number(head.stream.lane)).unwrap_or_default();
        if let Some(lane) = lanes.get_mut(at) {
            lane.rows += head.ledger.rows;
            lane.bytes += head.ledger.bytes;
        }
    }
    let (rows, bytes, oldest): (i64, i64, Option<i64>) = sqlx::query_as(
        "select count(*), coalesce(sum(length(body) + ?), 0), min(wall_us) from record
         where wall_us between ? and ?",
    )
    .bind(to_sql(ROW_OVERHEAD))
    .bind(now.before(DAY).micros())
    .bind(now.micros())
    .fetch_one(&mut *connection)
    .await?;
    let configured_at: Option<i64> = sqlx::query_scalar(
        "select max(wall_us) from (select wall_us, body from record where lane = ?
           order by lane, epoch desc, seq desc limit ?)
         where instr(body, cast('\"config.applied\"' as blob)) > 0",
    )
    .bind(lane_number(Lane::Supervisory))
    .bind(to_sql(LOOKED_THROUGH))
    .fetch_one(&mut *connection)
    .await?;
    Ok(Survey {
        lanes,
        lately: oldest.map(|oldest| Lately {
            held: Held {
                rows: from_sql(rows),
                bytes: from_sql(bytes),
            },
            span: now.since(Timestamp::from_micros(oldest)),
        }),
        configs: all_configs(connection).await?,
        configured_at: configured_at.map(Timestamp::from_micros),
        steps: (from_sql(version), schema::known()),
    })
}
