//! The uplink: one connection to the cloud, over which rows go up and receipts and Configs come down.
//!
//! Owns the socket. What to do is decided by [`machine`]; rows are read from the store a page at a time, so
//! memory does not grow with the queue.

pub mod lanes;
mod line;
pub mod machine;
#[cfg(test)]
mod tests;
pub mod tls;

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use ambient::Entropy;
use domain::kind::Lane;
use domain::wire::SignedConfig;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::clock::BoxClock;
use crate::gauges::Gauges;
use crate::site::Asked;
use crate::store::afloat::Afloat;
use crate::store::{Heads, Reader, Store};
use lanes::Load;
use line::Line;
pub use line::Peer;
use machine::{Effect, Input, Phase, Trouble, Uplink};
use std::sync::Arc;

/// How the link stands, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Being opened.
    Connecting,
    /// Records flow.
    Up,
    /// Waiting to try again after this trouble; none before the first try.
    Resting(Option<Trouble>),
}

impl Link {
    fn of(phase: &Phase) -> Self {
        match phase {
            Phase::Resting { trouble, .. } => Self::Resting(trouble.clone()),
            Phase::Opening | Phase::Greeting { .. } | Phase::Closing => Self::Connecting,
            Phase::Up(_) => Self::Up,
        }
    }
}

/// What the driver works with.
#[derive(Debug)]
pub struct Driver {
    /// Where the cloud is.
    pub peer: Peer,
    /// The decisions.
    pub uplink: Uplink,
    /// Takes receipts.
    pub store: Store,
    /// Gives pages.
    pub reader: Reader,
    /// Ages are counted by it.
    pub clock: BoxClock,
    /// Spreads the rests.
    pub entropy: Entropy,
    /// Takes Configs.
    pub configs: mpsc::Sender<SignedConfig>,
    /// Takes commands; with a full channel they are not taken.
    pub commands: mpsc::Sender<Asked>,
    /// The Config version the box runs.
    pub config_version: watch::Receiver<u64>,
    /// Shows how the link stands.
    pub link: watch::Sender<Link>,
    /// Counts reconnects.
    pub gauges: Arc<Gauges>,
}

impl Driver {
    /// Keeps the conversation up until told to stop.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut talk = Talk {
            heads: self.store.heads(),
            afloat: self.store.afloat().subscribe(),
            backlog: 0,
            line: None,
            driver: self,
        };
        tokio::select! {
            () = talk.hold() => {}
            // An error means that whoever could say stop is gone.
            _ = stop.wait_for(|stop| *stop) => {}
        }
        if let Some(line) = talk.line.take() {
            line.close().await;
        }
    }
}

struct Talk {
    driver: Driver,
    heads: watch::Receiver<Heads>,
    afloat: watch::Receiver<Afloat>,
    backlog: u64,
    line: Option<Line>,
}

impl Talk {
    async fn hold(&mut self) {
        let version = *self.driver.config_version.borrow_and_update();
        let heads = *self.heads.borrow_and_update();
        self.take(Input::Config(version)).await;
        self.take(Input::Heads(heads)).await;
        let afloat = self.look_afloat();
        self.take(afloat).await;
        loop {
            let Some(input) = self.next().await else {
                return;
            };
            self.take(input).await;
        }
    }

    /// Whatever happens first. None when the store or the control is gone: the process ends.
    async fn next(&mut self) -> Option<Input> {
        let patience = self.patience();
        tokio::select! {
            changed = self.heads.changed() => {
                changed.ok()?;
                Some(Input::Heads(*self.heads.borrow_and_update()))
            }
            changed = self.driver.config_version.changed() => {
                changed.ok()?;
                Some(Input::Config(*self.driver.config_version.borrow_and_update()))
            }
            changed = self.afloat.changed() => {
                changed.ok()?;
                Some(self.look_afloat())
            }
            heard = hear(&mut self.line) => Some(match heard {
                Ok(input) => input,
                Err(trouble) => self.lost(trouble),
            }),
            () = sleep(patience) => Some(Input::Tick),
        }
    }

    fn look_afloat(&mut self) -> Input {
        let afloat = self.afloat.borrow_and_update();
        let last = Lane::ALL.map(|lane| afloat.last(lane));
        Input::Afloat(afloat.epoch().map(|epoch| (epoch, last)))
    }

    fn patience(&self) -> Duration {
        let now = self.driver.clock.now().monotonic;
        let deadline = self.driver.uplink.next_deadline();
        deadline.map_or(Duration::MAX, |at| at.saturating_sub(now))
    }

