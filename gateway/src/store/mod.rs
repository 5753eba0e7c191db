//! The box's file: its queue for the cloud and its memory across restarts. The only SQL of the box.
//!
//! SQLite in WAL mode with `synchronous=FULL`: what is committed survives a power cut. One task writes
//! ([`Writer`]); readers have connections of their own. Every opening begins a new epoch (D4).

pub mod afloat;
mod inspect;
pub mod outbox;
mod reader;
mod rescue;
pub mod row;
mod schema;
mod sentry;
mod statements;
#[cfg(test)]
mod tests;
mod waiting;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ambient::Clock;
use domain::id::EpochId;
use domain::kind::Lane;
use domain::wire::Receipt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Received;
use crate::gauges::Gauges;
use crate::site::Mark;
use afloat::Afloat;
use outbox::{Limits, Outbox};
use row::{SealedConfig, Stream, Submission};
use writer::Job;

pub use inspect::inspect;
pub use reader::{Held, ReadError, Reader, StreamHead};
pub use schema::SchemaFault;
pub use sentry::Sentry;
pub use writer::Writer;

/// Name of the file in the data directory.
pub const FILE: &str = "outbox.db";
/// Jobs that wait for the writer. Beyond: whoever brings one waits too.
const QUEUE: usize = 256;
/// How long SQLite waits for a lock, which only a dying connection of our own can hold.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// How far each lane of this epoch may be sent, and how often holes of old epochs were closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    /// Last number that may be sent, in the order of [`Lane::ALL`].
    pub last: [u64; 3],
    /// Rises when rows were added to old epochs.
    pub backlog: u64,
}

/// What is wrong with the store, if anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Rows are being counted instead of kept.
    pub shedding: bool,
    /// The last transaction failed.
    pub failing: bool,
    /// The file was found damaged at this start, or in the run before it, and was set aside.
    pub damaged: bool,
}

/// The epoch before this one, as `gateway.started` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Its id.
    pub epoch: EpochId,
    /// Its last numbers, in the order of [`Lane::ALL`].
    pub last: [u64; 3],
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The tables cannot be used.
    #[error(transparent)]
    Schema(#[from] SchemaFault),
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The directory cannot be worked in.
    #[error("the data directory cannot be worked in")]
    Directory(#[from] std::io::Error),
}

/// Why a transaction failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The database refused.
    #[error("the store cannot be written")]
    Database(#[from] sqlx::Error),
    /// The file could not be read again after a failure.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A value has no JSON form.
    #[error("a value has no JSON form")]
    Json(#[from] serde_json::Error),
    /// What is committed into a file known to be damaged may not be there after the rescue.
    #[error("the store is known to be damaged")]
    KnownDamaged,
}

impl WriteError {
    /// Whether it says that the file, not the machine, is at fault.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Database(source) => rescue::says_damage(source),
            Self::Read(source) => source.is_damage(),
            Self::Json(_) => false,
            Self::KnownDamaged => true,
        }
    }
}

/// A submission is not on disk. Nothing of it is, and it may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not committed")]
pub struct NotCommitted;

/// What an opened store gives.
#[derive(Debug)]
pub struct Opened {
    /// For everybody who has something to store.
    pub store: Store,
    /// To be run as a task.
    pub writer: Writer,
    /// A connection for reading.
    pub reader: Reader,
    /// The epoch before.
    pub previous: Option<Previous>,
    /// Streams with something left to send, old epochs only.
    pub backlog: Vec<StreamHead>,
    /// The Configs kept, newest first.
    pub configs: Vec<SealedConfig>,
    /// The site's state.
    pub marks: Vec<Mark>,
    /// What the MQTT server remembers.
    pub mqtt: Vec<row::SealedRow>,
}

/// Where and how the store is kept.
#[derive(Clone, Debug)]
pub struct Place {
    /// The data directory.
    pub directory: PathBuf,
    /// How much it holds.
    pub limits: Limits,
    /// The epoch to begin.
    pub epoch: EpochId,
    /// The kernel's boot id.
    pub boot: Arc<str>,
}

/// A handle for storing. The writer ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    heads: watch::Receiver<Heads>,
    standing: Arc<watch::Sender<Standing>>,
    afloat: Arc<watch::Sender<Afloat>>,
    sentry: Sentry,
    path: PathBuf,
    epoch: EpochId,
}

