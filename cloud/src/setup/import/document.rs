//! The import document (contract B), read and checked as far as it can be without the store.
//!
//! Owns what a document may say. Never touches the store; what it refers to is checked there.

use std::collections::BTreeSet;

use domain::id::{CentreId, ChildId, GatewayId, PersonId, ReceiverId, WatchRoomId, ZoneId};
use serde_json::Value;
use uuid::Uuid;

use super::cursor::{At, Wrong};
use super::site::{Card, Door, Point, card, door, point};
use crate::access::{PASSWORD_MAX, PIN_MAX, USERNAME_MAX, check_pin};

/// Longest name of anything, in characters. A longer one is refused.
pub const NAME_MAX: usize = 128;
/// Longest name on the pages of boxes, in characters. A longer one is refused.
const BOX_NAME_MAX: usize = 32;
/// Longest postal address, in characters. A longer one is refused.
const ADDRESS_MAX: usize = 512;

/// The document, version 1.
pub struct Document {
    pub divisions: Vec<Division>,
    pub watch_rooms: Vec<WatchRoom>,
    pub receivers: Vec<Receiver>,
    pub centres: Vec<Centre>,
    pub people: Vec<Person>,
}

pub struct Division {
    pub code: String,
    pub name: String,
}

pub struct WatchRoom {
    pub id: WatchRoomId,
    pub name: String,
}

pub struct Receiver {
    pub path: String,
    pub id: ReceiverId,
    pub name: String,
    pub division: String,
    pub agency: &'static str,
    pub protocol: &'static str,
    /// The protocol's own settings, as JSON.
    pub settings: String,
}

pub struct Centre {
    pub path: String,
    pub id: CentreId,
    pub name: String,
    pub short_name: String,
    pub division: String,
    pub watch_room: WatchRoomId,
    pub address: String,
    pub filing_no: String,
    pub time_zone: String,
    pub fire_needs_verification: bool,
    pub accounts: Vec<Account>,
    pub gateways: Vec<Gateway>,
    pub zones: Vec<Zone>,
    pub doors: Vec<Door>,
    pub points: Vec<Point>,
    pub children: Vec<Child>,
    pub cards: Vec<Card>,
}

pub struct Account {
    pub path: String,
    pub receiver: ReceiverId,
    pub account: String,
}

pub struct Gateway {
    pub path: String,
    pub id: GatewayId,
    pub name: String,
}

pub struct Zone {
    pub id: ZoneId,
    pub name: String,
}

pub struct Child {
    pub path: String,
    pub id: ChildId,
    pub name: String,
    pub short_name: String,
    pub class_group: String,
}

pub struct Person {
    pub path: String,
    pub id: PersonId,
    pub name: String,
    pub username: Option<String>,
    pub password: Option<String>,
    /// What they type and are called on the pages of boxes.
    pub box_name: Option<String>,
    pub box_pin: Option<String>,
    pub grants: Vec<Grant>,
}

pub struct Grant {
    pub path: String,
    pub role: &'static str,
    pub reach: Reach,
}

/// What a grant reaches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    Child(Uuid),
    WatchRoom(Uuid),
    Centre(Uuid),
    Deployment,
}

impl Reach {
    /// As `role_grant.reach` says it.
    pub fn text(self) -> String {
        match self {
            Self::Child(id) | Self::WatchRoom(id) | Self::Centre(id) => id.to_string(),
            Self::Deployment => String::new(),
        }
    }
}

impl Document {
    pub fn read(value: &Value) -> Result<Self, Wrong> {
        let root = At::root(value).fields(&[
            "v",
            "divisions",
            "watch_rooms",
            "receivers",
            "centres",
            "people",
        ])?;
        root.get("v")?.number(1, 1)?;
        let document = Self {
            divisions: root.each("divisions", division)?,
            watch_rooms: root.each("watch_rooms", watch_room)?,
            receivers: root.each("receivers", receiver)?,
            centres: root.each("centres", centre)?,
            people: root.each("people", person)?,
        };
        unique("$.divisions", document.divisions.iter().map(|d| &d.code))?;
        unique("$.watch_rooms", document.watch_rooms.iter().map(|w| w.id))?;
        unique("$.receivers", document.receivers.iter().map(|r| r.id))?;
        unique("$.centres", document.centres.iter().map(|c| c.id))?;
        unique("$.people", document.people.iter().map(|p| p.id))?;
        Ok(document)
    }
}

/// Refuses a list that names one thing twice.
pub fn unique<T: Ord>(list: &str, keys: impl Iterator<Item = T>) -> Result<(), Wrong> {
    let mut seen = BTreeSet::new();
    for (i, key) in keys.enumerate() {
        if !seen.insert(key) {
            return Err(Wrong {
                path: format!("{list}[{i}]"),
                wanted: "stands twice in the list; once is right".to_owned(),
            });
        }
    }
    Ok(())
}

