//! `antuo-cloud import`: a document (contract B) into the store, in one transaction.
//!
//! Idempotent: what has the same id is updated, nothing is deleted, what the document does not name
//! stays. Only a listed person's `grants` are the whole set: a right missing from them ends. A changed
//! password ends that person's sessions. Card numbers, device secrets,
//! passwords and names are hidden here and never stored as they came. A centre's Config version
//! rises only when something one of its boxes must know has changed.

mod cursor;
mod document;
mod site;
mod write;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use ambient::{Clock, Entropy, NoEntropy};
use domain::config::{Config, LocalUser};
use domain::id::{CentreId, GatewayId};
use domain::time::Timestamp;
use uuid::Uuid;

use crate::access::{PasswordError, Scope, hash_password, is_password_of};
use crate::centre;
use crate::db::{Db, DbError, Tx, Urgency};
use crate::keys::{Keys, SealError};
use crate::sql;
pub use cursor::Wrong;
use document::{Document, Person, Reach};

/// Longest document, in bytes. A longer one is refused.
pub const DOCUMENT_MAX: u64 = 64 * 1024 * 1024;

/// What an import did to a centre.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Imported {
    /// Which.
    pub centre: CentreId,
    /// The version its boxes shall run.
    pub config_version: i64,
    /// Whether it rose.
    pub rose: bool,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Not JSON at all.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A place in the document is wrong.
    #[error(transparent)]
    Wrong(#[from] Wrong),
    /// A name cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A password cannot be hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// No randomness for a key.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// The store failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<sqlx::Error> for ImportError {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

/// Imports a document; all of it or nothing.
///
/// # Errors
/// Names the JSON path and what would be right.
pub async fn import(
    db: &Db,
    keys: &Keys,
    clock: &Clock,
    entropy: &Entropy,
    bytes: &[u8],
) -> Result<Vec<Imported>, ImportError> {
    let document = Document::read(&serde_json::from_slice(bytes)?)?;
    // Hashing takes a tenth of a second a person: before the store is locked, not while.
    let hashes = password_hashes(db, &document.people, entropy).await?;
    let pins = pin_hashes(db, &document.people, entropy).await?;
    let now = clock.now();
    let mut write = db.write(Urgency::Other).await?;
    let tx = write.tx();
    let centres = centres_touched(tx, &document).await?;
    let before = configs(tx, keys, &centres, now).await?;
    write::Writer {
        tx,
        keys,
        entropy,
        now,
    }
    .write(&document, &hashes, &pins)
    .await?;
    let after = configs(tx, keys, &centres, now).await?;
    box_names_differ(&document.people, after.values())?;
    let changed = before
        .iter()
        .filter(|(gateway, config)| after.get(gateway) != Some(*config))
        .map(|(_, config)| config.centre)
        .collect::<BTreeSet<_>>();
    let imported = versions(tx, &centres, &changed).await?;
    write.commit().await?;
    Ok(imported)
}

/// New hashes for passwords that changed, by the person's place in the list.
async fn password_hashes(
    db: &Db,
    people: &[Person],
    entropy: &Entropy,
) -> Result<Vec<Option<String>>, ImportError> {
    let mut hashes = Vec::with_capacity(people.len());
    let mut tx = db.read().await?;
    for person in people {
        let Some(password) = &person.password else {
            hashes.push(None);
            continue;
        };
        let known = sql!(
            &mut tx,
            fetch_optional as (String,),
            "select password_hash from login where person = $1",
            person.id.0
        )?;
        hashes.push(changed(known, password, entropy)?);
    }
    Ok(hashes)
}

/// New hashes for box PINs that changed, by the person's place in the list.
async fn pin_hashes(
    db: &Db,
    people: &[Person],
    entropy: &Entropy,
) -> Result<Vec<Option<String>>, ImportError> {
    let mut hashes = Vec::with_capacity(people.len());
    let mut tx = db.read().await?;
    for person in people {
        let Some(pin) = &person.box_pin else {
            hashes.push(None);
            continue;
        };
        let known = sql!(
            &mut tx,
            fetch_optional as (String,),
            "select pin_argon2 from box_login where person = $1",
            person.id.0
        )?;
        hashes.push(changed(known, pin, entropy)?);
    }
    Ok(hashes)
}

/// The hash of a secret; none when it is the known one's.
fn changed(
    known: Option<(String,)>,
    secret: &str,
    entropy: &Entropy,
) -> Result<Option<String>, ImportError> {
    match known {
        Some((hash,)) if is_password_of(&hash, secret).unwrap_or(false) => Ok(None),
        Some(_) | None => Ok(Some(hash_password(secret, entropy)?)),
    }
}

/// On the page of a box a name is one person's.
fn box_names_differ<'c>(
    people: &[Person],
    configs: impl Iterator<Item = &'c Config>,
) -> Result<(), ImportError> {
    for config in configs {
        let mut held = BTreeMap::new();
        for user in &config.local_users {
            let name = LocalUser::folded(&user.short_name);
            let first = *held.entry(name).or_insert(user.person);
            let listed = |person: &&Person| [first, user.person].contains(&person.id);
            if first != user.person {
                let listed = people.iter().rfind(listed);
                let path = listed.map_or("$.people", |person| &person.path);
                return Err(ImportError::Wrong(Wrong {
                    path: format!("{path}.box_name"),
                    wanted: "must be another name: somebody else of the centre has this one"
                        .to_owned(),
                }));
            }
        }
    }
    Ok(())
}

