//! One point: its conditions, its presses, its alarm (R1 to R7, D3).

use std::time::Duration;

use domain::alarm::{self, Condition, Input, Nature};
use domain::command::Stamp;
use domain::event::{Detail, SAME_PRESS, State, Unread};
use domain::id::{EventId, PointKey};
use domain::kind::{Hazard, Kind, Severity};

use super::burst::{Burst, COUNTED_EVERY, Speaker};
use super::level::{Edge, Level, Said};
use super::state::Press;
use super::step::{Draft, Step};
use super::timed::Timer;
use super::{CHATTER_WITHIN, INFO, Site};
use crate::adapter::{AVAILABILITY, PAIRS};

/// How long a device's own test excuses its alarm. What is still there then is told as real, so a
/// test bit that never goes out hides no fire.
pub const TEST_FOR: Duration = Duration::from_secs(120);
/// How long after a bridge's start its messages may be its cache instead of the world: they raise,
/// but they clear no alarm (R7).
pub const REPLAY_FOR: Duration = Duration::from_secs(10);
/// The key under which a point is its own fault for speaking too often.
pub(super) const CHATTER: &str = "chatter";
/// The key under which silence counts as being offline.
pub(super) const SILENCE: &str = "silence";
/// The key under which a lost bridge counts as being offline.
const BEHIND: &str = "bridge";

impl Site {
    /// One key's statement about one condition.
    pub(super) fn level(
        &mut self,
        step: &mut Step<'_>,
        point: &PointKey,
        kind: Kind,
        key: &str,
        active: Option<Severity>,
    ) {
        self.level_with(step, point, kind, key, active, Detail::None);
    }

    /// The same, with what the event of an edge carries.
    pub(super) fn level_with(
        &mut self,
        step: &mut Step<'_>,
        point: &PointKey,
        kind: Kind,
        key: &str,
        active: Option<Severity>,
        detail: Detail,
    ) {
        // Being there or not is the device's, not one input's.
        let lead = step.book.lead(&point.device);
        let point = lead
            .filter(|_| kind == Kind::DeviceOffline)
            .unwrap_or(point);
        self.understood(step, point, key);
        // The silence of a sleeper means nothing before its interval has passed (R9).
        if kind == Kind::DeviceOffline && key == AVAILABILITY && sleeps(step, point) {
            return;
        }
        if kind == Kind::BridgeOffline && key == AVAILABILITY && !step.is_retained() {
            self.bridge_spoke(step, point, active.is_none());
        }
        let active = active.map(|severity| self.excused(step, point, kind, severity));
        if asks(kind) && self.is_replay(step, point) {
            let condition = (point.clone(), kind);
            if active.is_some() && !step.is_retained() {
                self.said_since.insert(condition);
            } else if active.is_none() && !self.said_since.contains(&condition) {
                return;
            }
        }
        let said = Said {
            key,
            active,
            retained: step.is_retained(),
            asks: asks(kind),
        };
        let level = self
            .points
            .entry(point.clone())
            .or_default()
            .levels
            .entry(kind)
            .or_default();
        if level.knows(said) {
            return;
        }
        let edge = level.say(said);
        if let Some(edge) = edge {
            level.note(edge, step.now.wall);
        }
        step.points.insert(point.clone());
        match edge {
            Some(Edge::Raised(severity)) => self.raised(step, point, kind, severity, detail),
            Some(Edge::Cleared) => self.cleared(step, point, kind),
            Some(Edge::Full) => {
                let speaker = Speaker::Device(point.device.clone());
                self.unread(step, speaker, Some(point), Unread::UnknownWord);
            }
            None => {}
        }
    }

    /// A condition began, or grew worse.
    pub(super) fn raised(
        &mut self,
        step: &mut Step<'_>,
        point: &PointKey,
        kind: Kind,
        severity: Severity,
        detail: Detail,
    ) {
        let stamp = self.stamp(step, point, kind, severity);
        self.raise(step, point, kind, severity, detail, stamp);
    }