impl Store {
    /// Opens the file in the directory, or makes one, and begins an epoch. A damaged file is set aside and
    /// what can be read of it is taken over.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(
        place: Place,
        gauges: Arc<Gauges>,
        clock: Clock,
    ) -> Result<Opened, OpenError> {
        let path = place.directory.join(FILE);
        let (found, rescued) = rescue::open_or_rescue(&path, &place, &clock).await?;
        File::open(&place.directory)?.sync_all()?;
        let sentry = Sentry::new(&path);

        let (jobs, taken) = mpsc::channel(QUEUE);
        let standing = Standing {
            damaged: rescued,
            ..Standing::default()
        };
        let standing = Arc::new(watch::Sender::new(standing));
        let (heads_out, heads) = watch::channel(Heads::default());
        let mut writer = Writer {
            path: path.clone(),
            connection: Some(found.connection),
            outbox: Outbox::new(place.epoch, place.limits, reader::by_stream(&found.streams)),
            jobs: taken,
            heads: heads_out,
            standing: Arc::clone(&standing),
            sentry: sentry.clone(),
            gauges,
            clock,
            unsaved: BTreeMap::new(),
            waiting: HashMap::new(),
            next_ticket: 0,
        };
        // Known before anything runs: a reader at the very start sees what there is.
        writer.publish();
        let mut backlog = found.streams;
        let previous = previous(&backlog);
        backlog.retain(|head| !head.ledger.is_drained());
        let store = Self {
            jobs,
            heads,
            standing,
            afloat: Arc::default(),
            sentry: sentry.clone(),
            path: path.clone(),
            epoch: place.epoch,
        };
        Ok(Opened {
            store,
            writer,
            reader: Reader::open(&path, sentry).await?,
            previous,
            backlog,
            configs: found.configs,
            marks: found.marks,
            mqtt: found.mqtt,
        })
    }

    /// Commits everything of the submission, or nothing. Returns when it is on disk.
    ///
    /// # Errors
    /// [`NotCommitted`]: nothing of it is on disk.
    pub async fn commit(&self, submission: Submission) -> Result<(), NotCommitted> {
        let (done, outcome) = oneshot::channel();
        self.ask(Job::Submit(submission, done), outcome).await
    }

    /// Tells the writer what the cloud holds. Returns before anything is deleted.
    pub async fn receipt(&self, receipt: Receipt) {
        // Without a writer the process is ending; the cloud will say it again.
        let _ = self.jobs.send(Job::Receipt(receipt)).await;
    }

    /// How far rows may be read and sent.
    #[must_use]
    pub fn heads(&self) -> watch::Receiver<Heads> {
        self.heads.clone()
    }

    /// What is wrong, if anything.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// What memory alone holds while the disk takes nothing.
    #[must_use]
    pub const fn afloat(&self) -> &Arc<watch::Sender<Afloat>> {
        &self.afloat
    }

    /// The epoch of this opening.
    #[must_use]
    pub const fn epoch(&self) -> EpochId {
        self.epoch
    }

    /// Why the file is held to be damaged; none while it is not. From then on nothing is committed, and the
    /// process must end: the next start rescues the file.
    #[must_use]
    pub fn damage(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.sentry.found()
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn close_holes(
        &self,
        stream: Stream,
        holes: Vec<(u64, u64)>,
        at: Received,
    ) -> Result<(), NotCommitted> {
        let (done, outcome) = oneshot::channel();
        self.ask(Job::Holes(stream, holes, at, done), outcome).await
    }

    async fn ask(&self, job: Job, outcome: oneshot::Receiver<bool>) -> Result<(), NotCommitted> {
        self.jobs.send(job).await.map_err(|_| NotCommitted)?;
        match outcome.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(NotCommitted),
        }
    }
}

/// The last numbers of the newest epoch in the file.
fn previous(streams: &[StreamHead]) -> Option<Previous> {
    let epoch = streams.last()?.stream.epoch;
    let last_of = |lane: Lane| {
        let head = streams
            .iter()
            .find(|head| head.stream == Stream { lane, epoch });
        head.map_or(0, |head| head.ledger.last_seq)
    };
    Some(Previous {
        epoch,
        last: Lane::ALL.map(last_of),
    })
}

async fn connect(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(LOCK_PATIENCE)
        .connect()
        .await
}
