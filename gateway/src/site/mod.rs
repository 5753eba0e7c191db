//! The site: what the box knows of its centre, and what each message changes in it.
//!
//! Owns level edges, presses, alarm states, presence, supervision and local acts, as one pure
//! machine: the caller brings the time and the chance, and commits what comes back. Never does I/O.
//! The rules R1 to R12 are mechanisms here, so that no adapter has to know them.

mod account;
mod asked;
mod burst;
mod effect;
mod hop;
mod level;
mod local;
mod point;
mod ring;
mod roll;
mod seen;
mod service;
mod state;
mod step;
#[cfg(test)]
mod tests;
mod timed;
mod view;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use domain::config::Config;
use domain::digest::Sha256;
use domain::event::{Detail, Event, HandedBy, How, State, Unread};
use domain::id::{ChildId, PointKey};
use domain::kind::{Kind, Severity};
use domain::presence::{Movement, Presence};
use domain::supervision::Supervision;
use domain::time::{ClockTrust, Order, Timestamp};

use crate::adapter::{
    self, BadCredentialKey, Book, Heard, Message, Reading, Says, Signal, VendorId, ingest_kind,
};
pub use account::{Account, Became, Body, Hidden};
pub use asked::Asked;
use burst::{Burst, Pace, Quota, Speaker};
pub use burst::{CHATTER_AFTER, CHATTER_WITHIN, COUNTED_EVERY, UNREAD_A_SECOND};
use effect::Effects;
pub use effect::{CONFIRM_WITHIN, Tell, Unforwarded};
pub use hop::HopStands;
pub use level::KEYS_MAX;
pub use local::{Action, Ring};
pub use point::{REPLAY_FOR, TEST_FOR};
pub use roll::{DROP_OFF, ONE_TAP};
use roll::{Finding, Roll, Tap};
use seen::Seen;
pub use seen::{SEEN_MAX, UNIQUE_FOR, WEAK_FOR};
use service::Service;
pub use state::Mark;
use state::Point;
use step::{Draft, Step};
use timed::Timer;
pub use view::{Alarm, Trouble, View, is_silent};

/// Ten bytes of chance for the next event's id.
pub type Chance<'a> = &'a mut dyn FnMut() -> [u8; 10];

/// The time of a step.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Wall time.
    pub wall: Timestamp,
    /// Monotonic time since an arbitrary start of this run. All deadlines run on it (D5).
    pub monotonic: Duration,
    /// How far the wall clock is trusted.
    pub clock_trust: ClockTrust,
}

/// What a step demands of the caller.
#[derive(Debug, Default)]
#[must_use = "events and marks must be committed together"]
pub struct Decision {
    /// To be recorded, in this order.
    pub events: Vec<Event>,
    /// To be stored in the same transaction; of two with one key the later counts.
    pub marks: Vec<Mark>,
    /// What the centre hears and sees, for the log.
    pub actions: Vec<Action>,
    /// To be said to sirens, lamps and doors, at once: it does not wait for a disk.
    pub tells: Vec<Tell>,
    /// What became of the message; none when time alone moved.
    pub account: Option<Account>,
}

/// A centre as its box knows it.
#[derive(Clone)]
pub struct Site {
    book: Arc<Book>,
    node: String,
    points: BTreeMap<PointKey, Point>,
    roll: Roll,
    seen: Seen,
    order: Order,
    damaged: u64,
    watch: Supervision<PointKey>,
    paces: BTreeMap<(PointKey, Kind), Pace>,
    quotas: BTreeMap<Speaker, Quota>,
    /// Bridges that just started and are sending old states as if they were new.
    replays: BTreeMap<PointKey, Duration>,
    /// Conditions that were told as there since a bridge last started: their end is no old state.
    said_since: BTreeSet<(PointKey, Kind)>,
    /// When points were last heard in this run.
    heard_at: BTreeMap<PointKey, Timestamp>,
    timers: BTreeMap<Timer, Duration>,
    service: Service,
    effects: Effects,
    /// An alarm that may be heard waits for the cloud (G7).
    not_forwarded: bool,
}

