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

    /// Another's, too.
    pub fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The value `percent` of the others do not exceed.
    pub fn value(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        let value = sorted.get((last * percent).div_ceil(100));
        value.copied().unwrap_or_default()
    }

    /// The same in milliseconds.
    pub fn at(&self, percent: usize) -> String {
        format!("{:.2} ms", self.value(percent).as_secs_f64() * 1_000.0)
    }
}

/// So many in that time, as a rate.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rate of whole events is exact enough"
)]
pub fn per_second(count: usize, took: Duration) -> String {
    let rate = (count as f64 / took.as_secs_f64()) as u64;
    format!("{rate}/s")
}
