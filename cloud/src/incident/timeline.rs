//! A case's story as people read it: the journal's entries, folded so that a chattering point or a
//! dead line does not push everything else out of sight. The journal keeps every one of them.

use std::time::Duration;

use domain::command::{Act, Unfit};
use domain::id::{CommandId, DispatchId, PersonId, PointKey, ZoneId};
use domain::kind::Kind;
use domain::time::Timestamp;
use serde::Serialize;

use super::journal::{Kept, Said};
use super::{Cause, Confirmation, Entry, Fact, Trouble, Withheld};
use crate::commands;
use crate::dispatch::job::Step;
use crate::dispatch::{Agency, Purpose};

/// Activations of one point within this span are one line with a count (D7).
const ONE_LINE_PER: Duration = Duration::from_secs(10);

/// One line of the story.
#[derive(Clone, PartialEq, Debug)]
pub struct TimelineLine {
    /// Journal number of the (first) entry.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Which sentence, in every language.
    pub text_key: &'static str,
    /// What fills it.
    pub refs: LineRefs,
}

/// What fills a line's sentence. Persons are ids; names are put in by who may show them.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct LineRefs {
    /// The point.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub source: Option<PointKey>,
    /// Its zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneId>,
    /// What happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// How often within the line; attempts for a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Who acted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonId>,
    /// Who agreed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second: Option<PersonId>,
    /// What was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Why it was closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Why it is believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<Confirmation>,
    /// How loud.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<u32>,
    /// The request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dispatch: Option<DispatchId>,
    /// The command to a box.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandId>,
    /// What the command asks: its word on the wire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<&'static str>,
    /// Whether an unanswered command was handed to the box's connection, so that it may have been done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached: Option<bool>,
    /// Why the box did not do it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Unfit>,
    /// Why the alarm was kept from agencies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withheld: Option<Withheld>,
    /// To which agency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agency: Option<Agency>,
    /// What was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Purpose>,
    /// The agency's reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Whom our operator spoke to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spoke_to: Option<String>,
}

/// The story of a case, oldest first, at most `limit` of its newest lines.
#[must_use]
pub fn timeline(entries: &[Kept], limit: usize) -> Vec<TimelineLine> {
    let mut lines: Vec<TimelineLine> = Vec::new();
    for kept in entries {
        let line = line_of(kept);
        if !joins_point(&mut lines, &line) {
            let line = take_attempts(&mut lines, line);
            lines.push(line);
        }
    }
    lines.split_off(lines.len().saturating_sub(limit))
}

/// Counts a further activation into its point's line of the last seconds.
fn joins_point(lines: &mut [TimelineLine], line: &TimelineLine) -> bool {
    let activation = |key| matches!(key, "alarm.raised" | "alarm.repeated");
    if !activation(line.text_key) {
        return false;
    }
    let same = lines.iter_mut().rev().find(|known| {
        activation(known.text_key)
            && known.refs.source == line.refs.source
            && known.refs.kind == line.refs.kind
    });
    match same {
        Some(known) if line.at.since(known.at) < ONE_LINE_PER => {
            known.refs.count = sum(known.refs.count, line.refs.count);
            if line.text_key == "alarm.raised" {
                known.text_key = line.text_key;
            }
            true
        }
        Some(_) | None => false,
    }
}

/// Of many attempts of one request only the newest stand, with their count.
fn take_attempts(lines: &mut Vec<TimelineLine>, mut line: TimelineLine) -> TimelineLine {
    if matches!(line.text_key, "dispatch.sending" | "dispatch.failed") {
        let earlier = lines.iter().position(|known| {
            known.text_key == line.text_key && known.refs.dispatch == line.refs.dispatch
        });
        if let Some(earlier) = earlier {
            line.refs.count = sum(lines.remove(earlier).refs.count, line.refs.count);
        }
    }
    line
}

fn sum(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0)))
}

fn line_of(kept: &Kept) -> TimelineLine {
    let (text_key, refs) = match &kept.said {
        Some(Said::Case(_, entry)) => (entry.kind(), refs_of(entry)),
        Some(Said::Batch(_)) => (super::journal::BATCH, LineRefs::default()),
        Some(Said::Command(turn)) => (turn.kind(), LineRefs::default()),
        None => ("erased", LineRefs::default()),
    };
    TimelineLine {
        seq: kept.seq,
        at: kept.at,
        text_key,
        refs,
    }
}

