//! What the centre's sirens, lamps and doors are told, and whether they did it.
//!
//! Owns the wish for each of them, its repeats and the fault when no effect is seen. A siren that was told
//! is not a siren that sounds: only its own word counts, and where it has none the enrolment says so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::event::Detail;
use domain::id::{DeviceId, PointKey};
use domain::kind::{Hazard, Kind};

use super::Site;
use super::local::{Action, is_silent};
use super::step::Step;
use super::timed::Timer;
use crate::adapter::{Why, Wish, can_be_told, order};

/// How long a device may take to say that it did as told. Then it is told again, and the fault is raised.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(5);
/// Times something is told at once. Then the fault stays until the device says what was wished.
const TOLD: u8 = 3;
/// How often a door is told on while there is fire and it does not say that it is free.
const RELEASE_AGAIN: Duration = Duration::from_secs(30);
/// How long a message may wait for a device that is away. Then it is not wanted any more: a door that is told
/// late to open opens on nobody's word.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// The key under which a missing effect is a fault.
const EFFECT: &str = "effect";

/// A message to a device of the centre.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tell {
    /// The device.
    pub point: PointKey,
    /// Where it is enrolled, which tells behind which broker it is.
    pub address: String,
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// How long it may wait for the device.
    pub good_for: Duration,
}

/// Alarms that wait too long for the cloud's receipt.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unforwarded {
    /// The points that called, and for what.
    pub alarms: BTreeSet<(PointKey, Hazard)>,
    /// There may be others: something cannot be read, or is too much to be read.
    pub unknown: bool,
}

impl Unforwarded {
    /// Nobody knows.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            unknown: true,
            ..Self::default()
        }
    }

    /// Whether any waits.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.unknown || !self.alarms.is_empty()
    }
}

/// What sirens and lamps are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shown {
    sound: Option<Why>,
    light: Option<Why>,
}

/// What devices were told and have not said yet that they did.
#[derive(Clone)]
pub struct Effects {
    awaited: BTreeMap<PointKey, Awaited>,
    /// What sirens and lamps were told last; none before the first time in this run.
    shown: Option<Shown>,
    /// What they were told may not be what the centre demands any more.
    stale: bool,
}

impl Effects {
    /// Nothing is known yet of what a device does.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            awaited: BTreeMap::new(),
            shown: None,
            stale: true,
        }
    }

    /// Something is to be told at the next tick.
    #[must_use]
    pub const fn is_due(&self) -> bool {
        self.stale
    }

    /// What a point rings for has changed.
    pub const fn changed(&mut self) {
        self.stale = true;
    }

    /// Other devices may be there now: all are told.
    pub const fn begin_anew(&mut self) {
        self.shown = None;
        self.stale = true;
    }
}

#[derive(Clone)]
struct Awaited {
    wish: Wish,
    id: String,
    told: u8,
}

impl Site {
    /// Takes the alarms that wait for the cloud (G7). A silent one stays silent here: it is for the carers' page.
    pub fn set_unforwarded(&mut self, unforwarded: &Unforwarded) {
        let is_heard =
            |(point, hazard): &(PointKey, Hazard)| !is_silent(self.book.enrolment(point), *hazard);
        let waits = unforwarded.unknown || unforwarded.alarms.iter().any(is_heard);
        if self.not_forwarded != waits {
            self.not_forwarded = waits;
            self.effects.stale = true;
        }
    }

    /// Tells sirens and lamps what the whole of the centre demands: when that changed, and anew with each ring.
    pub(super) fn show(&mut self, step: &mut Step<'_>) {
        if !std::mem::take(&mut self.effects.stale) {
            return;
        }
        let wanted = self.wanted();
        let before = self.effects.shown.replace(wanted);
        let rings = |of: fn(&Action) -> bool| step.actions.iter().any(of);
        let sound = before.is_none_or(|b| b.sound != wanted.sound)
            || rings(|a| matches!(a, Action::Siren(_)));
        let light = before.is_none_or(|b| b.light != wanted.light)
            || rings(|a| matches!(a, Action::Lamp(_)));
        if sound {
            self.wish_all(step, wanted.sound.map_or(Wish::Silence, Wish::Sound));
        }
        if light {
            self.wish_all(step, wanted.light.map_or(Wish::Dark, Wish::Light));
        }
        if !self.is_on_fire() {
            let released = self.points.iter_mut().filter(|(_, point)| point.released);
            for (door, point) in released {
                point.released = false;
                step.points.insert(door.clone());
            }
        } else if before.is_none() {
            self.wish_all(step, Wish::Release);
        }
    }

