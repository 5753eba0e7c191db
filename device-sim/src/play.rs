//! Random but sensible traffic of one centre: what could happen next, given what happened so far. Pure: the seed, the
//! clock and the PUBACKs are handed in.
//!
//! Stays inside what a real house does, and inside what the box promises to record one by one: a point goes off at
//! most once in [`POINT_PAUSE_MS`] and not before the PUBACK of the last time (a box that was down would get a burst), a
//! device speaks at most once in [`DEVICE_PAUSE_MS`], a child that is in comes in no second time, and its next tap waits
//! for the PUBACK of the last (two readers are two connections).

use crate::books::Books;
use crate::clock::{Chance, Micros};
use crate::device::{self, Ids, Sending};
use crate::ledger::{Deed, Sent};
use crate::site::{Pupil, Site, Spot};
use crate::town::Passage;
use std::collections::BTreeMap;
use uuid::Uuid;

/// A life-safety point goes off no faster: past 10 in 10 s the box counts instead of recording each.
pub const POINT_PAUSE_MS: i64 = 1500;

/// A device speaks no faster: past 20 a second the box counts instead of recording each.
pub const DEVICE_PAUSE_MS: i64 = 100;

/// How often each deed is tried, as parts of their sum.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    pub taps: usize,
    pub doors: usize,
    pub presses: usize,
    pub smokes: usize,
    pub zigbee: usize,
    pub denied: usize,
    pub batteries: usize,
}

impl Mix {
    /// For tests: everything often.
    pub const DENSE: Mix = Mix {
        taps: 50,
        doors: 20,
        presses: 12,
        smokes: 8,
        zigbee: 5,
        denied: 3,
        batteries: 2,
    };
    /// For people who watch: a day in which nearly nothing goes wrong.
    pub const CALM: Mix = Mix {
        taps: 60,
        doors: 30,
        presses: 8,
        smokes: 0,
        zigbee: 0,
        denied: 4,
        batteries: 2,
    };
}

#[derive(Debug, Clone, Copy)]
enum Draw {
    Tap,
    Door,
    Press,
    Smoke,
    Zigbee,
    Denied,
    Battery,
}

/// A child stays at least this long: a card that leaves sooner after bringing a child is taken for the adult leaving
/// alone, and waits for a carer.
const STAYS_MS: i64 = 16 * 60 * 1000;
/// A child that left comes back after this at the earliest: two taps within a minute are one.
const AWAY_MS: i64 = 61 * 1000;

/// What is known of the centre while it is played.
#[derive(Debug)]
pub struct Player {
    site: Site,
    mix: Mix,
    /// The last movement of each child: whether it went in, and when.
    moved: BTreeMap<Uuid, (bool, Micros)>,
    /// The last message about each child (by id) and of each life-safety point (by address).
    last: BTreeMap<String, String>,
    /// Level of each smoke point, by address.
    smoke: BTreeMap<String, bool>,
    /// When each address last went off, and when each device last spoke.
    quiet_until: BTreeMap<String, Micros>,
}

impl Player {
    /// A centre in which nothing has happened yet.
    pub fn new(site: Site, mix: Mix) -> Player {
        Player {
            site,
            mix,
            moved: BTreeMap::new(),
            last: BTreeMap::new(),
            smoke: BTreeMap::new(),
            quiet_until: BTreeMap::new(),
        }
    }

    /// Takes over where an earlier run left this centre.
    pub fn go_on_from(&mut self, books: &Books) {
        let ours = books
            .entries
            .iter()
            .filter(|entry| entry.sent.centre == self.site.centre);
        for entry in ours {
            match &entry.sent.deed {
                Deed::Tap {
                    children, passage, ..
                } => {
                    let movement = (*passage == Passage::In, entry.sent.at);
                    self.moved
                        .extend(children.iter().map(|child| (*child, movement)));
                }
                Deed::AlarmRaised | Deed::AlarmCleared => {
                    let spots = self.site.smokes.iter().chain(&self.site.zigbee_smokes);
                    let same = |spot: &&Spot| {
                        spot.device == entry.sent.device && spot.point == entry.sent.point
                    };
                    if let Some(spot) = spots.into_iter().find(same) {
                        self.smoke
                            .insert(spot.address.clone(), entry.sent.deed == Deed::AlarmRaised);
                    }
                }
                Deed::Press | Deed::Level { .. } | Deed::Background | Deed::Damaged => {}
            }
        }
    }

    /// The message drawn last is not sent after all, so nobody waits for its PUBACK.
    pub fn never_sent(&mut self, id: &str) {
        self.last.retain(|_, last| last != id);
    }

    fn tapped(&mut self, child: Uuid, passage: Passage, sent: &Sent, now: Micros) {
        self.moved.insert(child, (passage == Passage::In, now));
        self.last.insert(child.to_string(), sent.id.clone());
    }

