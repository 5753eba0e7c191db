//! What guardians see: their own children, where they are as far as the centre's boxes told.
//!
//! Reading only. Each statement binds the person and asks `role_grant` at that instant. Never infers
//! a departure, and never shows the name of an adult who is no guardian of the same child (R 1.8b).

mod today;

use domain::event::{HandedBy, How};
use domain::id::{CentreId, ChildId, PersonId};
use domain::presence::{Presence, Standing};
use domain::time::{CentreZone, Timestamp};
use uuid::Uuid;

use crate::access::{Role, Scope};
use crate::centre::names_of;
use crate::column::readable;
use crate::db::{DbError, Tx};
use crate::keys::{Sealed, SealingKeys};
use crate::sql;
pub use today::{Heard, Today, Whereabouts, today};

/// Movements in one answer; the rest is on the next page.
pub const MOVEMENTS_MAX: i64 = 200;

/// Who handed a child over or took it, as a guardian may know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Adult {
    /// A guardian of the same child, by name.
    Guardian(String),
    /// A member of staff.
    Staff,
    /// Somebody else the centre knows.
    Another,
    /// Nobody was recorded.
    NotRecorded,
}

/// A child as its guardian sees it.
pub struct Child {
    /// The child.
    pub id: ChildId,
    /// Its full name.
    pub name: String,
    /// Its class.
    pub class_group: String,
    /// Where.
    pub centre: CentreId,
    /// The centre's name.
    pub centre_name: String,
    /// Where it is.
    pub today: Today,
    /// Who handed it over last, if a movement of today says.
    pub by: Option<Adult>,
    /// Rises with each change of its presence.
    pub version: i64,
}

/// A movement as a guardian sees it.
pub struct Move {
    /// The event.
    pub event: Uuid,
    /// The device's own id of it.
    pub vendor_id: Option<String>,
    /// Its kind.
    pub kind: String,
    /// When.
    pub at: i64,
    /// Where it stands among the others.
    pub order: i64,
    /// Who, if the movement says.
    pub by: Option<Adult>,
    /// By what means.
    pub how: Option<How>,
}

/// The part of a statement that lets only own children through: `$1` is the person, `$2` now.
macro_rules! own {
    ($rest:literal) => {
        concat!(
            "select c.id, c.centre, c.class_group, c.sealed, e.name, e.time_zone, p.body, p.version,
                 (select min(coalesce(b.last_seen_at, 0)) from gateway b where b.centre = c.centre
                    and exists (select 1 from gateway_key k
                        where k.gateway = b.id and k.state in ('active', 'previous')))
             from role_grant g join child c on c.id = g.child join centre e on e.id = c.centre
                 left join presence p on p.centre = c.centre and p.child = c.id
             where g.person = $1 and g.role = 'guardian'
                 and g.from_at <= $2 and (g.until_at is null or g.until_at > $2) ",
            $rest
        )
    };
}

type Row = (
    Uuid,
    Uuid,
    String,
    Vec<u8>,
    String,
    String,
    Option<String>,
    Option<i64>,
    Option<i64>,
);

/// The children within the scope.
///
/// # Errors
/// When the store fails.
pub async fn children(
    tx: &mut Tx,
    scope: &Scope,
    sealing: &SealingKeys,
    now: Timestamp,
) -> Result<Vec<Child>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as Row,
        own!("order by c.id"),
        scope.acting_as(Role::Guardian),
        now.micros()
    )?;
    let mut children = Vec::with_capacity(rows.len());
    for row in rows {
        children.push(whole(tx, sealing, row, now).await?);
    }
    Ok(children)
}

/// One child; none when there is none within the scope.
///
/// # Errors
/// When the store fails.
pub async fn child(
    tx: &mut Tx,
    scope: &Scope,
    sealing: &SealingKeys,
    child: ChildId,
    now: Timestamp,
) -> Result<Option<Child>, DbError> {
    let row = sql!(
        tx,
        fetch_optional as Row,
        own!("and c.id = $3"),
        scope.acting_as(Role::Guardian),
        now.micros(),
        child.0
    )?;
    match row {
        Some(row) => whole(tx, sealing, row, now).await.map(Some),
        None => Ok(None),
    }
}

