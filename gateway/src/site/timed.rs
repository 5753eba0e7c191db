//! What the passing of time alone changes: silences, counted rows, the end of an excuse.
//!
//! Every deadline runs on monotonic time. A restart begins spans anew, which can only tell more or
//! later, never less.

use std::sync::Arc;
use std::time::Duration;

use domain::command::Ended;
use domain::event::Detail;
use domain::id::{CommandId, PointKey};
use domain::kind::Kind;
use domain::supervision::Change;

use super::burst::Speaker;
use super::level::{Edge, Level};
use super::point::{CHATTER, SILENCE};
use super::step::{Draft, Step};
use super::{CHATTER_WITHIN, Chance, Decision, Now, Site, TEST_FOR};

/// Something that is due at a time.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// A counted row of a chattering condition.
    Flush(PointKey, Kind),
    /// The end of chattering.
    Quiet(PointKey, Kind),
    /// The end of what a device's own test excuses.
    Test(PointKey),
    /// A counted row of unreadable input.
    Quota(Speaker),
    /// The end of a test session or bypass.
    Absence(CommandId),
    /// The end of the wait for a drill leader's mark.
    Mark(CommandId, PointKey, Kind),
    /// The end of the wait for a device to say that it did as told.
    Effect(PointKey),
}

impl Site {
    /// When [`Self::tick`] next has something to do, if nothing is delivered before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let at_once = self.damaged > 0 || self.service.has_unjudged() || self.effects.is_due();
        let at_once = at_once.then_some(Duration::ZERO);
        let timers = self.timers.values().min().copied();
        [at_once, timers, self.watch.next()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Everything that is due.
    pub fn tick(&mut self, now: &Now, chance: Chance<'_>) -> Decision {
        let book = Arc::clone(&self.book);
        let mut step = Step::new(&book, now, chance);
        self.tell_damage(&mut step);
        self.judge_absences(&mut step);
        for change in self.watch.poll(now.monotonic) {
            match change {
                Change::Silent(point, interval) => self.silent(&mut step, &point, interval),
                Change::Back(_) => {}
            }
        }
        let due: Vec<Timer> = self
            .timers
            .iter()
            .filter(|(_, at)| **at <= now.monotonic)
            .map(|(timer, _)| timer.clone())
            .collect();
        for timer in due {
            self.timers.remove(&timer);
            match timer {
                Timer::Flush(point, kind) => self.flush(&mut step, &point, kind),
                Timer::Quiet(point, kind) => self.quiet(&mut step, &point, kind),
                Timer::Test(point) => self.end_test(&mut step, &point),
                Timer::Quota(speaker) => self.flush_quota(&mut step, &speaker),
                Timer::Absence(id) => self.end_absence(&mut step, id, Ended::Expired, None),
                Timer::Mark(id, point, kind) => {
                    let stamped = self.service.get(id).is_some();
                    self.service.let_go(&point, kind);
                    if stamped {
                        self.unmarked(&mut step, &point, kind);
                    }
                }
                Timer::Effect(point) => self.no_effect(&mut step, &point),
            }
        }
        self.replays.retain(|_, until| *until > now.monotonic);
        self.finish(step)
    }

    /// Watches what the Config says must be heard.
    pub(super) fn supervise(&mut self, now: Duration) {
        let mut intervals = std::collections::BTreeMap::new();
        for enrolment in &self.book.config().enrolments {
            if let (Some(interval), Some(lead)) =
                (enrolment.interval(), self.book.lead(&enrolment.device))
            {
                let known = intervals.entry(lead.clone()).or_insert(interval);
                *known = interval.min(*known);
            }
        }
        self.watch.watch(intervals, now);
    }

    /// Timers of what the marks say was under way.
    pub(super) fn resume_timers(&mut self, now: Duration) {
        for (key, point) in &self.points {
            for kind in point.bursts.keys() {
                self.timers.insert(Timer::Flush(key.clone(), *kind), now);
            }
            let level = |kind: Kind| point.levels.get(&kind);
            if level(Kind::DeviceFault).is_some_and(|l| l.is_active(CHATTER)) {
                // Which condition chattered is not kept: the press stands for all.
                let quiet = Timer::Quiet(key.clone(), Kind::AlarmPressed);
                self.timers.insert(quiet, now + CHATTER_WITHIN);
            }
            if level(Kind::AlarmTest).is_some_and(Level::is_open) {
                self.timers.insert(Timer::Test(key.clone()), now + TEST_FOR);
            }
        }
    }

    /// A point or bridge was heard.
    pub(super) fn heard(&mut self, step: &mut Step<'_>, point: &PointKey) {
        if self.is_replay(step, point) {
            return;
        }
        let point = step.book.lead(&point.device).unwrap_or(point);
        match self.heard_at.get_mut(point) {
            Some(at) => *at = step.now.wall,
            None => {
                self.heard_at.insert(point.clone(), step.now.wall);
            }
        }
        self.watch.heard(point, step.now.monotonic);
        let kind = offline(step, point);
        let was_silent = self
            .points
            .get(point)
            .and_then(|p| p.levels.get(&kind))
            .is_some_and(|level| level.is_active(SILENCE));
        if was_silent {
            self.level(step, point, kind, SILENCE, None);
        }
    }

    fn silent(&mut self, step: &mut Step<'_>, point: &PointKey, interval: Duration) {
        let kind = offline(step, point);
        let detail = Detail::Silent {
            interval_s: interval.as_secs(),
        };
        self.level_with(step, point, kind, SILENCE, Some(kind.severity()), detail);
    }

    fn flush(&mut self, step: &mut Step<'_>, point: &PointKey, kind: Kind) {
        let known = self.points.entry(point.clone()).or_default();
        let Some(burst) = known.bursts.remove(&kind) else {
            return;
        };
        step.points.insert(point.clone());
        let draft = Draft {
            state: burst.state,
            severity: burst.severity,
            ..Draft::raised(burst.kind).with(burst.detail())
        };
        step.mint(Some(point), draft, &mut self.order);
    }

    fn quiet(&mut self, step: &mut Step<'_>, point: &PointKey, kind: Kind) {
        self.paces.remove(&(point.clone(), kind));
        let chatters = |timer: &Timer| matches!(timer, Timer::Quiet(other, _) if other == point);
        if !self.timers.keys().any(chatters) {
            self.level(step, point, Kind::DeviceFault, CHATTER, None);
        }
    }

    fn end_test(&mut self, step: &mut Step<'_>, point: &PointKey) {
        let Some(known) = self.points.get_mut(point) else {
            return;
        };
        let mut real = Vec::new();
        for (kind, level) in &mut known.levels {
            if *kind == Kind::AlarmTest {
                continue;
            }
            if let Some(Edge::Raised(severity)) = level.end_test(kind.severity()) {
                real.push((*kind, severity));
            }
        }
        for (kind, severity) in real {
            step.points.insert(point.clone());
            self.raised(step, point, kind, severity, Detail::None);
        }
    }

    fn flush_quota(&mut self, step: &mut Step<'_>, speaker: &Speaker) {
        let held = self.quotas.get_mut(speaker).and_then(|q| q.held.take());
        if let Some((source, burst)) = held {
            let draft = Draft::raised(burst.kind).with(burst.detail());
            step.mint(source.as_ref(), draft, &mut self.order);
        }
    }
}

fn offline(step: &Step<'_>, point: &PointKey) -> Kind {
    let is_bridge = step.book.bridges().iter().any(|b| b.point == *point);
    if is_bridge {
        Kind::BridgeOffline
    } else {
        Kind::DeviceOffline
    }
}
