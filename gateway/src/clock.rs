//! The box's clocks as the record keeps them: wall time, time since boot, and how far to trust the wall.
//!
//! Owns the boot id and the age of a stored row (D5). Never compares wall clocks to call something old.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use ambient::{Clock, Entropy, NoEntropy};
use domain::digest::to_hex;
use domain::time::{Age, ClockTrust, Timestamp};
use serde::Deserialize;

use crate::site::Now;

/// Largest error claimed for a clock the operating system keeps, in milliseconds. The box cannot read the
/// kernel's own estimate, so this is the administrator's word, given by `clock.trust = "system"`.
pub const SYSTEM_ERR_MS: u32 = 1000;

/// What the settings say of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// The operating system keeps it in step with a time source; its administrator vouches for it.
    System,
    /// Nobody vouches for it: dates of certificates do not count, ages across a reboot are lower bounds.
    Unset,
}

impl Trust {
    const fn claim(self) -> ClockTrust {
        match self {
            Self::System => ClockTrust::Synced {
                err_ms: SYSTEM_ERR_MS,
            },
            Self::Unset => ClockTrust::Unset,
        }
    }
}

/// When a row was received, by the clocks of the box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Time since the boot it was received in.
    pub up: Duration,
    /// The wall clock.
    pub wall: Timestamp,
    /// Whether the wall clock was trusted.
    pub trusted: bool,
}

impl From<&Now> for Received {
    fn from(now: &Now) -> Self {
        Self {
            up: now.monotonic,
            wall: now.wall,
            trusted: is_trusted(now.clock_trust),
        }
    }
}

const fn is_trusted(trust: ClockTrust) -> bool {
    match trust {
        ClockTrust::Synced { .. } | ClockTrust::Holdover { .. } => true,
        ClockTrust::Unset => false,
    }
}

/// The age of a row at this sending (D5): exact within one boot; across a reboot by the wall clock if it was
/// and is trusted, and never less than the time this boot has lasted; else that time as a lower bound.
#[must_use]
pub fn age(received: Received, same_boot: bool, now: &Now) -> Age {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    if same_boot {
        return Age::Known(millis(now.monotonic.saturating_sub(received.up)));
    }
    if received.trusted && is_trusted(now.clock_trust) {
        return Age::Known(millis(now.wall.since(received.wall).max(now.monotonic)));
    }
    Age::AtLeast(millis(now.monotonic))
}

/// The clocks of one process.
#[derive(Clone, Debug)]
pub struct BoxClock {
    clock: Clock,
    boot: Arc<str>,
    up_at_start: Duration,
    trust: ClockTrust,
}

impl BoxClock {
    /// The clocks of this machine. Where the system names no boot, a fresh id is made: ages across restarts
    /// are then lower bounds, which is safe.
    ///
    /// # Errors
    /// When an id must be made and the system gives no randomness.
    pub fn of_this_boot(clock: Clock, entropy: &Entropy, trust: Trust) -> Result<Self, NoEntropy> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let uptime = fs::read_to_string("/proc/uptime");
        let known = boot.ok().zip(uptime.ok().as_deref().and_then(parse_uptime));
        match known {
            Some((boot, up)) => Ok(Self::new(clock, boot.trim(), up, trust)),
            None => {
                let made = to_hex(&entropy.bytes::<16>()?);
                Ok(Self::new(clock, &made, Duration::ZERO, trust))
            }
        }
    }

    /// The clocks of a boot named by the caller, which had lasted `up_at_start` when `clock` was made.
    #[must_use]
    pub fn new(clock: Clock, boot: &str, up_at_start: Duration, trust: Trust) -> Self {
        Self {
            clock,
            boot: boot.into(),
            up_at_start,
            trust: trust.claim(),
        }
    }

    /// The kernel's boot id.
    #[must_use]
    pub fn boot(&self) -> &Arc<str> {
        &self.boot
    }

    /// All clocks at once. `monotonic` counts from the boot.
    #[must_use]
    pub fn now(&self) -> Now {
        Now {
            wall: self.clock.now(),
            monotonic: self.up_at_start + self.clock.monotonic(),
            clock_trust: self.trust,
        }
    }
}

/// The first number of `/proc/uptime`: seconds since boot, suspended time included (proc(5)).
fn parse_uptime(text: &str) -> Option<Duration> {
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn at(up_s: u64, wall_s: i64, clock_trust: ClockTrust) -> Now {
        Now {
            wall: Timestamp::from_micros(wall_s * 1_000_000),
            monotonic: Duration::from_secs(up_s),
            clock_trust,
        }
    }

    const SYNCED: ClockTrust = ClockTrust::Synced { err_ms: 1 };

    #[test]
    fn within_one_boot_a_jumping_wall_clock_changes_no_age() {
        let received = Received::from(&at(10, 1_000, SYNCED));
        let later = at(15, -99_000, ClockTrust::Unset);
        assert_eq!(age(received, true, &later), Age::Known(5_000));
    }

    #[test]
    fn across_a_reboot_the_age_is_known_only_by_clocks_trusted_at_both_ends() {
        let received = Received::from(&at(10, 1_000, SYNCED));
        assert_eq!(
            age(received, false, &at(7, 1_600, SYNCED)),
            Age::Known(600_000)
        );
        let unset = at(7, 1_600, ClockTrust::Unset);
        assert_eq!(age(received, false, &unset), Age::AtLeast(7_000));
        let doubtful = Received::from(&unset);
        assert_eq!(
            age(doubtful, false, &at(7, 1_600, SYNCED)),
            Age::AtLeast(7_000)
        );
    }

    #[test]
    fn a_row_of_an_earlier_boot_is_at_least_as_old_as_this_boot() {
        let received = Received::from(&at(10, 1_000, SYNCED));
        assert_eq!(
            age(received, false, &at(9, 1_001, SYNCED)),
            Age::Known(9_000)
        );
    }

    #[test]
    fn uptime_reads_and_nonsense_does_not() {
        assert_eq!(
            parse_uptime("12.50 40.1\n"),
            Some(Duration::from_millis(12_500))
        );
        for bad in ["", "x 1", "-3 1", "NaN", "inf"] {
            assert_eq!(parse_uptime(bad), None, "{bad}");
        }
    }
}
