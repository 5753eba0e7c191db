//! For guardians: their own children.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::event::How;
use domain::id::ChildId;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Api;
use super::error::Problem;
use super::given::{Asked, Named};
use super::guard::Caller;
use super::stream;
use crate::access::{Role, Scope, SessionKey, Standing};
use crate::db::DbError;
use crate::family::{self, Adult, MOVEMENTS_MAX, Move};
use crate::live::{Item, Look, Shown, Words};
use crate::wake::{Changed, Wake};

#[derive(Serialize)]
struct Child {
    id: String,
    name: String,
    class_group: String,
    centre: Centre,
    presence: Presence,
    version: i64,
}

#[derive(Serialize)]
struct Centre {
    id: String,
    name: String,
}

#[derive(Serialize)]
struct Presence {
    state: &'static str,
    since_at: Option<i64>,
    by: Option<String>,
    how: Option<&'static str>,
    as_of_at: Option<i64>,
    stale: bool,
}

impl Child {
    fn of(child: family::Child) -> Self {
        let today = child.today;
        Self {
            id: child.id.to_string(),
            name: child.name,
            class_group: child.class_group,
            centre: Centre {
                id: child.centre.to_string(),
                name: child.centre_name,
            },
            presence: Presence {
                state: today.whereabouts.as_str(),
                since_at: today.since.map(Timestamp::micros),
                by: child.by.map(called),
                how: today.how.map(word),
                as_of_at: today.as_of.map(Timestamp::micros),
                stale: today.stale,
            },
            version: child.version,
        }
    }
}

fn called(adult: Adult) -> String {
    match adult {
        Adult::Guardian(name) => name,
        Adult::Staff => "staff".to_owned(),
        Adult::Another => "another adult".to_owned(),
        Adult::NotRecorded => "not recorded".to_owned(),
    }
}

const fn word(how: How) -> &'static str {
    match how {
        How::Card => "card",
        How::Code => "code",
        How::Staff => "staff",
    }
}

#[derive(Serialize)]
struct Children {
    as_of_at: i64,
    children: Vec<Child>,
}

/// `GET /api/family/children`
pub async fn children(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    let now = api.clock.now();
    let mut tx = api.db.read().await?;
    let sealing = &api.keys.sealing;
    let children = family::children(&mut tx, &caller.scope, sealing, now).await?;
    let children = Children {
        as_of_at: now.micros(),
        children: children.into_iter().map(Child::of).collect(),
    };
    Ok(Json(children).into_response())
}

/// The query of a page of movements.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    after: Option<String>,
}

#[derive(Serialize)]
struct Moves {
    events: Vec<Movement>,
    next: Option<String>,
}

#[derive(Serialize)]
struct Movement {
    event: Uuid,
    vendor_id: Option<String>,
    kind: String,
    at: i64,
    by: Option<String>,
    how: Option<&'static str>,
}

/// `GET /api/family/children/{id}/events`
pub async fn events(
    State(api): State<Api>,
    caller: Caller,
    Named(child): Named<ChildId>,
    Asked(query): Asked<After>,
) -> Result<Response, Problem> {
    let after = match query.after {
        Some(text) => cursor(&text).ok_or_else(|| {
            Problem::unreadable("after must be the next of an earlier answer, or absent")
        })?,
        None => (i64::MIN, Uuid::nil()),
    };
    let mut tx = api.db.read().await?;
    let now = api.clock.now();
    let sealing = &api.keys.sealing;
    let moves = family::moves(&mut tx, &caller.scope, sealing, child, after, now).await?;
    let moves = moves.ok_or_else(Problem::not_found)?;
    let full = i64::try_from(moves.len()).is_ok_and(|n| n >= MOVEMENTS_MAX);
    let last = moves.last().map(|m| format!("{}-{}", m.order, m.event));
    let events = moves.into_iter().map(Movement::of).collect();
    let next = last.filter(|_| full);
    Ok(Json(Moves { events, next }).into_response())
}

fn cursor(text: &str) -> Option<(i64, Uuid)> {
    let (order, event) = text.split_once('-')?;
    Some((order.parse().ok()?, event.parse().ok()?))
}

impl Movement {
    fn of(m: Move) -> Self {
        Self {
            event: m.event,
            vendor_id: m.vendor_id,
            kind: m.kind,
            at: m.at,
            by: m.by.map(called),
            how: m.how.map(word),
        }
    }
}

/// `GET /api/family/stream`
pub async fn stream(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    let shown = OwnChildren {
        session: caller.session,
        api: api.clone(),
    };
    stream::open(&api, &caller, Role::Guardian, &[CHILDREN], shown)
}

/// What rows of a guardian's stream are called.
const CHILDREN: Words = Words {
    list: "children",
    row: "child",
};

/// The children of one guardian's stream.
struct OwnChildren {
    api: Api,
    session: SessionKey,
}

impl OwnChildren {
    async fn scope(&self) -> Result<Option<Scope>, DbError> {
        let standing = self
            .api
            .access
            .standing(self.session, Role::Guardian)
            .await?;
        Ok(match standing {
            Standing::May(scope) => Some(scope),
            Standing::Nobody | Standing::NotGranted => None,
        })
    }
}

/// A child as an item. The age of what the boxes told is no change by itself.
fn item(child: family::Child) -> Result<Item, DbError> {
    let id = child.id.0;
    let version = child.version;
    let mut child = Child::of(child);
    let text = |child: &Child| serde_json::to_string(child).map_err(DbError::corrupt("child"));
    let json = text(&child)?;
    child.presence.as_of_at = None;
    Ok(Item {
        words: CHILDREN,
        id,
        version,
        mark: text(&child)?,
        json,
        listed: true,
        signal_at: None,
    })
}

impl Shown for OwnChildren {
    async fn all(&self) -> Result<Option<Vec<Item>>, DbError> {
        let Some(scope) = self.scope().await? else {
            return Ok(None);
        };
        let mut tx = self.api.db.read().await?;
        let now = self.api.clock.now();
        let children = family::children(&mut tx, &scope, &self.api.keys.sealing, now).await?;
        children
            .into_iter()
            .map(item)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    async fn marks(&self) -> Result<Option<Vec<(Uuid, String)>>, DbError> {
        let all = self.all().await?;
        Ok(all.map(|all| all.into_iter().map(|i| (i.id, i.mark)).collect()))
    }

    async fn one(&self, id: Uuid) -> Result<Look, DbError> {
        let Some(scope) = self.scope().await? else {
            return Ok(Look::Over);
        };
        let mut tx = self.api.db.read().await?;
        let (sealing, now) = (&self.api.keys.sealing, self.api.clock.now());
        let child = family::child(&mut tx, &scope, sealing, ChildId(id), now).await?;
        Ok(match child {
            Some(child) => Look::Row(item(child)?),
            None => Look::Gone,
        })
    }

    fn concerns(&self, wake: &Wake) -> Option<Uuid> {
        match wake.what {
            Changed::Child(id) => Some(id.0),
            Changed::Incident(_) | Changed::Dispatch | Changed::Service | Changed::Gateway(_) => {
                None
            }
        }
    }
}
