//! From one message to the sessions that are to hear it, in two steps: planned before the commit, delivered
//! after it.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use super::message::{Message, Qos};
use super::session::{Queued, Subscription};
use super::stored::{self, Change};
use super::{Hub, SessionId};

/// The client a message came from.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Its session.
    pub session: SessionId,
    /// The packet id of a QoS 2 message: remembered until its release.
    pub exactly_once: Option<NonZeroU16>,
}

/// What one message changes. Dropped, nothing has happened.
#[derive(Debug)]
#[must_use = "deliver it once its changes are committed"]
pub struct Plan {
    message: Arc<Message>,
    at: Duration,
    source: Option<Source>,
    copies: Vec<(SessionId, Arc<str>, Queued)>,
    /// The topic's retained message becomes this one, or none.
    retain: Option<bool>,
    /// To be committed with the event of the message.
    pub changes: Vec<Change>,
}

/// What a session is to get of one message.
struct Wish {
    qos: Qos,
    retain: bool,
    identifiers: Vec<u32>,
}

impl Wish {
    fn of(message: &Message, asked: &Subscription) -> Self {
        Self {
            qos: message.qos.min(asked.qos),
            retain: message.retain && asked.retain_as_published,
            identifiers: asked.identifier.into_iter().collect(),
        }
    }

    /// One copy for all subscriptions of a client (section 3.3.4).
    fn join(&mut self, other: Self) {
        self.qos = self.qos.max(other.qos);
        self.retain |= other.retain;
        self.identifiers.extend(other.identifiers);
    }
}

impl Hub {
    /// Plans what a message changes.
    pub fn plan(&mut self, source: Option<Source>, message: Message, now: Duration) -> Plan {
        let wishes = self.wishes(source, &message);
        let mut plan = Plan {
            at: now,
            source,
            copies: Vec::with_capacity(wishes.len()),
            retain: None,
            changes: Vec::new(),
            message: Arc::new(message),
        };
        for (id, wish) in wishes {
            self.plan_copy(id, wish, &mut plan);
        }
        self.plan_retained(&mut plan);
        self.plan_incoming(&mut plan);
        plan
    }

