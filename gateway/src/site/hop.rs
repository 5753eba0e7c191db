//! The hop before the box: brokers that it listens to, and devices whose messages nobody acknowledges.
//!
//! Owns what is told of a broker. Never guesses which devices stand behind it.

use std::sync::Arc;

use domain::config::Enrolment;
use domain::id::PointKey;
use domain::kind::Kind;

use super::step::Step;
use super::{Chance, Decision, Now, Site};
use crate::adapter::{self, Signal};

/// The key under which the line to another broker counts as being offline.
const LINE: &str = "line";
/// The key under which another broker that forgot the box is faulty.
const SESSION: &str = "session";

/// What is known of another broker that the box listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopStands {
    /// The line there has been down for too long.
    pub silent: Option<bool>,
    /// At the last log-in it had forgotten the box, so messages may be lost.
    pub forgot: Option<bool>,
}

impl Site {
    /// How another broker stands that the box listens to: away, or here and without what it kept for us.
    /// What is not known yet changes nothing.
    pub fn hop(
        &mut self,
        point: &PointKey,
        stands: HopStands,
        now: &Now,
        chance: Chance<'_>,
    ) -> Decision {
        let book = Arc::clone(&self.book);
        let mut step = Step::new(&book, now, chance);
        self.tell_damage(&mut step);
        for (kind, key, is_so) in [
            (Kind::BridgeOffline, LINE, stands.silent),
            (Kind::DeviceFault, SESSION, stands.forgot),
        ] {
            if let Some(is_so) = is_so {
                let active = is_so.then(|| kind.severity());
                self.level(&mut step, point, kind, key, active);
            }
        }
        self.finish(step)
    }

    /// The enrolled points that a message says something about, one of each device.
    #[must_use]
    pub fn speakers(&self, signal: &Signal<'_>) -> Vec<&Enrolment> {
        let mut points = adapter::speakers(&self.book, signal);
        points.dedup_by(|one, other| one.device == other.device);
        let points = points.iter();
        points
            .filter_map(|point| self.book.enrolment(point))
            .collect()
    }
}
