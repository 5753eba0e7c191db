//! What people ask boxes to do, and what becomes of it: written, journalled and shown in one transaction.
//!
//! A command changes no alarm: the fact that answers it does, like every other event. The rules are in
//! `commands::rules` and `incident::decide`.

#[cfg(test)]
mod tests;

use domain::command::{Act as Asked, Scope as Reach, Test};
use domain::digest::Sha256;
use domain::event::Event;
use domain::id::{CentreId, CommandId, GatewayId, IncidentId, PersonId};
use domain::kind::Hazard;

use super::{Act, ActError, Engine, EngineError, Work};
use crate::absence::{self, GRACE, What};
use crate::access::{Scope, watches};
use crate::commands::rules::{self, Unsuitable};
use crate::commands::{self, Given, State, Turn, WAITING_MAX, answer_of, lives, point_of};
use crate::db::unhurt;
use crate::incident::decide::Command;
use crate::incident::{Case, shown};

/// Why a command was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No such centre within the person's reach.
    #[error("no such centre")]
    NotFound,
    /// It will never do, and what would.
    #[error(transparent)]
    Unsuitable(#[from] Unsuitable),
    /// The id was given to something else.
    #[error("this id was given to another command; give each command an id of its own")]
    IdTaken,
    /// Too many wait.
    #[error("{WAITING_MAX} commands of this centre wait for an answer already")]
    TooMany,
    /// The store failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Engine {
    /// Gives a command of a person to the boxes it concerns. The same id again gives what became of it.
    ///
    /// # Errors
    /// As [`AskError`] says; nothing is sent then.
    pub async fn ask(
        &self,
        scope: &Scope,
        centre: CentreId,
        id: Option<CommandId>,
        act: Asked,
    ) -> Result<Vec<Given>, AskError> {
        let by = scope.person().ok_or(AskError::NotFound)?;
        let (engine, scope) = (self.clone(), scope.clone());
        let asked = unhurt(async move {
            let now = engine.clock.now();
            let mut tx = engine.db.read().await.map_err(EngineError::from)?;
            let watched = watches(&mut tx, &scope, centre, now).await;
            drop(tx);
            // Looked up before the lock too: nobody takes the lock of a centre that is not theirs.
            if !watched.map_err(EngineError::from)? {
                return Err(AskError::NotFound);
            }
            let mut work = engine.begin(centre).await?;
            let (tx, _) = work.parts();
            if !(watches(tx, &scope, centre, now).await).map_err(EngineError::from)? {
                return Err(AskError::NotFound);
            }
            let given = work.ask(id, by, &act).await?;
            engine.commit(work).await?;
            Ok(given)
        });
        asked.await.map_err(EngineError::from)?
    }

    /// A person says that a case is real: whatever a test keeps back in it goes out, and every test session of
    /// the centre ends.
    ///
    /// # Errors
    /// As [`ActError`] says.
    pub async fn real(&self, scope: &Scope, incident: IncidentId) -> Result<(), ActError> {
        let by = scope.person().ok_or(ActError::NotFound)?;
        let (engine, scope) = (self.clone(), scope.clone());
        let done = unhurt(async move {
            let now = engine.clock.now();
            let mut tx = engine.db.read().await.map_err(EngineError::from)?;
            let found = shown::centre_of(&mut tx, &scope, incident, now).await;
            let centre = found
                .map_err(EngineError::from)?
                .ok_or(ActError::NotFound)?;
            drop(tx);
            // First, and by itself: nothing of the sessions may keep this from going out.
            engine
                .act_on(&scope, incident, &Act::Confirm.by(by))
                .await?;
            let mut work = engine.begin(centre).await?;
            work.end_tests(by).await?;
            engine.commit(work).await?;
            Ok(())
        });
        done.await.map_err(EngineError::from)?
    }

    /// Lets time act on a centre's commands and sessions.
    ///
    /// # Errors
    /// When the store fails or there is no randomness; the next look finds the same work.
    pub async fn tick_service(&self, centre: CentreId) -> Result<(), EngineError> {
        let mut work = self.begin(centre).await?;
        work.expire_commands().await?;
        work.end_overdue().await?;
        self.commit(work).await
    }
}

