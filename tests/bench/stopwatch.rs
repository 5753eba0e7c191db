//! Time as the benchmark reads it: the one place of this crate that looks at a clock.

use std::time::{Duration, Instant};

/// Runs from its making.
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Since its start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Durations and their percentiles.
#[derive(Default)]
pub struct Figures(Vec<Duration>);

impl From<Duration> for Figures {
    fn from(only: Duration) -> Self {
        Self(vec![only])
    }
}

impl Figures {
    /// One more.
    pub fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// The value `percent` of the others do not exceed, in milliseconds.
    pub fn at(&self, percent: usize) -> String {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        let value = sorted
            .get((last * percent).div_ceil(100))
            .copied()
            .unwrap_or_default();
        format!("{:.2} ms", value.as_secs_f64() * 1_000.0)
    }
}
