//! Commands of operators and shift leads to the boxes of a centre (D6): given, listed, never taken for done.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use domain::command::Act;
use domain::id::{CentreId, CommandId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::served::{Command, Service};
use crate::commands::shown;
use crate::http::Api;
use crate::http::error::Problem;
use crate::http::given::{Asked, Given, Named};
use crate::http::guard::Caller;

/// What a person gives: an act as on the wire, and an id of the person's own, if it is to be given once only
/// however often it is sent.
struct Order {
    id: Option<CommandId>,
    act: Act,
}

impl Order {
    /// Reads strictly: a field the act does not have is a mistake, not decoration.
    fn read(mut given: Value) -> Result<Self, Problem> {
        let unreadable =
            |error: serde_json::Error| Problem::unreadable(format!("the body: {error}"));
        let fields = given.as_object_mut();
        let id = fields.and_then(|fields| fields.remove("id"));
        let id = id.map(serde_json::from_value).transpose();
        let act: Act = serde_json::from_value(given.clone()).map_err(unreadable)?;
        let known = serde_json::to_value(&act).map_err(unreadable)?;
        if let Some(name) = stranger(&given, &known) {
            let detail = format!("the body: unknown field `{name}`");
            return Err(Problem::unreadable(detail));
        }
        Ok(Self {
            id: id.map_err(unreadable)?,
            act,
        })
    }
}

/// A field of `given` that `known` does not have.
fn stranger(given: &Value, known: &Value) -> Option<String> {
    let (Value::Object(given), Value::Object(known)) = (given, known) else {
        return None;
    };
    given
        .iter()
        .find_map(|(name, value)| match known.get(name) {
            Some(known) => stranger(value, known),
            None => Some(name.clone()),
        })
}

#[derive(Serialize)]
struct Told {
    id: String,
    commands: Vec<Command>,
}

/// `POST /api/operator/centres/{id}/commands`
pub async fn give(
    State(api): State<Api>,
    caller: Caller,
    Named(centre): Named<CentreId>,
    Given(given): Given<Value>,
) -> Result<Response, Problem> {
    // Somebody else's centre is not found before anything of the body is judged.
    let mut tx = api.db.read().await?;
    let boxes = shown::boxes(&mut tx, &caller.scope, centre, api.clock.now()).await?;
    drop(tx);
    if boxes.is_empty() {
        return Err(Problem::not_found());
    }
    let order = Order::read(given)?;
    let given = api.engine.ask(&caller.scope, centre, order.id, order.act);
    let given = given.await?;
    let Some(first) = given.first() else {
        return Err(Problem::unavailable());
    };
    let told = Told {
        id: first.id.to_string(),
        commands: (given.iter())
            .map(|given| Command::of(given, &boxes, &api))
            .collect(),
    };
    Ok((StatusCode::ACCEPTED, Json(told)).into_response())
}

/// The query of a page of commands.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct From {
    from: Option<String>,
}

#[derive(Serialize)]
struct Page {
    as_of_at: i64,
    commands: Vec<Command>,
    /// To be given as `from` for the next page.
    next: Option<String>,
}

/// `GET /api/operator/centres/{id}/commands`
pub async fn page(
    State(api): State<Api>,
    caller: Caller,
    Named(centre): Named<CentreId>,
    Asked(From { from }): Asked<From>,
) -> Result<Response, Problem> {
    let from = from.as_deref().map(mark).transpose()?;
    let now = api.clock.now();
    let mut tx = api.db.read().await?;
    let boxes = shown::boxes(&mut tx, &caller.scope, centre, now).await?;
    if boxes.is_empty() {
        return Err(Problem::not_found());
    }
    let (commands, next) = shown::page(&mut tx, &caller.scope, centre, from, now).await?;
    let page = Page {
        as_of_at: now.micros(),
        commands: (commands.iter())
            .map(|given| Command::of(given, &boxes, &api))
            .collect(),
        next: next.map(|(at, id, gateway)| format!("{at}.{id}.{gateway}")),
    };
    Ok(Json(page).into_response())
}

/// Where a page begins, as the page before it said.
fn mark(text: &str) -> Result<(i64, Uuid, Uuid), Problem> {
    let mut parts = text.splitn(3, '.');
    let mut part = || parts.next().unwrap_or_default();
    let (at, id, gateway) = (part().parse(), part().parse(), part().parse());
    match (at, id, gateway) {
        (Ok(at), Ok(id), Ok(gateway)) => Ok((at, id, gateway)),
        (Err(_), _, _) | (_, Err(_), _) | (_, _, Err(_)) => Err(Problem::unreadable(
            "the query: from must be the `next` of the page before",
        )),
    }
}

/// `GET /api/operator/centres/{id}/service`
pub async fn service(
    State(api): State<Api>,
    caller: Caller,
    Named(centre): Named<CentreId>,
) -> Result<Response, Problem> {
    let now = api.clock.now();
    let mut tx = api.db.read().await?;
    let boxes = shown::boxes(&mut tx, &caller.scope, centre, now).await?;
    let served = shown::served(&mut tx, &caller.scope, centre, now).await?;
    let served = served.ok_or_else(Problem::not_found)?;
    Ok(Json(Service::of(served, &boxes, &api)).into_response())
}