/// The centres whose boxes may have to learn something: those named, those that a listed person has or
/// had a grant for, and those of children that such a grant names or named.
async fn centres_touched(
    tx: &mut Tx,
    document: &Document,
) -> Result<BTreeSet<CentreId>, ImportError> {
    let mut centres = document
        .centres
        .iter()
        .map(|c| c.id)
        .collect::<BTreeSet<_>>();
    for person in &document.people {
        let held = sql!(
            tx,
            fetch_all as (Uuid,),
            "select c.centre from child c join role_grant g on g.child = c.id where g.person = $1
             union select g.centre from role_grant g where g.person = $1 and g.centre is not null",
            person.id.0
        )?;
        centres.extend(held.into_iter().map(|(centre,)| CentreId(centre)));
        for grant in &person.grants {
            let child = match grant.reach {
                Reach::Child(child) => child,
                Reach::Centre(centre) => {
                    centres.insert(CentreId(centre));
                    continue;
                }
                Reach::WatchRoom(_) | Reach::Deployment => continue,
            };
            let row = sql!(
                tx,
                fetch_optional as (Uuid,),
                "select centre from child where id = $1",
                child
            )?;
            centres.extend(row.map(|(centre,)| CentreId(centre)));
        }
    }
    Ok(centres)
}

/// What every box of those centres would be told, but for the version.
async fn configs(
    tx: &mut Tx,
    keys: &Keys,
    centres: &BTreeSet<CentreId>,
    now: Timestamp,
) -> Result<BTreeMap<GatewayId, Config>, ImportError> {
    let mut configs = BTreeMap::new();
    for &centre in centres {
        let gateways = sql!(
            tx,
            fetch_all as (Uuid,),
            "select id from gateway where centre = $1",
            centre.0
        )?;
        for gateway in gateways.into_iter().map(|(id,)| GatewayId(id)) {
            let scope = Scope::worker(centre);
            let config = centre::config_for(tx, &scope, &keys.sealing, gateway, now).await?;
            configs.extend(config.map(|config| {
                let config = Config {
                    version: 0,
                    ..config
                };
                (gateway, config)
            }));
        }
    }
    Ok(configs)
}

async fn versions(
    tx: &mut Tx,
    centres: &BTreeSet<CentreId>,
    changed: &BTreeSet<CentreId>,
) -> Result<Vec<Imported>, ImportError> {
    let mut imported = Vec::with_capacity(centres.len());
    for &centre in centres {
        let rose = changed.contains(&centre);
        let (config_version,) = sql!(
            tx,
            fetch_one as (i64,),
            "update centre set config_version = config_version + $2 where id = $1
             returning config_version",
            centre.0,
            i64::from(rose)
        )?;
        imported.push(Imported {
            centre,
            config_version,
            rose,
        });
    }
    Ok(imported)
}