fn division(at: &At<'_>) -> Result<Division, Wrong> {
    let f = at.fields(&["code", "name"])?;
    Ok(Division {
        code: code(&f.get("code")?)?,
        name: f.get("name")?.text(NAME_MAX)?,
    })
}

fn code(at: &At<'_>) -> Result<String, Wrong> {
    let wanted = "must be an administrative code of 2 to 12 digits, as a text";
    let text = at.text(12).map_err(|_| at.wrong(wanted))?;
    let digits = text.len() >= 2 && text.bytes().all(|b| b.is_ascii_digit());
    if digits {
        Ok(text)
    } else {
        Err(at.wrong(wanted))
    }
}

fn watch_room(at: &At<'_>) -> Result<WatchRoom, Wrong> {
    let f = at.fields(&["id", "name"])?;
    Ok(WatchRoom {
        id: WatchRoomId(f.get("id")?.uuid()?),
        name: f.get("name")?.text(NAME_MAX)?,
    })
}

fn receiver(at: &At<'_>) -> Result<Receiver, Wrong> {
    let f = at.fields(&["id", "name", "division", "agency", "protocol", "dc09"])?;
    Ok(Receiver {
        path: at.path.clone(),
        id: ReceiverId(f.get("id")?.uuid()?),
        name: f.get("name")?.text(NAME_MAX)?,
        division: code(&f.get("division")?)?,
        agency: f.get("agency")?.word(&["police", "fire", "monitoring"])?,
        protocol: f.get("protocol")?.word(&["dc09"])?,
        settings: dc09(&f.get("dc09")?)?,
    })
}

fn dc09(at: &At<'_>) -> Result<String, Wrong> {
    let f = at.fields(&[
        "primary",
        "backup",
        "receiver_no",
        "line",
        "poll_s",
        "reply_timeout_ms",
    ])?;
    let settings = serde_json::json!({
        "primary": host_and_port(&f.get("primary")?)?,
        "backup": f.optional("backup", host_and_port)?,
        "receiver_no": f.get("receiver_no")?.hex(1, 6)?,
        "line": f.get("line")?.hex(1, 6)?,
        "poll_s": f.get("poll_s")?.number(1, 3_600)?,
        "reply_timeout_ms": f.get("reply_timeout_ms")?.number(50, 60_000)?,
    });
    Ok(settings.to_string())
}

fn host_and_port(at: &At<'_>) -> Result<String, Wrong> {
    let wanted = "must be HOST:PORT, such as 127.0.0.1:12000";
    let text = at.text(NAME_MAX).map_err(|_| at.wrong(wanted))?;
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let port = port.and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_some_and(|port| port > 0) {
        Ok(text)
    } else {
        Err(at.wrong(wanted))
    }
}

fn centre(at: &At<'_>) -> Result<Centre, Wrong> {
    let f = at.fields(&[
        "id",
        "name",
        "short_name",
        "division",
        "watch_room",
        "address",
        "filing_no",
        "time_zone",
        "fire_needs_verification",
        "accounts",
        "gateways",
        "zones",
        "mqtt_credentials",
        "enrolments",
        "children",
        "credentials",
    ])?;
    let centre = Centre {
        path: at.path.clone(),
        id: CentreId(f.get("id")?.uuid()?),
        name: f.get("name")?.text(NAME_MAX)?,
        short_name: f.get("short_name")?.text(NAME_MAX)?,
        division: code(&f.get("division")?)?,
        watch_room: WatchRoomId(f.get("watch_room")?.uuid()?),
        address: f.get("address")?.text(ADDRESS_MAX)?,
        filing_no: f.get("filing_no")?.text(NAME_MAX)?,
        time_zone: time_zone(&f.get("time_zone")?)?,
        fire_needs_verification: f.get("fire_needs_verification")?.bool()?,
        accounts: f.each("accounts", account)?,
        gateways: f.each("gateways", gateway)?,
        zones: f.each("zones", zone)?,
        doors: f.each("mqtt_credentials", door)?,
        points: f.each("enrolments", point)?,
        children: f.each("children", child)?,
        cards: f.each("credentials", card)?,
    };
    nothing_twice(&centre)?;
    Ok(centre)
}

fn nothing_twice(centre: &Centre) -> Result<(), Wrong> {
    let list = |name: &str| format!("{}.{name}", centre.path);
    unique(
        &list("accounts"),
        centre.accounts.iter().map(|a| a.receiver),
    )?;
    unique(&list("gateways"), centre.gateways.iter().map(|g| g.id))?;
    unique(&list("zones"), centre.zones.iter().map(|z| &z.id))?;
    let doors = centre.doors.iter().map(|d| (d.gateway, &d.username));
    unique(&list("mqtt_credentials"), doors)?;
    let points = centre.points.iter().map(|p| p.enrolment.key());
    unique(&list("enrolments"), points)?;
    unique(&list("children"), centre.children.iter().map(|c| c.id))?;
    unique(&list("credentials"), centre.cards.iter().map(|c| &c.number))
}

