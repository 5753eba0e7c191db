//! The intake: each publish goes through the site into the store, and only then is acknowledged.
//!
//! The one task that owns the site. One group is with the writer at a time, so what the site believes is at
//! most one commit ahead of the disk; when that commit fails, the site is made anew from the store, and an
//! uncommitted press is never taken for a repeat. While the disk takes nothing, life safety goes up from memory
//! ([`diskless`]). Never decides what a message means.

mod begin;
mod configure;
mod diskless;
mod group;
mod memory;
mod queue;
mod unacknowledged;
pub use memory::remembered;
pub use unacknowledged::{FORGOTTEN_AFTER, Unacknowledged, Unsure};
#[cfg(test)]
mod tests;

use std::future::{pending, ready};
use std::sync::Arc;
use std::time::Duration;

use ambient::Entropy;
use domain::config::Config;
use domain::id::GatewayId;
use domain::wire::SignedConfig;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::sleep;

use crate::bridge::Board;
use crate::broker::{Access, Outlet, Publish, Talk, Work};
use crate::clock::BoxClock;
use crate::gauges::Gauges;
use crate::seal::BoxKey;
use crate::signal_log::SignalLog;
use crate::site::{Asked, Mark, Site, Tell, Unforwarded, View};
use crate::store::row::SealedConfig;
use crate::store::{Previous, Reader, Standing, Store};
use diskless::Diskless;
use queue::Queue;

/// Pieces of work taken from the MQTT server at once.
const TAKEN: usize = 256;
/// Pause before something that the store refused is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What the intake works with.
#[derive(Debug)]
pub struct Parts {
    /// Where everything goes.
    pub store: Store,
    /// Where the site's state is read after a failure.
    pub reader: Reader,
    /// The time of every step.
    pub clock: BoxClock,
    /// Ids are made with it.
    pub entropy: Entropy,
    /// Counts.
    pub gauges: Arc<Gauges>,
    /// The box.
    pub gateway: GatewayId,
    /// The key that signs Configs.
    pub config_signing: [u8; 32],
    /// The key that seals them.
    pub box_key: BoxKey,
    /// The way to sirens, lamps and doors on the own server.
    pub outlet: Outlet,
    /// The way to those behind other brokers.
    pub tells: broadcast::Sender<Tell>,
    /// Who may speak on the MQTT server.
    pub access: watch::Sender<Arc<Access>>,
    /// The Config version in force; 0 = none.
    pub version: watch::Sender<u64>,
    /// The Config in force.
    pub in_force: watch::Sender<Option<Arc<Config>>>,
    /// Where messages are taken down for whoever sets devices up.
    pub signals: SignalLog,
    /// Devices heard at QoS 0.
    pub unacknowledged: watch::Sender<Unacknowledged>,
}

/// What the intake hears.
#[derive(Debug)]
pub struct Ears {
    /// What the MQTT server hands over; its end is the end of the intake.
    pub work: mpsc::Receiver<Work>,
    /// Configs from the cloud.
    pub configs: mpsc::Receiver<SignedConfig>,
    /// Commands of named people.
    pub commands: mpsc::Receiver<Asked>,
    /// Alarms that wait for the cloud.
    pub unforwarded: watch::Receiver<Unforwarded>,
    /// What is wrong with the store.
    pub standing: watch::Receiver<Standing>,
    /// Questions for what the site knows, answered between two commits.
    pub asked: mpsc::Receiver<Ask>,
    /// How the bridges to other brokers stand.
    pub bridges: Board,
}

/// A question for what the site knows; the answer is none without a Config.
pub type Ask = oneshot::Sender<Option<View>>;

/// See the module's head.
pub struct Intake {
    parts: Parts,
    config: Option<Arc<Config>>,
    /// None without a Config, and after a failed commit until the store is read again.
    site: Option<Site>,
    /// The epoch's first records are still to be written.
    unstarted: Option<Option<Previous>>,
    /// A Config that could not be committed.
    unapplied: Option<SignedConfig>,
    /// What sirens and lamps must say of it, in whatever site.
    unforwarded: Unforwarded,
    /// What was recorded of the store's standing.
    told: Standing,
    queue: Queue<Box<Publish>>,
    /// Rows of the MQTT server's memory that wait for the next commit.
    talks: Vec<Talk>,
    /// While the disk takes nothing.
    diskless: Option<Diskless>,
}

