//! How each bridge stands, for the status page, the metrics and the record.
//!
//! Owns no decision: the driver writes, `status` and `intake` read.

use std::sync::Arc;
use std::time::Duration;

use domain::id::{DeviceId, PointId, PointKey};
use tokio::sync::watch;

use super::Settings;
use crate::gauges::Number;

/// Every bridge, in the order of the settings.
pub type Board = watch::Receiver<Vec<Standing>>;

/// One bridge.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its name.
    pub name: DeviceId,
    /// Where its broker is.
    pub address: String,
    /// The line there.
    pub line: Line,
    /// The line has been down for long enough to be told; none until it was up once or as long down.
    pub silent: Option<bool>,
    /// That broker had forgotten the box at the last log-in, so what it held for the box is lost; none before
    /// the first one.
    pub forgot: Option<bool>,
    /// Filters that broker did not grant as asked.
    pub refused: Vec<String>,
    /// Its counts.
    pub counters: Arc<Counters>,
}

/// A line to a broker, with the monotonic time of its last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Subscribed and hearing.
    Up {
        /// From when.
        since: Duration,
    },
    /// Not.
    Down {
        /// From when.
        since: Duration,
        /// Why; none before the first try.
        trouble: Option<Arc<str>>,
    },
}

/// Counts of one bridge since the start. A gauge says so.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages heard.
    pub messages: Number,
    /// Of them, sent at QoS 0: nobody would send those again.
    pub qos0: Number,
    /// Gauge: handed over and not on disk yet.
    pub uncommitted: Number,
    /// Acknowledgements given to that broker.
    pub acknowledged: Number,
    /// Messages larger than [`PACKET_BYTES`](crate::broker::PACKET_BYTES), cut.
    pub cut: Number,
    /// Messages on what is no topic name, dropped.
    pub unusable: Number,
    /// Log-ins at that broker.
    pub connects: Number,
    /// Log-ins at which that broker had forgotten the box.
    pub forgotten: Number,
    /// Lines closed because a message was not stored.
    pub not_stored: Number,
}

impl Standing {
    fn of(settings: &Settings, now: Duration) -> Self {
        Self {
            name: settings.name.clone(),
            address: settings.address.to_string(),
            line: Line::Down {
                since: now,
                trouble: None,
            },
            silent: None,
            forgot: None,
            refused: Vec::new(),
            counters: Arc::default(),
        }
    }

    /// Whether it is heard.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        match self.line {
            Line::Up { .. } => true,
            Line::Down { .. } => false,
        }
    }

    /// The point its loss is told of.
    #[must_use]
    pub fn point(&self) -> Option<PointKey> {
        Some(PointKey {
            device: self.name.clone(),
            point: PointId::try_from("broker".to_owned()).ok()?,
        })
    }
}

/// One bridge's place on the board.
#[derive(Clone, Debug)]
pub struct Seat {
    board: Arc<watch::Sender<Vec<Standing>>>,
    index: usize,
    /// Its counts.
    pub counters: Arc<Counters>,
}

/// A board on which every bridge is down, and a seat for each, in their order.
#[must_use]
pub fn board(bridges: &[Settings], now: Duration) -> (Board, Vec<Seat>) {
    let standings: Vec<_> = bridges.iter().map(|b| Standing::of(b, now)).collect();
    let (board, shown) = watch::channel(standings.clone());
    let board = Arc::new(board);
    let seats = standings.into_iter().enumerate();
    let seats = seats.map(|(index, standing)| Seat {
        board: Arc::clone(&board),
        index,
        counters: standing.counters,
    });
    (shown, seats.collect())
}

impl Seat {
    pub(super) fn change(&self, change: impl FnOnce(&mut Standing)) {
        self.board.send_modify(|all| {
            if let Some(standing) = all.get_mut(self.index) {
                change(standing);
            }
        });
    }

    /// Returns once the line is up, or once it is down.
    pub(super) async fn turns(&self, up: bool) {
        let mut board = self.board.subscribe();
        let stands = |all: &Vec<Standing>| all.get(self.index).is_some_and(|s| s.is_up() == up);
        // The sender is ours: it is not gone.
        let _ = board.wait_for(stands).await;
    }
}
