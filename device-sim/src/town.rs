//! The import file of the cloud as the simulator knows it, and what a town can be asked: whose card, which zone.
//!
//! Owns: the published JSON shape and look-ups over it. Never: talks to anybody.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;
use uuid::Uuid;

/// The whole import file, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Town {
    pub v: u32,
    pub divisions: Vec<Division>,
    pub watch_rooms: Vec<WatchRoom>,
    pub receivers: Vec<Receiver>,
    pub centres: Vec<Centre>,
    pub people: Vec<Person>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Division {
    pub code: String,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRoom {
    pub id: Uuid,
    pub name: String,
}

/// Whom a receiver belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Agency {
    Police,
    Fire,
    Monitoring,
}

impl Agency {
    /// All of them.
    pub const ALL: [Agency; 3] = [Agency::Police, Agency::Fire, Agency::Monitoring];

    /// The word in the import file, in a receiver's ledger and in its file name.
    pub fn word(self) -> &'static str {
        match self {
            Agency::Police => "police",
            Agency::Fire => "fire",
            Agency::Monitoring => "monitoring",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    pub id: Uuid,
    pub name: String,
    pub division: String,
    pub agency: Agency,
    pub protocol: String,
    pub dc09: Dc09,
}

/// Where a DC-09 receiver listens and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dc09 {
    pub primary: String,
    pub backup: Option<String>,
    pub receiver_no: String,
    pub line: String,
    pub poll_s: u32,
    pub reply_timeout_ms: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Centre {
    pub id: Uuid,
    pub name: String,
    pub short_name: String,
    pub division: String,
    pub watch_room: Uuid,
    pub address: String,
    pub filing_no: String,
    pub time_zone: String,
    pub fire_needs_verification: bool,
    pub accounts: Vec<Account>,
    pub gateways: Vec<Gateway>,
    pub zones: Vec<Zone>,
    pub mqtt_credentials: Vec<MqttCredential>,
    pub enrolments: Vec<Enrolment>,
    pub children: Vec<Child>,
    pub credentials: Vec<Credential>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub receiver: Uuid,
    pub account: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    pub id: Uuid,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    pub id: String,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MqttCredential {
    pub gateway: Uuid,
    pub username: String,
    pub secret: String,
    pub publish: Vec<String>,
}

/// What a reader's tap means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Passage {
    None,
    In,
    Out,
    Both,
}

/// One point of one device. `role` and `ecosystem` are plain text here: a town made by somebody else may hold more
/// of them than this simulator plays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    pub gateway: Uuid,
    pub device: String,
    pub point: String,
    pub ecosystem: String,
    pub address: String,
    pub model: Option<String>,
    pub role: String,
    pub zone: String,
    pub number: u16,
    pub momentary: bool,
    pub latching: bool,
    pub interval_s: Option<u32>,
    pub passage: Passage,
    pub decides: bool,
    pub options: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    pub id: Uuid,
    pub name: String,
    pub short_name: String,
    pub class_group: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    pub card: String,
    pub holder: Holder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub kind: HolderKind,
    pub id: Uuid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HolderKind {
    Child,
    Guardian,
    Pickup,
    Staff,
    Visitor,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    pub id: Uuid,
    pub name: String,
    pub username: Option<String>,
    pub password: Option<String>,
    pub grants: Vec<Grant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Grant {
    Guardian { child: Uuid },
    Operator { watch_room: Uuid },
    ShiftLead { watch_room: Uuid },
    Director { centre: Uuid },
    Carer { centre: Uuid },
    Admin,
}

/// A user name and its password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login<'a> {
    pub username: &'a str,
    pub password: &'a str,
}

/// Why a town file could not be used.
#[derive(Debug, Error)]
pub enum TownError {
    #[error("cannot read town file {path}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("town file {path} is not an import file of version 1: {source}")]
    Shape {
        path: PathBuf,
        source: serde_json::Error,
    },
}

impl Town {
    /// Reads a town file.
    pub fn read(path: &Path) -> Result<Town, TownError> {
        let text = std::fs::read(path).map_err(|source| TownError::Read {
            path: path.to_owned(),
            source,
        })?;
        serde_json::from_slice(&text).map_err(|source| TownError::Shape {
            path: path.to_owned(),
            source,
        })
    }

