//! What a case needs of a record: the fact, its numbers, and why it may not call an agency by itself.
//!
//! Owns their words in the journal (version 1). Never holds a name, a card number or a payload (D9).

use domain::command::{Stamp, Unfit};
use domain::digest::Sha256;
use domain::event::State;
use domain::id::{CommandId, EpochId, EventId, GatewayId, PersonId, PointKey, ZoneId};
use domain::kind::{Kind, Lane, Severity};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What a record said, as far as a case needs it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Fact {
    /// The event.
    pub event: EventId,
    /// The device's own id of it.
    pub vendor_id: Option<String>,
    /// The point.
    pub source: Option<PointKey>,
    /// Its zone.
    pub zone: Option<ZoneId>,
    /// Its zone number at a receiver; 0 = not enrolled.
    pub number: u16,
    /// What happened.
    pub kind: Kind,
    /// Began or ended.
    pub state: State,
    /// How bad.
    pub severity: Severity,
    /// A press, not a level.
    pub momentary: bool,
    /// By the box's clock.
    pub received_at: Timestamp,
    /// By the cloud's clock, less the age the box claimed.
    pub occurred_at: Timestamp,
    /// Occurrences it stands for.
    pub count: u64,
    /// Why it may not call an agency by itself.
    pub withheld: Option<Withheld>,
    /// The session or bypass the box named for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
    /// Who acted at the point, for an act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<PersonId>,
    /// The command it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandId>,
    /// Why the command was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Unfit>,
    /// The numbers of the box it is about, or was read from.
    pub numbers: Option<Numbers>,
    /// SHA-256(salt, body) of the record it was read from; none for what the cloud found itself and
    /// for a record that claims a taken number.
    pub record: Option<Sha256>,
}

impl Fact {
    /// The session or bypass that keeps it back, if one does.
    #[must_use]
    pub fn kept_back_by(&self) -> Option<Stamp> {
        self.stamp
            .filter(|_| self.withheld.is_some_and(Withheld::is_by_people))
    }
}

/// A stretch of a box's numbers (D4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Numbers {
    /// The box.
    pub gateway: GatewayId,
    /// Its epoch.
    pub epoch: EpochId,
    /// The lane.
    pub lane: Lane,
    /// First.
    pub from: u64,
    /// Last.
    pub to: u64,
}

/// Why an activation may not call an agency by itself (D5, D7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Withheld {
    /// The device says itself that it is a test.
    Test,
    /// It is of a test session that box and cloud both hold (D6).
    Session,
    /// Its point is out of service, for box and cloud alike.
    Bypassed,
    /// Not severe enough.
    NotCritical,
    /// Known only from a retained or replayed message.
    Unverified,
    /// Older than the policy allows, or of unknown age.
    Old,
}

impl Withheld {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Session => "session",
            Self::Bypassed => "bypassed",
            Self::NotCritical => "not_critical",
            Self::Unverified => "unverified",
            Self::Old => "old",
        }
    }

    /// What its severity alone asks for.
    #[must_use]
    pub fn by_severity(severity: Severity) -> Option<Self> {
        (severity != Severity::Critical).then_some(Self::NotCritical)
    }

    /// Whether people took the point out of full service: that ends where something real begins.
    #[must_use]
    pub const fn is_by_people(self) -> bool {
        match self {
            Self::Session | Self::Bypassed => true,
            Self::Test | Self::NotCritical | Self::Unverified | Self::Old => false,
        }
    }
}
