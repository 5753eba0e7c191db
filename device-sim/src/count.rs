//! The accounting: the simulator's own books against what the cloud shows and what the receivers took. Pure.
//!
//! **countable**: a press, a change of a level point, a granted tap. Doors, batteries, refused cards, repeated levels
//! and damaged messages are not: no view of the API shows them one by one.
//! **published**: countable messages handed to MQTT at QoS 1, each id once, however often it was handed over.
//! **puback**: those with a PUBACK. **unacknowledged**: countable messages at QoS 0.
//! **journalled**: those of puback that the cloud shows: a press or alarm in the events of some incident of its centre,
//! found by (centre, device, vendor id); a tap in the events of a child its holder may fetch, found by vendor id.
//! **missing**: puback without journalled.
//! **doubled**, one for each of:
//! - an operator's or guardian's event whose vendor id has already been counted for it, or is in no ledger (or belongs
//!   to another centre, device or child); an event without vendor id at a point that never spoke at QoS 0, or beyond
//!   the number of level changes sent there;
//! - a case of panic or fire without a press or alarm of its own (one that no earlier case has), and any case of
//!   intrusion or a missing child, which this simulator never causes. `technical` cases are the cloud's own;
//! - a second `order` to one receiver in one case;
//! - a message at a receiver, each (receiver, account, number, data) once, that has no activation of its own: one sent
//!   before it at the account's centre, first of the same zone, else of another zone of the same hazard; an activation
//!   justifies one message at each receiver;
//! - a cancel at a receiver beyond the false alarms closed at that account's centre.
//!
//! **contradictions** are no part of the two figures, and as bad: a case whose agency's ledger holds no message for it;
//! the cloud saying "received" more often than the receiver's ledger; a message to the wrong agency; a kind or state
//! other than sent; a tap the parent's open stream never showed.

mod cases;
mod latency;
mod shown;

use crate::books::{Books, Entry};
use crate::clock::Micros;
use crate::dc09::{self, Meaning};
use crate::ledger::{Deed, Received};
use crate::town::{Agency, Centre, Town};
use crate::view::{Incident, PresenceEvent, StoredEvent};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Receivers and devices may be separate processes with clocks of their own: a message this much before its activation
/// is still taken as its effect.
const CLOCK_SLACK_US: i64 = 1_000_000;

/// The same (receiver, account, number, data) within this time is one message, also across ledgers.
const REPEAT_WITHIN_US: i64 = 600_000_000;

/// What the API showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    pub incidents: Vec<Incident>,
    /// Incident id and event.
    pub events: Vec<(String, StoredEvent)>,
    /// Child and event.
    pub family: Vec<(Uuid, PresenceEvent)>,
}

/// Times between two instants, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Latencies {
    pub ms: Vec<f64>,
    /// Those not measured: the path was broken on purpose, or the message went out more than once.
    pub excluded: usize,
}

/// The result.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    pub published: usize,
    pub puback: usize,
    pub unacknowledged: usize,
    pub journalled: usize,
    pub missing: Vec<String>,
    pub doubled: Vec<String>,
    pub contradictions: Vec<String>,
    pub incidents: usize,
    /// Messages the receivers took, each once; polls are none.
    pub dispatches_received: usize,
    pub press_to_receiver: Latencies,
    pub checkin_to_parent: Latencies,
}

impl Tally {
    /// Nothing missing, nothing doubled, nothing contradicted.
    pub fn clean(&self) -> bool {
        self.missing.is_empty() && self.doubled.is_empty() && self.contradictions.is_empty()
    }
}

/// Counts.
pub fn count(town: &Town, books: &Books, observed: &Observed) -> Tally {
    let sheet = Sheet::new(town, books, observed);
    let mut tally = Tally {
        incidents: observed.incidents.len(),
        ..Tally::default()
    };
    sheet.count_messages(&mut tally);
    sheet.check_events(&mut tally);
    sheet.check_family(&mut tally);
    sheet.check_cases(&mut tally);
    sheet.check_receivers(&mut tally);
    sheet.measure(&mut tally);
    tally
}