    fn wishes(&mut self, source: Option<Source>, message: &Message) -> BTreeMap<SessionId, Wish> {
        let from = source.map(|source| source.session);
        let mut wishes: BTreeMap<SessionId, Wish> = BTreeMap::new();
        let mut groups: BTreeMap<&str, Vec<(SessionId, &Subscription)>> = BTreeMap::new();
        let mut wish = |id: SessionId, asked: &Subscription| {
            let wish = Wish::of(message, asked);
            match wishes.entry(id) {
                std::collections::btree_map::Entry::Occupied(mut known) => {
                    known.get_mut().join(wish)
                }
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(wish);
                }
            }
        };
        for (holder, asked) in self.tree.matching(&message.topic) {
            match &holder.group {
                Some(group) => groups
                    .entry(group)
                    .or_default()
                    .push((holder.session, asked)),
                None if asked.no_local && from == Some(holder.session) => {}
                None => wish(holder.session, asked),
            }
        }
        self.turns = self.turns.wrapping_add(1);
        for members in groups.into_values() {
            let on_line = |(id, _): &&(SessionId, &Subscription)| {
                self.sessions.get(id).is_some_and(|s| s.on_line.is_some())
            };
            let listening: Vec<_> = members.iter().filter(on_line).collect();
            let from = if listening.is_empty() {
                members.iter().collect()
            } else {
                listening
            };
            // Each message goes to the next member in turn.
            let turn = self.turns.checked_rem(from.len()).unwrap_or_default();
            if let Some((id, asked)) = from.get(turn) {
                wish(*id, asked);
            }
        }
        wishes
    }

    fn plan_copy(&mut self, id: SessionId, wish: Wish, plan: &mut Plan) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.on_line.is_none() && (wish.qos == Qos::AtMostOnce || !session.is_durable()) {
            return;
        }
        let (messages, bytes) = session.waiting();
        let planned = plan.copies.iter().filter(|(to, _, _)| *to == id).count();
        if messages + planned >= self.limits.queue_messages
            || bytes + plan.message.cost() > self.limits.queue_bytes
        {
            self.dropped.queue_full += 1;
            return;
        }
        // One count for all sessions: rows of a session that is forgotten are removed by number, maybe after
        // the first row of its successor was written.
        self.numbers += 1;
        let has_row = session.is_durable() && wish.qos != Qos::AtMostOnce;
        let number = has_row.then_some(self.numbers);
        let item = Queued {
            message: Arc::clone(&plan.message),
            qos: wish.qos,
            retain: wish.retain,
            identifiers: wish.identifiers,
            at: plan.at,
            number,
        };
        let name = Arc::clone(&session.name);
        if let Some(number) = number {
            let row = stored::queued(&name, number, &item, None, false);
            plan.changes.push(row);
        }
        plan.copies.push((id, name, item));
    }

    fn plan_retained(&mut self, plan: &mut Plan) {
        let message = &plan.message;
        if !message.retain {
            return;
        }
        let (topics, bytes) = (self.limits.retained_topics, self.limits.retained_bytes);
        let empty = message.payload.is_empty();
        if !empty && !self.retained.has_room(message, topics, bytes) {
            let over = self.retained.expire(plan.at).into_iter();
            plan.changes
                .extend(over.map(|topic| stored::not_retained(&topic)));
        }
        let keep = !empty && self.retained.has_room(message, topics, bytes);
        self.dropped.retained_full += u64::from(!empty && !keep);
        plan.changes.push(if keep {
            stored::retained(message)
        } else {
            stored::not_retained(&message.topic)
        });
        plan.retain = Some(keep);
    }

    fn plan_incoming(&self, plan: &mut Plan) {
        if let Some(source) = plan.source
            && let Some(id) = source.exactly_once
            && let Some(session) = self.sessions.get(&source.session)
            && session.is_durable()
        {
            plan.changes.push(stored::incoming(&session.name, id));
        }
    }

    /// Carries a plan out, once it is committed. Gives the sessions that have something to hear.
    pub fn deliver(&mut self, plan: Plan) -> Vec<SessionId> {
        match plan.retain {
            Some(true) => self.retained.keep(Arc::clone(&plan.message), plan.at),
            Some(false) => {
                self.retained.forget(&plan.message.topic);
            }
            None => {}
        }
        if let Some(source) = plan.source
            && let Some(id) = source.exactly_once
            && let Some(session) = self.sessions.get_mut(&source.session)
        {
            session.incoming.insert(id);
        }
        let mut woken = Vec::with_capacity(plan.copies.len());
        for (id, name, item) in plan.copies {
            match self.sessions.get_mut(&id) {
                Some(session) => {
                    session.push(item);
                    woken.push(id);
                }
                // Its other rows were removed before the commit wrote this one.
                None => {
                    let row = item.number.map(|n| stored::not_queued(&name, n));
                    self.rest.extend(row);
                }
            }
        }
        woken
    }

    /// Queues the retained messages that a new subscription is to get. To be called once the subscription is
    /// committed.
    pub fn greet(&mut self, id: SessionId, filter: &str, now: Duration) {
        let most = self.limits.queue_messages + self.limits.retained_topics;
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(asked) = session.subscriptions.get(filter).cloned() else {
            return;
        };
        let mut one = super::tree::Tree::default();
        one.insert(filter, super::holder(id, filter), ());
        for kept in self.retained.iter().filter(|kept| !kept.is_over(now)) {
            if one.matching(&kept.message.topic).is_empty() {
                continue;
            }
            if session.waiting().0 >= most {
                self.dropped.queue_full += 1;
                continue;
            }
            session.push(Queued {
                message: Arc::clone(&kept.message),
                qos: kept.message.qos.min(asked.qos),
                retain: true,
                identifiers: asked.identifier.into_iter().collect(),
                at: kept.at,
                number: None,
            });
        }
    }
}