    fn lost(&mut self, trouble: Trouble) -> Input {
        self.line = None;
        self.driver.gauges.reconnects.add(1);
        let resting = Link::Resting(Some(trouble.clone()));
        if *self.driver.link.borrow() != resting {
            tracing::warn!(%trouble, "no connection to the cloud");
        }
        // Without randomness all boxes come back together, which is still better than not at all.
        let chance = self.driver.entropy.bytes().map_or(0, u32::from_le_bytes);
        Input::Lost { trouble, chance }
    }

    /// Takes a step and everything that follows from it at once.
    async fn take(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            if self.has_unread_backlog(&input) {
                inputs.push_back(self.read_backlog().await);
            }
            let now = self.driver.clock.now();
            for effect in self.driver.uplink.step(input, &now) {
                inputs.extend(self.carry_out(effect).await);
            }
            self.show();
        }
    }

    /// Whether rows were added to old epochs that are not known here yet. Asked again at every new
    /// connection: a read that failed has cost the one before.
    fn has_unread_backlog(&self, input: &Input) -> bool {
        let asks = matches!(input, Input::Heads(_) | Input::Opened);
        asks && self.heads.borrow().backlog != self.backlog
    }

    async fn read_backlog(&mut self) -> Input {
        let backlog = self.heads.borrow().backlog;
        match self.driver.reader.streams().await {
            Ok(heads) => {
                self.backlog = backlog;
                Input::Backlog(heads)
            }
            Err(error) => {
                tracing::error!(error = %crate::chain(&error), "old epochs cannot be read");
                self.lost(Trouble::Store)
            }
        }
    }

    async fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Connect => Some(match Line::open(&self.driver.peer).await {
                Ok(line) => {
                    self.line = Some(line);
                    Input::Opened
                }
                Err(trouble) => self.lost(trouble),
            }),
            Effect::Hello(_) | Effect::Send(_) | Effect::Ping => {
                let line = self.line.as_mut()?;
                let said = match effect.into_frame() {
                    Some(frame) => line.say(&frame).await,
                    None => line.ping().await,
                };
                said.err().map(|trouble| self.lost(trouble))
            }
            Effect::Close(trouble) => {
                if let Some(line) = self.line.take() {
                    line.close().await;
                }
                Some(self.lost(trouble))
            }
            Effect::Load(load) => Some(self.load(load).await),
            Effect::Receipt(receipt) => {
                let afloat = self.driver.store.afloat();
                afloat.send_if_modified(|afloat| afloat.receipt(&receipt));
                self.driver.store.receipt(receipt).await;
                None
            }
            Effect::Config(config) => {
                // Without a control the process is ending.
                let _ = self.driver.configs.send(config).await;
                None
            }
            Effect::Command(asked) => {
                let id = asked.command.id;
                // The cloud says it again until its fact has come up or it has expired.
                if self.driver.commands.try_send(asked).is_err() {
                    tracing::warn!(%id, "a command is not taken now: too many wait");
                }
                None
            }
        }
    }

    async fn load(&mut self, load: Load) -> Input {
        let (stream, after, through) = (load.stream, load.after, load.through);
        let (in_memory, is_afloat) = {
            let afloat = self.driver.store.afloat().borrow();
            let page = afloat.page(stream, after, through, load.rows, load.bytes);
            (page, afloat.epoch().is_some())
        };
        if let Some(page) = in_memory {
            return Input::Page(load, page);
        }
        let reader = &mut self.driver.reader;
        let page = reader.page(stream, after, through, load.rows, load.bytes);
        match page.await {
            Ok(page) => Input::Page(load, page),
            Err(error) => {
                tracing::error!(error = %crate::chain(&error), "rows cannot be read");
                if is_afloat {
                    Input::Unreadable(load)
                } else {
                    self.lost(Trouble::Store)
                }
            }
        }
    }

    fn show(&self) {
        let link = Link::of(self.driver.uplink.phase());
        self.driver.link.send_if_modified(|shown| {
            let changed = *shown != link;
            if changed && link == Link::Up {
                tracing::info!("connected to the cloud");
            }
            *shown = link;
            changed
        });
    }
}

/// The next thing the cloud says, or never without a line.
async fn hear(line: &mut Option<Line>) -> Result<Input, Trouble> {
    match line {
        Some(line) => line.hear().await,
        None => pending().await,
    }
}
