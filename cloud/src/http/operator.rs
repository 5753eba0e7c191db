//! For operators and shift leads: the cases of their watch room's centres, and acts on them.

mod board;
mod commands;
mod served;
mod view;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use domain::id::{DispatchId, IncidentId};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Api;
use super::error::Problem;
use super::given::{Asked, Given, Named, Nothing};
use super::guard::Caller;
use crate::access::Scope;
use crate::engine::{Act, Acted};
use crate::incident::Cause;
use crate::incident::shown::{self, StoredEvent, Which};
pub use board::stream;
pub use commands::{give, page, service};
use view::Incident;

/// Activations in one answer; the rest is on the next page.
const EVENTS_MAX: u32 = 500;
/// Longest text an operator may write, in characters. A longer one is refused.
const TEXT_MAX: usize = 4_000;

/// The query of the list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    #[serde(default)]
    state: StateWord,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum StateWord {
    #[default]
    Open,
    Closed,
    All,
}

#[derive(Serialize)]
struct List {
    as_of_at: i64,
    incidents: Vec<Incident>,
}

/// `GET /api/operator/incidents`
pub async fn list(
    State(api): State<Api>,
    caller: Caller,
    Asked(query): Asked<ListQuery>,
) -> Result<Response, Problem> {
    let which = match query.state {
        StateWord::Open => Which::Open,
        StateWord::Closed => Which::Closed,
        StateWord::All => Which::All,
    };
    let now = api.clock.now();
    let mut tx = api.db.read().await?;
    let cases = shown::cases(&mut tx, &caller.scope, which, now).await?;
    let list = List {
        as_of_at: now.micros(),
        incidents: cases.into_iter().map(Incident::of).collect(),
    };
    Ok(Json(list).into_response())
}

/// `GET /api/operator/incidents/{id}`
pub async fn one(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<IncidentId>,
) -> Result<Response, Problem> {
    let incident = read(&api, &caller.scope, id).await?;
    Ok(Json(incident).into_response())
}

async fn read(api: &Api, scope: &Scope, id: IncidentId) -> Result<Incident, Problem> {
    let mut tx = api.db.read().await?;
    let seen = shown::case(&mut tx, scope, id, api.clock.now()).await?;
    seen.map(Incident::of).ok_or_else(Problem::not_found)
}

/// The query of a page of activations.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    #[serde(default)]
    after: u64,
}

#[derive(Serialize)]
struct Activations {
    events: Vec<Activation>,
    next: Option<u64>,
}

#[derive(Serialize)]
struct Activation {
    seq: u64,
    event: String,
    vendor_id: Option<String>,
    device: Option<String>,
    point: Option<String>,
    kind: String,
    state: String,
    received_at: Timestamp,
    committed_at: Timestamp,
    centre: String,
}

impl Activation {
    fn of(stored: StoredEvent) -> Self {
        Self {
            seq: stored.seq,
            event: stored.event.to_string(),
            vendor_id: stored.vendor_id,
            device: stored.device.map(String::from),
            point: stored.point.map(String::from),
            kind: stored.kind,
            state: stored.state,
            received_at: stored.received_at,
            committed_at: stored.committed_at,
            centre: stored.centre.to_string(),
        }
    }
}

/// `GET /api/operator/incidents/{id}/events`
pub async fn events(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<IncidentId>,
    Asked(After { after }): Asked<After>,
) -> Result<Response, Problem> {
    let (scope, now) = (&caller.scope, api.clock.now());
    let mut tx = api.db.read().await?;
    let centre = shown::centre_of(&mut tx, scope, id, now).await?;
    centre.ok_or_else(Problem::not_found)?;
    let stored = shown::events(&mut tx, scope, id, after, EVENTS_MAX, now).await?;
    let full = u32::try_from(stored.len()).is_ok_and(|n| n >= EVENTS_MAX);
    let next = stored.last().map(|last| last.seq).filter(|_| full);
    let events = stored.into_iter().map(Activation::of).collect();
    Ok(Json(Activations { events, next }).into_response())
}

#[derive(Serialize)]
struct Outcome {
    outcome: &'static str,
    incident: Incident,
}

async fn act(api: &Api, caller: &Caller, id: IncidentId, act: Act) -> Result<Response, Problem> {
    let acted = api.engine.act(&caller.scope, id, act).await?;
    answer(acted, read(api, &caller.scope, id).await?)
}

fn answer(acted: Acted, incident: Incident) -> Result<Response, Problem> {
    let (status, outcome) = match acted {
        Acted::Done => (StatusCode::OK, "done"),
        Acted::NeedsSecondPerson => (StatusCode::ACCEPTED, "needs_second_person"),
    };
    Ok((status, Json(Outcome { outcome, incident })).into_response())
}

/// `POST /api/operator/incidents/{id}/acknowledge`
pub async fn acknowledge(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<IncidentId>,
    Given(Nothing {}): Given<Nothing>,
) -> Result<Response, Problem> {
    act(&api, &caller, id, Act::Acknowledge).await
}

/// `POST /api/operator/incidents/{id}/confirm`
pub async fn confirm(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<IncidentId>,
    Given(Nothing {}): Given<Nothing>,
) -> Result<Response, Problem> {
    act(&api, &caller, id, Act::Confirm).await
}

/// `POST /api/operator/incidents/{id}/real`: it is real, and every test of the centre ends.
pub async fn real(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<IncidentId>,
    Given(Nothing {}): Given<Nothing>,
) -> Result<Response, Problem> {
    api.engine.real(&caller.scope, id).await?;
    answer(Acted::Done, read(&api, &caller.scope, id).await?)
}

/// The body of a note.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoteBody {
    text: String,
}

/// `POST /api/operator/incidents/{id}/note`
pub async fn note(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<IncidentId>,
    Given(body): Given<NoteBody>,
) -> Result<Response, Problem> {
    let text = written(body.text, "text")?;
    act(&api, &caller, id, Act::Note(text)).await
}

/// The body of a closing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloseBody {
    cause: Cause,
    note: String,
}

/// `POST /api/operator/incidents/{id}/close`
pub async fn close(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<IncidentId>,
    Given(body): Given<CloseBody>,
) -> Result<Response, Problem> {
    let note = written(body.note, "note")?;
    let cause = body.cause;
    act(&api, &caller, id, Act::Close { cause, note }).await
}

/// The body of a confirmation by telephone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfirmedBody {
    reference: String,
    spoke_to: String,
}

/// `POST /api/operator/dispatches/{id}/confirmed`
pub async fn dispatch_confirmed(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named<DispatchId>,
    Given(body): Given<ConfirmedBody>,
) -> Result<Response, Problem> {
    let reference = written(body.reference, "reference")?;
    let spoke_to = written(body.spoke_to, "spoke_to")?;
    let scope = &caller.scope;
    let engine = &api.engine;
    let acted = engine
        .confirm_dispatch(scope, id, reference, spoke_to)
        .await?;
    let mut tx = api.db.read().await?;
    let now = api.clock.now();
    let found = shown::case_of_dispatch(&mut tx, scope, id, now).await?;
    drop(tx);
    let (_, incident) = found.ok_or_else(Problem::not_found)?;
    answer(acted, read(&api, scope, incident).await?)
}

/// A text somebody wrote: not empty, not endless.
fn written(text: String, field: &str) -> Result<String, Problem> {
    let length = text.trim().chars().count();
    if (1..=TEXT_MAX).contains(&length) {
        return Ok(text);
    }
    let detail = format!("{field} must be a text of 1 to {TEXT_MAX} characters");
    Err(Problem::unreadable(detail))
}
