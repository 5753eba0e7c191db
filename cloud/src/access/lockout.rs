//! How often a name may be tried from one address, and one address may fail at all. Pure: time is
//! handed in.
//!
//! A try counts when it begins, so that tries side by side cannot pass a limit; success takes it back,
//! and so does a try of ours that came to nothing. What is counted stands in two arrays of fixed size,
//! under a secret of this process: nothing can be pushed out by a flood of other names, and nobody can
//! choose whom they share a bucket with. Never sees a password.

use std::net::IpAddr;
use std::time::Duration;

use ring::hmac;

use crate::quota::whose;

/// Failed tries of one name from one address before each further one must wait.
pub const FAILURES_MAX: u32 = 5;
/// The wait between tries after that. Short, so that nobody can lock a colleague at the same address out
/// for good; long enough that guessing leads nowhere.
pub const SLOWED_FOR: Duration = Duration::from_secs(60);
/// How long failures of a name from an address are remembered after the last.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(15 * 60);
/// Failed tries of one address, whatever the names; at it the address is locked until the span is over.
pub const ADDRESS_FAILURES_MAX: u32 = 100;
/// The span in which those count, from the first.
pub const ADDRESS_SPAN: Duration = Duration::from_secs(15 * 60);
/// Buckets of each array. Sharing one only means counting together; with [`ADDRESS_FAILURES_MAX`] it takes
/// thousands of addresses to make that likely.
const BUCKETS: usize = 65_536;

/// What failed lately.
pub struct Lockout {
    secret: hmac::Key,
    pairs: Vec<Tries>,
    addresses: Vec<Tries>,
}

#[derive(Clone, Copy, Default)]
struct Tries {
    begun: u32,
    /// The latest of a pair, the first of an address.
    at: Duration,
}

/// A try that has begun: which buckets it counts in.
#[derive(Clone, Copy)]
#[must_use]
pub struct Try {
    pair: usize,
    address: usize,
    begun_at: Duration,
    /// When the pair was tried before.
    before: Duration,
}

impl Lockout {
    /// Nothing failed yet.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self {
            secret: hmac::Key::new(hmac::HMAC_SHA256, secret),
            pairs: vec![Tries::default(); BUCKETS],
            addresses: vec![Tries::default(); BUCKETS],
        }
    }

    /// Counts a try that begins at `now` (monotonic).
    ///
    /// # Errors
    /// The time left when the pair or the address has to wait; the try must then not be made.
    pub fn begin(&mut self, name: &str, from: IpAddr, now: Duration) -> Result<Try, Duration> {
        let (pair_at, address_at) = (self.bucket(name, from), self.bucket("", from));
        let pair = &mut self.pairs[pair_at];
        if now >= pair.at + REMEMBERED_FOR {
            pair.begun = 0;
        }
        let address = &mut self.addresses[address_at];
        if address.begun == 0 || now >= address.at + ADDRESS_SPAN {
            *address = Tries { begun: 0, at: now };
        }
        let slowed = pair.wait(FAILURES_MAX, SLOWED_FOR, now);
        let locked = address.wait(ADDRESS_FAILURES_MAX, ADDRESS_SPAN, now);
        let wait = slowed.max(locked);
        if !wait.is_zero() {
            return Err(wait);
        }
        let before = std::mem::replace(&mut pair.at, now);
        pair.begun = pair.begun.saturating_add(1);
        address.begun += 1;
        Ok(Try {
            pair: pair_at,
            address: address_at,
            begun_at: now,
            before,
        })
    }

    /// The password fitted: the pair starts afresh, and the try was none of the address's failures. What
    /// that failed before stays, or anyone with a password of their own could guess on without end.
    pub fn succeeded(&mut self, this: Try) {
        self.pairs[this.pair].begun = 0;
        self.addresses[this.address].take_back();
    }

    /// The password was never checked.
    pub fn came_to_nothing(&mut self, this: Try) {
        let pair = &mut self.pairs[this.pair];
        pair.take_back();
        if pair.at == this.begun_at {
            pair.at = this.before;
        }
        self.addresses[this.address].take_back();
    }

    fn bucket(&self, name: &str, from: IpAddr) -> usize {
        let tag = hmac::sign(&self.secret, format!("{} {name}", whose(from)).as_bytes());
        let [high, low] = [0, 1].map(|at| usize::from(tag.as_ref()[at]));
        high << 8 | low
    }
}

