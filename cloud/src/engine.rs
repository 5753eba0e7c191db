//! The only writer of cases: lock the centre, load, decide, journal, project, commit, wake.
//!
//! Owns the transaction and its order. Knows no rule: those are in `incident::decide` and
//! `dispatch::job`.

mod asked;
mod hand;
#[cfg(test)]
pub(crate) mod stage;
#[cfg(test)]
mod tests;
mod work;

use std::time::Duration;

use ambient::{Clock, Entropy, NoEntropy};
use domain::id::{CentreId, DispatchId, IncidentId, PersonId, ReceiverId};

use crate::access::{Scope, watches};
use crate::db::{Db, DbError, unhurt};
use crate::dispatch::job::Input;
use crate::dispatch::store::Candidate;
use crate::dispatch::{self, Claimed, Framer, Outcome, Targets};
use crate::incident::decide::{Command, Refusal, decide};
use crate::incident::{Case, Cause, shown, store};
use crate::wake::Wakes;
pub use asked::AskError;
pub use work::Work;

/// How often a claim looks again when another dispatcher was faster; then it says that nothing is
/// due, and the dispatcher comes back by itself.
const CLAIM_TRIES: u32 = 3;
/// A due request that cannot be read or taken is looked at again after this.
const PUT_OFF: Duration = Duration::from_secs(60);

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
    /// The rules refused what our own work never asks for.
    #[error("own work refused: {0}")]
    Refused(#[from] Refusal),
}

impl EngineError {
    /// Whether a stored value is not what its column promises.
    #[must_use]
    pub const fn is_corrupt(&self) -> bool {
        matches!(self, Self::Db(DbError::Corrupt { .. }))
    }
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

    /// Where chance comes from.
    #[must_use]
    pub fn entropy(&self) -> &Entropy {
        &self.entropy
    }

    /// The way to whoever looks at rows.
    #[must_use]
    pub fn wakes(&self) -> &Wakes {
        &self.wakes
    }

