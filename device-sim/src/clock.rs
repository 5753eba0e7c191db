//! The simulator's only reading of time and its only source of chance.
//!
//! Owns: instants as microseconds since the Unix epoch (the unit of every ledger line), the civil calendar that
//! DC-09 time stamps need, and a seeded generator. Never: decides anything.

use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// An instant, in microseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub i64);

impl Micros {
    /// Whole seconds since the Unix epoch.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Milliseconds from `earlier` to `self`; negative when `self` is the earlier one.
    pub fn ms_since(self, earlier: Micros) -> f64 {
        (self.0 - earlier.0) as f64 / 1000.0
    }

    /// `self` moved by `by`.
    pub fn plus(self, by: Duration) -> Micros {
        Micros(self.0.saturating_add(by.as_micros() as i64))
    }

    /// Wall time in China (UTC+8 the whole year), for lines that people read.
    pub fn china_hms(self) -> String {
        let at = Civil::of(self.seconds() + 8 * 3600);
        format!("{:02}:{:02}:{:02}", at.hour, at.minute, at.second)
    }
}

/// Wall time read once at the start, carried on by the monotonic clock: a stepped system clock spoils no figure.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    wall: Micros,
}

impl Clock {
    /// Reads both clocks of the machine.
    #[allow(clippy::disallowed_methods)] // the one place that may
    pub fn start() -> Clock {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_micros() as i64);
        Clock {
            started: Instant::now(),
            wall: Micros(wall),
        }
    }

    /// The present instant.
    pub fn now(&self) -> Micros {
        self.wall.plus(self.started.elapsed())
    }
}

/// A UTC date and time of day in the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    pub year: i64,
    pub month: i64,
    pub day: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
}

impl Civil {
    /// The civil time of `unix` seconds. Days are counted in eras of 400 years that begin on 1 March.
    pub fn of(unix: i64) -> Civil {
        let (days, second) = (unix.div_euclid(86_400) + 719_468, unix.rem_euclid(86_400));
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        Civil {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }

    /// Unix seconds of this civil time; `None` when it is no date or time of day.
    pub fn unix(self) -> Option<i64> {
        let year = self.year - i64::from(self.month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let from_march = (self.month + 9).rem_euclid(12);
        let day_of_year = (153 * from_march + 2) / 5 + self.day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let unix = days * 86_400 + self.hour * 3600 + self.minute * 60 + self.second;
        (Civil::of(unix) == self).then_some(unix)
    }
}

/// Seeded generator (splitmix64, Steele and others 2014): the same seed plays the same town. Not for secrets of
/// anything real.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// A generator that always yields the same for the same seed.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// Next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..bound`; 0 when `bound` is 0. The bias of the remainder does not matter to a play.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 {
            0
        } else {
            (self.bits() % bound as u64) as usize
        }
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: u8) -> bool {
        self.below(100) < usize::from(percent)
    }

    /// One of `items`.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// `digits` upper-case hex digits.
    pub fn hex(&mut self, digits: usize) -> String {
        (0..digits)
            .map(|_| char::from(b"0123456789ABCDEF"[self.below(16)]))
            .collect()
    }

    /// A version 4 UUID.
    pub fn uuid(&mut self) -> uuid::Uuid {
        uuid::Builder::from_random_bytes(
            (u128::from(self.bits()) << 64 | u128::from(self.bits())).to_be_bytes(),
        )
        .into_uuid()
    }
}

/// A seed nobody chose, for a play where none was given (it is printed, so that the play can be repeated).
pub fn seed_of_this_start() -> u64 {
    std::hash::RandomState::new().build_hasher().finish() % 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn civil_time_is_known_at_known_instants() {
        assert_eq!(
            Civil::of(0),
            Civil {
                year: 1970,
                month: 1,
                day: 1,
                hour: 0,
                minute: 0,
                second: 0
            }
        );
        assert_eq!(
            Civil::of(951_782_399),
            Civil {
                year: 2000,
                month: 2,
                day: 28,
                hour: 23,
                minute: 59,
                second: 59
            }
        );
        assert_eq!(Civil::of(951_782_400).day, 29);
        assert_eq!(
            Civil::of(1_795_335_330),
            Civil {
                year: 2026,
                month: 11,
                day: 22,
                hour: 8,
                minute: 15,
                second: 30
            }
        );
    }

    #[test]
    fn civil_time_goes_there_and_back() {
        let mut chance = Chance::new(3);
        for _ in 0..2_000 {
            let unix = chance.below(8_000_000_000) as i64 - 2_000_000_000;
            assert_eq!(Civil::of(unix).unix(), Some(unix));
        }
        let feb = Civil {
            year: 2026,
            month: 2,
            day: 30,
            hour: 0,
            minute: 0,
            second: 0,
        };
        assert_eq!(feb.unix(), None);
    }

    #[test]
    fn the_same_seed_yields_the_same() {
        let mut one = Chance::new(0);
        assert_eq!(
            one.bits(),
            0xE220_A839_7B1D_CDAF,
            "first value of the published generator for seed 0"
        );
        assert_eq!(Chance::new(7).hex(12), Chance::new(7).hex(12));
        assert_ne!(Chance::new(7).hex(12), Chance::new(8).hex(12));
    }

    #[test]
    fn china_time_is_eight_hours_ahead() {
        assert_eq!(Micros(1_795_335_330_000_000).china_hms(), "16:15:30");
    }
}
