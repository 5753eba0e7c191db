//! How a receiver is spoken to: the one place that knows which protocols there are.
//!
//! Owns the [`Connector`] trait, the choice of a connector from a receiver's settings, and the words
//! for the state of a path. Never decides whether, when or how often something is told.

pub mod dc09;

use std::sync::Arc;
use std::time::Duration;

use ambient::{Clock, Entropy};
use domain::id::ReceiverId;
use domain::time::Timestamp;
use futures_util::future::BoxFuture;

use super::{Claimed, NotSent, Order, Outcome, Target, Targets};

/// A way to one receiver.
///
/// A message is made by [`Connector::frame`] and committed before [`Connector::send`] lets its first
/// byte leave, so that a retry after a crash sends the same bytes.
pub trait Connector: Send + Sync {
    /// The bytes that tell `order` under `number`, stamped with `at`. Empty when it cannot be told in
    /// this protocol; such bytes are never sent.
    fn frame(&self, order: &Order, number: u16, at: Timestamp) -> Vec<u8>;

    /// Sends the committed bytes and waits for the receiver's word. Ends within
    /// [`Connector::longest_send`].
    fn send<'a>(&'a self, claimed: &'a Claimed) -> BoxFuture<'a, Outcome>;

    /// After this long a [`Connector::send`] has ended.
    fn longest_send(&self) -> Duration;

    /// Which addresses the receiver has.
    fn targets(&self) -> Targets;

    /// How the receiver's paths are.
    fn paths(&self) -> Paths;
}

/// The paths to one receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paths {
    /// To its first address.
    pub primary: PathState,
    /// To its second, if it has one.
    pub backup: Option<PathState>,
}

/// What is known of one path, from polls and messages alike. A change of variant moves `since`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathState {
    /// Nothing came back yet since this process first tried.
    Unproven {
        /// Since when it is tried.
        since: Timestamp,
    },
    /// The receiver answers.
    Up {
        /// Since when.
        since: Timestamp,
        /// When it last did.
        last_reply_at: Timestamp,
    },
    /// The receiver answers, but did not take the last message: it may not know the account.
    Refusing {
        /// Since when.
        since: Timestamp,
        /// When it last answered.
        last_reply_at: Timestamp,
    },
    /// No connection, or no answer to the last message.
    Silent {
        /// Since when.
        since: Timestamp,
        /// When it last answered, if it ever did.
        last_reply_at: Option<Timestamp>,
    },
    /// The receiver's settings cannot be used; nothing can be sent.
    Unusable {
        /// Since when.
        since: Timestamp,
    },
}

impl PathState {
    /// Whether an order sent now would likely arrive.
    #[must_use]
    pub const fn is_up(self) -> bool {
        match self {
            Self::Up { .. } => true,
            Self::Unproven { .. }
            | Self::Refusing { .. }
            | Self::Silent { .. }
            | Self::Unusable { .. } => false,
        }
    }

    /// Whether the last message got no answer.
    #[must_use]
    pub const fn is_silent(self) -> bool {
        match self {
            Self::Silent { .. } => true,
            Self::Unproven { .. }
            | Self::Up { .. }
            | Self::Refusing { .. }
            | Self::Unusable { .. } => false,
        }
    }
}

/// A receiver as it stands in the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Described {
    /// Which.
    pub receiver: ReceiverId,
    /// The protocol's name.
    pub protocol: String,
    /// The protocol's own settings, as JSON.
    pub settings: String,
    /// An account it keeps, under which its paths are supervised.
    pub account: String,
}

/// Why a receiver's description cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No connector speaks it.
    #[error("unknown protocol {0:?}; known: dc09")]
    Protocol(String),
    /// The settings are no JSON of the right shape.
    #[error("settings: {0}")]
    Shape(#[from] serde_json::Error),
    /// A value is not what its field asks for.
    #[error("settings: {field} must be {wanted}")]
    Value {
        /// Which field.
        field: &'static str,
        /// What it asks for.
        wanted: &'static str,
    },
}

/// Opens the way to a receiver and keeps it open until dropped. Must run inside the runtime.
///
/// # Errors
/// When the description cannot be used; [`unusable`] then stands in, so that what is due for the
/// receiver still ends loudly.
pub fn open(
    described: &Described,
    clock: &Clock,
    entropy: &Entropy,
) -> Result<Arc<dyn Connector>, SettingsError> {
    match described.protocol.as_str() {
        "dc09" => Ok(Arc::new(dc09::Dc09::open(described, clock, entropy)?)),
        other => Err(SettingsError::Protocol(other.to_owned())),
    }
}

/// Stands in for a receiver whose settings cannot be used: nothing is ever sent.
#[must_use]
pub fn unusable(since: Timestamp) -> Arc<dyn Connector> {
    Arc::new(Unusable { since })
}

struct Unusable {
    since: Timestamp,
}

impl Connector for Unusable {
    fn frame(&self, _: &Order, _: u16, _: Timestamp) -> Vec<u8> {
        Vec::new()
    }

    fn send<'a>(&'a self, _: &'a Claimed) -> BoxFuture<'a, Outcome> {
        Box::pin(std::future::ready(Outcome::NotSent {
            why: NotSent::Unsendable,
        }))
    }

    fn longest_send(&self) -> Duration {
        Duration::ZERO
    }

    fn targets(&self) -> Targets {
        Targets::PrimaryOnly
    }

    fn paths(&self) -> Paths {
        Paths {
            primary: PathState::Unusable { since: self.since },
            backup: None,
        }
    }
}
