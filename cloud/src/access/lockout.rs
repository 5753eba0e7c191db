//! How often a name may be tried from one address. Pure: time is handed in.
//!
//! A try counts when it begins, so that tries side by side cannot pass the limit; success forgets
//! them. Never sees a password.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Failed tries of one name from one address; at it the pair is locked for [`LOCKED_FOR`].
pub const FAILURES_MAX: u32 = 5;
/// How long a pair stays locked, and how long a failure is remembered.
pub const LOCKED_FOR: Duration = Duration::from_secs(15 * 60);
/// Pairs remembered; at it the one with the fewest failures is forgotten, of those the one untouched for
/// longest: a flood of other names must not unlock one.
pub const PAIRS_MAX: usize = 10_000;

/// The pairs that failed lately.
#[derive(Default)]
pub struct Lockout {
    tries: HashMap<(String, IpAddr), Tries>,
}

#[derive(Clone, Copy)]
struct Tries {
    begun: u32,
    last: Duration,
}

impl Lockout {
    /// Counts a try that begins at `now` (monotonic).
    ///
    /// # Errors
    /// The time left when the pair is locked; the try must then not be made.
    pub fn begin(&mut self, name: &str, from: IpAddr, now: Duration) -> Result<(), Duration> {
        let key = (name.to_owned(), from);
        let known = self
            .tries
            .get(&key)
            .filter(|tries| now < tries.last + LOCKED_FOR);
        let begun = match known {
            Some(tries) if tries.begun >= FAILURES_MAX => {
                return Err((tries.last + LOCKED_FOR).saturating_sub(now));
            }
            Some(tries) => tries.begun + 1,
            None => 1,
        };
        if !self.tries.contains_key(&key) && self.tries.len() >= PAIRS_MAX {
            self.forget_one(now);
        }
        self.tries.insert(key, Tries { begun, last: now });
        Ok(())
    }

    /// The password fitted: the pair starts afresh.
    pub fn succeeded(&mut self, name: &str, from: IpAddr) {
        self.tries.remove(&(name.to_owned(), from));
    }

    fn forget_one(&mut self, now: Duration) {
        let counts = |tries: &Tries| now < tries.last + LOCKED_FOR;
        let least = self
            .tries
            .iter()
            .min_by_key(|(_, tries)| (counts(tries), tries.begun, tries.last));
        if let Some(key) = least.map(|(key, _)| key.clone()) {
            self.tries.remove(&key);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn five_failures_lock_one_name_from_one_address_for_a_quarter_of_an_hour() {
        let mut lockout = Lockout::default();
        for _ in 0..FAILURES_MAX {
            lockout.begin("li", HOME, SECOND).unwrap();
        }
        assert_eq!(
            lockout.begin("li", HOME, SECOND * 2),
            Err(LOCKED_FOR - SECOND)
        );
        assert_eq!(lockout.begin("li", AWAY, SECOND * 2), Ok(()));
        assert_eq!(lockout.begin("wang", HOME, SECOND * 2), Ok(()));
        assert_eq!(lockout.begin("li", HOME, SECOND + LOCKED_FOR), Ok(()));
    }

    #[test]
    fn success_forgets_the_failures_before_it() {
        let mut lockout = Lockout::default();
        for _ in 0..20 {
            lockout.begin("li", HOME, SECOND).unwrap();
            lockout.succeeded("li", HOME);
        }
    }

    #[test]
    fn a_flood_of_names_stays_within_its_bound_and_keeps_the_fresh_ones() {
        let mut lockout = Lockout::default();
        for _ in 0..FAILURES_MAX {
            lockout.begin("li", HOME, Duration::ZERO).unwrap();
        }
        for i in 0..PAIRS_MAX + 10 {
            let now = Duration::from_millis(u64::try_from(i).unwrap());
            lockout.begin(&i.to_string(), HOME, now).unwrap();
        }
        assert_eq!(lockout.tries.len(), PAIRS_MAX);
        assert!(
            lockout.begin("li", HOME, SECOND * 60).is_err(),
            "unlocked by a flood"
        );
        assert!(
            lockout
                .tries
                .contains_key(&((PAIRS_MAX + 9).to_string(), HOME))
        );
        assert!(!lockout.tries.contains_key(&("0".to_owned(), HOME)));
    }
}
