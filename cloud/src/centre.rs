//! What a box must know of its centre: the Config of each box, built from the tables and signed (D2).
//!
//! The only place where a centre's card key leaves its seal. Never decides when a version rises:
//! whoever changes a part does, in the same transaction.

mod local_users;

use domain::config::{
    CONFIG_V, Collector, Config, Credential, Enrolment, MqttCredential, Place, Policy, RosterChild,
    Zone,
};
use domain::digest::{CredentialDigest, to_hex};
use domain::event::Holder;
use domain::id::{CentreId, ChildId, GatewayId, PersonId};
use domain::time::Timestamp;
use domain::wire::SignedConfig;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::access::Scope;
use crate::db::{DbError, Tx};
use crate::keys::{Sealed, SealingKeys, SigningKey};
use crate::sql;

/// The names of a child as they rest, sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildNames {
    /// In full.
    pub name: String,
    /// What the carers call it.
    pub short_name: String,
}

/// Signs a box's Config.
///
/// # Errors
/// When it has no JSON form, which is a defect.
pub fn sign(key: &SigningKey, config: &Config) -> Result<SignedConfig, serde_json::Error> {
    Ok(key.sign(serde_json::to_string(config)?))
}

/// The Config of one box as of `now`; none when the box is not of the scope's centre.
///
/// # Errors
/// When the store fails or a stored part cannot be read.
pub async fn config_for(
    tx: &mut Tx,
    scope: &Scope,
    sealing: &SealingKeys,
    gateway: GatewayId,
    now: Timestamp,
) -> Result<Option<Config>, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (Uuid, i64, Vec<u8>, String, String, String),
        "select c.id, c.config_version, c.credential_key, c.name, c.address, c.time_zone
         from centre c join gateway g on g.centre = c.id where c.id = $1 and g.id = $2",
        scope.own_centre(),
        gateway.0
    )?;
    let Some((centre, version, card_key, name, address, time_zone)) = row else {
        return Ok(None);
    };
    let place = Place {
        name,
        address,
        time_zone,
    };
    let card_key = sealing
        .open(Sealed::CardKey(CentreId(centre)), &card_key)
        .map_err(DbError::corrupt("centre.credential_key"))?;
    Ok(Some(Config {
        v: CONFIG_V,
        centre: CentreId(centre),
        gateway,
        version: u64::try_from(version).map_err(DbError::corrupt("centre.config_version"))?,
        zones: zones(tx, centre).await?,
        enrolments: enrolments(tx, centre, gateway).await?,
        mqtt_credentials: mqtt_credentials(tx, centre, gateway).await?,
        credential_key: to_hex(&card_key),
        credentials: credentials(tx, centre).await?,
        roster: roster(tx, centre, sealing).await?,
        collectors: collectors(tx, centre, now).await?,
        policy: Policy::default(),
        local_users: local_users::of(tx, centre, sealing, now).await?,
        place: Some(place),
        made_at: Some(now),
    }))
}

async fn zones(tx: &mut Tx, centre: Uuid) -> Result<Vec<Zone>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (String, String),
        "select id, name from zone where centre = $1 order by id",
        centre
    )?;
    let zone = |(id, name): (String, String)| {
        let id = id.try_into().map_err(DbError::corrupt("zone.id"))?;
        Ok(Zone { id, name })
    };
    rows.into_iter().map(zone).collect()
}

async fn enrolments(
    tx: &mut Tx,
    centre: Uuid,
    gateway: GatewayId,
) -> Result<Vec<Enrolment>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (String,),
        "select body from enrolment where centre = $1 and gateway = $2 order by device, point",
        centre,
        gateway.0
    )?;
    let read = |(body,): (String,)| {
        serde_json::from_str(&body).map_err(DbError::corrupt("enrolment.body"))
    };
    rows.into_iter().map(read).collect()
}

