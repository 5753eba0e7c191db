//! For operators and shift leads: the cases of their watch room's centres, and acts on them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use domain::event;
use domain::id::{DispatchId, IncidentId, PersonId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Api;
use super::error::Problem;
use super::given::{Asked, Given, Named, Nothing};
use super::guard::Caller;
use super::stream::{self, Words};
use crate::access::{Role, Scope, SessionKey, Standing};
use crate::board::{self, EVENTS_MAX, Seen, Which};
use crate::db::DbError;
use crate::dispatch::job::{Job, State as JobState};
use crate::engine::{Act, Acted};
use crate::incident::{Cause, Handling, Line};
use crate::live::{Changed, Item, Look, Shown, Wake};

/// Longest text an operator may write, in characters. A longer one is refused.
const TEXT_MAX: usize = 4_000;

#[derive(Serialize)]
struct Incident {
    id: String,
    centre: Centre,
    hazard: &'static str,
    priority: u8,
    state: &'static str,
    version: u64,
    opened_at: i64,
    acknowledged_by: Option<Acknowledged>,
    closed: Option<Closed>,
    confirmation: Option<&'static str>,
    alarms: Vec<Alarm>,
    dispatches: Vec<Dispatch>,
    timeline: Vec<Moment>,
    linked_to: Option<String>,
}

#[derive(Serialize)]
struct Centre {
    id: String,
    name: String,
}

#[derive(Serialize)]
struct Acknowledged {
    person: String,
    at: i64,
}

#[derive(Serialize)]
struct Closed {
    by: String,
    second: Option<String>,
    at: i64,
    cause: &'static str,
    note: String,
}

#[derive(Serialize)]
struct Alarm {
    device: Option<String>,
    point: Option<String>,
    zone: Option<String>,
    kind: &'static str,
    first_at: i64,
    last_at: i64,
    activations: u64,
    state: &'static str,
    acknowledged: bool,
}

#[derive(Serialize)]
struct Dispatch {
    id: String,
    receiver: Receiver,
    purpose: &'static str,
    state: &'static str,
    attempts: u32,
    received_at: Option<i64>,
    possible_repeat: bool,
}

#[derive(Serialize)]
struct Receiver {
    id: String,
    name: String,
    agency: &'static str,
}

#[derive(Serialize)]
struct Moment {
    seq: i64,
    at: i64,
    text_key: String,
    refs: Box<RawValue>,
}

impl Incident {
    fn of(seen: Seen) -> Self {
        let case = seen.case;
        let name_of = |job: &Job| seen.receivers.get(&job.receiver).cloned();
        let dispatches = case.jobs.iter().map(|job| Dispatch::of(job, name_of(job)));
        let (acknowledged_by, closed) = handling(&case.handling);
        Self {
            dispatches: dispatches.collect(),
            id: case.id.to_string(),
            centre: Centre {
                id: case.centre.to_string(),
                name: seen.centre,
            },
            hazard: case.hazard.as_str(),
            priority: case.priority.0,
            state: case.handling.as_str(),
            version: case.version,
            opened_at: case.opened_at.micros(),
            acknowledged_by,
            closed,
            confirmation: case.confirmation.map(|how| how.as_str()),
            alarms: case.lines.iter().map(Alarm::of).collect(),
            timeline: seen.timeline.into_iter().map(Moment::of).collect(),
            linked_to: case.linked_to.map(|id| id.to_string()),
        }
    }
}

fn handling(handling: &Handling) -> (Option<Acknowledged>, Option<Closed>) {
    match handling {
        Handling::Open { .. } => (None, None),
        Handling::Acknowledged { by, at, .. } => {
            let acknowledged = Acknowledged {
                person: by.to_string(),
                at: at.micros(),
            };
            (Some(acknowledged), None)
        }
        Handling::Closed {
            by,
            second,
            at,
            cause,
            note,
        } => {
            let closed = Closed {
                by: by.to_string(),
                second: second.as_ref().map(PersonId::to_string),
                at: at.micros(),
                cause: cause.as_str(),
                note: note.clone(),
            };
            (None, Some(closed))
        }
    }
}

impl Alarm {
    fn of(line: &Line) -> Self {
        let source = line.source.as_ref();
        Self {
            device: source.map(|key| key.device.to_string()),
            point: source.map(|key| key.point.to_string()),
            zone: line.zone.as_ref().map(ToString::to_string),
            kind: line.kind.as_str(),
            first_at: line.first_at.micros(),
            last_at: line.last_at.micros(),
            activations: line.activations,
            state: match line.state {
                event::State::Raised if !line.momentary => "active",
                event::State::Raised | event::State::Cleared => "restored",
            },
            acknowledged: line.acknowledged,
        }
    }
}

impl Dispatch {
    fn of(job: &Job, receiver: Option<String>) -> Self {
        let received_at = match &job.state {
            JobState::Received { at, .. } => Some(at.micros()),
            JobState::Queued { .. }
            | JobState::Sending { .. }
            | JobState::Unanswered { .. }
            | JobState::Accepted { .. }
            | JobState::Refused { .. }
            | JobState::Exhausted { .. }
            | JobState::Cancelled { .. } => None,
        };
        Self {
            id: job.id.to_string(),
            receiver: Receiver {
                id: job.receiver.to_string(),
                name: receiver.unwrap_or_default(),
                agency: job.agency.as_str(),
            },
            purpose: job.purpose.as_str(),
            state: job.state.as_str(),
            attempts: job.attempts,
            received_at,
            possible_repeat: job.reached && job.attempts > 1,
        }
    }
}

impl Moment {
    fn of(moment: board::Moment) -> Self {
        Self {
            seq: moment.seq,
            at: moment.at,
            text_key: moment.kind,
            refs: moment.refs,
        }
    }
}

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
    let cases = board::cases(&mut tx, &caller.scope, which, now).await?;
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
    let seen = board::case(&mut tx, scope, id, api.clock.now()).await?;
    seen.map(Incident::of).ok_or_else(Problem::not_found)
}

