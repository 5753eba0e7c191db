//! What box and cloud say to each other, versioned.
//!
//! JSON text frames over one mutually authenticated WebSocket. Fields are added, never re-meant;
//! readers take every version ever shipped (D9). Owns the wire structs and their conversion to
//! domain types; the format is published in `docs/wire.md`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::command::{Command, Stamp};
use crate::digest::Sha256;
use crate::event::{Detail, Event, Origin, State};
use crate::id::{CentreId, EpochId, EventId, GatewayId, PointKey, ZoneId};
use crate::kind::{Kind, Lane, Severity};
use crate::time::{Age, ClockTrust, Order, Timestamp};

/// The wire version this program writes.
pub const WIRE_V: u32 = 1;
/// Every wire version this program reads.
pub const WIRE_READS: &[u32] = &[1];
/// Most records in one batch. A larger one is refused as a broken frame.
pub const BATCH_MAX: usize = 500;
/// Longest frame, in bytes. A longer one ends the connection.
pub const FRAME_MAX: usize = 1024 * 1024;

/// From the box to the cloud.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Up {
    /// The first frame.
    Hello(Hello),
    /// Records of one lane and epoch.
    Batch(Batch),
}

/// From the cloud to the box.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Down {
    /// Answer to [`Hello`]: the version spoken, and what is already held.
    Welcome(Welcome),
    /// What is durably the cloud's now.
    Receipt(Receipt),
    /// A new Config, signed.
    Config(SignedConfig),
    /// Something to be done at the centre (D6); repeated until its fact has come up or it has expired.
    Command(SentCommand),
    /// The cloud ends the conversation and says why.
    Refused {
        /// Why.
        why: Refused,
    },
}

/// Who connects and what it speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Wire versions the box reads, best last.
    pub speaks: Vec<u32>,
    /// The box; must be the one its certificate names.
    pub gateway: GatewayId,
    /// The epoch of this start.
    pub epoch: EpochId,
    /// Every epoch it still holds unreceipted records of.
    pub draining: Vec<EpochId>,
    /// The Config version it runs; 0 = none.
    pub config_version: u64,
    /// Its program version, for people.
    pub program: String,
}

/// The cloud's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version spoken on this connection.
    pub v: u32,
    /// What is held of the epochs named in the hello.
    pub receipts: Vec<Receipt>,
}

/// Why the cloud ends a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// No wire version in common.
    #[error("no wire version in common")]
    UnknownVersion,
    /// The certificate names another box.
    #[error("the certificate belongs to another box")]
    NotThisGateway,
    /// The key was revoked.
    #[error("the key is revoked")]
    KeyRevoked,
    /// The frame cannot be read at all.
    #[error("the frame cannot be read")]
    BrokenFrame,
    /// The cloud cannot store at the moment; try again later.
    #[error("the cloud cannot store at the moment")]
    Unavailable,
}

/// Durably mine now, machine to machine (D4): everything up to `through_seq`, and the ranges beyond.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The epoch.
    pub epoch: EpochId,
    /// The lane.
    pub lane: Lane,
    /// Every number from 1 to this is held; 0 = none.
    pub through_seq: u64,
    /// Inclusive ranges held beyond a hole, ascending.
    #[serde(default)]
    pub ranges: Vec<(u64, u64)>,
}

/// Records of one lane and epoch, in ascending order.
#[derive(Debug, Serialize, Deserialize)]
pub struct Batch {
    /// The epoch.
    pub epoch: EpochId,
    /// The lane.
    pub lane: Lane,
    /// The records.
    pub records: Vec<Record>,
}

/// One numbered row of a lane.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Its number in (gateway, epoch, lane), from 1.
    pub seq: u64,
    /// The last number it stands for; absent = `seq` (a tombstone covers a range).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_seq: Option<u64>,
    /// How old it is at this sending.
    pub age: Age,
    /// The bytes as stored at intake, a [`BodyV1`].
    pub body: Box<RawValue>,
}

impl Record {
    /// The last number the record stands for.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.to_seq.unwrap_or(self.seq)
    }
}