async fn mqtt_credentials(
    tx: &mut Tx,
    centre: Uuid,
    gateway: GatewayId,
) -> Result<Vec<MqttCredential>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (String, String, String),
        "select username, secret_sha256, publish from mqtt_credential
         where centre = $1 and gateway = $2 order by username",
        centre,
        gateway.0
    )?;
    let credential = |(username, secret_sha256, publish): (String, String, String)| {
        Ok(MqttCredential {
            username: username
                .try_into()
                .map_err(DbError::corrupt("mqtt_credential.username"))?,
            secret_sha256,
            publish: serde_json::from_str(&publish)
                .map_err(DbError::corrupt("mqtt_credential.publish"))?,
        })
    };
    rows.into_iter().map(credential).collect()
}

async fn credentials(tx: &mut Tx, centre: Uuid) -> Result<Vec<Credential>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (Vec<u8>, String, Uuid, Option<i64>, Option<i64>),
        "select hidden, holder_kind, holder, from_at, until_at from credential
         where centre = $1 order by hidden",
        centre
    )?;
    let mut credentials = Vec::with_capacity(rows.len());
    for (hidden, kind, holder, from, until) in rows {
        let hidden = <[u8; 32]>::try_from(hidden)
            .map_err(|_| DbError::corrupt("credential.hidden")("not 32 bytes"))?;
        credentials.push(Credential {
            hidden: CredentialDigest(hidden),
            holder: holder_of(&kind, holder)?,
            from: from.map(Timestamp::from_micros),
            until: until.map(Timestamp::from_micros),
        });
    }
    Ok(credentials)
}

fn holder_of(kind: &str, id: Uuid) -> Result<Holder, DbError> {
    match kind {
        "child" => Ok(Holder::Child(ChildId(id))),
        "guardian" => Ok(Holder::Guardian(PersonId(id))),
        "pickup" => Ok(Holder::Pickup(PersonId(id))),
        "staff" => Ok(Holder::Staff(PersonId(id))),
        "visitor" => Ok(Holder::Visitor(PersonId(id))),
        _ => Err(DbError::corrupt("credential.holder_kind")(kind)),
    }
}

async fn roster(
    tx: &mut Tx,
    centre: Uuid,
    sealing: &SealingKeys,
) -> Result<Vec<RosterChild>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (Uuid, String, Vec<u8>),
        "select id, class_group, sealed from child where centre = $1 order by id",
        centre
    )?;
    let child = |(id, class_group, sealed): (Uuid, String, Vec<u8>)| {
        let id = ChildId(id);
        Ok(RosterChild {
            id,
            short_name: names_of(sealing, id, &sealed)?.short_name,
            class_group,
        })
    };
    rows.into_iter().map(child).collect()
}

/// Opens a child's names.
///
/// # Errors
/// When the seal or what is in it cannot be read.
pub fn names_of(
    sealing: &SealingKeys,
    child: ChildId,
    sealed: &[u8],
) -> Result<ChildNames, DbError> {
    let plain = sealing
        .open(Sealed::Child(child), sealed)
        .map_err(DbError::corrupt("child.sealed"))?;
    serde_json::from_slice(&plain).map_err(DbError::corrupt("child.sealed"))
}

async fn collectors(tx: &mut Tx, centre: Uuid, now: Timestamp) -> Result<Vec<Collector>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (Uuid, Uuid),
        "select g.person, g.child from role_grant g join child c on c.id = g.child
         where c.centre = $1 and g.role = 'guardian'
           and g.from_at <= $2 and (g.until_at is null or g.until_at > $2)
         order by g.person, g.child",
        centre,
        now.micros()
    )?;
    let mut collectors: Vec<Collector> = Vec::new();
    for (person, child) in rows {
        let (person, child) = (PersonId(person), ChildId(child));
        match collectors.last_mut() {
            Some(last) if last.person == person => last.children.push(child),
            Some(_) | None => collectors.push(Collector {
                person,
                children: vec![child],
            }),
        }
    }
    Ok(collectors)
}
