//! What shall happen to a case: pure, from what is known, a command and the instant.
//!
//! Owns the rules of D7: what joins, what rings, what confirms, who is told, when it gets louder and
//! what closing asks for. Restoral never closes; what is unverified, withheld by test or old never
//! calls an agency by itself. An acknowledged case goes back to ringing when a point raises anew: the
//! person who took it did not look at that.

use std::time::Duration;

use domain::event::State as EventState;
use domain::id::{CentreId, DispatchId, IncidentId, PersonId, ReceiverId};
use domain::kind::{Hazard, Kind};
use domain::time::Timestamp;

use super::{Case, Cause, Confirmation, Entry, Fact, Handling, Repeat, Trouble};
use crate::dispatch::job::{self, Input, Job, Step};
use crate::dispatch::plan::{Plan, PlanReceiver};
use crate::dispatch::{Purpose, Target};

/// A case nobody takes rings louder after this, and again each time.
pub const ESCALATE_AFTER: Duration = Duration::from_secs(60);
/// An acknowledged case that is not closed rings again after this.
pub const REVIEW_AFTER: Duration = Duration::from_secs(600);
/// A fire nobody answers counts as confirmed after this (D7).
pub const FIRE_UNANSWERED: Duration = Duration::from_secs(60);
/// A proposal to close a panic as false alarm is void after this; the second person starts anew.
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
                Kind::AlarmSilenced | Kind::AlarmAcknowledged | Kind::AlarmReset | Kind::AlarmTest,
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

/// A case with the entries decided so far already applied, so that each rule sees what the one
/// before it did.
struct Draft {
    case: Case,
    entries: Vec<Entry>,
    now: Timestamp,
}

impl Draft {
    fn say(&mut self, entry: Entry) {
        self.case.apply(&entry);
        self.entries.push(entry);
    }

    fn report(&mut self, report: &Report) {
        let fact = report.fact.clone();
        match report.effect() {
            Effect::Raises(_) => match self.repeats(report) {
                Some(why) => self.say(Entry::Repeated { fact, why }),
                None => self.raise(fact),
            },
            Effect::Restores(_) if !report.overtaken => self.say(Entry::Restored { fact }),
            Effect::Restores(_) | Effect::Tells => self.say(Entry::Told { fact }),
            Effect::Nothing => {}
        }
    }

    /// Why a raise is no new activation. A point new to the case always is one, whatever the box
    /// says of it: losing is worse than repeating.
    fn repeats(&self, report: &Report) -> Option<Repeat> {
        let fact = &report.fact;
        let at = self.case.line_of(fact.source.as_ref(), fact.kind)?;
        let line = self.case.lines.get(at)?;
        let worse = fact.severity > line.severity;
        let goes_live = fact.withheld.is_none() && line.live_since.is_none();
        if worse || goes_live {
            None
        } else if report.overtaken {
            Some(Repeat::Overtaken)
        } else if report.same_activation {
            Some(Repeat::SameActivation)
        } else {
            let still_up = !line.momentary && line.state == EventState::Raised;
            still_up.then_some(Repeat::Level)
        }
    }

    fn raise(&mut self, fact: Fact) {
        let (source, kind) = (fact.source.clone(), fact.kind);
        self.say(Entry::Raised {
            fact,
            at: self.now,
            escalate_at: self.now.after(ESCALATE_AFTER),
        });
        self.confirm_by_points();
        self.follow_plan();
        if let Some(line) = self.case.line_of(source.as_ref(), kind) {
            self.update_told(line);
        }
    }

    /// Two live points, or one call point, confirm a fire.
    fn confirm_by_points(&mut self) {
        if self.case.hazard != Hazard::Fire || self.case.confirmation.is_some() {
            return;
        }
        let live = || self.case.lines.iter().filter(|l| l.live_since.is_some());
        let called = live().any(|line| line.kind == Kind::FireManualCallPointAlarm);
        let how = match (called, live().count()) {
            (true, _) => Confirmation::CallPoint,
            (false, 2..) => Confirmation::SecondPoint,
            (false, _) => return,
        };
        self.say(Entry::Confirmed { how, by: None });
    }

    fn confirm(&mut self, how: Confirmation, by: Option<PersonId>) {
        if self.case.confirmation != Some(how) {
            self.say(Entry::Confirmed { how, by });
            self.follow_plan();
        }
    }