    /// In fire a door that locked itself, or was away, is told again.
    pub(super) fn keep_free(&mut self, step: &mut Step<'_>, device: &DeviceId) {
        if !self.is_on_fire() {
            return;
        }
        let book = step.book;
        let of_device = book
            .config()
            .enrolments
            .iter()
            .filter(|e| e.device == *device);
        for enrolment in of_device.filter(|e| can_be_told(e, Wish::Release)) {
            self.wish(step, &enrolment.key(), Wish::Release);
        }
    }

    fn wanted(&self) -> Shown {
        let rang = || self.points.values().filter_map(|point| point.rang);
        let waits = self.not_forwarded.then_some(Why::NotForwarded);
        let alarm = |is_wanted: bool| is_wanted.then_some(Why::Alarm).or(waits);
        Shown {
            sound: alarm(rang().any(|rang| rang.sounds)),
            light: alarm(rang().any(|rang| rang.lights)),
        }
    }

    fn wish_all(&mut self, step: &mut Step<'_>, wish: Wish) {
        let book = step.book;
        for enrolment in &book.config().enrolments {
            if can_be_told(enrolment, wish) {
                self.wish(step, &enrolment.key(), wish);
            }
        }
    }

    /// Tells one device, and waits for its word.
    pub(super) fn wish(&mut self, step: &mut Step<'_>, point: &PointKey, wish: Wish) {
        let id = step.name();
        self.tell(step, point, wish, id, 1);
    }

    fn tell(&mut self, step: &mut Step<'_>, point: &PointKey, wish: Wish, id: String, told: u8) {
        let Some(enrolment) = step.book.enrolment(point) else {
            return;
        };
        let Some(order) = order(enrolment, wish, &id) else {
            self.fault(step, point, true);
            return;
        };
        step.tells.push(Tell {
            point: point.clone(),
            address: enrolment.address.clone(),
            topic: order.topic,
            payload: order.payload,
            good_for: GOOD_FOR,
        });
        if order.echoes {
            let until = step.now.monotonic + CONFIRM_WITHIN;
            self.timers.insert(Timer::Effect(point.clone()), until);
            let awaited = Awaited { wish, id, told };
            self.effects.awaited.insert(point.clone(), awaited);
        }
    }

    /// A device says what it does.
    pub(super) fn echo(&mut self, step: &mut Step<'_>, point: &PointKey, kind: Kind, on: bool) {
        let awaited = self.effects.awaited.get(point);
        let obeys = awaited.is_some_and(|awaited| is_effect(awaited.wish, kind, on));
        if obeys && !step.is_retained() {
            self.effects.awaited.remove(point);
            self.timers.remove(&Timer::Effect(point.clone()));
            self.fault(step, point, false);
        }
    }

    /// No word in time.
    pub(super) fn no_effect(&mut self, step: &mut Step<'_>, point: &PointKey) {
        let Some(awaited) = self.effects.awaited.get(point) else {
            return;
        };
        let (wish, id, told) = (awaited.wish, awaited.id.clone(), awaited.told);
        let is_release = wish == Wish::Release;
        if is_release && !self.is_on_fire() {
            self.effects.awaited.remove(point);
            self.fault(step, point, false);
            return;
        }
        self.fault(step, point, true);
        if told < TOLD {
            self.tell(step, point, wish, id, told + 1);
        } else if is_release {
            self.tell(step, point, wish, id, told);
            let until = step.now.monotonic + RELEASE_AGAIN;
            self.timers.insert(Timer::Effect(point.clone()), until);
        }
    }

    fn fault(&mut self, step: &mut Step<'_>, point: &PointKey, is_there: bool) {
        let kind = Kind::ActUnconfirmed;
        let active = is_there.then(|| kind.severity());
        self.level_with(step, point, kind, EFFECT, active, Detail::None);
    }
}

fn is_effect(wish: Wish, kind: Kind, on: bool) -> bool {
    match wish {
        Wish::Sound(_) => kind == Kind::SirenSounding && on,
        Wish::Silence => kind == Kind::SirenSounding && !on,
        Wish::Light(_) => kind == Kind::LampLit && on,
        Wish::Dark => kind == Kind::LampLit && !on,
        Wish::Release => kind == Kind::LockUnlocked && on,
    }
}
