//! One stream of rows to one viewer: first everything, then whole rows as they change.
//!
//! Each row is read, under the viewer's right, at the moment it is sent; what is queued is only where
//! to look. Wakes may be lost: the feed compares with the table every [`LOOK_AGAIN`]. It never sends
//! a row older than one it sent.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use domain::time::Timestamp;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{Interval, MissedTickBehavior, interval};
use uuid::Uuid;

use crate::db::DbError;
use crate::stop::Stop;
use crate::wake::{Wake, Wakes};

/// How often a feed compares what it sent with the table, in case a wake was lost or a right ended.
pub const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What rows of one kind are called on a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Words {
    /// The field of their list in `reset`.
    pub list: &'static str,
    /// The event of one row.
    pub row: &'static str,
}

/// A row as a viewer sees it.
pub struct Item {
    /// What it is called.
    pub words: Words,
    /// Which.
    pub id: Uuid,
    /// Rises with each change.
    pub version: i64,
    /// What must differ for the row to be sent again.
    pub mark: String,
    /// The row, as JSON.
    pub json: String,
    /// Whether the list holds it; a row that left the list is sent once more and then forgotten.
    pub listed: bool,
    /// When the newest signal in it reached the box.
    pub signal_at: Option<Timestamp>,
}

/// What a look at one row found.
pub enum Look {
    /// The viewer's right is over.
    Over,
    /// No such row within the viewer's reach.
    Gone,
    /// The row.
    Row(Item),
}

/// What a feed shows. Every function looks the viewer's right up anew.
pub trait Shown: Send + Sync + 'static {
    /// Every listed row; none when the viewer's right is over.
    fn all(&self) -> impl Future<Output = Result<Option<Vec<Item>>, DbError>> + Send;
    /// Name and mark of every listed row; none when the viewer's right is over.
    fn marks(&self) -> impl Future<Output = Result<Option<Vec<(Uuid, String)>>, DbError>> + Send;
    /// One row.
    fn one(&self, id: Uuid) -> impl Future<Output = Result<Look, DbError>> + Send;
    /// The row a wake points at, if the feed may show it.
    fn concerns(&self, wake: &Wake) -> Option<Uuid>;
}

/// What to send.
#[derive(Debug, PartialEq, Eq)]
pub enum Update {
    /// Everything, in place of what was sent before.
    Reset(Vec<Told>),
    /// One row.
    Row {
        /// The row.
        told: Told,
        /// When its newest signal reached the box, if that was not sent before.
        fresh_signal: Option<Timestamp>,
    },
}

/// A row on its way to a viewer.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// What it is called.
    pub words: Words,
    /// As JSON.
    pub json: String,
}

/// One viewer's feed.
pub struct Feed<S> {
    shown: S,
    wakes: broadcast::Receiver<Wake>,
    look_again: Interval,
    stop: Stop,
    reset: bool,
    due: BTreeSet<Uuid>,
    sent: BTreeMap<Uuid, Sent>,
}

struct Sent {
    version: i64,
    mark: String,
    signal_at: Option<Timestamp>,
}

impl<S: Shown> Feed<S> {
    /// A feed from now on, which looks again by itself that often.
    pub fn new(shown: S, wakes: &Wakes, stop: Stop, look_again: Duration) -> Self {
        let mut look_again = interval(look_again);
        look_again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look_again.reset();
        Self {
            shown,
            // Before the first look at the table, or a change in between is missed.
            wakes: wakes.subscribe(),
            look_again,
            stop,
            reset: true,
            due: BTreeSet::new(),
            sent: BTreeMap::new(),
        }
    }

    /// The next thing to send; none when the viewer's right or the process ends.
    ///
    /// # Errors
    /// When the store fails; the viewer then connects again.
    pub async fn next(&mut self) -> Result<Option<Update>, DbError> {
        loop {
            self.take_waiting_wakes();
            if self.reset {
                return self.everything().await;
            }
            if let Some(id) = self.due.pop_first() {
                match self.shown.one(id).await? {
                    Look::Over => return Ok(None),
                    Look::Gone => self.reset |= self.sent.remove(&id).is_some(),
                    Look::Row(item) => {
                        if let Some(update) = self.send(item) {
                            return Ok(Some(update));
                        }
                    }
                }
                continue;
            }
            tokio::select! {
                wake = self.wakes.recv() => self.take(wake),
                _ = self.look_again.tick() => {
                    if !self.compare().await? {
                        return Ok(None);
                    }
                }
                () = self.stop.told() => return Ok(None),
            }
        }
    }

    /// One look for many wakes of one row.
    fn take_waiting_wakes(&mut self) {
        loop {
            match self.wakes.try_recv() {
                Ok(wake) => self.take(Ok(wake)),
                Err(TryRecvError::Lagged(missed)) => self.take(Err(RecvError::Lagged(missed))),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn take(&mut self, wake: Result<Wake, RecvError>) {
        match wake {
            Ok(wake) => self.due.extend(self.shown.concerns(&wake)),
            Err(RecvError::Lagged(_)) => self.reset = true,
            Err(RecvError::Closed) => {}
        }
    }

    async fn everything(&mut self) -> Result<Option<Update>, DbError> {
        let Some(items) = self.shown.all().await? else {
            return Ok(None);
        };
        self.reset = false;
        self.due.clear();
        self.sent.clear();
        let mut rows = Vec::with_capacity(items.len());
        for item in items {
            let sent = Sent {
                version: item.version,
                mark: item.mark,
                signal_at: item.signal_at,
            };
            self.sent.insert(item.id, sent);
            rows.push(Told {
                words: item.words,
                json: item.json,
            });
        }
        Ok(Some(Update::Reset(rows)))
    }

    fn send(&mut self, item: Item) -> Option<Update> {
        let known = self.sent.get(&item.id);
        if known.is_some_and(|known| known.version > item.version || known.mark == item.mark) {
            return None;
        }
        let newest_sent = known.and_then(|known| known.signal_at);
        let fresh_signal = item
            .signal_at
            .filter(|at| item.listed && Some(*at) > newest_sent);
        if item.listed {
            let sent = Sent {
                version: item.version,
                mark: item.mark,
                signal_at: item.signal_at,
            };
            self.sent.insert(item.id, sent);
        } else {
            self.sent.remove(&item.id);
        }
        Some(Update::Row {
            told: Told {
                words: item.words,
                json: item.json,
            },
            fresh_signal,
        })
    }

    /// Notes every row that differs from what was sent. False when the viewer's right is over.
    async fn compare(&mut self) -> Result<bool, DbError> {
        let Some(marks) = self.shown.marks().await? else {
            return Ok(false);
        };
        let mut unlisted = self.sent.keys().copied().collect::<BTreeSet<_>>();
        for (id, mark) in marks {
            unlisted.remove(&id);
            if self.sent.get(&id).is_none_or(|sent| sent.mark != mark) {
                self.due.insert(id);
            }
        }
        self.due.extend(unlisted);
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
