//! One request to one receiver, from queued to settled: a pure machine.
//!
//! Owns when a job may be tried, where, with which number, and what an attempt's end means. A timeout
//! after sending is *unanswered*: it is retried with the same number and bytes and marked possible
//! repeat. Never gives up quietly: past [`EXHAUSTED_AFTER`] a job is exhausted, which rings, and is
//! still tried every [`SLOW_RETRY`].

use std::time::Duration;

use domain::backoff::Backoff;
use domain::digest::Sha256;
use domain::id::{CentreId, DispatchId, IncidentId, PersonId, ReceiverId};
use domain::kind::{Hazard, Kind};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Agency, NotSent, Order, Outcome, Purpose, RefusedBy, Target, Targets};

/// A job not received after this long is exhausted: it rings on the board.
pub const EXHAUSTED_AFTER: Duration = Duration::from_secs(600);
/// How often an exhausted job is still tried.
pub const SLOW_RETRY: Duration = Duration::from_secs(60);
/// Wait between rounds of attempts; within a round the other address is tried at once.
const BETWEEN_ROUNDS: Backoff = Backoff {
    first: Duration::from_secs(2),
    longest: Duration::from_secs(30),
};

/// A request and all that is known of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Derived from case and step, so that one step can never make two.
    pub id: DispatchId,
    /// The step of the plan it carries out, unique within the case.
    pub step: String,
    /// To whom.
    pub receiver: ReceiverId,
    /// Whose receiver that is.
    pub agency: Agency,
    /// What is asked.
    pub purpose: Purpose,
    /// Which line of the case it tells of.
    pub line: usize,
    /// What happened.
    pub kind: Kind,
    /// Zone number for the receiver; 0 = not enrolled.
    pub point_number: u16,
    /// When it happened, by the cloud's clock.
    pub occurred_at: Timestamp,
    /// When the plan called for it.
    pub queued_at: Timestamp,
    /// How far it got.
    pub state: State,
    /// Attempts begun.
    pub attempts: u32,
    /// Attempts that failed (a NAK for its time is not one).
    pub failures: u32,
    /// Sequence number at the receiver, once allocated.
    pub number: Option<u16>,
    /// An attempt may have arrived, or did.
    pub reached: bool,
    /// The address of the next attempt.
    pub target: Target,
    /// The receiver has a second address, as the last claim said.
    pub alternates: bool,
    /// The receiver's clock less ours, in microseconds, when the next frame needs a fresh time.
    pub fresh_time: Option<i64>,
    /// The attempt under way carries a fresh time after a NAK.
    pub was_fresh: bool,
    /// Since when it counts as exhausted.
    pub exhausted_at: Option<Timestamp>,
}

/// How far a job got. Each is a different word on every screen (G5).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum State {
    /// To be sent; nothing has left this machine that could have arrived.
    Queued {
        /// Not before this.
        not_before: Timestamp,
    },
    /// In a dispatcher's hands.
    Sending {
        /// Which attempt.
        attempt: u32,
        /// Where to.
        target: Target,
        /// After this nobody knows how it ended.
        lease_until: Timestamp,
    },
    /// Sent, no reply that counts; will be tried again.
    Unanswered {
        /// The attempt that went unanswered last.
        attempt: u32,
        /// Not again before this.
        not_before: Timestamp,
    },
    /// The receiver's machine took it; nobody at the agency has said so.
    Received {
        /// When.
        at: Timestamp,
        /// Until when the receiver should confirm; none where it cannot (DC-09).
        confirm_by: Option<Timestamp>,
    },
    /// A human at the agency took it.
    Accepted {
        /// When we were told.
        at: Timestamp,
        /// Our operator who heard it.
        by: PersonId,
        /// The agency's reference.
        reference: String,
    },
    /// The receiver will not take it: somebody must telephone.
    Refused {
        /// When.
        at: Timestamp,
        /// Why.
        why: RefusedBy,
    },
    /// Tried for too long: somebody must telephone; still tried slowly.
    Exhausted {
        /// Since when.
        since: Timestamp,
        /// Not again before this.
        not_before: Timestamp,
    },
    /// Not wanted any more.
    Cancelled {
        /// When.
        at: Timestamp,
    },
}

impl State {
    /// The word in the store and on the wire.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Queued { .. } => "queued",
            Self::Sending { .. } => "sending",
            Self::Unanswered { .. } => "unanswered",
            Self::Received { .. } => "received",
            Self::Accepted { .. } => "accepted",
            Self::Refused { .. } => "refused",
            Self::Exhausted { .. } => "exhausted",
            Self::Cancelled { .. } => "cancelled",
        }
    }
}

/// One change of a job, as it stands in the journal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "step")]
pub enum Step {
    /// An attempt begins.
    Begun {
        /// Which.
        attempt: u32,
        /// Its number at the receiver.
        number: u16,
        /// Where to.
        target: Target,
        /// The receiver has a second address.
        backup: bool,
        /// Until when it is in a dispatcher's hands.
        lease_until: Timestamp,
        /// It carries a fresh time after a NAK.
        fresh: bool,
    },
    /// The receiver's machine took it.
    Received {
        /// Which attempt.
        attempt: u32,
        /// When.
        at: Timestamp,
        /// Digest of the reply; its bytes are in the attempt's row.
        reply: Sha256,
    },
    /// An attempt failed; another will follow.
    Failed {
        /// Which attempt.
        attempt: u32,
        /// How.
        how: Failure,
        /// Not again before this.
        not_before: Timestamp,
    },
    /// The receiver will not take it.
    Refused {
        /// Which attempt.
        attempt: u32,
        /// When.
        at: Timestamp,
        /// Why.
        why: RefusedBy,
    },
    /// A human at the agency took it, our operator says.
    Accepted {
        /// When.
        at: Timestamp,
        /// Who says so.
        by: PersonId,
        /// The agency's reference.
        reference: String,
        /// Whom our operator spoke to: stays in the journal's erasable body only (D9).
        spoke_to: String,
    },
    /// Tried for too long.
    Exhausted {
        /// When.
        at: Timestamp,
    },
    /// Not wanted any more.
    Cancelled {
        /// When.
        at: Timestamp,
    },
}

