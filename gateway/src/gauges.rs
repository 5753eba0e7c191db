//! Numbers the box shows about itself. Written by whoever owns them, read by `status`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use domain::kind::Lane;

/// One number.
#[derive(Debug, Default)]
pub struct Number(AtomicU64);

impl Number {
    /// Adds to a count.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Sets a level.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A yes or no.
#[derive(Debug, Default)]
pub struct Flag(AtomicBool);

impl Flag {
    /// Sets it and says whether it changed.
    pub fn set(&self, value: bool) -> bool {
        self.0.swap(value, Ordering::Relaxed) != value
    }

    /// Reads it.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a lane holds, all epochs.
#[derive(Debug, Default)]
pub struct LaneGauges {
    /// Rows without a receipt.
    pub rows: Number,
    /// What they cost in bytes.
    pub bytes: Number,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Gauges {
    lanes: [LaneGauges; 3],
    /// Transactions on disk.
    pub commits: Number,
    /// Transactions that failed.
    pub commit_failures: Number,
    /// Rows counted in tombstones instead of kept.
    pub shed: Number,
    /// Messages that could not be read (`ingest.rejected`).
    pub rejected: Number,
    /// Messages that no enrolment explains (`ingest.unmapped`).
    pub unmapped: Number,
    /// Publishes taken in.
    pub publishes: Number,
    /// Publishes answered with a closed connection because they were not stored.
    pub publishes_failed: Number,
    /// Connections to the cloud that were lost or refused.
    pub reconnects: Number,
    /// When the box's certificate for its centre's network runs out, in seconds since 1970; 0 = it has none.
    pub lan_until: Number,
    /// A life-safety event has waited for its receipt for longer than allowed (G7).
    pub not_forwarded: Flag,
}

impl Gauges {
    /// Those of one lane.
    #[must_use]
    pub const fn lane(&self, lane: Lane) -> &LaneGauges {
        match lane {
            Lane::LifeSafety => &self.lanes[0],
            Lane::Supervisory => &self.lanes[1],
            Lane::Telemetry => &self.lanes[2],
        }
    }
}