impl Intake {
    /// An intake on what the store kept: the newest Config that opens, and the site's state.
    #[must_use]
    pub fn new(
        parts: Parts,
        configs: &[SealedConfig],
        marks: Vec<Mark>,
        previous: Option<Previous>,
    ) -> Self {
        let mut intake = Self {
            parts,
            config: None,
            site: None,
            unstarted: Some(previous),
            unapplied: None,
            unforwarded: Unforwarded::default(),
            told: Standing::default(),
            queue: Queue::default(),
            talks: Vec::new(),
            diskless: None,
        };
        intake.restore(configs, marks);
        intake
    }

    /// Writes the first records of the epoch, if there is a Config. To be called before anything listens.
    pub async fn begin(&mut self) {
        if !self.is_ready().await && self.config.is_some() {
            tracing::error!("the store does not take the first records; the intake tries on");
            self.leave_the_disk().await;
        }
    }

    /// Runs until the publishes end and everything taken is settled.
    pub async fn run(mut self, mut ears: Ears) {
        let mut taken = Vec::with_capacity(TAKEN);
        let (mut configs_end, mut questions_end) = (false, false);
        let mut afloat = self.parts.store.afloat().subscribe();
        let standing = *ears.standing.borrow_and_update();
        self.tell(standing).await;
        loop {
            let patience = self.patience();
            let idle = self.is_idle();
            let work = async {
                if idle {
                    pending().await
                } else {
                    ready(()).await
                }
            };
            tokio::select! {
                count = ears.work.recv_many(&mut taken, TAKEN), if self.queue.has_room() => {
                    if count == 0 && idle {
                        return;
                    }
                    self.enqueue(&mut taken);
                }
                () = work => self.take_group(&mut ears.work).await,
                config = ears.configs.recv(), if !configs_end => match config {
                    Some(config) => {
                        self.configure(config).await;
                        self.tell_bridges(&ears.bridges).await;
                    }
                    None => configs_end = true,
                },
                Ok(()) = ears.unforwarded.changed() => {
                    self.unforwarded = ears.unforwarded.borrow_and_update().clone();
                    if let Some(site) = self.site.as_mut() {
                        site.set_unforwarded(&self.unforwarded);
                    }
                }
                Some(asked) = ears.commands.recv() => self.obey(&asked).await,
                Ok(()) = afloat.changed() => self.settle_afloat(),
                asked = ears.asked.recv(), if !questions_end => match asked {
                    Some(ask) => self.answer(ask),
                    None => questions_end = true,
                },
                Ok(()) = ears.standing.changed() => {
                    let standing = *ears.standing.borrow_and_update();
                    self.tell(standing).await;
                }
                Ok(()) = ears.bridges.changed() => {
                    self.tell_bridges(&ears.bridges).await;
                }
                () = sleep(patience) => {
                    self.tick().await;
                    let standing = *ears.standing.borrow();
                    self.tell(standing).await;
                    self.tell_bridges(&ears.bridges).await;
                }
            }
        }
    }

    /// Tells what the site knows. An error means that whoever asked has gone.
    fn answer(&self, ask: Ask) {
        let now = self.parts.clock.now();
        let _ = ask.send(self.site.as_ref().map(|site| site.view(&now)));
    }

    /// How long to wait for messages at most.
    fn patience(&self) -> Duration {
        let now = self.parts.clock.now().monotonic;
        let is_waiting = self.unapplied.is_some()
            || self.diskless.is_some()
            || (self.config.is_some() && (self.site.is_none() || self.unstarted.is_some()));
        if is_waiting {
            return RETRY;
        }
        let deadline = self.site.as_ref().and_then(Site::next_deadline);
        deadline.map_or(Duration::MAX, |at| at.saturating_sub(now))
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.talks.is_empty()
    }

    fn enqueue(&mut self, taken: &mut Vec<Work>) {
        for work in taken.drain(..) {
            match work {
                Work::Publish(publish) => {
                    self.parts.gauges.publishes.add(1);
                    let (reserved, bytes) = (publish.reserved, publish.message.payload.len());
                    let username = Arc::clone(&publish.username);
                    self.queue.push(&username, reserved, bytes, publish);
                }
                Work::Talk(talk) => self.talks.push(talk),
            }
        }
    }
}
