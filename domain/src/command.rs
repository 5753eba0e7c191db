//! What a named person asks a box to do to its points and doors (D6), and what a box can answer.
//!
//! Owns the acts, their limits and the reasons to refuse. A command goes down, its fact comes up as an
//! event with the command's id; only the fact changes anything on the cloud's side. Nothing here can
//! lock a door, silence a record, or bypass a panic button or a manual call point.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Role;
use crate::id::{CommandId, EventId, PersonId, PointKey};
use crate::kind::Hazard;
use crate::time::Timestamp;

/// Longest test session of points.
pub const TEST_POINTS_MAX: Duration = Duration::from_secs(60 * 60);
/// Longest test session of a whole centre.
pub const TEST_CENTRE_MAX: Duration = Duration::from_secs(4 * 60 * 60);
/// Longest bypass.
pub const BYPASS_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest bypass by one person alone.
pub const BYPASS_ALONE_MAX: Duration = Duration::from_secs(60 * 60);
/// Most points of one test session. A larger scope is the centre.
pub const TEST_POINTS: usize = 50;
/// Longest reason, in characters.
pub const REASON_MAX: usize = 200;
/// How long a fire alarm in a drill waits for the leader's mark before it counts as real.
pub const DRILL_MARK: Duration = Duration::from_secs(30);

/// One command. Doing it twice is doing it once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Command {
    /// Made by whoever gives it.
    pub id: CommandId,
    /// Who gives it.
    pub by: PersonId,
    /// Not to be done after this, by the giver's clock.
    pub expires_at: Timestamp,
    /// What is to be done.
    pub act: Act,
}

/// What can be asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Act {
    /// "I have looked at this alarm": its sounder may stop.
    Acknowledge {
        /// The point.
        point: PointKey,
        /// The activation that was looked at; with a newer one there is more to look at. None = whatever is there.
        activation: Option<EventId>,
    },
    /// Return a point to normal.
    Reset {
        /// The point.
        point: PointKey,
        /// As above.
        activation: Option<EventId>,
        /// The person looked at a device that never clears by itself; its next active value raises again.
        looked: bool,
    },
    /// Begin a test session: alarms of its scope are recorded, shown and sounded, and may be kept from agencies.
    TestBegin(Test),
    /// End a test session; whatever is still in alarm is real.
    TestEnd {
        /// The command that began it.
        session: CommandId,
    },
    /// The leader of a drill says that this fire alarm is the drill's.
    Expected {
        /// The drill.
        session: CommandId,
        /// The point in alarm.
        point: PointKey,
    },
    /// Take a point out of service.
    Bypass(Bypass),
    /// Put it back.
    EndBypass {
        /// The point.
        point: PointKey,
    },
    /// Let a door go free. Only while there is fire.
    Release {
        /// The door or lock.
        door: PointKey,
    },
}

/// A test session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Test {
    /// What is tested.
    pub scope: Scope,
    /// How.
    pub kind: TestKind,
    /// For how long, in minutes.
    pub minutes: u16,
    /// Why.
    pub reason: String,
    /// Who is there beside the one who gives the command.
    #[serde(default)]
    pub partner: Option<PersonId>,
}

/// What a test session covers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// These points.
    Points(BTreeSet<PointKey>),
    /// All points of the centre; never a panic button.
    Centre,
}

/// How it is tested.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestKind {
    /// Point after point; the only one that covers panic buttons, and only those it names.
    Walk,
    /// Work on the devices.
    Maintenance,
    /// People practise.
    Drill,
}

/// A point out of service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bypass {
    /// The point.
    pub point: PointKey,
    /// For how long, in minutes.
    pub minutes: u16,
    /// Why.
    pub reason: String,
    /// The second person, without whom it is an hour at most.
    #[serde(default)]
    pub second: Option<PersonId>,
}

/// Why an event of a point in alarm need not call an agency by itself: the box's half of a session that the
/// cloud must know too (D6). Any disagreement is live.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "command")]
pub enum Stamp {
    /// Within a test session.
    Test(CommandId),
    /// From a point out of service.
    Bypass(CommandId),
}

/// Why a session or bypass ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "by")]
pub enum Ended {
    /// A person ended it.
    Person(PersonId),
    /// Its time ran out.
    Expired,
    /// The box restarted and cannot tell how much of its time has passed.
    Restart,
}

