//! Wiring: opens what the box keeps, starts the drivers, and ends them in the order that loses nothing.

use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ambient::{Clock, Entropy, NoEntropy};
use domain::digest::to_hex;
use domain::id::EpochId;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::broker::{self, Access, BindError, Bound, Counters, Memory, Notice, Settings};
use crate::clock::BoxClock;
use crate::config::Config;
use crate::gauges::Gauges;
use crate::identity::{Identity, IdentityError};
use crate::intake::{Ears, Intake, Parts, remembered};
use crate::seal::{BoxKey, BoxKeyError};
use crate::status::{self, Shown};
use crate::store::{self, Opened, Place, ReadError, Store};
use crate::uplink::lanes::Lanes;
use crate::uplink::machine::{Speaker, Uplink};
use crate::uplink::tls::{self, TlsError};
use crate::uplink::{Driver, Link, Peer};

/// Messages and rows on their way from the MQTT server to the intake; beyond it connections are not read from.
const WORK: usize = 1_024;
/// Configs on their way from the uplink; the newest is what counts.
const CONFIGS: usize = 2;
/// Notices of the MQTT server; beyond it they are counted only.
const NOTICES: usize = 256;

/// Why the box does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Who it is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its sealing key.
    #[error(transparent)]
    BoxKey(#[from] BoxKeyError),
    /// Its side of TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its store.
    #[error("the store does not open: {0}")]
    Store(String),
    /// Another look into the store.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The door for devices.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No randomness.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// The data folder, or the door of the status page.
    #[error("{what}: {source}")]
    File {
        /// Which.
        what: String,
        /// The system's complaint.
        source: io::Error,
    },
}

/// What every part shares.
struct Common {
    clock: BoxClock,
    entropy: Entropy,
    gauges: Arc<Gauges>,
    identity: Identity,
    epoch: EpochId,
}

/// The channels between the drivers.
struct Channels {
    access: watch::Sender<Arc<Access>>,
    version: watch::Sender<u64>,
    link: watch::Sender<Link>,
    waiting: watch::Sender<[Option<std::time::Duration>; 3]>,
    configs: (
        mpsc::Sender<domain::wire::SignedConfig>,
        mpsc::Receiver<domain::wire::SignedConfig>,
    ),
    work: (mpsc::Sender<broker::Work>, mpsc::Receiver<broker::Work>),
}

/// Runs the box until `end` resolves; everything acknowledged is then on disk.
///
/// # Errors
/// When something it needs cannot be had; no device is heard then.
pub async fn run(config: &Config, end: impl Future<Output = ()>) -> Result<(), RunError> {
    let addresses = config.data_dir.join("addresses.json");
    make_ready(&config.data_dir, &addresses)?;
    let common = common(config)?;
    let bound = broker::bind(Settings {
        listen: config.mqtt.clone(),
        limits: broker::Limits::default(),
    })
    .await?;
    let page = TcpListener::bind(config.status)
        .await
        .map_err(failed("status.listen"))?;
    let opened = open(config, &common).await?;
    let (stop, stopped) = watch::channel(false);
    write_addresses(&addresses, &bound, &page)?;
    let running = start(config, common, opened, bound, page, &stopped).await?;
    tracing::info!("listening");
    end.await;
    tracing::info!("ending");
    stop.send_replace(true);
    for task in running {
        // A task that died has told so itself; the others still end in order.
        let _ = task.await;
    }
    remove(&addresses)
}

fn common(config: &Config) -> Result<Common, RunError> {
    let (clock, entropy) = (Clock::system(), Entropy::system());
    let epoch = EpochId::at(clock.now(), entropy.bytes()?);
    Ok(Common {
        clock: BoxClock::of_this_boot(clock, &entropy, config.clock)?,
        gauges: Arc::default(),
        identity: Identity::read(&config.identity)?,
        entropy,
        epoch,
    })
}

async fn open(config: &Config, common: &Common) -> Result<Opened, RunError> {
    let place = Place {
        directory: config.data_dir.clone(),
        limits: config.outbox,
        epoch: common.epoch,
        boot: Arc::clone(common.clock.boot()),
    };
    let opened = Store::open(place, Arc::clone(&common.gauges), Clock::system()).await;
    opened.map_err(|error| RunError::Store(crate::chain(&error)))
}