/// A command on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentCommand {
    /// How long it is still good for at this sending, in milliseconds: the box counts on its own clock.
    pub lives_ms: u64,
    /// What is to be done.
    pub command: Command,
}

/// A Config document with the signature over its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedConfig {
    /// The suite of the signature.
    pub suite: String,
    /// The document, exactly as signed.
    pub document: String,
    /// Ed25519 over the document's bytes, base64.
    pub signature: String,
}

/// What a stored record says. `v` is the version of the body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BodyV1 {
    /// Body version.
    pub v: u32,
    /// An event, or a tombstone in the place of some.
    #[serde(flatten)]
    pub says: Says,
}

/// The two things a record can say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Says {
    /// Something happened.
    Event(Box<EventV1>),
    /// Records that will never come (D4).
    Tombstone(Tombstone),
}

/// Stands in a lane for rows that will never come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// First number it stands for.
    pub seq_from: u64,
    /// Last number it stands for.
    pub seq_to: u64,
    /// Why they are gone.
    pub cause: Cause,
    /// How many rows.
    pub count: u64,
    /// When the first was received, if known.
    pub first_at: Option<Timestamp>,
    /// When the last was received, if known.
    pub last_at: Option<Timestamp>,
}

/// Why rows are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Left out on purpose at a limit.
    Shed,
    /// Lost to damage.
    Damaged,
}

/// An event on the wire, version 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventV1 {
    /// See [`Event::id`].
    pub id: EventId,
    /// See [`Event::centre`].
    pub centre: CentreId,
    /// See [`Event::zone`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneId>,
    /// See [`Event::source`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<PointKey>,
    /// The word of the kind; one this program does not know is kept, not refused.
    pub kind: String,
    /// See [`Event::state`].
    pub state: State,
    /// See [`Event::severity`].
    pub severity: Severity,
    /// See [`Event::occurred_at`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Timestamp>,
    /// See [`Event::received_at`].
    pub received_at: Timestamp,
    /// See [`Event::order`].
    pub order: Order,
    /// See [`Event::clock_trust`].
    pub clock_trust: ClockTrust,
    /// See [`Event::origin`].
    pub origin: Origin,
    /// See [`Event::vendor_id`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor_id: Option<String>,
    /// See [`Event::same_as`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<EventId>,
    /// See [`Event::stamp`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
    /// See [`Event::config_version`].
    pub config_version: u64,
    /// See [`Event::signal`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Sha256>,
    /// See [`Event::detail`].
    #[serde(default = "no_detail", skip_serializing_if = "is_no_detail")]
    pub detail: Detail,
}

const fn no_detail() -> Detail {
    Detail::None
}

fn is_no_detail(detail: &Detail) -> bool {
    *detail == Detail::None
}

impl From<Event> for EventV1 {
    fn from(event: Event) -> Self {
        Self {
            id: event.id,
            centre: event.centre,
            zone: event.zone,
            source: event.source,
            kind: event.kind.as_str().to_owned(),
            state: event.state,
            severity: event.severity,
            occurred_at: event.occurred_at,
            received_at: event.received_at,
            order: event.order,
            clock_trust: event.clock_trust,
            origin: event.origin,
            vendor_id: event.vendor_id,
            same_as: event.same_as,
            stamp: event.stamp,
            config_version: event.config_version,
            signal: event.signal,
            detail: event.detail,
        }
    }
}

impl EventV1 {
    /// The domain event.
    ///
    /// # Errors
    /// When the kind is a word this program does not know.
    pub fn into_event(self) -> Result<Event, Unreadable> {
        let kind: Kind = self
            .kind
            .parse()
            .map_err(|_| Unreadable::UnknownKind(self.kind.clone()))?;
        Ok(Event {
            id: self.id,
            centre: self.centre,
            zone: self.zone,
            source: self.source,
            kind,
            state: self.state,
            severity: self.severity,
            occurred_at: self.occurred_at,
            received_at: self.received_at,
            order: self.order,
            clock_trust: self.clock_trust,
            origin: self.origin,
            vendor_id: self.vendor_id,
            same_as: self.same_as,
            stamp: self.stamp,
            config_version: self.config_version,
            signal: self.signal,
            detail: self.detail,
        })
    }
}

