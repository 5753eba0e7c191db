//! Commands of named people (D6): each is done at most once, and each is answered by a fact.
//!
//! Owns what a person may change of points, sessions and doors, and the reasons against it. Knows nothing of
//! who may give which command: that was judged where it was given.

use std::time::Duration;

use domain::alarm::{self, Condition, Input, Outcome, Refusal};
use domain::command::{Act, Bypass, Command, DRILL_MARK, Ended, Heard, Test, Unfit, may_bypass};
use domain::config::Role;
use domain::event::Detail;
use domain::id::{CommandId, EventId, PointKey};
use domain::kind::{Hazard, Kind, Severity};

use super::level::Level;
use super::point::{is_peoples, nature};
use super::service::{Absence, What};
use super::step::{Draft, Step};
use super::timed::Timer;
use super::{Chance, Decision, Now, Site};
use crate::adapter::Wish;

/// A command on the box's own clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// What is asked.
    pub command: Command,
    /// Monotonic time after which it is not done any more.
    pub good_until: Duration,
}

impl Site {
    /// Does what is asked, unless it was done before. Whatever becomes of it is told by an event that carries
    /// the command's id.
    pub fn ask(&mut self, asked: &Asked, now: &Now, chance: Chance<'_>) -> Decision {
        let book = std::sync::Arc::clone(&self.book);
        let mut step = Step::new(&book, now, chance);
        let command = &asked.command;
        let name = *command.id.0.as_bytes();
        if self.seen.has(&name) {
            return self.finish(step);
        }
        self.seen.take(name, now.wall);
        step.seen = Some((name, now.wall));
        let outcome = if now.monotonic > asked.good_until {
            Err(Unfit::Expired)
        } else {
            command.check().and_then(|()| self.act(&mut step, command))
        };
        if let Err(why) = outcome {
            let detail = Detail::Unfit {
                command: command.id,
                by: command.by,
                why,
            };
            let draft = Draft::raised(Kind::CommandRefused).with(detail);
            step.mint(point_of(&command.act), draft, &mut self.order);
        }
        self.finish(step)
    }

    fn act(&mut self, step: &mut Step<'_>, command: &Command) -> Result<(), Unfit> {
        match &command.act {
            Act::Acknowledge { point, activation } => {
                self.look(step, point, *activation, Input::Acknowledge)?;
                self.tell_act(step, command, point, Kind::AlarmAcknowledged);
                Ok(())
            }
            Act::Reset {
                point,
                activation,
                looked,
            } => {
                self.look(step, point, *activation, Input::Reset { looked: *looked })?;
                self.tell_act(step, command, point, Kind::AlarmReset);
                Ok(())
            }
            Act::TestBegin(test) => self.begin_test(step, command, test),
            Act::TestEnd { session } => {
                self.in_test(*session)?;
                let why = Ended::Person(command.by);
                self.end_absence(step, *session, why, Some(command.id));
                Ok(())
            }
            Act::Expected { session, point } => self.expected(step, command, *session, point),
            Act::Bypass(bypass) => self.bypass(step, command, bypass),
            Act::EndBypass { point } => {
                enrolled(step, point)?;
                let session = self.service.bypass_of(point).ok_or(Unfit::InService)?;
                let why = Ended::Person(command.by);
                self.end_absence(step, session, why, Some(command.id));
                Ok(())
            }
            Act::Release { door } => self.release_asked(step, command, door),
        }
    }

    /// Moves a point's alarm for a person who looked at it.
    fn look(
        &mut self,
        step: &mut Step<'_>,
        point: &PointKey,
        activation: Option<EventId>,
        input: Input,
    ) -> Result<(), Unfit> {
        // One in alarm that a Config has taken away rings on, and must not ring for ever.
        if !self.points.contains_key(point) {
            enrolled(step, point)?;
        }
        let nature = nature(step, point, false);
        let known = self.points.entry(point.clone()).or_default();
        let newest = known.rang.map(|rang| rang.event);
        if activation.is_some() && newest.is_some() && activation != newest {
            return Err(Unfit::NewerAlarm);
        }
        if known.condition == Condition::Normal {
            return Err(Unfit::Normal);
        }
        let (condition, outcome) = alarm::step(known.condition, nature, input, step.now.wall);
        if let Outcome::Refused(refusal) = outcome {
            return Err(match refusal {
                Refusal::Normal => Unfit::Normal,
                Refusal::StillThere => Unfit::StillThere,
                Refusal::AcknowledgeFirst => Unfit::AcknowledgeFirst,
            });
        }
        known.condition = condition;
        step.points.insert(point.clone());
        self.effects.changed();
        if let Some(rang) = &mut known.rang {
            rang.sounds = false;
        }
        if condition == Condition::Normal {
            known.rang = None;
            // A level that never cleared becomes unknown, so that its next active value raises again.
            let is_alarm = |kind: &Kind| kind.hazard().is_some_and(is_peoples);
            let stuck: Vec<Kind> = known.levels.keys().copied().filter(is_alarm).collect();
            for kind in stuck {
                known.levels.remove(&kind);
                self.service.let_go(point, kind);
            }
            self.service.over(point);
        }
        Ok(())
    }

