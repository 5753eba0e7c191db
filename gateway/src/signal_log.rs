//! The live signal log: what devices sent lately, and what the box made of it. In memory only.
//!
//! The intake writes it and waits for nobody: a line is made before the lock is taken, and the lock is held
//! for one push. At a limit lines are counted instead of kept, and never an event: those are the store's.
//! Holds no body that was not redacted first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::event::{Detail, Event, State, Unread};
use domain::id::PointKey;
use domain::kind::{Kind, Lane, Severity};
use domain::time::Timestamp;

use crate::adapter::{self, Book};
use crate::site::{Account, Became, Body, Hidden, Now};

/// Lines kept. Beyond: the oldest goes.
pub const LINES: usize = 500;
/// Lines a second. Beyond: counted as left out, except those of life safety.
pub const LINES_A_SECOND: u32 = 100;
/// Bytes of a body that are kept. Beyond: cut, and the line says so.
pub const BODY_BYTES: usize = 2_048;
/// Events of one message that are named. Beyond: left out of the line.
const EVENTS: usize = 32;

/// One message as it came over MQTT.
#[derive(Clone, Copy, Debug)]
pub struct Came<'m> {
    /// Who published it.
    pub username: &'m str,
    /// Its topic.
    pub topic: &'m str,
    /// Its body, unread.
    pub payload: &'m [u8],
    /// QoS as published.
    pub qos: u8,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Rises by one with every message, kept or not.
    pub serial: u64,
    /// When it was taken in.
    pub at: Timestamp,
    /// Who published it.
    pub username: String,
    /// Its topic.
    pub topic: String,
    /// Bytes of its body.
    pub size: usize,
    /// QoS as published.
    pub qos: u8,
    /// What is shown of its body.
    pub body: Shown,
    /// What became of it.
    pub became: Became,
    /// The enrolled point it is about.
    pub point: Option<PointKey>,
    /// What it meant.
    pub events: Vec<Meant>,
    /// Ecosystem and address to enrol its device under, where nobody did.
    pub enrol: Option<(&'static str, String)>,
}

/// What is shown of a body.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// Text, without its secrets.
    Text {
        /// The text, at most [`BODY_BYTES`].
        text: String,
        /// Something was taken out.
        redacted: bool,
        /// It went on.
        cut: bool,
    },
    /// Only its digest, made with the centre's key.
    Digest {
        /// Hex.
        digest: String,
        /// Why no more.
        why: Hidden,
    },
}

/// An event a message led to.
#[derive(Clone, Debug, PartialEq)]
pub struct Meant {
    /// What.
    pub kind: Kind,
    /// Began or ended.
    pub state: State,
    /// How bad.
    pub severity: Severity,
    /// Which point.
    pub point: Option<PointKey>,
    /// Why it could not be read, if that is what it says.
    pub unread: Option<Unread>,
}

impl Meant {
    fn of(event: &Event) -> Self {
        Self {
            kind: event.kind,
            state: event.state,
            severity: event.severity,
            point: event.source.clone(),
            unread: match &event.detail {
                Detail::Unread { why, .. } => Some(*why),
                Detail::None
                | Detail::Movement { .. }
                | Detail::Pending { .. }
                | Detail::Correction { .. }
                | Detail::Access { .. }
                | Detail::Started { .. }
                | Detail::Config { .. }
                | Detail::Counted { .. }
                | Detail::Act { .. }
                | Detail::TestBegun { .. }
                | Detail::Bypassed { .. }
                | Detail::Ended { .. }
                | Detail::Released { .. }
                | Detail::Unfit { .. }
                | Detail::Silent { .. } => None,
            },
        }
    }
}

/// The log; copies share it.
#[derive(Clone, Debug, Default)]
pub struct SignalLog(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Arc<Line>>,
    serial: u64,
    left_out: u64,
    second: Duration,
    in_second: u32,
}

/// What somebody reads of the log.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Lines, the newest first.
    pub lines: Vec<Arc<Line>>,
    /// The newest serial there is.
    pub serial: u64,
    /// Messages left out since the box began, because they came too fast.
    pub left_out: u64,
}

