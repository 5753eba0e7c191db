//! What happens when something speaks too often: counted, never silent (D3).
//!
//! Owns the two measures of "too often" and the count. Life safety is bounded by fairness, never by
//! loss: the count is durable with the press, its rhythm is not, so a restart can only tell more.

use std::collections::VecDeque;
use std::time::Duration;

use domain::event::{Detail, State};
use domain::id::{DeviceId, PointKey};
use domain::kind::{Kind, Severity};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Activations of one condition at one point that stand alone within [`CHATTER_WITHIN`]; further
/// ones go into one counted row each [`COUNTED_EVERY`], and the point is told as faulty.
pub const CHATTER_AFTER: usize = 10;
/// The span in which they are counted; after as long a silence the point no longer chatters.
pub const CHATTER_WITHIN: Duration = Duration::from_secs(10);
/// How often a counted row is written.
pub const COUNTED_EVERY: Duration = Duration::from_secs(1);
/// Unreadable or unmapped messages of one speaker told singly in a second; further ones go into one
/// counted row.
pub const UNREAD_A_SECOND: u32 = 20;

/// Several occurrences waiting for their counted row.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Burst {
    /// How many.
    pub count: u64,
    /// The first.
    pub first_at: Timestamp,
    /// The last.
    pub last_at: Timestamp,
    /// The word of the last.
    pub kind: Kind,
    /// Began or ended, at the last.
    pub state: State,
    /// The worst of them.
    pub severity: Severity,
}

impl Burst {
    /// One more.
    #[must_use]
    pub fn add(
        known: Option<Self>,
        kind: Kind,
        state: State,
        severity: Severity,
        at: Timestamp,
    ) -> Self {
        Self {
            count: known.map_or(0, |b| b.count) + 1,
            first_at: known.map_or(at, |b| b.first_at),
            last_at: at,
            kind,
            state,
            severity: known.map_or(severity, |b| b.severity.max(severity)),
        }
    }

    /// What the counted row carries.
    #[must_use]
    pub const fn detail(&self) -> Detail {
        Detail::Counted {
            count: self.count,
            first_at: self.first_at,
            last_at: self.last_at,
        }
    }
}

/// The rhythm of one condition at one point.
#[derive(Clone, Default)]
pub struct Pace {
    recent: VecDeque<Duration>,
}

impl Pace {
    /// Notes an activation; false when it comes too soon after the others to stand alone.
    pub fn admits(&mut self, now: Duration) -> bool {
        while self
            .recent
            .front()
            .is_some_and(|then| now.saturating_sub(*then) >= CHATTER_WITHIN)
        {
            self.recent.pop_front();
        }
        let alone = self.recent.len() < CHATTER_AFTER;
        if !alone {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        alone
    }
}

/// Who sends what cannot be read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Speaker {
    /// An enrolled device.
    Device(DeviceId),
    /// A log-in, for devices nobody enrolled: their names are the sender's to choose.
    User(String),
}

/// How much of a speaker's unreadable input was told in this second.
#[derive(Clone)]
pub struct Quota {
    since: Duration,
    told: u32,
    /// What waits for its counted row, and where it came from.
    pub held: Option<(Option<PointKey>, Burst)>,
}

impl Quota {
    /// A quota that begins now.
    #[must_use]
    pub const fn new(now: Duration) -> Self {
        Self {
            since: now,
            told: 0,
            held: None,
        }
    }

    /// Whether one more is told singly.
    pub fn admits(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.since) >= COUNTED_EVERY && self.held.is_none() {
            *self = Self::new(now);
        }
        let single = self.told < UNREAD_A_SECOND;
        self.told += u32::from(single);
        single
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ten_presses_stand_alone_and_so_does_the_first_after_a_rest() {
        let mut pace = Pace::default();
        let alone = (0..15)
            .filter(|_| pace.admits(Duration::from_secs(1)))
            .count();
        assert_eq!(alone, CHATTER_AFTER);
        assert!(!pace.admits(Duration::from_secs(10)));
        assert!(pace.admits(Duration::from_secs(20)));
    }

    #[test]
    fn a_speaker_gets_twenty_a_second() {
        let mut quota = Quota::new(Duration::ZERO);
        let told = (0..50)
            .filter(|_| quota.admits(Duration::from_millis(10)))
            .count();
        assert_eq!(told, 20);
        assert!(quota.admits(Duration::from_secs(1)));
    }

    proptest! {
        #[test]
        fn never_more_than_ten_in_any_ten_seconds(gaps in prop::collection::vec(0u64..4_000, 1..80)) {
            let mut pace = Pace::default();
            let mut now = Duration::ZERO;
            let mut alone = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                if pace.admits(now) {
                    alone.push(now);
                }
            }
            for start in &alone {
                let within = alone.iter().filter(|t| **t >= *start && **t < *start + CHATTER_WITHIN);
                prop_assert!(within.count() <= CHATTER_AFTER);
            }
        }
    }
}
