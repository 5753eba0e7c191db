//! The conversation with the cloud: connect, greet, send, hear, notice that it is dead, rest, again. Pure.
//!
//! The driver carries the effects out and reports what happens. Owns when to give a connection up and how
//! long to rest; what is sent when is for [`Lanes`].

use std::time::Duration;

use domain::backoff::Backoff;
use domain::id::{EpochId, GatewayId};
use domain::kind::Lane;
use domain::wire::{Batch, Down, Hello, Receipt, Refused, SignedConfig, Up, WIRE_READS, Welcome};

use super::lanes::{Lanes, Load};
use crate::site::{Asked, Now};
use crate::store::{Heads, Held, StreamHead};

/// How often the cloud is pinged, which also keeps the line open through NAT and balancers.
pub const PING_EVERY: Duration = Duration::from_secs(15);
/// Pings in a row that nothing was heard after. At it the line is dead.
pub const PINGS_MISSED: u32 = 2;
/// Longest wait for the welcome.
pub const WELCOME_WITHIN: Duration = Duration::from_secs(10);
/// Longest wait for the receipt of a life-safety batch. Beyond: a new connection may do better.
pub const LIFE_SAFETY_RECEIPT_WITHIN: Duration = Duration::from_secs(10);
/// Longest wait for the receipt of another batch. Beyond: as above.
pub const BULK_RECEIPT_WITHIN: Duration = Duration::from_secs(30);
/// Pause before a store that could not be read is read again, while memory holds rows that can go up.
pub const READ_AGAIN: Duration = Duration::from_secs(5);
/// Rest after trouble that passes by itself.
pub const SHORT_REST: Backoff = Backoff {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(30),
};
/// Rest after trouble that a person must mend.
pub const LONG_REST: Backoff = Backoff {
    first: Duration::from_secs(30),
    longest: Duration::from_secs(300),
};

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No TCP connection in time.
    #[error("the cloud cannot be reached")]
    Unreachable,
    /// Its certificate is not one of our CA's, or names another.
    #[error("the cloud's certificate is not trusted: {0}")]
    NotTrusted(String),
    /// TLS or WebSocket could not be agreed on.
    #[error("the cloud does not speak as expected: {0}")]
    NoAgreement(String),
    /// No welcome in time.
    #[error("no welcome from the cloud in time")]
    NoWelcome,
    /// It welcomed us in a wire version we do not read.
    #[error("the cloud speaks wire version {0}, which this program does not")]
    UnknownVersion(u32),
    /// It refused.
    #[error("the cloud refused: {0}")]
    Refused(Refused),
    /// It sent what is no frame.
    #[error("a frame from the cloud cannot be read")]
    BrokenFrame,
    /// It claims to hold what was never sent.
    #[error("the cloud receipted numbers that were never sent")]
    ImpossibleReceipt,
    /// A batch got no receipt in time.
    #[error("no receipt from the cloud in time")]
    ReceiptOverdue,
    /// Nothing heard.
    #[error("nothing heard from the cloud")]
    Silent,
    /// The connection ended.
    #[error("the connection to the cloud ended")]
    Closed,
    /// The box's own file cannot be read.
    #[error("the store cannot be read")]
    Store,
}

impl Trouble {
    const fn rest(&self) -> Backoff {
        match self {
            Self::UnknownVersion(_) | Self::BrokenFrame | Self::ImpossibleReceipt => LONG_REST,
            Self::Refused(why) => match why {
                Refused::UnknownVersion
                | Refused::NotThisGateway
                | Refused::KeyRevoked
                | Refused::BrokenFrame => LONG_REST,
                Refused::Unavailable => SHORT_REST,
            },
            Self::Unreachable
            | Self::NotTrusted(_)
            | Self::NoAgreement(_)
            | Self::NoWelcome
            | Self::ReceiptOverdue
            | Self::Silent
            | Self::Closed
            | Self::Store => SHORT_REST,
        }
    }
}

