//! The figures `/metrics` shows that only the running process knows (Prometheus text, version 0.0.4).
//!
//! Counts and spans only: no id of a person, no payload. What the tables know is asked of them.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Spans a summary's median looks back on; the oldest is forgotten at it.
const WINDOW: usize = 1_024;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// What is counted since the start of the process.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Counted { $($(#[$doc])* $name,)+ }

        impl Counted {
            const ALL: &'static [Self] = &[$(Self::$name,)+];

            const fn line(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

counters! {
    /// Records of boxes that were receipted.
    Records = "antuo_ingest_records_total",
    /// Batches of boxes that were receipted.
    Batches = "antuo_ingest_batches_total",
    /// No certificate, one of a foreign CA, or a key that is unknown or revoked.
    BadClientKey = "antuo_ingest_refused_total{why=\"bad_client_key\"}",
    /// A handshake that failed for another reason or took too long.
    BrokenHandshake = "antuo_ingest_refused_total{why=\"broken_handshake\"}",
    /// No wire version in common.
    UnknownVersion = "antuo_ingest_refused_total{why=\"unknown_version\"}",
    /// The hello named another box than the certificate.
    NotThisGateway = "antuo_ingest_refused_total{why=\"not_this_gateway\"}",
    /// A frame that cannot be read at all.
    BrokenFrame = "antuo_ingest_refused_total{why=\"broken_frame\"}",
    /// The store could not keep a batch.
    Unavailable = "antuo_ingest_refused_total{why=\"unavailable\"}",
    /// Records sent again that were receipted before.
    Replays = "antuo_ingest_replayed_records_total",
    /// Receipts that tell of a hole.
    Gaps = "antuo_ingest_gap_receipts_total",
    /// Life-safety records that this program cannot read; stored and receipted all the same.
    Unreadable = "antuo_ingest_unreadable_records_total",
    /// Connections closed at once because all places, or all of one address or key, were taken.
    NoPlace = "antuo_connections_refused_total",
    /// Log-ins with a wrong name or password.
    WrongLogIns = "antuo_log_ins_refused_total{why=\"wrong\"}",
    /// Log-ins refused because of too many failures.
    LockedLogIns = "antuo_log_ins_refused_total{why=\"locked\"}",
}

/// The registry; copies share it.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Inner>);

#[derive(Default)]
struct Inner {
    counters: [AtomicU64; Counted::ALL.len()],
    to_screen: Mutex<Summary>,
    to_receiver: Mutex<Summary>,
    unreceipted: Mutex<Unreceipted>,
}

#[derive(Default)]
struct Summary {
    count: u64,
    sum: Duration,
    max: Duration,
    window: VecDeque<Duration>,
}

#[derive(Default)]
struct Unreceipted {
    next: u64,
    /// Age at arrival, and when it arrived (monotonic).
    waiting: HashMap<u64, (Duration, Duration)>,
}

/// A batch between arrival and receipt; dropped at the receipt.
pub struct Waiting {
    metrics: Metrics,
    ticket: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        locked(&self.metrics.0.unreceipted)
            .waiting
            .remove(&self.ticket);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Metrics {
    /// One more.
    pub fn count(&self, what: Counted) {
        self.count_many(what, 1);
    }

    /// So many more.
    pub fn count_many(&self, what: Counted, n: u64) {
        self.0.counters[what as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// From an event's receipt at the box to the bytes on an operator's stream.
    pub fn signal_to_screen(&self, span: Duration) {
        locked(&self.0.to_screen).take(span);
    }

    /// From an event's receipt at the box to a receiver's reply.
    pub fn signal_to_receiver(&self, span: Duration) {
        locked(&self.0.to_receiver).take(span);
    }

    /// A batch whose oldest record was `age` old arrived at `now` (monotonic).
    #[must_use]
    pub fn arrived(&self, age: Duration, now: Duration) -> Waiting {
        let mut unreceipted = locked(&self.0.unreceipted);
        unreceipted.next += 1;
        let ticket = unreceipted.next;
        unreceipted.waiting.insert(ticket, (age, now));
        Waiting {
            metrics: self.clone(),
            ticket,
        }
    }

    /// Age of the oldest record that arrived and is not receipted yet, at `now` (monotonic).
    #[must_use]
    pub fn oldest_unreceipted(&self, now: Duration) -> Duration {
        let unreceipted = locked(&self.0.unreceipted);
        let ages = unreceipted.waiting.values();
        ages.map(|(age, arrived)| *age + now.saturating_sub(*arrived))
            .max()
            .unwrap_or_default()
    }

    /// Writes counters and summaries.
    pub fn write(&self, out: &mut String) {
        let mut family = "";
        for counter in Counted::ALL {
            let line = counter.line();
            let name = line.split('{').next().unwrap_or(line);
            if name != family {
                let _ = writeln!(out, "# TYPE {name} counter");
                family = name;
            }
            let value = self.0.counters[*counter as usize].load(Ordering::Relaxed);
            let _ = writeln!(out, "{line} {value}");
        }
        locked(&self.0.to_screen).write(out, "antuo_signal_to_screen_seconds");
        locked(&self.0.to_receiver).write(out, "antuo_signal_to_receiver_seconds");
    }
}

impl Summary {
    fn take(&mut self, span: Duration) {
        self.count += 1;
        self.sum += span;
        self.max = self.max.max(span);
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back(span);
    }

    fn median(&self) -> Option<Duration> {
        let mut window = self.window.iter().copied().collect::<Vec<_>>();
        window.sort_unstable();
        window.get(window.len().saturating_sub(1) / 2).copied()
    }

    fn write(&self, out: &mut String, name: &str) {
        let _ = writeln!(out, "# TYPE {name} summary");
        if let Some(median) = self.median() {
            let _ = writeln!(out, "{name}{{quantile=\"0.5\"}} {}", median.as_secs_f64());
        }
        let _ = writeln!(out, "{name}_sum {}", self.sum.as_secs_f64());
        let _ = writeln!(out, "{name}_count {}", self.count);
        let _ = writeln!(out, "# TYPE {name}_max gauge");
        let _ = writeln!(out, "{name}_max {}", self.max.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_tells_median_sum_and_largest() {
        let metrics = Metrics::default();
        for ms in [30, 10, 20] {
            metrics.signal_to_screen(Duration::from_millis(ms));
        }
        metrics.count_many(Counted::Records, 7);
        let mut text = String::new();
        metrics.write(&mut text);
        for line in [
            "antuo_signal_to_screen_seconds{quantile=\"0.5\"} 0.02",
            "antuo_signal_to_screen_seconds_sum 0.06",
            "antuo_signal_to_screen_seconds_count 3",
            "antuo_signal_to_screen_seconds_max 0.03",
            "antuo_signal_to_receiver_seconds_count 0",
            "antuo_ingest_records_total 7",
            "antuo_ingest_refused_total{why=\"bad_client_key\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let types = text
            .lines()
            .filter(|l| l.contains("TYPE antuo_ingest_refused_total "));
        assert_eq!(types.count(), 1);
    }

    #[test]
    fn the_median_forgets_what_is_long_past() {
        let mut summary = Summary::default();
        for _ in 0..WINDOW {
            summary.take(Duration::from_secs(9));
        }
        for _ in 0..WINDOW {
            summary.take(Duration::from_secs(1));
        }
        assert_eq!(summary.median(), Some(Duration::from_secs(1)));
        assert_eq!(summary.window.len(), WINDOW);
    }

    #[test]
    fn the_oldest_unreceipted_record_ages_until_its_receipt() {
        let metrics = Metrics::default();
        let second = Duration::from_secs(1);
        let old = metrics.arrived(second * 5, second);
        let _new = metrics.arrived(second, second);
        assert_eq!(metrics.oldest_unreceipted(second * 3), second * 7);
        drop(old);
        assert_eq!(metrics.oldest_unreceipted(second * 3), second * 3);
    }
}
