//! The only writer of cases: lock the centre, load, decide, journal, project, commit, wake.
//!
//! Owns the transaction and its order. Knows no rule: those are in `incident::decide` and
//! `dispatch::job`.

use std::time::Duration;

use ambient::{Clock, Entropy, NoEntropy};
use domain::id::{CentreId, DispatchId, IncidentId, ReceiverId};

use crate::access::Scope;
use crate::db::{Db, DbError};
use crate::dispatch::{Claimed, Framer, Outcome, Targets};
use crate::incident::Cause;
use crate::incident::decide::Refusal;
use crate::live::Wakes;

/// The writer of cases.
#[derive(Clone)]
pub struct Engine {
    db: Db,
    clock: Clock,
    entropy: Entropy,
    wakes: Wakes,
}

/// What a person does to a case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// Takes it in hand.
    Acknowledge,
    /// Writes something down.
    Note(String),
    /// Says it is real.
    Confirm,
    /// Ends it.
    Close {
        /// Why.
        cause: Cause,
        /// In own words.
        note: String,
    },
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acted {
    /// Done.
    Done,
    /// Proposed; a second, different person must do the same.
    NeedsSecondPerson,
}

/// Why a person's act was not done.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// No such case or request within the person's reach.
    #[error("no such case")]
    NotFound,
    /// The rules say no, and what would be allowed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What the engine could not do. Nothing of the work is then kept.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// No randomness for an id or a salt.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

impl Engine {
    /// The engine over a store.
    #[must_use]
    pub fn new(db: Db, clock: Clock, entropy: Entropy, wakes: Wakes) -> Self {
        Self {
            db,
            clock,
            entropy,
            wakes,
        }
    }

    /// A person's act on a case of a centre in their reach.
    ///
    /// # Errors
    /// As [`ActError`] says.
    pub async fn act(
        &self,
        scope: &Scope,
        incident: IncidentId,
        act: Act,
    ) -> Result<Acted, ActError> {
        let _ = (scope, incident, act);
        Err(ActError::NotFound)
    }

    /// An operator heard by telephone that a human at the agency took a request.
    ///
    /// # Errors
    /// As [`ActError`] says.
    pub async fn confirm_dispatch(
        &self,
        scope: &Scope,
        dispatch: DispatchId,
        reference: String,
        spoke_to: String,
    ) -> Result<Acted, ActError> {
        let _ = (scope, dispatch, reference, spoke_to);
        Err(ActError::NotFound)
    }

    /// Takes the most urgent due job of a receiver in hand: its number and the frame's bytes are
    /// committed, the lease runs. None when nothing is due. May be called from several tasks at
    /// once; requests of one case to one receiver are never in hand side by side.
    ///
    /// # Errors
    /// When the store fails or there is no randomness; nothing was claimed then.
    pub async fn claim(
        &self,
        receiver: ReceiverId,
        lease: Duration,
        targets: Targets,
        frame: &Framer,
    ) -> Result<Option<Claimed>, EngineError> {
        let _ = (receiver, lease, targets, frame);
        Ok(None)
    }

    /// Records how an attempt ended. One that is no longer in hand changes nothing, except that a
    /// late reply still counts.
    ///
    /// # Errors
    /// When the store fails or there is no randomness; the lease then lapses.
    pub async fn attempt_ended(
        &self,
        claimed: &Claimed,
        outcome: Outcome,
    ) -> Result<(), EngineError> {
        let _ = (
            claimed,
            outcome,
            &self.db,
            &self.clock,
            &self.entropy,
            &self.wakes,
        );
        Ok(())
    }

    /// Lets time act on a case: escalation, confirmation by silence, lapsed leases, exhaustion.
    ///
    /// # Errors
    /// When the store fails or there is no randomness; the next tick finds the same work.
    pub async fn tick(&self, centre: CentreId, incident: IncidentId) -> Result<(), EngineError> {
        let _ = (centre, incident);
        Ok(())
    }
}