/// What happens to the uplink.
#[derive(Debug)]
pub enum Input {
    /// Time passed.
    Tick,
    /// The WebSocket stands.
    Opened,
    /// A frame came.
    Frame(Down),
    /// Something else came, such as a pong.
    Heard,
    /// There is no connection any more.
    Lost {
        /// Why.
        trouble: Trouble,
        /// Chance that spreads the rest.
        chance: u32,
    },
    /// The page asked for.
    Page(Load, Vec<Held>),
    /// The page asked for cannot be read from the store, while memory holds rows that can go up.
    Unreadable(Load),
    /// An epoch without a disk and how far each lane of it may be sent; none when the disk is back.
    Afloat(Option<(EpochId, [u64; 3])>),
    /// New rows may be sent.
    Heads(Heads),
    /// What the store holds of old epochs.
    Backlog(Vec<StreamHead>),
    /// The box runs this Config now.
    Config(u64),
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Open a connection; answered by [`Input::Opened`] or [`Input::Lost`].
    Connect,
    /// Say hello.
    Hello(Hello),
    /// Send records.
    Send(Batch),
    /// Ping.
    Ping,
    /// End the connection; answered by [`Input::Lost`] with this trouble.
    Close(Trouble),
    /// Read a page; answered by [`Input::Page`].
    Load(Load),
    /// Let the writer delete what the cloud holds.
    Receipt(Receipt),
    /// Hand a Config to whoever applies it.
    Config(SignedConfig),
    /// Pass this command on.
    Command(Asked),
}

impl Effect {
    /// The frame it puts on the wire, if it is one.
    #[must_use]
    pub fn into_frame(self) -> Option<Up> {
        match self {
            Self::Hello(hello) => Some(Up::Hello(hello)),
            Self::Send(batch) => Some(Up::Batch(batch)),
            Self::Connect
            | Self::Ping
            | Self::Close(_)
            | Self::Load(_)
            | Self::Receipt(_)
            | Self::Config(_)
            | Self::Command(_) => None,
        }
    }
}

/// Who speaks.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// The box.
    pub gateway: GatewayId,
    /// The epoch of this start.
    pub epoch: EpochId,
    /// Program version, for people.
    pub program: String,
}

/// Where the conversation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waiting to try again.
    Resting {
        /// Until then.
        until: Duration,
        /// Because of this; none before the first try.
        trouble: Option<Trouble>,
    },
    /// Connecting.
    Opening,
    /// Hello is said.
    Greeting {
        /// When.
        since: Duration,
    },
    /// Records flow.
    Up(Talk),
    /// Given up, waiting to be told that it is gone.
    Closing,
}

/// A conversation under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Talk {
    next_ping: Duration,
    missed: u32,
    loading: Option<Load>,
    /// The store could not be read; until then only what memory holds is asked for.
    unreadable_until: Option<Duration>,
}

/// See the module's head.
#[derive(Debug)]
pub struct Uplink {
    speaker: Speaker,
    lanes: Lanes,
    phase: Phase,
    failures: u32,
    config_version: u64,
}

impl Uplink {
    /// An uplink that connects at once.
    #[must_use]
    pub fn new(speaker: Speaker, lanes: Lanes) -> Self {
        Self {
            speaker,
            lanes,
            phase: Phase::Resting {
                until: Duration::ZERO,
                trouble: None,
            },
            failures: 0,
            config_version: 0,
        }
    }

    /// Where it stands.
    #[must_use]
    pub const fn phase(&self) -> &Phase {
        &self.phase
    }

