//! How long to wait before trying again, as a pure function: doubling, capped, spread by chance so
//! that a city of boxes does not come back in one second.

use std::time::Duration;

/// A doubling delay between two bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// Delay after the first failure.
    pub first: Duration,
    /// Longest delay.
    pub longest: Duration,
}

impl Backoff {
    /// Delay after `failures` failures in a row (1 = the first). `chance` spreads it over the upper
    /// half: the result lies between half the doubled delay and all of it.
    #[must_use]
    pub fn delay(&self, failures: u32, chance: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(30);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        let half = full / 2;
        let share = f64::from(chance) / f64::from(u32::MAX);
        half + half.mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stays_within_its_bounds(failures in 0u32..200, chance in any::<u32>()) {
            let backoff = Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(30) };
            let delay = backoff.delay(failures, chance);
            prop_assert!(delay >= Duration::from_millis(100));
            prop_assert!(delay <= Duration::from_secs(30));
        }
    }

    #[test]
    fn doubles_until_the_cap() {
        let backoff = Backoff {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(5),
        };
        let full = |n| backoff.delay(n, u32::MAX).as_millis();
        assert_eq!(
            [full(1), full(2), full(3), full(4), full(99)],
            [1000, 2000, 4000, 5000, 5000]
        );
    }
}
