//! A socket on its way to a log-in: how long it may take, and what may end it from outside.
//!
//! Handshakes and CONNECT share one deadline and one place at the door. Reads no byte.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::time::{Sleep, sleep};

use super::listener::{Admitted, House, stopped};
use super::report::CloseReason;

/// See the module's head.
pub(super) struct Visit {
    pub(super) admitted: Admitted,
    pub(super) house: Arc<House>,
    deadline: Pin<Box<Sleep>>,
}

impl Visit {
    /// Begins now.
    pub(super) fn new(admitted: Admitted, house: Arc<House>) -> Self {
        let deadline = Box::pin(sleep(house.limits.connect_deadline));
        Self {
            admitted,
            house,
            deadline,
        }
    }

    /// Takes one step of the way, as long as nothing ends it. Not to be called again after an error.
    pub(super) async fn step<T>(
        &mut self,
        step: impl Future<Output = Result<T, CloseReason>>,
    ) -> Result<T, CloseReason> {
        let mut shutdown = self.house.shutdown.clone();
        tokio::select! {
            biased;
            () = stopped(&mut shutdown) => Err(CloseReason::Shutdown),
            () = self.admitted.evicted() => Err(CloseReason::Evicted),
            done = step => done,
            () = self.deadline.as_mut() => Err(CloseReason::ConnectTimeout),
        }
    }
}

/// Counts the end of a connection.
pub(super) fn ended(house: &House, reason: CloseReason) {
    house.reporter.counters.count_close(reason);
    if reason == CloseReason::Panicked {
        tracing::error!("a connection task panicked; the connection is closed, others go on");
    }
    tracing::debug!(reason = reason.as_str(), "connection ended");
}
