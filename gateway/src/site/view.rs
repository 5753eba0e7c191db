//! What the site knows, as a copy for whoever shows it: who is inside, what is in alarm, what is wrong.
//!
//! Changes nothing and decides nothing; whose eyes may see a part is for whoever shows it.

use std::sync::Arc;

use domain::alarm::Condition;
use domain::config::{Config, Enrolment};
use domain::id::{ChildId, PointKey};
use domain::kind::{Hazard, Kind, Severity};
use domain::presence::Presence;
use domain::time::Timestamp;

use super::{Now, Site};
use crate::adapter::Book;

/// What the site knew at one instant.
#[derive(Clone, Debug)]
pub struct View {
    /// When.
    pub at: Timestamp,
    /// Under which Config.
    pub config: Arc<Config>,
    /// Everyone a roll call must find.
    pub inside: Vec<(ChildId, Presence)>,
    /// Points in alarm, or in one that nobody has looked at or reset.
    pub alarms: Vec<Alarm>,
    /// Conditions that are no alarm of their own: silence, faults, batteries, tampering.
    pub troubles: Vec<Trouble>,
    /// When points were last heard in this run, whether supervised or not.
    pub heard: Vec<(PointKey, Timestamp)>,
}

/// A point in alarm.
#[derive(Clone, PartialEq, Debug)]
pub struct Alarm {
    /// Which.
    pub point: PointKey,
    /// How it stands.
    pub condition: Condition,
    /// The conditions that are there now, the worst first; none of a press.
    pub kinds: Vec<(Kind, Severity)>,
    /// A panic point that must not be seen by whoever stands beside the one who pressed it.
    pub silent: bool,
}

/// Something that is wrong at a point.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// Which.
    pub point: PointKey,
    /// What.
    pub kind: Kind,
    /// How bad.
    pub severity: Severity,
    /// Since when; none: since before this was kept.
    pub since: Option<Timestamp>,
}

/// Whether a point must call for help unseen.
#[must_use]
pub fn is_silent(enrolment: &Enrolment) -> bool {
    enrolment.options.get("silent") == Some(&true.into())
}

impl Site {
    /// The Config in the order in which it is asked.
    #[must_use]
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// A copy of what is known now.
    #[must_use]
    pub fn view(&self, now: &Now) -> View {
        let mut view = View {
            at: now.wall,
            config: self.book.shared(),
            inside: self.inside().map(|(child, p)| (child, p.clone())).collect(),
            alarms: Vec::new(),
            troubles: Vec::new(),
            heard: self
                .heard_at
                .iter()
                .map(|(p, at)| (p.clone(), *at))
                .collect(),
        };
        for (key, point) in &self.points {
            let enrolment = self.book.enrolment(key);
            let open = point.levels.iter().filter_map(|(kind, level)| {
                let severity = level.open().filter(|_| *kind != Kind::IngestUnmapped)?;
                Some((*kind, severity, level.since()))
            });
            let (alarms, troubles): (Vec<_>, Vec<_>) = open.partition(|(kind, ..)| is_alarm(*kind));
            let trouble = |(kind, severity, since)| Trouble {
                point: key.clone(),
                kind,
                severity,
                since,
            };
            let troubles = troubles.into_iter().filter(|(kind, ..)| is_trouble(*kind));
            view.troubles.extend(troubles.map(trouble));
            if point.condition != Condition::Normal {
                let mut kinds: Vec<_> = alarms.into_iter().map(|(k, s, _)| (k, s)).collect();
                kinds.sort_by_key(|(_, severity)| std::cmp::Reverse(*severity));
                // One that nobody enrols any more is shown to fewer rather than more.
                let silent = enrolment.is_none_or(is_silent)
                    && kinds.iter().all(|(k, _)| k.hazard() == Some(Hazard::Panic));
                view.alarms.push(Alarm {
                    point: key.clone(),
                    condition: point.condition,
                    kinds,
                    silent,
                });
            }
        }
        view
    }
}

impl View {
    /// What a point is, as enrolled.
    #[must_use]
    pub fn enrolment(&self, point: &PointKey) -> Option<&Enrolment> {
        let mut all = self.config.enrolments.iter();
        all.find(|e| e.device == point.device && e.point == point.point)
    }

    /// What people call the place of a point.
    #[must_use]
    pub fn zone_of(&self, point: &PointKey) -> Option<&str> {
        let zone = self.enrolment(point)?.zone.as_ref()?;
        let named = self.config.zones.iter().find(|z| z.id == *zone)?;
        Some(&named.name)
    }
}

fn is_alarm(kind: Kind) -> bool {
    let of_people = |h| {
        matches!(
            h,
            Hazard::Panic | Hazard::Fire | Hazard::Intrusion | Hazard::MissingChild
        )
    };
    kind.hazard().is_some_and(of_people)
}

/// What somebody must put right. Doors that stand open and locks that are unlocked are no trouble.
const fn is_trouble(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::DeviceTamper
            | Kind::DeviceBatteryLow
            | Kind::DeviceOffline
            | Kind::DeviceFault
            | Kind::BridgeOffline
            | Kind::DoorHeld
            | Kind::LockJammed
            | Kind::WaterLeakAlarm
    )
}
