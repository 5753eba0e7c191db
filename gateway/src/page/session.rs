//! Who is logged in on the page. Pure: the caller brings the time and the chance.
//!
//! Owns the log-ins, each known by the digest of its token only. A log-in is worth what the Config in force
//! says of its person at that instant; it ends with the person's rights, with another PIN, and with the box.

use std::collections::HashMap;
use std::time::Duration;

use domain::config::{LocalRole, LocalUser};
use domain::digest::Sha256;
use domain::id::PersonId;
use domain::time::ClockTrust;

use crate::site::Now;

/// A log-in that nobody touched for so long is over.
pub const IDLE: Duration = Duration::from_secs(15 * 60);
/// A log-in is over after so long, touched or not.
pub const LASTS: Duration = Duration::from_secs(12 * 3_600);
/// Log-ins at once. Beyond: the one untouched longest ends.
pub const SESSIONS: usize = 64;

/// The log-ins.
#[derive(Debug, Default)]
pub struct Sessions {
    by: HashMap<[u8; 32], Session>,
}

#[derive(Debug)]
struct Session {
    person: PersonId,
    pin: [u8; 32],
    begun: Duration,
    touched: Duration,
}

/// A person as the Config in force knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Who.
    pub person: PersonId,
    /// What they are called.
    pub short_name: String,
    /// In which capacities, each once.
    pub roles: Vec<LocalRole>,
    /// What their PIN hashes to.
    pub pin_argon2: String,
}

impl Who {
    /// The person's rights at that instant; none without one. A clock nobody vouches for ends no right.
    #[must_use]
    pub fn of(users: &[LocalUser], person: PersonId, now: &Now) -> Option<Self> {
        let dates_count = now.clock_trust != ClockTrust::Unset;
        let stands =
            |user: &&LocalUser| user.person == person && (!dates_count || user.stands_at(now.wall));
        let standing: Vec<_> = users.iter().filter(stands).collect();
        let first = standing.first()?;
        let mut roles: Vec<_> = standing.iter().map(|user| user.role).collect();
        roles.sort_unstable();
        roles.dedup();
        Some(Self {
            person,
            short_name: first.short_name.clone(),
            roles,
            pin_argon2: first.pin_argon2.clone(),
        })
    }

    /// Whoever that name is; none when it is nobody's, or more than one person's.
    #[must_use]
    pub fn named(users: &[LocalUser], name: &str, now: &Now) -> Option<Self> {
        let folded = LocalUser::folded(name);
        let mut same = users
            .iter()
            .filter(|user| LocalUser::folded(&user.short_name) == folded);
        let person = same.next()?.person;
        if same.any(|user| user.person != person) {
            return None;
        }
        Self::of(users, person, now)
    }

    /// Whether they act in one of these capacities.
    #[must_use]
    pub fn is_any(&self, roles: &[LocalRole]) -> bool {
        self.roles.iter().any(|role| roles.contains(role))
    }

    /// What changes when the PIN does.
    #[must_use]
    pub fn pin_mark(&self) -> [u8; 32] {
        Sha256::of(&[b"pin\0", self.pin_argon2.as_bytes()]).0
    }
}

fn key(token: &str) -> [u8; 32] {
    Sha256::of(&[b"page session\0", token.as_bytes()]).0
}

impl Sessions {
    /// Begins a log-in under a token nobody else has.
    pub fn begin(&mut self, token: &str, who: &Who, now: Duration) {
        self.by.retain(|_, session| session.lasts(now));
        if self.by.len() >= SESSIONS {
            let idlest = self.by.iter().min_by_key(|(_, session)| session.touched);
            if let Some(idlest) = idlest.map(|(key, _)| *key) {
                self.by.remove(&idlest);
            }
        }
        let session = Session {
            person: who.person,
            pin: who.pin_mark(),
            begun: now,
            touched: now,
        };
        self.by.insert(key(token), session);
    }

    /// Whose log-in this is; none when it is over. A page that only looks by itself does not touch it.
    pub fn whose(
        &mut self,
        token: &str,
        users: &[LocalUser],
        now: &Now,
        touches: bool,
    ) -> Option<Who> {
        let key = key(token);
        let session = self.by.get_mut(&key)?;
        let who = Who::of(users, session.person, now)
            .filter(|who| who.pin_mark() == session.pin && session.lasts(now.monotonic));
        match who {
            Some(_) if touches => session.touched = now.monotonic,
            Some(_) => {}
            None => {
                self.by.remove(&key);
            }
        }
        who
    }

