//! One transaction under a centre's lock: what is decided is journalled and projected at once.

use std::collections::BTreeSet;
use std::time::Duration;

use ambient::{Clock, Entropy};
use domain::id::{CentreId, IncidentId};
use domain::kind::Hazard;
use domain::time::Timestamp;

use super::EngineError;
use crate::access::Scope;
use crate::commands::{self, Turn};
use crate::db::{Db, Tx, Urgency, Write};
use crate::dispatch;
use crate::dispatch::job::Job;
use crate::incident::decide::{self, Command, Opening, Report, Route};
use crate::incident::journal::{Batch, Chain, Said};
use crate::incident::store::{self, OpenCases};
use crate::incident::{Case, Entry};
use crate::wake::{Changed, Wake, Wakes};

/// A case after one that closed within this time is linked to it.
const LINK_WITHIN: Duration = Duration::from_secs(24 * 3_600);

/// Work on one centre, under its lock until the commit.
pub struct Work {
    write: Write,
    chain: Chain,
    scope: Scope,
    centre: CentreId,
    now: Timestamp,
    entropy: Entropy,
    touched: BTreeSet<IncidentId>,
    due: bool,
    /// Commands or absences changed.
    served: bool,
}

impl Work {
    /// Begins a transaction and takes the centre's lock.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin(
        db: &Db,
        centre: CentreId,
        clock: &Clock,
        entropy: Entropy,
    ) -> Result<Self, EngineError> {
        let mut write = db.write(Urgency::LifeSafety).await?;
        let chain = Chain::lock(write.tx(), centre).await?;
        Ok(Self {
            write,
            chain,
            scope: Scope::worker(centre),
            centre,
            // Read under the lock, so that entries follow each other in time too.
            now: clock.now(),
            entropy,
            touched: BTreeSet::new(),
            due: false,
            served: false,
        })
    }

    /// The transaction and the scope of our own work on the centre.
    pub fn parts(&mut self) -> (&mut Tx, &Scope) {
        (self.write.tx(), &self.scope)
    }

    /// The instant of this work.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Judges reports in their order and gives, for each, the number of the entry that keeps it;
    /// none for a report that concerns no case.
    ///
    /// # Errors
    /// When the store fails or there is no randomness.
    pub async fn judge(&mut self, reports: &[Report]) -> Result<Vec<Option<u64>>, EngineError> {
        let OpenCases {
            cases: mut open,
            unreadable,
        } = store::open_of_centre(self.write.tx(), &self.scope).await?;
        for incident in unreadable {
            self.set_aside(incident).await?;
        }
        let mut kept = Vec::with_capacity(reports.len());
        for report in reports {
            kept.push(self.judge_one(&mut open, report).await?);
        }
        Ok(kept)
    }

    async fn judge_one(
        &mut self,
        open: &mut Vec<Case>,
        report: &Report,
    ) -> Result<Option<u64>, EngineError> {
        match decide::route(open, report) {
            Route::Joins(at) => {
                let Some(case) = open.get_mut(at) else {
                    return Ok(None);
                };
                let entries = decide::decide(case, &Command::Report(report.clone()), self.now)?;
                *case = case.after(&entries);
                self.carry_out(case, &entries).await
            }
            Route::Opens(hazard) => {
                let opening = self.opening(hazard).await?;
                let Some((case, entries)) = decide::open(opening, report, self.now) else {
                    return Ok(None);
                };
                let seq = self.carry_out(&case, &entries).await?;
                open.push(case);
                Ok(seq)
            }
            Route::Nowhere => Ok(None),
        }
    }

    /// Sets a case that cannot be read aside, so that it keeps nothing else from going on.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn set_aside(&mut self, incident: IncidentId) -> Result<(), EngineError> {
        tracing::error!(centre = %self.centre, %incident, "a case that cannot be read is set aside");
        store::set_aside(self.write.tx(), &self.scope, incident).await?;
        self.touched.insert(incident);
        Ok(())
    }

    async fn opening(&mut self, hazard: Hazard) -> Result<Opening, EngineError> {
        let (tx, scope) = (self.write.tx(), &self.scope);
        let linked_to = store::before_it(tx, scope, hazard, self.now.before(LINK_WITHIN)).await?;
        Ok(Opening {
            incident: IncidentId::at(self.now, self.entropy.bytes()?),
            centre: self.centre,
            hazard,
            linked_to,
            plan: store::plan_of_centre(tx, scope).await?,
        })
    }

    /// Journals entries and projects the case they lead to. Gives the number of the entry that keeps
    /// a record's fact.
    ///
    /// # Errors
    /// When the store fails or there is no randomness.
    pub async fn carry_out(
        &mut self,
        after: &Case,
        entries: &[Entry],
    ) -> Result<Option<u64>, EngineError> {
        let (tx, scope) = (self.write.tx(), &self.scope);
        store::save(tx, scope, after).await?;
        let mut kept = None;
        for entry in entries {
            let said = Said::Case(after.id, Box::new(entry.clone()));
            let salt = self.entropy.bytes()?;
            let seq = self.chain.append(tx, self.now, &said, salt).await?;
            if let Some(fact) = entry.fact() {
                store::keep_event(tx, scope, after.id, seq, fact, self.now).await?;
                kept = Some(seq);
            }
        }
        for job in changed(after, entries) {
            dispatch::store::save(tx, scope, after.id, job).await?;
            self.due |= job.due_at().is_some_and(|due| due <= self.now);
        }
        self.touched.insert(after.id);
        Ok(kept)
    }

    /// The number the next entry of the chain will have.
    #[must_use]
    pub fn next_entry(&self) -> u64 {
        self.chain.next()
    }

    /// Chains records together.
    ///
    /// # Errors
    /// When the store fails or there is no randomness.
    pub async fn chain(&mut self, batch: Batch) -> Result<u64, EngineError> {
        let salt = self.entropy.bytes()?;
        let said = Said::Batch(batch);
        Ok(self
            .chain
            .append(self.write.tx(), self.now, &said, salt)
            .await?)
    }

    /// Chance for an id.
    ///
    /// # Errors
    /// When there is none.
    pub fn chance<const N: usize>(&self) -> Result<[u8; N], EngineError> {
        Ok(self.entropy.bytes()?)
    }

    /// Journals what happened to a command or to what one began.
    ///
    /// # Errors
    /// When the store fails or there is no randomness.
    pub async fn write_down(&mut self, turn: Turn) -> Result<u64, EngineError> {
        let salt = self.entropy.bytes()?;
        let said = Said::Command(Box::new(turn));
        self.served = true;
        Ok(self
            .chain
            .append(self.write.tx(), self.now, &said, salt)
            .await?)
    }

    /// Notes that commands or absences changed, for those who look at them.
    pub fn served(&mut self) {
        self.served = true;
    }

    /// Tells every open case what it is to be told; one that is told nothing does not change.
    ///
    /// # Errors
    /// When the store fails or there is no randomness.
    pub async fn tell_cases(
        &mut self,
        tells: impl Fn(&Case) -> Vec<Command>,
    ) -> Result<(), EngineError> {
        let open = store::open_of_centre(self.write.tx(), &self.scope).await?;
        for incident in open.unreadable {
            self.set_aside(incident).await?;
        }
        for case in open.cases {
            let mut after = case.clone();
            let mut all = Vec::new();
            for command in tells(&case) {
                let entries = decide::decide(&after, &command, self.now)?;
                after = after.after(&entries);
                all.extend(entries);
            }
            if !all.is_empty() {
                self.carry_out(&after, &all).await?;
            }
        }
        Ok(())
    }

    /// Makes everything durable and only then wakes who looks at it.
    ///
    /// # Errors
    /// When the store cannot; nothing of the work is then kept.
    pub async fn commit(mut self, wakes: &Wakes) -> Result<(), EngineError> {
        if self.served {
            commands::store::touch(self.write.tx(), &self.scope).await?;
        }
        self.chain.save(self.write.tx()).await?;
        self.write.commit().await?;
        let centre = self.centre;
        let incidents = self.touched.into_iter().map(Changed::Incident);
        let due = self.due.then_some(Changed::Dispatch);
        let served = self.served.then_some(Changed::Service);
        for what in incidents.chain(due).chain(served) {
            wakes.send(Wake { centre, what });
        }
        Ok(())
    }
}

/// The requests that entries changed, each once.
fn changed<'a>(after: &'a Case, entries: &[Entry]) -> impl Iterator<Item = &'a Job> {
    let ids: BTreeSet<_> = entries.iter().filter_map(Entry::dispatch).collect();
    after.jobs.iter().filter(move |job| ids.contains(&job.id))
}
