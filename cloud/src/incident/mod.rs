//! The case people work on: one open case per centre and hazard (D7).
//!
//! Owns what a case knows ([`Case`]), what can happen to it ([`Entry`]) and how the one follows from
//! the other ([`Case::take`]). What shall happen is for `decide`; keeping it is for `journal` and
//! `store`. Never reads a clock and never forgets: closing needs a named human.

pub mod decide;
pub mod entry;
pub mod journal;
pub mod store;

use domain::event::State;
use domain::id::{CentreId, IncidentId, PersonId, PointKey, ZoneId};
use domain::kind::{Hazard, Kind, Severity};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::dispatch::Agency;
use crate::dispatch::job::Job;
use crate::dispatch::plan::Plan;
pub use entry::{Cause, Confirmation, Entry, Fact, Repeat, Trouble, Withheld};

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
        /// Why.
        cause: Cause,
        /// In the person's words.
        note: String,
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

/// A first person's word that an alarm was false.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Proposal {
    /// Whose.
    pub by: PersonId,
    /// When. Void after [`decide::SECOND_PERSON_WITHIN`].
    pub at: Timestamp,
}

/// One point, or one trouble without a point, within a case.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The point; none for troubles of the box or the line.
    pub source: Option<PointKey>,
    /// Its zone.
    pub zone: Option<ZoneId>,
    /// Its zone number at a receiver; 0 = not enrolled.
    pub number: u16,
    /// The worst it said.
    pub kind: Kind,
    /// The worst severity it said.
    pub severity: Severity,
    /// First activation, by the box.
    pub first_at: Timestamp,
    /// Last activation, by the box.
    pub last_at: Timestamp,
    /// When it happened, by the cloud's clock, for a receiver.
    pub occurred_at: Timestamp,
    /// Activations so far.
    pub activations: u64,
    /// Raised or cleared; a press is over at once.
    pub state: State,
    /// A press, not a level.
    pub momentary: bool,
    /// A human of ours has looked since the last activation.
    pub acknowledged: bool,
    /// Why it may not call an agency by itself; none once it may.
    pub withheld: Option<Withheld>,
    /// Since when it may call an agency by itself.
    pub live_since: Option<Timestamp>,
}

impl Case {
    /// The line of a point, or of a trouble without one.
    #[must_use]
    pub fn line_of(&self, source: Option<&PointKey>, kind: Kind) -> Option<usize> {
        self.lines.iter().position(|line| match &line.source {
            Some(known) => Some(known) == source,
            None => source.is_none() && line.kind == kind,
        })
    }

    /// Whether people may still act on it.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        match self.handling {
            Handling::Closed { .. } => true,
            Handling::Open { .. } | Handling::Acknowledged { .. } => false,
        }
    }

    /// Whether it belongs on the board: not closed, or closed with a cancel that did not get through
    /// and that nobody has telephoned.
    #[must_use]
    pub fn on_board(&self) -> bool {
        !self.is_closed() || self.jobs.iter().any(Job::in_trouble)
    }
}
