//! `decode`: shows an installer what the box would make of given messages.
//!
//! One case a line of JSON in, one line out. It runs the very adapters and the very site that the
//! box runs, with a store in memory. Owns the reading of a case: steps into messages, time as one
//! message every 1.5 s; what was enrolled is `context`'s. Knows no vendor.

mod context;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::config::{CONFIG_V, Config, Enrolment, Policy};
use domain::event::State;
use domain::id::{CentreId, GatewayId, NotASlug};
use domain::kind::{Kind, Severity};
use domain::time::{ClockTrust, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::adapter::{BadCredentialKey, Signal};
use crate::site::{Decision, Mark, Now, Site};

/// Time between two steps of a case.
const STEP: Duration = Duration::from_millis(1_500);
/// The box's clock at the first step, unless the context says otherwise: 2026-01-01T00:00:00Z.
const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// Why a case cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum DecodeFault {
    /// Not the JSON of a case.
    #[error("not a case: {0}")]
    NotACase(#[from] serde_json::Error),
    /// Not text.
    #[error("not UTF-8")]
    NotUtf8(#[from] std::str::Utf8Error),
    /// A payload is not Base64.
    #[error("payload_b64 of step {0} is not Base64")]
    NotBase64(usize),
    /// A name in the context cannot be one of ours.
    #[error("context: {0}")]
    Name(#[from] NotASlug),
    /// Never with the key used here.
    #[error(transparent)]
    Key(#[from] BadCredentialKey),
}

#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    id: Value,
    ecosystem: Option<String>,
    context: Option<Map<String, Value>>,
    steps: Option<Vec<Delivery>>,
}

#[derive(Deserialize)]
struct Delivery {
    topic: Option<String>,
    payload: Option<Value>,
    payload_b64: Option<String>,
    retain: Option<bool>,
    gateway: Option<String>,
}

#[derive(Serialize)]
struct Decoded {
    id: Value,
    events: Vec<Told>,
}

/// One event as `decode` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Told {
    /// The step that made it, from 1.
    pub after_step: usize,
    /// What happened.
    pub kind: Kind,
    /// Began or ended.
    pub state: State,
    /// How bad.
    pub severity: Severity,
}

/// Runs one case given as it was read; the line to print.
///
/// # Errors
/// When the line is no case.
pub fn decode_bytes(line: &[u8]) -> Result<String, DecodeFault> {
    decode(std::str::from_utf8(line)?.trim_start_matches('\u{feff}'))
}

/// Runs one case; the line to print.
///
/// # Errors
/// When the line is no case.
pub fn decode(line: &str) -> Result<String, DecodeFault> {
    let case: Case = serde_json::from_str(line)?;
    let id = case.id.clone();
    let events = run(&case)?;
    Ok(serde_json::to_string(&Decoded { id, events })?)
}

fn run(case: &Case) -> Result<Vec<Told>, DecodeFault> {
    let empty = Map::new();
    let context = case.context.as_ref().unwrap_or(&empty);
    let steps = case.steps.as_deref().unwrap_or_default();
    let payloads = payloads(steps)?;
    let topics: Vec<(&str, &[u8])> = steps
        .iter()
        .zip(&payloads)
        .filter_map(|(step, payload)| Some((step.topic.as_deref()?, payload.as_slice())))
        .collect();
    let enrolments = context::enrolments(case.ecosystem.as_deref(), context, &topics)?;
    let config = Arc::new(config(enrolments));
    let mut now = Now {
        wall: context.get("now").and_then(instant).unwrap_or(START),
        monotonic: Duration::ZERO,
        clock_trust: ClockTrust::Synced { err_ms: 0 },
    };
    let keeps = context.get("persisted_levels") != Some(&Value::Bool(false));
    let mut store = Store::default();
    let mut site = Site::new(Arc::clone(&config), [], now.monotonic)?;
    let mut chance = counter();
    let mut told = Vec::new();
    for (index, (step, payload)) in steps.iter().zip(&payloads).enumerate() {
        now.wall = now.wall.after(STEP);
        now.monotonic += STEP;
        if step.gateway.as_deref() == Some("restart") {
            let marks = if keeps { store.marks() } else { Vec::new() };
            site = Site::new(Arc::clone(&config), marks, now.monotonic)?;
        }
        let mut keep = |decision: Decision, after_step: usize| {
            store.commit(decision.marks);
            let said = decision.events.into_iter().filter(|e| !is_act(e.kind));
            told.extend(said.map(|event| Told {
                after_step,
                kind: event.kind,
                state: event.state,
                severity: event.severity,
            }));
        };
        if site.next_deadline().is_some_and(|due| due <= now.monotonic) {
            keep(site.tick(&now, &mut chance), index);
        }
        let signal = Signal {
            topic: step.topic.as_deref().unwrap_or_default(),
            payload,
            retained: step.retain.unwrap_or(false),
            username: "",
        };
        keep(site.deliver(&signal, &now, &mut chance), index + 1);
    }
    Ok(told)
}

/// Whether an event tells what the box did about a message rather than what the message means.
const fn is_act(kind: Kind) -> bool {
    matches!(kind, Kind::DoorReleased | Kind::ActUnconfirmed)
}

/// What a disk would hold.
#[derive(Default)]
struct Store {
    states: BTreeMap<String, Mark>,
    seen: Vec<Mark>,
}

impl Store {
    fn commit(&mut self, marks: Vec<Mark>) {
        for mark in marks {
            match &mark {
                Mark::State { key, body: Some(_) } => {
                    self.states.insert(key.clone(), mark.clone());
                }
                Mark::State { key, body: None } => {
                    self.states.remove(key);
                }
                Mark::Seen { .. } => self.seen.push(mark),
            }
        }
    }

    fn marks(&self) -> Vec<Mark> {
        self.states.values().chain(&self.seen).cloned().collect()
    }
}

fn payloads(steps: &[Delivery]) -> Result<Vec<Vec<u8>>, DecodeFault> {
    let bytes = |(index, step): (usize, &Delivery)| match (&step.payload_b64, &step.payload) {
        (Some(coded), _) => STANDARD
            .decode(coded)
            .map_err(|_| DecodeFault::NotBase64(index + 1)),
        (None, Some(Value::String(text))) => Ok(text.clone().into_bytes()),
        (None, Some(Value::Null) | None) => Ok(Vec::new()),
        (None, Some(document)) => Ok(document.to_string().into_bytes()),
    };
    steps.iter().enumerate().map(bytes).collect()
}

/// Ids that need not be secret, only different.
fn counter() -> impl FnMut() -> [u8; 10] {
    let mut count = 0_u64;
    move || {
        count += 1;
        let mut chance = [0; 10];
        chance[2..].copy_from_slice(&count.to_be_bytes());
        chance
    }
}

/// RFC 3339, or a number of seconds or milliseconds.
fn instant(value: &Value) -> Option<Timestamp> {
    const FIRST_MILLIS: i64 = 100_000_000_000;
    let micros = match value {
        Value::String(text) => text.parse::<jiff::Timestamp>().ok()?.as_microsecond(),
        Value::Number(number) => match number.as_i64()? {
            seconds if seconds < FIRST_MILLIS => seconds.checked_mul(1_000_000)?,
            millis => millis.checked_mul(1_000)?,
        },
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    Some(Timestamp::from_micros(micros))
}

fn config(enrolments: Vec<Enrolment>) -> Config {
    Config {
        v: CONFIG_V,
        centre: CentreId(Uuid::nil()),
        gateway: GatewayId(Uuid::nil()),
        version: 1,
        zones: Vec::new(),
        enrolments,
        mqtt_credentials: Vec::new(),
        credential_key: "00".repeat(32),
        credentials: Vec::new(),
        roster: Vec::new(),
        collectors: Vec::new(),
        policy: Policy::default(),
        local_users: Vec::new(),
        place: None,
        made_at: None,
    }
}

#[cfg(test)]
mod tests;
