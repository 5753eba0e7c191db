//! What can happen to a case, as it is journalled: a closed set.
//!
//! Owns the words of the record (version 1) and which of them name persons. Never holds a name, a
//! card number or a payload; a free text a person wrote is in the erasable body only (D9).

use domain::command::Act;
use domain::id::{CentreId, CommandId, DispatchId, IncidentId, PersonId};
use domain::kind::Hazard;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

pub use super::fact::{Fact, Numbers, Withheld};
use crate::dispatch::Agency;
use crate::dispatch::job::{Job, Step};
use crate::dispatch::plan::Plan;

/// One thing that happened to a case.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "entry")]
pub enum Entry {
    /// The case begins; always first.
    Opened {
        /// Its name.
        incident: IncidentId,
        /// Where.
        centre: CentreId,
        /// What threatens people.
        hazard: Hazard,
        /// The case before it.
        linked_to: Option<IncidentId>,
        /// The plan in force.
        plan: Plan,
        /// When.
        at: Timestamp,
        /// Rings louder from then.
        escalate_at: Timestamp,
    },
    /// A new activation: rings.
    Raised {
        /// What was reported.
        fact: Fact,
        /// When it was committed.
        at: Timestamp,
        /// Rings louder from then, if nobody had it ringing already.
        escalate_at: Timestamp,
    },
    /// Stored, no ring.
    Repeated {
        /// What was reported.
        fact: Fact,
        /// Why it is no new activation.
        why: Repeat,
    },
    /// The condition of a point ended. Closes nothing.
    Restored {
        /// What was reported.
        fact: Fact,
    },
    /// Something else a point of the case said (acknowledged or reset at the box, silenced).
    Told {
        /// What was reported.
        fact: Fact,
    },
    /// The case is believed.
    Confirmed {
        /// Why.
        how: Confirmation,
        /// Who said so, if a person did.
        by: Option<PersonId>,
    },
    /// A named human took it.
    Acknowledged {
        /// Who.
        by: PersonId,
        /// When.
        at: Timestamp,
        /// Rings again from then.
        review_at: Timestamp,
    },
    /// In hand for too long: rings again.
    ReviewDue {
        /// When.
        at: Timestamp,
        /// Rings louder from then.
        escalate_at: Timestamp,
    },
    /// Nobody took it: rings louder.
    Escalated {
        /// How loud now.
        level: u32,
        /// Louder still from then.
        escalate_at: Timestamp,
    },
    /// A person wrote something down.
    Noted {
        /// Who.
        by: PersonId,
        /// What.
        text: String,
    },
    /// A first person says it was a false alarm; a second must agree.
    CloseProposed {
        /// Who.
        by: PersonId,
        /// As what.
        #[serde(default = "Cause::first_proposable")]
        cause: Cause,
        /// In the person's words.
        note: String,
        /// When.
        at: Timestamp,
    },
    /// Done.
    Closed {
        /// Who closed it, or proposed to where two are needed.
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
    /// A request to a receiver is queued.
    Ordered {
        /// The request.
        job: Job,
    },
    /// A request got further.
    Dispatch {
        /// Which.
        dispatch: DispatchId,
        /// How.
        step: Step,
    },
    /// A person told a box to do something about a point of the case: not confirmed.
    Asked {
        /// The command.
        command: CommandId,
        /// Who.
        by: PersonId,
        /// What.
        act: Act,
    },
    /// The box did not answer a command in its time.
    Unanswered {
        /// The command.
        command: CommandId,
        /// What was asked.
        act: Act,
        /// Whether it was handed to the box's connection, so that it may have been done.
        reached: bool,
    },
    /// Sessions that kept alarms of the case back are over by the cloud: what is still there is real. Rings.
    TestOver {
        /// The sessions.
        sessions: Vec<CommandId>,
        /// When.
        at: Timestamp,
        /// Rings louder from then, if nobody had it ringing already.
        escalate_at: Timestamp,
    },
    /// The machines did not manage; a human must: rings.
    Troubled {
        /// What is wrong.
        trouble: Trouble,
        /// When.
        at: Timestamp,
        /// Rings louder from then, if nobody had it ringing already.
        escalate_at: Timestamp,
    },
}

/// Why an activation is no new one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeat {
    /// The box says it belongs to an earlier one (a second press within 2 s).
    SameActivation,
    /// A level said again what it said before.
    Level,
    /// A later one of the same point is in the case already.
    Overtaken,
}

/// Why a case is believed (D7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirmation {
    /// A second point said so too.
    SecondPoint,
    /// Somebody broke a manual call point.
    CallPoint,
    /// A named human said so.
    Person,
    /// Nobody answered in time.
    Timeout,
}

impl Confirmation {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SecondPoint => "second_point",
            Self::CallPoint => "call_point",
            Self::Person => "person",
            Self::Timeout => "timeout",
        }
    }
}

/// Why a case was closed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It was what it said.
    Real,
    /// Nothing was there.
    FalseAlarm,
    /// An exercise.
    Drill,
    /// A fault of the equipment.
    Technical,
}

impl Cause {
    /// What a proposal without a cause meant: at first only a false alarm took two people.
    pub(super) const fn first_proposable() -> Self {
        Self::FalseAlarm
    }

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::FalseAlarm => "false_alarm",
            Self::Drill => "drill",
            Self::Technical => "technical",
        }
    }
}

