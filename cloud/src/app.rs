//! Wiring: opens the store, starts the drivers and both listeners, and ends them in order.

use std::fs;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ambient::{Clock, Entropy};
use axum::Router;
use domain::digest::to_hex;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::access::{Access, PasswordError};
use crate::boxes::{Boxes, WRITE_EVERY};
use crate::chainer::Chainer;
use crate::config::{Addresses, Config};
use crate::db::{Db, DbError};
use crate::dispatcher::{Dispatcher, Receivers};
use crate::engine::Engine;
use crate::health::Health;
use crate::http::{Api, Front, Streams, for_boxes, for_browsers};
use crate::ingest::Ingest;
use crate::keys::{KeyError, Keys};
use crate::metrics::Metrics;
use crate::process::raise_open_files;
use crate::server::{self, HEAD_WITHIN};
use crate::setup::open;
use crate::stop::{Stop, stop};
use crate::ticker::Ticker;
use crate::tls::{FILES_WANTED, ListenError, Listening};
use crate::wake::Wakes;

/// Longest wait for conversations to end; after it the process ends without them. Whatever is not
/// receipted by then comes again.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Why the service does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The log-in door.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// No randomness.
    #[error(transparent)]
    NoEntropy(#[from] ambient::NoEntropy),
    /// The data folder.
    #[error("addresses.json cannot be written: {0}")]
    Addresses(io::Error),
}

/// Serves until `end` resolves.
///
/// # Errors
/// When something it needs cannot be had; nothing is served then.
pub async fn serve(
    config: &Config,
    clock: Clock,
    entropy: Entropy,
    end: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    raise_open_files(FILES_WANTED);
    let file = Addresses::file(&config.dir);
    forget(&file)?;
    let metrics = Metrics::default();
    let http = &config.http;
    let browsers = Listening::for_browsers(
        http.listen,
        http.certificate.as_ref(),
        http.trusted_proxy,
        metrics.clone(),
    )
    .await?;
    let boxes = Listening::for_boxes(config.boxes, &config.keys, metrics.clone()).await?;
    let db = open(&config.database).await?;
    db.migrate().await?;
    let (mut stopper, stop) = stop();
    let mut api = api(
        config,
        db.clone(),
        clock,
        entropy.clone(),
        metrics,
        stop.clone(),
    )?;
    let drivers = drivers(config, &mut api, entropy);
    let addresses = Addresses {
        http: browsers.address(),
        boxes: boxes.address(),
        pid: std::process::id(),
    };
    let servers = [
        listen(browsers, for_browsers(api.clone()), stop.clone()),
        listen(boxes, for_boxes(api), stop),
    ];
    addresses
        .write(&config.dir)
        .map_err(ServeError::Addresses)?;
    tracing::info!(http = %addresses.http, boxes = %addresses.boxes, "serving");
    end.await;
    tracing::info!("ending");
    stopper.tell();
    let all = async {
        for task in servers.into_iter().chain(drivers) {
            let _ = task.await;
        }
        stopper.idle().await;
    };
    if timeout(DRAIN_MAX, all).await.is_err() {
        tracing::warn!("some conversations did not end in time");
    }
    db.close().await;
    forget(&file)
}

fn forget(file: &std::path::Path) -> Result<(), ServeError> {
    match fs::remove_file(file) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ServeError::Addresses(error)),
    }
}

/// What handlers work with.
pub(crate) fn api(
    config: &Config,
    db: Db,
    clock: Clock,
    entropy: Entropy,
    metrics: Metrics,
    stop: Stop,
) -> Result<Api, ServeError> {
    let wakes = Wakes::new();
    let engine = Engine::new(db.clone(), clock.clone(), entropy.clone(), wakes.clone());
    Ok(Api {
        keys: Arc::new(Keys::read(&config.keys)?),
        access: Access::new(db.clone(), clock.clone(), entropy.clone())?,
        ingest: Ingest::new(db.clone(), clock.clone(), engine.clone()),
        engine,
        wakes,
        metrics,
        boxes: Boxes::new(clock.clone()),
        streams: Streams::default(),
        receivers: Receivers::default(),
        health: Health::new(clock.clone()),
        stop,
        epoch: to_hex(&entropy.bytes::<8>()?).into(),
        front: Front::of(&config.http),
        clock,
        db,
    })
}

/// The tasks that work without being asked.
fn drivers(config: &Config, api: &mut Api, entropy: Entropy) -> Vec<JoinHandle<()>> {
    let dispatcher = Dispatcher::new(
        api.db.clone(),
        api.engine.clone(),
        api.clock.clone(),
        entropy,
        api.wakes.clone(),
        api.metrics.clone(),
    );
    api.receivers = dispatcher.receivers();
    let ticker = Ticker::new(api.db.clone(), api.clock.clone(), api.engine.clone());
    let chainer = Chainer::new(api.db.clone(), api.clock.clone(), api.engine.clone());
    let told = |mut stop: Stop| async move { stop.told().await };
    let health = api.health.clone().watch(
        api.db.clone(),
        config.keys.config_signing.clone(),
        api.stop.clone(),
    );
    let heard = write_heard(api.boxes.clone(), api.db.clone(), api.stop.clone());
    vec![
        tokio::spawn(dispatcher.run(told(api.stop.clone()))),
        tokio::spawn(ticker.run(told(api.stop.clone()))),
        tokio::spawn(chainer.run(told(api.stop.clone()))),
        tokio::spawn(health),
        tokio::spawn(heard),
    ]
}

/// Writes when boxes were heard, now and then and once more at the end.
async fn write_heard(boxes: Boxes, db: Db, mut stop: Stop) {
    let mut every = interval(WRITE_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut over = false;
    while !over {
        over = tokio::select! {
            _ = every.tick() => false,
            () = stop.told() => true,
        };
        if let Err(error) = boxes.write_heard(&db).await {
            tracing::warn!(%error, "when boxes were heard cannot be written");
        }
    }
}

/// Serves one listener until the process is to end.
pub(crate) fn listen(listening: Listening, router: Router, stop: Stop) -> JoinHandle<()> {
    tokio::spawn(server::serve(listening, router, HEAD_WITHIN, stop))
}
