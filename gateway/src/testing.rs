//! What tests of several modules need: a directory of their own, clocks, entries.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ambient::Clock;
use domain::id::EpochId;
use domain::kind::Lane;
use domain::time::Timestamp;
use serde_json::value::RawValue;
use tokio::task::JoinHandle;

use crate::clock::{BoxClock, Received, Trust};
use crate::gauges::Gauges;
use crate::store::outbox::Limits;
use crate::store::row::{Entry, Submission};
use crate::store::{OpenError, Opened, Place, Store};

/// A directory that goes with the test.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("antuo-box-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn epoch(n: i64) -> EpochId {
    EpochId::at(Timestamp::from_micros(n * 1000), [0; 10])
}

pub fn received(n: u64) -> Received {
    Received {
        up: Duration::from_millis(n),
        wall: Timestamp::from_micros(i64::try_from(n).unwrap()),
        trusted: true,
    }
}

pub fn entry(lane: Lane, n: u64) -> Entry {
    Entry {
        lane,
        received: received(n),
        body: RawValue::from_string(format!("{n}")).unwrap(),
        of_the_box: false,
    }
}

pub fn submission(entries: Vec<Entry>) -> Submission {
    Submission {
        entries,
        ..Submission::default()
    }
}

pub fn box_clock() -> BoxClock {
    let clock = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
    BoxClock::new(clock, "boot", Duration::from_secs(60), Trust::System)
}

/// A store with its writer running, as the `n`th start in that directory.
pub struct Running {
    pub opened: OpenedParts,
    pub gauges: Arc<Gauges>,
    pub writer: JoinHandle<()>,
}

/// [`Opened`] without the writer.
pub struct OpenedParts {
    pub store: Store,
    pub reader: crate::store::Reader,
    pub previous: Option<crate::store::Previous>,
    pub backlog: Vec<crate::store::StreamHead>,
    pub configs: Vec<crate::store::row::SealedConfig>,
    pub marks: Vec<crate::site::Mark>,
}

impl Running {
    pub async fn try_start(scratch: &Scratch, n: i64, limits: Limits) -> Result<Self, OpenError> {
        let place = Place {
            directory: scratch.path().to_owned(),
            limits,
            epoch: epoch(n),
            boot: "boot".into(),
        };
        let gauges = Arc::new(Gauges::default());
        let opened = Store::open(place, Arc::clone(&gauges), Clock::system()).await?;
        let Opened {
            store,
            writer,
            reader,
            previous,
            backlog,
            configs,
            marks,
        } = opened;
        Ok(Self {
            opened: OpenedParts {
                store,
                reader,
                previous,
                backlog,
                configs,
                marks,
            },
            gauges,
            writer: tokio::spawn(writer.run()),
        })
    }

    pub async fn start(scratch: &Scratch, n: i64) -> Self {
        Self::try_start(scratch, n, Limits::DEFAULT).await.unwrap()
    }

    /// Ends in good order, as at a clean shutdown.
    pub async fn stop(self) {
        let Self { opened, writer, .. } = self;
        let OpenedParts { store, reader, .. } = opened;
        reader.close().await;
        drop(store);
        writer.await.unwrap();
    }
}