impl SignalLog {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message down, with the events it led to.
    pub fn note(
        &self,
        came: Came<'_>,
        account: &Account,
        events: &[Event],
        book: &Book,
        now: &Now,
    ) {
        let urgent = events.iter().any(|e| e.kind.lane() == Lane::LifeSafety);
        let Some(serial) = self.kept().admit(urgent, now.monotonic) else {
            return;
        };
        let line = Arc::new(line(serial, came, account, events, book, now));
        let mut kept = self.kept();
        kept.lines.push_back(line);
        if kept.lines.len() > LINES {
            kept.lines.pop_front();
        }
    }

    /// Lines after that serial.
    #[must_use]
    pub fn after(&self, serial: u64) -> Page {
        let kept = self.kept();
        let newer = kept.lines.iter().rev().filter(|line| line.serial > serial);
        Page {
            lines: newer.cloned().collect(),
            serial: kept.serial,
            left_out: kept.left_out,
        }
    }
}

impl Kept {
    /// The next serial; none when the line is left out.
    fn admit(&mut self, urgent: bool, now: Duration) -> Option<u64> {
        self.serial += 1;
        if now.saturating_sub(self.second) >= Duration::from_secs(1) {
            (self.second, self.in_second) = (now, 0);
        }
        self.in_second += 1;
        if self.in_second > LINES_A_SECOND && !urgent {
            self.left_out += 1;
            return None;
        }
        Some(self.serial)
    }
}

fn line(
    serial: u64,
    came: Came<'_>,
    account: &Account,
    events: &[Event],
    book: &Book,
    now: &Now,
) -> Line {
    Line {
        serial,
        at: now.wall,
        username: came.username.to_owned(),
        topic: came.topic.to_owned(),
        size: came.payload.len(),
        qos: came.qos,
        body: shown(&account.body, came.payload, book),
        became: account.became,
        point: account.point.clone(),
        events: events.iter().take(EVENTS).map(Meant::of).collect(),
        enrol: match account.became {
            Became::NotEnrolled | Became::Foreign => suggestion(came),
            Became::Read
            | Became::Retained
            | Became::Repeat
            | Became::NoEvidence
            | Became::NoAdapter => None,
        },
    }
}

fn shown(body: &Body, payload: &[u8], book: &Book) -> Shown {
    match body {
        Body::AsItCame => text(payload, false),
        Body::Redacted(clean) => text(clean, true),
        Body::Hidden(why) => Shown::Digest {
            digest: book.digest_unread(payload).to_string(),
            why: *why,
        },
    }
}

fn text(bytes: &[u8], redacted: bool) -> Shown {
    let cut = bytes.len() > BODY_BYTES;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(BODY_BYTES)]);
    Shown::Text {
        text: text.into_owned(),
        redacted,
        cut,
    }
}