    fn tell_act(&mut self, step: &mut Step<'_>, command: &Command, point: &PointKey, kind: Kind) {
        let detail = Detail::Act {
            command: command.id,
            by: command.by,
        };
        let draft = Draft::raised(kind).with(detail);
        step.mint(Some(point), draft, &mut self.order);
    }

    fn begin_test(
        &mut self,
        step: &mut Step<'_>,
        command: &Command,
        test: &Test,
    ) -> Result<(), Unfit> {
        if let domain::command::Scope::Points(points) = &test.scope {
            for point in points {
                enrolled(step, point)?;
            }
        }
        let detail = Detail::TestBegun {
            command: command.id,
            by: command.by,
            test: test.clone(),
        };
        let draft = Draft::raised(Kind::TestBegun).with(detail);
        step.mint(None, draft, &mut self.order);
        self.begin_absence(step, command, What::Test(test.clone()));
        Ok(())
    }

    fn bypass(
        &mut self,
        step: &mut Step<'_>,
        command: &Command,
        bypass: &Bypass,
    ) -> Result<(), Unfit> {
        if !may_bypass(enrolled(step, &bypass.point)?) {
            return Err(Unfit::NeverBypassed);
        }
        // A second one takes the place of the first, which is thereby over.
        if let Some(first) = self.service.bypass_of(&bypass.point) {
            self.end_absence(step, first, Ended::Person(command.by), Some(command.id));
        }
        let detail = Detail::Bypassed {
            command: command.id,
            by: command.by,
            bypass: bypass.clone(),
        };
        let draft = Draft::raised(Kind::PointBypassed).with(detail);
        step.mint(Some(&bypass.point), draft, &mut self.order);
        self.begin_absence(step, command, What::Bypass(bypass.clone()));
        Ok(())
    }

    fn begin_absence(&mut self, step: &Step<'_>, command: &Command, what: What) {
        let absence = Absence {
            id: command.id,
            by: command.by,
            begun_at: step.now.wall,
            what,
            heard: Heard::default(),
            held: Vec::new(),
        };
        let until = step.now.monotonic + absence.span();
        self.timers.insert(Timer::Absence(absence.id), until);
        self.service.begin(absence);
    }

    /// Whatever it held back and is still there is told as new, and is real.
    pub(super) fn end_absence(
        &mut self,
        step: &mut Step<'_>,
        session: CommandId,
        why: Ended,
        command: Option<CommandId>,
    ) {
        let Some(absence) = self.service.end(session) else {
            return;
        };
        self.timers.remove(&Timer::Absence(session));
        let (kind, source) = match &absence.what {
            What::Test(_) => (Kind::TestEnded, None),
            What::Bypass(bypass) => (Kind::PointInService, Some(&bypass.point)),
        };
        let detail = Detail::Ended {
            session,
            why,
            command,
        };
        let draft = Draft::raised(kind).with(detail);
        step.mint(source, draft, &mut self.order);
        for (point, kind) in absence.held {
            self.timers
                .remove(&Timer::Mark(session, point.clone(), kind));
            self.tell_anew(step, &point, kind);
        }
    }

    /// Nobody said that this fire alarm is the drill's: it goes, whether or not it is still there.
    pub(super) fn unmarked(&mut self, step: &mut Step<'_>, point: &PointKey, kind: Kind) {
        let level = self.points.get(point).and_then(|p| p.levels.get(&kind));
        if level.is_some_and(Level::is_open) {
            self.tell_anew(step, point, kind);
        } else {
            self.raise(step, point, kind, kind.severity(), Detail::None, None);
            self.restore(step, point);
        }
    }

    /// A condition that was held back is real, if it is still there.
    pub(super) fn tell_anew(&mut self, step: &mut Step<'_>, point: &PointKey, kind: Kind) {
        let level = self.points.get(point).and_then(|p| p.levels.get(&kind));
        let severity = level.and_then(Level::open);
        if let Some(severity) = severity.filter(|severity| *severity != Severity::Test) {
            self.raise(step, point, kind, severity, Detail::None, None);
        }
    }