    /// What happens now; nothing when the deed drawn does not fit at this instant. `done` says whether a message
    /// has its PUBACK.
    pub fn next(
        &mut self,
        chance: &mut Chance,
        ids: &Ids,
        now: Micros,
        done: &dyn Fn(&str) -> bool,
    ) -> Option<Sending> {
        match self.draw(chance) {
            Draw::Tap => self.tap(chance, ids, now, done),
            Draw::Door => {
                let door = self.free(chance, &self.site.doors, now)?;
                let opened = chance.percent(50);
                Some(self.spoke(
                    device::door(&self.site, &door, opened, ids.next(), now),
                    now,
                ))
            }
            Draw::Press => {
                let button = self.free_point(chance, &self.site.buttons, now, done)?;
                let press = device::press(&self.site, &button, ids.next(), now);
                Some(self.went_off(press, &button, now))
            }
            Draw::Smoke => {
                let detector = self.free_point(chance, &self.site.smokes, now, done)?;
                let raised = self.turn(&detector);
                let smoke = device::smoke(&self.site, &detector, raised, ids.next(), now);
                Some(self.went_off(smoke, &detector, now))
            }
            Draw::Zigbee => self.zigbee(chance, ids, now),
            Draw::Denied => {
                let reader = self.free(chance, &self.site.readers_in, now)?;
                Some(self.spoke(device::denied(&self.site, &reader, ids.next(), now), now))
            }
            Draw::Battery => {
                let spot = self.free(chance, &self.site.smokes, now)?;
                Some(self.spoke(device::battery(&self.site, &spot, ids.next(), now), now))
            }
        }
    }

    fn draw(&self, chance: &mut Chance) -> Draw {
        let mix = &self.mix;
        let parts = [
            (Draw::Tap, mix.taps),
            (Draw::Door, mix.doors),
            (Draw::Press, mix.presses),
            (Draw::Smoke, mix.smokes),
            (Draw::Zigbee, mix.zigbee),
            (Draw::Denied, mix.denied),
            (Draw::Battery, mix.batteries),
        ];
        let mut drawn = chance.below(parts.iter().map(|(_, part)| part).sum());
        for (draw, part) in parts {
            if drawn < part {
                return draw;
            }
            drawn -= part;
        }
        Draw::Tap
    }

    fn tap(
        &mut self,
        chance: &mut Chance,
        ids: &Ids,
        now: Micros,
        done: &dyn Fn(&str) -> bool,
    ) -> Option<Sending> {
        let inside = |child: &Uuid| self.moved.get(child).is_some_and(|(inside, _)| *inside);
        let may_leave = |pupil: &Pupil| {
            let since = self.moved.get(&pupil.child).map_or(now, |(_, at)| *at);
            pupil.fetches && now.0 - since.0 >= STAYS_MS * 1000
        };
        let may_come = |pupil: &Pupil| {
            let since = self.moved.get(&pupil.child);
            since.is_none_or(|(_, at)| now.0 - at.0 >= AWAY_MS * 1000)
        };
        let can = |pupil: &&Pupil| {
            let last = self.last.get(&pupil.child.to_string());
            let moves = if inside(&pupil.child) {
                may_leave(pupil)
            } else {
                may_come(pupil)
            };
            moves && last.is_none_or(|id| done(id))
        };
        let able: Vec<_> = self.site.pupils.iter().filter(can).collect();
        let pupil = (*chance.pick(&able)?).clone();
        let (passage, readers) = if inside(&pupil.child) {
            (Passage::Out, &self.site.readers_out)
        } else {
            (Passage::In, &self.site.readers_in)
        };
        let reader = self.free(chance, readers, now)?;
        let sending = device::tap(&self.site, &reader, &pupil, passage, ids.next(), now);
        self.tapped(pupil.child, passage, &sending.sent, now);
        Some(self.spoke(sending, now))
    }

    fn zigbee(&mut self, chance: &mut Chance, ids: &Ids, now: Micros) -> Option<Sending> {
        let detector = self.free(chance, &self.site.zigbee_smokes, now)?;
        let known = self.smoke.get(&detector.address).copied();
        let raised = match known {
            Some(level) if chance.percent(50) => level,
            Some(_) | None => self.turn(&detector),
        };
        let smoke = device::zigbee_smoke(&self.site, &detector, raised, ids.next());
        Some(self.spoke_until(smoke, &detector.address, now, POINT_PAUSE_MS))
    }

    /// Turns the level of a detector over and says what it is now.
    fn turn(&mut self, detector: &Spot) -> bool {
        let level = self.smoke.entry(detector.address.clone()).or_insert(false);
        *level = !*level;
        *level
    }

    /// One of the spots that may speak now.
    fn free(&self, chance: &mut Chance, spots: &[Spot], now: Micros) -> Option<Spot> {
        let may = |key: &String| self.quiet_until.get(key).is_none_or(|until| *until <= now);
        let able: Vec<&Spot> = spots
            .iter()
            .filter(|spot| may(&spot.address) && may(&spot.device))
            .collect();
        chance.pick(&able).map(|spot| (*spot).clone())
    }

    /// One of the spots that may go off now.
    fn free_point(
        &self,
        chance: &mut Chance,
        spots: &[Spot],
        now: Micros,
        done: &dyn Fn(&str) -> bool,
    ) -> Option<Spot> {
        let quiet = |spot: &&Spot| self.last.get(&spot.address).is_none_or(|id| done(id));
        let able: Vec<Spot> = spots.iter().filter(quiet).cloned().collect();
        self.free(chance, &able, now)
    }

