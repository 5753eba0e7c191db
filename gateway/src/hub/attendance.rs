//! Who comes and who goes: log-ins, leavings, takeovers, and what time ends.

use std::sync::Arc;
use std::time::Duration;

use super::session::{OnLine, Pending, Session};
use super::stored::{self, Change, SessionRow};
use super::{
    Aftermath, ClientId, Generation, Hub, LastWords, Leaving, Needs, NoRoom, Opened, Opening,
    SessionId, bare, holder,
};

impl Hub {
    /// What follows at once from [`Hub::open`].
    #[must_use]
    pub fn needs_to_open(&self, opening: &Opening) -> Needs {
        let old = self.by_key.get(&opening.key);
        let old = old.and_then(|id| self.sessions.get(id));
        Needs {
            will: old.is_some_and(|old| speaks_now(old, ends(old, opening.clean_start))),
            rows: opening.expiry > 0 || old.is_some_and(Session::is_durable),
        }
    }

    /// What may follow at once from [`Hub::close`].
    #[must_use]
    pub fn needs_to_close(&self, id: SessionId, leaving: Leaving) -> Needs {
        let Some(session) = self.sessions.get(&id) else {
            return Needs::default();
        };
        let speaks = match leaving {
            Leaving::Lost | Leaving::WithWill { .. } => session.will.is_some(),
            Leaving::Properly { .. } | Leaving::Stopping => false,
        };
        Needs {
            will: speaks,
            rows: session.is_durable(),
        }
    }

    /// Gives a client its place. A connection that held it loses it.
    ///
    /// # Errors
    /// [`NoRoom`]; nothing has changed then.
    pub fn open(&mut self, opening: Opening) -> Result<Opened, NoRoom> {
        let old = self.by_key.get(&opening.key).copied();
        self.has_room(&opening, old)?;
        let (mut changes, mut will, mut took_over) = (Vec::new(), None, None);
        let mut present = None;
        if let Some(id) = old
            && let Some(session) = self.sessions.get_mut(&id)
        {
            let ends = ends(session, opening.clean_start);
            let speaks = speaks_now(session, ends);
            took_over = session.on_line.take().map(|_| id);
            will = take_will(session).filter(|_| speaks);
            if ends {
                self.forget(id, &mut changes);
            } else {
                present = Some(id);
            }
        }
        let id =
            present.unwrap_or_else(|| self.add_session(Arc::clone(&opening.key), opening.reserved));
        let generation = Generation(self.number());
        if let Some(session) = self.sessions.get_mut(&id) {
            begin(session, opening, generation, self.limits.window);
            if session.is_durable() {
                changes.push(stored::session(&session.name, &row_of(session)));
            } else if present.is_some() {
                changes.extend(all_rows(session));
            }
        }
        self.make_room(&mut changes, id);
        Ok(Opened {
            session: id,
            generation,
            present: present.is_some(),
            took_over,
            crowded_out: self.crowded_out(id),
            will,
            changes,
        })
    }

    fn has_room(&self, opening: &Opening, replaced: Option<SessionId>) -> Result<(), NoRoom> {
        let others = self
            .sessions
            .iter()
            .filter(|(id, session)| session.on_line.is_some() && Some(**id) != replaced);
        let (mut total, mut ordinary) = (0, 0);
        for (_, session) in others {
            total += 1;
            ordinary += usize::from(!session.reserved);
        }
        let connections = self.limits.connections;
        let free = opening.reserved || ordinary < connections - connections.div_ceil(4);
        if total < connections && free {
            Ok(())
        } else {
            Err(NoRoom)
        }
    }

    /// The client longest on line of a credential that has too many, not counting the one just opened.
    fn crowded_out(&self, opened: SessionId) -> Option<SessionId> {
        let username = &self.sessions.get(&opened)?.key.username;
        let own = self.sessions.iter().filter_map(|(id, session)| {
            let on = session
                .on_line
                .filter(|_| session.key.username == *username)?;
            (*id != opened).then_some((on.generation, *id))
        });
        let own: Vec<_> = own.collect();
        let crowded = own.len() >= self.limits.per_credential;
        own.into_iter().min().filter(|_| crowded).map(|(_, id)| id)
    }

    /// Forgets the durable session that left first while there are too many; never the one just opened.
    fn make_room(&mut self, changes: &mut Vec<Change>, opened: SessionId) {
        let durable = |session: &&Session| session.is_durable();
        while self.sessions.values().filter(durable).count() > self.limits.durable {
            let gone = self
                .sessions
                .iter()
                .filter(|(id, session)| {
                    **id != opened && session.on_line.is_none() && session.is_durable()
                })
                .min_by_key(|(_, session)| session.left_at)
                .map(|(id, _)| *id);
            let Some(gone) = gone else {
                return;
            };
            self.dropped.sessions += 1;
            self.forget(gone, changes);
        }
    }

