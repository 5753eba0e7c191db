//! How often a PIN may be tried. Pure: the caller brings the time.
//!
//! Whoever tries from a device that the person logged in on before is counted apart, so that a stranger in
//! the centre's network who spoils a name's tries, or everyone's, keeps nobody out of a phone or tablet
//! already in use. What a stranger can do is to keep new devices out while going on.

use std::collections::HashMap;
use std::time::Duration;

/// Wrong tries. The next one must wait.
pub const TRIES: u32 = 5;
/// How long it must wait, from the last try. After it the count begins anew.
pub const LOCKED_FOR: Duration = Duration::from_secs(5 * 60);
/// Wrong tries of all names together from devices not known. Beyond: as above.
pub const STRANGERS_TRIES: u32 = 30;

/// What a device that was logged in on before is known by.
pub type DeviceMark = [u8; 16];

/// Whose tries are counted together.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Tries {
    /// A name's, from devices not known. There are at most as many of these as [`STRANGERS_TRIES`].
    Name(String),
    /// Those from one device known.
    Device(DeviceMark),
}

/// The counts.
#[derive(Debug, Default)]
pub struct Attempts {
    counts: HashMap<Tries, Count>,
    strangers: Count,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    wrong: u32,
    last: Duration,
}

impl Count {
    fn admit(&mut self, most: u32, now: Duration) -> Result<(), Duration> {
        let waited = now.saturating_sub(self.last);
        if waited >= LOCKED_FOR {
            self.wrong = 0;
        }
        if self.wrong >= most {
            return Err(LOCKED_FOR - waited);
        }
        Ok(())
    }

    fn add(&mut self, now: Duration) {
        self.wrong += 1;
        self.last = now;
    }
}

impl Attempts {
    /// Begins a try; it counts as wrong until [`Self::was_right`].
    ///
    /// # Errors
    /// How long to wait.
    pub fn begin(&mut self, tries: &Tries, now: Duration) -> Result<(), Duration> {
        self.counts
            .retain(|_, count| now.saturating_sub(count.last) < LOCKED_FOR);
        let is_stranger = matches!(tries, Tries::Name(_));
        if is_stranger {
            self.strangers.admit(STRANGERS_TRIES, now)?;
        }
        let count = self.counts.entry(tries.clone()).or_default();
        count.admit(TRIES, now)?;
        count.add(now);
        if is_stranger {
            self.strangers.add(now);
        }
        Ok(())
    }

    /// The PIN was right.
    pub fn was_right(&mut self, tries: &Tries) {
        self.counts.remove(tries);
        self.take_back(tries);
    }

    /// It was never found out.
    pub fn came_to_nothing(&mut self, tries: &Tries) {
        if let Some(count) = self.counts.get_mut(tries) {
            count.wrong = count.wrong.saturating_sub(1);
        }
        self.take_back(tries);
    }

    fn take_back(&mut self, tries: &Tries) {
        if matches!(tries, Tries::Name(_)) {
            self.strangers.wrong = self.strangers.wrong.saturating_sub(1);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn name(name: &str) -> Tries {
        Tries::Name(name.into())
    }

    #[test]
    fn after_five_wrong_tries_a_name_waits_five_minutes() {
        let mut attempts = Attempts::default();
        for n in 1..=TRIES {
            attempts.begin(&name("li"), SECOND * n).unwrap();
        }
        let last = SECOND * TRIES;
        let wait = attempts.begin(&name("li"), last + SECOND).unwrap_err();
        assert_eq!(wait, LOCKED_FOR - SECOND);
        attempts.begin(&name("wang"), last).unwrap();
        attempts.begin(&name("li"), last + LOCKED_FOR).unwrap();
        attempts.was_right(&name("li"));
        for _ in 0..TRIES {
            attempts.begin(&name("li"), last + LOCKED_FOR).unwrap();
        }
        assert!(attempts.begin(&name("li"), last + LOCKED_FOR).is_err());
    }

    #[test]
    fn strangers_keep_nobody_out_of_a_device_in_use() {
        let mut attempts = Attempts::default();
        let mut refused = 0;
        for n in 0..1_000 {
            let tried = attempts.begin(&name(&(n / 3).to_string()), SECOND);
            refused += u32::from(tried.is_err());
        }
        assert_eq!(refused, 1_000 - STRANGERS_TRIES);
        assert!(attempts.counts.len() <= STRANGERS_TRIES as usize + 1);
        let tablet = Tries::Device([1; 16]);
        for _ in 0..TRIES {
            attempts.begin(&tablet, SECOND).unwrap();
        }
        assert!(attempts.begin(&tablet, SECOND).is_err());
        attempts.begin(&Tries::Device([2; 16]), SECOND).unwrap();
        let patient = SECOND + LOCKED_FOR;
        attempts.begin(&name("li"), patient).unwrap();
    }

    #[test]
    fn what_was_right_or_never_checked_does_not_count() {
        let mut attempts = Attempts::default();
        for _ in 0..2 * STRANGERS_TRIES {
            attempts.begin(&name("li"), SECOND).unwrap();
            attempts.was_right(&name("li"));
            attempts.begin(&name("li"), SECOND).unwrap();
            attempts.came_to_nothing(&name("li"));
        }
    }
}