    /// Ends a log-in.
    pub fn end(&mut self, token: &str) {
        self.by.remove(&key(token));
    }
}

impl Session {
    fn lasts(&self, now: Duration) -> bool {
        now.saturating_sub(self.touched) < IDLE && now.saturating_sub(self.begun) < LASTS
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::box_clock;
    use domain::time::Timestamp;
    use uuid::Uuid;

    fn user(person: u128, role: LocalRole, name: &str) -> LocalUser {
        LocalUser {
            person: PersonId(Uuid::from_u128(person)),
            role,
            short_name: name.into(),
            pin_argon2: format!("hash of {person}"),
            until: None,
        }
    }

    fn later(now: &Now, span: Duration) -> Now {
        Now {
            wall: now.wall.after(span),
            monotonic: now.monotonic + span,
            ..*now
        }
    }

    #[test]
    fn a_log_in_ends_when_nobody_touches_it_and_after_half_a_day() {
        let now = box_clock().now();
        let users = [user(1, LocalRole::Carer, "li")];
        let who = Who::named(&users, " LI ", &now).unwrap();
        let mut sessions = Sessions::default();
        sessions.begin("token", &who, now.monotonic);
        assert!(sessions.whose("other", &users, &now, true).is_none());
        let almost = later(&now, IDLE - Duration::from_secs(1));
        assert!(sessions.whose("token", &users, &almost, false).is_some());
        let over = later(&now, IDLE);
        assert!(sessions.whose("token", &users, &over, true).is_none());
        sessions.begin("token", &who, now.monotonic);
        let minute = Duration::from_secs(60);
        for n in 1..720 {
            let touched = sessions.whose("token", &users, &later(&now, minute * n), true);
            assert!(touched.is_some(), "minute {n}");
        }
        let over = later(&now, LASTS);
        assert!(sessions.whose("token", &users, &over, true).is_none());
    }

    #[test]
    fn it_ends_with_the_right_and_with_the_pin_and_follows_the_roles() {
        let now = box_clock().now();
        let mut users = vec![
            user(1, LocalRole::Carer, "li"),
            user(1, LocalRole::Director, "li"),
        ];
        let who = Who::named(&users, "li", &now).unwrap();
        let mut sessions = Sessions::default();
        sessions.begin("token", &who, now.monotonic);
        users.remove(1);
        let roles = sessions.whose("token", &users, &now, true).unwrap().roles;
        assert_eq!(roles, [LocalRole::Carer]);
        let mut changed = users.clone();
        changed[0].pin_argon2 = "another".into();
        assert!(sessions.whose("token", &changed, &now, true).is_none());
        assert!(
            sessions.whose("token", &users, &now, true).is_none(),
            "it stays over"
        );
        sessions.begin("token", &who, now.monotonic);
        assert!(sessions.whose("token", &[], &now, true).is_none());
    }

    #[test]
    fn a_right_with_an_end_ends_unless_nobody_vouches_for_the_clock() {
        let now = box_clock().now();
        let mut users = [user(1, LocalRole::Installer, "an")];
        users[0].until = Some(now.wall);
        assert!(Who::named(&users, "an", &now).is_none());
        let unset = Now {
            clock_trust: ClockTrust::Unset,
            wall: Timestamp::from_micros(i64::MAX / 2),
            ..now
        };
        assert!(Who::named(&users, "an", &unset).is_some());
    }

    #[test]
    fn a_name_of_two_people_is_nobodys_and_log_ins_are_bounded() {
        let now = box_clock().now();
        let users = [
            user(1, LocalRole::Carer, "li"),
            user(2, LocalRole::Carer, "Li"),
        ];
        assert!(Who::named(&users, "li", &now).is_none());
        let who = Who::named(&users[..1], "li", &now).unwrap();
        let mut sessions = Sessions::default();
        for n in 0..=SESSIONS {
            sessions.begin(
                &n.to_string(),
                &who,
                now.monotonic + Duration::from_secs(n as u64),
            );
        }
        let now = later(&now, Duration::from_secs(100));
        assert!(sessions.whose("0", &users, &now, true).is_none());
        assert!(sessions.whose("1", &users, &now, true).is_some());
        assert_eq!(sessions.by.len(), SESSIONS);
    }
}
