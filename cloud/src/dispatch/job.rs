//! One request to one receiver, from queued to settled: a pure machine.
//!
//! Owns when a job may be tried, where, with which number, and what an attempt's end means. A timeout
//! after sending is *unanswered*: it is retried with the same number and bytes and marked possible
//! repeat. Never gives up quietly: past [`EXHAUSTED_AFTER`] a job is exhausted, which rings, and is
//! still tried every [`SLOW_RETRY`].

mod machine;
#[cfg(test)]
mod tests;

use std::time::Duration;

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

/// What happens to a job from outside; time alone is [`Job::late`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A dispatcher takes it in hand.
    Claim {
        /// A number for the first attempt; later ones keep theirs.
        number: u16,
        /// The receiver's addresses.
        targets: Targets,
        /// Until when it is in hand.
        lease_until: Timestamp,
    },
    /// An attempt ended.
    Ended {
        /// Which.
        attempt: u32,
        /// How.
        outcome: Outcome,
        /// Chance that spreads the retries.
        chance: u32,
    },
    /// Our operator heard that a human at the agency took it.
    Accept {
        /// Who.
        by: PersonId,
        /// The agency's reference.
        reference: String,
        /// Whom our operator spoke to.
        spoke_to: String,
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
}
