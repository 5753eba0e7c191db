//! The machine of a job: what an input or the passing of time makes of it, and how a journalled step
//! changes it. Never reads a clock; chance comes as a value.

use std::time::Duration;

use domain::backoff::Backoff;
use domain::digest::Sha256;
use domain::time::Timestamp;

use super::{Failure, Input, Job, SLOW_RETRY, State, Step};
use crate::dispatch::{NotSent, Outcome, RefusedBy, Target, Targets};

/// Wait between rounds of attempts; within a round the other address is tried at once.
const BETWEEN_ROUNDS: Backoff = Backoff {
    first: Duration::from_secs(2),
    longest: Duration::from_secs(30),
};

impl Job {
    /// What an input does. None when it does not matter now: a claim of a job that is not due, the
    /// end of an attempt no longer in hand, an acceptance of what is settled.
    #[must_use]
    pub fn step(&self, input: &Input, now: Timestamp) -> Option<Step> {
        match input {
            Input::Claim {
                number,
                targets,
                lease_until,
            } => self.claim(*number, *targets, *lease_until, now),
            Input::Ended {
                attempt,
                outcome,
                chance,
            } => self.ended(*attempt, outcome, *chance, now),
            Input::Accept {
                by,
                reference,
                spoke_to,
            } => {
                let settled =
                    matches!(self.state, State::Accepted { .. } | State::Cancelled { .. });
                (!settled).then(|| Step::Accepted {
                    at: now,
                    by: *by,
                    reference: reference.clone(),
                    spoke_to: spoke_to.clone(),
                })
            }
        }
    }

    fn claim(
        &self,
        number: u16,
        targets: Targets,
        lease_until: Timestamp,
        now: Timestamp,
    ) -> Option<Step> {
        self.due_at().filter(|due| *due <= now)?;
        let (target, backup) = match targets {
            Targets::PrimaryOnly => (Target::Primary, false),
            Targets::WithBackup => (self.target, true),
        };
        Some(Step::Begun {
            attempt: self.attempts.saturating_add(1),
            number: self.number.unwrap_or(number),
            target,
            backup,
            lease_until,
            fresh: self.fresh_time.is_some(),
        })
    }

    /// A reply counts whenever the job still waits for one, everything else only for the attempt in
    /// hand.
    fn ended(&self, attempt: u32, outcome: &Outcome, chance: u32, now: Timestamp) -> Option<Step> {
        let in_hand =
            matches!(self.state, State::Sending { attempt: current, .. } if current == attempt);
        let failed = |how, wait| {
            in_hand.then(|| Step::Failed {
                attempt,
                how,
                not_before: now.after(wait),
            })
        };
        let refused = |why| {
            in_hand.then_some(Step::Refused {
                attempt,
                at: now,
                why,
            })
        };
        match outcome {
            Outcome::Received { reply } => self.waits_for_reply().then(|| Step::Received {
                attempt,
                at: now,
                reply: Sha256::of(&[reply]),
            }),
            Outcome::Unanswered => failed(Failure::Unanswered, self.wait(chance)),
            Outcome::NotSent {
                why: NotSent::Unsendable,
            } => refused(RefusedBy::OurSettings),
            Outcome::NotSent { why } => failed(Failure::NotSent { why: *why }, self.wait(chance)),
            Outcome::Refused { why } => refused(*why),
            Outcome::Nak { .. } if self.was_fresh => refused(RefusedBy::NakAgain),
            Outcome::Nak {
                clock_offset_micros,
            } => failed(
                Failure::Nak {
                    clock_offset_micros: *clock_offset_micros,
                },
                Duration::ZERO,
            ),
        }
    }

    /// How long to wait after one more failure: the other address of a round is tried at once.
    fn wait(&self, chance: u32) -> Duration {
        let failures = self.failures.saturating_add(1);
        if self.exhausted_at.is_some() {
            SLOW_RETRY
        } else if !self.alternates {
            BETWEEN_ROUNDS.delay(failures, chance)
        } else if failures % 2 == 1 {
            Duration::ZERO
        } else {
            BETWEEN_ROUNDS.delay(failures / 2, chance)
        }
    }

    /// What time alone did to it: a lapsed lease, or too long without a reply.
    #[must_use]
    pub fn late(&self, now: Timestamp) -> Option<Step> {
        self.deadline().filter(|deadline| *deadline <= now)?;
        match self.state {
            State::Sending { attempt, .. } => Some(Step::Failed {
                attempt,
                how: Failure::Lapsed,
                not_before: now,
            }),
            State::Queued { .. } | State::Unanswered { .. } => Some(Step::Exhausted { at: now }),
            State::Received { .. }
            | State::Accepted { .. }
            | State::Refused { .. }
            | State::Exhausted { .. }
            | State::Cancelled { .. } => None,
        }
    }

    /// The case is closed: nothing further is to be sent. What is in hand or done stays.
    #[must_use]
    pub fn stop(&self, now: Timestamp) -> Option<Step> {
        self.due_at().map(|_| Step::Cancelled { at: now })
    }

    fn waits_for_reply(&self) -> bool {
        match self.state {
            State::Sending { .. }
            | State::Unanswered { .. }
            | State::Exhausted { .. }
            | State::Refused { .. } => true,
            State::Queued { .. }
            | State::Received { .. }
            | State::Accepted { .. }
            | State::Cancelled { .. } => false,
        }
    }

    /// Takes one change into account. Knows nothing of rules: those were applied when the step was
    /// made.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::Begun {
                attempt,
                number,
                target,
                backup,
                lease_until,
                fresh,
            } => {
                self.attempts = *attempt;
                self.number = Some(*number);
                self.target = *target;
                self.alternates = *backup;
                self.was_fresh = *fresh;
                self.fresh_time = None;
                self.state = State::Sending {
                    attempt: *attempt,
                    target: *target,
                    lease_until: *lease_until,
                };
            }
            Step::Failed {
                attempt,
                how,
                not_before,
            } => self.apply_failure(*attempt, *how, *not_before),
            Step::Received { at, .. } => {
                self.reached = true;
                self.state = State::Received {
                    at: *at,
                    confirm_by: None,
                };
            }
            Step::Refused { at, why, .. } => self.state = State::Refused { at: *at, why: *why },
            Step::Accepted {
                at, by, reference, ..
            } => {
                self.state = State::Accepted {
                    at: *at,
                    by: *by,
                    reference: reference.clone(),
                };
            }
            Step::Exhausted { at } => {
                self.exhausted_at = Some(*at);
                self.wait_until(self.attempts, self.due_at().unwrap_or(*at));
            }
            Step::Cancelled { at } => self.state = State::Cancelled { at: *at },
        }
    }

    fn apply_failure(&mut self, attempt: u32, how: Failure, not_before: Timestamp) {
        self.reached |= how.may_have_arrived();
        match how {
            Failure::Nak {
                clock_offset_micros,
            } => self.fresh_time = Some(clock_offset_micros),
            Failure::Unanswered | Failure::Lapsed | Failure::NotSent { .. } => {
                self.failures = self.failures.saturating_add(1);
                if self.alternates {
                    self.target = self.target.other();
                }
            }
        }
        self.wait_until(attempt, not_before);
    }

    fn wait_until(&mut self, attempt: u32, not_before: Timestamp) {
        self.state = match self.exhausted_at {
            Some(since) => State::Exhausted { since, not_before },
            None if self.reached => State::Unanswered {
                attempt,
                not_before,
            },
            None => State::Queued { not_before },
        };
    }
}