/// The query of a page of activations.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    #[serde(default)]
    after: i64,
}

#[derive(Serialize)]
struct Activations {
    events: Vec<Activation>,
    next: Option<i64>,
}

#[derive(Serialize)]
struct Activation {
    seq: i64,
    event: Uuid,
    vendor_id: Option<String>,
    device: Option<String>,
    point: Option<String>,
    kind: String,
    state: String,
    received_at: i64,
    committed_at: i64,
    centre: Uuid,
}

impl From<board::Activation> for Activation {
    fn from(a: board::Activation) -> Self {
        Self {
            seq: a.seq,
            event: a.event,
            vendor_id: a.vendor_id,
            device: a.device,
            point: a.point,
            kind: a.kind,
            state: a.state,
            received_at: a.received_at,
            committed_at: a.committed_at,
            centre: a.centre,
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
    let mut tx = api.db.read().await?;
    let now = api.clock.now();
    let found = board::activations(&mut tx, &caller.scope, id, after, now).await?;
    let events = found.ok_or_else(Problem::not_found)?;
    let full = i64::try_from(events.len()).is_ok_and(|n| n >= EVENTS_MAX);
    let next = events.last().map(|last| last.seq).filter(|_| full);
    let events = events.into_iter().map(Activation::from).collect();
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
    let seen = board::case_of_dispatch(&mut tx, scope, id.0, api.clock.now()).await?;
    answer(acted, Incident::of(seen.ok_or_else(Problem::not_found)?))
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

/// `GET /api/operator/stream`
pub async fn stream(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    let words = Words {
        list: "incidents",
        row: "incident",
    };
    let shown = Cases {
        session: caller.session,
        api: api.clone(),
    };
    stream::open(&api, &caller, Role::Operator, words, shown)
}

/// The cases of one operator's stream.
struct Cases {
    api: Api,
    session: SessionKey,
}

impl Cases {
    async fn scope(&self) -> Result<Option<Scope>, DbError> {
        let standing = self
            .api
            .access
            .standing(self.session, Role::Operator)
            .await?;
        Ok(match standing {
            Standing::May(scope) => Some(scope),
            Standing::Nobody | Standing::NotGranted => None,
        })
    }
}

fn item(seen: Seen) -> Result<Item, DbError> {
    let id = seen.case.id.0;
    let listed = seen.case.on_board();
    let signal_at = seen.case.lines.iter().map(|line| line.last_at).max();
    let incident = Incident::of(seen);
    let json = serde_json::to_string(&incident).map_err(DbError::corrupt("incident.body"))?;
    Ok(Item {
        id,
        version: i64::try_from(incident.version).unwrap_or(i64::MAX),
        mark: incident.version.to_string(),
        json,
        listed,
        signal_at,
    })
}

impl Shown for Cases {
    async fn all(&self) -> Result<Option<Vec<Item>>, DbError> {
        let Some(scope) = self.scope().await? else {
            return Ok(None);
        };
        let mut tx = self.api.db.read().await?;
        let now = self.api.clock.now();
        let cases = board::cases(&mut tx, &scope, Which::Open, now).await?;
        cases
            .into_iter()
            .map(item)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    async fn marks(&self) -> Result<Option<Vec<(Uuid, String)>>, DbError> {
        let Some(scope) = self.scope().await? else {
            return Ok(None);
        };
        let mut tx = self.api.db.read().await?;
        let versions = board::versions(&mut tx, &scope, self.api.clock.now()).await?;
        let mark = |(id, version): (IncidentId, i64)| (id.0, version.to_string());
        Ok(Some(versions.into_iter().map(mark).collect()))
    }

    async fn one(&self, id: Uuid) -> Result<Look, DbError> {
        let Some(scope) = self.scope().await? else {
            return Ok(Look::Over);
        };
        let mut tx = self.api.db.read().await?;
        let seen = board::case(&mut tx, &scope, IncidentId(id), self.api.clock.now()).await?;
        Ok(match seen {
            Some(seen) => Look::Row(item(seen)?),
            None => Look::Gone,
        })
    }

    fn concerns(&self, wake: &Wake) -> Option<Uuid> {
        match wake.what {
            Changed::Incident(id) => Some(id.0),
            Changed::Child(_) | Changed::Dispatch | Changed::Gateway(_) => None,
        }
    }
}
