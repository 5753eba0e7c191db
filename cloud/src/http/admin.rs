//! For admins: the deployment's machines. No child, guardian or picture is within their reach.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::id::GatewayId;
use serde::Serialize;
use uuid::Uuid;

use super::Api;
use super::error::Problem;
use super::guard::Caller;
use crate::access::Role;
use crate::sql;

/// Lanes shown of one box, the newest epochs first; older ones are left out.
const LANES_MAX: usize = 30;

#[derive(Serialize)]
struct Gateways {
    gateways: Vec<Gateway>,
}

#[derive(Serialize)]
struct Gateway {
    id: String,
    name: String,
    centre: Centre,
    connected: bool,
    last_seen_at: Option<i64>,
    config_version_sent: i64,
    config_version_applied: i64,
    lanes: Vec<Lane>,
}

#[derive(Serialize)]
struct Centre {
    id: String,
    name: String,
}

#[derive(Serialize)]
struct Lane {
    epoch: Uuid,
    lane: String,
    through_seq: i64,
}

/// `GET /api/admin/gateways`
pub async fn gateways(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    type Row = (Uuid, String, Uuid, String, Option<i64>, i64, i64);
    let (admin, now) = (
        caller.scope.acting_as(Role::Admin),
        api.clock.now().micros(),
    );
    let mut tx = api.db.read().await?;
    let rows = sql!(
        &mut tx,
        fetch_all as Row,
        "select b.id, b.name, c.id, c.name, b.last_seen_at, b.config_sent, b.config_applied
         from gateway b join centre c on c.id = b.centre
         where exists (select 1 from role_grant g where g.person = $1 and g.role = 'admin'
             and g.from_at <= $2 and (g.until_at is null or g.until_at > $2))
         order by c.id, b.id",
        admin,
        now
    )?;
    let progress = sql!(
        &mut tx,
        fetch_all as (Uuid, Uuid, String, i64),
        "select p.gateway, p.epoch, p.lane, p.through_seq from lane_progress p
         where exists (select 1 from role_grant g where g.person = $1 and g.role = 'admin'
             and g.from_at <= $2 and (g.until_at is null or g.until_at > $2))
         order by p.epoch desc, p.lane",
        admin,
        now
    )?;
    let mut lanes: BTreeMap<Uuid, Vec<Lane>> = BTreeMap::new();
    for (gateway, epoch, lane, through_seq) in progress {
        let lanes = lanes.entry(gateway).or_default();
        if lanes.len() < LANES_MAX {
            lanes.push(Lane {
                epoch,
                lane,
                through_seq,
            });
        }
    }
    let gateway = |(id, name, centre, centre_name, last_seen_at, sent, applied): Row| Gateway {
        id: id.to_string(),
        name,
        centre: Centre {
            id: centre.to_string(),
            name: centre_name,
        },
        connected: api.boxes.is_connected(GatewayId(id)),
        last_seen_at,
        config_version_sent: sent,
        config_version_applied: applied,
        lanes: lanes.remove(&id).unwrap_or_default(),
    };
    let gateways = rows.into_iter().map(gateway).collect();
    Ok(Json(Gateways { gateways }).into_response())
}
