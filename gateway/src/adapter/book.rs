//! The Config in the order in which adapters and `site` ask for it.
//!
//! Owns nothing that changes: a new Config makes a new book. Never reads a payload.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use domain::config::{Config, Credential, Enrolment};
use domain::digest::{CredentialDigest, CredentialKey, Sha256, from_hex_32};
use domain::id::{ChildId, DeviceId, PersonId, PointId, PointKey, SLUG_MAX};

use super::family;

/// The key that hides card numbers is not 64 hex digits; no card could be recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("credential key is not 64 hex digits")]
pub struct BadCredentialKey;

/// A centre's Config, indexed.
pub struct Book {
    config: Arc<Config>,
    key: CredentialKey,
    addresses: BTreeMap<String, Vec<usize>>,
    points: BTreeMap<PointKey, usize>,
    leads: BTreeMap<DeviceId, PointKey>,
    bridges: Vec<Bridge>,
    usernames: BTreeSet<String>,
    credentials: BTreeMap<CredentialDigest, Credential>,
    collectors: BTreeMap<PersonId, Vec<ChildId>>,
}

/// A device that carries others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The family it speaks for.
    pub family: &'static str,
    /// The topic everything behind it starts with.
    pub base: String,
    /// Its own point: enrolled, or named after the base because its loss must be told anyway.
    pub point: PointKey,
    /// The lead points of the devices behind it.
    pub children: Vec<PointKey>,
}

impl Book {
    /// Indexes a Config.
    ///
    /// # Errors
    /// When the key that hides card numbers cannot be read.
    pub fn new(config: Arc<Config>) -> Result<Self, BadCredentialKey> {
        let key = from_hex_32(&config.credential_key).map_err(|_| BadCredentialKey)?;
        let mut addresses: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut points = BTreeMap::new();
        let mut leads = BTreeMap::new();
        for (index, enrolment) in config.enrolments.iter().enumerate() {
            let at = addresses.entry(enrolment.address.clone()).or_default();
            at.push(index);
            points.entry(enrolment.key()).or_insert(index);
            leads
                .entry(enrolment.device.clone())
                .or_insert_with(|| enrolment.key());
        }
        let credentials = config.credentials.iter().map(|c| (c.hidden, *c)).collect();
        let mut collectors: BTreeMap<PersonId, Vec<ChildId>> = BTreeMap::new();
        for collector in &config.collectors {
            let children = collectors.entry(collector.person).or_default();
            children.extend(&collector.children);
            children.sort();
            children.dedup();
        }
        let usernames = config
            .mqtt_credentials
            .iter()
            .map(|c| c.username.to_string())
            .collect();
        Ok(Self {
            key: CredentialKey::new(&key),
            bridges: bridges(&config.enrolments, &leads),
            config,
            addresses,
            points,
            leads,
            usernames,
            credentials,
            collectors,
        })
    }

    /// The Config itself.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The Config itself, for whoever keeps it longer than the book.
    #[must_use]
    pub fn shared(&self) -> Arc<Config> {
        Arc::clone(&self.config)
    }

    /// Everything enrolled at an address of a family.
    pub fn at<'b>(&'b self, family: &'b str, address: &str) -> impl Iterator<Item = &'b Enrolment> {
        self.addresses
            .get(address)
            .into_iter()
            .flatten()
            .filter_map(|index| self.config.enrolments.get(*index))
            .filter(move |enrolment| enrolment.ecosystem == family)
    }

    /// What a point is.
    #[must_use]
    pub fn enrolment(&self, point: &PointKey) -> Option<&Enrolment> {
        self.config.enrolments.get(*self.points.get(point)?)
    }

    /// The point that speaks for a whole device: the first one enrolled.
    #[must_use]
    pub fn lead(&self, device: &DeviceId) -> Option<&PointKey> {
        self.leads.get(device)
    }

    /// All bridges.
    #[must_use]
    pub fn bridges(&self) -> &[Bridge] {
        &self.bridges
    }

    /// The bridge of a family that owns a topic; the longest base wins.
    #[must_use]
    pub fn bridge_of(&self, family: &str, topic: &str) -> Option<&Bridge> {
        self.bridges
            .iter()
            .filter(|bridge| bridge.family == family && below(topic, &bridge.base).is_some())
            .max_by_key(|bridge| bridge.base.len())
    }

    /// The enrolled point at or above a topic whose ecosystem no adapter speaks.
    #[must_use]
    pub fn without_adapter(&self, topic: &str) -> Option<&PointKey> {
        let enrolment = self.config.enrolments.iter().find(|e| {
            family(&e.ecosystem).is_none()
                && (topic == e.address || below(topic, &e.address).is_some())
        })?;
        self.points.get_key_value(&enrolment.key()).map(|(k, _)| k)
    }

    /// Whether this log-in is one of the centre's.
    #[must_use]
    pub fn knows(&self, username: &str) -> bool {
        self.usernames.contains(username)
    }

    /// Hides a card number or code.
    #[must_use]
    pub fn hide(&self, number: &str) -> CredentialDigest {
        self.key.hide(number)
    }

    /// The digest of a payload that could not be redacted. It may hold a short code that a plain
    /// digest would give away to whoever tries them all, so the centre's key goes in.
    #[must_use]
    pub fn digest_unread(&self, payload: &[u8]) -> Sha256 {
        let key = self.config.credential_key.as_bytes();
        Sha256::of(&[b"unread\0", key, b"\0", payload])
    }

    /// Whose a credential is.
    #[must_use]
    pub fn credential(&self, hidden: &CredentialDigest) -> Option<&Credential> {
        self.credentials.get(hidden)
    }