impl Work {
    async fn ask(
        &mut self,
        id: Option<CommandId>,
        by: PersonId,
        act: &Asked,
    ) -> Result<Vec<Given>, AskError> {
        let now = self.now();
        let id = match id {
            Some(id) => {
                let (tx, scope) = self.parts();
                let known = commands::store::of_id(tx, scope, id).await;
                let known = known.map_err(EngineError::from)?;
                if !known.is_empty() {
                    return same(known, by, act);
                }
                id
            }
            None => CommandId::at(now, self.chance().map_err(AskError::from)?),
        };
        let (tx, scope) = self.parts();
        let site = commands::store::site(tx, scope).await;
        let parts = rules::parts(&site.map_err(EngineError::from)?, act, by)?;
        let (tx, scope) = self.parts();
        let waiting = commands::store::waiting(tx, scope).await;
        let adds = i64::try_from(parts.len()).unwrap_or(i64::MAX);
        if waiting.map_err(EngineError::from)?.saturating_add(adds) > WAITING_MAX {
            return Err(AskError::TooMany);
        }
        if let Some(other) = other_person(act) {
            let (tx, scope) = self.parts();
            let rights = commands::store::rights_of(tx, scope, other, now).await;
            if rights.map_err(EngineError::from)?.is_empty() {
                return Err(Unsuitable::OtherPerson.into());
            }
        }
        Ok(self.give(id, by, parts).await?)
    }

    /// Writes commands down and tells the cases they concern.
    async fn give(
        &mut self,
        id: CommandId,
        by: PersonId,
        parts: impl IntoIterator<Item = (GatewayId, Asked)>,
    ) -> Result<Vec<Given>, EngineError> {
        let now = self.now();
        let mut all = Vec::new();
        for (gateway, act) in parts {
            let given = Given {
                id,
                gateway,
                by,
                given_at: now,
                expires_at: now.after(lives(&act)),
                act,
                state: State::Given,
                sent_at: None,
                answered_at: None,
                why: None,
                fact: None,
            };
            let (tx, scope) = self.parts();
            commands::store::insert(tx, scope, &given).await?;
            self.write_down(Turn::Given {
                command: id,
                gateway,
                by,
                act: given.act.clone(),
                expires_at: given.expires_at,
            })
            .await?;
            let asked = Command::Asked {
                command: id,
                by,
                act: given.act.clone(),
            };
            self.tell_cases(|case| about(case, &given.act, &asked))
                .await?;
            all.push(given);
        }
        Ok(all)
    }

    /// Takes a box's answer to a command into account, its own commands' too, and gives the number of the
    /// entry. `record` is the digest that entry is to chain, if no other does.
    ///
    /// # Errors
    /// When the store fails or there is no randomness.
    pub async fn answered(
        &mut self,
        gateway: GatewayId,
        event: &Event,
        record: Option<Sha256>,
    ) -> Result<Option<u64>, EngineError> {
        let Some(answer) = answer_of(event) else {
            return Ok(None);
        };
        let now = self.now();
        let (tx, scope) = self.parts();
        let known = commands::store::find(tx, scope, gateway, answer.command).await?;
        commands::store::answer(tx, scope, gateway, &answer, event.id, now).await?;
        let seq = self.write_down(Turn::Answered {
            command: answer.command,
            gateway,
            by: answer.by,
            event: event.id,
            kind: event.kind,
            source: event.source.clone(),
            why: answer.why,
            ours: known.is_some(),
            record,
        });
        Ok(Some(seq.await?))
    }

    async fn expire_commands(&mut self) -> Result<(), EngineError> {
        let now = self.now();
        let (tx, scope) = self.parts();
        for given in commands::store::expire(tx, scope, now).await? {
            let reached = given.sent_at.is_some();
            self.write_down(Turn::Expired {
                command: given.id,
                gateway: given.gateway,
                reached,
            })
            .await?;
            let unanswered = Command::Unanswered {
                command: given.id,
                act: given.act.clone(),
                reached,
            };
            self.tell_cases(|case| about(case, &given.act, &unanswered))
                .await?;
        }
        Ok(())
    }