/// Why a command was not done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Unfit {
    /// It came too late.
    #[error("it came too late")]
    Expired,
    /// No such point is enrolled at this box.
    #[error("no such point is enrolled at this box")]
    UnknownPoint,
    /// The point is normal.
    #[error("the point is normal")]
    Normal,
    /// There has been another alarm since.
    #[error("there has been another alarm since; look at that one")]
    NewerAlarm,
    /// Acknowledge comes before reset.
    #[error("acknowledge it first")]
    AcknowledgeFirst,
    /// The condition is still there.
    #[error("the condition is still there; clear it, or reset it as one who looked")]
    StillThere,
    /// No such session, or none any more.
    #[error("no such session, or none any more")]
    NoSession,
    /// The mark is for drills, and for a fire alarm that waits for it.
    #[error("no fire alarm of a drill waits for a mark there")]
    NothingExpected,
    /// The point is in service.
    #[error("the point is in service")]
    InService,
    /// Panic buttons, keypads, panels and manual call points are never out of service.
    #[error("panic buttons, keypads, panels and manual call points are never out of service")]
    NeverBypassed,
    /// Doors are released in fire only.
    #[error("doors are released in fire only")]
    NoFire,
    /// The point is no door or lock.
    #[error("it is no door or lock")]
    NoDoor,
    /// Its span is zero or too long.
    #[error("its span is zero or longer than allowed")]
    BadSpan,
    /// It needs a second person, another than the first.
    #[error("more than an hour needs a second person, another than the first")]
    SecondPerson,
    /// No reason, or too long a one.
    #[error("a reason of 1 to 200 characters is needed")]
    BadReason,
    /// No points, or too many.
    #[error("a test names 1 to 50 points, or the centre")]
    BadScope,
}

impl Command {
    /// Judges what needs no knowledge of the centre.
    ///
    /// # Errors
    /// The first reason against it.
    pub fn check(&self) -> Result<(), Unfit> {
        match &self.act {
            Act::TestBegin(test) => test.check(),
            Act::Bypass(bypass) => bypass.check(self.by),
            Act::Acknowledge { .. }
            | Act::Reset { .. }
            | Act::TestEnd { .. }
            | Act::Expected { .. }
            | Act::EndBypass { .. }
            | Act::Release { .. } => Ok(()),
        }
    }
}

impl Test {
    fn check(&self) -> Result<(), Unfit> {
        let longest = match &self.scope {
            Scope::Points(points) if points.is_empty() || points.len() > TEST_POINTS => {
                return Err(Unfit::BadScope);
            }
            Scope::Points(_) => TEST_POINTS_MAX,
            Scope::Centre => TEST_CENTRE_MAX,
        };
        check_span(self.minutes, longest)?;
        check_reason(&self.reason)
    }

    /// How long it lasts.
    #[must_use]
    pub fn span(&self) -> Duration {
        minutes(self.minutes)
    }

    /// Whether an alarm of this point is covered by its place and role. A panic button is only when a walk
    /// test names it.
    #[must_use]
    pub fn covers(&self, point: &PointKey, role: Role) -> bool {
        match &self.scope {
            Scope::Points(points) => {
                points.contains(point) && (self.kind == TestKind::Walk || !calls_for_help(role))
            }
            Scope::Centre => !calls_for_help(role),
        }
    }
}

/// What a test session has heard so far: what breaks through it follows from that.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Heard {
    /// Points that rang in it, and whether that activation is over: a second one is real.
    pub rang: Vec<(PointKey, bool)>,
    /// The hazard of its first alarm: another one is real.
    pub hazard: Option<Hazard>,
}

impl Heard {
    /// Whether the session takes an activation for its own, and remembers it if so. Box and cloud ask alike.
    pub fn takes(&mut self, test: &Test, point: &PointKey, role: Role, hazard: Hazard) -> bool {
        if !test.covers(point, role) || self.is_broken(point, hazard) {
            return false;
        }
        self.hazard = Some(hazard);
        if !self.rang.iter().any(|(rang, _)| rang == point) {
            self.rang.push((point.clone(), false));
        }
        true
    }

    /// Whether what the session has heard makes this activation real: the point's second one, or another hazard.
    /// It is then real for every session, or two that overlap would hide what each alone lets through.
    #[must_use]
    pub fn is_broken(&self, point: &PointKey, hazard: Hazard) -> bool {
        let is_other = self.hazard.is_some_and(|first| first != hazard);
        is_other || self.rang.iter().any(|(rang, over)| rang == point && *over)
    }

    /// The activation of a point is over; says whether one was going on.
    pub fn over(&mut self, point: &PointKey) -> bool {
        let is_it = |(rang, over): &&mut (PointKey, bool)| rang == point && !*over;
        match self.rang.iter_mut().find(is_it) {
            Some((_, over)) => {
                *over = true;
                true
            }
            None => false,
        }
    }
}

impl Bypass {
    fn check(&self, by: PersonId) -> Result<(), Unfit> {
        check_span(self.minutes, BYPASS_MAX)?;
        check_reason(&self.reason)?;
        let alone = self.second.is_none_or(|second| second == by);
        if alone && self.span() > BYPASS_ALONE_MAX {
            return Err(Unfit::SecondPerson);
        }
        Ok(())
    }

    /// How long it lasts.
    #[must_use]
    pub fn span(&self) -> Duration {
        minutes(self.minutes)
    }
}

