//! Instants, order and civil days.
//!
//! Instants are UTC microseconds. A civil day or an opening hour exists only in the centre's own
//! zone and is computed only here, alike on box and cloud (D1), with the zone data inside the
//! program. Never reads a clock.

use std::fmt;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// This instant moved later; stays at the end of time instead of wrapping.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(micros_of(span)))
    }

    /// This instant moved earlier; stays at the beginning of time instead of wrapping.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(micros_of(span)))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let micros = self.0.saturating_sub(earlier.0).max(0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, to the microsecond.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(instant) => write!(f, "{instant:.6}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

fn micros_of(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// Hybrid logical time (D5): never behind the wall clock it was made from, never repeated by one
/// node. Folds across boxes, lanes and the cloud sort by it.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Order(pub i64);

impl Order {
    /// The order of the next event of a node that last used (or saw) `self`.
    #[must_use]
    pub fn next(self, now: Timestamp) -> Self {
        Self(now.micros().max(self.0.saturating_add(1)))
    }
}

/// How far a box trusts its wall clock (D5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ClockTrust {
    /// Disciplined by a time source, with the largest error it claims, in milliseconds.
    Synced {
        /// Largest error claimed by the time source, in milliseconds.
        err_ms: u32,
    },
    /// Was synced, has run free since.
    Holdover {
        /// When the time source was last heard.
        since: Timestamp,
    },
    /// Never synced in this boot.
    Unset,
}

/// How old an event is at the moment it is sent, by the box's monotonic clock (D5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Age {
    /// Milliseconds since intake.
    Known(u64),
    /// At least so many milliseconds: the box rebooted in between with an unset clock.
    AtLeast(u64),
}

impl Age {
    /// Whether an event of this age is too old to call an agency by itself (D5). What is not
    /// known for sure counts as old.
    #[must_use]
    pub fn is_old(self, old_after: Duration) -> bool {
        match self {
            Self::Known(ms) => Duration::from_millis(ms) > old_after,
            Self::AtLeast(_) => true,
        }
    }
}

/// The civil time zone of a centre, by its IANA name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CentreZone(TimeZone);

/// The zone name is not in the IANA data this program carries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown time zone {0:?}; use an IANA name such as Asia/Shanghai")]
pub struct UnknownZone(pub String);

impl CentreZone {
    /// Looks an IANA name up in the bundled data.
    ///
    /// # Errors
    /// When the name is unknown.
    pub fn named(name: &str) -> Result<Self, UnknownZone> {
        TimeZone::get(name)
            .map(Self)
            .map_err(|_| UnknownZone(name.to_owned()))
    }

    /// The civil day at the centre at that instant.
    #[must_use]
    pub fn day_of(&self, at: Timestamp) -> Date {
        let instant = jiff::Timestamp::from_microsecond(at.micros()).unwrap_or_default();
        instant.to_zoned(self.0.clone()).date()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_day_begins_at_the_centre_not_in_greenwich() {
        let zone = CentreZone::named("Asia/Shanghai").unwrap();
        // 2026-11-24T16:00:00Z is midnight in Shanghai.
        let midnight = Timestamp::from_micros(1_795_536_000_000_000);
        let before = midnight.before(Duration::from_micros(1));
        assert_eq!(zone.day_of(midnight).to_string(), "2026-11-25");
        assert_eq!(zone.day_of(before).to_string(), "2026-11-24");
        assert_eq!(
            CentreZone::named("Asia/Nowhere"),
            Err(UnknownZone("Asia/Nowhere".into()))
        );
    }

    #[test]
    fn unknown_age_is_old() {
        let ten_minutes = Duration::from_secs(600);
        assert!(!Age::Known(600_000).is_old(ten_minutes));
        assert!(Age::Known(600_001).is_old(ten_minutes));
        assert!(Age::AtLeast(0).is_old(ten_minutes));
    }

    proptest! {
        #[test]
        fn order_always_rises_whatever_the_clock_does(steps in prop::collection::vec(any::<i32>(), 1..50)) {
            let mut last = Order::default();
            for wall in steps {
                let next = last.next(Timestamp::from_micros(i64::from(wall)));
                prop_assert!(next > last);
                prop_assert!(next.0 >= i64::from(wall));
                last = next;
            }
        }
    }
}
