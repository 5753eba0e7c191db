//! An event: what a signal means. Immutable once made.
//!
//! Owns the shape of the fact. Never says what follows from it: that is for `alarm`, `presence` and
//! the cloud's incident engine.

use std::time::Duration;

use crate::command::{Bypass, Ended, Stamp, Test, Unfit};
use crate::digest::{CredentialDigest, Sha256};
use crate::id::{CentreId, ChildId, CommandId, EpochId, EventId, PersonId, PointKey, ZoneId};
use crate::kind::{Kind, Severity};
pub use crate::passage::{Holder, Passage};
use crate::time::{ClockTrust, Order, Timestamp};

/// Whether a condition began or ended. A momentary event (a press, a tap) is `Raised`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The condition began, or the moment happened.
    Raised,
    /// The condition ended.
    Cleared,
}

/// How the message reached the box.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Sent now.
    Live,
    /// Handed out by a broker from its retained store.
    Retained,
    /// From a store-and-forward feed, under its own time.
    Replayed,
}

/// One fact, as the box recorded it.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// Made at intake.
    pub id: EventId,
    /// The centre it happened in.
    pub centre: CentreId,
    /// The zone of the enrolment at intake.
    pub zone: Option<ZoneId>,
    /// The device and its input; none for facts about the box itself.
    pub source: Option<PointKey>,
    /// What happened.
    pub kind: Kind,
    /// Began or ended.
    pub state: State,
    /// How bad, before a person looked.
    pub severity: Severity,
    /// The device's own claim: evidence only (D5).
    pub occurred_at: Option<Timestamp>,
    /// The box's wall clock at intake.
    pub received_at: Timestamp,
    /// Hybrid logical time at the box (D5).
    pub order: Order,
    /// How far the box trusted its wall clock.
    pub clock_trust: ClockTrust,
    /// How the message came.
    pub origin: Origin,
    /// The device's own message id or counter, where it has one.
    pub vendor_id: Option<String>,
    /// An earlier activation of the same point this one belongs to: stored, no new ring (a second
    /// press within 2 s of a device without a counter).
    pub same_as: Option<EventId>,
    /// Why it need not call an agency by itself, as far as the box knows (D6).
    pub stamp: Option<Stamp>,
    /// The Config version it was mapped with (D2).
    pub config_version: u64,
    /// Digest of the signal it was read from, after redaction.
    pub signal: Option<Sha256>,
    /// What this kind carries beyond the common fields.
    pub detail: Detail,
}

/// What an event carries beyond the common fields.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Detail {
    /// Nothing more.
    None,
    /// A child came in or left (`presence.checked_in`, `presence.checked_out`).
    Movement {
        /// Who moved.
        child: ChildId,
        /// Who handed the child over, or took it.
        by: HandedBy,
        /// By what means.
        how: How,
    },
    /// A movement nobody can decide but a carer (`presence.pending`).
    Pending {
        /// The children it may concern; one for a child's own card at an exit.
        candidates: Vec<ChildId>,
        /// Whose card was read.
        holder: Holder,
        /// Which way the reader counts.
        passage: Passage,
    },
    /// A staff correction of an earlier movement (`presence.corrected`).
    Correction {
        /// The event put right.
        of: EventId,
        /// Whose presence.
        child: ChildId,
        /// What is true now.
        inside: bool,
        /// Who says so.
        by: PersonId,
    },
    /// A credential at a reader (`access.*`, `presence.unassigned`).
    Access {
        /// Keyed hash of the card or code, never the number itself.
        credential: Option<CredentialDigest>,
        /// Whose it is, when known.
        holder: Option<Holder>,
        /// Which way the reader counts.
        passage: Passage,
    },
    /// Input that could not be read or mapped (`ingest.*`).
    Unread {
        /// Why.
        why: Unread,
        /// Bytes received.
        size: u64,
    },
    /// First record of a lane in an epoch (`gateway.started`, D4).
    Started {
        /// The epoch before, if the box knows one.
        previous: Option<PreviousEpoch>,
        /// The kernel's boot id.
        boot: String,
    },
    /// A Config was taken or refused (`config.*`).
    Config {
        /// Its version.
        version: u64,
    },
    /// Several occurrences counted in one row (a chattering point, D3).
    Counted {
        /// How many.
        count: u64,
        /// From when.
        first_at: Timestamp,
        /// To when.
        last_at: Timestamp,
    },
    /// A person's act on the point (`alarm.acknowledged`, `alarm.reset`, `test.expected`).
    Act {
        /// The command.
        command: CommandId,
        /// Who gave it.
        by: PersonId,
    },
    /// A test session (`test.begun`); the command is its name.
    TestBegun {
        /// The command.
        command: CommandId,
        /// Who gave it.
        by: PersonId,
        /// What is tested.
        test: Test,
    },
    /// A point out of service (`point.bypassed`); the command is its name.
    Bypassed {
        /// The command.
        command: CommandId,
        /// Who gave it.
        by: PersonId,
        /// Which point, how long, why.
        bypass: Bypass,
    },
    /// The end of a session or bypass (`test.ended`, `point.in_service`).
    Ended {
        /// The command that began it.
        session: CommandId,
        /// Why it ended.
        why: Ended,
        /// The command that ended it, if one did.
        command: Option<CommandId>,
    },
    /// A door let go (`door.released`).
    Released {
        /// The fire, if the box did it by itself.
        because: Option<EventId>,
        /// The command and its giver, if a person asked.
        asked: Option<(CommandId, PersonId)>,
    },
    /// A command not done (`command.refused`).
    Unfit {
        /// The command.
        command: CommandId,
        /// Who gave it.
        by: PersonId,
        /// Why not.
        why: Unfit,
    },
    /// How long a device or bridge has been silent (`device.offline` by supervision).
    Silent {
        /// The interval it broke, in seconds.
        interval_s: u64,
    },
}

/// The last number of the epoch before, per lane (D4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct PreviousEpoch {
    /// Its id.
    pub epoch: EpochId,
    /// The last sequence number it used in this lane; 0 if none.
    pub last_seq: u64,
}

/// Who handed a child over or took it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "who", content = "id")]
pub enum HandedBy {
    /// Not recorded: a child's own card proves passage only (D8).
    Unknown,
    /// A named adult.
    Person(PersonId),
}

/// By what means a movement was recorded (D8).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// A card or fob at a reader.
    Card,
    /// A pick-up code.
    Code,
    /// A carer, by hand.
    Staff,
}

/// Why a message could not be turned into a plain event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unread {
    /// Not UTF-8.
    NotUtf8,
    /// Not the JSON the ecosystem speaks.
    NotJson,
    /// Nested deeper than the limit.
    TooDeep,
    /// Longer than the limit for its topic.
    TooLong,
    /// A field is missing.
    MissingField,
    /// A field has the wrong type or an impossible value.
    WrongType,
    /// A word outside the device's tables.
    UnknownWord,
    /// The kind does not fit the enrolled role.
    NotThisRole,
    /// No enrolment for this device or point.
    NotEnrolled,
    /// No adapter speaks this ecosystem.
    NoAdapter,
}

/// A second press of one point within this span, from a device without a counter, is the same
/// activation (architecture, section 5).
pub const SAME_PRESS: Duration = Duration::from_secs(2);
