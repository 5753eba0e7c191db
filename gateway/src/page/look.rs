//! What the page shows, looked up at most once a second whatever is asked, so that no browser costs the
//! alarm path more than that: what the site knows, and the alarms the cloud has not receipted.
//!
//! Reads only. Whose eyes may see a part is for `view`.

use std::sync::Arc;
use std::time::Duration;

use domain::event::{Event, State};
use domain::id::PointKey;
use domain::kind::{Hazard, Kind, Severity};
use domain::time::{Age, Timestamp};
use domain::wire::{Says, read_body};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::clock::{BoxClock, age};
use crate::forwarding::NOT_FORWARDED_AFTER;
use crate::intake::Ask;
use crate::site::{Now, View, is_silent};
use crate::store::afloat::Afloat;
use crate::store::{ReadError, Reader};
use crate::uplink::Link;

/// How old a look may be before another is taken.
const FRESH: Duration = Duration::from_secs(1);
/// Longest wait for the intake. Beyond: the last answer is shown, with its age.
const PATIENCE: Duration = Duration::from_secs(2);
/// Rows of life safety looked through. Beyond: alarms may be among the rest, and the page says so.
const ROWS: usize = 500;

/// One look.
#[derive(Clone, Debug)]
pub struct Look {
    /// When.
    pub now: Now,
    /// What the site knew, at the latest when it could be asked; none: never yet, or no Config.
    pub view: Option<Arc<View>>,
    /// The monotonic time of that.
    pub viewed: Duration,
    /// What waits.
    pub waiting: Waiting,
}

/// Alarms without a receipt.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    /// Those found, the oldest first.
    pub alarms: Vec<WaitingAlarm>,
    /// There may be others: the store, or a row in it, cannot be read, or there are too many.
    pub doubtful: bool,
}

/// An alarm the cloud has not receipted.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingAlarm {
    /// What.
    pub kind: Kind,
    /// Where.
    pub point: Option<PointKey>,
    /// When it was received.
    pub at: Timestamp,
    /// How long ago, at least.
    pub age: Duration,
    /// Pressed by somebody who must not be seen to have pressed.
    pub silent: bool,
}

/// Takes looks.
pub struct Looks {
    asks: mpsc::Sender<Ask>,
    afloat: watch::Receiver<Afloat>,
    clock: BoxClock,
    inner: Mutex<Inner>,
}

struct Inner {
    reader: Reader,
    last: Option<Look>,
}

impl Looks {
    /// Over an intake, a store, and what is kept in memory while the disk takes nothing.
    #[must_use]
    pub fn new(
        asks: mpsc::Sender<Ask>,
        reader: Reader,
        afloat: watch::Receiver<Afloat>,
        clock: BoxClock,
    ) -> Self {
        Self {
            asks,
            afloat,
            clock,
            inner: Mutex::new(Inner { reader, last: None }),
        }
    }

    /// The newest look, taken now if the last one is older than a second.
    pub async fn look(&self) -> Look {
        let mut inner = self.inner.lock().await;
        let now = self.clock.now();
        if let Some(last) = &inner.last
            && now.monotonic.saturating_sub(last.now.monotonic) < FRESH
        {
            return last.clone();
        }
        let (view, viewed) = match self.ask().await {
            Some(view) => (view.map(Arc::new), now.monotonic),
            None => inner.last.as_ref().map_or((None, now.monotonic), |last| {
                (last.view.clone(), last.viewed)
            }),
        };
        let waiting = match waiting(
            &mut inner.reader,
            &self.afloat,
            &self.clock,
            view.as_deref(),
        )
        .await
        {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::error!(error = %crate::chain(&error), "the store cannot be read");
                Waiting {
                    doubtful: true,
                    ..Waiting::default()
                }
            }
        };
        let look = Look {
            now,
            view,
            viewed,
            waiting,
        };
        inner.last = Some(look.clone());
        look
    }

    /// None when the intake does not answer in time.
    async fn ask(&self) -> Option<Option<View>> {
        let (ask, answer) = oneshot::channel();
        let asked = async {
            self.asks.send(ask).await.ok()?;
            answer.await.ok()
        };
        timeout(PATIENCE, asked).await.ok().flatten()
    }

    /// Lets go of the store.
    pub async fn end(self) {
        self.inner.into_inner().reader.close().await;
    }
}

