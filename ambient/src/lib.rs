//! The one place where the world's clock and chance are read.
//!
//! Everything else takes a [`Clock`] and an [`Entropy`] as values; the linter bans the ambient ones.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use domain::time::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};

/// Wall time and monotonic time.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clocks.
    System {
        /// Where monotonic time is counted from.
        start: Instant,
    },
    /// A clock that moves when told: for tests and the simulator.
    Manual(Arc<Mutex<ManualTime>>),
}

/// What a manual clock shows.
#[derive(Clone, Copy, Debug)]
pub struct ManualTime {
    /// Wall time.
    pub wall: Timestamp,
    /// Monotonic time since start.
    pub monotonic: Duration,
}

impl Clock {
    /// The machine's clocks; monotonic time starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that may")]
    pub fn system() -> Self {
        Self::System {
            start: Instant::now(),
        }
    }

    /// A manual clock standing at `wall`.
    #[must_use]
    pub fn manual(wall: Timestamp) -> Self {
        Self::Manual(Arc::new(Mutex::new(ManualTime {
            wall,
            monotonic: Duration::ZERO,
        })))
    }

    /// Wall time.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that may")]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System { .. } => {
                let since = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
            }
            Self::Manual(time) => locked(time).wall,
        }
    }

    /// Time since this clock was made, which never jumps.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        match self {
            Self::System { start } => start.elapsed(),
            Self::Manual(time) => locked(time).monotonic,
        }
    }

    /// Moves a manual clock forward; a system clock moves by itself.
    pub fn advance(&self, span: Duration) {
        match self {
            Self::System { .. } => {}
            Self::Manual(time) => {
                let mut time = locked(time);
                time.wall = time.wall.after(span);
                time.monotonic += span;
            }
        }
    }
}

fn locked(time: &Mutex<ManualTime>) -> std::sync::MutexGuard<'_, ManualTime> {
    time.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Where chance comes from.
#[derive(Clone, Debug)]
pub enum Entropy {
    /// The operating system's generator; fit for keys.
    System(SystemRandom),
    /// A repeatable stream for tests and the simulator. Not fit for keys.
    Seeded(Arc<AtomicU64>),
}

/// The operating system gave no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no randomness")]
pub struct NoEntropy;

impl Entropy {
    /// The operating system's generator.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that may")]
    pub fn system() -> Self {
        Self::System(SystemRandom::new())
    }

    /// A repeatable stream.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(Arc::new(AtomicU64::new(seed)))
    }

    /// `N` random bytes.
    ///
    /// # Errors
    /// When the operating system has none to give.
    pub fn bytes<const N: usize>(&self) -> Result<[u8; N], NoEntropy> {
        let mut out = [0; N];
        match self {
            Self::System(system) => system.fill(&mut out).map_err(|_| NoEntropy)?,
            Self::Seeded(state) => {
                for chunk in out.chunks_mut(8) {
                    let word = splitmix(state).to_le_bytes();
                    chunk.copy_from_slice(&word[..chunk.len()]);
                }
            }
        }
        Ok(out)
    }
}

/// One step of the splitmix64 generator.
fn splitmix(state: &AtomicU64) -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut z = state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(Timestamp::from_micros(5));
        let copy = clock.clone();
        assert_eq!(clock.now(), Timestamp::from_micros(5));
        clock.advance(Duration::from_micros(7));
        assert_eq!(copy.now(), Timestamp::from_micros(12));
        assert_eq!(copy.monotonic(), Duration::from_micros(7));
    }

    #[test]
    fn a_seed_repeats_and_the_system_does_not() {
        let draw = |e: &Entropy| e.bytes::<12>().unwrap();
        assert_eq!(draw(&Entropy::seeded(1)), draw(&Entropy::seeded(1)));
        assert_ne!(draw(&Entropy::seeded(1)), draw(&Entropy::seeded(2)));
        let system = Entropy::system();
        assert_ne!(draw(&system), draw(&system));
    }
}
