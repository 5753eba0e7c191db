//! For machines: is it alive, is it ready, how is it doing. No log-in, so nothing of anybody.

use std::fmt::Write as _;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::id::ReceiverId;
use domain::time::Timestamp;
use serde::Serialize;

use super::Api;
use crate::db::DbError;
use crate::dispatch::connector::{PathState, Paths};
use crate::incident::store;
use crate::sql;

/// Silence of a box after which its records count as waiting since it was last heard: two pings.
const SILENT_AFTER: Duration = Duration::from_secs(30);

/// `GET /healthz`: the process answers.
pub async fn healthz() -> Response {
    Json(Alive { alive: true }).into_response()
}

#[derive(Serialize)]
struct Alive {
    alive: bool,
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    store_writable: bool,
    signing_key_readable: bool,
    /// Told, not judged: another process would reach a silent receiver no better.
    receivers: Vec<Receiver>,
}

#[derive(Serialize)]
struct Receiver {
    id: String,
    primary: Path,
    backup: Option<Path>,
}

#[derive(Serialize)]
struct Path {
    state: &'static str,
    since_at: Timestamp,
}

impl From<PathState> for Path {
    fn from(state: PathState) -> Self {
        let (state, since_at) = match state {
            PathState::Unproven { since } => ("unproven", since),
            PathState::Up { since, .. } => ("up", since),
            PathState::Refusing { since, .. } => ("refusing", since),
            PathState::Silent { since, .. } => ("silent", since),
            PathState::Unusable { since } => ("unusable", since),
        };
        Self { state, since_at }
    }
}

impl Receiver {
    fn of((id, paths): (ReceiverId, Paths)) -> Self {
        Self {
            id: id.to_string(),
            primary: paths.primary.into(),
            backup: paths.backup.map(Path::from),
        }
    }
}

/// `GET /readyz`: the process can do its work.
pub async fn readyz(State(api): State<Api>) -> Response {
    let report = api.health.report();
    let status = if report.ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = Ready {
        ready: report.ready(),
        store_writable: report.store_writable,
        signing_key_readable: report.signing_key_readable,
        receivers: api
            .receivers
            .paths()
            .into_iter()
            .map(Receiver::of)
            .collect(),
    };
    (status, Json(body)).into_response()
}

/// `GET /metrics`
pub async fn metrics(State(api): State<Api>) -> Response {
    let mut out = String::new();
    api.metrics.write(&mut out);
    gauge(&mut out, "antuo_gateways_connected", api.boxes.count());
    let (operators, guardians) = api.streams.counts();
    let _ = writeln!(out, "# TYPE antuo_streams gauge");
    let _ = writeln!(out, "antuo_streams{{audience=\"operator\"}} {operators}");
    let _ = writeln!(out, "antuo_streams{{audience=\"guardian\"}} {guardians}");
    receivers(&api, &mut out);
    let tables = tables(&api, &mut out).await;
    if let Err(error) = &tables {
        tracing::warn!(%error, "figures of the tables are missing from /metrics");
    }
    gauge(&mut out, "antuo_store_up", u8::from(tables.is_ok()));
    let text = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, text)], out).into_response()
}

fn receivers(api: &Api, out: &mut String) {
    let _ = writeln!(out, "# TYPE antuo_receiver_up gauge");
    for (id, paths) in api.receivers.paths() {
        let backup = paths.backup.map(|state| ("backup", state));
        for (path, state) in [("primary", paths.primary)].into_iter().chain(backup) {
            let up = u8::from(state.is_up());
            let labels = format!("receiver=\"{id}\",path=\"{path}\"");
            let _ = writeln!(out, "antuo_receiver_up{{{labels}}} {up}");
        }
    }
}

fn gauge(out: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "# TYPE {name} gauge\n{name} {value}");
}

/// What only the tables know.
async fn tables(api: &Api, out: &mut String) -> Result<(), DbError> {
    let now = api.clock.now();
    gauge(out, "antuo_sessions", api.access.sessions().await?);
    let mut tx = api.db.read().await?;
    let (silent, last_seen) = sql!(
        &mut tx,
        fetch_one as (i64, Option<i64>),
        "select count(*), min(b.last_seen_at) from gateway b where b.last_seen_at < $1
         and exists (select 1 from gateway_key k
             where k.gateway = b.id and k.state in ('active', 'previous'))",
        now.before(SILENT_AFTER).micros()
    )?;
    gauge(out, "antuo_gateways_silent", silent);
    let silent_for = last_seen.map(|at| now.since(Timestamp::from_micros(at)));
    let oldest = api.metrics.oldest_unreceipted(api.clock.monotonic());
    let oldest = oldest.max(silent_for.unwrap_or_default());
    gauge(out, "antuo_oldest_unreceipted_age", oldest.as_secs_f64());
    let (forks,) = sql!(
        &mut tx,
        fetch_one as (i64,),
        "select count(*) from record_fork"
    )?;
    gauge(out, "antuo_ingest_forks", forks);
    let unreadable = store::unreadable(&mut tx).await?;
    gauge(out, "antuo_unreadable_incidents", unreadable);
    let cases = sql!(
        &mut tx,
        fetch_all as (String, String, i64),
        "select hazard, state, count(*) from incident where on_board group by hazard, state"
    )?;
    let _ = writeln!(out, "# TYPE antuo_open_incidents gauge");
    for (hazard, state, count) in cases {
        let labels = format!("hazard=\"{hazard}\",state=\"{state}\"");
        let _ = writeln!(out, "antuo_open_incidents{{{labels}}} {count}");
    }
    let jobs = sql!(
        &mut tx,
        fetch_all as (String, i64, i64),
        "select state, count(*), min(queued_at) from dispatch
         where due_at is not null or state = 'sending' group by state"
    )?;
    let _ = writeln!(out, "# TYPE antuo_dispatches_waiting gauge");
    for (state, count, _) in &jobs {
        let _ = writeln!(out, "antuo_dispatches_waiting{{state=\"{state}\"}} {count}");
    }
    let oldest = jobs.iter().map(|(_, _, since)| *since).min();
    let oldest = oldest.map(|at| now.since(Timestamp::from_micros(at)));
    let oldest = oldest.unwrap_or_default().as_secs_f64();
    gauge(out, "antuo_oldest_dispatch_age_seconds", oldest);
    Ok(())
}
