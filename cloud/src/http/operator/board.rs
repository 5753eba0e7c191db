//! The operator's stream: cases, and what is out of full service at each centre, as they change.

use axum::extract::State;
use axum::response::Response;
use domain::id::{CentreId, IncidentId};
use uuid::Uuid;

use super::served::Service;
use super::view::Incident;
use crate::access::{Role, Scope, SessionKey, Standing};
use crate::board;
use crate::commands::shown::{self as commands, Boxes};
use crate::db::{DbError, Tx};
use crate::http::Api;
use crate::http::error::Problem;
use crate::http::guard::Caller;
use crate::http::stream;
use crate::incident::shown::{self, Shown as Seen, Which};
use crate::live::{Item, Look, Shown, Words};
use crate::wake::{Changed, Wake};

/// What cases are called on the stream.
const INCIDENTS: Words = Words {
    list: "incidents",
    row: "incident",
};
/// What a centre's sessions, bypasses and commands are called.
const SERVICE: Words = Words {
    list: "service",
    row: "service",
};

/// `GET /api/operator/stream`
pub async fn stream(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    let shown = Board {
        session: caller.session,
        api: api.clone(),
    };
    stream::open(&api, &caller, Role::Operator, &[INCIDENTS, SERVICE], shown)
}

/// What one operator's stream shows.
struct Board {
    api: Api,
    session: SessionKey,
}

impl Board {
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
    let (id, listed, signal_at) = match &seen {
        Seen::Case(record) => {
            let lines = record.case.lines.iter();
            let signal_at = lines.map(|line| line.last_at).max();
            (record.case.id, record.case.on_board(), signal_at)
        }
        Seen::Unreadable(case) => (case.id, case.on_board, None),
    };
    let incident = Incident::of(seen);
    let json = serde_json::to_string(&incident).map_err(DbError::corrupt("incident.body"))?;
    Ok(Item {
        words: INCIDENTS,
        id: id.0,
        version: i64::try_from(incident.version).unwrap_or(i64::MAX),
        mark: incident.version.to_string(),
        json,
        listed,
        signal_at,
    })
}

/// A centre's row; its id is the centre's.
fn service(api: &Api, served: commands::Served, boxes: &Boxes) -> Result<Item, DbError> {
    let listed = served.is_listed();
    let (id, version) = (served.centre.0, served.version);
    let service = Service::of(served, boxes, api);
    let json = serde_json::to_string(&service).map_err(DbError::corrupt("command"))?;
    Ok(Item {
        words: SERVICE,
        id,
        version,
        mark: version.to_string(),
        json,
        listed,
        signal_at: None,
    })
}

/// What is out of full service at a centre within reach.
async fn service_of(
    api: &Api,
    tx: &mut Tx,
    scope: &Scope,
    centre: CentreId,
) -> Result<Option<Item>, DbError> {
    let now = api.clock.now();
    let Some(served) = commands::served(tx, scope, centre, now).await? else {
        return Ok(None);
    };
    let boxes = commands::boxes(tx, scope, centre, now).await?;
    service(api, served, &boxes).map(Some)
}

impl Shown for Board {
    async fn all(&self) -> Result<Option<Vec<Item>>, DbError> {
        let Some(scope) = self.scope().await? else {
            return Ok(None);
        };
        let mut tx = self.api.db.read().await?;
        let now = self.api.clock.now();
        let cases = shown::cases(&mut tx, &scope, Which::Open, now).await?;
        let mut items: Vec<Item> = cases.into_iter().map(item).collect::<Result<_, _>>()?;
        for (centre, _) in commands::versions(&mut tx, &scope, now).await? {
            let row = service_of(&self.api, &mut tx, &scope, centre).await?;
            items.extend(row.filter(|row| row.listed));
        }
        Ok(Some(items))
    }

    async fn marks(&self) -> Result<Option<Vec<(Uuid, String)>>, DbError> {
        let Some(scope) = self.scope().await? else {
            return Ok(None);
        };
        let mut tx = self.api.db.read().await?;
        let now = self.api.clock.now();
        let cases = board::versions(&mut tx, &scope, now).await?;
        let centres = commands::versions(&mut tx, &scope, now).await?;
        let cases = cases.into_iter().map(|(id, version)| (id.0, version));
        let centres = centres.into_iter().map(|(id, version)| (id.0, version));
        let mark = |(id, version): (Uuid, i64)| (id, version.to_string());
        Ok(Some(cases.chain(centres).map(mark).collect()))
    }

    async fn one(&self, id: Uuid) -> Result<Look, DbError> {
        let Some(scope) = self.scope().await? else {
            return Ok(Look::Over);
        };
        let mut tx = self.api.db.read().await?;
        let seen = shown::case(&mut tx, &scope, IncidentId(id), self.api.clock.now()).await?;
        if let Some(seen) = seen {
            return Ok(Look::Row(item(seen)?));
        }
        // No case has the id of a centre: both are made by chance.
        let row = service_of(&self.api, &mut tx, &scope, CentreId(id)).await?;
        Ok(row.map_or(Look::Gone, Look::Row))
    }

    fn concerns(&self, wake: &Wake) -> Option<Uuid> {
        match wake.what {
            Changed::Incident(id) => Some(id.0),
            Changed::Service => Some(wake.centre.0),
            Changed::Child(_) | Changed::Dispatch | Changed::Gateway(_) => None,
        }
    }
}