fn refs_of(entry: &Entry) -> LineRefs {
    let none = LineRefs::default();
    match entry {
        Entry::Raised { fact, .. }
        | Entry::Repeated { fact, .. }
        | Entry::Restored { fact }
        | Entry::Told { fact } => of_fact(fact),
        Entry::Confirmed { how, by } => LineRefs {
            confirmation: Some(*how),
            person: *by,
            ..none
        },
        Entry::Acknowledged { by, .. } => LineRefs {
            person: Some(*by),
            ..none
        },
        Entry::Noted { by, text } => LineRefs {
            person: Some(*by),
            text: Some(text.clone()),
            ..none
        },
        Entry::CloseProposed { by, note, .. } => LineRefs {
            person: Some(*by),
            text: Some(note.clone()),
            ..none
        },
        Entry::Closed {
            by,
            second,
            cause,
            note,
            ..
        } => LineRefs {
            person: Some(*by),
            second: *second,
            cause: Some(*cause),
            text: Some(note.clone()),
            ..none
        },
        Entry::Escalated { level, .. } => LineRefs {
            level: Some(*level),
            ..none
        },
        Entry::Ordered { job } => LineRefs {
            dispatch: Some(job.id),
            agency: Some(job.agency),
            purpose: Some(job.purpose),
            ..none
        },
        Entry::Dispatch { dispatch, step } => LineRefs {
            dispatch: Some(*dispatch),
            ..of_step(step)
        },
        Entry::Troubled { trouble, .. } => match trouble {
            Trouble::NoReceiver { agency } => LineRefs {
                agency: Some(*agency),
                ..none
            },
            Trouble::Refused { dispatch } | Trouble::Exhausted { dispatch } => LineRefs {
                dispatch: Some(*dispatch),
                ..none
            },
        },
        Entry::Asked { command, by, act } => LineRefs {
            person: Some(*by),
            ..of_command(*command, act)
        },
        Entry::Unanswered {
            command,
            act,
            reached,
        } => LineRefs {
            reached: Some(*reached),
            ..of_command(*command, act)
        },
        Entry::Opened { .. } | Entry::ReviewDue { .. } | Entry::TestOver { .. } => none,
    }
}

fn of_fact(fact: &Fact) -> LineRefs {
    LineRefs {
        source: fact.source.clone(),
        zone: fact.zone.clone(),
        kind: Some(fact.kind),
        count: Some(fact.count),
        person: fact.by,
        command: fact.command,
        why: fact.why,
        withheld: fact.withheld,
        ..LineRefs::default()
    }
}

fn of_command(command: CommandId, act: &Act) -> LineRefs {
    LineRefs {
        source: commands::point_of(act).cloned(),
        command: Some(command),
        act: Some(commands::word_of(act)),
        ..LineRefs::default()
    }
}

fn of_step(step: &Step) -> LineRefs {
    let none = LineRefs::default();
    match step {
        Step::Begun { .. } | Step::Failed { .. } => LineRefs {
            count: Some(1),
            ..none
        },
        Step::Accepted {
            by,
            reference,
            spoke_to,
            ..
        } => LineRefs {
            person: Some(*by),
            reference: Some(reference.clone()),
            spoke_to: Some(spoke_to.clone()),
            ..none
        },
        Step::Received { .. }
        | Step::Refused { .. }
        | Step::Exhausted { .. }
        | Step::Cancelled { .. } => none,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use domain::event::State;
    use domain::id::{EventId, IncidentId};
    use domain::kind::Severity;
    use uuid::Uuid;

    fn kept(seq: u64, second: u64, entry: Entry) -> Kept {
        Kept {
            seq,
            at: Timestamp::default().after(Duration::from_secs(second)),
            said: Some(Said::Case(IncidentId(Uuid::from_u128(1)), Box::new(entry))),
        }
    }

    fn fact(device: &str) -> Fact {
        Fact {
            event: EventId(Uuid::from_u128(1)),
            vendor_id: None,
            source: Some(PointKey {
                device: device.parse().unwrap(),
                point: "p".parse().unwrap(),
            }),
            zone: None,
            number: 1,
            kind: Kind::AlarmPressed,
            state: State::Raised,
            severity: Severity::Critical,
            momentary: true,
            received_at: Timestamp::default(),
            occurred_at: Timestamp::default(),
            count: 1,
            withheld: None,
            stamp: None,
            by: None,
            command: None,
            why: None,
            numbers: None,
            record: None,
        }
    }

    fn raised(device: &str) -> Entry {
        Entry::Raised {
            fact: fact(device),
            at: Timestamp::default(),
            escalate_at: Timestamp::default(),
        }
    }

    #[test]
    fn a_chattering_point_is_one_line_in_ten_seconds_and_hides_nobody_else() {
        let repeated = Entry::Repeated {
            fact: fact("a"),
            why: super::super::Repeat::SameActivation,
        };
        let entries = [
            kept(1, 0, repeated),
            kept(2, 1, raised("a")),
            kept(3, 2, raised("b")),
            kept(4, 9, raised("a")),
            kept(5, 10, raised("a")),
        ];
        let lines = timeline(&entries, 50);
        let shown: Vec<_> = (lines.iter())
            .map(|line| (line.seq, line.text_key, line.refs.count))
            .collect();
        let key = "alarm.raised";
        assert_eq!(
            shown,
            [(1, key, Some(3)), (3, key, Some(1)), (5, key, Some(1))]
        );
        assert_eq!(timeline(&entries, 1)[0].seq, 5);
    }

    #[test]
    fn many_attempts_are_one_line_with_their_count() {
        let dispatch = DispatchId(Uuid::from_u128(5));
        let failed = |attempt| Entry::Dispatch {
            dispatch,
            step: Step::Failed {
                attempt,
                how: crate::dispatch::job::Failure::Unanswered,
                not_before: Timestamp::default(),
            },
        };
        let note = Entry::Noted {
            by: PersonId(Uuid::from_u128(9)),
            text: "t".into(),
        };
        let entries = [
            kept(1, 0, failed(1)),
            kept(2, 1, note),
            kept(3, 2, failed(2)),
            kept(4, 3, failed(3)),
        ];
        let lines = timeline(&entries, 50);
        let shown: Vec<_> = lines
            .iter()
            .map(|line| (line.seq, line.refs.count))
            .collect();
        assert_eq!(shown, [(2, None), (4, Some(3))]);
    }
}