    /// What holds an activation back from agencies, if anything does.
    fn stamp(
        &mut self,
        step: &Step<'_>,
        point: &PointKey,
        kind: Kind,
        severity: Severity,
    ) -> Option<Stamp> {
        let counts = severity != Severity::Test && kind.hazard().is_some_and(is_peoples);
        let role = step.book.enrolment(point).filter(|_| counts)?.role;
        let stamp = self.service.stamp(point, role, kind)?;
        if let Stamp::Test(id) = stamp {
            self.await_mark(step, id, point, kind);
        }
        Some(stamp)
    }

    /// The same, held back or not.
    pub(super) fn raise(
        &mut self,
        step: &mut Step<'_>,
        point: &PointKey,
        kind: Kind,
        severity: Severity,
        detail: Detail,
        stamp: Option<Stamp>,
    ) {
        if kind == Kind::AlarmTest && !self.is_excusing(point) {
            let until = step.now.monotonic + TEST_FOR;
            self.timers.insert(Timer::Test(point.clone()), until);
        }
        let draft = Draft {
            severity,
            stamp,
            ..Draft::raised(kind).with(detail)
        };
        let event = self.emit(step, point, kind, draft);
        if severity != Severity::Test && kind.hazard().is_some_and(is_peoples) {
            self.ring(step, point, kind, severity, event, false);
        }
        if kind == Kind::BridgeOffline {
            self.children_of(step, point, Some(Kind::DeviceOffline.severity()));
        }
    }

    /// A condition ended.
    fn cleared(&mut self, step: &mut Step<'_>, point: &PointKey, kind: Kind) {
        self.service.let_go(point, kind);
        if matches!(kind, Kind::LockUnlocked | Kind::DeviceOffline) {
            self.keep_free(step, &point.device);
        }
        let pair = PAIRS.iter().find(|(raising, _)| *raising == kind);
        let draft = Draft {
            severity: INFO,
            // A lock that locked is a fact of its own, not only the end of another.
            state: if kind == Kind::LockUnlocked {
                State::Raised
            } else {
                State::Cleared
            },
            ..Draft::raised(pair.map_or(kind, |(_, ending)| *ending))
        };
        self.emit(step, point, kind, draft);
        if kind.hazard().is_some_and(is_peoples) {
            self.restore(step, point);
        }
        if kind == Kind::BridgeOffline {
            self.children_of(step, point, None);
        }
    }

    /// The point's alarm ends its active part once none of its conditions is there any more.
    pub(super) fn restore(&mut self, step: &mut Step<'_>, point: &PointKey) {
        let known = self.points.entry(point.clone()).or_default();
        let still = |(kind, level): (&Kind, &Level)| {
            kind.hazard().is_some_and(is_peoples) && level.is_open()
        };
        if !known.levels.iter().any(still) {
            let nature = nature(step, point, false);
            let (condition, _) =
                alarm::step(known.condition, nature, Input::Restoral, step.now.wall);
            known.condition = condition;
            if condition == Condition::Normal {
                known.rang = None;
                self.effects.changed();
            }
            self.service.over(point);
            step.points.insert(point.clone());
        }
    }

    /// Something that happened once: a press, an exit request, the end of a press.
    pub(super) fn moment(
        &mut self,
        step: &mut Step<'_>,
        point: &PointKey,
        kind: Kind,
        state: State,
    ) {
        let is_activation = state == State::Raised && kind.hazard().is_some_and(is_peoples);
        let same_as = self.same_press(step, point, kind).filter(|_| is_activation);
        let stamp = match same_as {
            None if is_activation => self.stamp(step, point, kind, kind.severity()),
            Some(_) => self.stamp_of_press(point),
            None => None,
        };
        let draft = Draft {
            state,
            severity: match state {
                State::Raised => kind.severity(),
                State::Cleared => INFO,
            },
            same_as,
            stamp,
            ..Draft::raised(kind)
        };
        let severity = draft.severity;
        let event = self.emit(step, point, kind, draft);
        if !is_activation || same_as.is_some() {
            return;
        }
        self.ring(step, point, kind, severity, event, true);
        // A press is over as soon as it is there.
        self.service.let_go(point, kind);
        self.service.over(point);
        if let Some(event) = event {
            let known = self.points.entry(point.clone()).or_default();
            known.press = Some(Press {
                event,
                kind,
                at: step.now.wall,
                monotonic: Some(step.now.monotonic),
                stamp,
            });
        }
    }

