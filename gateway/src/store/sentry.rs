//! What every user of the file reports damage to, while the box runs: a mark for the next start, then the
//! word that the process must end.
//!
//! Owns the mark and the first reason. Never reads the file and never mends it: that is for the start.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use super::{ReadError, WriteError, rescue};

/// Shared by the writer and every reader of one opening of the file.
#[derive(Clone, Debug)]
pub struct Sentry {
    path: Arc<Path>,
    found: Arc<watch::Sender<Option<Arc<str>>>>,
}

impl Sentry {
    /// A sentry over that file.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            found: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Why the file is held to be damaged; none while it is not.
    #[must_use]
    pub fn found(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.found.subscribe()
    }

    /// Passes a reader's outcome on, and reports it if it says damage.
    pub(super) fn heed_read<T>(&self, outcome: Result<T, ReadError>) -> Result<T, ReadError> {
        if let Err(error) = &outcome
            && error.is_damage()
        {
            self.report(&crate::chain(error));
        }
        outcome
    }

    /// Passes the writer's outcome on, and reports it if it says damage.
    pub(super) fn heed_write<T>(&self, outcome: Result<T, WriteError>) -> Result<T, WriteError> {
        if let Err(error) = &outcome
            && error.is_damage()
        {
            self.report(&crate::chain(error));
        }
        outcome
    }

    pub(super) fn has_reported(&self) -> bool {
        self.found.borrow().is_some()
    }

    /// The mark is on disk before anybody hears of it and ends the process.
    fn report(&self, why: &str) {
        if self.has_reported() {
            return;
        }
        tracing::error!(why, "the store is damaged; the next start rescues it");
        if let Err(error) = mark(&rescue::marker(&self.path)) {
            tracing::error!(%error, "the damage could not be noted for the next start");
        }
        self.found.send_if_modified(|found| {
            let first = found.is_none();
            found.get_or_insert_with(|| why.into());
            first
        });
    }
}

fn mark(marker: &PathBuf) -> io::Result<()> {
    File::create(marker)?.sync_all()?;
    match marker.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
