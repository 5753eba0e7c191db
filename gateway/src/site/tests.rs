//! The site as a whole, against a store in memory.
#![allow(clippy::unwrap_used, clippy::panic)]

mod alarms;
mod asked;
mod hops;
mod movements;
mod properties;
mod silence;

use std::collections::BTreeMap;

use domain::config::{Enrolment, MqttCredential, Role};
use domain::id::{EventId, GatewayId};

use super::*;
use crate::adapter::antuo;
use crate::adapter::zigbee2mqtt;
pub use crate::adapter::{config, enrolment};

/// A site with its store and its clock.
pub struct Rig {
    pub config: Arc<Config>,
    pub site: Site,
    pub now: Now,
    pub actions: Vec<Action>,
    pub tells: Vec<Tell>,
    store: BTreeMap<String, String>,
    seen: Vec<Mark>,
    draws: u64,
}

/// 2026-11-25T00:00:00Z.
pub const MORNING: Timestamp = Timestamp::from_micros(1_795_564_800_000_000);

/// An enrolment in our own schema at `antuo/v1/{device}/x`.
pub fn own(device: &str, role: Role) -> Enrolment {
    enrolment(device, antuo::NAME, &format!("antuo/v1/{device}/x"), role)
}

/// An enrolment behind zigbee2mqtt.
pub fn zigbee(device: &str, role: Role) -> Enrolment {
    enrolment(
        device,
        zigbee2mqtt::NAME,
        &format!("zigbee2mqtt/{device}"),
        role,
    )
}

impl Rig {
    pub fn new(enrolments: impl IntoIterator<Item = Enrolment>) -> Self {
        Self::with(config(enrolments))
    }

    pub fn with(config: Config) -> Self {
        let config = Arc::new(config);
        Self {
            site: Site::new(Arc::clone(&config), [], Duration::ZERO).unwrap(),
            config,
            now: Now {
                wall: MORNING,
                monotonic: Duration::ZERO,
                clock_trust: ClockTrust::Synced { err_ms: 5 },
            },
            actions: Vec::new(),
            tells: Vec::new(),
            store: BTreeMap::new(),
            seen: Vec::new(),
            draws: 0,
        }
    }

    fn keep(&mut self, decision: Decision) -> Vec<Event> {
        for mark in decision.marks {
            match mark {
                Mark::State {
                    key,
                    body: Some(body),
                } => self.store.insert(key, body),
                Mark::State { key, body: None } => self.store.remove(&key),
                Mark::Seen { .. } => {
                    self.seen.push(mark);
                    None
                }
            };
        }
        self.actions = decision.actions;
        self.tells = decision.tells;
        decision.events
    }

