//! PLACEHOLDER of helper `box`, replaced by helper `site`'s files.
use std::sync::Arc;
use std::time::Duration;

use domain::config::Config;
use domain::event::{Detail, Event, Origin, State};
use domain::id::EventId;
use domain::kind::Kind;
use domain::time::{ClockTrust, Order, Timestamp};

use crate::adapter::Signal;

/// Clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Wall.
    pub wall: Timestamp,
    /// Monotonic.
    pub monotonic: Duration,
    /// Trust.
    pub clock_trust: ClockTrust,
}
/// Durable state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Keyed.
    State {
        /// Key.
        key: String,
        /// JSON.
        body: Option<String>,
    },
    /// Seen.
    Seen {
        /// Key.
        vendor: [u8; 16],
        /// When.
        at: Timestamp,
    },
}
/// Local action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {}
/// What follows.
#[derive(Debug, Default)]
pub struct Decision {
    /// Events.
    pub events: Vec<Event>,
    /// Marks.
    pub marks: Vec<Mark>,
    /// Actions.
    pub actions: Vec<Action>,
}
/// Site.
pub struct Site {
    config: Arc<Config>,
    order: Order,
}
/// Never.
#[derive(Debug, thiserror::Error)]
#[error("no site")]
pub struct SiteFault;
impl Site {
    /// New.
    pub fn new(
        config: Arc<Config>,
        _marks: impl IntoIterator<Item = Mark>,
        _monotonic: Duration,
    ) -> Result<Self, SiteFault> {
        Ok(Self {
            config,
            order: Order::default(),
        })
    }
    /// Deliver.
    pub fn deliver(
        &mut self,
        signal: &Signal<'_>,
        now: &Now,
        chance: &mut dyn FnMut() -> [u8; 10],
    ) -> Decision {
        let kind = if signal.topic.ends_with("button") {
            Kind::AlarmPressed
        } else {
            Kind::DoorOpened
        };
        let event = self.box_event(kind, Detail::None, now, chance);
        Decision {
            events: vec![event],
            ..Decision::default()
        }
    }
    /// Tick.
    pub fn tick(&mut self, _now: &Now, _chance: &mut dyn FnMut() -> [u8; 10]) -> Decision {
        Decision::default()
    }
    /// Deadline.
    pub fn next_deadline(&self) -> Option<Duration> {
        None
    }
    /// Reconfigure.
    pub fn reconfigure(&mut self, config: Arc<Config>, _now: &Now) {
        self.config = config;
    }
    /// Box event.
    pub fn box_event(
        &mut self,
        kind: Kind,
        detail: Detail,
        now: &Now,
        chance: &mut dyn FnMut() -> [u8; 10],
    ) -> Event {
        self.order = self.order.next(now.wall);
        Event {
            id: EventId::at(now.wall, chance()),
            centre: self.config.centre,
            zone: None,
            source: None,
            kind,
            state: State::Raised,
            severity: kind.severity(),
            occurred_at: None,
            received_at: now.wall,
            order: self.order,
            clock_trust: now.clock_trust,
            origin: Origin::Live,
            vendor_id: None,
            same_as: None,
            config_version: self.config.version,
            signal: None,
            detail,
        }
    }
}