    /// Derives the plan's steps from what is known now. A step done is never undone: each is found
    /// again by receiver and line.
    fn follow_plan(&mut self) {
        let lines = self.dispatchable();
        if lines.is_empty() || self.case.is_closed() {
            return;
        }
        let confirmed = self.case.confirmation.is_some();
        for agency in self.case.plan.agencies(self.case.hazard, confirmed) {
            let receivers: Vec<PlanReceiver> =
                self.case.plan.receivers_of(*agency).cloned().collect();
            if receivers.is_empty() && !self.case.missing.contains(agency) {
                self.trouble(Trouble::NoReceiver { agency: *agency });
            }
            for receiver in &receivers {
                for line in &lines {
                    if self.jobs_of(receiver, *line).count() == 0 {
                        self.order(receiver, *line);
                    }
                }
            }
        }
    }

    /// Lines that may call an agency: live ones, and all once a person said that it is real.
    fn dispatchable(&self) -> Vec<usize> {
        let person = self.case.confirmation == Some(Confirmation::Person);
        let lines = self.case.lines.iter().enumerate();
        lines
            .filter(|(_, line)| person || line.live_since.is_some())
            .map(|(i, _)| i)
            .collect()
    }

    /// A point raised again: receivers told of it hear so, not too often.
    fn update_told(&mut self, line: usize) {
        let receivers = self.case.plan.receivers.clone();
        for receiver in &receivers {
            let settled_long_ago = |job: &Job| {
                let waiting = job.due_at().or(job.deadline()).is_some();
                !waiting && job.queued_at.after(UPDATE_EVERY) <= self.now
            };
            let told = self.jobs_of(receiver, line).count() > 0;
            let due = told && self.jobs_of(receiver, line).all(settled_long_ago);
            if due && self.case.jobs.len() < NO_UPDATES_FROM {
                self.order(receiver, line);
            }
        }
    }

    fn jobs_of(&self, receiver: &PlanReceiver, line: usize) -> impl Iterator<Item = &Job> {
        let receiver = receiver.receiver;
        let jobs = self.case.jobs.iter();
        jobs.filter(move |job| job.receiver == receiver && job.line == line)
    }

    /// Queues a request about a line: the first to a receiver is the order, later ones are updates.
    fn order(&mut self, receiver: &PlanReceiver, line: usize) {
        let ordered = (self.case.jobs.iter()).any(|job| job.receiver == receiver.receiver);
        let purpose = if ordered {
            Purpose::Update
        } else {
            Purpose::Order
        };
        let nth = self.jobs_of(receiver, line).count();
        let step = format!("{}/{line}/{nth}", receiver.receiver);
        self.queue(receiver, line, purpose, step);
    }

    fn queue(&mut self, to: &PlanReceiver, line: usize, purpose: Purpose, step: String) {
        let Some(about) = self.case.lines.get(line) else {
            return;
        };
        let job = Job {
            id: job::id_of(self.case.id, &step),
            step,
            receiver: to.receiver,
            agency: to.agency,
            purpose,
            line,
            kind: about.kind,
            point_number: about.number,
            occurred_at: about.occurred_at,
            queued_at: self.now,
            state: job::State::Queued {
                not_before: self.now,
            },
            attempts: 0,
            failures: 0,
            number: None,
            reached: false,
            target: Target::Primary,
            alternates: false,
            fresh_time: None,
            was_fresh: false,
            exhausted_at: None,
        };
        self.say(Entry::Ordered { job });
    }

    fn trouble(&mut self, trouble: Trouble) {
        self.say(Entry::Troubled {
            trouble,
            at: self.now,
            escalate_at: self.now.after(ESCALATE_AFTER),
        });
    }

    fn acknowledge(&mut self, by: PersonId) {
        let mine =
            matches!(self.case.handling, Handling::Acknowledged { by: who, .. } if who == by);
        if !mine {
            self.say(Entry::Acknowledged {
                by,
                at: self.now,
                review_at: self.now.after(REVIEW_AFTER),
            });
        }
    }

    fn close(&mut self, by: PersonId, cause: Cause, note: &str) {
        let Some((by, second)) = self.closers(by, cause, note) else {
            return;
        };
        self.say(Entry::Closed {
            by,
            second,
            at: self.now,
            cause,
            note: note.to_owned(),
        });
        self.stop_jobs();
        match cause {
            Cause::Real => {}
            Cause::FalseAlarm | Cause::Drill | Cause::Technical => self.cancel_orders(),
        }
    }

