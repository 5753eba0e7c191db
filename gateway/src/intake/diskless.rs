//! The intake while the disk takes nothing: life safety goes up from memory, and is acknowledged when the cloud
//! holds it; everything else is refused, so that its device keeps it.
//!
//! Owns who waits for which receipt, and what is to be put on the disk once it is back: state of the site, rows
//! of the MQTT server's memory, events without a receipt. Each message is tried on a copy of the site, because one
//! that is refused must leave no trace: its resend would pass for a repeat.

use std::collections::{BTreeMap, VecDeque};

use domain::event::Detail;
use domain::id::EpochId;
use domain::kind::{Kind, Lane};

use super::begin::first_records;
use super::group::{Chance, Unusable, decide};
use super::{Intake, memory};
use crate::broker::{Ack, Planned, Publish, Talk};
use crate::hub::Change;
use crate::site::{Account, Asked, Became, Decision, Mark, Now, Site};
use crate::store::Previous;
use crate::store::afloat::Numbers;
use crate::store::row::{Entry, SealedRow, Submission};

use super::queue::Turn;

/// Vendor ids that wait for the disk. Beyond: the oldest is forgotten, so that a resend after a restart of the box
/// would be a new event.
const SEEN: usize = 4_096;
/// Bytes of the MQTT server's rows that wait for the disk. Beyond: whatever would add one is refused.
const CHANGES_BYTES: usize = 8 * 1024 * 1024;

/// What waits for the cloud, and for the disk.
#[derive(Debug, Default)]
pub(super) struct Diskless {
    waiting: Vec<(Numbers, Ack)>,
    states: BTreeMap<String, Option<String>>,
    seen: VecDeque<Mark>,
    changes: BTreeMap<String, Option<String>>,
    changes_bytes: usize,
}

/// What becomes of a message without a disk.
enum Floated {
    /// It waits for the cloud's receipt of these.
    Taken(Numbers, Planned),
    /// It says nothing new and is no resend of what still floats: there is nothing to wait for.
    NothingNew(Planned),
    /// It has nothing to do with life safety.
    NoLifeSafety,
    /// Memory is full, or there is no site.
    NoRoom,
}

impl Diskless {
    fn mark(&mut self, marks: Vec<Mark>) {
        for mark in marks {
            match mark {
                Mark::State { key, body } => {
                    self.states.insert(key, body);
                }
                seen @ Mark::Seen { .. } => {
                    self.seen.push_back(seen);
                    if self.seen.len() > SEEN {
                        self.seen.pop_front();
                    }
                }
            }
        }
    }

    fn marks(&self) -> Vec<Mark> {
        let states = self.states.iter().map(|(key, body)| Mark::State {
            key: key.clone(),
            body: body.clone(),
        });
        states.chain(self.seen.iter().cloned()).collect()
    }

    /// Keeps rows until the disk is back, all or none; false at the limit.
    fn keep(&mut self, changes: Vec<Change>) -> bool {
        let size = |body: &Option<String>| body.as_ref().map_or(0, String::len);
        let more: usize = changes.iter().map(|c| c.key.len() + size(&c.body)).sum();
        if !changes.is_empty() && self.changes_bytes + more > CHANGES_BYTES {
            return false;
        }
        for Change { key, body } in changes {
            let length = key.len();
            self.changes_bytes += length + size(&body);
            if let Some(before) = self.changes.insert(key, body) {
                self.changes_bytes -= length + size(&before);
            }
        }
        true
    }
}

impl Intake {
    /// Goes on from memory, after a failure of the disk. False where that cannot be: the file is damaged, so the
    /// process ends for its rescue; there is no Config; the system gives no randomness.
    pub(super) async fn leave_the_disk(&mut self) -> bool {
        if self.diskless.is_some() {
            return true;
        }
        let Some(config) = self.config.clone() else {
            return false;
        };
        if self.site.is_none() {
            self.read_site(config.clone()).await;
        }
        if self.parts.store.damage().borrow().is_some() {
            return false;
        }
        if self.site.is_none() {
            tracing::error!("the site begins anew in memory: every alarm raises again");
            let now = self.parts.clock.now();
            self.site = Site::new(config, [], now.monotonic).ok();
        }
        match self.first_afloat() {
            Ok(entries) => {
                let Ok(epoch) = self.mint_epoch() else {
                    return false;
                };
                tracing::error!(%epoch, "the disk takes no events; life safety goes up from memory");
                self.parts.store.afloat().send_modify(|afloat| {
                    afloat.begin(epoch);
                    // The first rows of an empty memory are within its limits.
                    let _ = afloat.take(entries);
                });
                self.told.failing = true;
                self.diskless = Some(Diskless::default());
                true
            }
            Err(error) => {
                tracing::error!(%error, "the intake cannot go on from memory");
                self.site = None;
                false
            }
        }
    }