fn check_span(given: u16, longest: Duration) -> Result<(), Unfit> {
    if given == 0 || minutes(given) > longest {
        return Err(Unfit::BadSpan);
    }
    Ok(())
}

fn check_reason(reason: &str) -> Result<(), Unfit> {
    let is_said = !reason.trim().is_empty();
    if is_said && reason.chars().count() <= REASON_MAX {
        Ok(())
    } else {
        Err(Unfit::BadReason)
    }
}

fn minutes(count: u16) -> Duration {
    Duration::from_secs(u64::from(count) * 60)
}

/// Whether a person asks for help with a point of this role.
const fn calls_for_help(role: Role) -> bool {
    match role {
        Role::PanicButton | Role::Keypad | Role::Panel => true,
        Role::Smoke
        | Role::Heat
        | Role::Gas
        | Role::Co
        | Role::ManualCallPoint
        | Role::Water
        | Role::Door
        | Role::Lock
        | Role::Reader
        | Role::Motion
        | Role::Siren
        | Role::Lamp
        | Role::Bridge
        | Role::Node => false,
    }
}

/// Whether a point of this role may be taken out of service (D6: never panic or call points; a panel speaks
/// for both).
#[must_use]
pub const fn may_bypass(role: Role) -> bool {
    !calls_for_help(role) && !matches!(role, Role::ManualCallPoint)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const ONE: PersonId = PersonId(Uuid::from_u128(1));
    const TWO: PersonId = PersonId(Uuid::from_u128(2));

    fn point(device: &str) -> PointKey {
        PointKey {
            device: device.parse().unwrap(),
            point: "x".parse().unwrap(),
        }
    }

    fn verdict(act: Act) -> Result<(), Unfit> {
        let command = Command {
            id: CommandId(Uuid::from_u128(9)),
            by: ONE,
            expires_at: Timestamp::from_micros(0),
            act,
        };
        command.check()
    }

    fn test(scope: Scope, minutes: u16) -> Test {
        Test {
            scope,
            kind: TestKind::Maintenance,
            minutes,
            reason: "yearly".into(),
            partner: None,
        }
    }

    fn bypass(minutes: u16, second: Option<PersonId>) -> Act {
        Act::Bypass(Bypass {
            point: point("smoke"),
            minutes,
            reason: "painting".into(),
            second,
        })
    }

    #[test]
    fn no_session_is_longer_than_its_scope_allows() {
        let one = || Scope::Points([point("a")].into());
        let begin = |scope, minutes| verdict(Act::TestBegin(test(scope, minutes)));
        assert_eq!(begin(one(), 60), Ok(()));
        assert_eq!(begin(one(), 61), Err(Unfit::BadSpan));
        assert_eq!(begin(one(), 0), Err(Unfit::BadSpan));
        assert_eq!(begin(Scope::Centre, 240), Ok(()));
        assert_eq!(begin(Scope::Centre, 241), Err(Unfit::BadSpan));
        assert_eq!(begin(Scope::Points([].into()), 5), Err(Unfit::BadScope));
        let many = (0..=TEST_POINTS).map(|n| point(&n.to_string())).collect();
        assert_eq!(begin(Scope::Points(many), 5), Err(Unfit::BadScope));
        let mut silent = test(Scope::Centre, 5);
        silent.reason = "  ".into();
        assert_eq!(verdict(Act::TestBegin(silent)), Err(Unfit::BadReason));
    }

    #[test]
    fn a_long_bypass_takes_two_people() {
        assert_eq!(verdict(bypass(60, None)), Ok(()));
        assert_eq!(verdict(bypass(61, None)), Err(Unfit::SecondPerson));
        assert_eq!(verdict(bypass(61, Some(ONE))), Err(Unfit::SecondPerson));
        assert_eq!(verdict(bypass(1_440, Some(TWO))), Ok(()));
        assert_eq!(verdict(bypass(1_441, Some(TWO))), Err(Unfit::BadSpan));
    }

    #[test]
    fn a_panic_button_is_tested_only_by_a_walk_that_names_it() {
        let named = || Scope::Points([point("btn")].into());
        let with = |kind, scope| Test {
            kind,
            ..test(scope, 5)
        };
        let covers = |test: Test| test.covers(&point("btn"), Role::PanicButton);
        assert!(covers(with(TestKind::Walk, named())));
        assert!(!covers(with(TestKind::Drill, named())));
        assert!(!covers(with(TestKind::Walk, Scope::Centre)));
        assert!(with(TestKind::Drill, Scope::Centre).covers(&point("s"), Role::Smoke));
    }

    #[test]
    fn an_act_reads_back_from_the_wire() {
        for act in [bypass(5, Some(TWO)), Act::TestBegin(test(Scope::Centre, 5))] {
            let text = serde_json::to_string(&act).unwrap();
            assert_eq!(serde_json::from_str::<Act>(&text).unwrap(), act, "{text}");
        }
    }
}
