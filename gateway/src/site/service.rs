//! Points that are on test or out of service (D6): what is withheld from agencies, for how long, and what
//! breaks through.
//!
//! Owns the sessions and bypasses in force and the stamp on an event. A stamp holds back nothing by itself:
//! the event is recorded, sounds and shows all the same, and the cloud withholds it only if it knows of the
//! same session. Never lets a panic through unsaid.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::command::{Bypass, Heard, Stamp, Test, TestKind};
use domain::config::Role;
use domain::id::{CommandId, PersonId, PointKey};
use domain::kind::Kind;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A test session or a bypass.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Absence {
    /// The command that began it, and its name.
    pub id: CommandId,
    /// Who gave it.
    pub by: PersonId,
    /// When it began, by the wall clock: only a restart asks.
    pub begun_at: Timestamp,
    /// What is out.
    pub what: What,
    /// What it has heard so far.
    #[serde(flatten)]
    pub heard: Heard,
    /// Conditions it holds back; at its end those still there are told anew.
    pub held: Vec<(PointKey, Kind)>,
}

/// What is out of full service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A test session.
    Test(Test),
    /// A point out of service.
    Bypass(Bypass),
}

impl Absence {
    /// How long it lasts from its begin.
    #[must_use]
    pub fn span(&self) -> Duration {
        match &self.what {
            What::Test(test) => test.span(),
            What::Bypass(bypass) => bypass.span(),
        }
    }

    /// How much of it is left after a restart, if the wall clock can say.
    #[must_use]
    pub fn left(&self, now: Timestamp, trusted: bool) -> Option<Duration> {
        let elapsed = (trusted && self.begun_at <= now).then(|| now.since(self.begun_at))?;
        let left = self.span().checked_sub(elapsed)?;
        (!left.is_zero()).then_some(left)
    }

    /// Whether an alarm of that point is one of a drill that waits for the leader's mark.
    #[must_use]
    pub fn is_drill(&self) -> bool {
        matches!(&self.what, What::Test(test) if test.kind == TestKind::Drill)
    }

    /// Whether an activation within a test is real because of what the test has heard.
    fn is_broken(&self, point: &PointKey, role: Role, kind: Kind) -> bool {
        match (&self.what, kind.hazard()) {
            (What::Test(test), Some(hazard)) => {
                test.covers(point, role) && self.heard.is_broken(point, hazard)
            }
            (What::Test(_) | What::Bypass(_), _) => false,
        }
    }

    fn takes(&mut self, point: &PointKey, role: Role, kind: Kind) -> Option<Stamp> {
        match &self.what {
            What::Bypass(bypass) => (bypass.point == *point).then_some(Stamp::Bypass(self.id)),
            What::Test(test) => {
                let takes = self.heard.takes(test, point, role, kind.hazard()?);
                takes.then_some(Stamp::Test(self.id))
            }
        }
    }
}

/// What is out of full service at the centre.
#[derive(Clone, Default)]
pub struct Service {
    absences: BTreeMap<CommandId, Absence>,
    /// From before a restart: nothing is held back until the time says how much of it is left.
    before: Vec<Absence>,
    /// Changed since the marks were last taken.
    touched: BTreeSet<CommandId>,
}

impl Service {
    /// One that was in force before a restart.
    pub fn restore(&mut self, absence: Absence) {
        self.before.push(absence);
    }

    /// Whether some from before a restart wait to be judged.
    #[must_use]
    pub fn has_unjudged(&self) -> bool {
        !self.before.is_empty()
    }

    /// Those from before a restart, to be begun again or ended.
    pub fn take_unjudged(&mut self) -> Vec<Absence> {
        std::mem::take(&mut self.before)
    }

    /// Begins one.
    pub fn begin(&mut self, absence: Absence) {
        self.touched.insert(absence.id);
        self.absences.insert(absence.id, absence);
    }

    /// Ends one.
    pub fn end(&mut self, id: CommandId) -> Option<Absence> {
        self.touched.insert(id);
        self.absences.remove(&id)
    }

    /// One in force.
    #[must_use]
    pub fn get(&self, id: CommandId) -> Option<&Absence> {
        self.absences.get(&id)
    }

    /// The bypass of a point.
    #[must_use]
    pub fn bypass_of(&self, point: &PointKey) -> Option<CommandId> {
        let is_it =
            |absence: &&Absence| matches!(&absence.what, What::Bypass(b) if b.point == *point);
        self.absences.values().find(is_it).map(|absence| absence.id)
    }

    /// Whether an activation is held back, and by what. A bypass comes before a test, and what breaks through
    /// one test is real in all.
    pub fn stamp(&mut self, point: &PointKey, role: Role, kind: Kind) -> Option<Stamp> {
        let bypass = self.bypass_of(point);
        let breaks = |absence: &Absence| absence.is_broken(point, role, kind);
        if bypass.is_none() && self.absences.values().any(breaks) {
            return None;
        }
        let first = bypass.into_iter().chain(self.absences.keys().copied());
        let order: Vec<CommandId> = first.collect();
        for id in order {
            let Some(absence) = self.absences.get_mut(&id) else {
                continue;
            };
            if let Some(stamp) = absence.takes(point, role, kind) {
                let condition = (point.clone(), kind);
                if !absence.held.contains(&condition) {
                    absence.held.push(condition);
                }
                self.touched.insert(id);
                return Some(stamp);
            }
        }
        None
    }

    /// A condition is not held back any more: it ended, or it is told anew.
    pub fn let_go(&mut self, point: &PointKey, kind: Kind) {
        for (id, absence) in &mut self.absences {
            let before = absence.held.len();
            absence.held.retain(|(held, k)| held != point || *k != kind);
            if absence.held.len() != before {
                self.touched.insert(*id);
            }
        }
    }

    /// The activation of a point is over; its next one is a second one.
    pub fn over(&mut self, point: &PointKey) {
        for (id, absence) in &mut self.absences {
            if absence.heard.over(point) {
                self.touched.insert(*id);
            }
        }
    }

    /// What must be written down, with what became of it.
    pub fn take_touched(&mut self) -> Vec<(CommandId, Option<&Absence>)> {
        let touched = std::mem::take(&mut self.touched);
        touched
            .into_iter()
            .map(|id| (id, self.absences.get(&id)))
            .collect()
    }
}
