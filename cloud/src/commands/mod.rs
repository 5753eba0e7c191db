//! What people ask a centre's boxes to do, and how far each asking got (D6).
//!
//! Owns how long a command lives, what of it can be judged before it is sent, and what an event says of it.
//! A command changes nothing here: only the fact that comes back does. Writing is the engine's.

pub mod rules;
pub mod shown;
pub mod store;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use domain::command::{Act, Ended, Unfit};
use domain::digest::Sha256;
use domain::event::{Detail, Event};
use domain::id::{CommandId, EventId, GatewayId, PersonId, PointKey};
use domain::kind::{Kind, UnknownWord};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How long a command is good for. After it the box does not do it, and the giver is told.
pub const LIVES: Duration = Duration::from_secs(60);
/// The same for letting a door go: a late one must not open it.
pub const RELEASE_LIVES: Duration = Duration::from_secs(10);
/// Commands of one centre waiting for an answer; at it a further one is refused.
pub const WAITING_MAX: i64 = 50;

/// How long that act is good for.
#[must_use]
pub const fn lives(act: &Act) -> Duration {
    match act {
        Act::Release { .. } => RELEASE_LIVES,
        Act::Acknowledge { .. }
        | Act::Reset { .. }
        | Act::TestBegin(_)
        | Act::TestEnd { .. }
        | Act::Expected { .. }
        | Act::Bypass(_)
        | Act::EndBypass { .. } => LIVES,
    }
}

/// How far a command got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Written down, not handed to the box's connection yet.
    Given,
    /// Handed to a connection of the box, not answered.
    Sent,
    /// The box says that it did it.
    Done,
    /// The box says that it did not, and why.
    Refused,
    /// No answer in its time.
    Expired,
}

impl State {
    /// The word in the store and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Sent => "sent",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Expired => "expired",
        }
    }
}

impl FromStr for State {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let all = [
            Self::Given,
            Self::Sent,
            Self::Done,
            Self::Refused,
            Self::Expired,
        ];
        let found = all.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A command to one box.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Given {
    /// Its name; the same at every box it went to.
    pub id: CommandId,
    /// The box.
    pub gateway: GatewayId,
    /// Who gave it.
    pub by: PersonId,
    /// What is asked.
    pub act: Act,
    /// When.
    pub given_at: Timestamp,
    /// Not to be done after this.
    pub expires_at: Timestamp,
    /// How far it got.
    pub state: State,
    /// When it was first handed to a connection.
    pub sent_at: Option<Timestamp>,
    /// When its answer was committed, or its time had passed.
    pub answered_at: Option<Timestamp>,
    /// Why the box did not do it.
    pub why: Option<Unfit>,
    /// The event that answered it.
    pub fact: Option<EventId>,
}

/// What an event says of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Which.
    pub command: CommandId,
    /// Who gave it.
    pub by: PersonId,
    /// Why it was not done; none if it was.
    pub why: Option<Unfit>,
}

/// What an event says of a command, if it answers one.
#[must_use]
pub fn answer_of(event: &Event) -> Option<Answer> {
    let done = |command: CommandId, by: PersonId| {
        Some(Answer {
            command,
            by,
            why: None,
        })
    };
    match &event.detail {
        Detail::Act { command, by }
        | Detail::TestBegun { command, by, .. }
        | Detail::Bypassed { command, by, .. } => done(*command, *by),
        Detail::Ended {
            command: Some(command),
            why: Ended::Person(by),
            ..
        } => done(*command, *by),
        Detail::Released {
            asked: Some((command, by)),
            ..
        } => done(*command, *by),
        Detail::Unfit { command, by, why } => Some(Answer {
            command: *command,
            by: *by,
            why: Some(*why),
        }),
        Detail::None
        | Detail::Movement { .. }
        | Detail::Pending { .. }
        | Detail::Correction { .. }
        | Detail::Access { .. }
        | Detail::Unread { .. }
        | Detail::Started { .. }
        | Detail::Config { .. }
        | Detail::Counted { .. }
        | Detail::Ended { .. }
        | Detail::Released { asked: None, .. }
        | Detail::Silent { .. } => None,
    }
}