/// How an attempt failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Failure {
    /// Sent, nothing that counts came back.
    Unanswered,
    /// The lease ran out: nobody knows.
    Lapsed,
    /// Nothing left this machine.
    NotSent {
        /// Why.
        why: NotSent,
    },
    /// The frame's time was refused.
    Nak {
        /// The receiver's clock less ours, in microseconds.
        clock_offset_micros: i64,
    },
}

impl Failure {
    /// Whether the attempt may have arrived all the same.
    const fn may_have_arrived(self) -> bool {
        match self {
            Self::Unanswered | Self::Lapsed => true,
            Self::NotSent { .. } | Self::Nak { .. } => false,
        }
    }
}

/// The id of the job for a step of a case: a UUID of version 8 over both, so that deriving a step
/// twice names one job.
#[must_use]
pub fn id_of(incident: IncidentId, step: &str) -> DispatchId {
    let digest = Sha256::of(&[incident.0.as_bytes(), step.as_bytes()]);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.0[..16]);
    DispatchId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

impl Job {
    /// When it may be claimed; none when there is nothing to send or it is in hand.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        match self.state {
            State::Queued { not_before }
            | State::Unanswered { not_before, .. }
            | State::Exhausted { not_before, .. } => Some(not_before),
            State::Sending { .. }
            | State::Received { .. }
            | State::Accepted { .. }
            | State::Refused { .. }
            | State::Cancelled { .. } => None,
        }
    }

    /// When [`Job::late`] next has something to say.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        match self.state {
            State::Queued { .. } | State::Unanswered { .. } => {
                Some(self.queued_at.after(EXHAUSTED_AFTER))
            }
            State::Sending { lease_until, .. } => Some(lease_until),
            State::Received { .. }
            | State::Accepted { .. }
            | State::Refused { .. }
            | State::Exhausted { .. }
            | State::Cancelled { .. } => None,
        }
    }

    /// The lower, the sooner: orders before updates before cancels, and what has failed for long
    /// after the rest.
    #[must_use]
    pub fn urgency(&self) -> i64 {
        let purpose = match self.purpose {
            Purpose::Order => 0,
            Purpose::Update => 1,
            Purpose::Cancel => 2,
        };
        if self.exhausted_at.is_some() {
            purpose + 10
        } else {
            purpose
        }
    }

    /// Whether the receiver was, is being or may have been told.
    #[must_use]
    pub fn told(&self) -> bool {
        match self.state {
            State::Sending { .. } | State::Received { .. } | State::Accepted { .. } => true,
            State::Queued { .. }
            | State::Unanswered { .. }
            | State::Refused { .. }
            | State::Exhausted { .. }
            | State::Cancelled { .. } => self.reached,
        }
    }

    /// Whether a human of ours must act because the machines did not manage.
    #[must_use]
    pub fn in_trouble(&self) -> bool {
        match self.state {
            State::Refused { .. } | State::Exhausted { .. } => true,
            State::Sending { .. } => self.exhausted_at.is_some(),
            State::Queued { .. }
            | State::Unanswered { .. }
            | State::Received { .. }
            | State::Accepted { .. }
            | State::Cancelled { .. } => false,
        }
    }

    /// The words for a connector.
    #[must_use]
    pub fn order(
        &self,
        centre: CentreId,
        incident: IncidentId,
        hazard: Hazard,
        account: String,
    ) -> Order {
        Order {
            dispatch: self.id,
            incident,
            receiver: self.receiver,
            agency: self.agency,
            purpose: self.purpose,
            hazard,
            centre,
            account,
            point_number: self.point_number,
            kind: self.kind,
            occurred_at: self.occurred_at,
            possible_repeat: self.reached,
        }
    }

    /// A dispatcher takes it in hand. `number` counts only for the first attempt. None when it is
    /// not due.
    #[must_use]
    pub fn claim(
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

    /// An attempt ended. `chance` spreads the retries. None when the end no longer matters: a reply
    /// counts whenever the job still waits for one, everything else only for the attempt in hand.
    #[must_use]
    pub fn ended(
        &self,
        attempt: u32,
        outcome: &Outcome,
        chance: u32,
        now: Timestamp,
    ) -> Option<Step> {
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

    /// Our operator says a human at the agency took it. None when it is cancelled or taken already.
    #[must_use]
    pub fn accept(
        &self,
        by: PersonId,
        reference: String,
        spoke_to: String,
        now: Timestamp,
    ) -> Option<Step> {
        let settled = matches!(self.state, State::Accepted { .. } | State::Cancelled { .. });
        (!settled).then_some(Step::Accepted {
            at: now,
            by,
            reference,
            spoke_to,
        })
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
    pub fn take(&mut self, step: &Step) {
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
            } => self.take_failure(*attempt, *how, *not_before),
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

    fn take_failure(&mut self, attempt: u32, how: Failure, not_before: Timestamp) {
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

#[cfg(test)]
mod tests;
