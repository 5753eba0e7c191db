//! The signal log, for installers and directors. Silent panic points are left out for installers.

use domain::config::Config;
use domain::event::{State, Unread};
use domain::id::PointKey;
use domain::kind::{Kind, Severity};
use serde::Serialize;

use super::{CARERS, Millis};
use crate::page::session::Who;
use crate::signal_log::{Line as Signal, Page as Signals, Shown as Body};
use crate::site::{Hidden, is_silent};

/// The signal log, the newest first.
#[derive(Debug, Serialize)]
pub struct Log {
    serial: u64,
    left_out: u64,
    lines: Vec<LogLine>,
}

#[derive(Debug, Serialize)]
struct LogLine {
    serial: u64,
    at: Millis,
    username: String,
    topic: String,
    size: usize,
    qos: u8,
    text: Option<String>,
    redacted: bool,
    cut: bool,
    digest: Option<String>,
    hidden: Option<&'static str>,
    unread: Option<Unread>,
    became: &'static str,
    point: Option<String>,
    events: Vec<EventShown>,
    enrol: Option<Enrol>,
}

#[derive(Debug, Serialize)]
struct EventShown {
    kind: Kind,
    state: State,
    severity: Severity,
    point: Option<String>,
    unread: Option<Unread>,
}

#[derive(Debug, Serialize)]
struct Enrol {
    ecosystem: &'static str,
    address: String,
}

/// The signal log for a person, of what holds the text in topic, log-in name or point.
#[must_use]
pub fn log(who: &Who, signals: Signals, find: &str, config: Option<&Config>) -> Log {
    let sees_silent = who.is_any(CARERS);
    let find = find.to_lowercase();
    let holds = |line: &Signal| {
        let point = line.point.as_ref().map(ToString::to_string);
        let texts = [Some(&line.topic), Some(&line.username), point.as_ref()];
        let mut texts = texts.into_iter().flatten();
        find.is_empty() || texts.any(|text| text.to_lowercase().contains(&find))
    };
    let may_see = |line: &Signal| sees_silent || !is_of_silent_point(line, config);
    Log {
        serial: signals.serial,
        left_out: signals.left_out,
        lines: signals
            .lines
            .iter()
            .filter(|line| holds(line) && may_see(line))
            .map(|line| log_line(line))
            .collect(),
    }
}

/// Whether a line is about a point that must call for help unseen.
fn is_of_silent_point(line: &Signal, config: Option<&Config>) -> bool {
    let silent = |point: &PointKey| {
        let mut all = config.iter().flat_map(|config| &config.enrolments);
        all.any(|e| e.device == point.device && is_silent(e))
    };
    let mut points = line.events.iter().map(|event| &event.point);
    line.point.as_ref().is_some_and(silent)
        || points.any(|point| point.as_ref().is_some_and(silent))
}

fn log_line(line: &Signal) -> LogLine {
    let (text, redacted, cut, digest, hidden) = match &line.body {
        Body::Text {
            text,
            redacted,
            cut,
        } => (Some(text.clone()), *redacted, *cut, None, None),
        Body::Digest { digest, why } => (None, false, false, Some(digest.clone()), Some(*why)),
    };
    LogLine {
        serial: line.serial,
        at: line.at.into(),
        username: line.username.clone(),
        topic: line.topic.clone(),
        size: line.size,
        qos: line.qos,
        text,
        redacted,
        cut,
        digest,
        hidden: hidden.map(|why| match why {
            Hidden::Unknown => "unknown",
            Hidden::Unreadable(_) => "unreadable",
            Hidden::Secret => "secret",
        }),
        unread: hidden.and_then(|why| match why {
            Hidden::Unreadable(why) => Some(why),
            Hidden::Unknown | Hidden::Secret => None,
        }),
        became: line.became.as_str(),
        point: line.point.as_ref().map(ToString::to_string),
        events: line
            .events
            .iter()
            .map(|event| EventShown {
                kind: event.kind,
                state: event.state,
                severity: event.severity,
                point: event.point.as_ref().map(ToString::to_string),
                unread: event.unread,
            })
            .collect(),
        enrol: line.enrol.as_ref().map(|(ecosystem, address)| Enrol {
            ecosystem,
            address: address.clone(),
        }),
    }
}
