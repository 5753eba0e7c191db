//! Wiring: opens what the box keeps, starts the drivers, and ends them in the order that loses nothing.
//!
//! Damage to the store that is met before anything listens is rescued in the same start; damage met later
//! ends the process with an error, and the next start rescues it.

mod channels;
mod doors;

use std::future::{Future, pending};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ambient::{Clock, Entropy, NoEntropy};
use domain::digest::to_hex;
use domain::id::EpochId;
use domain::time::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use channels::Channels;
use doors::{Doors, bind_page, make_ready, remove, serve_page, write_addresses};

use crate::bridge::{self, SettingsFault};
use crate::broker::{self, Access, BindError, Memory, Notice, Outlet, Settings};
use crate::clock::{BoxClock, Trust};
use crate::config::Config;
use crate::forwarding::{self, Told};
use crate::gauges::Gauges;
use crate::identity::{Identity, IdentityError};
use crate::intake::{Ears, Intake, Parts, remembered};
use crate::lan::{self, LanError};
use crate::page;
use crate::seal::{BoxKey, BoxKeyError};
use crate::status::{self, Shown};
use crate::store::{self, Opened, Place, ReadError, Reader, Store};
use crate::uplink::lanes::Lanes;
use crate::uplink::machine::{Speaker, Uplink};
use crate::uplink::tls::{self, TlsError};
use crate::uplink::{Driver, Peer};

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
    /// Its certificate in its centre's network.
    #[error(transparent)]
    Lan(#[from] LanError),
    /// Its store.
    #[error("the store does not open: {0}")]
    Store(String),
    /// Another look into the store.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store is damaged. The next start sets it aside and takes over what reads.
    #[error("the store is damaged, the next start rescues what can be read: {0}")]
    Damaged(Arc<str>),
    /// The door for devices.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The log-in at a broker of the centre's.
    #[error("bridge")]
    Bridge(#[from] SettingsFault),
    /// Another process keeps the folder.
    #[error("another box uses {}; end it first, or give this one a data_dir of its own", .0.display())]
    InUse(PathBuf),
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
}

/// Why the store is held to be damaged, once it is.
type Damage = watch::Receiver<Option<Arc<str>>>;

/// Runs the box until `end` resolves; everything acknowledged is then on disk.
///
/// # Errors
/// When something it needs cannot be had; no device is heard then.
pub async fn run(config: &Config, end: impl Future<Output = ()>) -> Result<(), RunError> {
    let addresses = config.data_dir.join("addresses.json");
    let _alone = make_ready(&config.data_dir, &addresses)?;
    let common = common(config)?;
    let tls = config.lan.as_ref().map(lan::server_config).transpose()?;
    if let Some(files) = &config.lan {
        let until = lan::valid_until(files, Clock::system().now())?;
        let since_1970 = until.since(Timestamp::from_micros(0));
        common.gauges.lan_until.set(since_1970.as_secs());
    }
    let bound = broker::bind(Settings {
        doors: config.mqtt.clone(),
        tls,
        limits: broker::Limits::default(),
    })
    .await?;
    let status = TcpListener::bind(config.status)
        .await
        .map_err(failed("status.listen"))?;
    let page = bind_page(config).await?;
    let (stop, stopped) = watch::channel(false);
    let begun = begin(config, &common).await?;
    let damage = begun.damage.clone();
    let doors = Doors {
        mqtt: bound,
        status,
        page,
    };
    write_addresses(&addresses, &doors)?;
    let running = start(begun, doors, &stopped);
    tracing::info!("listening");
    let outcome = tokio::select! {
        () = end => Ok(()),
        why = damaged(damage) => Err(RunError::Damaged(why)),
    };
    tracing::info!("ending");
    stop.send_replace(true);
    for task in running {
        // A task that died has told so itself; the others still end in order.
        let _ = task.await;
    }
    outcome.and(remove(&addresses))
}

/// Returns once the store is known to be damaged.
async fn damaged(mut damage: Damage) -> Arc<str> {
    let found = damage.wait_for(Option::is_some).await;
    let why = found.ok().and_then(|why| why.clone());
    match why {
        Some(why) => why,
        // Nobody is left who could find damage.
        None => pending().await,
    }
}

fn common(config: &Config) -> Result<Common, RunError> {
    let (clock, entropy) = (Clock::system(), Entropy::system());
    Ok(Common {
        clock: BoxClock::of_this_boot(clock, &entropy, config.clock)?,
        gauges: Arc::default(),
        identity: Identity::read(&config.identity)?,
        entropy,
    })
}

/// The box up to the first records of its epoch. Should damage be met on the way, it is rescued now and all
/// begins again, once: what fails on a file made anew is not the file.
async fn begin(config: &Config, common: &Common) -> Result<Begun, RunError> {
    match try_begin(config, common).await {
        Err(RunError::Damaged(why)) => {
            tracing::error!(%why, "damage was met at the start; it is rescued now");
            try_begin(config, common).await
        }
        outcome => outcome,
    }
}

async fn try_begin(config: &Config, common: &Common) -> Result<Begun, RunError> {
    let epoch = EpochId::at(Clock::system().now(), common.entropy.bytes()?);
    let opened = open(config, common, epoch).await?;
    let damage = opened.store.damage();
    let met = || damage.borrow().clone().map(RunError::Damaged);
    let mut begun = match wire(config, common, opened, epoch).await {
        Ok(begun) => begun,
        Err(error) => return Err(met().unwrap_or(error)),
    };
    begun.intake.begin().await;
    match met() {
        Some(why) => {
            begun.end().await;
            Err(why)
        }
        None => Ok(begun),
    }
}

async fn open(config: &Config, common: &Common, epoch: EpochId) -> Result<Opened, RunError> {
    let place = Place {
        directory: config.data_dir.clone(),
        limits: config.outbox,
        epoch,
        boot: Arc::clone(common.clock.boot()),
    };
    let opened = Store::open(place, Arc::clone(&common.gauges), Clock::system()).await;
    opened.map_err(|error| RunError::Store(crate::chain(&error)))
}

/// Starts the drivers; the order of the handles is the order in which they end.
fn start(begun: Begun, doors: Doors, stopped: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
    let Begun {
        page,
        driver,
        intake,
        ears,
        work,
        bridges,
        memory,
        access,
        shown,
        waiting,
        looking,
        inspecting,
        clock,
        writing,
        damage: _,
    } = begun;
    let gauges = Arc::clone(&shown.gauges);
    let (notices, told) = mpsc::channel(NOTICES);
    let counters = Arc::clone(&shown.broker);
    let stop = stopped.clone();
    let pages = doors
        .page
        .zip(page)
        .map(|(doors, parts)| tokio::spawn(serve_page(doors, parts, stopped.clone())));
    let serving = broker::serve(doors.mqtt, access, work, memory, notices, counters, stop);
    let watching = forwarding::watch(
        (looking, shown.afloat.clone()),
        clock.clone(),
        gauges,
        waiting,
        stopped.clone(),
    );
    let mut running: Vec<_> = bridges
        .into_iter()
        .map(|bridge| tokio::spawn(bridge.run(stopped.clone())))
        .collect();
    running.extend([
        tokio::spawn(serving),
        tokio::spawn(log_notices(told)),
        tokio::spawn(intake.run(ears)),
        tokio::spawn(driver.run(stopped.clone())),
        tokio::spawn(status::serve(doors.status, shown, stopped.clone())),
        tokio::spawn(watching),
        tokio::spawn(inspect(inspecting, clock, stopped.clone())),
    ]);
    running.extend(pages);
    running.push(writing);
    running
}

/// All that works with the store, wired and not yet at work; the writer alone runs, and ends when the others
/// have.
struct Begun {
    page: Option<page::Parts>,
    driver: Driver,
    intake: Intake,
    ears: Ears,
    work: mpsc::Sender<broker::Work>,
    bridges: Vec<bridge::Driver>,
    memory: Memory,
    access: watch::Receiver<Arc<Access>>,
    shown: Shown,
    waiting: Told,
    looking: Reader,
    inspecting: (Store, Reader),
    clock: BoxClock,
    writing: JoinHandle<()>,
    damage: Damage,
}

impl Begun {
    /// Lets go of the file.
    async fn end(self) {
        let Self {
            page,
            driver,
            intake,
            ears: _,
            work: _,
            bridges: _,
            memory: _,
            access: _,
            shown: _,
            waiting: _,
            looking,
            inspecting: (store, inspecting),
            clock: _,
            writing,
            damage: _,
        } = self;
        looking.close().await;
        inspecting.close().await;
        drop((page, driver, intake, store));
        // A writer that died has told so itself.
        let _ = writing.await;
    }
}

async fn wire(
    config: &Config,
    common: &Common,
    opened: Opened,
    epoch: EpochId,
) -> Result<Begun, RunError> {
    let box_key = BoxKey::read_or_make(&config.data_dir, &common.entropy)?;
    let peer = Peer {
        address: config.cloud_address.clone(),
        server_name: config.server_name.clone(),
        tls: Arc::new(tls::client(
            &common.identity,
            config.clock == Trust::System,
        )?),
    };
    let sending = opened.reader.another().await?;
    let looking = opened.reader.another().await?;
    let inspecting = (opened.store.clone(), opened.reader.another().await?);
    let damage = opened.store.damage();
    let channels = Channels::new(config, &common.clock);
    let shown = shown(common, &opened.store, &channels);
    let mut lanes = Lanes::new(epoch, Arc::clone(common.clock.boot()));
    lanes.backlog(opened.backlog);
    let driver = Driver {
        peer,
        uplink: Uplink::new(speaker(common, epoch), lanes),
        store: opened.store.clone(),
        reader: sending,
        clock: common.clock.clone(),
        entropy: common.entropy.clone(),
        configs: channels.configs.0,
        commands: channels.commands.0,
        config_version: channels.version.subscribe(),
        link: channels.link,
        gauges: Arc::clone(&common.gauges),
    };
    let hub = remembered(&opened.mqtt, &box_key, broker::KEPT);
    let outlet = Outlet::new(hub, Clock::system());
    let memory = Memory {
        outlet: outlet.clone(),
        run: to_hex(&common.entropy.bytes::<6>()?),
    };
    let ears = Ears {
        work: channels.work.1,
        configs: channels.configs.1,
        commands: channels.commands.1,
        unforwarded: channels.waiting.unforwarded.subscribe(),
        standing: opened.store.standing(),
        asked: channels.asks.1,
        bridges: channels.bridges.0.clone(),
    };
    let page = match &config.lan {
        Some(files) if config.page.is_some() => Some(page::Parts {
            tls: lan::server_config(files)?,
            shown: shown.clone(),
            config: channels.in_force.subscribe(),
            signals: channels.signals.clone(),
            asks: channels.asks.0,
            reader: opened.reader.another().await?,
            clock: common.clock.clone(),
            entropy: common.entropy.clone(),
            box_key: BoxKey::read_or_make(&config.data_dir, &common.entropy)?,
        }),
        Some(_) | None => None,
    };
    let bridges = bridge::drivers(
        &config.bridges,
        channels.bridges.1,
        &bridge::Surroundings {
            gateway: common.identity.gateway,
            data_dir: &config.data_dir,
            work: &channels.work.0,
            tells: &channels.tells,
            clock: &common.clock,
            entropy: &common.entropy,
        },
    )?;
    let access = channels.access.subscribe();
    let parts = Parts {
        outlet,
        tells: channels.tells,
        store: opened.store,
        reader: opened.reader,
        clock: common.clock.clone(),
        box_key,
        entropy: common.entropy.clone(),
        gauges: Arc::clone(&common.gauges),
        gateway: common.identity.gateway,
        config_signing: common.identity.config_signing,
        access: channels.access,
        version: channels.version,
        in_force: channels.in_force,
        signals: channels.signals,
        unacknowledged: channels.unacknowledged,
    };
    Ok(Begun {
        page,
        driver,
        intake: Intake::new(parts, &opened.configs, opened.marks, opened.previous),
        ears,
        work: channels.work.0,
        bridges,
        memory,
        access,
        shown,
        waiting: channels.waiting,
        looking,
        inspecting,
        clock: common.clock.clone(),
        writing: tokio::spawn(opened.writer.run()),
        damage,
    })
}

fn speaker(common: &Common, epoch: EpochId) -> Speaker {
    Speaker {
        gateway: common.identity.gateway,
        epoch,
        program: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn shown(common: &Common, store: &Store, channels: &Channels) -> Shown {
    Shown {
        gateway: common.identity.gateway,
        gauges: Arc::clone(&common.gauges),
        broker: Arc::default(),
        link: channels.link.subscribe(),
        standing: store.standing(),
        bridges: channels.bridges.0.clone(),
        unacknowledged: channels.unacknowledged.subscribe(),
        clock: common.clock.clone(),
        version: channels.version.subscribe(),
        waiting: channels.waiting.ages.subscribe(),
        afloat: store.afloat().subscribe(),
    }
}

/// Ends early when told to stop: on a large file the look takes minutes.
async fn inspect(
    (store, reader): (Store, Reader),
    clock: BoxClock,
    mut stop: watch::Receiver<bool>,
) {
    let looked = tokio::select! {
        looked = store::inspect(&store, reader, &clock) => looked,
        // An error means that whoever could say stop is gone.
        _ = stop.wait_for(|stop| *stop) => return,
    };
    if let Err(error) = looked {
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

fn failed(what: &str) -> impl FnOnce(io::Error) -> RunError {
    let what = what.to_owned();
    move |source| RunError::File { what, source }
}

#[cfg(test)]
mod tests;
