//! One record as it came: its bytes, and what can be read of them. Never refuses (D4).

use ambient::{Entropy, NoEntropy};
use domain::digest::Sha256;
use domain::event::{Detail, Event};
use domain::id::{CentreId, EventId, PointKey};
use domain::time::{Age, Timestamp};
use domain::wire::{EventV1, Record, Says, Tombstone, Unreadable, read_body};

use crate::column::storable;

/// A record on its way into the store.
#[derive(Clone, PartialEq, Debug)]
pub struct Arrived {
    /// Its number.
    pub seq: u64,
    /// The last number it stands for.
    pub to_seq: u64,
    /// How old it was when it was sent.
    pub age: Age,
    /// Its bytes.
    pub body: Vec<u8>,
    /// Chance that hides a short body behind its digest (D9).
    pub salt: [u8; 32],
    /// What it says.
    pub reading: Reading,
}

/// What can be read of a body.
#[derive(Clone, PartialEq, Debug)]
pub enum Reading {
    /// An event of this centre.
    Event(Box<Event>),
    /// Stands in the place of rows that will never come.
    Tombstone(Tombstone),
    /// A kind, version or shape this program does not know.
    Unknown(Traces),
    /// An event of another centre than the certificate's: never applied to either.
    Foreign(Traces),
}

/// What is still to be seen of a body that is not understood.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Traces {
    /// The event's id.
    pub event: Option<EventId>,
    /// The word of its kind.
    pub kind: Option<String>,
    /// Its point.
    pub source: Option<PointKey>,
    /// By the box's clock.
    pub received_at: Option<Timestamp>,
}

impl Arrived {
    /// Reads a record of a box of `centre`.
    ///
    /// # Errors
    /// When there is no randomness for the salt.
    pub fn read(record: &Record, centre: CentreId, entropy: &Entropy) -> Result<Self, NoEntropy> {
        let reading = match read_body(&record.body) {
            Ok(Says::Event(event)) => read_event(*event, centre),
            Ok(Says::Tombstone(tombstone)) => Reading::Tombstone(tombstone),
            Err(
                Unreadable::Json(_) | Unreadable::UnknownVersion(_) | Unreadable::UnknownKind(_),
            ) => Reading::Unknown(Traces::default()),
        };
        let to_seq = match &reading {
            // Only what stands for others may claim more than its own number.
            Reading::Event(_) | Reading::Foreign(_) => record.seq,
            Reading::Tombstone(_) | Reading::Unknown(_) => record.last_seq(),
        };
        Ok(Self {
            seq: record.seq,
            to_seq,
            age: record.age,
            body: record.body.get().as_bytes().to_vec(),
            salt: entropy.bytes()?,
            reading,
        })
    }

    /// The digest that the journal chains.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        Sha256::of(&[&self.salt, &self.body])
    }

    /// The event, if it is one of this centre.
    #[must_use]
    pub fn event(&self) -> Option<&Event> {
        match &self.reading {
            Reading::Event(event) => Some(event),
            Reading::Tombstone(_) | Reading::Unknown(_) | Reading::Foreign(_) => None,
        }
    }

    /// What stands in the row's searchable columns.
    #[must_use]
    pub fn traces(&self) -> Traces {
        match &self.reading {
            Reading::Event(event) => Traces {
                event: Some(event.id),
                kind: Some(event.kind.as_str().to_owned()),
                source: event.source.clone(),
                received_at: Some(event.received_at),
            },
            Reading::Tombstone(tombstone) => Traces {
                kind: Some(TOMBSTONE.to_owned()),
                received_at: tombstone.first_at,
                ..Traces::default()
            },
            Reading::Unknown(traces) | Reading::Foreign(traces) => traces.clone(),
        }
    }

    /// The Config version the box says it runs now.
    #[must_use]
    pub fn config_applied(&self) -> Option<u64> {
        let event = self.event()?;
        match (event.kind, &event.detail) {
            (domain::kind::Kind::ConfigApplied, Detail::Config { version }) => Some(*version),
            _ => None,
        }
    }
}

/// The kind word of a tombstone's row.
pub const TOMBSTONE: &str = "tombstone";

fn read_event(event: EventV1, centre: CentreId) -> Reading {
    let traces = Traces {
        event: Some(event.id),
        kind: Some(storable(&event.kind)),
        source: event.source.clone(),
        received_at: Some(event.received_at),
    };
    if event.centre != centre {
        return Reading::Foreign(traces);
    }
    match event.into_event() {
        Ok(event) => Reading::Event(Box::new(event)),
        Err(_) => Reading::Unknown(traces),
    }
}
