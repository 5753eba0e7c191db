//! Carries due requests to receivers, one worker each, so that a dead receiver delays no other.
//!
//! Owns the workers and their ends. Each claims the most urgent due request through the engine, lets
//! the connector send the committed bytes outside any transaction, and reports how it ended. A wake is
//! a hint; looking every second is the truth. Never decides what is due, where it goes or whether it
//! is tried again.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambient::{Clock, Entropy};
use domain::id::ReceiverId;
use tokio::sync::{broadcast, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use uuid::Uuid;

use crate::db::{Db, DbError, unhurt};
use crate::dispatch::connector::{self, Connector, Described, Paths};
use crate::dispatch::{Claimed, Order, Outcome, Purpose};
use crate::engine::{Engine, EngineError};
use crate::metrics::Metrics;
use crate::sql;
use crate::wake::{Changed, Wake, Wakes};

/// How often every worker looks for due requests by itself, and how often receivers are looked up: a
/// new or changed one is served after this long at the latest.
const SCAN: Duration = Duration::from_secs(1);
/// A lease outlasts the longest send by this, for the claim before it and the record after it. A
/// request held by a process that died is tried again after the lease.
const LEASE_MARGIN: Duration = Duration::from_secs(2);
/// Wait before an outcome that could not be recorded is recorded again.
const RECORD_AGAIN: Duration = Duration::from_millis(200);

/// How the receivers' paths are, for whoever shows it; copies share it.
#[derive(Clone, Default)]
pub struct Receivers(Arc<Mutex<BTreeMap<ReceiverId, Arc<dyn Connector>>>>);

impl Receivers {
    /// Every receiver that keeps an account for some centre.
    #[must_use]
    pub fn paths(&self) -> Vec<(ReceiverId, Paths)> {
        let connectors = self.locked();
        (connectors.iter())
            .map(|(receiver, connector)| (*receiver, connector.paths()))
            .collect()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<ReceiverId, Arc<dyn Connector>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What carries requests.
pub struct Dispatcher {
    db: Db,
    engine: Engine,
    clock: Clock,
    entropy: Entropy,
    wakes: Wakes,
    metrics: Metrics,
    receivers: Receivers,
}

/// A worker as its employer sees it. Dropped, it is told to end after the attempt in hand.
struct Employed {
    described: Described,
    task: AbortHandle,
    _go_on: watch::Sender<()>,
}

impl Dispatcher {
    /// Over a store and its engine.
    #[must_use]
    pub fn new(
        db: Db,
        engine: Engine,
        clock: Clock,
        entropy: Entropy,
        wakes: Wakes,
        metrics: Metrics,
    ) -> Self {
        Self {
            db,
            engine,
            clock,
            entropy,
            wakes,
            metrics,
            receivers: Receivers::default(),
        }
    }

    /// The receivers this dispatcher serves.
    #[must_use]
    pub fn receivers(&self) -> Receivers {
        self.receivers.clone()
    }

    /// Works until `stop`, then ends each attempt in hand and returns. Dropped instead, it leaves
    /// attempts in hand to their leases.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut workers = JoinSet::new();
        let mut employed = BTreeMap::new();
        let mut scan = interval(SCAN);
        scan.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                _ = scan.tick() => {}
            }
            match described(&self.db).await {
                Ok(known) => self.employ(known, &mut employed, &mut workers),
                Err(error) => tracing::error!(%error, "receivers cannot be looked up"),
            }
            while let Some(ended) = workers.try_join_next() {
                if let Err(error) = ended {
                    tracing::error!(%error, "a receiver's worker died");
                }
            }
        }
        drop(employed);
        while workers.join_next().await.is_some() {}
    }

    /// Gives every receiver a worker that serves it as it now stands.
    fn employ(
        &self,
        known: Vec<Described>,
        employed: &mut BTreeMap<ReceiverId, Employed>,
        workers: &mut JoinSet<()>,
    ) {
        for described in known {
            let receiver = described.receiver;
            let serves =
                |worker: &Employed| worker.described == described && !worker.task.is_finished();
            if employed.get(&receiver).is_some_and(serves) {
                continue;
            }
            let connector = self.connect(&described);
            self.receivers.locked().insert(receiver, connector.clone());
            let (go_on, told) = watch::channel(());
            let worker = Worker {
                receiver,
                connector,
                engine: self.engine.clone(),
                clock: self.clock.clone(),
                metrics: self.metrics.clone(),
                told,
            };
            let worker = Employed {
                described,
                task: workers.spawn(worker.serve(self.wakes.subscribe())),
                _go_on: go_on,
            };
            // A predecessor ends after its attempt in hand; the engine keeps the two apart.
            employed.insert(receiver, worker);
        }
    }

    fn connect(&self, described: &Described) -> Arc<dyn Connector> {
        connector::open(described, &self.clock, &self.entropy).unwrap_or_else(|error| {
            let receiver = described.receiver;
            tracing::error!(%receiver, %error, "receiver cannot be used");
            connector::unusable(self.clock.now())
        })
    }
}