    /// The centre with this id.
    pub fn centre(&self, id: &str) -> Option<&Centre> {
        self.centres
            .iter()
            .find(|centre| centre.id.to_string() == id)
    }

    /// The children this person may fetch.
    pub fn children_of(&self, guardian: Uuid) -> Vec<Uuid> {
        let person = self.people.iter().find(|person| person.id == guardian);
        person.map_or(Vec::new(), |person| {
            person.grants.iter().filter_map(guarded).collect()
        })
    }

    /// Log-in of some guardian of this child.
    pub fn login_for_child(&self, child: Uuid) -> Option<Login<'_>> {
        self.people
            .iter()
            .filter(|person| {
                person
                    .grants
                    .iter()
                    .any(|grant| guarded(grant) == Some(child))
            })
            .find_map(login)
    }

    /// Log-ins of all who may work on cases, in the order of the file.
    pub fn operators(&self) -> Vec<Login<'_>> {
        self.people
            .iter()
            .filter(|person| person.grants.iter().any(|grant| watched(grant).is_some()))
            .filter_map(login)
            .collect()
    }

    /// One log-in for each watch room: together they see every case.
    pub fn watchers(&self) -> Vec<Login<'_>> {
        let of = |room: &WatchRoom| {
            let watches = |grant: &Grant| watched(grant) == Some(room.id);
            let mut own = self
                .people
                .iter()
                .filter(|person| person.grants.iter().any(watches));
            own.find_map(login)
        };
        self.watch_rooms.iter().filter_map(of).collect()
    }

    /// Log-in of an administrator.
    pub fn admin(&self) -> Option<Login<'_>> {
        self.people
            .iter()
            .filter(|person| person.grants.contains(&Grant::Admin))
            .find_map(login)
    }

    /// The receiver a ledger calls by its agency, its id or its name.
    pub fn receiver(&self, called: &str) -> Option<&Receiver> {
        let is = |receiver: &&Receiver| {
            receiver.agency.word() == called
                || receiver.name == called
                || receiver.id.to_string() == called
        };
        self.receivers.iter().find(is)
    }

    /// The centre that has this account at this receiver.
    pub fn centre_of_account(&self, receiver: Uuid, account: &str) -> Option<&Centre> {
        let owns = |centre: &&Centre| {
            centre
                .accounts
                .iter()
                .any(|own| own.receiver == receiver && own.account.eq_ignore_ascii_case(account))
        };
        self.centres.iter().find(owns)
    }

    /// The agency of each receiver of this town.
    pub fn agency_of(&self, receiver: Uuid) -> Option<Agency> {
        self.receivers
            .iter()
            .find(|other| other.id == receiver)
            .map(|receiver| receiver.agency)
    }
}

impl Centre {
    /// The centre's account at a receiver of this agency.
    pub fn account_at<'a>(&'a self, town: &Town, agency: Agency) -> Option<&'a str> {
        let at = |account: &&Account| town.agency_of(account.receiver) == Some(agency);
        self.accounts
            .iter()
            .find(at)
            .map(|account| account.account.as_str())
    }

    /// The enrolment a receiver sees under this zone number.
    pub fn numbered(&self, number: u16) -> Option<&Enrolment> {
        self.enrolments
            .iter()
            .find(|enrolment| enrolment.number == number)
    }

    /// The enrolment of this point.
    pub fn point(&self, device: &str, point: &str) -> Option<&Enrolment> {
        self.enrolments
            .iter()
            .find(|enrolment| enrolment.device == device && enrolment.point == point)
    }
}

fn guarded(grant: &Grant) -> Option<Uuid> {
    if let Grant::Guardian { child } = grant {
        Some(*child)
    } else {
        None
    }
}

/// The watch room whose cases this grant lets work on.
fn watched(grant: &Grant) -> Option<Uuid> {
    match grant {
        Grant::Operator { watch_room } | Grant::ShiftLead { watch_room } => Some(*watch_room),
        Grant::Guardian { .. } | Grant::Director { .. } | Grant::Carer { .. } | Grant::Admin => {
            None
        }
    }
}

fn login(person: &Person) -> Option<Login<'_>> {
    Some(Login {
        username: person.username.as_deref()?,
        password: person.password.as_deref()?,
    })
}