impl Site {
    /// A site under a Config, as the store's marks left it. Everything supervised counts as heard
    /// now.
    ///
    /// # Errors
    /// When the key that hides card numbers cannot be read.
    pub fn new(
        config: Arc<Config>,
        marks: impl IntoIterator<Item = Mark>,
        monotonic: Duration,
    ) -> Result<Self, BadCredentialKey> {
        let restored = state::restore(marks);
        let mut site = Self {
            node: config.gateway.to_string(),
            book: Arc::new(Book::new(config)?),
            points: restored.points,
            roll: restored.roll,
            seen: restored.seen,
            order: restored.order,
            damaged: restored.damaged,
            watch: Supervision::default(),
            paces: BTreeMap::new(),
            quotas: BTreeMap::new(),
            replays: BTreeMap::new(),
            said_since: BTreeSet::new(),
            heard_at: BTreeMap::new(),
            timers: BTreeMap::new(),
            service: restored.service,
            effects: Effects::new(),
            not_forwarded: false,
        };
        site.supervise(monotonic);
        site.resume_timers(monotonic);
        Ok(site)
    }

    /// Takes a new Config; everything known of points and children stays.
    ///
    /// # Errors
    /// When the key that hides card numbers cannot be read; the old Config then stays.
    pub fn reconfigure(&mut self, config: Arc<Config>, now: &Now) -> Result<(), BadCredentialKey> {
        let node = config.gateway.to_string();
        self.book = Arc::new(Book::new(config)?);
        self.node = node;
        self.effects.begin_anew();
        self.supervise(now.monotonic);
        Ok(())
    }

    /// One message.
    pub fn deliver(&mut self, signal: &Signal<'_>, now: &Now, chance: Chance<'_>) -> Decision {
        let book = Arc::clone(&self.book);
        let mut step = Step::new(&book, now, chance);
        self.tell_damage(&mut step);
        let user = || Speaker::User(signal.username.to_owned());
        let account = match adapter::read(&book, signal) {
            Heard::NoEvidence => Account::unknown(Became::NoEvidence, None),
            Heard::Message(message) => self.take(&mut step, message, signal),
            Heard::Unenrolled { source, through } => {
                if let Some(bridge) = through.filter(|_| !signal.retained) {
                    self.heard(&mut step, &bridge);
                }
                step.from = Some(unread_signal(&book, signal));
                self.unread(&mut step, user(), source.as_ref(), Unread::NotEnrolled);
                Account::unknown(Became::NotEnrolled, None)
            }
            Heard::NoAdapter(point) => {
                step.from = Some(unread_signal(&book, signal));
                let speaker = Speaker::Device(point.device.clone());
                self.unread(&mut step, speaker, Some(&point), Unread::NoAdapter);
                Account::unknown(Became::NoAdapter, Some(point))
            }
            Heard::Foreign if book.knows(signal.username) => {
                step.from = Some(unread_signal(&book, signal));
                self.unread(&mut step, user(), None, Unread::NotEnrolled);
                Account::unknown(Became::NotEnrolled, None)
            }
            Heard::Foreign => Account::unknown(Became::Foreign, None),
        };
        Decision {
            account: Some(account),
            ..self.finish(step)
        }
    }

    /// A fact about the box itself. Its hybrid time is committed with the next decision.
    pub fn box_event(
        &mut self,
        kind: Kind,
        detail: Detail,
        now: &Now,
        chance: Chance<'_>,
    ) -> Event {
        let book = Arc::clone(&self.book);
        let draft = Draft::raised(kind).with(detail);
        Step::new(&book, now, chance)
            .mint(None, draft, &mut self.order)
            .clone()
    }

    /// Who is inside, for a roll call.
    pub fn inside(&self) -> impl Iterator<Item = (ChildId, &Presence)> {
        self.roll.inside()
    }