    fn step(&mut self, act: impl FnOnce(&mut Site, &Now, Chance<'_>) -> Decision) -> Vec<Event> {
        let mut draws = self.draws;
        let mut chance = || {
            draws += 1;
            let mut bytes = [0; 10];
            bytes[2..].copy_from_slice(&draws.to_be_bytes());
            bytes
        };
        let decision = act(&mut self.site, &self.now, &mut chance);
        self.draws = draws;
        self.keep(decision)
    }

    pub fn send(&mut self, topic: &str, payload: &str) -> Vec<Event> {
        self.deliver(topic, payload.as_bytes(), false, "someone")
    }

    pub fn replay(&mut self, topic: &str, payload: &str) -> Vec<Event> {
        self.deliver(topic, payload.as_bytes(), true, "someone")
    }

    pub fn deliver(
        &mut self,
        topic: &str,
        payload: &[u8],
        retained: bool,
        username: &str,
    ) -> Vec<Event> {
        let signal = Signal {
            topic,
            payload,
            retained,
            username,
        };
        self.step(|site, now, chance| site.deliver(&signal, now, chance))
    }

    /// A press of one of our own buttons.
    pub fn press(&mut self, device: &str, id: &str) -> Vec<Event> {
        self.say(device, id, "alarm.pressed", "raised")
    }

    /// Any statement in our own schema.
    pub fn say(&mut self, device: &str, id: &str, kind: &str, state: &str) -> Vec<Event> {
        let body = format!("{{\"id\":\"{id}\",\"kind\":\"{kind}\",\"state\":\"{state}\"}}");
        self.send(&format!("antuo/v1/{device}/x"), &body)
    }

    /// Lets time pass, doing what falls due on the way.
    pub fn wait(&mut self, span: Duration) -> Vec<Event> {
        let end = self.now.monotonic + span;
        let mut events = Vec::new();
        while let Some(due) = self.site.next_deadline().filter(|due| *due <= end) {
            self.advance(due.saturating_sub(self.now.monotonic));
            let before = self.site.next_deadline();
            events.extend(self.step(Site::tick));
            assert_ne!(
                self.site.next_deadline(),
                before,
                "a tick must do what is due"
            );
        }
        self.advance(end.saturating_sub(self.now.monotonic));
        events
    }

    /// Time passes without a tick.
    pub fn advance(&mut self, span: Duration) {
        self.now.monotonic += span;
        self.now.wall = self.now.wall.after(span);
    }

    /// The process dies and comes back with what was committed.
    pub fn restart(&mut self) {
        let states = self.store.iter().map(|(key, body)| Mark::State {
            key: key.clone(),
            body: Some(body.clone()),
        });
        let marks: Vec<Mark> = states.chain(self.seen.iter().cloned()).collect();
        self.now.monotonic = Duration::from_secs(3);
        self.site = Site::new(Arc::clone(&self.config), marks, self.now.monotonic).unwrap();
    }

    pub fn damage(&mut self) {
        self.store.insert("point/a/b".into(), "{".into());
    }
}

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// How many occurrences an event tells of.
pub fn occurrences(event: &Event) -> u64 {
    if let Detail::Counted { count, .. } = event.detail {
        count
    } else {
        1
    }
}

/// `kind state` of each event.
pub fn words(events: &[Event]) -> Vec<String> {
    let word = |state| match state {
        State::Raised => "raised",
        State::Cleared => "cleared",
    };
    let line = |e: &Event| format!("{} {}", e.kind, word(e.state));
    events.iter().map(line).collect()
}

#[test]
fn time_of_events_only_rises_even_when_the_clock_is_set_back_across_a_restart() {
    let mut rig = Rig::new([own("b", Role::PanicButton)]);
    let first = rig.press("b", "1").remove(0);
    rig.now.wall = MORNING.before(secs(3_600));
    rig.restart();
    let second = rig.press("b", "2").remove(0);
    assert!(second.order > first.order);
    let now = rig.now;
    let fact = rig.site.box_event(
        Kind::ConfigApplied,
        Detail::Config { version: 7 },
        &now,
        &mut || [9; 10],
    );
    assert!(fact.order > second.order);
    assert_eq!((fact.source, fact.config_version), (None, 7));
}

#[test]
fn an_event_carries_what_it_was_read_from() {
    let mut rig = Rig::new([own("b", Role::PanicButton)]);
    let event = rig.press("b", "b-1").remove(0);
    assert_eq!(event.vendor_id.as_deref(), Some("b-1"));
    assert_eq!(event.zone.unwrap().as_str(), "hall");
    assert_eq!(event.centre, rig.config.centre);
    assert_eq!(event.source.unwrap().to_string(), "b/x");
    assert_eq!(
        (event.origin, event.received_at),
        (domain::event::Origin::Live, MORNING)
    );
    assert!(event.signal.is_some());
}

#[test]
fn a_new_config_keeps_what_is_known() {
    let mut rig = Rig::new([zigbee("s", Role::Smoke)]);
    rig.send("zigbee2mqtt/s", "{\"smoke\":true}");
    let mut next = config([zigbee("s", Role::Smoke), own("b", Role::PanicButton)]);
    next.version = 8;
    next.gateway = GatewayId::at(MORNING, [7; 10]);
    let now = rig.now;
    rig.site.reconfigure(Arc::new(next.clone()), &now).unwrap();
    assert_eq!(rig.send("zigbee2mqtt/s", "{\"smoke\":true}"), []);
    assert_eq!(rig.press("b", "1")[0].config_version, 8);
    next.credential_key = "no key".into();
    assert_eq!(
        rig.site.reconfigure(Arc::new(next), &now),
        Err(BadCredentialKey)
    );
    assert_eq!(words(&rig.press("b", "2")), ["alarm.pressed raised"]);
}

#[test]
fn damage_of_the_store_is_told_once_and_never_keeps_the_box_from_starting() {
    let mut rig = Rig::new([own("b", Role::PanicButton)]);
    rig.damage();
    rig.restart();
    assert_eq!(rig.site.next_deadline(), Some(Duration::ZERO));
    assert_eq!(words(&rig.wait(secs(1))), ["gateway.disk raised"]);
    assert_eq!(rig.wait(secs(1)), []);
}

#[test]
fn foreign_topics_are_told_up_to_a_rate_and_counted_beyond_it() {
    let mut config = config([]);
    config.mqtt_credentials.push(MqttCredential {
        username: "z".parse().unwrap(),
        secret_sha256: String::new(),
        publish: vec!["#".into()],
    });
    let mut rig = Rig::with(config);
    assert_eq!(rig.deliver("some/app", b"x", false, "stranger"), []);
    let told: usize = (0..50)
        .map(|_| rig.deliver("some/app", b"x", false, "z").len())
        .sum();
    assert_eq!(told, 20);
    let rest = rig.wait(secs(2));
    assert_eq!(words(&rest), ["ingest.unmapped raised"]);
    assert!(matches!(rest[0].detail, Detail::Counted { count: 30, .. }));
    assert_eq!(rig.deliver("some/app", b"x", false, "z").len(), 1);
}

#[test]
fn an_unenrolled_point_of_our_own_schema_is_named() {
    let mut rig = Rig::new([]);
    let events = rig.press("ghost", "1");
    assert_eq!(words(&events), ["ingest.unmapped raised"]);
    assert_eq!(events[0].source.as_ref().unwrap().to_string(), "ghost/x");
    let rejected = Rig::new([own("b", Role::PanicButton)]).send("antuo/v1/b/x", "{\"id\":");
    assert_eq!(words(&rejected), ["ingest.rejected raised"]);
    let expected = Detail::Unread {
        why: Unread::NotJson,
        size: 6,
    };
    assert_eq!(rejected[0].detail, expected);
}