impl Tries {
    fn wait(self, most: u32, span: Duration, now: Duration) -> Duration {
        if self.begun < most {
            return Duration::ZERO;
        }
        (self.at + span).saturating_sub(now)
    }

    fn take_back(&mut self) {
        self.begun = self.begun.saturating_sub(1);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const SECOND: Duration = Duration::from_secs(1);

    fn fresh() -> Lockout {
        Lockout::new(&[7; 32])
    }

    fn fail(lockout: &mut Lockout, name: &str, from: IpAddr, now: Duration) {
        let _counted = lockout.begin(name, from, now).unwrap();
    }

    #[test]
    fn five_failures_slow_one_name_from_one_address_down() {
        let mut lockout = fresh();
        for _ in 0..FAILURES_MAX {
            fail(&mut lockout, "li", HOME, SECOND);
        }
        let refused = lockout.begin("li", HOME, SECOND * 2).err();
        assert_eq!(refused, Some(SLOWED_FOR - SECOND));
        fail(&mut lockout, "li", AWAY, SECOND * 2);
        fail(&mut lockout, "wang", HOME, SECOND * 2);
        // Whoever knows the password gets in a minute later, whatever others did.
        let right = lockout.begin("li", HOME, SECOND + SLOWED_FOR).unwrap();
        assert!(lockout.begin("li", HOME, SECOND + SLOWED_FOR).is_err());
        lockout.succeeded(right);
        fail(&mut lockout, "li", HOME, SECOND + SLOWED_FOR);
    }

    #[test]
    fn failures_are_forgotten_in_the_end() {
        let mut lockout = fresh();
        for _ in 0..FAILURES_MAX {
            fail(&mut lockout, "li", HOME, SECOND);
        }
        for _ in 0..FAILURES_MAX {
            fail(&mut lockout, "li", HOME, SECOND + REMEMBERED_FOR);
        }
    }

    #[test]
    fn what_was_never_checked_or_fitted_is_no_failure() {
        let mut lockout = fresh();
        for _ in 0..2 * ADDRESS_FAILURES_MAX {
            let this = lockout.begin("li", HOME, SECOND).unwrap();
            lockout.succeeded(this);
            let this = lockout.begin("li", HOME, SECOND).unwrap();
            lockout.came_to_nothing(this);
        }
        for n in 0..FAILURES_MAX {
            fail(&mut lockout, "li", HOME, SECOND * n);
        }
        // A busy moment does not begin the wait anew.
        let now = SLOWED_FOR + SECOND * 4;
        let this = lockout.begin("li", HOME, now).unwrap();
        lockout.came_to_nothing(this);
        fail(&mut lockout, "li", HOME, now);
    }

    #[test]
    fn an_address_has_a_budget_of_failures_that_success_does_not_refill() {
        let mut lockout = fresh();
        for n in 0..ADDRESS_FAILURES_MAX {
            fail(&mut lockout, &n.to_string(), HOME, SECOND);
            if n + 1 < ADDRESS_FAILURES_MAX {
                let own = lockout.begin("own", HOME, SECOND).unwrap();
                lockout.succeeded(own);
            }
        }
        let refused = lockout.begin("own", HOME, SECOND * 2).err();
        assert_eq!(refused, Some(ADDRESS_SPAN - SECOND));
        fail(&mut lockout, "own", AWAY, SECOND * 2);
        fail(&mut lockout, "own", HOME, SECOND + ADDRESS_SPAN);
    }

    #[test]
    fn a_flood_of_names_unlocks_none() {
        let mut lockout = fresh();
        for _ in 0..FAILURES_MAX {
            fail(&mut lockout, "li", AWAY, Duration::ZERO);
        }
        // As many addresses as it takes to fill 10,000 pairs to the limit, then some fresh ones.
        for n in 0..15_000_u32 {
            let from = IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n / 20));
            for _ in 0..FAILURES_MAX {
                let _counted_or_full = lockout.begin(&n.to_string(), from, SECOND).ok();
            }
        }
        assert!(lockout.begin("li", AWAY, SECOND * 2).is_err());
        assert_eq!(lockout.pairs.len() + lockout.addresses.len(), 2 * BUCKETS);
    }
}