    fn take(&mut self, step: &mut Step<'_>, message: Message, signal: &Signal<'_>) -> Account {
        let account = Account::of(&message, signal);
        if !signal.retained {
            for point in &message.alive {
                self.heard(step, point);
            }
        }
        let body = message.redacted.as_deref().unwrap_or(signal.payload);
        if let (Some(id), false) = (&message.vendor, signal.retained)
            && let Some(reading) = message.readings.first()
        {
            let body = weak_body(body, &message.readings);
            let name = seen::name(&reading.point.device, id, &body);
            if self.seen.knows(&name, id, step.now.wall) {
                return Account {
                    became: Became::Repeat,
                    ..account
                };
            }
            self.seen.take(name, step.now.wall);
            step.seen = Some((name, step.now.wall));
        }
        step.from = Some(step::From {
            retained: signal.retained,
            vendor_id: message.vendor.as_ref().and_then(|id| match id {
                VendorId::Unique(id) => Some(id.clone()),
                VendorId::Weak(_) => None,
            }),
            occurred_at: message.occurred_at,
            signal: digest(step.book, &message, signal),
            size: size_of_payload(signal),
        });
        let mut readings = message.readings;
        readings.sort_by_key(|reading| turn(&reading.says));
        for reading in readings {
            self.read(step, reading);
        }
        account
    }

    fn read(&mut self, step: &mut Step<'_>, reading: Reading) {
        let Reading { point, says } = reading;
        match says {
            Says::Level { kind, key, active } => {
                self.echo(step, &point, kind, active.is_some());
                self.level(step, &point, kind, &key, active);
            }
            Says::Echo { kind, on } => self.echo(step, &point, kind, on),
            // A moment in a retained copy is past (R3).
            Says::Moment { .. } | Says::Access { .. } if step.is_retained() => {}
            Says::Moment { kind, state } => self.moment(step, &point, kind, state),
            Says::Access {
                kind,
                credential,
                how,
            } => self.access(step, &point, kind, credential, how),
            Says::Unread { why, key: None } => {
                let speaker = Speaker::Device(point.device.clone());
                self.unread(step, speaker, Some(&point), why);
            }
            Says::Unread {
                why,
                key: Some(key),
            } => self.unread_key(step, &point, &key, why),
        }
    }

    /// A credential at a point: always the access event itself, then what it proves (D8).
    fn access(
        &mut self,
        step: &mut Step<'_>,
        point: &PointKey,
        kind: Kind,
        credential: Option<domain::digest::CredentialDigest>,
        how: How,
    ) {
        let book = step.book;
        let passage = book.enrolment(point).map(|e| e.passage).unwrap_or_default();
        let known = credential.and_then(|hidden| book.credential(&hidden));
        let detail = Detail::Access {
            credential,
            holder: known.map(|c| c.holder),
            passage,
        };
        self.emit(step, point, kind, Draft::raised(kind).with(detail.clone()));
        let counts = passage != domain::config::Passage::None && kind != Kind::AccessDenied;
        let (true, Some(credential)) = (counts, credential) else {
            return;
        };
        let dates_count = step.now.clock_trust != ClockTrust::Unset;
        let valid = known.filter(|c| !dates_count || c.valid_at(step.now.wall));
        let Some(holder) = valid.map(|c| c.holder) else {
            let kind = Kind::PresenceUnassigned;
            self.emit(step, point, kind, Draft::raised(kind).with(detail));
            return;
        };
        let charges = match holder {
            domain::event::Holder::Guardian(person) | domain::event::Holder::Pickup(person) => {
                book.children_of(&person)
            }
            domain::event::Holder::Child(_)
            | domain::event::Holder::Staff(_)
            | domain::event::Holder::Visitor(_) => &[],
        };
        let finding = self.roll.judge(&Tap {
            credential,
            holder,
            passage,
            charges,
            at: step.now.wall,
            monotonic: step.now.monotonic,
        });
        let (kind, detail) = match finding {
            Finding::Nothing => return,
            Finding::Moved { child, inside, by } => moved(child, inside, by, how),
            Finding::Pending(candidates) => (
                Kind::PresencePending,
                Detail::Pending {
                    candidates,
                    holder,
                    passage,
                },
            ),
        };
        self.emit(step, point, kind, Draft::raised(kind).with(detail));
        let movement = step.events.last().and_then(|e| Movement::of(e, &self.node));
        if let Some(movement) = movement {
            self.roll.fold(&movement);
            step.children.insert(movement.child);
        }
    }

