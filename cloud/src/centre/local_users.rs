//! Who may log in on the page of a centre's boxes (D10): carers, directors and installers with a box PIN.
//!
//! Their names leave the seal here. Never sees a PIN, only its hash.

use domain::config::{LocalRole, LocalUser};
use domain::id::PersonId;
use domain::time::Timestamp;
use uuid::Uuid;

use crate::db::{DbError, Tx};
use crate::keys::{Sealed, SealingKeys};
use crate::sql;

/// Those whose right stands at `now`, one entry a right.
pub(super) async fn of(
    tx: &mut Tx,
    centre: Uuid,
    sealing: &SealingKeys,
    now: Timestamp,
) -> Result<Vec<LocalUser>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (Uuid, String, Option<i64>, Vec<u8>, String),
        "select g.person, g.role, g.until_at, b.sealed, b.pin_argon2
         from role_grant g join box_login b on b.person = g.person
         where g.centre = $1 and g.role in ('carer', 'director', 'installer')
           and g.from_at <= $2 and (g.until_at is null or g.until_at > $2)
         order by g.person, g.role",
        centre,
        now.micros()
    )?;
    let mut users = Vec::with_capacity(rows.len());
    for (person, role, until, sealed, pin_argon2) in rows {
        let person = PersonId(person);
        let name = sealing
            .open(Sealed::BoxName(person), &sealed)
            .map_err(DbError::corrupt("box_login.sealed"))?;
        users.push(LocalUser {
            person,
            role: role_of(&role)?,
            short_name: String::from_utf8(name).map_err(DbError::corrupt("box_login.sealed"))?,
            pin_argon2,
            until: until.map(Timestamp::from_micros),
        });
    }
    Ok(users)
}

fn role_of(word: &str) -> Result<LocalRole, DbError> {
    match word {
        "carer" => Ok(LocalRole::Carer),
        "director" => Ok(LocalRole::Director),
        "installer" => Ok(LocalRole::Installer),
        _ => Err(DbError::corrupt("role_grant.role")(word)),
    }
}