/// Starts the drivers; the order of the handles is the order in which they end.
async fn start(
    config: &Config,
    common: Common,
    opened: Opened,
    bound: Bound,
    page: TcpListener,
    stopped: &watch::Receiver<bool>,
) -> Result<Vec<JoinHandle<()>>, RunError> {
    let channels = Channels {
        access: watch::Sender::new(Arc::new(Access::default())),
        version: watch::Sender::new(0),
        link: watch::Sender::new(Link::Connecting),
        waiting: watch::Sender::new([None; 3]),
        configs: mpsc::channel(CONFIGS),
        work: mpsc::channel(WORK),
    };
    let counters: Arc<Counters> = Arc::default();
    let shown = Shown {
        gateway: common.identity.gateway,
        gauges: Arc::clone(&common.gauges),
        broker: Arc::clone(&counters),
        link: channels.link.subscribe(),
        standing: opened.store.standing(),
        version: channels.version.subscribe(),
        waiting: channels.waiting.subscribe(),
    };
    let waiting = status::watch_waiting(
        opened.reader.another().await?,
        common.clock.clone(),
        Arc::clone(&common.gauges),
        channels.waiting.clone(),
        stopped.clone(),
    );
    let inspecting = inspect(
        opened.store.clone(),
        opened.reader.another().await?,
        common.clock.clone(),
    );
    let access = channels.access.subscribe();
    let Conversations {
        driver,
        mut intake,
        ears,
        work,
        memory,
        writing,
    } = conversations(config, common, opened, channels).await?;
    intake.begin().await;
    let (notices, told) = mpsc::channel(NOTICES);
    let serving = broker::serve(
        bound,
        access,
        work,
        memory,
        notices,
        counters,
        stopped.clone(),
    );
    Ok(vec![
        tokio::spawn(serving),
        tokio::spawn(log_notices(told)),
        tokio::spawn(intake.run(ears)),
        tokio::spawn(driver.run(stopped.clone())),
        tokio::spawn(status::serve(page, shown, stopped.clone())),
        tokio::spawn(waiting),
        tokio::spawn(inspecting),
        writing,
    ])
}

/// The drivers that work with the store; the writer ends when the others have.
struct Conversations {
    driver: Driver,
    intake: Intake,
    ears: Ears,
    work: mpsc::Sender<broker::Work>,
    memory: Memory,
    writing: JoinHandle<()>,
}

async fn conversations(
    config: &Config,
    common: Common,
    opened: Opened,
    channels: Channels,
) -> Result<Conversations, RunError> {
    let writing = tokio::spawn(opened.writer.run());
    let mut lanes = Lanes::new(common.epoch, Arc::clone(common.clock.boot()));
    lanes.backlog(opened.backlog);
    let speaker = Speaker {
        gateway: common.identity.gateway,
        epoch: common.epoch,
        program: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let dates_count = config.clock == crate::clock::Trust::System;
    let (config_in, configs) = channels.configs;
    let (work_in, work) = channels.work;
    let driver = Driver {
        peer: Peer {
            address: config.cloud_address.clone(),
            server_name: config.server_name.clone(),
            tls: Arc::new(tls::client(&common.identity, dates_count)?),
        },
        uplink: Uplink::new(speaker, lanes),
        store: opened.store.clone(),
        reader: opened.reader.another().await?,
        clock: common.clock.clone(),
        entropy: common.entropy.clone(),
        configs: config_in,
        config_version: channels.version.subscribe(),
        link: channels.link,
        gauges: Arc::clone(&common.gauges),
    };
    let box_key = BoxKey::read_or_make(&config.data_dir, &common.entropy)?;
    let memory = Memory {
        hub: remembered(&opened.mqtt, &box_key, broker::KEPT),
        clock: Clock::system(),
        run: to_hex(&common.entropy.bytes::<6>()?),
    };
    let ears = Ears {
        work,
        configs,
        standing: opened.store.standing(),
    };
    let parts = Parts {
        store: opened.store,
        reader: opened.reader,
        clock: common.clock,
        box_key,
        entropy: common.entropy,
        gauges: common.gauges,
        gateway: common.identity.gateway,
        config_signing: common.identity.config_signing,
        access: channels.access,
        version: channels.version,
    };
    let intake = Intake::new(parts, &opened.configs, opened.marks, opened.previous);
    Ok(Conversations {
        driver,
        intake,
        ears,
        work: work_in,
        memory,
        writing,
    })
}

async fn inspect(store: Store, reader: store::Reader, clock: BoxClock) {
    if let Err(error) = store::inspect(&store, reader, &clock).await {
        tracing::error!(error = %crate::chain(&error), "the store could not be inspected");
    }
}

async fn log_notices(mut told: mpsc::Receiver<Notice>) {
    while let Some(notice) = told.recv().await {
        match notice {
            Notice::Connected { username } => tracing::info!(username, "device connected"),
            Notice::Disconnected { username } => tracing::info!(username, "device gone"),
            Notice::Refused { username, why } => {
                tracing::warn!(username, why = why.as_str(), "device refused");
            }
        }
    }
}

fn make_ready(folder: &Path, addresses: &Path) -> Result<(), RunError> {
    fs::create_dir_all(folder).map_err(failed("data_dir"))?;
    remove(addresses)
}

fn remove(addresses: &Path) -> Result<(), RunError> {
    match fs::remove_file(addresses) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("addresses.json")(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Says where the doors are, whole or not at all.
fn write_addresses(file: &PathBuf, bound: &Bound, page: &TcpListener) -> Result<(), RunError> {
    let status = page.local_addr().map_err(failed("status.listen"))?;
    let text = json!({
        "mqtt": bound.addresses(),
        "status": status,
        "pid": std::process::id(),
    })
    .to_string();
    let draft = file.with_extension("draft");
    fs::write(&draft, text)
        .and_then(|()| fs::rename(&draft, file))
        .map_err(failed("addresses.json"))
}

fn failed(what: &str) -> impl FnOnce(io::Error) -> RunError {
    let what = what.to_owned();
    move |source| RunError::File { what, source }
}
