//! What is out of full service at a centre: the cloud's half of test sessions and bypasses (D6, D7).
//!
//! Owns when an alarm may be kept from agencies because of one: only if the box stamped it, and the cloud
//! holds the same session or bypass in force, and that covers the point by the cloud's own book. Any
//! disagreement is live. Never keeps a call for help back, but in a walk test that names the button.

#[cfg(test)]
mod properties;
pub mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::command::{Bypass, Heard, Scope, Stamp, Test, TestKind, may_bypass};
use domain::config::Role;
use domain::id::{CommandId, GatewayId, PersonId, PointKey};
use domain::kind::{Hazard, Kind};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How long after its time a session may still lack the box's word of its end before the cloud acts by itself.
pub const GRACE: Duration = Duration::from_secs(10);

/// What is out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A test session.
    Test(Test),
    /// A point out of service.
    Bypass(Bypass),
}

impl What {
    /// How long it lasts from its begin.
    #[must_use]
    pub fn span(&self) -> Duration {
        match self {
            Self::Test(test) => test.span(),
            Self::Bypass(bypass) => bypass.span(),
        }
    }
}

/// A test session or bypass of one box.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Absence {
    /// The command that began it, and its name.
    pub id: CommandId,
    /// The box.
    pub gateway: GatewayId,
    /// Who gave that command.
    pub by: PersonId,
    /// What is out.
    pub what: What,
    /// Whether the cloud's half holds. One that does not is shown, and keeps nothing back.
    pub recognised: bool,
    /// When its begin was committed.
    pub begun_at: Timestamp,
    /// When the cloud's half ends by itself.
    pub until_at: Timestamp,
    /// What a test has heard so far.
    pub heard: Heard,
}

/// Why an alarm is kept from agencies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// Its test session.
    Test,
    /// Its bypass.
    Bypass,
}

impl Absence {
    /// Whether it keeps an activation back at that instant; a test remembers it if so.
    fn holds(
        &mut self,
        stamp: Stamp,
        point: &PointKey,
        role: Role,
        kind: Kind,
        now: Timestamp,
    ) -> Option<Held> {
        let hazard = kind.hazard().filter(|_| self.is_in_force(now))?;
        match (&self.what, stamp) {
            (What::Test(test), Stamp::Test(_)) => {
                let may = match hazard {
                    Hazard::Panic => is_walked(test, point),
                    // Whether the leader knows of it is only known at the box, which may be burning.
                    Hazard::Fire => test.kind != TestKind::Drill,
                    Hazard::Intrusion | Hazard::MissingChild | Hazard::Technical => true,
                };
                let takes = may && self.heard.takes(test, point, role, hazard);
                takes.then_some(Held::Test)
            }
            (What::Bypass(bypass), Stamp::Bypass(_)) => {
                let is_call = hazard == Hazard::Panic || kind == Kind::FireManualCallPointAlarm;
                let holds = bypass.point == *point && may_bypass(role) && !is_call;
                holds.then_some(Held::Bypass)
            }
            (What::Test(_), Stamp::Bypass(_)) | (What::Bypass(_), Stamp::Test(_)) => None,
        }
    }

    /// Whether the cloud's half holds at that instant.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.recognised && now < self.until_at
    }
}

/// Whether a walk test names the point.
fn is_walked(test: &Test, point: &PointKey) -> bool {
    let names = match &test.scope {
        Scope::Points(points) => points.contains(point),
        Scope::Centre => false,
    };
    names && test.kind == TestKind::Walk
}

/// What is out of full service at one box.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Service {
    absences: BTreeMap<CommandId, Absence>,
    /// Those that changed since they were read.
    touched: BTreeSet<CommandId>,
    /// Those that ended since they were read, and when.
    ended: BTreeMap<CommandId, Timestamp>,
}

impl Service {
    /// As the store has it.
    #[must_use]
    pub fn of(absences: impl IntoIterator<Item = Absence>) -> Self {
        let named = absences.into_iter().map(|absence| (absence.id, absence));
        Self {
            absences: named.collect(),
            ..Self::default()
        }
    }

    /// Begins one.
    pub fn begin(&mut self, absence: Absence) {
        if !self.ended.contains_key(&absence.id) {
            self.touched.insert(absence.id);
            self.absences.insert(absence.id, absence);
        }
    }

    /// Ends one; one that was never heard of stays over if its begin comes later.
    pub fn end(&mut self, id: CommandId, now: Timestamp) {
        self.absences.remove(&id);
        self.touched.remove(&id);
        self.ended.insert(id, now);
    }

    /// Whether an activation with that stamp is kept back, and by what.
    pub fn hold(
        &mut self,
        stamp: Stamp,
        point: &PointKey,
        role: Role,
        kind: Kind,
        now: Timestamp,
    ) -> Option<Held> {
        let (Stamp::Test(id) | Stamp::Bypass(id)) = stamp;
        let breaks = |absence: &Absence| match (&absence.what, kind.hazard()) {
            (What::Test(test), Some(hazard)) if absence.is_in_force(now) => {
                test.covers(point, role) && absence.heard.is_broken(point, hazard)
            }
            (What::Test(_) | What::Bypass(_), _) => false,
        };
        if matches!(stamp, Stamp::Test(_)) && self.absences.values().any(breaks) {
            return None;
        }
        let absence = self.absences.get_mut(&id)?;
        let held = absence.holds(stamp, point, role, kind, now);
        if held.is_some() {
            self.touched.insert(id);
        }
        held
    }

    /// The activation of a point is over; its next one is a second one, and real.
    pub fn over(&mut self, point: &PointKey) {
        for (id, absence) in &mut self.absences {
            if absence.heard.over(point) {
                self.touched.insert(*id);
            }
        }
    }

    /// Those to be written.
    pub fn changed(&self) -> impl Iterator<Item = &Absence> {
        self.touched.iter().filter_map(|id| self.absences.get(id))
    }

    /// Those that ended.
    pub fn ended(&self) -> impl Iterator<Item = (CommandId, Timestamp)> {
        self.ended.iter().map(|(id, at)| (*id, *at))
    }
}
