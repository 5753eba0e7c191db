//! The rules of telling: which receivers hear what, when they hear it again, and that all who heard an
//! alarm hear of its end as not real.

use domain::id::{DispatchId, ReceiverId};

use super::draft::Draft;
use super::{ESCALATE_AFTER, NO_UPDATES_FROM, Refusal, UPDATE_EVERY, short_enough};
use crate::dispatch::job::{self, Input, Job, Step};
use crate::dispatch::plan::PlanReceiver;
use crate::dispatch::{Purpose, Target};
use crate::incident::{Confirmation, Entry, Trouble};

impl Draft {
    /// Derives the plan's steps from what is known now. A step done is never undone: each is found
    /// again by receiver and line.
    pub(super) fn follow_plan(&mut self) {
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
    pub(super) fn update_told(&mut self, line: usize) {
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

    pub(super) fn stop_jobs(&mut self) {
        let stops: Vec<_> = (self.case.jobs.iter())
            .filter_map(|job| Some((job.id, job.stop(self.now)?)))
            .collect();
        for (dispatch, step) in stops {
            self.say(Entry::Dispatch { dispatch, step });
        }
    }

    /// Every receiver that was or may have been told hears that nobody need come.
    pub(super) fn cancel_orders(&mut self) {
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

    pub(super) fn progress(&mut self, dispatch: DispatchId, input: &Input) -> Result<(), Refusal> {
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
    pub(super) fn advance(&mut self, dispatch: DispatchId, step: Step) {
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
            if self.case.is_over() && job.purpose != Purpose::Cancel {
                job.stop(self.now)
            } else {
                job.late(self.now)
            }
        });
        if let Some(next) = next {
            self.advance(dispatch, next);
        }
    }
}
