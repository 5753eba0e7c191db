//! `antuo-sim demo`: the whole product on one machine, and a small town that lives in it.
//!
//! Owns: the order in which things start and end. Everything it writes is in the data folder; nothing it starts
//! outlives it (`process`).

mod folder;
mod start;

use crate::addresses::CloudAddresses;
use crate::api::ApiError;
use crate::audit::{AuditError, Auditor};
use crate::clock::{Clock, seed_of_this_start};
use crate::count::Tally;
use crate::desk::DeskError;
use crate::ledger::LedgerError;
use crate::process::{Household, ProcessError};
use crate::report::{self, say};
use crate::town::{Agency, Town};
use crate::{daily, script};
use folder::{device_ledger, empty, receiver_ledger, town_file};
use start::{Set, found_town, start_cloud};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

/// Longest wait until the counts stand still after the play.
const SETTLE_WITHIN: Duration = Duration::from_secs(40);

/// Centres of the demo, each with a box of its own.
const CENTRES: u16 = 2;

/// What to play.
#[derive(Debug, Clone)]
pub struct Demo {
    pub bin_dir: PathBuf,
    pub data: PathBuf,
    /// The scripted stretch of about this length; without, a day that ends with Ctrl-C.
    pub seconds: Option<u64>,
    pub seed: Option<u64>,
}

/// Why the demo came to nothing.
#[derive(Debug, Error)]
pub enum DemoError {
    #[error("data folder {path}: {source}")]
    Data {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{0} holds files that no demo made; name another data folder")]
    NotOurs(PathBuf),
    #[error("another demo runs in {0}")]
    Busy(PathBuf),
    #[error("cannot listen: {0}")]
    Listen(std::io::Error),
    #[error("interrupted")]
    Interrupted,
    #[error(
        "after {waited:?} these devices are not logged in at their box: {devices:?}; the cloud sees: {boxes}"
    )]
    NotConnected {
        waited: Duration,
        devices: Vec<String>,
        boxes: String,
    },
    #[error("after {waited:?} no parent's stream has shown {children} of the children")]
    NoStream { waited: Duration, children: usize },
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Desk(#[from] DeskError),
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Runs the demo; true when all is well.
pub async fn run(demo: Demo) -> Result<bool, DemoError> {
    let _mark = empty(&demo.data)?;
    let household = Household::new(&demo.data.join("log"));
    let played = tokio::select! {
        played = set_and_play(&demo, &household) => played.map(Some),
        gone = household.until_one_ends() => Err(gone.into()),
        () = stopped() => match demo.seconds {
            None => Ok(None),
            Some(_) => Err(DemoError::Interrupted),
        },
    };
    say("ending");
    for name in household.stop().await {
        say(&format!("{name} did not end by itself and was killed"));
    }
    let Some(ended) = played? else {
        return Ok(true);
    };
    if let Some(tally) = &ended.tally {
        report::print(tally);
    }
    Ok(ended.as_scripted && ended.tally.as_ref().is_none_or(Tally::clean))
}

/// How a play ended.
struct Ended {
    as_scripted: bool,
    tally: Option<Tally>,
}

/// Ctrl-C, or a polite request to end, or the terminal went away.
pub async fn stopped() {
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let mut signals = Vec::new();
    for kind in kinds {
        match signal(kind) {
            Ok(signal) => signals.push(signal),
            Err(error) => tracing::error!(%error, "signals are not heard"),
        }
    }
    if signals.is_empty() {
        return std::future::pending().await;
    }
    let waits = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
    futures_util::future::select_all(waits).await;
}

async fn set_and_play(demo: &Demo, household: &Household) -> Result<Ended, DemoError> {
    let clock = Clock::start();
    let seed = demo.seed.unwrap_or_else(seed_of_this_start);
    let (town, receivers) = found_town(demo, seed, clock).await?;
    let cloud = start_cloud(demo, household, &town).await?;
    let set = Set::build(demo, household, town, receivers, (&cloud, clock)).await?;
    where_to_look(demo, &set.stage.town, &cloud, seed);
    let Some(seconds) = demo.seconds else {
        daily::play(Arc::clone(&set.stage), set.ledger, seed).await;
        return Ok(Ended {
            as_scripted: true,
            tally: None,
        });
    };
    let played = script::play(&set.stage, Duration::from_secs(seconds)).await;
    if let Err(error) = &played {
        say(&format!("NOT PLAYED: {error}"));
    }
    say("the play is over, counting");
    let tally = count(&set, demo).await?;
    Ok(Ended {
        as_scripted: played.is_ok(),
        tally: Some(tally),
    })
}

/// Reads what the cloud shows until it stands still, and counts.
async fn count(set: &Set, demo: &Demo) -> Result<Tally, DemoError> {
    let mut ledgers = vec![device_ledger(demo)];
    ledgers.extend(Agency::ALL.map(|agency| receiver_ledger(demo, agency)));
    let tally = Auditor::new(set.api.clone(), &set.stage.town)
        .settle(&ledgers, SETTLE_WITHIN)
        .await?;
    match set.ledger.failure() {
        Some(error) => Err(error.into()),
        None => Ok(tally),
    }
}

fn where_to_look(demo: &Demo, town: &Town, cloud: &CloudAddresses, seed: u64) {
    let base = format!("http://{}", cloud.http);
    let parent = town
        .centres
        .first()
        .and_then(|centre| centre.children.first());
    let streams = [
        (
            "an operator's stream",
            town.operators().first().copied(),
            "/api/operator/stream",
        ),
        (
            "a parent's stream  ",
            parent.and_then(|child| town.login_for_child(child.id)),
            "/api/family/stream",
        ),
    ];
    say(&format!(
        "Antuo runs: one cloud at {base}, {CENTRES} boxes, a town of seed {seed}. Look here:"
    ));
    for (what, login, path) in streams {
        let Some(login) = login else { continue };
        let body = format!(
            r#"{{"username":"{}","password":"{}"}}"#,
            login.username, login.password
        );
        let token = format!(
            r#"$(curl -s {base}/api/session -H 'Content-Type: application/json' -d '{body}' | sed 's/.*"token":"\([^"]*\)".*/\1/')"#
        );
        say(&format!(
            "  {what}  curl -N -H \"Authorization: Bearer {token}\" {base}{path}"
        ));
    }
    say("Log in as:");
    let logins = town.operators().into_iter().chain(town.admin());
    for login in logins.chain(parent.and_then(|child| town.login_for_child(child.id))) {
        say(&format!("  {:12} {}", login.username, login.password));
    }
    say(&format!(
        "All log-ins: {}. Logs: {}/*.log",
        town_file(demo).display(),
        demo.data.join("log").display()
    ));
    if demo.seconds.is_none() {
        say("Ctrl-C ends it.");
    }
}
