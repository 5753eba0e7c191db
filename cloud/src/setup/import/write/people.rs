//! The people of an import: sealed names, log-ins, and what each may reach.

use std::time::Duration;

use uuid::Uuid;

use super::super::ImportError;
use super::super::document::{Grant, Person, Reach};
use super::{Writer, wrong};
use crate::keys::Sealed;
use crate::sql;

/// How long an installer's right lasts (D1). After it the person must be given it anew.
const INSTALLER_FOR: Duration = Duration::from_secs(7 * 86_400);

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
                self.end_sessions(person).await?;
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

    /// The log-in on the page of a box.
    pub(super) async fn box_login(
        &mut self,
        person: &Person,
        pin: Option<&str>,
    ) -> Result<(), ImportError> {
        let Some(name) = &person.box_name else {
            return Ok(());
        };
        let of = Sealed::BoxName(person.id);
        let sealed = self.keys.sealing.seal(self.entropy, of, name.as_bytes())?;
        let done = match pin {
            Some(pin) => sql!(
                self.tx,
                execute,
                "insert into box_login (person, sealed, pin_argon2) values ($1, $2, $3)
                 on conflict (person) do update set sealed = excluded.sealed,
                     pin_argon2 = excluded.pin_argon2",
                person.id.0,
                sealed.clone(),
                pin
            )?,
            None => sql!(
                self.tx,
                execute,
                "update box_login set sealed = $2 where person = $1",
                person.id.0,
                sealed.clone()
            )?,
        };
        if done == 0 {
            let wanted = "must be given with the first box_name";
            return Err(wrong(&person.path, "box_pin", wanted));
        }
        Ok(())
    }

    /// Whoever came in by the old password is out.
    async fn end_sessions(&mut self, person: &Person) -> Result<(), ImportError> {
        sql!(
            self.tx,
            execute,
            "delete from session where person = $1",
            person.id.0
        )?;
        Ok(())
    }

    /// The person's grants are those listed: whatever else still stands ends now.
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
            self.grant(person, grant).await?;
        }
        self.end_unlisted(person).await
    }

    async fn end_unlisted(&mut self, person: &Person) -> Result<(), ImportError> {
        let standing = sql!(
            self.tx,
            fetch_all as (String, String),
            "select role, reach from role_grant
             where person = $1 and (until_at is null or until_at > $2)",
            person.id.0,
            self.now.micros()
        )?;
        let listed = |role: &str, reach: &str| {
            let same = |grant: &Grant| grant.role == role && grant.reach.text() == reach;
            person.grants.iter().any(same)
        };
        for (role, reach) in standing {
            if listed(&role, &reach) {
                continue;
            }
            sql!(
                self.tx,
                execute,
                "update role_grant set until_at = $4
                 where person = $1 and role = $2 and reach = $3",
                person.id.0,
                role.as_str(),
                reach.as_str(),
                self.now.micros()
            )?;
        }
        Ok(())
    }

    /// A grant that stands already keeps its beginning, an installer's its end too; one that was ended
    /// begins anew.
    async fn grant(&mut self, person: &Person, grant: &Grant) -> Result<(), ImportError> {
        let (centre, child, room) = match grant.reach {
            Reach::Child(id) => (None, Some(id), None),
            Reach::WatchRoom(id) => (None, None, Some(id)),
            Reach::Centre(id) => (Some(id), None, None),
            Reach::Deployment => (None, None, None),
        };
        let until = (grant.role == "installer").then(|| self.now.after(INSTALLER_FOR).micros());
        sql!(
            self.tx,
            execute,
            "insert into role_grant (person, role, reach, centre, child, watch_room, from_at, until_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8)
             on conflict (person, role, reach) do update set
                 until_at = case when excluded.until_at is not null
                     and role_grant.until_at > excluded.from_at
                     then role_grant.until_at else excluded.until_at end,
                 from_at = case when role_grant.until_at <= excluded.from_at
                     then excluded.from_at else role_grant.from_at end",
            person.id.0,
            grant.role,
            grant.reach.text(),
            centre,
            child,
            room,
            self.now.micros(),
            until
        )?;
        Ok(())
    }
}
