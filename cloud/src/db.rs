//! One door to either database.
//!
//! One SQL text runs through two typed drivers: [`sql!`] matches on the transaction and binds the
//! same values to SQLite or PostgreSQL. Owns pools, the writing gate and migrations. Knows no table.
//!
//! Rules for callers: bind `uuid::Uuid`, `i64`, `bool`, `String`/`&str`, `Vec<u8>`/`&[u8]` and
//! options of them; instants are `i64` microseconds; JSON is text.

use std::borrow::Cow;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Postgres, Sqlite, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// Runs one SQL text on the driver behind a [`Tx`].
///
/// `sql!(tx, execute, "text", binds…)` gives the rows affected; `fetch_all as Row`,
/// `fetch_optional as Row` and `fetch_one as Row` give rows of a type that is `FromRow` on both.
#[macro_export]
macro_rules! sql {
    ($tx:expr, execute, $text:expr $(, $bind:expr)* $(,)?) => {
        match &mut *$tx {
            $crate::db::Tx::Sqlite(tx) => sqlx::query($text)$(.bind($bind))*
                .execute(&mut **tx).await.map(|done| done.rows_affected()),
            $crate::db::Tx::Postgres(tx) => sqlx::query($text)$(.bind($bind))*
                .execute(&mut **tx).await.map(|done| done.rows_affected()),
        }
    };
    ($tx:expr, $fetch:ident as $row:ty, $text:expr $(, $bind:expr)* $(,)?) => {
        match &mut *$tx {
            $crate::db::Tx::Sqlite(tx) => sqlx::query_as::<_, $row>($text)$(.bind($bind))*
                .$fetch(&mut **tx).await,
            $crate::db::Tx::Postgres(tx) => sqlx::query_as::<_, $row>($text)$(.bind($bind))*
                .$fetch(&mut **tx).await,
        }
    };
}

/// A pool of either database.
#[derive(Clone)]
pub enum Db {
    /// The embedded default: one process, one file.
    Sqlite(SqliteDoor),
    /// The production store.
    Postgres(PostgresDoor),
}

/// SQLite with all writes behind one gate (D3).
#[derive(Clone)]
pub struct SqliteDoor {
    writer: SqlitePool,
    readers: SqlitePool,
    gate: Gate,
}

/// PostgreSQL with connections kept for life safety (D3).
#[derive(Clone)]
pub struct PostgresDoor {
    life_safety: PgPool,
    others: PgPool,
}

/// Connections kept for life safety on PostgreSQL; when all are busy further ones wait.
const LIFE_SAFETY_CONNECTIONS: u32 = 4;
/// Connections for everything else; when all are busy further work waits.
const OTHER_CONNECTIONS: u32 = 12;
/// Reading connections on SQLite; when all are busy further reads wait.
const SQLITE_READERS: u32 = 4;
/// Longest wait for a connection before the work fails as [`DbError::Sqlx`] (pool timed out).
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// Whose work it is; life safety never queues behind the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Urgency {
    /// Alarms, cases, dispatch.
    LifeSafety,
    /// Everything else.
    Other,
}

/// The queue in front of SQLite's one writer: at most one transaction of the rest ever waits before
/// a life-safety one.
#[derive(Clone)]
struct Gate {
    turn: Arc<Semaphore>,
    others: Arc<Mutex<()>>,
}

/// Right to write; released when dropped.
struct Turn {
    _turn: OwnedSemaphorePermit,
    _other: Option<OwnedMutexGuard<()>>,
}

impl Gate {
    fn new() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            others: Arc::new(Mutex::new(())),
        }
    }

    async fn pass(&self, urgency: Urgency) -> Result<Turn, DbError> {
        let other = match urgency {
            Urgency::LifeSafety => None,
            Urgency::Other => Some(self.others.clone().lock_owned().await),
        };
        let turn = self.turn.clone().acquire_owned().await;
        Ok(Turn {
            _turn: turn.map_err(|_| DbError::Closed)?,
            _other: other,
        })
    }
}