    fn mint_epoch(&self) -> Result<EpochId, Unusable> {
        let chance = self
            .parts
            .entropy
            .bytes()
            .map_err(|_| Unusable::NoEntropy)?;
        Ok(EpochId::at(self.parts.clock.now().wall, chance))
    }

    /// The first records of the epoch without a disk, which name the one it stands beside, and the fault.
    fn first_afloat(&mut self) -> Result<Vec<Entry>, Unusable> {
        let Some(site) = self.site.as_mut() else {
            return Ok(Vec::new());
        };
        let beside = Previous {
            epoch: self.parts.store.epoch(),
            last: self.parts.store.heads().borrow().last,
        };
        let now = self.parts.clock.now();
        let mut chance = Chance::new(&self.parts.entropy);
        let boot = self.parts.clock.boot();
        let mut entries = first_records(site, Some(beside), boot, &now, &mut chance)?;
        entries.extend(self.fact(Kind::GatewayDisk, Detail::None, true)?);
        Ok(entries)
    }

    /// Takes from the queue what one commit would have taken.
    pub(super) fn float_turn(&mut self) {
        for talk in std::mem::take(&mut self.talks) {
            self.float_talk(talk);
        }
        let mut turn = Turn::new();
        while let Some(publish) = self.queue.pop(&mut turn) {
            self.float(*publish);
        }
    }

    /// A log-in must not wait for the disk: it may be a button's. What its session asks for is in memory, and on
    /// the disk when that is back.
    pub(super) fn float_talk(&mut self, talk: Talk) {
        let kept = self.diskless.as_mut().is_some_and(|d| d.keep(talk.changes));
        if kept {
            talk.ack.committed();
        } else {
            self.turn_away(talk.ack);
        }
    }

    /// One message, from memory.
    pub(super) fn float(&mut self, publish: Publish) {
        match self.try_float(&publish) {
            Ok(Floated::Taken(numbers, planned)) => {
                planned.deliver();
                if let Some(diskless) = self.diskless.as_mut() {
                    diskless.waiting.push((numbers, publish.ack));
                }
                self.settle_afloat();
            }
            Ok(Floated::NothingNew(planned)) => {
                planned.deliver();
                publish.ack.committed();
            }
            // A bridge carries smoke behind its doors: were it refused, the same door would come first again,
            // for ever. The fault of the disk is told; the door is not.
            Ok(Floated::NoLifeSafety) if publish.reserved => {
                self.parts.gauges.publishes_failed.add(1);
                publish.ack.committed();
            }
            Ok(Floated::NoLifeSafety | Floated::NoRoom) => self.turn_away(publish.ack),
            Err(error) => {
                tracing::error!(%error, "a message cannot go up from memory");
                self.turn_away(publish.ack);
            }
        }
    }

    fn turn_away(&self, ack: Ack) {
        self.parts.gauges.publishes_failed.add(1);
        ack.failed();
    }

    /// What becomes of a message. Unless it is taken nothing has changed.
    fn try_float(&mut self, publish: &Publish) -> Result<Floated, Unusable> {
        let (Some(site), true) = (self.site.as_ref(), self.diskless.is_some()) else {
            return Ok(Floated::NoRoom);
        };
        let mut trial = site.clone();
        let now = self.parts.clock.now();
        let decision = decide(&mut trial, publish, &now, &self.parts.entropy)?;
        self.note(publish, &decision, &now);
        let is_silent = decision.events.is_empty() && decision.marks.is_empty();
        let saves = |event: &domain::event::Event| event.kind.lane() == Lane::LifeSafety;
        if !is_silent && !decision.events.iter().any(saves) {
            return Ok(Floated::NoLifeSafety);
        }
        let is_repeat = |account: &Account| account.became == Became::Repeat;
        let may_float = decision.account.as_ref().is_none_or(is_repeat);
        let mut into = Submission::default();
        self.add(decision, &now, &mut into)?;
        let mut planned = publish.plan();
        let changes = std::mem::take(&mut planned.changes);
        let Some(numbers) = self.take_afloat(trial, into, changes) else {
            return Ok(Floated::NoRoom);
        };
        Ok(if is_silent && !may_float {
            Floated::NothingNew(planned)
        } else {
            Floated::Taken(numbers, planned)
        })
    }

    /// Numbers the events and takes over the copy of the site that decided them. A resend says nothing
    /// new: it waits for all that floats.
    fn take_afloat(
        &mut self,
        trial: Site,
        decided: Submission,
        changes: Vec<Change>,
    ) -> Option<Numbers> {
        let diskless = self.diskless.as_mut()?;
        let afloat = self.parts.store.afloat();
        if !diskless.keep(changes) {
            return None;
        }
        let mut numbers = None;
        afloat.send_modify(|afloat| {
            numbers = if decided.entries.is_empty() {
                Some(afloat.all())
            } else {
                afloat.take(decided.entries)
            };
        });
        if numbers.is_some() {
            diskless.mark(decided.marks);
            self.site = Some(trial);
        }
        numbers
    }