    fn went_off(&mut self, sending: Sending, spot: &Spot, now: Micros) -> Sending {
        self.last
            .insert(spot.address.clone(), sending.sent.id.clone());
        self.spoke_until(sending, &spot.address, now, POINT_PAUSE_MS)
    }

    fn spoke(&mut self, sending: Sending, now: Micros) -> Sending {
        let device = sending.sent.device.clone();
        self.spoke_until(sending, &device, now, DEVICE_PAUSE_MS)
    }

    /// The device is quiet for its pause, and `key` for `pause_ms`.
    fn spoke_until(&mut self, sending: Sending, key: &str, now: Micros, pause_ms: i64) -> Sending {
        let after = |ms: i64| Micros(now.0 + ms * 1000);
        self.quiet_until
            .insert(sending.sent.device.clone(), after(DEVICE_PAUSE_MS));
        self.quiet_until.insert(key.to_owned(), after(pause_ms));
        sending
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::site::tests::town_and_site;
    use std::collections::BTreeSet;

    fn play(seed: u64, steps: i64, step_ms: i64) -> Vec<(Micros, Sending)> {
        let (_town, site) = town_and_site();
        let (mut player, mut chance) = (Player::new(site, Mix::DENSE), Chance::new(seed));
        let ids = Ids::of_run(Micros(0), 1);
        let instants = (0..steps).map(|step| Micros(step * step_ms * 1000));
        instants
            .filter_map(|now| Some((now, player.next(&mut chance, &ids, now, &|_id| true)?)))
            .collect()
    }

    #[test]
    fn the_same_seed_plays_the_same() {
        assert_eq!(play(4, 500, 20), play(4, 500, 20));
        assert_ne!(play(4, 500, 20), play(5, 500, 20));
    }

    #[test]
    fn all_deeds_happen_and_stay_within_what_is_recorded_one_by_one() {
        let played = play(9, 5_000, 20);
        let kinds: BTreeSet<&str> = played
            .iter()
            .map(|(_, sending)| sending.sent.kind.as_str())
            .collect();
        for kind in [
            "access.granted",
            "access.denied",
            "alarm.pressed",
            "fire.smoke.alarm",
            "door.opened",
            "device.battery_low",
        ] {
            assert!(kinds.contains(kind), "{kind}");
        }
        let mut last: BTreeMap<(String, bool), Micros> = BTreeMap::new();
        for (now, sending) in &played {
            let loud = matches!(
                sending.sent.deed,
                Deed::Press | Deed::AlarmRaised | Deed::AlarmCleared
            );
            let pause = if loud {
                POINT_PAUSE_MS
            } else {
                DEVICE_PAUSE_MS
            };
            if let Some(before) = last.insert((sending.sent.device.clone(), loud), *now) {
                assert!(
                    now.0 - before.0 >= pause * 1000,
                    "{} too fast",
                    sending.topic
                );
            }
        }
    }

    #[test]
    fn taps_of_a_child_alternate_in_their_time_and_levels_turn() {
        let mut inside: BTreeMap<Uuid, (Passage, Micros)> = BTreeMap::new();
        let mut level: BTreeMap<String, Deed> = BTreeMap::new();
        let mut left = 0;
        for (now, sending) in play(2, 5_000, 500) {
            match sending.sent.deed {
                Deed::Tap {
                    children, passage, ..
                } => {
                    let before = inside.insert(children[0], (passage, now));
                    let (way, since) = before.unwrap_or((Passage::Out, Micros(i64::MIN / 2)));
                    assert_ne!(way, passage);
                    let shortest = if passage == Passage::Out {
                        left += 1;
                        STAYS_MS
                    } else {
                        AWAY_MS
                    };
                    assert!(now.0 - since.0 >= shortest * 1000, "moved too soon");
                }
                deed @ (Deed::AlarmRaised | Deed::AlarmCleared) => {
                    let before = level
                        .insert(sending.topic, deed.clone())
                        .unwrap_or(Deed::AlarmCleared);
                    assert_ne!(before, deed);
                }
                Deed::Press | Deed::Level { .. } | Deed::Background | Deed::Damaged => {}
            }
        }
        assert!(inside.len() == 8 && left > 0 && level.len() == 2);
    }

    #[test]
    fn a_child_waits_for_the_puback_of_its_last_tap() {
        let (_town, site) = town_and_site();
        let (mut player, mut chance) = (Player::new(site, Mix::DENSE), Chance::new(1));
        let ids = Ids::of_run(Micros(0), 1);
        let mut tapped = BTreeSet::new();
        for step in 0..5_000 {
            let next = player.next(&mut chance, &ids, Micros(step * 20_000), &|_id| false);
            if let Some(Deed::Tap { children, .. }) = next.map(|sending| sending.sent.deed) {
                assert!(tapped.insert(children[0]), "tapped again without PUBACK");
            }
        }
        assert_eq!(tapped.len(), 8);
    }
}
