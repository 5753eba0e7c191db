//! Commands, test sessions and bypasses as the operator's screen gets them: written by hand, so that nothing
//! slips in, and never saying more than is known.

use std::time::Duration;

use domain::command::{Act, Scope, TestKind, Unfit};
use domain::id::PointKey;
use domain::time::Timestamp;
use serde::Serialize;

use crate::absence::{Absence, What};
use crate::commands::shown::{Boxes, KnownBox, Served};
use crate::commands::{Given, State};
use crate::http::Api;

/// A box not heard for so long, and not connected to this process, is away. Hearing is written every 10 s, and
/// a box is pinged every 15 s.
const AWAY_AFTER: Duration = Duration::from_secs(30);

/// A command as an operator sees it.
#[derive(Serialize)]
pub struct Command {
    id: String,
    gateway: OfBox,
    by: String,
    act: Act,
    state: &'static str,
    /// The same in plain words.
    says: String,
    given_at: Timestamp,
    /// How long ago it was given.
    age_s: u64,
    expires_at: Timestamp,
    sent_at: Option<Timestamp>,
    answered_at: Option<Timestamp>,
    /// Why the box did not do it.
    why: Option<Unfit>,
    /// The event that answered it.
    event: Option<String>,
}

#[derive(Serialize)]
struct OfBox {
    id: String,
    name: String,
    connected: bool,
    last_seen_at: Option<Timestamp>,
}

impl Command {
    /// The view of a command to one of these boxes.
    pub fn of(given: &Given, boxes: &Boxes, api: &Api) -> Self {
        let now = api.clock.now();
        let known = boxes.get(&given.gateway);
        let last_seen_at = known.and_then(|known| known.last_seen_at);
        let heard_lately = last_seen_at.is_some_and(|at| now.since(at) < AWAY_AFTER);
        let connected = api.boxes.is_connected(given.gateway) || heard_lately;
        Self {
            id: given.id.to_string(),
            gateway: OfBox {
                id: given.gateway.to_string(),
                name: known.map(|known| known.name.clone()).unwrap_or_default(),
                connected,
                last_seen_at,
            },
            by: given.by.to_string(),
            act: given.act.clone(),
            state: given.state.as_str(),
            says: says(given, known.filter(|_| !connected), now),
            given_at: given.given_at,
            age_s: now.since(given.given_at).as_secs(),
            expires_at: given.expires_at,
            sent_at: given.sent_at,
            answered_at: given.answered_at,
            why: given.why,
            event: given.fact.map(|fact| fact.to_string()),
        }
    }
}

/// How far a command got, in plain words. `away` is its box, if that is away.
fn says(given: &Given, away: Option<&KnownBox>, now: Timestamp) -> String {
    let left = given.expires_at.since(now).as_secs();
    let since = |known: &KnownBox| {
        known.last_seen_at.map_or_else(
            || "the box was never here".to_owned(),
            |at| format!("the box is away since {at}"),
        )
    };
    match (given.state, away) {
        (State::Given | State::Sent, None) => "told the box, not confirmed".to_owned(),
        (State::Given, Some(known)) => {
            let away = since(known);
            format!("{away}; it will be told if it returns within {left} s")
        }
        (State::Sent, Some(known)) => format!("told the box, not confirmed; {}", since(known)),
        (State::Done, _) => "the box says that it is done".to_owned(),
        (State::Refused, _) => match given.why {
            Some(why) => format!("the box did not do it: {why}"),
            None => "the box did not do it".to_owned(),
        },
        (State::Expired, _) if given.sent_at.is_some() => {
            "the box did not answer in time; it may have done it all the same".to_owned()
        }
        (State::Expired, _) => "the box was not reached in time; nothing was done".to_owned(),
    }
}

/// What is out of full service at a centre, as an operator sees it.
#[derive(Serialize)]
pub struct Service {
    centre: Centre,
    /// Rises with each change.
    version: i64,
    sessions: Vec<Session>,
    bypasses: Vec<Bypassed>,
    /// Those that wait, then the newest.
    commands: Vec<Command>,
}

#[derive(Serialize)]
struct Centre {
    id: String,
    name: String,
}

#[derive(Serialize)]
struct Session {
    #[serde(flatten)]
    common: Common,
    scope: Scope,
    kind: TestKind,
    partner: Option<String>,
}

#[derive(Serialize)]
struct Bypassed {
    #[serde(flatten)]
    common: Common,
    #[serde(flatten)]
    point: PointKey,
    second: Option<String>,
}

#[derive(Serialize)]
struct Common {
    id: String,
    gateway: String,
    by: String,
    reason: String,
    begun_at: Timestamp,
    until_at: Timestamp,
    /// Whether alarms of it are kept from agencies. False when the cloud does not know whoever began it, or
    /// its time is over: its alarms go out.
    in_force: bool,
}

impl Service {
    /// The view of a centre.
    pub fn of(served: Served, boxes: &Boxes, api: &Api) -> Self {
        let now = api.clock.now();
        let (mut sessions, mut bypasses) = (Vec::new(), Vec::new());
        for absence in served.absences {
            match &absence.what {
                What::Test(test) => sessions.push(Session {
                    common: Common::of(&absence, &test.reason, now),
                    scope: test.scope.clone(),
                    kind: test.kind,
                    partner: test.partner.map(|person| person.to_string()),
                }),
                What::Bypass(bypass) => bypasses.push(Bypassed {
                    common: Common::of(&absence, &bypass.reason, now),
                    point: bypass.point.clone(),
                    second: bypass.second.map(|person| person.to_string()),
                }),
            }
        }
        let commands = served.commands.iter();
        Self {
            centre: Centre {
                id: served.centre.to_string(),
                name: served.centre_name,
            },
            version: served.version,
            sessions,
            bypasses,
            commands: commands
                .map(|given| Command::of(given, boxes, api))
                .collect(),
        }
    }
}

impl Common {
    fn of(absence: &Absence, reason: &str, now: Timestamp) -> Self {
        Self {
            id: absence.id.to_string(),
            gateway: absence.gateway.to_string(),
            by: absence.by.to_string(),
            reason: reason.to_owned(),
            begun_at: absence.begun_at,
            until_at: absence.until_at,
            in_force: absence.is_in_force(now),
        }
    }
}
