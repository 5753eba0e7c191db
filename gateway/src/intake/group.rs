//! One commit's worth of work: decide, commit, settle.

use std::sync::Arc;
use std::time::Duration;

use ambient::Entropy;
use domain::event::Event;
use domain::kind::Kind;
use domain::wire::write_event;
use tokio::sync::mpsc;

use super::{Intake, TAKEN, memory};
use crate::adapter::Signal;
use crate::broker::{Ack, Origin, Planned, Publish, Work};
use crate::clock::Received;
use crate::hub::{Change, Qos};
use crate::site::{Action, Decision, Now};
use crate::store::row::{Entry, Submission};

use super::queue::Turn;

/// Events after which a commit takes no further message. One message may go beyond it.
const EVENTS: usize = 1000;

/// Why a decision cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    /// Ids would not be unique.
    #[error("the system gave no randomness for ids")]
    NoEntropy,
    /// An event has no JSON form.
    #[error("an event cannot be written")]
    Unwritable,
    /// A row of the MQTT server's memory cannot be sealed.
    #[error("a row cannot be sealed")]
    Unsealable,
}

/// Chance for ids, which remembers that it ran dry.
pub(super) struct Chance<'a> {
    entropy: &'a Entropy,
    dry: bool,
}

impl<'a> Chance<'a> {
    pub(super) const fn new(entropy: &'a Entropy) -> Self {
        Self {
            entropy,
            dry: false,
        }
    }

    pub(super) fn draw(&mut self) -> [u8; 10] {
        self.entropy.bytes().unwrap_or_else(|_| {
            self.dry = true;
            [0; 10]
        })
    }

    pub(super) const fn check(&self) -> Result<(), Unusable> {
        if self.dry {
            Err(Unusable::NoEntropy)
        } else {
            Ok(())
        }
    }
}

/// An event on its way into the lane of its kind.
pub(super) fn entry(event: Event, now: &Now, of_the_box: bool) -> Result<Entry, Unusable> {
    Ok(Entry {
        lane: event.kind.lane(),
        received: Received::from(now),
        body: write_event(event).map_err(|_| Unusable::Unwritable)?,
        of_the_box,
    })
}

/// What goes into one commit, and what follows from it.
struct Group {
    submission: Submission,
    /// Of the messages, in order.
    onward: Vec<Planned>,
    acks: Vec<Ack>,
    usable: Result<(), Unusable>,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            submission: Submission::default(),
            onward: Vec::new(),
            acks: Vec::new(),
            usable: Ok(()),
        }
    }
}

impl Intake {
    /// Takes as many messages as one commit may hold through the site and the store. Rows of the MQTT server's
    /// memory that were decided before come first.
    pub(super) async fn take_group(&mut self, work: &mut mpsc::Receiver<Work>) {
        if !self.is_ready().await {
            self.fail_one_turn();
            return;
        }
        let mut group = Group::default();
        for talk in std::mem::take(&mut self.talks) {
            self.remember(talk.changes, &mut group);
            group.acks.push(talk.ack);
        }
        let mut turn = Turn::new();
        while group.submission.entries.len() < EVENTS
            && let Some(publish) = self.queue.pop(&mut turn)
        {
            if group.usable.is_ok() {
                group.usable = self.deliver(&publish, &mut group.submission);
            }
            let mut planned = publish.plan();
            self.remember(std::mem::take(&mut planned.changes), &mut group);
            group.onward.push(planned);
            group.acks.push(publish.ack);
        }
        let committed = match group.usable {
            Ok(()) => self.commit_while_listening(group.submission, work).await,
            Err(error) => {
                tracing::error!(%error, "messages cannot be recorded");
                false
            }
        };
        if committed {
            // Handed on before the acknowledgements, so that who hears of one finds the other done.
            group.onward.into_iter().for_each(Planned::deliver);
        }
        self.settle(group.acks, committed);
    }

    /// Seals rows into the commit.
    fn remember(&self, changes: Vec<Change>, group: &mut Group) {
        for change in changes {
            match memory::seal(change, &self.parts.box_key, &self.parts.entropy) {
                Ok(row) => group.submission.mqtt.push(row),
                Err(_) => group.usable = Err(Unusable::Unsealable),
            }
        }
    }

    fn deliver(&mut self, publish: &Publish, into: &mut Submission) -> Result<(), Unusable> {
        let Some(site) = self.site.as_mut() else {
            return Ok(());
        };
        let signal = Signal {
            topic: &publish.message.topic,
            payload: &publish.message.payload,
            retained: publish.origin == Origin::Kept,
            username: &publish.username,
        };
        let now = self.parts.clock.now();
        let mut chance = Chance::new(&self.parts.entropy);
        let decision = site.deliver(&signal, &now, &mut || chance.draw());
        chance.check()?;
        if publish.message.qos == Qos::AtMostOnce {
            self.note_unacknowledged(&signal, &publish.username, now.monotonic);
        }
        self.add(decision, &now, into)
    }