/// The point or door an act is about; none for a test session.
#[must_use]
pub const fn point_of(act: &Act) -> Option<&PointKey> {
    match act {
        Act::Acknowledge { point, .. }
        | Act::Reset { point, .. }
        | Act::Expected { point, .. }
        | Act::EndBypass { point }
        | Act::Release { door: point } => Some(point),
        Act::Bypass(bypass) => Some(&bypass.point),
        Act::TestBegin(_) | Act::TestEnd { .. } => None,
    }
}

/// The word of an act on the wire.
#[must_use]
pub const fn word_of(act: &Act) -> &'static str {
    match act {
        Act::Acknowledge { .. } => "acknowledge",
        Act::Reset { .. } => "reset",
        Act::TestBegin(_) => "test_begin",
        Act::TestEnd { .. } => "test_end",
        Act::Expected { .. } => "expected",
        Act::Bypass(_) => "bypass",
        Act::EndBypass { .. } => "end_bypass",
        Act::Release { .. } => "release",
    }
}

/// What the journal says of a command or of what it began: a closed set. Persons stand in the erasable body
/// only (D9).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "entry")]
pub enum Turn {
    /// A person gave a command.
    Given {
        /// Its name.
        command: CommandId,
        /// To which box.
        gateway: GatewayId,
        /// Who.
        by: PersonId,
        /// What.
        act: Act,
        /// Not to be done after this.
        expires_at: Timestamp,
    },
    /// A box said what became of one; also of one given at the box, which the cloud never saw.
    Answered {
        /// Its name.
        command: CommandId,
        /// Which box.
        gateway: GatewayId,
        /// Who gave it.
        by: PersonId,
        /// In which event.
        event: EventId,
        /// What happened.
        kind: Kind,
        /// At which point.
        source: Option<PointKey>,
        /// Why it was not done, if it was not.
        why: Option<Unfit>,
        /// Whether the cloud had given it.
        ours: bool,
        /// SHA-256(salt, body) of the event's record, if this entry chains it.
        record: Option<Sha256>,
    },
    /// No answer came in its time.
    Expired {
        /// Its name.
        command: CommandId,
        /// Which box.
        gateway: GatewayId,
        /// Whether it was handed to the box's connection, so that it may have been done.
        reached: bool,
    },
    /// The cloud's half of a session or bypass ended by itself.
    Over {
        /// Its name.
        session: CommandId,
        /// Which box.
        gateway: GatewayId,
        /// Who said "this is real"; none when its time had passed without the box's word.
        by: Option<PersonId>,
    },
}

impl Turn {
    /// The word in the journal's header.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Given { .. } => "command.given",
            Self::Answered { .. } => "command.answered",
            Self::Expired { .. } => "command.expired",
            Self::Over { .. } => "session.over",
        }
    }

    /// Whether a header's word is one of ours.
    #[must_use]
    pub fn is_kind(word: &str) -> bool {
        word.starts_with("command.") || word.starts_with("session.")
    }

    /// The command, or the one that began the session.
    #[must_use]
    pub const fn command(&self) -> CommandId {
        match self {
            Self::Given { command, .. }
            | Self::Answered { command, .. }
            | Self::Expired { command, .. } => *command,
            Self::Over { session, .. } => *session,
        }
    }

    /// The point it is about.
    #[must_use]
    pub const fn point(&self) -> Option<&PointKey> {
        match self {
            Self::Given { act, .. } => point_of(act),
            Self::Answered { source, .. } => source.as_ref(),
            Self::Expired { .. } | Self::Over { .. } => None,
        }
    }

    /// The record's digest, if the entry chains one.
    #[must_use]
    pub const fn record(&self) -> Option<Sha256> {
        match self {
            Self::Answered { record, .. } => *record,
            Self::Given { .. } | Self::Expired { .. } | Self::Over { .. } => None,
        }
    }

    /// The persons it names (D9).
    #[must_use]
    pub fn persons(&self) -> Vec<PersonId> {
        match self {
            Self::Given { by, act, .. } => {
                let other = match act {
                    Act::TestBegin(test) => test.partner,
                    Act::Bypass(bypass) => bypass.second,
                    Act::Acknowledge { .. }
                    | Act::Reset { .. }
                    | Act::TestEnd { .. }
                    | Act::Expected { .. }
                    | Act::EndBypass { .. }
                    | Act::Release { .. } => None,
                };
                std::iter::once(*by).chain(other).collect()
            }
            Self::Answered { by, .. } => vec![*by],
            Self::Over { by, .. } => by.iter().copied().collect(),
            Self::Expired { .. } => Vec::new(),
        }
    }
}
