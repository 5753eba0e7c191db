//! Takes a box's records into the store and says what is durably ours (D4).
//!
//! Owns the numbers: what is held of each lane, holes, forks. An authentic record is never refused:
//! what cannot be understood is stored whole and receipted, and in `life_safety` it opens a case.
//! Everything of a batch is committed before its receipt.

use ambient::{Clock, NoEntropy};
use domain::id::{CentreId, GatewayId};
use domain::wire::{Batch, Hello, Receipt, Refused, Welcome};

use crate::db::{Db, DbError};
use crate::engine::{Engine, EngineError};

/// The box a certificate names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BoxIdentity {
    /// The box.
    pub gateway: GatewayId,
    /// Its centre.
    pub centre: CentreId,
}

/// The door for records.
#[derive(Clone)]
pub struct Ingest {
    db: Db,
    clock: Clock,
    engine: Engine,
}

/// Why a conversation cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The box is told so and the connection ends.
    #[error("refused: {0}")]
    Refused(Refused),
    /// The store failed; the box keeps its records and tries again.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<DbError> for IngestError {
    fn from(error: DbError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<NoEntropy> for IngestError {
    fn from(error: NoEntropy) -> Self {
        Self::Engine(error.into())
    }
}

impl Ingest {
    /// The door over a store.
    #[must_use]
    pub fn new(db: Db, clock: Clock, engine: Engine) -> Self {
        Self { db, clock, engine }
    }

    /// Answers a box's first frame: the version spoken and what is held of its epochs.
    ///
    /// # Errors
    /// [`IngestError::Refused`] when it is another box or speaks no version of ours.
    pub async fn welcome(&self, from: &BoxIdentity, hello: &Hello) -> Result<Welcome, IngestError> {
        let _ = (from, hello, &self.db, &self.clock, &self.engine);
        Err(IngestError::Refused(Refused::Unavailable))
    }

    /// Stores and judges a batch. Safe to call again with the same records: nothing changes then.
    ///
    /// # Errors
    /// [`IngestError::Refused`] for numbers no lane can have; otherwise when the store fails.
    pub async fn batch(&self, from: &BoxIdentity, batch: Batch) -> Result<Receipt, IngestError> {
        let _ = (from, batch);
        Err(IngestError::Refused(Refused::Unavailable))
    }
}
