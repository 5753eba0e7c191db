//! SIA DC-09 towards a police, fire or monitoring-centre receiver: plain SIA-DCS over TCP.
//!
//! Owns the translation of an order into a frame and the paths to the receiver's two addresses. A
//! receiver's acknowledgement means that bytes arrived, never that anybody comes; DC-09 has no way to
//! say more.

pub mod code;
#[cfg(test)]
pub mod double;
pub mod envelope;
pub mod frame;
pub mod link;
pub mod message;
pub mod reply;

use std::time::Duration;

use ambient::{Clock, Entropy};
use domain::time::Timestamp;
use futures_util::future::BoxFuture;
use serde::Deserialize;

use self::code::{Say, code};
use self::envelope::{Account, Prefix, Stamp};
use self::frame::{Content, Event, Extended, Frame, Place};
use self::link::{Link, Path};
use self::message::Message;
use super::{
    Claimed, Connector, Described, NotSent, Order, Outcome, Paths, SettingsError, Target, Targets,
};
use crate::dispatch::Purpose;

/// The area every point of a centre is reported in; a receiver tells points apart by their zone.
const AREA: u16 = 1;

/// Settings of a receiver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    primary: String,
    backup: Option<String>,
    receiver: Prefix,
    line: Prefix,
    poll_every: Duration,
    reply_within: Duration,
}

/// The JSON of [`Settings`] as an import file carries it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSettings {
    primary: String,
    backup: Option<String>,
    receiver_no: String,
    line: String,
    poll_s: u64,
    reply_timeout_ms: u64,
}

impl Settings {
    /// Reads `{"primary":"host:port","backup":null,"receiver_no":"1","line":"0","poll_s":20,
    /// "reply_timeout_ms":3000}`.
    ///
    /// # Errors
    /// Names the field and what it asks for.
    pub fn parse(json: &str) -> Result<Self, SettingsError> {
        let raw: RawSettings = serde_json::from_str(json)?;
        let wrong = |field, wanted| SettingsError::Value { field, wanted };
        Ok(Self {
            primary: address("primary", raw.primary)?,
            backup: raw.backup.map(|text| address("backup", text)).transpose()?,
            receiver: (raw.receiver_no.parse())
                .map_err(|_| wrong("receiver_no", "1 to 6 hex digits"))?,
            line: (raw.line.parse()).map_err(|_| wrong("line", "1 to 6 hex digits"))?,
            poll_every: within(raw.poll_s, 1..=3_600, Duration::from_secs)
                .ok_or(wrong("poll_s", "1 to 3600"))?,
            reply_within: within(raw.reply_timeout_ms, 50..=60_000, Duration::from_millis)
                .ok_or(wrong("reply_timeout_ms", "50 to 60000"))?,
        })
    }
}

fn within(
    value: u64,
    bounds: std::ops::RangeInclusive<u64>,
    span: fn(u64) -> Duration,
) -> Option<Duration> {
    bounds.contains(&value).then(|| span(value))
}

fn address(field: &'static str, text: String) -> Result<String, SettingsError> {
    let fits = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if fits {
        Ok(text)
    } else {
        Err(SettingsError::Value {
            field,
            wanted: "host:port",
        })
    }
}

/// The way to one DC-09 receiver.
pub struct Dc09 {
    receiver: Prefix,
    line: Prefix,
    longest_send: Duration,
    primary: Link,
    backup: Option<Link>,
}

impl Dc09 {
    /// Starts to keep the paths to both addresses open and supervised.
    ///
    /// # Errors
    /// When the settings or the account cannot be used.
    pub fn open(
        described: &Described,
        clock: &Clock,
        entropy: &Entropy,
    ) -> Result<Self, SettingsError> {
        let settings = Settings::parse(&described.settings)?;
        let account: Account = described
            .account
            .parse()
            .map_err(|_| SettingsError::Value {
                field: "account",
                wanted: "3 to 16 hex digits",
            })?;
        let poll = Message::poll(&settings.receiver, &settings.line, &account).ok_or(
            SettingsError::Value {
                field: "account",
                wanted: "short enough for a poll",
            },
        )?;
        let path = |target: Target, address: &str| Path {
            receiver: described.receiver,
            target,
            address: address.to_owned(),
            poll: poll.clone(),
            poll_every: settings.poll_every,
            reply_within: settings.reply_within,
        };
        let start = |path: Path| Link::open(path, clock.clone(), entropy.clone());
        Ok(Self {
            longest_send: link::longest_send(settings.reply_within),
            primary: start(path(Target::Primary, &settings.primary)),
            backup: (settings.backup.as_deref())
                .map(|address| start(path(Target::Backup, address))),
            receiver: settings.receiver,
            line: settings.line,
        })
    }

    /// The path to an address, if it is worth trying: a path known to be silent is left to its own
    /// polls while the other one is up, so that no order waits for a dead address.
    fn worth_trying(&self, target: Target) -> Option<&Link> {
        let (wanted, other) = match (target, &self.backup) {
            (Target::Backup, Some(backup)) => (backup, Some(&self.primary)),
            (Target::Primary, Some(backup)) => (&self.primary, Some(backup)),
            (Target::Primary | Target::Backup, None) => (&self.primary, None),
        };
        let hopeless = wanted.state().is_silent() && other.is_some_and(|link| link.state().is_up());
        (!hopeless).then_some(wanted)
    }
}

/// What an order says. None when DC-09 has no words for it or the account is none.
fn event(order: &Order) -> Option<(Account, Event)> {
    let say = match order.purpose {
        // A receiver knows no "more of the same": another point is another alarm of its account.
        Purpose::Order | Purpose::Update => Say::Alarm,
        Purpose::Cancel => Say::Cancel,
    };
    let account: Account = order.account.parse().ok()?;
    let event = Event {
        object: account.clone(),
        code: code(order.kind, say)?,
        place: Some(Place {
            area: AREA,
            zone: order.point_number,
        }),
        extended: vec![Extended::occurred(Stamp::at(order.occurred_at))],
    };
    Some((account, event))
}

impl Connector for Dc09 {
    fn frame(&self, order: &Order, number: u16, at: Timestamp) -> Vec<u8> {
        event(order)
            .and_then(|(account, event)| {
                let frame = Frame {
                    number,
                    receiver: self.receiver.clone(),
                    line: self.line.clone(),
                    account,
                    content: Content::Event(event),
                    time: Some(Stamp::at(at)),
                };
                frame.encode().ok()
            })
            .unwrap_or_default()
    }

    fn send<'a>(&'a self, claimed: &'a Claimed) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let not_sent = |why| Outcome::NotSent { why };
            let Some(message) = Message::committed(&claimed.frame) else {
                return not_sent(NotSent::Unsendable);
            };
            match self.worth_trying(claimed.target) {
                Some(link) => link.send(message).await,
                None => not_sent(NotSent::NoConnection),
            }
        })
    }

    fn longest_send(&self) -> Duration {
        self.longest_send
    }

    fn targets(&self) -> Targets {
        match self.backup {
            Some(_) => Targets::WithBackup,
            None => Targets::PrimaryOnly,
        }
    }

    fn paths(&self) -> Paths {
        Paths {
            primary: self.primary.state(),
            backup: self.backup.as_ref().map(Link::state),
        }
    }
}

#[cfg(test)]
mod tests;
