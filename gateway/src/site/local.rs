//! What the box does by itself, without anybody's leave and without the internet.
//!
//! Owns the acts and the table from an alarm to them. There is no act that locks anything: in fire a
//! door can only be released, because nothing else can be said.

use domain::config::Enrolment;
use domain::id::{EventId, PointKey, ZoneId};
use domain::kind::{Hazard, Kind, Severity};

use super::view;
use crate::adapter::{Book, Wish, can_be_told};

/// One act at the centre.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Sound the siren.
    Siren(Ring),
    /// Light the lamp.
    Lamp(Ring),
    /// Let a door go free.
    Release {
        /// The door or lock.
        door: PointKey,
        /// The fire that demands it.
        because: EventId,
    },
}

/// Why something rings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ring {
    /// The point in alarm.
    pub point: PointKey,
    /// Where it is.
    pub zone: Option<ZoneId>,
    /// What threatens.
    pub hazard: Hazard,
    /// The event.
    pub event: EventId,
}

/// What a ringing activation demands. A test demands nothing; what only a retained message says
/// lights the lamp, as does anything less than critical; a silent point stays silent.
#[must_use]
pub fn on_ring(
    book: &Book,
    point: &PointKey,
    kind: Kind,
    severity: Severity,
    event: EventId,
) -> Vec<Action> {
    let Some(hazard) = kind.hazard() else {
        return Vec::new();
    };
    let enrolment = book.enrolment(point);
    if severity == Severity::Test || is_silent(enrolment, hazard) {
        return Vec::new();
    }
    let ring = Ring {
        point: point.clone(),
        zone: enrolment.and_then(|e| e.zone.clone()),
        hazard,
        event,
    };
    if severity != Severity::Critical {
        return vec![Action::Lamp(ring)];
    }
    let mut actions = vec![Action::Siren(ring.clone()), Action::Lamp(ring)];
    if hazard == Hazard::Fire {
        actions.extend(releases(book, event));
    }
    actions
}

/// Whether the installer wants no noise of this: a call for help that the intruder must not hear.
#[must_use]
pub fn is_silent(enrolment: Option<&Enrolment>, hazard: Hazard) -> bool {
    enrolment.is_some_and(view::is_silent) && hazard == Hazard::Panic
}

fn releases(book: &Book, because: EventId) -> impl Iterator<Item = Action> {
    book.config()
        .enrolments
        .iter()
        .filter(|e| can_be_told(e, Wish::Release))
        .map(move |e| Action::Release {
            door: e.key(),
            because,
        })
}
