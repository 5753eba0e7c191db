//! What of the site is durable, and how it is written down.
//!
//! Owns the keys and bodies of marks. A mark that cannot be read is dropped and counted: the box
//! must start, what was known there becomes unknown (so the next alarm value raises), and the loss
//! is told.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::alarm::Condition;
use domain::command::Stamp;
use domain::id::{ChildId, CommandId, EventId, PointKey};
use domain::kind::{Hazard, Kind};
use domain::presence::Presence;
use domain::time::{Order, Timestamp};
use serde::{Deserialize, Serialize};

use super::burst::Burst;
use super::level::Level;
use super::roll::Roll;
use super::seen::{Name, Seen};
use super::service::{Absence, Service};

/// Durable state that must be committed with the events, or not at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mark {
    /// One piece of state under its key.
    State {
        /// The key.
        key: String,
        /// JSON; none deletes the key.
        body: Option<String>,
    },
    /// A vendor's message id was taken. The store may forget it after 24 h.
    Seen {
        /// Its short name.
        vendor: [u8; 16],
        /// When.
        at: Timestamp,
    },
}

/// One point.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Point {
    /// Its conditions, by the kind that raises them.
    #[serde(default)]
    pub levels: BTreeMap<Kind, Level>,
    /// Its alarm.
    #[serde(default)]
    pub condition: Condition,
    /// Its last press that stood for itself.
    #[serde(default)]
    pub press: Option<Press>,
    /// What waits to be told in a counted row.
    #[serde(default)]
    pub bursts: BTreeMap<Kind, Burst>,
    /// What it last rang for, until it is normal again.
    #[serde(default)]
    pub rang: Option<Rang>,
    /// It is a door, and its release is on record for the fire there is.
    #[serde(default)]
    pub released: bool,
}

/// Why a point rings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rang {
    /// The newest activation.
    pub event: EventId,
    /// What threatens.
    pub hazard: Hazard,
    /// Sounders are wanted: it rang aloud, and nobody has looked yet.
    pub sounds: bool,
    /// Lamps are wanted.
    pub lights: bool,
}

/// A press that later ones within [`domain::event::SAME_PRESS`] belong to.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Press {
    /// Its event.
    pub event: EventId,
    /// What was asked for: a call under duress is never the same as a plain one.
    pub kind: Kind,
    /// Wall time.
    pub at: Timestamp,
    /// Monotonic time, if it was in this run.
    #[serde(skip)]
    pub monotonic: Option<Duration>,
    /// What held it back from agencies.
    #[serde(default)]
    pub stamp: Option<Stamp>,
}

/// Everything put back together.
#[derive(Default)]
pub struct Restored {
    /// Points by name.
    pub points: BTreeMap<PointKey, Point>,
    /// Children.
    pub roll: Roll,
    /// Vendor ids.
    pub seen: Seen,
    /// Test sessions and bypasses.
    pub service: Service,
    /// The last hybrid time used.
    pub order: Order,
    /// Marks that could not be read.
    pub damaged: u64,
}

const ORDER: &str = "order";

/// Puts the store's marks back together.
#[must_use]
pub fn restore(marks: impl IntoIterator<Item = Mark>) -> Restored {
    let mut restored = Restored::default();
    let mut seen: Vec<(Name, Timestamp)> = Vec::new();
    for mark in marks {
        match mark {
            Mark::Seen { vendor, at } => seen.push((vendor, at)),
            Mark::State { body: None, .. } => {}
            Mark::State {
                key,
                body: Some(body),
            } => {
                if restored.put(&key, &body).is_none() {
                    restored.damaged += 1;
                }
            }
        }
    }
    restored.seen = Seen::restore(seen);
    restored
}

impl Restored {
    fn put(&mut self, key: &str, body: &str) -> Option<()> {
        if key == ORDER {
            self.order = serde_json::from_str(body).ok()?;
        } else if let Some(name) = key.strip_prefix("point/") {
            let (device, point) = name.split_once('/')?;
            let key = PointKey {
                device: device.parse().ok()?,
                point: point.parse().ok()?,
            };
            self.points.insert(key, serde_json::from_str(body).ok()?);
        } else if key.starts_with("service/") {
            self.service.restore(serde_json::from_str(body).ok()?);
        } else {
            let child: ChildId = key.strip_prefix("child/")?.parse().ok()?;
            self.roll.restore(child, serde_json::from_str(body).ok()?);
        }
        Some(())
    }
}

/// The mark of a point.
#[must_use]
pub fn of_point(key: &PointKey, point: &Point) -> Mark {
    state(format!("point/{key}"), point)
}

/// The mark of a child.
#[must_use]
pub fn of_child(child: ChildId, presence: &Presence) -> Mark {
    state(format!("child/{child}"), presence)
}

/// The mark of a test session or bypass; none deletes it.
#[must_use]
pub fn of_absence(id: CommandId, absence: Option<&Absence>) -> Mark {
    let key = format!("service/{id}");
    match absence {
        Some(absence) => state(key, absence),
        None => Mark::State { key, body: None },
    }
}

/// The mark of the hybrid clock.
#[must_use]
pub fn of_order(order: Order) -> Mark {
    state(ORDER.to_owned(), &order)
}

fn state(key: String, body: &impl Serialize) -> Mark {
    // None of these types holds what JSON cannot, so the body is there; a missing one would make
    // the state unknown, which raises rather than hides.
    Mark::State {
        key,
        body: serde_json::to_string(body).ok(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_mark_is_counted_and_the_rest_stands() {
        let mark = |key: &str, body: &str| Mark::State {
            key: key.into(),
            body: Some(body.into()),
        };
        let restored = restore([
            mark("order", "41"),
            mark(
                "point/a/b",
                "{\"levels\":{\"fire.smoke.alarm\":{\"keys\":{\"smoke\":\"critical\"},\"open\":\"critical\"}}}",
            ),
            mark("point/a/c", "{{"),
            mark("nobody knows", "1"),
        ]);
        assert_eq!((restored.order, restored.damaged), (Order(41), 2));
        let point = restored.points.values().next().unwrap();
        assert!(point.levels[&Kind::FireSmokeAlarm].is_open());
    }

    #[test]
    fn a_point_reads_back_as_it_was() {
        let key: PointKey = serde_json::from_str("{\"device\":\"a\",\"point\":\"b\"}").unwrap();
        let mut point = Point::default();
        point.bursts.insert(
            Kind::AlarmPressed,
            Burst {
                count: 2,
                first_at: Timestamp::from_micros(1),
                last_at: Timestamp::from_micros(2),
                kind: Kind::AlarmPressed,
                state: domain::event::State::Raised,
                severity: domain::kind::Severity::Critical,
            },
        );
        let restored = restore([of_point(&key, &point)]);
        assert_eq!(restored.points[&key], point);
    }
}
