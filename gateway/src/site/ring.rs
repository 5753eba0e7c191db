//! A point rings: its alarm moves, the centre hears of it, and in fire the doors go free.
//!
//! Owns what an activation demands. Whether something is one is `point`'s; what devices are told is `effect`'s.

use domain::alarm::{self, Input, Outcome};
use domain::event::Detail;
use domain::id::{EventId, PointKey};
use domain::kind::{Hazard, Kind, Severity};

use super::Site;
use super::local::{self, Action};
use super::point::nature;
use super::state::Rang;
use super::step::Step;

impl Site {
    /// Moves the point's alarm and demands what a ring demands. Each edge and each press is a fact
    /// of its own, so each rings.
    pub(super) fn ring(
        &mut self,
        step: &mut Step<'_>,
        point: &PointKey,
        kind: Kind,
        severity: Severity,
        event: Option<EventId>,
        is_moment: bool,
    ) {
        let known = self.points.entry(point.clone()).or_default();
        let nature = nature(step, point, is_moment);
        let input = Input::Raise { more_severe: true };
        let (condition, outcome) = alarm::step(known.condition, nature, input, step.now.wall);
        known.condition = condition;
        step.points.insert(point.clone());
        if let (Outcome::Rings, Some(event)) = (outcome, event) {
            let actions = local::on_ring(step.book, point, kind, severity, event);
            self.rang(step, point, kind, event, &actions);
            step.actions.extend(actions);
        }
    }

    /// Remembers what a point rings for, and frees the doors in fire.
    fn rang(
        &mut self,
        step: &mut Step<'_>,
        point: &PointKey,
        kind: Kind,
        event: EventId,
        actions: &[Action],
    ) {
        let known = self.points.entry(point.clone()).or_default();
        let before = known.rang;
        let wants = |of: fn(&Action) -> bool| actions.iter().any(of);
        self.effects.changed();
        known.rang = kind.hazard().map(|hazard| Rang {
            event,
            // A fire that is followed by something lesser stays a fire until it is reset.
            hazard: match before {
                Some(rang) if rang.hazard == Hazard::Fire => Hazard::Fire,
                Some(_) | None => hazard,
            },
            sounds: wants(|a| matches!(a, Action::Siren(_))) || before.is_some_and(|b| b.sounds),
            lights: wants(|a| matches!(a, Action::Lamp(_))) || before.is_some_and(|b| b.lights),
        });
        for action in actions {
            match action {
                Action::Release { door, because } => {
                    let detail = Detail::Released {
                        because: Some(*because),
                        asked: None,
                    };
                    self.release(step, door, detail);
                }
                Action::Siren(_) | Action::Lamp(_) => {}
            }
        }
    }
}