fn time_zone(at: &At<'_>) -> Result<String, Wrong> {
    let name = at.text(NAME_MAX)?;
    domain::time::CentreZone::named(&name)
        .map_err(|_| at.wrong("must be an IANA time zone, such as Asia/Shanghai"))?;
    Ok(name)
}

fn account(at: &At<'_>) -> Result<Account, Wrong> {
    let f = at.fields(&["receiver", "account"])?;
    Ok(Account {
        path: at.path.clone(),
        receiver: ReceiverId(f.get("receiver")?.uuid()?),
        account: f.get("account")?.hex(3, 16)?,
    })
}

fn gateway(at: &At<'_>) -> Result<Gateway, Wrong> {
    let f = at.fields(&["id", "name"])?;
    Ok(Gateway {
        path: at.path.clone(),
        id: GatewayId(f.get("id")?.uuid()?),
        name: f.get("name")?.text(NAME_MAX)?,
    })
}

fn zone(at: &At<'_>) -> Result<Zone, Wrong> {
    let f = at.fields(&["id", "name"])?;
    Ok(Zone {
        id: f.get("id")?.slug()?,
        name: f.get("name")?.text(NAME_MAX)?,
    })
}

fn child(at: &At<'_>) -> Result<Child, Wrong> {
    let f = at.fields(&["id", "name", "short_name", "class_group"])?;
    Ok(Child {
        path: at.path.clone(),
        id: ChildId(f.get("id")?.uuid()?),
        name: f.get("name")?.text(NAME_MAX)?,
        short_name: f.get("short_name")?.text(NAME_MAX)?,
        class_group: f.get("class_group")?.text(NAME_MAX)?,
    })
}

fn person(at: &At<'_>) -> Result<Person, Wrong> {
    let f = at.fields(&[
        "id", "name", "username", "password", "box_name", "box_pin", "grants",
    ])?;
    let username = f.optional("username", |at| at.text(USERNAME_MAX / 4))?;
    let password = f.optional("password", |at| at.text(PASSWORD_MAX / 4))?;
    if password.is_some() && username.is_none() {
        return Err(f.get("password")?.wrong("must be null without a username"));
    }
    let box_name = f.optional("box_name", box_name)?;
    let box_pin = f.optional("box_pin", box_pin)?;
    if box_pin.is_some() && box_name.is_none() {
        return Err(f.get("box_pin")?.wrong("must be null without a box_name"));
    }
    // Since what is left out ends, the list itself may not be left out by oversight.
    let grants = f.get("grants")?.list()?;
    let grants = grants.iter().map(grant).collect::<Result<Vec<_>, _>>()?;
    let keys = grants.iter().map(|grant| (grant.role, grant.reach));
    unique(&format!("{}.grants", at.path), keys)?;
    Ok(Person {
        path: at.path.clone(),
        id: PersonId(f.get("id")?.uuid()?),
        name: f.get("name")?.text(NAME_MAX)?,
        username,
        password,
        box_name,
        box_pin,
        grants,
    })
}

fn box_name(at: &At<'_>) -> Result<String, Wrong> {
    let name = at.text(BOX_NAME_MAX)?;
    if name.trim() == name {
        Ok(name)
    } else {
        Err(at.wrong("must not begin or end with a blank"))
    }
}

fn box_pin(at: &At<'_>) -> Result<String, Wrong> {
    let wanted = "must be a text of 6 to 12 digits";
    let pin = at.text(PIN_MAX).map_err(|_| at.wrong(wanted))?;
    check_pin(&pin).map_err(|fault| at.wrong(fault.to_string()))?;
    Ok(pin)
}

fn grant(at: &At<'_>) -> Result<Grant, Wrong> {
    const ROLES: &[&str] = &[
        "guardian",
        "operator",
        "shift_lead",
        "director",
        "carer",
        "installer",
        "admin",
    ];
    let role = at
        .fields(&["role", "child", "watch_room", "centre"])?
        .get("role")?
        .word(ROLES)?;
    let reach = match role {
        "guardian" => Reach::Child(at.fields(&["role", "child"])?.get("child")?.uuid()?),
        "operator" | "shift_lead" => {
            let f = at.fields(&["role", "watch_room"])?;
            Reach::WatchRoom(f.get("watch_room")?.uuid()?)
        }
        "director" | "carer" | "installer" => {
            Reach::Centre(at.fields(&["role", "centre"])?.get("centre")?.uuid()?)
        }
        _ => {
            at.fields(&["role"])?;
            Reach::Deployment
        }
    };
    Ok(Grant {
        path: at.path.clone(),
        role,
        reach,
    })
}