    /// The children an adult may bring and fetch.
    #[must_use]
    pub fn children_of(&self, person: &PersonId) -> &[ChildId] {
        self.collectors.get(person).map_or(&[], Vec::as_slice)
    }
}

/// What follows a base topic, if the topic lies below it.
pub(super) fn below<'t>(topic: &'t str, base: &str) -> Option<&'t str> {
    topic.strip_prefix(base)?.strip_prefix('/')
}

fn bridges(enrolments: &[Enrolment], leads: &BTreeMap<DeviceId, PointKey>) -> Vec<Bridge> {
    let mut found: Vec<Bridge> = Vec::new();
    let is_bridge = |e: &&Enrolment| e.role == domain::config::Role::Bridge;
    let (own, behind): (Vec<_>, Vec<_>) = enrolments.iter().partition(is_bridge);
    for enrolment in own.into_iter().chain(behind) {
        let Some(family) = family(&enrolment.ecosystem) else {
            continue;
        };
        let base = (family.bridge)(enrolment);
        let carrier = found.iter_mut().find(|bridge| {
            bridge.family == family.name
                && (base == Some(bridge.base.as_str())
                    || enrolment.address == bridge.base
                    || below(&enrolment.address, &bridge.base).is_some())
        });
        let lead = leads.get(&enrolment.device).cloned();
        if let Some(bridge) = carrier {
            let point = lead.filter(|point| *point != bridge.point);
            bridge.children.extend(point);
        } else if let Some(base) = base {
            let is_bridge = enrolment.role == domain::config::Role::Bridge;
            let own = is_bridge.then(|| enrolment.key());
            found.extend(own.or_else(|| named_after(base)).map(|point| Bridge {
                family: family.name,
                base: base.to_owned(),
                point,
                children: lead.filter(|_| !is_bridge).into_iter().collect(),
            }));
        }
    }
    for bridge in &mut found {
        bridge.children.sort();
        bridge.children.dedup();
    }
    found
}

/// The point of a bridge nobody enrolled.
fn named_after(base: &str) -> Option<PointKey> {
    let plain: String = base
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(SLUG_MAX)
        .collect();
    Some(PointKey {
        device: DeviceId::try_from(plain).ok()?,
        point: PointId::try_from("bridge".to_owned()).ok()?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::missing_panics_doc, missing_docs)]
pub mod tests {
    use super::*;
    use domain::config::{CONFIG_V, Passage, Policy, Role};
    use domain::id::{CentreId, GatewayId};
    use domain::time::Timestamp;

    /// A Config with these enrolments and nobody in it.
    pub fn config(enrolments: impl IntoIterator<Item = Enrolment>) -> Config {
        Config {
            v: CONFIG_V,
            centre: CentreId::at(Timestamp::default(), [1; 10]),
            gateway: GatewayId::at(Timestamp::default(), [2; 10]),
            version: 7,
            zones: Vec::new(),
            enrolments: enrolments.into_iter().collect(),
            mqtt_credentials: Vec::new(),
            credential_key: "5a".repeat(32),
            credentials: Vec::new(),
            roster: Vec::new(),
            collectors: Vec::new(),
            policy: Policy::default(),
            local_users: Vec::new(),
            place: None,
            made_at: None,
        }
    }

    pub fn book(enrolments: impl IntoIterator<Item = Enrolment>) -> Book {
        Book::new(Arc::new(config(enrolments))).unwrap()
    }

    /// A plain enrolment; point `x`.
    pub fn enrolment(device: &str, ecosystem: &str, address: &str, role: Role) -> Enrolment {
        Enrolment {
            device: device.parse().unwrap(),
            point: "x".parse().unwrap(),
            ecosystem: ecosystem.to_owned(),
            address: address.to_owned(),
            model: None,
            role,
            zone: Some("hall".parse().unwrap()),
            number: 1,
            momentary: role == Role::PanicButton,
            latching: false,
            interval_s: None,
            passage: Passage::None,
            decides: true,
            options: serde_json::Map::new(),
        }
    }

    const Z: &str = "zigbee2mqtt";

    #[test]
    fn a_bridge_nobody_enrolled_still_has_a_name() {
        let book = book([
            enrolment("s", Z, "zigbee2mqtt/nap/smoke", Role::Smoke),
            enrolment("d", Z, "zigbee2mqtt/door", Role::Door),
            enrolment("a", "antuo", "antuo/v1/a/x", Role::Door),
        ]);
        let [bridge] = book.bridges() else {
            unreachable!()
        };
        assert_eq!(bridge.point.to_string(), "zigbee2mqtt/bridge");
        assert_eq!(bridge.children.len(), 2);
        assert!(book.bridge_of(Z, "zigbee2mqtt/x").is_some());
        assert!(book.bridge_of(Z, "zigbee2mqttx/x").is_none());
    }

    #[test]
    fn an_enrolled_bridge_carries_what_lies_below_its_base() {
        let book = book([
            enrolment("s", Z, "floor/2/nap", Role::Smoke),
            enrolment("z", Z, "floor/2", Role::Bridge),
        ]);
        let [bridge] = book.bridges() else {
            unreachable!()
        };
        assert_eq!(
            (bridge.base.as_str(), bridge.point.to_string().as_str()),
            ("floor/2", "z/x")
        );
        assert_eq!(bridge.children.len(), 1);
    }

    #[test]
    fn an_ecosystem_without_adapter_is_found_by_its_address() {
        let book = book([enrolment("e", "tasmota", "nap/smoke", Role::Smoke)]);
        assert!(book.without_adapter("nap/smoke").is_some());
        assert!(book.without_adapter("nap/smoke/state").is_some());
        assert!(book.without_adapter("nap/smokeless").is_none());
    }
}
