//! What became of one message, told to whoever sets devices up.
//!
//! Owns the judgement of whether its body may be shown. Never holds a body that was not redacted.

use domain::event::Unread;
use domain::id::PointKey;

use crate::adapter::{Message, Says, Signal, is_secret};

/// Digits in a row that may be a PIN.
const PIN_DIGITS: usize = 4;

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// What.
    pub became: Became,
    /// What may be shown of its body.
    pub body: Body,
    /// The enrolled point it is about, where one is known.
    pub point: Option<PointKey>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// Read. Without an event it said nothing new.
    Read,
    /// A broker's copy of an old message: moments in it are past.
    Retained,
    /// The device's own number says that it was taken before.
    Repeat,
    /// A known family's topic that never carries evidence.
    NoEvidence,
    /// Nobody enrolled what speaks there.
    NotEnrolled,
    /// Enrolled in an ecosystem that no adapter speaks.
    NoAdapter,
    /// No family's topic and no enrolment's.
    Foreign,
}

impl Became {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Retained => "retained",
            Self::Repeat => "repeat",
            Self::NoEvidence => "no_evidence",
            Self::NotEnrolled => "not_enrolled",
            Self::NoAdapter => "no_adapter",
            Self::Foreign => "foreign",
        }
    }
}

/// What may be shown of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// All of it.
    AsItCame,
    /// This, without its secrets.
    Redacted(Vec<u8>),
    /// Nothing but size and digest.
    Hidden(Hidden),
}

/// Why a body is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// Nobody knows what it may hold: its topic is not an enrolled device's.
    Unknown,
    /// It could not be read.
    Unreadable(Unread),
    /// It is a secret, or may hold one.
    Secret,
}

impl Account {
    /// Of a message whose topic is nobody's.
    #[must_use]
    pub const fn unknown(became: Became, point: Option<PointKey>) -> Self {
        Self {
            became,
            body: Body::Hidden(Hidden::Unknown),
            point,
        }
    }

    /// Of a message that an adapter read.
    #[must_use]
    pub fn of(message: &Message, signal: &Signal<'_>) -> Self {
        // Of those proven alive the device itself comes last, behind its bridge.
        let point = message.readings.first().map(|reading| &reading.point);
        let point = point.or(message.alive.last());
        Self {
            became: if signal.retained {
                Became::Retained
            } else {
                Became::Read
            },
            body: body(message, signal),
            point: point.cloned(),
        }
    }
}

fn body(message: &Message, signal: &Signal<'_>) -> Body {
    let mut unread = message
        .readings
        .iter()
        .filter_map(|reading| match &reading.says {
            Says::Unread { why, key } => Some((*why, key.is_none())),
            Says::Level { .. } | Says::Moment { .. } | Says::Access { .. } | Says::Echo { .. } => {
                None
            }
        });
    let first = unread.next();
    let whole = first
        .filter(|(_, whole)| *whole)
        .or(unread.find(|(_, whole)| *whole));
    if let Some((why, _)) = whole {
        return Body::Hidden(Hidden::Unreadable(why));
    }
    let last_level = signal.topic.rsplit('/').next().unwrap_or_default();
    let names_a_credential = message.readings.iter().any(|reading| match &reading.says {
        Says::Access { credential, .. } => credential.is_some(),
        Says::Level { .. } | Says::Moment { .. } | Says::Echo { .. } | Says::Unread { .. } => false,
    });
    let shown = message.redacted.as_deref().unwrap_or(signal.payload);
    let is_secret = is_secret(last_level)
        || (names_a_credential && message.redacted.is_none())
        || message.redacted.as_ref().is_some_and(Vec::is_empty)
        || (first.is_some() && may_hold_a_pin(shown));
    if is_secret {
        Body::Hidden(Hidden::Secret)
    } else if message.readings.is_empty() {
        Body::Hidden(Hidden::Unknown)
    } else {
        match &message.redacted {
            Some(clean) => Body::Redacted(clean.clone()),
            None => Body::AsItCame,
        }
    }
}

/// A word nobody knows may be what somebody typed at a keypad.
fn may_hold_a_pin(body: &[u8]) -> bool {
    body.windows(PIN_DIGITS)
        .any(|run| run.iter().all(u8::is_ascii_digit))
}
