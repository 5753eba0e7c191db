//! One point of a case: what it said, what keeps it from agencies, who looked at it. Knows no rule of a case.

use domain::command::Stamp;
use domain::event::State;
use domain::id::{CommandId, PersonId, PointKey, ZoneId};
use domain::kind::{Hazard, Kind, Severity};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Priority, Withheld};

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
    /// The session or bypass that keeps it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
    /// What a named person did at the point since its last activation, as the box says (D6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked: Option<Looked>,
}

/// What a named person did at a point.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Looked {
    /// Who.
    pub by: PersonId,
    /// When, by the box.
    pub at: Timestamp,
    /// Whether the point was returned to normal, or only looked at.
    pub reset: bool,
}

impl Line {
    /// Whether one of these sessions keeps it back while it is still in alarm.
    #[must_use]
    pub fn is_kept_back_by(&self, sessions: &[CommandId]) -> bool {
        let (Some(Stamp::Test(id) | Stamp::Bypass(id)), None) = (self.stamp, self.live_since)
        else {
            return false;
        };
        self.state == State::Raised && sessions.contains(&id)
    }

    /// As its next activation without a stamp would make it.
    pub(super) fn go_live(&mut self, at: Timestamp) {
        self.withheld = Withheld::by_severity(self.severity);
        self.live_since = self.withheld.is_none().then_some(at);
        self.stamp = None;
        self.acknowledged = false;
    }

    /// What the line alone makes of its case, before anything confirmed it.
    pub(super) fn priority(&self, hazard: Hazard) -> Priority {
        match (hazard, self.withheld) {
            (Hazard::Technical, _) => self.technical_priority(),
            (_, Some(Withheld::Test | Withheld::Session)) => Priority::P4,
            (_, Some(Withheld::Bypassed)) => Priority::P3,
            (_, Some(Withheld::Unverified)) => Priority::P2,
            (_, Some(Withheld::Old)) | (Hazard::Panic | Hazard::MissingChild, _) => Priority::P1,
            (Hazard::Fire | Hazard::Intrusion, Some(Withheld::NotCritical) | None) => Priority::P2,
        }
    }

    /// The path lost, unreadable life safety and a hole in it before other faults.
    fn technical_priority(&self) -> Priority {
        let grave = matches!(self.kind, Kind::AlarmUnreadable | Kind::BridgeOffline)
            || self.kind == Kind::GatewayGap && self.severity >= Severity::High;
        if grave { Priority::P2 } else { Priority::P3 }
    }
}