    /// Nobody sends such a message again should it be lost: whose it is will be shown.
    fn note_unacknowledged(&self, signal: &Signal<'_>, through: &Arc<str>, now: Duration) {
        let Some(site) = &self.site else {
            return;
        };
        let speakers = site.speakers(signal);
        if !speakers.is_empty() {
            self.parts.unacknowledged.send_modify(|list| {
                for enrolment in &speakers {
                    list.note(enrolment, through, now);
                }
            });
        }
    }

    /// Local acts come first: they do not wait for a disk.
    pub(super) fn add(
        &self,
        decision: Decision,
        now: &Now,
        into: &mut Submission,
    ) -> Result<(), Unusable> {
        for action in &decision.actions {
            announce(action);
        }
        for event in decision.events {
            if event.kind == Kind::IngestRejected {
                self.parts.gauges.rejected.add(1);
            }
            if event.kind == Kind::IngestUnmapped {
                self.parts.gauges.unmapped.add(1);
            }
            into.entries.push(entry(event, now, false)?);
        }
        into.marks.extend(decision.marks);
        Ok(())
    }

    /// Commits, and meanwhile goes on emptying the MQTT server's channel, so that a press need not queue
    /// behind what came before it.
    async fn commit_while_listening(
        &mut self,
        submission: Submission,
        work: &mut mpsc::Receiver<Work>,
    ) -> bool {
        if submission.is_empty() {
            return true;
        }
        let store = self.parts.store.clone();
        let commit = store.commit(submission);
        tokio::pin!(commit);
        let mut taken = Vec::with_capacity(TAKEN);
        let mut is_open = true;
        loop {
            tokio::select! {
                outcome = &mut commit => return outcome.is_ok(),
                count = work.recv_many(&mut taken, TAKEN), if is_open && self.queue.has_room() => {
                    is_open = count > 0;
                    self.enqueue(&mut taken);
                }
            }
        }
    }

    fn settle(&mut self, acks: Vec<Ack>, committed: bool) {
        if committed {
            acks.into_iter().for_each(Ack::committed);
            return;
        }
        self.parts.gauges.publishes_failed.add(acks.len() as u64);
        tracing::error!(messages = acks.len(), "not stored, so not acknowledged");
        acks.into_iter().for_each(Ack::failed);
        self.site = None;
    }

    /// Without a site nothing can be promised: the devices keep their messages and come again.
    fn fail_one_turn(&mut self) {
        let mut turn = Turn::new();
        let mut acks: Vec<_> = self.talks.drain(..).map(|talk| talk.ack).collect();
        acks.extend(std::iter::from_fn(|| self.queue.pop(&mut turn)).map(|publish| publish.ack));
        self.settle(acks, false);
    }

    /// What time alone brings: silences, expiries.
    pub(super) async fn tick(&mut self) {
        if let Some(config) = self.unapplied.take() {
            self.configure(config).await;
        }
        if !self.is_ready().await {
            return;
        }
        let Some(site) = self.site.as_mut() else {
            return;
        };
        let now = self.parts.clock.now();
        let mut chance = Chance::new(&self.parts.entropy);
        let decision = site.tick(&now, &mut || chance.draw());
        let mut submission = Submission::default();
        let usable = chance
            .check()
            .and_then(|()| self.add(decision, &now, &mut submission));
        self.commit_or_forget(usable.map(|()| submission)).await;
    }

    /// Commits what nobody waits for. If that fails the site starts again from the store, so the same
    /// thing comes up again.
    pub(super) async fn commit_or_forget(
        &mut self,
        submission: Result<Submission, Unusable>,
    ) -> bool {
        let committed = match submission {
            Ok(submission) if submission.is_empty() => true,
            Ok(submission) => self.parts.store.commit(submission).await.is_ok(),
            Err(error) => {
                tracing::error!(%error, "a fact cannot be recorded");
                false
            }
        };
        if !committed {
            self.site = None;
        }
        committed
    }
}

/// Local acts have no driver yet: they are shown in the log, by ids.
fn announce(action: &Action) {
    match action {
        Action::Siren(ring) => {
            tracing::warn!(point = %ring.point, hazard = %ring.hazard, "siren");
        }
        Action::Lamp(ring) => tracing::warn!(point = %ring.point, hazard = %ring.hazard, "lamp"),
        Action::Release { door, .. } => tracing::warn!(%door, "release"),
    }
}
