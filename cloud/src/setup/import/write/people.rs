//! The people of an import: sealed names, log-ins, and what each may reach.

use uuid::Uuid;

use super::super::ImportError;
use super::super::document::{Person, Reach};
use super::{Writer, wrong};
use crate::keys::Sealed;
use crate::sql;

impl Writer<'_> {
    pub(super) async fn person(
        &mut self,
        person: &Person,
        hash: Option<&str>,
    ) -> Result<(), ImportError> {
        let of = Sealed::Person(person.id);
        let sealed = self
            .keys
            .sealing
            .seal(self.entropy, of, person.name.as_bytes())?;
        sql!(
            self.tx,
            execute,
            "insert into person (id, sealed) values ($1, $2)
             on conflict (id) do update set sealed = excluded.sealed",
            person.id.0,
            sealed.clone()
        )?;
        let Some(username) = &person.username else {
            return Ok(());
        };
        let taken = sql!(
            self.tx,
            fetch_optional as (Uuid,),
            "select person from login where username = $1 and person <> $2",
            username.as_str(),
            person.id.0
        )?;
        if taken.is_some() {
            let wanted = "must be another name: this one is somebody else's";
            return Err(wrong(&person.path, "username", wanted));
        }
        match hash {
            Some(hash) => {
                sql!(
                    self.tx,
                    execute,
                    "insert into login (person, username, password_hash) values ($1, $2, $3)
                     on conflict (person) do update set username = excluded.username,
                         password_hash = excluded.password_hash",
                    person.id.0,
                    username.as_str(),
                    hash
                )?;
            }
            None => self.rename(person, username).await?,
        }
        Ok(())
    }

    /// A log-in name without a new password: only for one who has a log-in.
    async fn rename(&mut self, person: &Person, username: &str) -> Result<(), ImportError> {
        let done = sql!(
            self.tx,
            execute,
            "update login set username = $2 where person = $1",
            person.id.0,
            username
        )?;
        if done == 0 {
            let wanted = "must be given with the first username";
            return Err(wrong(&person.path, "password", wanted));
        }
        Ok(())
    }

    pub(super) async fn grants(&mut self, person: &Person) -> Result<(), ImportError> {
        for grant in &person.grants {
            let (id, field, query, wanted) = match grant.reach {
                Reach::Child(id) => (
                    Some(id),
                    "child",
                    "select id from child where id = $1",
                    "must be a child, in a centre's list or imported before",
                ),
                Reach::WatchRoom(id) => (
                    Some(id),
                    "watch_room",
                    "select id from watch_room where id = $1",
                    "must be a watch room, in $.watch_rooms or imported before",
                ),
                Reach::Centre(id) => (
                    Some(id),
                    "centre",
                    "select id from centre where id = $1",
                    "must be a centre, in $.centres or imported before",
                ),
                Reach::Deployment => (None, "", "", ""),
            };
            if let Some(id) = id
                && !self.there(query, id).await?
            {
                return Err(wrong(&grant.path, field, wanted));
            }
            self.grant(person, grant.role, grant.reach).await?;
        }
        Ok(())
    }

    /// A grant that stands already keeps its beginning; one that was ended stands again.
    async fn grant(
        &mut self,
        person: &Person,
        role: &str,
        reach: Reach,
    ) -> Result<(), ImportError> {
        let (text, centre, child, room) = match reach {
            Reach::Child(id) => (id.to_string(), None, Some(id), None),
            Reach::WatchRoom(id) => (id.to_string(), None, None, Some(id)),
            Reach::Centre(id) => (id.to_string(), Some(id), None, None),
            Reach::Deployment => (String::new(), None, None, None),
        };
        sql!(
            self.tx,
            execute,
            "insert into role_grant (person, role, reach, centre, child, watch_room, from_at)
             values ($1, $2, $3, $4, $5, $6, $7)
             on conflict (person, role, reach) do update set until_at = null",
            person.id.0,
            role,
            text.as_str(),
            centre,
            child,
            room,
            self.now.micros()
        )?;
        Ok(())
    }
}