    /// Begins again what was in force before a restart, or ends it when the clock cannot say how much of it
    /// is left. Until this is called nothing of it is held back.
    pub(super) fn judge_absences(&mut self, step: &mut Step<'_>) {
        let trusted = step.now.clock_trust != domain::time::ClockTrust::Unset;
        for absence in self.service.take_unjudged() {
            let (id, left) = (absence.id, absence.left(step.now.wall, trusted));
            let held = absence.held.iter().filter(|_| absence.is_drill());
            for (point, kind) in held {
                // Whether it was marked is not kept: it is asked for once more.
                let mark = Timer::Mark(id, point.clone(), *kind);
                let until = step.now.monotonic + DRILL_MARK;
                self.timers.insert(mark, until);
            }
            self.service.begin(absence);
            match left {
                Some(left) => {
                    self.timers
                        .insert(Timer::Absence(id), step.now.monotonic + left);
                }
                None => self.end_absence(step, id, Ended::Restart, None),
            }
        }
    }

    /// A fire alarm of a drill waits for the leader's mark, and goes without it.
    pub(super) fn await_mark(
        &mut self,
        step: &Step<'_>,
        id: CommandId,
        point: &PointKey,
        kind: Kind,
    ) {
        let is_drill = self.service.get(id).is_some_and(Absence::is_drill);
        if is_drill && kind.hazard() == Some(Hazard::Fire) {
            let mark = Timer::Mark(id, point.clone(), kind);
            let until = step.now.monotonic + DRILL_MARK;
            self.timers.entry(mark).or_insert(until);
        }
    }

    fn expected(
        &mut self,
        step: &mut Step<'_>,
        command: &Command,
        session: CommandId,
        point: &PointKey,
    ) -> Result<(), Unfit> {
        self.in_test(session)?;
        let is_it =
            |timer: &Timer| matches!(timer, Timer::Mark(id, p, _) if *id == session && p == point);
        let waiting: Vec<Timer> = self.timers.keys().filter(|t| is_it(t)).cloned().collect();
        if waiting.is_empty() {
            return Err(Unfit::NothingExpected);
        }
        for timer in waiting {
            self.timers.remove(&timer);
        }
        self.tell_act(step, command, point, Kind::TestExpected);
        Ok(())
    }

    fn in_test(&self, session: CommandId) -> Result<(), Unfit> {
        let found = self.service.get(session).ok_or(Unfit::NoSession)?;
        match found.what {
            What::Test(_) => Ok(()),
            What::Bypass(_) => Err(Unfit::NoSession),
        }
    }

    fn release_asked(
        &mut self,
        step: &mut Step<'_>,
        command: &Command,
        door: &PointKey,
    ) -> Result<(), Unfit> {
        match enrolled(step, door)? {
            Role::Door | Role::Lock => {}
            Role::PanicButton
            | Role::Keypad
            | Role::Smoke
            | Role::Heat
            | Role::Gas
            | Role::Co
            | Role::ManualCallPoint
            | Role::Water
            | Role::Reader
            | Role::Motion
            | Role::Siren
            | Role::Lamp
            | Role::Bridge
            | Role::Panel
            | Role::Node => return Err(Unfit::NoDoor),
        }
        if !self.is_on_fire() {
            return Err(Unfit::NoFire);
        }
        let detail = Detail::Released {
            because: None,
            asked: Some((command.id, command.by)),
        };
        self.release(step, door, detail);
        Ok(())
    }

    /// Whether a fire alarm of any point is not reset yet.
    pub(super) fn is_on_fire(&self) -> bool {
        let burns = |rang: &super::state::Rang| rang.hazard == Hazard::Fire;
        self.points
            .values()
            .any(|point| point.rang.as_ref().is_some_and(burns))
    }

    /// Lets a door go, with the fact: once for each door and fire, and for each person who asks.
    pub(super) fn release(&mut self, step: &mut Step<'_>, door: &PointKey, detail: Detail) {
        let is_asked = matches!(detail, Detail::Released { asked: Some(_), .. });
        let known = self.points.entry(door.clone()).or_default();
        let is_first = !std::mem::replace(&mut known.released, true);
        step.points.insert(door.clone());
        if is_first || is_asked {
            let draft = Draft::raised(Kind::DoorReleased).with(detail);
            step.mint(Some(door), draft, &mut self.order);
        }
        self.wish(step, door, Wish::Release);
    }
}

fn enrolled(step: &Step<'_>, point: &PointKey) -> Result<Role, Unfit> {
    let enrolment = step.book.enrolment(point).ok_or(Unfit::UnknownPoint)?;
    Ok(enrolment.role)
}

const fn point_of(act: &Act) -> Option<&PointKey> {
    match act {
        Act::Acknowledge { point, .. }
        | Act::Reset { point, .. }
        | Act::Expected { point, .. }
        | Act::EndBypass { point }
        | Act::Release { door: point } => Some(point),
        Act::Bypass(bypass) => Some(&bypass.point),
        Act::TestBegin(_) | Act::TestEnd { .. } => None,
    }
}