    /// Input nobody can read, told within the speaker's quota, counted beyond it.
    fn unread(
        &mut self,
        step: &mut Step<'_>,
        speaker: Speaker,
        source: Option<&PointKey>,
        why: Unread,
    ) {
        let kind = ingest_kind(why);
        let monotonic = step.now.monotonic;
        let quota = self
            .quotas
            .entry(speaker.clone())
            .or_insert_with(|| Quota::new(monotonic));
        if quota.admits(monotonic) {
            let size = step.from.as_ref().map_or(0, |from| from.size);
            let draft = Draft::raised(kind).with(Detail::Unread { why, size });
            step.mint(source, draft, &mut self.order);
            return;
        }
        let known = quota.held.as_ref().map(|(_, burst)| *burst);
        let burst = Burst::add(known, kind, State::Raised, kind.severity(), step.now.wall);
        quota.held = Some((source.cloned(), burst));
        self.timers
            .entry(Timer::Quota(speaker))
            .or_insert(monotonic + COUNTED_EVERY);
    }

    /// Marks that could not be read: told once, as damage of the disk.
    fn tell_damage(&mut self, step: &mut Step<'_>) {
        let count = std::mem::take(&mut self.damaged);
        if count > 0 {
            let at = step.now.wall;
            let draft = Draft::raised(Kind::GatewayDisk).with(Detail::Counted {
                count,
                first_at: at,
                last_at: at,
            });
            step.mint(None, draft, &mut self.order);
        }
    }

    fn finish(&mut self, mut step: Step<'_>) -> Decision {
        self.show(&mut step);
        let mut marks = Vec::new();
        for (id, absence) in self.service.take_touched() {
            marks.push(state::of_absence(id, absence));
        }
        if !step.events.is_empty() {
            marks.push(state::of_order(self.order));
        }
        for key in &step.points {
            if let Some(point) = self.points.get(key) {
                marks.push(state::of_point(key, point));
            }
        }
        for child in step.children {
            if let Some(presence) = self.roll.presence(&child) {
                marks.push(state::of_child(child, presence));
            }
        }
        if let Some((vendor, at)) = step.seen {
            marks.push(Mark::Seen { vendor, at });
        }
        Decision {
            events: step.events,
            marks,
            actions: step.actions,
            tells: step.tells,
            account: None,
        }
    }
}

/// The turn of a statement within its message, which is one snapshot: a test before what it excuses,
/// and what is there before what is gone, lest two keys of one condition end it and begin it anew.
fn turn(says: &Says) -> u8 {
    match says {
        Says::Level {
            kind: Kind::AlarmTest,
            ..
        } => 0,
        Says::Level {
            active: Some(_), ..
        } => 1,
        Says::Level { active: None, .. } => 2,
        Says::Moment { .. } | Says::Access { .. } | Says::Echo { .. } | Says::Unread { .. } => 1,
    }
}

fn moved(child: ChildId, inside: bool, by: HandedBy, how: How) -> (Kind, Detail) {
    let kind = if inside {
        Kind::PresenceCheckedIn
    } else {
        Kind::PresenceCheckedOut
    };
    (kind, Detail::Movement { child, by, how })
}

/// The digest of what was read, without its secrets; none when nothing was said.
fn digest(book: &Book, message: &Message, signal: &Signal<'_>) -> Option<Sha256> {
    let unreadable = |reading: &Reading| matches!(reading.says, Says::Unread { key: None, .. });
    if message.readings.is_empty() {
        None
    } else if let Some(redacted) = &message.redacted {
        Some(Sha256::of(&[redacted]))
    } else if message.readings.iter().any(unreadable) {
        Some(book.digest_unread(signal.payload))
    } else {
        Some(Sha256::of(&[signal.payload]))
    }
}

fn size_of_payload(signal: &Signal<'_>) -> u64 {
    u64::try_from(signal.payload.len()).unwrap_or(u64::MAX)
}

fn unread_signal(book: &Book, signal: &Signal<'_>) -> step::From {
    step::From {
        retained: signal.retained,
        vendor_id: None,
        occurred_at: None,
        signal: Some(book.digest_unread(signal.payload)),
        size: size_of_payload(signal),
    }
}

/// The body a weak id is compared with: what was redacted out of it, as digests.
fn weak_body<'b>(body: &'b [u8], readings: &[Reading]) -> Cow<'b, [u8]> {
    let mut whole = Cow::Borrowed(body);
    for reading in readings {
        if let Says::Access {
            credential: Some(hidden),
            ..
        } = reading.says
        {
            whole.to_mut().extend_from_slice(&hidden.0);
        }
    }
    whole
}

/// The severity of every end (legend).
const INFO: Severity = Severity::Info;