    /// Begins work on a centre, under its lock.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin(&self, centre: CentreId) -> Result<Work, EngineError> {
        Work::begin(&self.db, centre, &self.clock, self.entropy.clone()).await
    }

    /// Makes work durable, then wakes who looks at it.
    ///
    /// # Errors
    /// When the store cannot; nothing of the work is then kept.
    pub async fn commit(&self, work: Work) -> Result<(), EngineError> {
        work.commit(&self.wakes).await
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
        let by = scope.person().ok_or(ActError::NotFound)?;
        let closes = matches!(act, Act::Close { .. });
        let command = act.by(by);
        let (engine, scope) = (self.clone(), scope.clone());
        let after = unhurt(async move { engine.act_on(&scope, incident, &command).await })
            .await
            .map_err(EngineError::Db)??;
        Ok(if closes && !after.is_closed() {
            Acted::NeedsSecondPerson
        } else {
            Acted::Done
        })
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
        let by = scope.person().ok_or(ActError::NotFound)?;
        let now = self.clock.now();
        let mut tx = self.db.read().await.map_err(EngineError::Db)?;
        let found = shown::case_of_dispatch(&mut tx, scope, dispatch, now).await;
        let (_, incident) = found.map_err(EngineError::Db)?.ok_or(ActError::NotFound)?;
        drop(tx);
        let input = Input::Accept {
            by,
            reference,
            spoke_to,
        };
        let command = Command::Progress { dispatch, input };
        let (engine, scope) = (self.clone(), scope.clone());
        unhurt(async move { engine.act_on(&scope, incident, &command).await })
            .await
            .map_err(EngineError::Db)??;
        Ok(Acted::Done)
    }

    async fn act_on(
        &self,
        scope: &Scope,
        incident: IncidentId,
        command: &Command,
    ) -> Result<Case, ActError> {
        let now = self.clock.now();
        let mut tx = self.db.read().await.map_err(EngineError::Db)?;
        let found = shown::centre_of(&mut tx, scope, incident, now).await;
        let centre = found.map_err(EngineError::Db)?.ok_or(ActError::NotFound)?;
        drop(tx);
        let mut work = self.begin(centre).await?;
        let (tx, own) = work.parts();
        // Asked again under the lock: a right withdrawn meanwhile no longer counts.
        let watched = watches(tx, scope, centre, now).await;
        if !watched.map_err(EngineError::Db)? {
            return Err(ActError::NotFound);
        }
        let case = store::of_centre(tx, own, incident).await;
        let case = case.map_err(EngineError::Db)?.ok_or(ActError::NotFound)?;
        let entries = decide(&case, command, work.now())?;
        let after = case.after(&entries);
        work.carry_out(&after, &entries).await?;
        self.commit(work).await?;
        Ok(after)
    }

    /// Takes the most urgent due job of a receiver in hand: its number and the frame's bytes are
    /// committed, the lease runs. None when nothing is due. May be called from several tasks at
    /// once; requests of one case to one receiver are never in hand side by side. To be run to its
    /// end by a task of its own, never inside a `select` that may drop it.
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
        let mut tries = CLAIM_TRIES;
        while tries > 0 {
            let mut tx = self.db.read().await?;
            let found = dispatch::store::most_urgent(&mut tx, receiver, self.clock.now()).await?;
            drop(tx);
            let Some(candidate) = found else {
                return Ok(None);
            };
            let mut work = self.begin(candidate.centre).await?;
            match hand::take(&mut work, &candidate, lease, targets, frame).await {
                Ok(Some(claimed)) => {
                    self.commit(work).await?;
                    return Ok(Some(claimed));
                }
                Ok(None) => drop(work),
                Err(error) if error.is_corrupt() => {
                    tracing::error!(%error, "a due request cannot be read");
                    drop(work);
                }
                Err(error) => return Err(error),
            }
            if !self.put_off(&candidate).await? {
                tries -= 1;
            }
        }
        Ok(None)
    }

    /// Puts a request off that is due and cannot be taken, so that it keeps no other waiting. False
    /// when another dispatcher was merely faster.
    async fn put_off(&self, candidate: &Candidate) -> Result<bool, EngineError> {
        let mut work = self.begin(candidate.centre).await?;
        let now = work.now();
        let (tx, own) = work.parts();
        let until = now.after(PUT_OFF);
        if !dispatch::store::put_off(tx, own, candidate, now, until).await? {
            return Ok(false);
        }
        match store::of_centre(tx, own, candidate.incident).await {
            Err(DbError::Corrupt { .. }) => work.set_aside(candidate.incident).await?,
            read => {
                read?;
            }
        }
        tracing::error!(
            centre = %candidate.centre, incident = %candidate.incident,
            dispatch = %candidate.dispatch, "a due request cannot be carried and is put off"
        );
        self.commit(work).await?;
        Ok(true)
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
        let (engine, claimed) = (self.clone(), claimed.clone());
        unhurt(async move {
            let mut work = engine.begin(claimed.order.centre).await?;
            hand::back(&mut work, &claimed, outcome, engine.entropy.bytes()?).await?;
            engine.commit(work).await
        })
        .await?
    }

    /// Lets time act on a case: escalation, confirmation by silence, lapsed leases, exhaustion.
    ///
    /// # Errors
    /// When the store fails or there is no randomness; the next tick finds the same work.
    pub async fn tick(&self, centre: CentreId, incident: IncidentId) -> Result<(), EngineError> {
        let mut work = self.begin(centre).await?;
        let (tx, own) = work.parts();
        match store::of_centre(tx, own, incident).await {
            Ok(Some(case)) => {
                let entries = decide(&case, &Command::Tick, work.now())?;
                work.carry_out(&case.after(&entries), &entries).await?;
            }
            Ok(None) => {}
            Err(DbError::Corrupt { .. }) => work.set_aside(incident).await?,
            Err(error) => return Err(error.into()),
        }
        self.commit(work).await
    }
}

impl Act {
    fn by(self, by: PersonId) -> Command {
        match self {
            Self::Acknowledge => Command::Acknowledge { by },
            Self::Note(text) => Command::Note { by, text },
            Self::Confirm => Command::Confirm { by },
            Self::Close { cause, note } => Command::Close { by, cause, note },
        }
    }
}
