//! One commit's worth of work: decide, commit, settle.

use std::time::Duration;

use ambient::Entropy;
use domain::event::Event;
use domain::kind::Kind;
use domain::wire::write_event;
use tokio::sync::mpsc;

use super::{Intake, TAKEN, memory};
use crate::adapter::Signal;
use crate::broker::{Ack, Origin, Planned, Publish, Talk, Work};
use crate::clock::Received;
use crate::hub::{Change, Message, Properties, Qos};
use crate::signal_log::Came;
use crate::site::{Action, Asked, Decision, Now, Site, Tell};
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
    talks: Vec<Talk>,
    publishes: Vec<Publish>,
    usable: Result<(), Unusable>,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            submission: Submission::default(),
            onward: Vec::new(),
            talks: Vec::new(),
            publishes: Vec::new(),
            usable: Ok(()),
        }
    }
}

impl Group {
    fn acks(self) -> impl Iterator<Item = Ack> {
        let talks = self.talks.into_iter().map(|talk| talk.ack);
        talks.chain(self.publishes.into_iter().map(|publish| publish.ack))
    }
}

/// What a message means to a site.
pub(super) fn decide(
    site: &mut Site,
    publish: &Publish,
    now: &Now,
    entropy: &Entropy,
) -> Result<Decision, Unusable> {
    let mut chance = Chance::new(entropy);
    let decision = site.deliver(&signal_of(publish), now, &mut || chance.draw());
    chance.check().map(|()| decision)
}

fn signal_of(publish: &Publish) -> Signal<'_> {
    Signal {
        topic: &publish.message.topic,
        payload: &publish.message.payload,
        retained: publish.origin == Origin::Kept,
        username: &publish.username,
    }
}

impl Intake {
    /// Takes as many messages as one commit may hold through the site and the store. Rows of the MQTT server's
    /// memory that were decided before come first.
    pub(super) async fn take_group(&mut self, work: &mut mpsc::Receiver<Work>) {
        if self.diskless.is_none() && !self.is_ready().await && !self.leave_the_disk().await {
            self.fail_one_turn();
            return;
        }
        if self.diskless.is_some() {
            self.float_turn();
            return;
        }
        let mut group = Group::default();
        for talk in std::mem::take(&mut self.talks) {
            self.remember(talk.changes.clone(), &mut group);
            group.talks.push(talk);
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
            group.publishes.push(*publish);
        }
        if let Err(error) = group.usable {
            tracing::error!(%error, "messages cannot be recorded");
            self.fail(group.acks());
            return;
        }
        let submission = std::mem::take(&mut group.submission);
        if self.commit_while_listening(submission, work).await {
            // Handed on before the acknowledgements, so that who hears of one finds the other done.
            group.onward.drain(..).for_each(Planned::deliver);
            group.acks().for_each(Ack::committed);
            return;
        }
        self.site = None;
        if self.leave_the_disk().await {
            group
                .talks
                .into_iter()
                .for_each(|talk| self.float_talk(talk));
            let publishes = group.publishes.into_iter();
            publishes.for_each(|publish| self.float(publish));
        } else {
            self.fail(group.acks());
        }
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
        let now = self.parts.clock.now();
        let decision = decide(site, publish, &now, &self.parts.entropy)?;
        self.note(publish, &decision, &now);
        if publish.message.qos == Qos::AtMostOnce {
            self.note_unacknowledged(publish, now.monotonic);
        }
        self.add(decision, &now, into)
    }

    /// Nobody sends such a message again should it be lost: whose it is will be shown.
    fn note_unacknowledged(&self, publish: &Publish, now: Duration) {
        let Some(site) = &self.site else {
            return;
        };
        let speakers = site.speakers(&signal_of(publish));
        if !speakers.is_empty() {
            self.parts.unacknowledged.send_modify(|list| {
                for enrolment in &speakers {
                    list.note(enrolment, &publish.username, now);
                }
            });
        }
    }

    /// For whoever reads the signal log.
    pub(super) fn note(&self, publish: &Publish, decision: &Decision, now: &Now) {
        if let (Some(account), Some(site)) = (&decision.account, &self.site) {
            let came = Came {
                username: &publish.username,
                topic: &publish.message.topic,
                payload: &publish.message.payload,
                qos: publish.message.qos as u8,
            };
            let signals = &self.parts.signals;
            signals.note(came, account, &decision.events, site.book(), now);
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
        for tell in decision.tells {
            self.say(tell, into)?;
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

    /// Does what a named person asks. Should its fact not be committed nothing was answered, and whoever asked
    /// asks again.
    pub(super) async fn obey(&mut self, asked: &Asked) {
        if self.diskless.is_some() {
            self.float_command(asked);
            return;
        }
        if !self.is_ready().await {
            return;
        }
        let Some(site) = self.site.as_mut() else {
            return;
        };
        let now = self.parts.clock.now();
        let mut chance = Chance::new(&self.parts.entropy);
        let decision = site.ask(asked, &now, &mut || chance.draw());
        let mut submission = Submission::default();
        let usable = chance
            .check()
            .and_then(|()| self.add(decision, &now, &mut submission));
        self.commit_or_forget(usable.map(|()| submission)).await;
    }

    pub(super) fn say(&self, tell: Tell, into: &mut Submission) -> Result<(), Unusable> {
        tracing::info!(point = %tell.point, topic = tell.topic, "a device is told");
        if self.parts.tells.receiver_count() > 0 {
            // An error means that the last bridge has just gone.
            let _ = self.parts.tells.send(tell.clone());
        }
        let message = Message {
            topic: tell.topic.into(),
            payload: tell.payload.into(),
            qos: Qos::AtLeastOnce,
            retain: false,
            properties: Properties {
                expiry: u32::try_from(tell.good_for.as_secs()).ok(),
                ..Properties::default()
            },
        };
        for change in self.parts.outlet.say(message) {
            let row = memory::seal(change, &self.parts.box_key, &self.parts.entropy);
            into.mqtt.push(row.map_err(|_| Unusable::Unsealable)?);
        }
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

    /// The site may be ahead of the disk: it is read again.
    fn fail(&mut self, acks: impl Iterator<Item = Ack>) {
        let mut messages = 0;
        for ack in acks {
            messages += 1;
            ack.failed();
        }
        self.parts.gauges.publishes_failed.add(messages);
        tracing::error!(messages, "not stored, so not acknowledged");
        self.site = None;
    }

    /// Without a site nothing can be promised: the devices keep their messages and come again.
    fn fail_one_turn(&mut self) {
        let mut turn = Turn::new();
        let mut acks: Vec<_> = self.talks.drain(..).map(|talk| talk.ack).collect();
        acks.extend(std::iter::from_fn(|| self.queue.pop(&mut turn)).map(|publish| publish.ack));
        self.fail(acks.into_iter());
    }

    /// What time alone brings: silences, expiries.
    pub(super) async fn tick(&mut self) {
        if self.diskless.is_some() {
            self.float_tick();
            return;
        }
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

/// What the centre hears and sees, by ids.
fn announce(action: &Action) {
    match action {
        Action::Siren(ring) => {
            tracing::warn!(point = %ring.point, hazard = %ring.hazard, "siren");
        }
        Action::Lamp(ring) => tracing::warn!(point = %ring.point, hazard = %ring.hazard, "lamp"),
        Action::Release { door, .. } => tracing::warn!(%door, "release"),
    }
}
