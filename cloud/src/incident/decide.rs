//! What shall happen to a case: pure, from what is known, a command and the instant.
//!
//! Owns the rules of D7: what joins, what rings, what confirms, who is told, when it gets louder and
//! what closing asks for. Restoral never closes; what is unverified, withheld by test or old never
//! calls an agency by itself. An acknowledged case goes back to ringing when a point raises anew: the
//! person who took it did not look at that.

mod draft;
#[cfg(test)]
mod properties;
mod telling;
#[cfg(test)]
mod tests;

use std::time::Duration;

use domain::command::Act;
use domain::event::State as EventState;
use domain::id::{CentreId, CommandId, DispatchId, IncidentId, PersonId};
use domain::kind::{Hazard, Kind};
use domain::time::Timestamp;

use self::draft::Draft;
use super::{Case, Cause, Confirmation, Entry, Fact, Handling};
use crate::dispatch::job::{Input, Job};
use crate::dispatch::plan::Plan;

/// A case nobody takes rings louder after this, and again each time.
pub const ESCALATE_AFTER: Duration = Duration::from_secs(60);
/// An acknowledged case that is not closed rings again after this.
pub const REVIEW_AFTER: Duration = Duration::from_secs(600);
/// A fire nobody answers counts as confirmed after this (D7).
pub const FIRE_UNANSWERED: Duration = Duration::from_secs(60);
/// A proposal to close a panic as anything but real is void after this; the second person starts anew.
pub const SECOND_PERSON_WITHIN: Duration = Duration::from_secs(600);
/// A point that raises again is told to a receiver at most once in this time (D7).
pub const UPDATE_EVERY: Duration = Duration::from_secs(60);
/// From this many requests in one case on, a point raising again is kept and rings as ever, but no
/// further update goes out for it; those for a new point and a cancel always do.
pub const NO_UPDATES_FROM: usize = 200;
/// Longest text a person may leave in a case, in bytes. A longer one is refused.
pub const TEXT_MAX: usize = 4_000;

/// What is to be done with a case.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// A point of the centre said something.
    Report(Report),
    /// A person takes it in hand, or takes it over.
    Acknowledge {
        /// Who.
        by: PersonId,
    },
    /// A person writes something down.
    Note {
        /// Who.
        by: PersonId,
        /// What.
        text: String,
    },
    /// A person says it is real.
    Confirm {
        /// Who.
        by: PersonId,
    },
    /// A person ends it.
    Close {
        /// Who.
        by: PersonId,
        /// Why.
        cause: Cause,
        /// In own words.
        note: String,
    },
    /// A person told a box to do something about a point of it.
    Asked {
        /// The command.
        command: CommandId,
        /// Who.
        by: PersonId,
        /// What.
        act: Act,
    },
    /// The box did not answer that in its time.
    Unanswered {
        /// The command.
        command: CommandId,
        /// What was asked.
        act: Act,
        /// Whether it was handed to the box's connection.
        reached: bool,
    },
    /// Sessions and bypasses are over for the cloud, without the box's word.
    TestOver {
        /// Which.
        sessions: Vec<CommandId>,
    },
    /// Something happened to a request.
    Progress {
        /// Which.
        dispatch: DispatchId,
        /// What.
        input: Input,
    },
    /// Time passed.
    Tick,
}

/// A fact with what else is known of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// The fact.
    pub fact: Fact,
    /// The box says it belongs to an earlier activation.
    pub same_activation: bool,
    /// A later activation of the point, by number within one epoch, was judged before (D4).
    pub overtaken: bool,
}

/// What a fact does to cases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Opens or joins the case of a hazard.
    Raises(Hazard),
    /// Ends the condition of a point: in the case of a hazard, or in whatever case it stands.
    Restores(Option<Hazard>),
    /// A line in whatever case the point stands.
    Tells,
    /// None.
    Nothing,
}

/// Why a person's act is refused, in terms of what would be allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Closed is final.
    #[error("the case is closed; only a note can be added, and a new alarm opens a linked case")]
    Closed,
    /// The request is not one of this case.
    #[error("the case has no such request; reload it")]
    NoSuchDispatch,
    /// It is taken or cancelled.
    #[error("the request is accepted or cancelled already; nothing is left to confirm")]
    DispatchSettled,
    /// Too much text.
    #[error("the text is longer than {TEXT_MAX} bytes; shorten it or write several notes")]
    TextTooLong,
}

/// A case about to be opened.
#[derive(Clone, PartialEq, Debug)]
pub struct Opening {
    /// Its name.
    pub incident: IncidentId,
    /// Where.
    pub centre: CentreId,
    /// What threatens people.
    pub hazard: Hazard,
    /// The case before it.
    pub linked_to: Option<IncidentId>,
    /// The plan in force, to be snapshotted.
    pub plan: Plan,
}