    /// Ends what is over by the cloud's clock and of which the box did not say so in time.
    async fn end_overdue(&mut self) -> Result<(), EngineError> {
        let (now, last) = (self.now(), self.now().before(GRACE));
        let (tx, scope) = self.parts();
        let all = absence::store::of_centre(tx, scope).await?;
        let mut over = Vec::new();
        for absence in all.into_iter().filter(|absence| absence.until_at <= last) {
            let (tx, scope) = self.parts();
            absence::store::end(tx, scope, absence.gateway, absence.id, now).await?;
            self.over(&absence, None).await?;
            over.push(absence.id);
        }
        let (tx, scope) = self.parts();
        absence::store::end_unreadable(tx, scope, last, now).await?;
        self.go_on_without(over).await
    }

    /// "This is real": no test of the centre keeps anything back any more, here at once and at the boxes by
    /// command.
    async fn end_tests(&mut self, by: PersonId) -> Result<(), EngineError> {
        let now = self.now();
        let (tx, scope) = self.parts();
        let all = absence::store::of_centre(tx, scope).await?;
        let mut over = Vec::new();
        for absence in all {
            match &absence.what {
                What::Test(_) => {}
                What::Bypass(_) => continue,
            }
            let (tx, scope) = self.parts();
            absence::store::end(tx, scope, absence.gateway, absence.id, now).await?;
            self.over(&absence, Some(by)).await?;
            let id = CommandId::at(now, self.chance()?);
            let session = absence.id;
            let end = (absence.gateway, Asked::TestEnd { session });
            self.give(id, by, [end]).await?;
            over.push(session);
        }
        self.go_on_without(over).await
    }

    async fn over(
        &mut self,
        absence: &absence::Absence,
        by: Option<PersonId>,
    ) -> Result<(), EngineError> {
        self.write_down(Turn::Over {
            session: absence.id,
            gateway: absence.gateway,
            by,
        })
        .await?;
        Ok(())
    }

    async fn go_on_without(&mut self, sessions: Vec<CommandId>) -> Result<(), EngineError> {
        if sessions.is_empty() {
            return Ok(());
        }
        let over = Command::TestOver { sessions };
        self.tell_cases(|_| vec![over.clone()]).await
    }
}

/// The same command again gives what became of it.
fn same(known: Vec<Given>, by: PersonId, act: &Asked) -> Result<Vec<Given>, AskError> {
    let is_part = |given: &Given| given.by == by && is_part_of(&given.act, act);
    if known.iter().all(is_part) {
        Ok(known)
    } else {
        Err(AskError::IdTaken)
    }
}

/// Whether a box's part may be of that act: a test of points goes to each box with its own points.
fn is_part_of(part: &Asked, act: &Asked) -> bool {
    match (part, act) {
        (Asked::TestBegin(part), Asked::TestBegin(test)) => {
            let within = match (&part.scope, &test.scope) {
                (Reach::Points(some), Reach::Points(all)) => some.is_subset(all),
                (Reach::Centre, Reach::Centre) => true,
                (Reach::Points(_), Reach::Centre) | (Reach::Centre, Reach::Points(_)) => false,
            };
            let rest = Test {
                scope: test.scope.clone(),
                ..part.clone()
            };
            within && rest == *test
        }
        (part, act) => part == act,
    }
}

/// The other person an act names.
const fn other_person(act: &Asked) -> Option<PersonId> {
    match act {
        Asked::TestBegin(test) => test.partner,
        Asked::Bypass(bypass) => bypass.second,
        Asked::Acknowledge { .. }
        | Asked::Reset { .. }
        | Asked::TestEnd { .. }
        | Asked::Expected { .. }
        | Asked::EndBypass { .. }
        | Asked::Release { .. } => None,
    }
}

/// What a case is told of an act: one about a point that stands in it, and a door let go in its fire.
fn about(case: &Case, act: &Asked, command: &Command) -> Vec<Command> {
    let is_of_fire = matches!(act, Asked::Release { .. }) && case.hazard == Hazard::Fire;
    let stands = point_of(act).is_some_and(|point| {
        let mut lines = case.lines.iter();
        lines.any(|line| line.source.as_ref() == Some(point))
    });
    let tells = stands || is_of_fire;
    tells.then(|| command.clone()).into_iter().collect()
}