/// Where a message of a receiver belongs.
struct Taken<'a> {
    message: &'a Received,
    agency: Agency,
    centre: &'a Centre,
    meaning: Meaning,
    zone: Option<u16>,
}

struct Sheet<'a> {
    town: &'a Town,
    books: &'a Books,
    observed: &'a Observed,
    by_id: BTreeMap<&'a str, &'a Entry>,
    /// Messages at receivers, repeats left out, each put to its centre; and those that could not be.
    taken: Vec<Taken<'a>>,
    stray: Vec<&'a Received>,
}

/// A message in words for a finding.
fn words(town: &Town, entry: &Entry) -> String {
    let sent = &entry.sent;
    let centre = town
        .centre(&sent.centre.to_string())
        .map_or("unknown centre", |centre| centre.short_name.as_str());
    format!(
        "{} ({centre}, {}/{}, {}, {:?})",
        sent.id, sent.device, sent.point, sent.kind, sent.deed
    )
}

fn is_alarm(deed: &Deed) -> bool {
    matches!(deed, Deed::Press | Deed::AlarmRaised | Deed::AlarmCleared)
}

fn is_activation(deed: &Deed) -> bool {
    matches!(deed, Deed::Press | Deed::AlarmRaised)
}

fn is_countable(deed: &Deed) -> bool {
    is_alarm(deed) || matches!(deed, Deed::Tap { .. })
}

/// Kinds of stored events that stand for a signal of a device; acts of people and timers have others.
fn is_signal(event: &StoredEvent) -> bool {
    event.kind == "alarm.pressed"
        || (event.kind.starts_with("fire.") && event.kind.ends_with(".alarm"))
}

fn hazard_of(role: &str) -> Option<Meaning> {
    match role {
        "panic_button" => Some(Meaning::Panic),
        "smoke" | "heat" | "gas" | "co" | "manual_call_point" => Some(Meaning::Fire),
        _other => None,
    }
}

impl<'a> Sheet<'a> {
    fn new(town: &'a Town, books: &'a Books, observed: &'a Observed) -> Sheet<'a> {
        let by_id = books
            .entries
            .iter()
            .map(|entry| (entry.sent.id.as_str(), entry))
            .collect();
        let mut sheet = Sheet {
            town,
            books,
            observed,
            by_id,
            taken: Vec::new(),
            stray: Vec::new(),
        };
        let mut last: BTreeMap<(&str, &str, u16, &str), Micros> = BTreeMap::new();
        for message in &books.received {
            let key = (
                message.receiver.as_str(),
                message.account.as_str(),
                message.number,
                message.data.as_str(),
            );
            let before = last.insert(key, message.at);
            if message.repeat
                || before.is_some_and(|before| message.at.0 - before.0 < REPEAT_WITHIN_US)
            {
                continue;
            }
            match place(town, message) {
                Some(taken) => sheet.taken.push(taken),
                None => sheet.stray.push(message),
            }
        }
        sheet
    }

    /// The signals stored in an incident.
    fn events_of(&self, incident: &'a str) -> impl Iterator<Item = &'a StoredEvent> {
        let own = self
            .observed
            .events
            .iter()
            .filter(move |(other, event)| other == incident && is_signal(event));
        own.map(|(_, event)| event)
    }
}

/// Puts a receiver's message to its centre and zone.
fn place<'a>(town: &'a Town, message: &'a Received) -> Option<Taken<'a>> {
    let receiver = town.receiver(&message.receiver)?;
    let centre = town.centre_of_account(receiver.id, &message.account)?;
    let report = dc09::report(&message.data)?;
    let known_zone = report.zone.and_then(|zone| centre.numbered(zone)).is_some();
    let needs_zone = matches!(report.meaning, Meaning::Panic | Meaning::Fire);
    (known_zone || !needs_zone).then_some(Taken {
        message,
        agency: receiver.agency,
        centre,
        meaning: report.meaning,
        zone: report.zone,
    })
}

#[cfg(test)]
mod tests;
