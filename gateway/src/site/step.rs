//! One step of the site: the events it makes, the state it touches, the acts it demands.
//!
//! Owns the making of events: id, hybrid time, zone, Config version. Decides nothing.

use std::collections::BTreeSet;

use domain::command::Stamp;
use domain::digest::Sha256;
use domain::event::{Detail, Event, Origin, State};
use domain::id::{ChildId, EventId, PointKey};
use domain::kind::{Kind, Severity};
use domain::time::{Order, Timestamp};

use super::effect::Tell;
use super::local::Action;
use super::seen::Name;
use super::{Chance, Now};
use crate::adapter::Book;

/// What an event says, before it has a name and a time.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub kind: Kind,
    pub state: State,
    pub severity: Severity,
    pub detail: Detail,
    pub same_as: Option<EventId>,
    pub stamp: Option<Stamp>,
}

impl Draft {
    /// A raising with the kind's own severity.
    pub fn raised(kind: Kind) -> Self {
        Self {
            kind,
            state: State::Raised,
            severity: kind.severity(),
            detail: Detail::None,
            same_as: None,
            stamp: None,
        }
    }

    pub fn with(self, detail: Detail) -> Self {
        Self { detail, ..self }
    }
}

/// A step in the making.
pub(super) struct Step<'a> {
    pub book: &'a Book,
    pub now: &'a Now,
    chance: Chance<'a>,
    /// The message behind the step; none when time alone moves.
    pub from: Option<From>,
    pub events: Vec<Event>,
    pub actions: Vec<Action>,
    pub tells: Vec<Tell>,
    pub points: BTreeSet<PointKey>,
    pub children: BTreeSet<ChildId>,
    pub seen: Option<(Name, Timestamp)>,
}

/// The message behind a step.
pub(super) struct From {
    pub retained: bool,
    pub vendor_id: Option<String>,
    pub occurred_at: Option<Timestamp>,
    pub signal: Option<Sha256>,
    pub size: u64,
}

impl<'a> Step<'a> {
    pub fn new(book: &'a Book, now: &'a Now, chance: Chance<'a>) -> Self {
        Self {
            book,
            now,
            chance,
            from: None,
            events: Vec::new(),
            actions: Vec::new(),
            tells: Vec::new(),
            points: BTreeSet::new(),
            children: BTreeSet::new(),
            seen: None,
        }
    }

    /// A fresh id for something that is told to a device.
    pub fn name(&mut self) -> String {
        EventId::at(self.now.wall, (self.chance)()).to_string()
    }

    /// Whether the message is a broker's retained copy.
    pub fn is_retained(&self) -> bool {
        self.from.as_ref().is_some_and(|from| from.retained)
    }

    /// Makes an event; `order` moves on.
    pub fn mint(&mut self, source: Option<&PointKey>, draft: Draft, order: &mut Order) -> &Event {
        *order = order.next(self.now.wall);
        let from = self.from.as_ref();
        let config = self.book.config();
        let event = Event {
            id: EventId::at(self.now.wall, (self.chance)()),
            centre: config.centre,
            zone: source
                .and_then(|point| self.book.enrolment(point))
                .and_then(|enrolment| enrolment.zone.clone()),
            source: source.cloned(),
            kind: draft.kind,
            state: draft.state,
            severity: draft.severity,
            occurred_at: from.and_then(|from| from.occurred_at),
            received_at: self.now.wall,
            order: *order,
            clock_trust: self.now.clock_trust,
            origin: match from {
                Some(from) if from.retained => Origin::Retained,
                Some(_) | None => Origin::Live,
            },
            vendor_id: from.and_then(|from| from.vendor_id.clone()),
            same_as: draft.same_as,
            stamp: draft.stamp,
            config_version: config.version,
            signal: from.and_then(|from| from.signal),
            detail: draft.detail,
        };
        self.events.push(event);
        &self.events[self.events.len() - 1]
    }
}