/// Where an installer would enrol what spoke. Of a topic that looks like no family's there is nothing to say.
fn suggestion(came: Came<'_>) -> Option<(&'static str, String)> {
    let ecosystem = adapter::looks_like(came.topic)?;
    let none = serde_json::Map::new();
    let address = adapter::address(ecosystem, came.topic, came.payload, &none)?;
    Some((ecosystem, address.to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::adapter::{Signal, config};
    use crate::site::Site;
    use crate::testing::{box_clock, enrolment};
    use domain::config::Role;

    const PIN: &str = "4711-canary";

    struct Bench {
        site: Site,
        book: Book,
        log: SignalLog,
        now: Now,
    }

    impl Bench {
        fn new() -> Self {
            let config = Arc::new(config([
                enrolment("btn", "antuo/v1/btn/button", Role::PanicButton),
                enrolment("door", "antuo/v1/door/contact", Role::Door),
            ]));
            let now = box_clock().now();
            Self {
                site: Site::new(Arc::clone(&config), [], now.monotonic).unwrap(),
                book: Book::new(config).unwrap(),
                log: SignalLog::default(),
                now,
            }
        }

        fn send(&mut self, topic: &str, payload: &str) -> Arc<Line> {
            let signal = Signal {
                topic,
                payload: payload.as_bytes(),
                retained: false,
                username: "btn",
            };
            let decision = self.site.deliver(&signal, &self.now, &mut || [7; 10]);
            let came = Came {
                username: "btn",
                topic,
                payload: payload.as_bytes(),
                qos: 1,
            };
            let account = decision.account.unwrap();
            self.log
                .note(came, &account, &decision.events, &self.book, &self.now);
            Arc::clone(&self.log.after(0).lines[0])
        }
    }

    #[test]
    fn a_line_says_what_a_message_meant_or_why_nothing_came_of_it() {
        let mut bench = Bench::new();
        let press = r#"{"id":"1","kind":"alarm.pressed","state":"raised"}"#;
        let line = bench.send("antuo/v1/btn/button", press);
        assert_eq!(line.events[0].kind, Kind::AlarmPressed);
        assert!(
            matches!(&line.body, Shown::Text { text, redacted: false, cut: false } if text == press)
        );
        let again = bench.send("antuo/v1/btn/button", press);
        assert_eq!((again.became, again.events.len()), (Became::Repeat, 0));
        let stranger = bench.send("antuo/v1/new/button", press);
        assert_eq!(stranger.became, Became::NotEnrolled);
        let wanted = Some(("antuo", "antuo/v1/new/button".to_owned()));
        assert_eq!(stranger.enrol, wanted);
        let rubbish = bench.send("antuo/v1/btn/button", "{{");
        let why = Hidden::Unreadable(Unread::NotJson);
        assert!(matches!(&rubbish.body, Shown::Digest { why: w, .. } if *w == why));
    }

    #[test]
    fn a_pin_never_stands_in_the_log_whatever_topic_or_shape_it_comes_in() {
        let mut bench = Bench::new();
        for (topic, body) in [
            (
                "antuo/v1/btn/button",
                format!(r#"{{"id":"1","kind":"alarm.pressed","state":"raised","pin":"{PIN}"}}"#),
            ),
            (
                "antuo/v1/btn/button",
                format!(r#"{{"id":"2","kind":"{PIN}","state":"raised"}}"#),
            ),
            (
                "antuo/v1/btn/button",
                format!(r#"{{"id":"3","pin":"{PIN}""#),
            ),
            ("antuo/v1/door/contact", PIN.to_owned()),
            ("antuo/v1/nobody/x", format!(r#"{{"pin":"{PIN}"}}"#)),
            (
                "zigbee2mqtt/keypad",
                format!(r#"{{"action_code":"{PIN}"}}"#),
            ),
            ("somewhere/else", PIN.to_owned()),
        ] {
            let line = bench.send(topic, &body);
            assert!(!format!("{line:?}").contains("canary"), "{topic} {body}");
        }
        assert_eq!(bench.log.after(0).lines.len(), 7, "all were taken down");
    }

    #[test]
    fn the_log_is_bounded_and_says_what_it_left_out_but_never_leaves_out_a_press() {
        let mut bench = Bench::new();
        let flood = u64::from(LINES_A_SECOND) + 50;
        for _ in 0..flood {
            bench.send("somewhere/else", "x");
        }
        let page = bench.log.after(0);
        assert_eq!((page.serial, page.left_out), (flood, 50));
        let press = r#"{"id":"1","kind":"alarm.pressed","state":"raised"}"#;
        let line = bench.send("antuo/v1/btn/button", press);
        assert_eq!(line.serial, flood + 1);
        for _ in 0..LINES {
            bench.now.monotonic += Duration::from_secs(1);
            bench.send("somewhere/else", "x");
        }
        let page = bench.log.after(0);
        assert_eq!(page.lines.len(), LINES);
        assert!(page.lines.iter().all(|line| line.serial > flood + 1));
        assert_eq!(bench.log.after(page.serial - 1).lines.len(), 1);
    }
}