async fn whole(
    tx: &mut Tx,
    sealing: &SealingKeys,
    row: Row,
    now: Timestamp,
) -> Result<Child, DbError> {
    let (id, centre, class_group, sealed, centre_name, zone, body, version, heard) = row;
    let id = ChildId(id);
    let zone = CentreZone::named(&zone).map_err(DbError::corrupt("centre.time_zone"))?;
    let presence: Option<Presence> = body
        .and_then(|body| readable(serde_json::from_str(&body), "presence.body"))
        .flatten();
    let today = today(presence.as_ref(), Heard::of(heard), &zone, now);
    let by = match today.by {
        Some(by) => Some(adult(tx, sealing, id, by, today.how, now).await?),
        None => None,
    };
    Ok(Child {
        id,
        name: names_of(sealing, id, &sealed)?.name,
        class_group,
        centre: CentreId(centre),
        centre_name,
        today,
        by,
        version: version.unwrap_or(0),
    })
}

/// What a guardian of the child may know of an adult.
async fn adult(
    tx: &mut Tx,
    sealing: &SealingKeys,
    child: ChildId,
    by: HandedBy,
    how: Option<How>,
    now: Timestamp,
) -> Result<Adult, DbError> {
    let HandedBy::Person(person) = by else {
        return Ok(Adult::NotRecorded);
    };
    let row = sql!(
        tx,
        fetch_optional as (Vec<u8>,),
        "select p.sealed from person p join role_grant g on g.person = p.id
         where p.id = $1 and g.child = $2 and g.role = 'guardian'
             and g.from_at <= $3 and (g.until_at is null or g.until_at > $3)",
        person.0,
        child.0,
        now.micros()
    )?;
    match (row, how) {
        (Some((sealed,)), _) => name_of(sealing, person, &sealed).map(Adult::Guardian),
        (None, Some(How::Staff)) => Ok(Adult::Staff),
        (None, Some(How::Card | How::Code) | None) => Ok(Adult::Another),
    }
}

fn name_of(sealing: &SealingKeys, person: PersonId, sealed: &[u8]) -> Result<String, DbError> {
    let plain = sealing
        .open(Sealed::Person(person), sealed)
        .map_err(DbError::corrupt("person.sealed"))?;
    String::from_utf8(plain).map_err(DbError::corrupt("person.sealed"))
}

/// The movements of a child after a place in their order, at most [`MOVEMENTS_MAX`]; none when there
/// is no such child within the scope.
///
/// # Errors
/// When the store fails.
pub async fn moves(
    tx: &mut Tx,
    scope: &Scope,
    sealing: &SealingKeys,
    child: ChildId,
    after: (i64, Uuid),
    now: Timestamp,
) -> Result<Option<Vec<Move>>, DbError> {
    let found = sql!(
        tx,
        fetch_optional as (Uuid,),
        "select c.centre from role_grant g join child c on c.id = g.child
         where g.person = $1 and g.role = 'guardian' and c.id = $3
             and g.from_at <= $2 and (g.until_at is null or g.until_at > $2)",
        scope.acting_as(Role::Guardian),
        now.micros(),
        child.0
    )?;
    let Some((centre,)) = found else {
        return Ok(None);
    };
    let rows = sql!(
        tx,
        fetch_all as (Uuid, String, i64, i64, Option<String>, String),
        "select event, kind, at, order_hlc, vendor_id, body from movement
         where centre = $1 and child = $2 and (order_hlc > $3 or (order_hlc = $3 and event > $4))
         order by order_hlc, event limit $5",
        centre,
        child.0,
        after.0,
        after.1,
        MOVEMENTS_MAX
    )?;
    let mut moves = Vec::with_capacity(rows.len());
    for (event, kind, at, order, vendor_id, body) in rows {
        let Some(standing) = readable(serde_json::from_str(&body), "movement.body") else {
            continue;
        };
        let (by, how) = match standing {
            Standing::Inside { by, how } | Standing::Outside { by, how } => (Some(by), Some(how)),
            Standing::LeavingUnconfirmed => (None, Some(How::Card)),
        };
        let by = match by {
            Some(by) => Some(adult(tx, sealing, child, by, how, now).await?),
            None => None,
        };
        moves.push(Move {
            event,
            vendor_id,
            kind,
            at,
            order,
            by,
            how,
        });
    }
    Ok(Some(moves))
}
