//! Hints that rows changed, for whoever shows or works on them.
//!
//! A wake is only a hint: the table is the truth, and every listener also looks again by itself.
//! Never carries what changed, only where to look.

use domain::id::{CentreId, ChildId, GatewayId, IncidentId};
use tokio::sync::broadcast;

/// Wakes a slow listener may be behind; beyond it it is told that it lagged and looks at everything.
const BACKLOG: usize = 1_024;

/// Something of a centre changed and is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wake {
    /// Whose.
    pub centre: CentreId,
    /// Where to look.
    pub what: Changed,
}

/// Where to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Changed {
    /// A case, or anything shown with it.
    Incident(IncidentId),
    /// A child's presence.
    Child(ChildId),
    /// Jobs are due at some receiver.
    Dispatch,
    /// Commands to boxes of the centre, or what is out of full service there.
    Service,
    /// A box: its configuration, key or connection.
    Gateway(GatewayId),
}

/// The way wakes travel within the process.
#[derive(Clone)]
pub struct Wakes(broadcast::Sender<Wake>);

impl Default for Wakes {
    fn default() -> Self {
        Self::new()
    }
}

impl Wakes {
    /// A way with nobody listening.
    #[must_use]
    pub fn new() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }

    /// Wakes whoever listens. To be called after the commit, never before.
    pub fn send(&self, wake: Wake) {
        // No listener is no fault: each looks at the tables when it starts.
        let _ = self.0.send(wake);
    }

    /// Listens from now on. Subscribe before the first look at the table, or a change is missed.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Wake> {
        self.0.subscribe()
    }
}
