//! The case people work on: one open case per centre and hazard (D7).
//!
//! Owns what a case knows ([`Case`]), what can happen to it ([`Entry`]) and how the one follows from
//! the other ([`Case::apply`]). What shall happen is for `decide`; keeping it is for `journal` and
//! `store`. Never reads a clock and never forgets: closing needs a named human.

pub mod decide;
pub mod entry;
mod fact;
pub mod journal;
#[cfg(test)]
mod journal_v1;
mod line;
pub mod report;
pub mod shown;
pub mod store;
pub mod timeline;

use domain::event::State;
use domain::id::{CentreId, IncidentId, PersonId, PointKey};
use domain::kind::{Hazard, Kind};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::dispatch::job::Job;
use crate::dispatch::plan::Plan;
use crate::dispatch::{Agency, Purpose};
pub use entry::{Cause, Confirmation, Entry, Fact, Numbers, Repeat, Trouble, Withheld};
pub use line::{Line, Looked};

/// All that is known of a case. Rebuilt from its entries it is the same, to the field.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Case {
    /// Its name.
    pub id: IncidentId,
    /// Where.
    pub centre: CentreId,
    /// What threatens people.
    pub hazard: Hazard,
    /// Entries taken; rises with each change.
    pub version: u64,
    /// When the first report was committed.
    pub opened_at: Timestamp,
    /// The case before it of the same hazard, if that closed a short while ago.
    pub linked_to: Option<IncidentId>,
    /// Who has it in hand.
    pub handling: Handling,
    /// How urgent: only ever rises while the case lives.
    pub priority: Priority,
    /// Why it is believed, if it is.
    pub confirmation: Option<Confirmation>,
    /// A person's proposal to close as false alarm, waiting for a second one.
    pub proposal: Option<Proposal>,
    /// The points concerned, in the order they joined.
    pub lines: Vec<Line>,
    /// The plan as it stood at opening.
    pub plan: Plan,
    /// Agencies the plan calls for and no receiver was there for.
    pub missing: Vec<Agency>,
    /// Every request made, in order.
    pub jobs: Vec<Job>,
}

/// Who has a case in hand.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Handling {
    /// Nobody: it rings.
    Open {
        /// Ringing since.
        since: Timestamp,
        /// Rings louder from then.
        escalate_at: Timestamp,
        /// How often it has become louder.
        level: u32,
    },
    /// A named human of ours.
    Acknowledged {
        /// Who.
        by: PersonId,
        /// When.
        at: Timestamp,
        /// If it is not closed by then it rings again.
        review_at: Timestamp,
    },
    /// Done. Final: a new alarm opens a linked case.
    Closed {
        /// Who closed it.
        by: PersonId,
        /// Who agreed, where two are needed.
        second: Option<PersonId>,
        /// When.
        at: Timestamp,
        /// Why. What the person wrote is in the journal's erasable body only (D9).
        cause: Cause,
    },
}

impl Handling {
    /// The word in the store and on the wire.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::Acknowledged { .. } => "acknowledged",
            Self::Closed { .. } => "closed",
        }
    }
}

/// How urgent a case is (table of D7); 1 before 4.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(pub u8);

impl Priority {
    /// A life may hang on it now.
    pub const P1: Self = Self(1);
    /// It may become that.
    pub const P2: Self = Self(2);
    /// A fault.
    pub const P3: Self = Self(3);
    /// Information and tests.
    pub const P4: Self = Self(4);
}

/// A first person's word that a panic was not real.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Proposal {
    /// Whose.
    pub by: PersonId,
    /// As what to close it.
    #[serde(default = "Cause::first_proposable")]
    pub cause: Cause,
    /// When. Void after [`decide::SECOND_PERSON_WITHIN`].
    pub at: Timestamp,
}

/// Points with a line of their own in one case. What further ones say is one line a kind: a case must stay
/// small enough to be written within a second, whatever a broken or stolen box invents.
pub const LINES_MAX: usize = 500;

impl Case {
    /// The line of a point, or of a trouble without one; of a point beyond [`LINES_MAX`] the line it shares.
    #[must_use]
    pub fn line_of(&self, source: Option<&PointKey>, kind: Kind) -> Option<usize> {
        let own = self.lines.iter().position(|line| match &line.source {
            Some(known) => Some(known) == source,
            None => source.is_none() && line.kind == kind,
        });
        let shares = own.is_none() && self.lines.len() > LINES_MAX;
        own.or_else(|| shares.then(|| self.line_of(None, kind)).flatten())
    }

