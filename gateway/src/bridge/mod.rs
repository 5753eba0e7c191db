//! Bridges: the box as a client of brokers that the centre already has, beside its own MQTT server.
//!
//! Each keeps one line to one broker with a session there, and hands every message to the intake as the own
//! server does. That broker is acknowledged only after our commit, in order; what was not committed is not
//! acknowledged, and comes again on the next line. What sirens, lamps and doors behind it are told goes out on a
//! line that is up, and is otherwise forgotten: a door must not open late. Owns the lines. Never decides what a
//! message means. MQTT 3.1.1 is spoken: every broker has it, and nothing of 5 is needed.
//!
//! No TLS on these lines: the TLS feature of `rumqttc` 0.25 pins `rustls-webpki` 0.102, which has open
//! advisories. A broker on another machine belongs on a wired network of the centre's own.

mod board;
mod connection;
mod settings;
#[cfg(test)]
mod tests;
mod translate;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
pub mod trial;

use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ambient::Entropy;
use domain::backoff::Backoff;
use domain::id::GatewayId;
use futures_util::FutureExt as _;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::broker::Work;
use crate::clock::BoxClock;
use crate::site::Tell;
pub use board::{Board, Counters, Line, Seat, Standing, board};
use connection::{Ended, converse};
pub use settings::{
    Address, LogIn, Password, Settings, SettingsFault, TOPIC_BYTES, TOPICS_MAX, Table,
};

/// Messages of one bridge handed to the intake and not on disk yet. Beyond: its line is not read from. Below
/// what the intake takes into one commit, so that a press read now is in the next one.
pub const WINDOW: u32 = 256;
/// Bytes of one packet. Beyond: the line is closed with that reason, and so on each line, for that broker keeps
/// the message: its `message_size_limit` is the cure. Larger than
/// [`PACKET_BYTES`](crate::broker::PACKET_BYTES), beyond which a message is cut, told and acknowledged.
pub const PACKET_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What devices are told and no bridge has taken yet. Beyond: the oldest is forgotten, and the device does not
/// confirm it, so that it is told again.
pub const TELLS: usize = 256;
/// Time without a line after which it is told as lost.
pub const SILENT_AFTER: Duration = Duration::from_secs(5);
/// Pauses between tries.
pub const REST: Backoff = Backoff {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(10),
};
/// Time at shutdown for what was read to be committed and acknowledged. Beyond: the line is cut, and that
/// broker sends it again.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// How fast a bridge tries again and complains.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// See [`REST`].
    pub rest: Backoff,
    /// See [`SILENT_AFTER`].
    pub silent_after: Duration,
}

impl Pace {
    /// The constants.
    pub const DEFAULT: Self = Self {
        rest: REST,
        silent_after: SILENT_AFTER,
    };
}

/// One bridge at work.
#[derive(Debug)]
pub struct Driver {
    /// Where to and what to hear.
    pub settings: Settings,
    /// The box's name at that broker: the same for ever, since its session hangs on it.
    pub client_id: String,
    /// The secret of the log-in.
    pub password: Option<Password>,
    /// The file that tells that there was a session.
    pub marker: PathBuf,
    /// Where it shows how it stands.
    pub seat: Seat,
    /// Where messages go.
    pub work: mpsc::Sender<Work>,
    /// What devices are told.
    pub tells: broadcast::Sender<Tell>,
    /// Time.
    pub clock: BoxClock,
    /// Spreads the tries.
    pub entropy: Entropy,
    /// How fast.
    pub pace: Pace,
}

/// What every bridge of the box works with.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The box.
    pub gateway: GatewayId,
    /// Where it keeps what it must remember.
    pub data_dir: &'a Path,
    /// Where messages go.
    pub work: &'a mpsc::Sender<Work>,
    /// What devices are told.
    pub tells: &'a broadcast::Sender<Tell>,
    /// Time.
    pub clock: &'a BoxClock,
    /// Chance.
    pub entropy: &'a Entropy,
}