/// A transaction of either database; what [`sql!`] matches on.
pub enum Tx {
    /// On SQLite.
    Sqlite(Transaction<'static, Sqlite>),
    /// On PostgreSQL.
    Postgres(Transaction<'static, Postgres>),
}

/// A writing transaction and its turn at the gate. Dropped without [`Write::commit`] it rolls back.
pub struct Write {
    tx: Tx,
    _turn: Option<Turn>,
}

impl Write {
    /// The transaction, for [`sql!`].
    pub fn tx(&mut self) -> &mut Tx {
        &mut self.tx
    }

    /// Makes everything durable (SQLite `synchronous=FULL`, PostgreSQL `synchronous_commit=on`).
    ///
    /// # Errors
    /// When the store cannot; nothing of it is then kept.
    pub async fn commit(self) -> Result<(), DbError> {
        match self.tx {
            Tx::Sqlite(tx) => tx.commit().await?,
            Tx::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

/// What the store could not do.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The driver says so.
    #[error("database: {0}")]
    Sqlx(#[from] sqlx::Error),
    /// A migration failed.
    #[error("migration: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// The task that held the transaction died.
    #[error("the work died: {0}")]
    Died(#[from] tokio::task::JoinError),
    /// A stored value is not what its column promises.
    #[error("stored {what} cannot be read: {why}")]
    Corrupt {
        /// Table and column.
        what: &'static str,
        /// The reader's complaint.
        why: String,
    },
}

impl DbError {
    /// A [`DbError::Corrupt`] for use in `map_err`.
    pub fn corrupt<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |why| Self::Corrupt {
            what,
            why: why.to_string(),
        }
    }
}

impl Db {
    /// Opens (and makes) an SQLite file.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub async fn sqlite(file: &Path) -> Result<Self, DbError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(CONNECT_WAIT);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(CONNECT_WAIT)
            .connect_with(options.clone())
            .await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(SQLITE_READERS)
            .acquire_timeout(CONNECT_WAIT)
            .connect_with(options.read_only(true))
            .await?;
        Ok(Self::Sqlite(SqliteDoor {
            writer,
            readers,
            gate: Gate::new(),
        }))
    }

    /// Connects to PostgreSQL.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn postgres(options: PgConnectOptions) -> Result<Self, DbError> {
        let options = options.options([("idle_in_transaction_session_timeout", "30s")]);
        let pool = |size| {
            PgPoolOptions::new()
                .max_connections(size)
                .acquire_timeout(CONNECT_WAIT)
        };
        Ok(Self::Postgres(PostgresDoor {
            life_safety: pool(LIFE_SAFETY_CONNECTIONS)
                .connect_with(options.clone())
                .await?,
            others: pool(OTHER_CONNECTIONS).connect_with(options).await?,
        }))
    }

    /// Begins a writing transaction (`BEGIN IMMEDIATE` on SQLite).
    ///
    /// # Errors
    /// When no connection is to be had.
    pub async fn write(&self, urgency: Urgency) -> Result<Write, DbError> {
        match self {
            Self::Sqlite(door) => {
                let turn = door.gate.pass(urgency).await?;
                let tx = door.writer.begin_with("BEGIN IMMEDIATE").await?;
                Ok(Write {
                    tx: Tx::Sqlite(tx),
                    _turn: Some(turn),
                })
            }
            Self::Postgres(door) => {
                let pool = match urgency {
                    Urgency::LifeSafety => &door.life_safety,
                    Urgency::Other => &door.others,
                };
                Ok(Write {
                    tx: Tx::Postgres(pool.begin().await?),
                    _turn: None,
                })
            }
        }
    }

    /// A consistent look at the store; dropped, it ends.
    ///
    /// # Errors
    /// When no connection is to be had.
    pub async fn read(&self) -> Result<Tx, DbError> {
        match self {
            Self::Sqlite(door) => Ok(Tx::Sqlite(door.readers.begin().await?)),
            Self::Postgres(door) => Ok(Tx::Postgres(door.others.begin().await?)),
        }
    }

    /// Brings the schema up to this program's version; forward only.
    ///
    /// # Errors
    /// When a migration fails or was changed after it ran.
    pub async fn migrate(&self) -> Result<(), DbError> {
        let migrator = migrator();
        match self {
            Self::Sqlite(door) => migrator.run(&door.writer).await?,
            Self::Postgres(door) => migrator.run(&door.others).await?,
        }
        Ok(())
    }

    /// Closes every connection after its present work.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(door) => {
                door.readers.close().await;
                door.writer.close().await;
            }
            Self::Postgres(door) => {
                door.others.close().await;
                door.life_safety.close().await;
            }
        }
    }
}

/// Runs work that must not be cut short when its caller goes away (a cancelled handler left pooled
/// PostgreSQL connections inside open transactions).
///
/// # Errors
/// [`DbError::Died`] when the work panicked.
pub async fn unhurt<T, F>(work: F) -> Result<T, DbError>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    Ok(tokio::spawn(work).await?)
}

fn migrator() -> Migrator {
    const TEXTS: &[(i64, &str, &str)] = &[
        (1, "first", include_str!("../migrations/0001_first.sql")),
        (
            2,
            "box_login",
            include_str!("../migrations/0002_box_login.sql"),
        ),
        (
            3,
            "commands",
            include_str!("../migrations/0003_commands.sql"),
        ),
    ];
    let migrations = TEXTS
        .iter()
        .map(|(version, name, text)| {
            Migration::new(
                *version,
                Cow::Borrowed(name),
                MigrationType::Simple,
                sqlx::SqlStr::from_static(text),
                false,
            )
        })
        .collect::<Vec<_>>();
    Migrator {
        migrations: Cow::Owned(migrations),
        ..Migrator::DEFAULT
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn values_come_back_as_they_went_in() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::sqlite(&dir.path().join("t.db")).await.unwrap();
        db.migrate().await.unwrap();
        db.migrate().await.unwrap();
        let id = uuid::Uuid::from_u128(7);
        let mut write = db.write(Urgency::LifeSafety).await.unwrap();
        sql!(
            write.tx(),
            execute,
            "insert into watch_room (id, name) values ($1, $2)",
            id,
            "值班室"
        )
        .unwrap();
        sql!(
            write.tx(),
            execute,
            "insert into journal_head (centre, seq, hash) values ($1, $2, $3)",
            id,
            3_i64,
            vec![1_u8, 0]
        )
        .unwrap();
        write.commit().await.unwrap();
        let mut tx = db.read().await.unwrap();
        let row = sql!(
            &mut tx,
            fetch_one as (uuid::Uuid, i64, Vec<u8>),
            "select centre, seq, hash from journal_head where centre = $1",
            id
        )
        .unwrap();
        assert_eq!(row, (id, 3, vec![1, 0]));
        let none = sql!(
            &mut tx,
            fetch_optional as (String,),
            "select name from division where code = $1",
            "x"
        )
        .unwrap();
        assert_eq!(none, None);
    }

    #[tokio::test]
    async fn what_is_not_committed_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::sqlite(&dir.path().join("t.db")).await.unwrap();
        db.migrate().await.unwrap();
        let mut write = db.write(Urgency::Other).await.unwrap();
        sql!(
            write.tx(),
            execute,
            "insert into division (code, name) values ('1', 'x')"
        )
        .unwrap();
        drop(write);
        let mut tx = db.read().await.unwrap();
        let all = sql!(&mut tx, fetch_all as (String,), "select code from division").unwrap();
        assert!(all.is_empty());
    }
}