    /// Whether people may still act on it.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        match self.handling {
            Handling::Closed { .. } => true,
            Handling::Open { .. } | Handling::Acknowledged { .. } => false,
        }
    }

    /// Whether it is closed as not real: nobody need be told of it any more, but of its recall.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self.handling {
            Handling::Closed { cause, .. } => cause != Cause::Real,
            Handling::Open { .. } | Handling::Acknowledged { .. } => false,
        }
    }

    /// Whether it belongs on the board: not closed, or closed with something that still had to be
    /// told, did not get through, and that nobody has telephoned.
    #[must_use]
    pub fn on_board(&self) -> bool {
        let over = self.is_over();
        let lost = |job: &Job| job.in_trouble() && (!over || job.purpose == Purpose::Cancel);
        !self.is_closed() || self.jobs.iter().any(lost)
    }

    /// A case from its first entry; none if that is no opening.
    #[must_use]
    pub fn begin(first: &Entry) -> Option<Self> {
        let Entry::Opened {
            incident,
            centre,
            hazard,
            linked_to,
            plan,
            at,
            escalate_at,
        } = first
        else {
            return None;
        };
        Some(Self {
            id: *incident,
            centre: *centre,
            hazard: *hazard,
            version: 1,
            opened_at: *at,
            linked_to: *linked_to,
            handling: Handling::Open {
                since: *at,
                escalate_at: *escalate_at,
                level: 0,
            },
            priority: Priority::P4,
            confirmation: None,
            proposal: None,
            lines: Vec::new(),
            plan: plan.clone(),
            missing: Vec::new(),
            jobs: Vec::new(),
        })
    }

    /// A case from all its entries; none if they do not begin with an opening.
    #[must_use]
    pub fn rebuild<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Option<Self> {
        let mut entries = entries.into_iter();
        let mut case = Self::begin(entries.next()?)?;
        entries.for_each(|entry| case.apply(entry));
        Some(case)
    }

    /// Takes one entry into account. Knows no rule: those were applied when the entry was made.
    pub fn apply(&mut self, entry: &Entry) {
        self.version += 1;
        match entry {
            Entry::Opened { .. }
            | Entry::Repeated { .. }
            | Entry::Noted { .. }
            | Entry::Asked { .. }
            | Entry::Unanswered { .. } => {}
            Entry::Told { fact } => self.look(fact),
            Entry::TestOver {
                sessions,
                at,
                escalate_at,
            } => {
                for line in &mut self.lines {
                    if line.is_kept_back_by(sessions) {
                        line.go_live(*at);
                    }
                }
                self.ring(*at, *escalate_at);
                self.proposal = None;
            }
            Entry::Raised {
                fact,
                at,
                escalate_at,
            } => {
                self.raise(fact, *at);
                self.ring(*at, *escalate_at);
                self.proposal = None;
            }
            Entry::Restored { fact } => self.restore(fact),
            Entry::Confirmed { how, .. } => self.confirmation = Some(*how),
            Entry::Acknowledged { by, at, review_at } => {
                self.lines
                    .iter_mut()
                    .for_each(|line| line.acknowledged = true);
                self.handling = Handling::Acknowledged {
                    by: *by,
                    at: *at,
                    review_at: *review_at,
                };
            }
            Entry::ReviewDue { at, escalate_at } => self.ring(*at, *escalate_at),
            Entry::Escalated { level, escalate_at } => self.escalate(*level, *escalate_at),
            Entry::CloseProposed { by, cause, at, .. } => {
                self.proposal = Some(Proposal {
                    by: *by,
                    cause: *cause,
                    at: *at,
                });
            }
            Entry::Closed {
                by,
                second,
                at,
                cause,
                ..
            } => {
                self.proposal = None;
                self.handling = Handling::Closed {
                    by: *by,
                    second: *second,
                    at: *at,
                    cause: *cause,
                };
            }
            Entry::Ordered { job } => self.jobs.push(job.clone()),
            Entry::Dispatch { dispatch, step } => {
                if let Some(job) = self.jobs.iter_mut().find(|job| job.id == *dispatch) {
                    job.apply(step);
                }
            }
            Entry::Troubled {
                trouble,
                at,
                escalate_at,
            } => {
                if let Trouble::NoReceiver { agency } = trouble {
                    self.missing.push(*agency);
                }
                self.ring(*at, *escalate_at);
            }
        }
        self.priority = self.priority.min(self.present_priority());
    }

    /// The case after further entries.
    #[must_use]
    pub fn after(&self, entries: &[Entry]) -> Self {
        let mut after = self.clone();
        entries.iter().for_each(|entry| after.apply(entry));
        after
    }

    /// Rings, if somebody had it in hand; what rings already goes on as it was.
    fn ring(&mut self, at: Timestamp, escalate_at: Timestamp) {
        match self.handling {
            Handling::Acknowledged { .. } => {
                self.handling = Handling::Open {
                    since: at,
                    escalate_at,
                    level: 0,
                };
            }
            Handling::Open { .. } | Handling::Closed { .. } => {}
        }
    }

    fn escalate(&mut self, to: u32, next: Timestamp) {
        match &mut self.handling {
            Handling::Open {
                escalate_at, level, ..
            } => {
                *escalate_at = next;
                *level = to;
            }
            Handling::Acknowledged { .. } | Handling::Closed { .. } => {}
        }
    }

    fn raise(&mut self, fact: &Fact, at: Timestamp) {
        let live_since = fact.withheld.is_none().then_some(at);
        let state = if fact.momentary {
            State::Cleared
        } else {
            State::Raised
        };
        let known = self.line_of(fact.source.as_ref(), fact.kind);
        let Some(line) = known.and_then(|i| self.lines.get_mut(i)) else {
            let has_room = self.lines.len() < LINES_MAX;
            self.lines.push(Line {
                source: fact.source.clone().filter(|_| has_room),
                zone: fact.zone.clone().filter(|_| has_room),
                number: if has_room { fact.number } else { 0 },
                kind: fact.kind,
                severity: fact.severity,
                first_at: fact.received_at,
                last_at: fact.received_at,
                occurred_at: fact.occurred_at,
                activations: fact.count,
                state,
                momentary: fact.momentary,
                acknowledged: false,
                withheld: fact.withheld,
                live_since,
                stamp: fact.kept_back_by(),
                looked: None,
            });
            return;
        };
        if fact.severity > line.severity {
            (line.kind, line.severity) = (fact.kind, fact.severity);
        }
        line.last_at = fact.received_at;
        line.occurred_at = fact.occurred_at;
        line.activations = line.activations.saturating_add(fact.count);
        line.state = state;
        line.acknowledged = false;
        line.withheld = line.withheld.zip(fact.withheld).map(|(a, b)| a.max(b));
        line.live_since = line.live_since.or(live_since);
        line.stamp = fact.kept_back_by().filter(|_| line.live_since.is_none());
        line.looked = None;
    }

    /// A person acted at a point, as its box says.
    fn look(&mut self, fact: &Fact) {
        let reset = fact.kind == Kind::AlarmReset;
        if !reset && fact.kind != Kind::AlarmAcknowledged {
            return;
        }
        let known = self.line_of(fact.source.as_ref(), fact.kind);
        if let Some(line) = known.and_then(|i| self.lines.get_mut(i))
            && line.source == fact.source
        {
            line.looked = fact.by.map(|by| Looked {
                by,
                at: fact.received_at,
                reset,
            });
            if reset {
                line.state = State::Cleared;
            }
        }
    }

    /// Whether something in it may call an agency by itself, or a person said that it is real.
    #[must_use]
    pub fn is_real(&self) -> bool {
        let live = |line: &Line| line.live_since.is_some();
        self.confirmation == Some(Confirmation::Person) || self.lines.iter().any(live)
    }

    fn restore(&mut self, fact: &Fact) {
        let known = self.line_of(fact.source.as_ref(), fact.kind);
        if let Some(line) = known.and_then(|i| self.lines.get_mut(i))
            && line.source == fact.source
        {
            line.state = State::Cleared;
        }
    }

    /// The table of D7, for what is known now.
    fn present_priority(&self) -> Priority {
        if !self.missing.is_empty() || self.jobs.iter().any(Job::in_trouble) {
            return Priority::P1;
        }
        let of_lines = self.lines.iter().map(|line| line.priority(self.hazard));
        let unconfirmed = of_lines.min().unwrap_or(Priority::P4);
        match self.hazard {
            Hazard::Technical => unconfirmed,
            Hazard::Panic | Hazard::Fire | Hazard::Intrusion | Hazard::MissingChild => {
                if self.confirmation.is_some() {
                    Priority::P1
                } else {
                    unconfirmed
                }
            }
        }
    }
}
