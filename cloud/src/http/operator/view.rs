//! A case as the operator's screen gets it (contract C): written by hand, so that nothing slips in.

use domain::event;
use domain::id::PersonId;
use domain::time::Timestamp;
use serde::Serialize;

use crate::commands::{Given, point_of, word_of};
use crate::dispatch::job::{Job, State as JobState};
use crate::incident::shown::{CaseRecord, Shown, UnreadableCase};
use crate::incident::timeline::{LineRefs, TimelineLine};
use crate::incident::{Handling, Line, Withheld};

/// A case as an operator sees it.
#[derive(Serialize)]
pub struct Incident {
    id: String,
    centre: Centre,
    hazard: String,
    priority: i64,
    state: String,
    /// What is stored of it is damaged: only the fields above and the version are known, and nothing
    /// is done about it by machine.
    unreadable: bool,
    /// Rises with each change.
    pub version: u64,
    opened_at: i64,
    acknowledged_by: Option<Acknowledged>,
    closed: Option<Closed>,
    confirmation: Option<&'static str>,
    alarms: Vec<Alarm>,
    dispatches: Vec<Dispatch>,
    timeline: Vec<Moment>,
    linked_to: Option<String>,
}

#[derive(Serialize)]
struct Centre {
    id: String,
    name: String,
}

#[derive(Serialize)]
struct Acknowledged {
    person: String,
    at: i64,
}

#[derive(Serialize)]
struct Closed {
    by: String,
    second: Option<String>,
    at: i64,
    cause: &'static str,
    /// None once erased.
    note: Option<String>,
}

#[derive(Serialize)]
struct Alarm {
    device: Option<String>,
    point: Option<String>,
    zone: Option<String>,
    kind: &'static str,
    first_at: i64,
    last_at: i64,
    activations: u64,
    state: &'static str,
    acknowledged: bool,
    /// Why it may not call an agency by itself; `session` and `bypassed` carry the test mark.
    withheld: Option<&'static str>,
    /// What a person did at the point since its last activation, as the box says.
    looked: Option<Looked>,
    /// The newest command about the point since the case opened.
    command: Option<Command>,
}

#[derive(Serialize)]
struct Looked {
    person: String,
    at: i64,
    what: &'static str,
}

#[derive(Serialize)]
struct Command {
    id: String,
    act: &'static str,
    by: String,
    state: &'static str,
    given_at: i64,
    expires_at: i64,
    answered_at: Option<i64>,
    why: Option<String>,
}

#[derive(Serialize)]
struct Dispatch {
    id: String,
    receiver: Receiver,
    purpose: &'static str,
    state: &'static str,
    attempts: u32,
    received_at: Option<i64>,
    possible_repeat: bool,
}

#[derive(Serialize)]
struct Receiver {
    id: String,
    name: String,
    agency: &'static str,
}

#[derive(Serialize)]
struct Moment {
    seq: u64,
    at: i64,
    text_key: &'static str,
    refs: LineRefs,
}

impl Incident {
    /// The view of a case.
    pub fn of(shown: Shown) -> Self {
        match shown {
            Shown::Case(record) => Self::of_record(*record),
            Shown::Unreadable(case) => Self::of_unreadable(case),
        }
    }

    fn of_unreadable(case: UnreadableCase) -> Self {
        Self {
            id: case.id.to_string(),
            centre: Centre {
                id: case.centre.to_string(),
                name: case.centre_name,
            },
            hazard: case.hazard,
            priority: case.priority,
            state: case.state,
            unreadable: true,
            version: u64::try_from(case.version).unwrap_or(0),
            opened_at: case.opened_at.micros(),
            acknowledged_by: None,
            closed: None,
            confirmation: None,
            alarms: Vec::new(),
            dispatches: Vec::new(),
            timeline: Vec::new(),
            linked_to: None,
        }
    }