/// What the machines did not manage.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Trouble {
    /// The plan calls for an agency that has no receiver for this centre.
    NoReceiver {
        /// Which.
        agency: Agency,
    },
    /// A receiver will not take a request.
    Refused {
        /// Which request.
        dispatch: DispatchId,
    },
    /// A request was not received for too long.
    Exhausted {
        /// Which request.
        dispatch: DispatchId,
    },
}

impl Entry {
    /// The word of the entry in the journal's header and on a timeline.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "case.opened",
            Self::Raised { .. } => "alarm.raised",
            Self::Repeated { .. } => "alarm.repeated",
            Self::Restored { .. } => "alarm.restored",
            Self::Told { .. } => "alarm.told",
            Self::Confirmed { .. } => "case.confirmed",
            Self::Acknowledged { .. } => "case.acknowledged",
            Self::ReviewDue { .. } => "case.review_due",
            Self::Escalated { .. } => "case.escalated",
            Self::Noted { .. } => "case.noted",
            Self::CloseProposed { .. } => "close.proposed",
            Self::Closed { .. } => "case.closed",
            Self::Ordered { .. } => "dispatch.queued",
            Self::Dispatch { step, .. } => match step {
                Step::Begun { .. } => "dispatch.sending",
                Step::Received { .. } => "dispatch.received",
                Step::Failed { .. } => "dispatch.failed",
                Step::Refused { .. } => "dispatch.refused",
                Step::Accepted { .. } => "dispatch.accepted",
                Step::Exhausted { .. } => "dispatch.exhausted",
                Step::Cancelled { .. } => "dispatch.cancelled",
            },
            Self::Asked { .. } => "box.asked",
            Self::Unanswered { .. } => "box.unanswered",
            Self::TestOver { .. } => "test.over",
            Self::Troubled { trouble, .. } => match trouble {
                Trouble::NoReceiver { .. } => "dispatch.no_receiver",
                Trouble::Refused { .. } => "dispatch.telephone_refused",
                Trouble::Exhausted { .. } => "dispatch.telephone_exhausted",
            },
        }
    }

    /// The record's fact, if the entry carries one.
    #[must_use]
    pub const fn fact(&self) -> Option<&Fact> {
        match self {
            Self::Raised { fact, .. }
            | Self::Repeated { fact, .. }
            | Self::Restored { fact }
            | Self::Told { fact } => Some(fact),
            Self::Opened { .. }
            | Self::Confirmed { .. }
            | Self::Acknowledged { .. }
            | Self::ReviewDue { .. }
            | Self::Escalated { .. }
            | Self::Noted { .. }
            | Self::CloseProposed { .. }
            | Self::Closed { .. }
            | Self::Ordered { .. }
            | Self::Dispatch { .. }
            | Self::Asked { .. }
            | Self::Unanswered { .. }
            | Self::TestOver { .. }
            | Self::Troubled { .. } => None,
        }
    }

    /// The request the entry changes.
    #[must_use]
    pub const fn dispatch(&self) -> Option<DispatchId> {
        match self {
            Self::Ordered { job } => Some(job.id),
            Self::Dispatch { dispatch, .. } => Some(*dispatch),
            Self::Troubled { trouble, .. } => match trouble {
                Trouble::NoReceiver { .. } => None,
                Trouble::Refused { dispatch } | Trouble::Exhausted { dispatch } => Some(*dispatch),
            },
            Self::Opened { .. }
            | Self::Raised { .. }
            | Self::Repeated { .. }
            | Self::Restored { .. }
            | Self::Told { .. }
            | Self::Confirmed { .. }
            | Self::Acknowledged { .. }
            | Self::ReviewDue { .. }
            | Self::Escalated { .. }
            | Self::Noted { .. }
            | Self::CloseProposed { .. }
            | Self::Asked { .. }
            | Self::Unanswered { .. }
            | Self::TestOver { .. }
            | Self::Closed { .. } => None,
        }
    }

    /// What the person who closed the case wrote.
    #[must_use]
    pub fn closing_note(&self) -> Option<&str> {
        if let Self::Closed { note, .. } = self {
            Some(note)
        } else {
            None
        }
    }

    /// The persons the entry names (D9).
    #[must_use]
    pub fn persons(&self) -> Vec<PersonId> {
        match self {
            Self::Acknowledged { by, .. }
            | Self::Noted { by, .. }
            | Self::CloseProposed { by, .. }
            | Self::Asked { by, .. }
            | Self::Confirmed { by: Some(by), .. } => vec![*by],
            Self::Closed { by, second, .. } => {
                std::iter::once(*by).chain(second.iter().copied()).collect()
            }
            Self::Dispatch {
                step: Step::Accepted { by, .. },
                ..
            } => vec![*by],
            Self::Raised { fact, .. }
            | Self::Repeated { fact, .. }
            | Self::Restored { fact }
            | Self::Told { fact } => fact.by.iter().copied().collect(),
            Self::Opened { .. }
            | Self::Confirmed { by: None, .. }
            | Self::ReviewDue { .. }
            | Self::Escalated { .. }
            | Self::Ordered { .. }
            | Self::Dispatch { .. }
            | Self::Unanswered { .. }
            | Self::TestOver { .. }
            | Self::Troubled { .. } => Vec::new(),
        }
    }
}