/// Serves one receiver.
struct Worker {
    receiver: ReceiverId,
    connector: Arc<dyn Connector>,
    engine: Engine,
    clock: Clock,
    metrics: Metrics,
    /// Closed when the worker is to end.
    told: watch::Receiver<()>,
}

impl Worker {
    async fn serve(mut self, mut wakes: broadcast::Receiver<Wake>) {
        let mut scan = interval(SCAN);
        scan.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.carry_all_due().await;
            tokio::select! {
                biased;
                _ = self.told.changed() => return,
                () = requests_due(&mut wakes) => {}
                _ = scan.tick() => {}
            }
        }
    }

    async fn carry_all_due(&self) {
        // `has_changed` fails once the employer let go.
        while self.told.has_changed().is_ok() {
            match self.claim().await {
                Ok(Some(claimed)) => self.carry(&claimed).await,
                Ok(None) => return,
                Err(error) => {
                    let receiver = self.receiver;
                    tracing::error!(%receiver, %error, "due requests cannot be claimed");
                    return;
                }
            }
        }
    }

    /// In a task of its own: a claim cut short would hold a connection inside a transaction.
    async fn claim(&self) -> Result<Option<Claimed>, EngineError> {
        let (engine, receiver, lease) = (self.engine.clone(), self.receiver, self.lease());
        let connector = self.connector.clone();
        unhurt(async move {
            let targets = connector.targets();
            let frame = move |order: &Order, number, at| connector.frame(order, number, at);
            engine.claim(receiver, lease, targets, &frame).await
        })
        .await?
    }

    fn lease(&self) -> Duration {
        self.connector.longest_send() + LEASE_MARGIN
    }

    async fn carry(&self, claimed: &Claimed) {
        let outcome = self.connector.send(claimed).await;
        if let (Outcome::Received { .. }, Purpose::Order) = (&outcome, claimed.order.purpose) {
            let span = self.clock.now().since(claimed.order.occurred_at);
            self.metrics.signal_to_receiver(span);
        }
        let recorded = timeout(self.lease(), self.record(claimed, &outcome)).await;
        if recorded.is_err() {
            // The lease has lapsed by now: the same bytes go again as a possible repeat.
            let dispatch = claimed.order.dispatch;
            tracing::error!(%dispatch, "an attempt's end was not recorded");
        }
    }

    async fn record(&self, claimed: &Claimed, outcome: &Outcome) {
        while let Err(error) = (self.engine).attempt_ended(claimed, outcome.clone()).await {
            let dispatch = claimed.order.dispatch;
            tracing::error!(%dispatch, %error, "an attempt's end cannot be recorded yet");
            sleep(RECORD_AGAIN).await;
        }
    }
}

/// Returns when requests may have become due.
async fn requests_due(wakes: &mut broadcast::Receiver<Wake>) {
    loop {
        match wakes.recv().await {
            Ok(wake) => match wake.what {
                Changed::Dispatch => return,
                Changed::Incident(_)
                | Changed::Child(_)
                | Changed::Service
                | Changed::Gateway(_) => {}
            },
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => pending().await,
        }
    }
}

/// The receivers that keep an account for some centre, each with one such account.
async fn described(db: &Db) -> Result<Vec<Described>, DbError> {
    let mut tx = db.read().await?;
    let rows = sql!(
        &mut tx,
        fetch_all as (Uuid, String, String, String),
        "select r.id, r.protocol, r.settings, min(a.account) from receiver r
         join receiver_account a on a.receiver = r.id
         group by r.id, r.protocol, r.settings order by r.id"
    )?;
    Ok(rows
        .into_iter()
        .map(|(receiver, protocol, settings, account)| Described {
            receiver: ReceiverId(receiver),
            protocol,
            settings,
            account,
        })
        .collect())
}

#[cfg(test)]
mod tests;