    /// Who closes: for a panic as false alarm two different persons within
    /// [`SECOND_PERSON_WITHIN`], or nobody yet.
    fn closers(
        &mut self,
        by: PersonId,
        cause: Cause,
        note: &str,
    ) -> Option<(PersonId, Option<PersonId>)> {
        if self.case.hazard != Hazard::Panic || cause != Cause::FalseAlarm {
            return Some((by, None));
        }
        let valid =
            (self.case.proposal).filter(|first| self.now.since(first.at) <= SECOND_PERSON_WITHIN);
        match valid {
            Some(first) if first.by != by => Some((first.by, Some(by))),
            Some(_) => None,
            None => {
                self.say(Entry::CloseProposed {
                    by,
                    note: note.to_owned(),
                    at: self.now,
                });
                None
            }
        }
    }

    fn stop_jobs(&mut self) {
        let stops: Vec<_> = (self.case.jobs.iter())
            .filter_map(|job| Some((job.id, job.stop(self.now)?)))
            .collect();
        for (dispatch, step) in stops {
            self.say(Entry::Dispatch { dispatch, step });
        }
    }

    /// Every receiver that was or may have been told hears that nobody need come.
    fn cancel_orders(&mut self) {
        let receivers = self.case.plan.receivers.clone();
        for receiver in &receivers {
            let told = (self.case.jobs.iter())
                .find(|job| job.receiver == receiver.receiver && job.told())
                .map(|job| job.line);
            if let Some(line) = told {
                let step = format!("{}/cancel", receiver.receiver);
                self.queue(receiver, line, Purpose::Cancel, step);
            }
        }
    }

    fn progress(&mut self, dispatch: DispatchId, input: &Input) -> Result<(), Refusal> {
        if let Input::Accept {
            reference,
            spoke_to,
            ..
        } = input
        {
            short_enough(reference)?;
            short_enough(spoke_to)?;
        }
        let job = self.job(dispatch).ok_or(Refusal::NoSuchDispatch)?;
        if matches!(input, Input::Claim { .. }) && self.in_hand_at(job.receiver) {
            return Ok(());
        }
        match (job.step(input, self.now), input) {
            (Some(step), _) => self.advance(dispatch, step),
            (None, Input::Accept { .. }) => return Err(Refusal::DispatchSettled),
            (None, Input::Claim { .. } | Input::Ended { .. }) => {}
        }
        Ok(())
    }

    /// Requests of one case to one receiver go one after the other, or a cancel overtakes its order.
    fn in_hand_at(&self, receiver: ReceiverId) -> bool {
        (self.case.jobs.iter())
            .any(|job| job.receiver == receiver && matches!(job.state, job::State::Sending { .. }))
    }

    fn job(&self, dispatch: DispatchId) -> Option<&Job> {
        self.case.jobs.iter().find(|job| job.id == dispatch)
    }

    /// Journals a step of a request and what follows from it.
    fn advance(&mut self, dispatch: DispatchId, step: Step) {
        let trouble = match step {
            Step::Refused { .. } => Some(Trouble::Refused { dispatch }),
            Step::Exhausted { .. } => Some(Trouble::Exhausted { dispatch }),
            Step::Begun { .. }
            | Step::Received { .. }
            | Step::Failed { .. }
            | Step::Accepted { .. }
            | Step::Cancelled { .. } => None,
        };
        self.say(Entry::Dispatch { dispatch, step });
        if let Some(trouble) = trouble {
            self.trouble(trouble);
        }
        let next = self.job(dispatch).and_then(|job| {
            if self.case.is_closed() && job.purpose != Purpose::Cancel {
                job.stop(self.now)
            } else {
                job.late(self.now)
            }
        });
        if let Some(next) = next {
            self.advance(dispatch, next);
        }
    }

    fn tick(&mut self) {
        let late: Vec<_> = (self.case.jobs.iter())
            .filter_map(|job| Some((job.id, job.late(self.now)?)))
            .collect();
        for (dispatch, step) in late {
            self.advance(dispatch, step);
        }
        if believed_at(&self.case).is_some_and(|at| at <= self.now) {
            self.confirm(Confirmation::Timeout, None);
        }
        match self.case.handling {
            Handling::Open {
                escalate_at, level, ..
            } if escalate_at <= self.now => self.say(Entry::Escalated {
                level: level.saturating_add(1),
                escalate_at: self.now.after(ESCALATE_AFTER),
            }),
            Handling::Acknowledged { review_at, .. } if review_at <= self.now => {
                self.say(Entry::ReviewDue {
                    at: self.now,
                    escalate_at: self.now.after(ESCALATE_AFTER),
                });
            }
            Handling::Open { .. } | Handling::Acknowledged { .. } | Handling::Closed { .. } => {}
        }
    }
}
