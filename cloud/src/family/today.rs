//! Where a child is today, honestly: pure.
//!
//! A movement of an earlier day says nothing about today (R 2.2): who left is expected again, who
//! never left is unknown, never "left".

use std::time::Duration;

use domain::event::{HandedBy, How};
use domain::presence::{Presence, Standing};
use domain::time::{CentreZone, Timestamp};

/// Silence of a centre's boxes after which what they told is shown as stale (R 2.2, D8).
pub const STALE_AFTER: Duration = Duration::from_secs(3 * 60);

/// When the centre's boxes were last heard; the one silent for longest counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// The centre has no box, or one that never connected.
    Never,
    /// All of them since then.
    At(Timestamp),
}

impl Heard {
    /// From the store: none = no box, 0 = one that never connected.
    #[must_use]
    pub fn of(micros: Option<i64>) -> Self {
        match micros {
            Some(at) if at > 0 => Self::At(Timestamp::from_micros(at)),
            Some(_) | None => Self::Never,
        }
    }
}

/// Where a child is, in the words of the screens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whereabouts {
    /// Has not come today.
    Expected,
    /// Inside.
    Present,
    /// At the exit by its own card; counts as inside until a carer names the adult.
    PendingOut,
    /// Left with somebody.
    Left,
    /// Came on an earlier day, and no departure was recorded.
    Unknown,
}

impl Whereabouts {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::Present => "present",
            Self::PendingOut => "pending_out",
            Self::Left => "left",
            Self::Unknown => "unknown",
        }
    }
}

/// Where a child is and how well that is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Today {
    /// Where.
    pub whereabouts: Whereabouts,
    /// The movement it follows from.
    pub since: Option<Timestamp>,
    /// Who handed the child over in it.
    pub by: Option<HandedBy>,
    /// By what means.
    pub how: Option<How>,
    /// Up to when the boxes told.
    pub as_of: Option<Timestamp>,
    /// They have been silent for too long.
    pub stale: bool,
}

/// Where the child is at `now`.
#[must_use]
pub fn today(
    presence: Option<&Presence>,
    heard: Heard,
    zone: &CentreZone,
    now: Timestamp,
) -> Today {
    let (as_of, stale) = match heard {
        Heard::Never => (None, true),
        Heard::At(at) => (Some(at), now.since(at) > STALE_AFTER),
    };
    let unmoved = Today {
        whereabouts: Whereabouts::Expected,
        since: None,
        by: None,
        how: None,
        as_of,
        stale,
    };
    let Some(presence) = presence else {
        return unmoved;
    };
    let is_today = zone.day_of(presence.since) >= zone.day_of(now);
    let since = Some(presence.since);
    match (presence.standing, is_today) {
        (Standing::Inside { by, how }, true) => Today {
            whereabouts: Whereabouts::Present,
            since,
            by: Some(by),
            how: Some(how),
            ..unmoved
        },
        (Standing::LeavingUnconfirmed, true) => Today {
            whereabouts: Whereabouts::PendingOut,
            since,
            how: Some(How::Card),
            ..unmoved
        },
        (Standing::Outside { by, how }, true) => Today {
            whereabouts: Whereabouts::Left,
            since,
            by: Some(by),
            how: Some(how),
            ..unmoved
        },
        (Standing::Inside { .. } | Standing::LeavingUnconfirmed, false) => Today {
            whereabouts: Whereabouts::Unknown,
            since,
            ..unmoved
        },
        (Standing::Outside { .. }, false) => unmoved,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use domain::presence::Rank;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    // 2026-11-25 08:00 in Shanghai, midnight in Greenwich.
    const MORNING: Timestamp = Timestamp::from_micros(1_795_564_800_000_000);

    fn shanghai() -> CentreZone {
        CentreZone::named("Asia/Shanghai").unwrap()
    }

    fn inside() -> Standing {
        Standing::Inside {
            by: HandedBy::Unknown,
            how: How::Card,
        }
    }

    fn outside() -> Standing {
        Standing::Outside {
            by: HandedBy::Unknown,
            how: How::Staff,
        }
    }

    fn seen(standing: Standing, at: Timestamp, now: Timestamp) -> Whereabouts {
        let presence = Presence {
            rank: Rank::default(),
            since: at,
            standing,
        };
        today(Some(&presence), Heard::At(now), &shanghai(), now).whereabouts
    }

    #[test]
    fn a_movement_counts_for_the_centres_own_day_only() {
        let evening = MORNING.after(HOUR * 10);
        assert_eq!(seen(inside(), MORNING, evening), Whereabouts::Present);
        assert_eq!(seen(outside(), MORNING, evening), Whereabouts::Left);
        let leaving = Standing::LeavingUnconfirmed;
        assert_eq!(seen(leaving, MORNING, evening), Whereabouts::PendingOut);
        let next_morning = MORNING.after(HOUR * 24);
        assert_eq!(seen(inside(), evening, next_morning), Whereabouts::Unknown);
        assert_eq!(seen(leaving, evening, next_morning), Whereabouts::Unknown);
        assert_eq!(
            seen(outside(), evening, next_morning),
            Whereabouts::Expected
        );
        // 00:00 in Greenwich is the middle of the centre's morning, not a new day.
        let before = MORNING.before(Duration::from_secs(1));
        assert_eq!(seen(inside(), before, MORNING), Whereabouts::Present);
        let midnight = MORNING.before(HOUR * 8);
        let late = midnight.before(Duration::from_micros(1));
        assert_eq!(seen(inside(), late, midnight), Whereabouts::Unknown);
    }

    #[test]
    fn silence_makes_everything_stale_after_three_minutes() {
        let at = |heard| today(None, heard, &shanghai(), MORNING);
        let long = Heard::At(MORNING.before(STALE_AFTER + Duration::from_micros(1)));
        assert!(at(long).stale);
        let short = at(Heard::At(MORNING.before(STALE_AFTER)));
        assert!(!short.stale);
        assert_eq!(short.as_of, Some(MORNING.before(STALE_AFTER)));
        let never = at(Heard::of(Some(0)));
        assert!(never.stale && never.as_of.is_none());
        assert_eq!(Heard::of(None), Heard::Never);
    }

    proptest! {
        #[test]
        fn a_child_is_never_said_to_have_left_without_a_departure(
            at in 0i64..4_000_000_000_000_000, later in 0i64..1_000_000_000_000, leaving in any::<bool>()
        ) {
            let standing = if leaving { Standing::LeavingUnconfirmed } else { inside() };
            let at = Timestamp::from_micros(at);
            let now = Timestamp::from_micros(at.micros() + later);
            prop_assert!(seen(standing, at, now) != Whereabouts::Left);
            prop_assert!(seen(standing, at, now) != Whereabouts::Expected);
        }
    }
}
