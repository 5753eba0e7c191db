//! The channels between the drivers, and how much each holds.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, watch};

use crate::bridge;
use crate::broker::{self, Access};
use crate::clock::BoxClock;
use crate::config::Config;
use crate::forwarding::Told;
use crate::intake::{Ask, Unacknowledged};
use crate::signal_log::SignalLog;
use crate::site::{Asked, Tell};
use crate::uplink::Link;

/// Messages and rows on their way from the MQTT server to the intake; beyond it connections are not read from.
const WORK: usize = 1_024;
/// Configs on their way from the uplink; the newest is what counts.
const CONFIGS: usize = 2;
/// Commands on their way from the uplink; beyond it one is not taken, and the cloud says it again.
const COMMANDS: usize = 64;
/// Questions of the page to the intake; beyond it the page waits.
const ASKS: usize = 4;

/// The channels between the drivers.
pub(super) struct Channels {
    pub access: watch::Sender<Arc<Access>>,
    pub version: watch::Sender<u64>,
    pub link: watch::Sender<Link>,
    pub waiting: Told,
    pub configs: (
        mpsc::Sender<domain::wire::SignedConfig>,
        mpsc::Receiver<domain::wire::SignedConfig>,
    ),
    pub commands: (mpsc::Sender<Asked>, mpsc::Receiver<Asked>),
    pub tells: broadcast::Sender<Tell>,
    pub work: (mpsc::Sender<broker::Work>, mpsc::Receiver<broker::Work>),
    pub in_force: watch::Sender<Option<Arc<domain::config::Config>>>,
    pub asks: (mpsc::Sender<Ask>, mpsc::Receiver<Ask>),
    pub signals: SignalLog,
    pub bridges: (bridge::Board, Vec<bridge::Seat>),
    pub unacknowledged: watch::Sender<Unacknowledged>,
}

impl Channels {
    pub fn new(config: &Config, clock: &BoxClock) -> Self {
        Self {
            access: watch::Sender::new(Arc::new(Access::default())),
            version: watch::Sender::new(0),
            link: watch::Sender::new(Link::Connecting),
            waiting: Told {
                ages: watch::Sender::new([None; 3]),
                unforwarded: watch::Sender::default(),
            },
            configs: mpsc::channel(CONFIGS),
            commands: mpsc::channel(COMMANDS),
            tells: broadcast::Sender::new(bridge::TELLS),
            work: mpsc::channel(WORK),
            in_force: watch::Sender::new(None),
            asks: mpsc::channel(ASKS),
            signals: SignalLog::default(),
            bridges: bridge::board(&config.bridges, clock.now().monotonic),
            unacknowledged: watch::Sender::default(),
        }
    }
}
