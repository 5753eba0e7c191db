//! Which cases are on an operator's board, in which version: what a stream compares.
//!
//! Reading only. The cases themselves are read by `incident::shown`.

use domain::id::IncidentId;
use domain::time::Timestamp;
use uuid::Uuid;

use crate::access::{Role, Scope};
use crate::db::{DbError, Tx};
use crate::sql;

/// Names and versions of the cases on the board within the scope.
///
/// # Errors
/// When the store fails.
pub async fn versions(
    tx: &mut Tx,
    scope: &Scope,
    now: Timestamp,
) -> Result<Vec<(IncidentId, i64)>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (Uuid, i64),
        "select i.id, i.version from incident i join centre c on c.id = i.centre
         where i.on_board and exists (select 1 from role_grant g where g.person = $1
             and g.role in ('operator', 'shift_lead') and g.watch_room = c.watch_room
             and g.from_at <= $2 and (g.until_at is null or g.until_at > $2))",
        scope.acting_as(Role::Operator),
        now.micros()
    )?;
    let named = |(id, version)| (IncidentId(id), version);
    Ok(rows.into_iter().map(named).collect())
}