    /// What time alone brings, if life safety is in it; anything else comes up again when the disk is back.
    pub(super) fn float_tick(&mut self) {
        let Some(site) = self.site.as_ref() else {
            return;
        };
        let mut trial = site.clone();
        let now = self.parts.clock.now();
        let mut chance = Chance::new(&self.parts.entropy);
        let decision = trial.tick(&now, &mut || chance.draw());
        let saves = |event: &domain::event::Event| event.kind.lane() == Lane::LifeSafety;
        if !decision.events.is_empty() && !decision.events.iter().any(saves) {
            // The events come up again; what devices are to be told does not wait for them.
            for tell in decision.tells {
                if let Err(error) = self.say(tell, &mut Submission::default()) {
                    tracing::error!(%error, "a device is told, and the row of it is lost");
                }
            }
            return;
        }
        let usable = chance.check();
        self.float_decision(trial, usable.map(|()| decision), &now);
    }

    /// Does what a named person asks; its fact is life safety.
    pub(super) fn float_command(&mut self, asked: &Asked) {
        let Some(site) = self.site.as_ref() else {
            return;
        };
        let mut trial = site.clone();
        let now = self.parts.clock.now();
        let mut chance = Chance::new(&self.parts.entropy);
        let decision = trial.ask(asked, &now, &mut || chance.draw());
        let usable = chance.check();
        self.float_decision(trial, usable.map(|()| decision), &now);
    }

    fn float_decision(&mut self, trial: Site, decision: Result<Decision, Unusable>, now: &Now) {
        let mut into = Submission::default();
        let added = decision.and_then(|decision| self.add(decision, now, &mut into));
        if let Err(error) = added {
            tracing::error!(%error, "a fact cannot go up from memory");
        } else if self.take_afloat(trial, into, Vec::new()).is_none() {
            tracing::error!("memory is full; the fact comes up again");
        }
    }

    /// Acknowledges what the cloud holds.
    pub(super) fn settle_afloat(&mut self) {
        let Some(diskless) = self.diskless.as_mut() else {
            return;
        };
        let afloat = self.parts.store.afloat().borrow();
        let waiting = std::mem::take(&mut diskless.waiting);
        let (done, waiting): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|(numbers, _)| afloat.is_receipted(*numbers));
        diskless.waiting = waiting;
        drop(afloat);
        done.into_iter().for_each(|(_, ack)| ack.committed());
    }

    /// Puts on the disk what memory holds, and goes on as usual. If the disk does not take it, all stays as it is.
    pub(super) async fn come_ashore(&mut self) {
        let homecoming = match self.homecoming() {
            Ok(homecoming) => homecoming,
            Err(error) => {
                tracing::error!(%error, "what memory holds cannot be written");
                return;
            }
        };
        let adopts = homecoming.adopted.is_some();
        let begins = !homecoming.entries.is_empty();
        if !homecoming.is_empty() && self.parts.store.commit(homecoming).await.is_err() {
            return;
        }
        if begins {
            self.unstarted = None;
        }
        let afloat = self.parts.store.afloat();
        if adopts {
            // One that came while the commit was under way found no epoch of its name in the file.
            let receipts = afloat.borrow().receipts();
            for receipt in receipts {
                self.parts.store.receipt(receipt).await;
            }
        }
        afloat.send_modify(crate::store::afloat::Afloat::end);
        if let Some(diskless) = self.diskless.take() {
            diskless
                .waiting
                .into_iter()
                .for_each(|(_, ack)| ack.committed());
        }
        tracing::info!("the disk takes events again");
    }

    fn homecoming(&mut self) -> Result<Submission, Unusable> {
        let Some(diskless) = &self.diskless else {
            return Ok(Submission::default());
        };
        let mut mqtt: Vec<SealedRow> = Vec::with_capacity(diskless.changes.len());
        for (key, body) in &diskless.changes {
            let change = Change {
                key: key.clone(),
                body: body.clone(),
            };
            let sealed = memory::seal(change, &self.parts.box_key, &self.parts.entropy);
            mqtt.push(sealed.map_err(|_| Unusable::Unsealable)?);
        }
        let marks = diskless.marks();
        let boot = self.parts.clock.boot();
        let mut entries = Vec::new();
        if let (Some(previous), Some(site)) = (self.unstarted, self.site.as_mut()) {
            let now = self.parts.clock.now();
            let mut chance = Chance::new(&self.parts.entropy);
            entries = first_records(site, previous, boot, &now, &mut chance)?;
        }
        let adopted = self.parts.store.afloat().borrow().leftovers(boot);
        Ok(Submission {
            adopted: adopted.map(Box::new),
            entries,
            marks,
            config: None,
            mqtt,
        })
    }
}