    /// Ends a connection, if it still holds its session.
    pub fn close(
        &mut self,
        id: SessionId,
        generation: Generation,
        leaving: Leaving,
        now: Duration,
    ) -> Aftermath {
        let mut aftermath = Aftermath::default();
        let Some(session) = self.sessions.get_mut(&id) else {
            return aftermath;
        };
        if !session.is_on(generation) {
            return aftermath;
        }
        session.on_line = None;
        session.left_at = now;
        session.drop_at_most_once();
        let before = session.expiry;
        match leaving {
            Leaving::Properly { expiry } => {
                session.will = None;
                session.expiry = expiry.unwrap_or(before);
            }
            Leaving::WithWill { expiry } => session.expiry = expiry.unwrap_or(before),
            Leaving::Lost => {}
            Leaving::Stopping => aftermath.withheld = session.will.take().is_some(),
        }
        let expiry = session.expiry;
        if let Some(pending) = &mut session.will {
            let delay = pending.will.delay.min(expiry);
            pending.due = Some(now + Duration::from_secs(delay.into()));
        }
        if session.expiry != before && session.is_durable() {
            let row = stored::session(&session.name, &row_of(session));
            aftermath.changes.push(row);
        }
        let before_rows = before > 0;
        self.settle(id, before_rows, now, &mut aftermath);
        aftermath
    }

    /// What time brings: wills that were delayed, sessions that are over.
    pub fn tick(&mut self, now: Duration) -> Aftermath {
        let mut aftermath = Aftermath::default();
        let gone = self.sessions.iter().filter(|(_, s)| s.on_line.is_none());
        let gone: Vec<_> = gone
            .map(|(id, session)| (*id, session.is_durable()))
            .collect();
        for (id, durable) in gone {
            self.settle(id, durable, now, &mut aftermath);
        }
        aftermath.changes.append(&mut self.rest);
        aftermath
    }

    /// Lets time act on a session without a connection.
    fn settle(&mut self, id: SessionId, has_rows: bool, now: Duration, aftermath: &mut Aftermath) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let over = is_over(session, now);
        let due = |pending: &Pending| pending.due.is_some_and(|due| due <= now);
        if over || session.will.as_ref().is_some_and(due) {
            aftermath.wills.extend(take_will(session));
        }
        if over {
            if has_rows {
                aftermath.changes.extend(all_rows(session));
            }
            self.remove(id);
        }
    }

    fn forget(&mut self, id: SessionId, changes: &mut Vec<Change>) {
        if let Some(session) = self.sessions.get(&id)
            && session.is_durable()
        {
            changes.extend(all_rows(session));
        }
        self.remove(id);
    }

    fn remove(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        self.by_key.remove(&session.key);
        for filter in session.subscriptions.keys() {
            self.tree.remove(bare(filter), &holder(id, filter));
        }
    }
}

/// Whether a session does not outlive its next log-in.
fn ends(session: &Session, clean_start: bool) -> bool {
    clean_start || !session.is_durable()
}

/// Whether a session's will is due when its client logs in again: a delayed one is cancelled if the session
/// goes on (MQTT 5 section 3.1.3.2.2).
fn speaks_now(session: &Session, ends: bool) -> bool {
    let undelayed = |pending: &Pending| session.on_line.is_some() && pending.will.delay == 0;
    session
        .will
        .as_ref()
        .is_some_and(|pending| ends || undelayed(pending))
}

fn take_will(session: &mut Session) -> Option<LastWords> {
    session.will.take().map(|pending| LastWords {
        key: Arc::clone(&session.key),
        reserved: session.reserved,
        message: pending.will.message,
    })
}

fn is_over(session: &Session, now: Duration) -> bool {
    match session.expiry {
        u32::MAX => false,
        seconds => session.left_at + Duration::from_secs(seconds.into()) <= now,
    }
}

fn begin(session: &mut Session, opening: Opening, generation: Generation, window: usize) {
    session.reserved = opening.reserved;
    session.expiry = match session.key.client {
        ClientId::Named(_) => opening.expiry,
        ClientId::Assigned(_) => 0,
    };
    session.will = opening.will.map(|will| Pending { will, due: None });
    session.on_line = Some(OnLine {
        generation,
        window: window.min(opening.receive_maximum.into()),
    });
    session.begin_again();
}

fn row_of(session: &Session) -> SessionRow {
    let client = match &session.key.client {
        ClientId::Named(name) => name.clone(),
        ClientId::Assigned(_) => String::new(),
    };
    SessionRow {
        username: session.key.username.as_ref().to_owned(),
        client,
        reserved: session.reserved,
        expiry: session.expiry,
    }
}

/// The removal of everything a session has on disk.
fn all_rows(session: &Session) -> Vec<Change> {
    let name = &*session.name;
    let filters = session.subscriptions.keys();
    let filters = filters.map(|filter| stored::no_subscription(name, filter));
    let queued = session.numbers().map(|n| stored::not_queued(name, n));
    let incoming = session
        .incoming
        .iter()
        .map(|id| stored::no_incoming(name, *id));
    let rest = filters.chain(queued).chain(incoming);
    std::iter::once(stored::no_session(name))
        .chain(rest)
        .collect()
}
