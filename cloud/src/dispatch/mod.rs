//! Who outside is told of a case, in which words, and how far each telling got.
//!
//! Owns the vocabulary between the engine and the connectors. Never speaks a protocol (that is
//! `connector`) and never writes a case (that is the engine).

pub mod connector;
pub mod job;
pub mod plan;
pub mod store;

use std::fmt;
use std::str::FromStr;

use domain::id::{CentreId, DispatchId, IncidentId, ReceiverId};
use domain::kind::{Hazard, Kind, UnknownWord};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// The word in the store and on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    other => Err(UnknownWord(other.to_owned())),
                }
            }
        }
    )+};
}

words! {
    /// Whose receiver it is.
    Agency {
        /// The police.
        Police = "police",
        /// The fire service.
        Fire = "fire",
        /// A monitoring centre.
        Monitoring = "monitoring",
    }
    /// What a request says.
    Purpose {
        /// Come.
        Order = "order",
        /// More is known: another point, or the same point again.
        Update = "update",
        /// Do not come: closed as not real.
        Cancel = "cancel",
    }
    /// Which address of a receiver.
    Target {
        /// The first.
        Primary = "primary",
        /// The second.
        Backup = "backup",
    }
}

impl Target {
    /// The address to try after this one failed.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Primary => Self::Backup,
            Self::Backup => Self::Primary,
        }
    }
}

/// Which addresses a receiver has; told by the dispatcher, which reads the receiver's settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Targets {
    /// One address.
    PrimaryOnly,
    /// Two; a job alternates between them while it is unanswered.
    WithBackup,
}

/// What is to be told to one receiver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// The request; the same through all attempts.
    pub dispatch: DispatchId,
    /// The case.
    pub incident: IncidentId,
    /// To whom.
    pub receiver: ReceiverId,
    /// Whose receiver that is.
    pub agency: Agency,
    /// What is asked.
    pub purpose: Purpose,
    /// Of which hazard.
    pub hazard: Hazard,
    /// The protected site.
    pub centre: CentreId,
    /// The site's account at the receiver: 3 to 16 hex digits (SIA DC-09).
    pub account: String,
    /// The zone number a receiver sees, 1 to 999; 0 when the point is not enrolled.
    pub point_number: u16,
    /// What happened, for the receiver's code table.
    pub kind: Kind,
    /// When it happened, by the cloud's clock less the age the box claimed.
    pub occurred_at: Timestamp,
    /// An earlier attempt may have arrived.
    pub possible_repeat: bool,
}

/// A job in hand: the number and bytes are committed already, the lease runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claimed {
    /// What it says.
    pub order: Order,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Sequence number, 1 to 9999, the same through all attempts.
    pub number: u16,
    /// The bytes to send, unchanged.
    pub frame: Vec<u8>,
    /// Where to send them.
    pub target: Target,
}

/// Makes a frame's bytes from an order, its number and the time it shall carry. Asked only for the
/// first attempt and after a NAK; a plain retry sends the stored bytes again.
pub type Framer = dyn Fn(&Order, u16, Timestamp) -> Vec<u8> + Send + Sync;

/// How an attempt ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The receiver's machine took the bytes.
    Received {
        /// Its reply as read.
        reply: Vec<u8>,
    },
    /// The bytes left and nothing that counts came back: they may have arrived.
    Unanswered,
    /// The receiver refused the frame's time; it may be sent again with a fresh one.
    Nak {
        /// The receiver's clock less ours, in microseconds; 0 if it did not say.
        clock_offset_micros: i64,
    },
    /// The receiver will not take it; the same bytes again would not help.
    Refused {
        /// In which words.
        why: RefusedBy,
    },
    /// Nothing left this machine, so nothing can have arrived.
    NotSent {
        /// What stood in the way.
        why: NotSent,
    },
}

/// Why a receiver will not take an order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedBy {
    /// DC-09 DUH: intact, but it cannot process it.
    Duh,
    /// DC-09 NAK again, though the time was fresh and corrected by its own clock.
    NakAgain,
    /// A NAK without a frame: it does not know the account.
    UnknownAccount,
    /// Nobody was asked: our own settings for it make no frame or name no address, and trying again
    /// would not help.
    OurSettings,
}

/// Why nothing left this machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotSent {
    /// No connection could be made.
    NoConnection,
    /// The stored bytes or settings cannot be sent at all.
    Unsendable,
}