    fn of_record(record: CaseRecord) -> Self {
        let case = record.case;
        let name_of = |job: &Job| record.receiver_names.get(&job.receiver).cloned();
        let dispatches = case.jobs.iter().map(|job| Dispatch::of(job, name_of(job)));
        let (acknowledged_by, closed) = handling(&case.handling, record.closing_note);
        Self {
            dispatches: dispatches.collect(),
            id: case.id.to_string(),
            centre: Centre {
                id: case.centre.to_string(),
                name: record.centre_name,
            },
            hazard: case.hazard.as_str().to_owned(),
            priority: case.priority.0.into(),
            state: case.handling.as_str().to_owned(),
            unreadable: false,
            version: case.version,
            opened_at: case.opened_at.micros(),
            acknowledged_by,
            closed,
            confirmation: case.confirmation.map(|how| how.as_str()),
            alarms: (case.lines.iter())
                .map(|line| Alarm::of(line, &record.commands))
                .collect(),
            timeline: record.timeline.into_iter().map(Moment::of).collect(),
            linked_to: case.linked_to.map(|id| id.to_string()),
        }
    }
}

fn handling(handling: &Handling, note: Option<String>) -> (Option<Acknowledged>, Option<Closed>) {
    match handling {
        Handling::Open { .. } => (None, None),
        Handling::Acknowledged { by, at, .. } => {
            let acknowledged = Acknowledged {
                person: by.to_string(),
                at: at.micros(),
            };
            (Some(acknowledged), None)
        }
        Handling::Closed {
            by,
            second,
            at,
            cause,
        } => {
            let closed = Closed {
                by: by.to_string(),
                second: second.as_ref().map(PersonId::to_string),
                at: at.micros(),
                cause: cause.as_str(),
                note,
            };
            (None, Some(closed))
        }
    }
}

impl Alarm {
    fn of(line: &Line, commands: &[Given]) -> Self {
        let source = line.source.as_ref();
        let about = |given: &&Given| source.is_some() && point_of(&given.act) == source;
        Self {
            device: source.map(|key| key.device.to_string()),
            point: source.map(|key| key.point.to_string()),
            zone: line.zone.as_ref().map(ToString::to_string),
            kind: line.kind.as_str(),
            first_at: line.first_at.micros(),
            last_at: line.last_at.micros(),
            activations: line.activations,
            state: match line.state {
                event::State::Raised if !line.momentary => "active",
                event::State::Raised | event::State::Cleared => "restored",
            },
            acknowledged: line.acknowledged,
            withheld: line.withheld.map(Withheld::as_str),
            looked: line.looked.map(|looked| Looked {
                person: looked.by.to_string(),
                at: looked.at.micros(),
                what: if looked.reset {
                    "reset"
                } else {
                    "acknowledged"
                },
            }),
            command: commands.iter().find(about).map(Command::of),
        }
    }
}

impl Command {
    fn of(given: &Given) -> Self {
        Self {
            id: given.id.to_string(),
            act: word_of(&given.act),
            by: given.by.to_string(),
            state: given.state.as_str(),
            given_at: given.given_at.micros(),
            expires_at: given.expires_at.micros(),
            answered_at: given.answered_at.map(Timestamp::micros),
            why: given.why.map(|why| why.to_string()),
        }
    }
}

impl Dispatch {
    fn of(job: &Job, receiver: Option<String>) -> Self {
        let received_at = match &job.state {
            JobState::Received { at, .. } => Some(at.micros()),
            JobState::Queued { .. }
            | JobState::Sending { .. }
            | JobState::Unanswered { .. }
            | JobState::Accepted { .. }
            | JobState::Refused { .. }
            | JobState::Exhausted { .. }
            | JobState::Cancelled { .. } => None,
        };
        Self {
            id: job.id.to_string(),
            receiver: Receiver {
                id: job.receiver.to_string(),
                name: receiver.unwrap_or_default(),
                agency: job.agency.as_str(),
            },
            purpose: job.purpose.as_str(),
            state: job.state.as_str(),
            attempts: job.attempts,
            received_at,
            possible_repeat: job.reached && job.attempts > 1,
        }
    }
}

impl Moment {
    fn of(line: TimelineLine) -> Self {
        Self {
            seq: line.seq,
            at: line.at.micros(),
            text_key: line.text_key,
            refs: line.refs,
        }
    }
}