/// Looks through what the cloud has not receipted, on the disk and in memory.
async fn waiting(
    reader: &mut Reader,
    afloat: &watch::Receiver<Afloat>,
    clock: &BoxClock,
    view: Option<&View>,
) -> Result<Waiting, ReadError> {
    let mut rows = reader.waiting_life_safety(ROWS + 1).await?;
    let here = clock.boot().to_string();
    let floating = afloat.borrow().life_safety(ROWS + 1);
    let floating = floating.into_iter();
    rows.extend(floating.map(|held| (held.received, here.clone(), held.body)));
    let mut found = Waiting {
        alarms: Vec::new(),
        doubtful: rows.len() > ROWS,
    };
    for (received, boot, body) in rows {
        let age = age(received, boot == here, &clock.now());
        let (Age::Known(ms) | Age::AtLeast(ms)) = age;
        let age = Duration::from_millis(ms);
        match read_body(&body).ok().and_then(event_of) {
            Some(event) if is_alarm(&event) => {
                found.alarms.push(waiting_alarm(event, age, view));
            }
            Some(_) => {}
            // It may have been an alarm.
            None => found.doubtful |= age > NOT_FORWARDED_AFTER,
        }
    }
    found
        .alarms
        .sort_by_key(|alarm| std::cmp::Reverse(alarm.age));
    Ok(found)
}

fn event_of(says: Says) -> Option<Event> {
    match says {
        Says::Event(event) => event.into_event().ok(),
        Says::Tombstone(_) => None,
    }
}

fn is_alarm(event: &Event) -> bool {
    let of_people = match event.kind.hazard() {
        Some(Hazard::Panic | Hazard::Fire | Hazard::Intrusion | Hazard::MissingChild) => true,
        Some(Hazard::Technical) | None => event.kind == Kind::AlarmUnreadable,
    };
    of_people && event.state == State::Raised && event.severity != Severity::Test
}

fn waiting_alarm(event: Event, age: Duration, view: Option<&View>) -> WaitingAlarm {
    let is_panic = event.kind.hazard() == Some(Hazard::Panic);
    let enrolment = event
        .source
        .as_ref()
        .and_then(|point| view?.enrolment(point));
    WaitingAlarm {
        kind: event.kind,
        at: event.received_at,
        age,
        // One that nobody enrols any more is shown to fewer rather than more.
        silent: is_panic && enrolment.is_none_or(is_silent),
        point: event.source,
    }
}

/// How the line to the cloud stands, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Records flow.
    pub up: bool,
    /// Since when.
    pub since: Timestamp,
    /// The same on the monotonic clock.
    pub monotonic: Duration,
    /// What went wrong last, in the machine's words.
    pub trouble: Option<String>,
}

impl Line {
    /// Down since now.
    #[must_use]
    pub fn new(clock: &BoxClock) -> Self {
        let now = clock.now();
        Self {
            up: false,
            since: now.wall,
            monotonic: now.monotonic,
            trouble: None,
        }
    }
}

/// Follows the link until it ends.
pub async fn follow(mut link: watch::Receiver<Link>, clock: BoxClock, line: watch::Sender<Line>) {
    loop {
        let (up, trouble) = match &*link.borrow_and_update() {
            Link::Up => (true, None),
            Link::Connecting => (false, None),
            Link::Resting(trouble) => (false, trouble.as_ref().map(ToString::to_string)),
        };
        let now = clock.now();
        line.send_modify(|line| {
            if line.up != up {
                (line.up, line.since, line.monotonic) = (up, now.wall, now.monotonic);
            }
            if up {
                line.trouble = None;
            }
            line.trouble = trouble.or(line.trouble.take());
        });
        if link.changed().await.is_err() {
            return;
        }
    }
}
