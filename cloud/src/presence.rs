//! Where each child is, as the movements known tell it, and the movements themselves.
//!
//! The only SQL that writes `presence` and `movement`; `movement.body` is the movement's
//! `Standing`. Order of arrival does not matter (D5, D8), so no
//! centre's lock is needed. Never guesses a movement: the box's `site` and carers make them.

use std::collections::BTreeMap;

use domain::event::Event;
use domain::id::{ChildId, GatewayId};
use domain::presence::{Movement, Presence, fold};
use uuid::Uuid;

use crate::access::Scope;
use crate::column::{readable, storable};
use crate::db::{DbError, Tx};
use crate::sql;

/// Takes the movements among events of a box into account and says which children they concern. A
/// child unknown to the centre is left out: its record is kept all the same.
///
/// # Errors
/// When the store fails or a row cannot be read.
pub async fn project(
    tx: &mut Tx,
    scope: &Scope,
    gateway: GatewayId,
    events: &[&Event],
) -> Result<Vec<ChildId>, DbError> {
    let node = gateway.to_string();
    let mut of_child: BTreeMap<ChildId, Vec<(&Event, Movement)>> = BTreeMap::new();
    for event in events {
        if let Some(movement) = Movement::of(event, &node) {
            of_child
                .entry(movement.child)
                .or_default()
                .push((event, movement));
        }
    }
    let mut changed = Vec::new();
    // Rows are taken in the order of the ids, so that two boxes of a centre never wait for each other.
    for (child, movements) in of_child {
        if !is_enrolled(tx, scope, child).await? {
            tracing::warn!(%child, "movement of a child unknown to its centre");
            continue;
        }
        keep_movements(tx, scope, child, &movements).await?;
        if keep_presence(tx, scope, child, &movements).await? {
            changed.push(child);
        }
    }
    Ok(changed)
}

async fn is_enrolled(tx: &mut Tx, scope: &Scope, child: ChildId) -> Result<bool, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (Uuid,),
        "select id from child where centre = $1 and id = $2",
        scope.own_centre(),
        child.0
    )?;
    Ok(row.is_some())
}

async fn keep_movements(
    tx: &mut Tx,
    scope: &Scope,
    child: ChildId,
    movements: &[(&Event, Movement)],
) -> Result<(), DbError> {
    for (event, movement) in movements {
        let body =
            serde_json::to_string(&movement.standing).map_err(DbError::corrupt("movement.body"))?;
        sql!(
            tx,
            execute,
            "insert into movement (centre, child, event, kind, at, order_hlc, vendor_id, body)
             values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing",
            scope.own_centre(),
            child.0,
            event.id.0,
            event.kind.as_str(),
            movement.at.micros(),
            movement.rank.order.0,
            event.vendor_id.as_deref().map(storable),
            body.as_str()
        )?;
    }
    Ok(())
}

/// Folds movements into a child's row; says whether anything changed.
async fn keep_presence(
    tx: &mut Tx,
    scope: &Scope,
    child: ChildId,
    movements: &[(&Event, Movement)],
) -> Result<bool, DbError> {
    // A row must be there before it can be locked: "null" is a child never heard of.
    sql!(
        tx,
        execute,
        "insert into presence (centre, child, body, version) values ($1, $2, 'null', 0)
         on conflict do nothing",
        scope.own_centre(),
        child.0
    )?;
    let (known,) = sql!(
        tx,
        fetch_one as (String,),
        "update presence set version = version where centre = $1 and child = $2 returning body",
        scope.own_centre(),
        child.0
    )?;
    // What cannot be read is unknown, and what comes now is the truth.
    let known: Option<Presence> = readable(serde_json::from_str(&known), "presence.body").flatten();
    let folded = movements
        .iter()
        .fold(known.clone(), |known, (_, movement)| {
            Some(fold(known, movement))
        });
    if folded == known {
        return Ok(false);
    }
    let body = serde_json::to_string(&folded).map_err(DbError::corrupt("presence.body"))?;
    sql!(
        tx,
        execute,
        "update presence set body = $3, version = version + 1 where centre = $1 and child = $2",
        scope.own_centre(),
        child.0,
        body.as_str()
    )?;
    Ok(true)
}
