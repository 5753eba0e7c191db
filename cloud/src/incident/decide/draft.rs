//! The rules of points and people: what rings, what confirms, who closes, what time does.

use domain::event::State as EventState;
use domain::id::{CommandId, PersonId};
use domain::kind::{Hazard, Kind};
use domain::time::Timestamp;

use super::{ESCALATE_AFTER, Effect, REVIEW_AFTER, Report, SECOND_PERSON_WITHIN, believed_at};
use crate::incident::{Case, Cause, Confirmation, Entry, Fact, Handling, Repeat, Withheld};

/// A case with the entries decided so far already applied, so that each rule sees what the one
/// before it did.
pub(super) struct Draft {
    pub(super) case: Case,
    pub(super) entries: Vec<Entry>,
    pub(super) now: Timestamp,
}

impl Draft {
    pub(super) fn say(&mut self, entry: Entry) {
        self.case.apply(&entry);
        self.entries.push(entry);
    }

    pub(super) fn report(&mut self, report: &Report) {
        let report = &self.live_where_real(report);
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

    /// An alarm that joins a case with something real in it is not kept back for a test (D6).
    fn live_where_real(&self, report: &Report) -> Report {
        let mut report = report.clone();
        if self.case.is_real() {
            let fact = &mut report.fact;
            if fact.withheld.is_some_and(Withheld::is_by_people) {
                fact.withheld = Withheld::by_severity(fact.severity);
            }
        }
        report
    }

    /// What sessions kept back and is still there is real.
    pub(super) fn test_over(&mut self, sessions: &[CommandId]) {
        let mut lines = self.case.lines.iter();
        if self.case.is_closed() || !lines.any(|line| line.is_kept_back_by(sessions)) {
            return;
        }
        self.say(Entry::TestOver {
            sessions: sessions.to_vec(),
            at: self.now,
            escalate_at: self.now.after(ESCALATE_AFTER),
        });
        self.confirm_by_points();
        self.follow_plan();
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

    pub(super) fn confirm(&mut self, how: Confirmation, by: Option<PersonId>) {
        if self.case.confirmation != Some(how) {
            self.say(Entry::Confirmed { how, by });
            self.follow_plan();
        }
    }

    pub(super) fn acknowledge(&mut self, by: PersonId) {
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

    pub(super) fn close(&mut self, by: PersonId, cause: Cause, note: &str) {
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
        match cause {
            // It was real: whoever has not been told yet still must be.
            Cause::Real => {}
            Cause::FalseAlarm | Cause::Drill | Cause::Technical => {
                self.stop_jobs();
                self.cancel_orders();
            }
        }
    }

    /// Who closes: for a panic as anything but real, which recalls the police, two different persons
    /// who give the same cause within [`SECOND_PERSON_WITHIN`], or nobody yet.
    fn closers(
        &mut self,
        by: PersonId,
        cause: Cause,
        note: &str,
    ) -> Option<(PersonId, Option<PersonId>)> {
        if self.case.hazard != Hazard::Panic || cause == Cause::Real {
            return Some((by, None));
        }
        let valid = (self.case.proposal).filter(|first| {
            first.cause == cause && self.now.since(first.at) <= SECOND_PERSON_WITHIN
        });
        match valid {
            Some(first) if first.by != by => Some((first.by, Some(by))),
            Some(_) => None,
            None => {
                self.say(Entry::CloseProposed {
                    by,
                    cause,
                    note: note.to_owned(),
                    at: self.now,
                });
                None
            }
        }
    }

    pub(super) fn tick(&mut self) {
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