    /// The stamp of the press that is repeated, while what stamped it is in force.
    fn stamp_of_press(&self, point: &PointKey) -> Option<Stamp> {
        let stamp = self.points.get(point)?.press?.stamp?;
        let (Stamp::Test(id) | Stamp::Bypass(id)) = stamp;
        self.service.get(id).map(|_| stamp)
    }

    /// The press this one only repeats: within [`SAME_PRESS`], from a device that cannot tell its
    /// presses apart. Both clocks must agree where both are known; in doubt it rings.
    fn same_press(&self, step: &Step<'_>, point: &PointKey, kind: Kind) -> Option<EventId> {
        let press = self.points.get(point)?.press?;
        let names_its_messages = step.from.as_ref().is_some_and(|f| f.vendor_id.is_some());
        if names_its_messages || press.kind != kind {
            return None;
        }
        let now = step.now;
        let by_wall = press.at <= now.wall && now.wall.since(press.at) < SAME_PRESS;
        let by_monotonic = press
            .monotonic
            .is_none_or(|then| now.monotonic.saturating_sub(then) < SAME_PRESS);
        (by_wall && by_monotonic).then_some(press.event)
    }

    /// Records an event about a point, or counts it when the point chatters. `pace` is the raising
    /// kind, so that a beginning and its end share one rhythm. The id, if it stands alone.
    pub(super) fn emit(
        &mut self,
        step: &mut Step<'_>,
        point: &PointKey,
        pace: Kind,
        draft: Draft,
    ) -> Option<EventId> {
        if draft.kind.lane() != domain::kind::Lane::LifeSafety {
            return Some(step.mint(Some(point), draft, &mut self.order).id);
        }
        let monotonic = step.now.monotonic;
        let rhythm = self.paces.entry((point.clone(), pace)).or_default();
        if rhythm.admits(monotonic) {
            return Some(step.mint(Some(point), draft, &mut self.order).id);
        }
        let known = self.points.entry(point.clone()).or_default();
        let held = known.bursts.get(&pace).copied();
        let at = step.now.wall;
        let burst = Burst::add(held, draft.kind, draft.state, draft.severity, at);
        known.bursts.insert(pace, burst);
        step.points.insert(point.clone());
        let flush = Timer::Flush(point.clone(), pace);
        self.timers
            .entry(flush)
            .or_insert(monotonic + COUNTED_EVERY);
        let quiet = Timer::Quiet(point.clone(), pace);
        self.timers.insert(quiet, monotonic + CHATTER_WITHIN);
        let fault = Some(Kind::DeviceFault.severity());
        self.level(step, point, Kind::DeviceFault, CHATTER, fault);
        None
    }

    /// A word of a key that no table knows: told when it begins, not with every repeat of the
    /// cached state.
    pub(super) fn unread_key(
        &mut self,
        step: &mut Step<'_>,
        point: &PointKey,
        key: &str,
        why: Unread,
    ) {
        let known = self.points.entry(point.clone()).or_default();
        let level = known.levels.entry(Kind::IngestUnmapped).or_default();
        if level.is_active(key) {
            return;
        }
        level.say(Said {
            key,
            active: Some(Kind::IngestUnmapped.severity()),
            retained: false,
            asks: false,
        });
        step.points.insert(point.clone());
        let speaker = Speaker::Device(point.device.clone());
        self.unread(step, speaker, Some(point), why);
    }

    /// The key speaks sense again.
    fn understood(&mut self, step: &mut Step<'_>, point: &PointKey, key: &str) {
        let level = self
            .points
            .get_mut(point)
            .and_then(|p| p.levels.get_mut(&Kind::IngestUnmapped));
        if let Some(level) = level.filter(|level| level.is_active(key)) {
            level.say(Said {
                key,
                active: None,
                retained: false,
                asks: false,
            });
            step.points.insert(point.clone());
        }
    }