/// A driver for each bridge, to be run.
///
/// # Errors
/// When the environment holds no secret for one.
pub fn drivers(
    bridges: &[Settings],
    seats: Vec<Seat>,
    with: &Surroundings<'_>,
) -> Result<Vec<Driver>, SettingsFault> {
    let driver = |(settings, seat): (&Settings, Seat)| {
        let name = &settings.name;
        let made = || format!("antuo-{}-{name}", with.gateway);
        Ok(Driver {
            settings: settings.clone(),
            client_id: settings.client_id.clone().unwrap_or_else(made),
            password: settings.password()?,
            marker: with.data_dir.join(format!("bridge-{name}.session")),
            seat,
            work: with.work.clone(),
            tells: with.tells.clone(),
            clock: with.clock.clone(),
            entropy: with.entropy.clone(),
            pace: Pace::DEFAULT,
        })
    };
    bridges.iter().zip(seats).map(driver).collect()
}

impl Driver {
    /// Runs until told to stop; what was committed by then is acknowledged.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.keep_up(stop) => {}
            () = self.tell_silence() => {}
        }
    }

    async fn keep_up(&self, mut stop: watch::Receiver<bool>) {
        let counters = &self.seat.counters;
        let (mut failures, mut told) = (0, None);
        loop {
            let before = counters.acknowledged.get();
            let line = AssertUnwindSafe(converse(self, stop.clone()));
            let trouble: Arc<str> = match line.catch_unwind().await {
                Ok(Ended::Stopped | Ended::IntakeGone) => return,
                Ok(Ended::NotStored) => "a message could not be stored".into(),
                Ok(Ended::Lost(trouble)) => trouble,
                Err(_) => "a defect of this program; see the log".into(),
            };
            let was_up = self.down(&trouble);
            if was_up || told.as_ref() != Some(&trouble) {
                let name = &self.settings.name;
                tracing::warn!(bridge = %name, %trouble, "no line to a broker");
            }
            told = Some(trouble);
            // A line that was of use is no failure: the next try comes soon.
            let was_of_use = counters.acknowledged.get() > before;
            failures = if was_of_use { 1 } else { failures + 1 };
            let chance = self.entropy.bytes().map_or(0, u32::from_le_bytes);
            let rest = self.pace.rest.delay(failures, chance);
            // An error means that whoever could say stop is gone.
            if timeout(rest, stop.wait_for(|stop| *stop)).await.is_ok() {
                return;
            }
        }
    }

    /// Shows that the line is down, and says whether it was up.
    fn down(&self, trouble: &Arc<str>) -> bool {
        let now = self.clock.now().monotonic;
        let mut was_up = false;
        self.seat.change(|standing| {
            was_up = standing.is_up();
            let since = match standing.line {
                Line::Up { .. } => now,
                Line::Down { since, .. } => since,
            };
            standing.line = Line::Down {
                since,
                trouble: Some(Arc::clone(trouble)),
            };
        });
        was_up
    }

    /// Tells a loss that lasts, and its end.
    async fn tell_silence(&self) {
        loop {
            let back = self.seat.turns(true);
            tokio::pin!(back);
            tokio::select! {
                () = &mut back => {}
                () = sleep(self.pace.silent_after) => {
                    self.seat.change(|standing| standing.silent = Some(true));
                    back.await;
                }
            }
            self.seat.change(|standing| standing.silent = Some(false));
            self.seat.turns(false).await;
        }
    }

    /// Whether that broker has ever kept a session for the box, under this name and at this address.
    fn had_session(&self) -> bool {
        fs::read_to_string(&self.marker).is_ok_and(|text| text == self.session())
    }

    /// Remembers that it does. If it cannot be written, one loss of that session may go untold.
    fn remember_session(&self) {
        let draft = self.marker.with_extension("draft");
        let written =
            fs::write(&draft, self.session()).and_then(|()| fs::rename(&draft, &self.marker));
        if let Err(error) = written {
            tracing::warn!(bridge = %self.settings.name, %error, "the session is not remembered");
        }
    }

    fn session(&self) -> String {
        format!("{}\n{}\n", self.settings.address, self.client_id)
    }
}