impl Report {
    /// What it does to cases.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match (self.fact.kind, self.fact.kind.hazard(), self.fact.state) {
            (_, Some(hazard), EventState::Raised) => Effect::Raises(hazard),
            (_, Some(hazard), EventState::Cleared) => Effect::Restores(Some(hazard)),
            (Kind::AlarmRestored | Kind::BridgeOnline, None, _) => Effect::Restores(None),
            (
                Kind::AlarmSilenced
                | Kind::AlarmAcknowledged
                | Kind::AlarmReset
                | Kind::AlarmTest
                | Kind::TestExpected
                | Kind::PointBypassed
                | Kind::PointInService
                | Kind::CommandRefused,
                None,
                _,
            ) => Effect::Tells,
            (_, None, _) => Effect::Nothing,
        }
    }
}

/// Opens a case with its first report.
#[must_use]
pub fn open(opening: Opening, report: &Report, now: Timestamp) -> Option<(Case, Vec<Entry>)> {
    let opened = Entry::Opened {
        incident: opening.incident,
        centre: opening.centre,
        hazard: opening.hazard,
        linked_to: opening.linked_to,
        plan: opening.plan,
        at: now,
        escalate_at: now.after(ESCALATE_AFTER),
    };
    let mut draft = Draft {
        case: Case::begin(&opened)?,
        entries: vec![opened],
        now,
    };
    draft.report(report);
    Some((draft.case, draft.entries))
}

/// What a command does to a case. The entries are to be journalled and applied in this order; none
/// means that nothing changes.
///
/// # Errors
/// Says which rule forbids it and what would be allowed.
pub fn decide(case: &Case, command: &Command, now: Timestamp) -> Result<Vec<Entry>, Refusal> {
    let mut draft = Draft {
        case: case.clone(),
        entries: Vec::new(),
        now,
    };
    match command {
        Command::Report(_)
        | Command::Acknowledge { .. }
        | Command::Confirm { .. }
        | Command::Close { .. }
            if case.is_closed() =>
        {
            return Err(Refusal::Closed);
        }
        Command::Report(report) => draft.report(report),
        Command::Acknowledge { by } => draft.acknowledge(*by),
        Command::Note { by, text } => {
            short_enough(text)?;
            draft.say(Entry::Noted {
                by: *by,
                text: text.clone(),
            });
        }
        Command::Confirm { by } => draft.confirm(Confirmation::Person, Some(*by)),
        Command::Close { by, cause, note } => {
            short_enough(note)?;
            draft.close(*by, *cause, note);
        }
        Command::Asked { command, by, act } => draft.say(Entry::Asked {
            command: *command,
            by: *by,
            act: act.clone(),
        }),
        Command::Unanswered {
            command,
            act,
            reached,
        } => draft.say(Entry::Unanswered {
            command: *command,
            act: act.clone(),
            reached: *reached,
        }),
        Command::TestOver { sessions } => draft.test_over(sessions),
        Command::Progress { dispatch, input } => draft.progress(*dispatch, input)?,
        Command::Tick => draft.tick(),
    }
    Ok(draft.entries)
}

/// Where a report goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// To the open case at this place of the list.
    Joins(usize),
    /// To a new case.
    Opens(Hazard),
    /// To none: it is kept all the same.
    Nowhere,
}

/// Where a report goes, given a centre's open cases.
#[must_use]
pub fn route(open: &[Case], report: &Report) -> Route {
    let fact = &report.fact;
    let stands_in = |case: &Case| case.line_of(fact.source.as_ref(), fact.kind).is_some();
    let found = |case: &dyn Fn(&Case) -> bool| open.iter().position(case);
    let joins = |at: Option<usize>| at.map_or(Route::Nowhere, Route::Joins);
    match report.effect() {
        Effect::Raises(hazard) => match found(&|case| case.hazard == hazard) {
            Some(at) => Route::Joins(at),
            None if report.overtaken => Route::Nowhere,
            None => Route::Opens(hazard),
        },
        Effect::Restores(Some(hazard)) => {
            joins(found(&|case| case.hazard == hazard && stands_in(case)))
        }
        Effect::Restores(None) | Effect::Tells => joins(found(&stands_in)),
        Effect::Nothing => Route::Nowhere,
    }
}

/// When [`Command::Tick`] next has something to do.
#[must_use]
pub fn next_deadline(case: &Case) -> Option<Timestamp> {
    let handling = match case.handling {
        Handling::Open { escalate_at, .. } => Some(escalate_at),
        Handling::Acknowledged { review_at, .. } => Some(review_at),
        Handling::Closed { .. } => None,
    };
    case.jobs
        .iter()
        .filter_map(Job::deadline)
        .chain(handling)
        .chain(believed_at(case))
        .min()
}

/// When a fire that nobody answers counts as confirmed.
fn believed_at(case: &Case) -> Option<Timestamp> {
    let Handling::Open { since, .. } = case.handling else {
        return None;
    };
    let waits = case.hazard == Hazard::Fire && case.confirmation.is_none();
    let live_since = case.lines.iter().filter_map(|line| line.live_since).min()?;
    waits.then(|| since.max(live_since).after(FIRE_UNANSWERED))
}

fn short_enough(text: &str) -> Result<(), Refusal> {
    if text.len() > TEXT_MAX {
        return Err(Refusal::TextTooLong);
    }
    Ok(())
}