    /// A fire that a device reports in its own test is a test, for as long as [`TEST_FOR`].
    fn excused(
        &self,
        step: &Step<'_>,
        point: &PointKey,
        kind: Kind,
        severity: Severity,
    ) -> Severity {
        let testing = self.points.get(point).is_some_and(|known| {
            let test = known.levels.get(&Kind::AlarmTest);
            test.is_some_and(Level::is_open)
        });
        let until = self.timers.get(&Timer::Test(point.clone()));
        let in_time = until.is_some_and(|until| step.now.monotonic < *until);
        if testing && in_time && kind.hazard() == Some(Hazard::Fire) {
            Severity::Test
        } else {
            severity
        }
    }

    /// Whether a test is holding something back now: a test said again does not prolong it.
    fn is_excusing(&self, point: &PointKey) -> bool {
        self.points.get(point).is_some_and(|known| {
            let mut levels = known.levels.iter();
            levels.any(|(kind, level)| {
                *kind != Kind::AlarmTest && level.open() == Some(Severity::Test)
            })
        })
    }

    /// A bridge said itself whether it is there. One that starts sends its cache first.
    fn bridge_spoke(&mut self, step: &Step<'_>, bridge: &PointKey, online: bool) {
        self.said_since.clear();
        if online {
            let until = step.now.monotonic + REPLAY_FOR;
            self.replays.insert(bridge.clone(), until);
        } else {
            self.replays.insert(bridge.clone(), Duration::MAX);
        }
    }

    /// Whether what comes from a point now may be its bridge's cache.
    pub(super) fn is_replay(&self, step: &Step<'_>, point: &PointKey) -> bool {
        if self.replays.is_empty() {
            return false;
        }
        let lead = step.book.lead(&point.device).unwrap_or(point);
        step.book.bridges().iter().any(|bridge| {
            let until = self.replays.get(&bridge.point);
            bridge.children.contains(lead) && until.is_some_and(|until| step.now.monotonic < *until)
        })
    }

    /// Devices go and come back with their bridge.
    fn children_of(&mut self, step: &mut Step<'_>, bridge: &PointKey, active: Option<Severity>) {
        let book = step.book;
        let of = book.bridges().iter().find(|b| b.point == *bridge);
        for child in of.into_iter().flat_map(|b| &b.children) {
            if active.is_none() {
                self.watch.heard(child, step.now.monotonic);
            }
            self.level(step, child, Kind::DeviceOffline, BEHIND, active);
        }
    }
}

/// Whether a retained first sight of this kind asks instead of alarming (R2): fire, alarm, water,
/// intrusion. Doors and devices are told plainly.
fn asks(kind: Kind) -> bool {
    let alarm = kind.hazard().is_some_and(is_peoples) && kind != Kind::DoorForced;
    alarm || kind == Kind::WaterLeakAlarm
}

/// Whether the installer says that the device sleeps between messages, so that its sessions end.
fn sleeps(step: &Step<'_>, point: &PointKey) -> bool {
    let enrolment = step.book.enrolment(point);
    enrolment.is_some_and(|e| e.options.get("battery_sleeper") == Some(&true.into()))
}

/// Whether a hazard is one of people's lives, with an alarm of its own at the point.
pub(super) const fn is_peoples(hazard: Hazard) -> bool {
    match hazard {
        Hazard::Panic | Hazard::Fire | Hazard::Intrusion | Hazard::MissingChild => true,
        Hazard::Technical => false,
    }
}

/// A press has no condition, whatever the enrolment says of the point's levels.
pub(super) fn nature(step: &Step<'_>, point: &PointKey, is_moment: bool) -> Nature {
    let enrolled = step.book.enrolment(point).map(Nature::of);
    let nature = enrolled.unwrap_or(Nature {
        momentary: is_moment,
        latching: true,
    });
    Nature {
        momentary: is_moment,
        ..nature
    }
}