    /// One step.
    pub fn step(&mut self, input: Input, now: &Now) -> Vec<Effect> {
        let at = now.monotonic;
        match input {
            Input::Tick => self.tick(at),
            Input::Opened => self.opened(at),
            Input::Frame(down) => self.frame(down, at),
            Input::Heard => {
                self.heard(true);
                Vec::new()
            }
            Input::Lost { trouble, chance } => {
                self.lost(trouble, chance, at);
                Vec::new()
            }
            Input::Page(load, page) => self.page(&load, page, now),
            Input::Unreadable(load) => self.unreadable(&load, at),
            Input::Afloat(Some((epoch, last))) => {
                self.lanes.afloat(epoch, last);
                self.pump()
            }
            Input::Afloat(None) => {
                self.lanes.ashore();
                self.pump()
            }
            Input::Heads(heads) => {
                for (lane, last) in Lane::ALL.into_iter().zip(heads.last) {
                    self.lanes.head(lane, last);
                }
                self.pump()
            }
            Input::Backlog(heads) => {
                self.lanes.backlog(heads);
                self.pump()
            }
            Input::Config(version) => {
                self.config_version = version;
                Vec::new()
            }
        }
    }

    /// When [`Input::Tick`] next does something.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Resting { until, .. } => Some(*until),
            Phase::Opening | Phase::Closing => None,
            Phase::Greeting { since } => Some(*since + WELCOME_WITHIN),
            Phase::Up(talk) => {
                let others = self
                    .receipt_deadline()
                    .into_iter()
                    .chain(talk.unreadable_until);
                Some(others.fold(talk.next_ping, Duration::min))
            }
        }
    }

    fn receipt_deadline(&self) -> Option<Duration> {
        let (life_safety, bulk) = self.lanes.oldest_flying();
        let life_safety = life_safety.map(|at| at + LIFE_SAFETY_RECEIPT_WITHIN);
        let bulk = bulk.map(|at| at + BULK_RECEIPT_WITHIN);
        life_safety.into_iter().chain(bulk).min()
    }

    fn tick(&mut self, at: Duration) -> Vec<Effect> {
        let overdue = self.receipt_deadline().is_some_and(|due| at >= due);
        match &mut self.phase {
            Phase::Resting { until, .. } if at >= *until => {
                self.phase = Phase::Opening;
                vec![Effect::Connect]
            }
            Phase::Greeting { since } if at >= *since + WELCOME_WITHIN => {
                self.close(Trouble::NoWelcome)
            }
            Phase::Up(_) if overdue => self.close(Trouble::ReceiptOverdue),
            Phase::Up(talk) if talk.unreadable_until.is_some_and(|until| at >= until) => {
                talk.unreadable_until = None;
                self.pump()
            }
            Phase::Up(talk) if at >= talk.next_ping => {
                if talk.missed >= PINGS_MISSED {
                    return self.close(Trouble::Silent);
                }
                talk.missed += 1;
                talk.next_ping = at + PING_EVERY;
                vec![Effect::Ping]
            }
            Phase::Resting { .. }
            | Phase::Opening
            | Phase::Greeting { .. }
            | Phase::Up(_)
            | Phase::Closing => Vec::new(),
        }
    }

    fn opened(&mut self, at: Duration) -> Vec<Effect> {
        self.phase = Phase::Greeting { since: at };
        vec![Effect::Hello(Hello {
            speaks: WIRE_READS.to_vec(),
            gateway: self.speaker.gateway,
            epoch: self.speaker.epoch,
            draining: self.lanes.draining(),
            config_version: self.config_version,
            program: self.speaker.program.clone(),
        })]
    }

    fn frame(&mut self, down: Down, at: Duration) -> Vec<Effect> {
        match (&self.phase, down) {
            (Phase::Closing, _) => Vec::new(),
            (_, Down::Refused { why }) => self.close(Trouble::Refused(why)),
            (Phase::Greeting { .. }, Down::Welcome(welcome)) => self.welcome(welcome, at),
            (Phase::Up(_), Down::Receipt(receipt)) => {
                self.heard(true);
                self.receipt(receipt)
            }
            (Phase::Up(_), Down::Config(config)) => {
                self.heard(false);
                vec![Effect::Config(config)]
            }
            (Phase::Up(_), Down::Command(sent)) => {
                self.heard(false);
                vec![Effect::Command(Asked {
                    good_until: at + Duration::from_millis(sent.lives_ms),
                    command: sent.command,
                })]
            }
            (Phase::Up(_), Down::Welcome(_))
            | (
                Phase::Resting { .. } | Phase::Opening | Phase::Greeting { .. },
                Down::Welcome(_) | Down::Receipt(_) | Down::Config(_) | Down::Command(_),
            ) => self.close(Trouble::BrokenFrame),
        }
    }

    fn welcome(&mut self, welcome: Welcome, at: Duration) -> Vec<Effect> {
        if !WIRE_READS.contains(&welcome.v) {
            return self.close(Trouble::UnknownVersion(welcome.v));
        }
        self.lanes.restart();
        self.phase = Phase::Up(Talk {
            next_ping: at + PING_EVERY,
            missed: 0,
            loading: None,
            unreadable_until: None,
        });
        let mut effects = Vec::new();
        for receipt in welcome.receipts {
            if self.lanes.receipt(&receipt).is_err() {
                return self.close(Trouble::ImpossibleReceipt);
            }
            effects.push(Effect::Receipt(receipt));
        }
        effects.extend(self.pump());
        effects
    }

    fn receipt(&mut self, receipt: Receipt) -> Vec<Effect> {
        if self.lanes.receipt(&receipt).is_err() {
            return self.close(Trouble::ImpossibleReceipt);
        }
        let mut effects = vec![Effect::Receipt(receipt)];
        effects.extend(self.pump());
        effects
    }

    /// The cloud lives. Only what proves that it also works ends the count of failures.
    fn heard(&mut self, works: bool) {
        if let Phase::Up(talk) = &mut self.phase {
            talk.missed = 0;
            if works {
                self.failures = 0;
            }
        }
    }

    fn lost(&mut self, trouble: Trouble, chance: u32, at: Duration) {
        self.failures = self.failures.saturating_add(1);
        let rest = trouble.rest().delay(self.failures, chance);
        self.phase = Phase::Resting {
            until: at + rest,
            trouble: Some(trouble),
        };
    }

    fn page(&mut self, load: &Load, page: Vec<Held>, now: &Now) -> Vec<Effect> {
        let Phase::Up(talk) = &mut self.phase else {
            return Vec::new();
        };
        if talk.loading.as_ref() != Some(load) {
            return Vec::new();
        }
        talk.loading = None;
        let batch = self.lanes.batch(load, page, now);
        let mut effects: Vec<Effect> = batch.map(Effect::Send).into_iter().collect();
        effects.extend(self.pump());
        effects
    }

    /// Neither the connection nor what memory holds is to suffer from a disk that cannot be read.
    fn unreadable(&mut self, load: &Load, at: Duration) -> Vec<Effect> {
        let Phase::Up(talk) = &mut self.phase else {
            return Vec::new();
        };
        if talk.loading.as_ref() != Some(load) {
            return Vec::new();
        }
        talk.loading = None;
        talk.unreadable_until = Some(at + READ_AGAIN);
        self.pump()
    }

    /// Asks for one page at a time, so that the choice of the next is made when it can be sent.
    fn pump(&mut self) -> Vec<Effect> {
        let Phase::Up(talk) = &mut self.phase else {
            return Vec::new();
        };
        if talk.loading.is_some() {
            return Vec::new();
        }
        talk.loading = self.lanes.next_load(talk.unreadable_until.is_none());
        talk.loading.map(Effect::Load).into_iter().collect()
    }

    fn close(&mut self, trouble: Trouble) -> Vec<Effect> {
        self.phase = Phase::Closing;
        vec![Effect::Close(trouble)]
    }
}

#[cfg(test)]
mod tests;