/// Why a stored body cannot be understood. It is kept whole and receipted all the same (D4).
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Not the JSON of any version.
    #[error("body cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// A version this program does not know.
    #[error("unknown body version {0}")]
    UnknownVersion(u32),
    /// A kind this program does not know.
    #[error("unknown kind {0:?}")]
    UnknownKind(String),
}

/// The bytes of an event as they rest in the outbox and travel.
///
/// # Errors
/// Never in practice: every field has a JSON form.
pub fn write_event(event: Event) -> Result<Box<RawValue>, serde_json::Error> {
    write_body(Says::Event(Box::new(event.into())))
}

/// The bytes of a tombstone.
///
/// # Errors
/// Never in practice: every field has a JSON form.
pub fn write_tombstone(tombstone: Tombstone) -> Result<Box<RawValue>, serde_json::Error> {
    write_body(Says::Tombstone(tombstone))
}

fn write_body(says: Says) -> Result<Box<RawValue>, serde_json::Error> {
    serde_json::value::to_raw_value(&BodyV1 { v: WIRE_V, says })
}

/// What a body says, read from any version ever shipped.
///
/// # Errors
/// Names why it cannot be understood; the caller stores it whole.
pub fn read_body(body: &RawValue) -> Result<Says, Unreadable> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let Version { v } = serde_json::from_str(body.get())?;
    match v {
        1 => Ok(serde_json::from_str::<BodyV1>(body.get())?.says),
        other => Err(Unreadable::UnknownVersion(other)),
    }
}

/// The newest version both sides read.
#[must_use]
pub fn common_version(theirs: &[u32]) -> Option<u32> {
    WIRE_READS
        .iter()
        .copied()
        .filter(|v| theirs.contains(v))
        .max()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn press() -> Event {
        Event {
            id: EventId::at(Timestamp::from_micros(1), [1; 10]),
            centre: CentreId::at(Timestamp::from_micros(2), [2; 10]),
            zone: Some("hall".parse().unwrap()),
            source: Some(PointKey {
                device: "btn".parse().unwrap(),
                point: "button".parse().unwrap(),
            }),
            kind: Kind::AlarmPressed,
            state: State::Raised,
            severity: Severity::Critical,
            occurred_at: None,
            received_at: Timestamp::from_micros(3),
            order: Order(3),
            clock_trust: ClockTrust::Synced { err_ms: 5 },
            origin: Origin::Live,
            vendor_id: Some("b-1".into()),
            same_as: None,
            stamp: None,
            config_version: 4,
            signal: None,
            detail: Detail::None,
        }
    }

    #[test]
    fn a_record_survives_the_wire_byte_for_byte() {
        let body = write_event(press()).unwrap();
        let up = Up::Batch(Batch {
            epoch: EpochId::at(Timestamp::from_micros(9), [9; 10]),
            lane: Lane::LifeSafety,
            records: vec![Record {
                seq: 1,
                to_seq: None,
                age: Age::Known(12),
                body: body.clone(),
            }],
        });
        let text = serde_json::to_string(&up).unwrap();
        let Up::Batch(batch) = serde_json::from_str(&text).unwrap() else {
            unreachable!("a batch was written")
        };
        assert_eq!(batch.records[0].body.get(), body.get());
        let Says::Event(event) = read_body(&batch.records[0].body).unwrap() else {
            unreachable!("an event was written")
        };
        assert_eq!(event.into_event().unwrap(), press());
    }

    #[test]
    fn what_is_unknown_says_so() {
        let newer = RawValue::from_string(r#"{"v":9,"event":{}}"#.into()).unwrap();
        assert!(matches!(
            read_body(&newer),
            Err(Unreadable::UnknownVersion(9))
        ));
        let garbage = RawValue::from_string("[1,2]".into()).unwrap();
        assert!(matches!(read_body(&garbage), Err(Unreadable::Json(_))));
        let mut odd = EventV1::from(press());
        odd.kind = "alarm.telepathy".into();
        assert!(matches!(odd.into_event(), Err(Unreadable::UnknownKind(_))));
        assert_eq!(common_version(&[1, 2]), Some(1));
        assert_eq!(common_version(&[2]), None);
    }
}
