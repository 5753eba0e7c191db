//! Who may see and do what: the one way to a row (D1).
//!
//! A [`Scope`] is proof of a right at an instant. Every SQL function of a capability takes one and
//! binds it in its `where`. People's scopes are built here from a session; a worker's only by the
//! engine once it holds the lock and by ingest for the certificate's centre (`tests/tidy.rs` lists
//! those call sites). Rights are read from `role_grant` at each request, so a revocation acts at
//! once. Never stores a token or a password, only what they hash to.

mod lockout;
mod password;
mod pin;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ambient::{Clock, Entropy, NoEntropy};
use domain::digest::{Sha256, to_hex};
use domain::id::{CentreId, PersonId};
use domain::time::Timestamp;
use uuid::Uuid;

use crate::db::{Db, DbError, Tx, Urgency, unhurt};
use crate::sql;
use lockout::Lockout;
pub use password::{PASSWORD_MAX, PasswordError, Passwords, hash_password, is_password_of};
pub use pin::{PIN_MAX, PIN_MIN, PinFault, check_pin};

/// How long a log-in lasts. After it the session is as if it never was.
pub const SESSION_LASTS: Duration = Duration::from_secs(12 * 3_600);
/// Longest user name, in bytes. A longer one is refused like a wrong one.
pub const USERNAME_MAX: usize = 128;

/// Proof of what its bearer may reach.
#[derive(Clone, Debug)]
pub struct Scope(Reach);

#[derive(Clone, Debug)]
enum Reach {
    Worker { centre: CentreId },
    Person { person: PersonId, role: Role },
}

/// In which capacity a person acts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Sees own children.
    Guardian,
    /// Watches the centres of a watch room.
    Operator,
    /// Runs the deployment; sees no child, guardian or picture.
    Admin,
}

impl Scope {
    /// The scope of our own work on one centre.
    #[must_use]
    pub fn worker(centre: CentreId) -> Self {
        Self(Reach::Worker { centre })
    }

    /// The person who acts; none for our own work.
    #[must_use]
    pub fn person(&self) -> Option<PersonId> {
        match self.0 {
            Reach::Worker { .. } => None,
            Reach::Person { person, .. } => Some(person),
        }
    }

    /// The person, if they act in that capacity: what a query binds. A scope of another kind gives
    /// nobody, and the query then finds nothing.
    #[must_use]
    pub fn acting_as(&self, wanted: Role) -> Option<Uuid> {
        match self.0 {
            Reach::Worker { .. } => None,
            Reach::Person { person, role } => (role == wanted).then_some(person.0),
        }
    }

    /// The centre of our own work; none for a person.
    #[must_use]
    pub fn own_centre(&self) -> Option<Uuid> {
        match self.0 {
            Reach::Worker { centre } => Some(centre.0),
            Reach::Person { .. } => None,
        }
    }
}

/// Whether the scope reaches the cases of a centre at that instant: our own work on it, or an
/// operator or shift lead of its watch room. For use inside the transaction that acts on it.
///
/// # Errors
/// When the store fails.
pub async fn watches(
    tx: &mut Tx,
    scope: &Scope,
    centre: CentreId,
    now: Timestamp,
) -> Result<bool, DbError> {
    if let Some(own) = scope.own_centre() {
        return Ok(own == centre.0);
    }
    let found = sql!(
        tx,
        fetch_optional as (Uuid,),
        "select c.id from centre c join role_grant g on g.watch_room = c.watch_room
         where c.id = $1 and g.person = $2 and g.role in ('operator', 'shift_lead')
           and g.from_at <= $3 and (g.until_at is null or g.until_at > $3)",
        centre.0,
        scope.acting_as(Role::Operator),
        now.micros()
    )?;
    Ok(found.is_some())
}

/// What a browser or app holds after a log-in.
pub struct LoggedIn {
    /// The secret, shown once; only its hash is stored.
    pub token: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Whose it is.
    pub person: PersonId,
    /// The words of the roles granted at this instant, sorted.
    pub roles: Vec<String>,
}

/// Why nobody was logged in.
#[derive(Debug, thiserror::Error)]
pub enum LogInError {
    /// No such name with that password; never says which.
    #[error("user name and password do not fit")]
    Wrong,
    /// Too many failures from this address for this name.
    #[error("too many failed log-ins; locked for {} s", .0.as_secs())]
    Locked(Duration),
    /// Too many log-ins are being checked.
    #[error("too many log-ins at once")]
    Busy,
    /// A stored hash cannot be read, or hashing died.
    #[error("password check failed: {0}")]
    Password(PasswordError),
    /// No randomness for a token.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// The store failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<PasswordError> for LogInError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::Busy,
            PasswordError::Unreadable | PasswordError::Died | PasswordError::NoEntropy => {
                Self::Password(error)
            }
        }
    }
}

/// A living log-in, as its token's hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionKey(Sha256);

impl SessionKey {
    /// The key of a token as a client sent it.
    #[must_use]
    pub fn of_token(token: &str) -> Self {
        Self(Sha256::of(&[token.as_bytes()]))
    }
}

/// What a session may do in a capacity, looked up at this instant.
#[derive(Debug)]
pub enum Standing {
    /// No such session, or it is over.
    Nobody,
    /// Logged in, without a grant for this.
    NotGranted,
    /// Granted.
    May(Scope),
}

/// The door people come in by.
#[derive(Clone)]
pub struct Access {
    db: Db,
    clock: Clock,
    entropy: Entropy,
    passwords: Passwords,
    lockout: Arc<Mutex<Lockout>>,
}

impl Access {
    /// The door over a store.
    ///
    /// # Errors
    /// When there is no randomness for the hash that unknown names are checked against.
    pub fn new(db: Db, clock: Clock, entropy: Entropy) -> Result<Self, PasswordError> {
        let secret = entropy.bytes().map_err(|_| PasswordError::NoEntropy)?;
        Ok(Self {
            passwords: Passwords::new(&entropy)?,
            lockout: Arc::new(Mutex::new(Lockout::new(&secret))),
            db,
            clock,
            entropy,
        })
    }

    /// Checks a name and password and opens a session. Takes as long for an unknown name as for a
    /// known one.
    ///
    /// # Errors
    /// As [`LogInError`] says; a password that does not fit counts against name and address.
    pub async fn log_in(
        &self,
        username: &str,
        password: String,
        from: IpAddr,
    ) -> Result<LoggedIn, LogInError> {
        if username.len() > USERNAME_MAX {
            return Err(LogInError::Wrong);
        }
        let begun = self
            .lockout()
            .begin(username, from, self.clock.monotonic())
            .map_err(LogInError::Locked)?;
        // Whoever goes away during the check has tried all the same.
        let checked = self.check(username, password, from).await;
        match &checked {
            Ok(Some(_)) => self.lockout().succeeded(begun),
            Ok(None) => {}
            Err(_) => self.lockout().came_to_nothing(begun),
        }
        let person = checked?.ok_or(LogInError::Wrong)?;
        self.open_session(person).await
    }

    /// The person of that name, if it is their password.
    async fn check(
        &self,
        username: &str,
        password: String,
        from: IpAddr,
    ) -> Result<Option<Uuid>, LogInError> {
        let known = self.login_of(username).await?;
        let (person, hash) = known.unzip();
        let fits = self.passwords.check(from, hash, password).await?;
        Ok(person.filter(|_| fits))
    }

    fn lockout(&self) -> std::sync::MutexGuard<'_, Lockout> {
        self.lockout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn login_of(&self, username: &str) -> Result<Option<(Uuid, String)>, DbError> {
        let mut tx = self.db.read().await?;
        Ok(sql!(
            &mut tx,
            fetch_optional as (Uuid, String),
            "select person, password_hash from login where username = $1",
            username
        )?)
    }

    async fn open_session(&self, person: Uuid) -> Result<LoggedIn, LogInError> {
        let token = to_hex(&self.entropy.bytes::<32>()?);
        let SessionKey(hash) = SessionKey::of_token(&token);
        let now = self.clock.now();
        let expires_at = now.after(SESSION_LASTS);
        let db = self.db.clone();
        let roles = unhurt(async move {
            let mut write = db.write(Urgency::Other).await?;
            let tx = write.tx();
            sql!(
                tx,
                execute,
                "delete from session where expires_at <= $1",
                now.micros()
            )?;
            sql!(
                tx,
                execute,
                "insert into session (token_hash, person, created_at, expires_at)
                 values ($1, $2, $3, $4)",
                hash.0.to_vec(),
                person,
                now.micros(),
                expires_at.micros()
            )?;
            let roles = roles_of(tx, person, now).await?;
            write.commit().await?;
            Ok::<_, DbError>(roles)
        })
        .await??;
        Ok(LoggedIn {
            token,
            expires_at,
            person: PersonId(person),
            roles,
        })
    }

    /// Ends a session; one that is over already is no error.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn log_out(&self, session: SessionKey) -> Result<(), DbError> {
        let db = self.db.clone();
        unhurt(async move {
            let mut write = db.write(Urgency::Other).await?;
            sql!(
                write.tx(),
                execute,
                "delete from session where token_hash = $1",
                session.0.0.to_vec()
            )?;
            write.commit().await
        })
        .await?
    }

    /// Whose session it is, if it lives.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn person_of(&self, session: SessionKey) -> Result<Option<PersonId>, DbError> {
        let mut tx = self.db.read().await?;
        let row = sql!(
            &mut tx,
            fetch_optional as (Uuid,),
            "select person from session where token_hash = $1 and expires_at > $2",
            session.0.0.to_vec(),
            self.clock.now().micros()
        )?;
        Ok(row.map(|(person,)| PersonId(person)))
    }

    /// What the session may do in that capacity now. Streams ask again before each send.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn standing(&self, session: SessionKey, role: Role) -> Result<Standing, DbError> {
        let mut tx = self.db.read().await?;
        let row = sql!(
            &mut tx,
            fetch_optional as (Uuid, bool),
            standing_query(role),
            session.0.0.to_vec(),
            self.clock.now().micros()
        )?;
        Ok(match row {
            None => Standing::Nobody,
            Some((_, false)) => Standing::NotGranted,
            Some((person, true)) => Standing::May(Scope(Reach::Person {
                person: PersonId(person),
                role,
            })),
        })
    }

    /// How many sessions live now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sessions(&self) -> Result<i64, DbError> {
        let mut tx = self.db.read().await?;
        let (count,) = sql!(
            &mut tx,
            fetch_one as (i64,),
            "select count(*) from session where expires_at > $1",
            self.clock.now().micros()
        )?;
        Ok(count)
    }
}

const fn standing_query(role: Role) -> &'static str {
    macro_rules! query {
        ($roles:literal) => {
            concat!(
                "select s.person, exists (select 1 from role_grant g
                    where g.person = s.person and g.role in (",
                $roles,
                ") and g.from_at <= $2 and (g.until_at is null or g.until_at > $2))
                 from session s where s.token_hash = $1 and s.expires_at > $2"
            )
        };
    }
    match role {
        Role::Guardian => query!("'guardian'"),
        Role::Operator => query!("'operator', 'shift_lead'"),
        Role::Admin => query!("'admin'"),
    }
}

async fn roles_of(tx: &mut Tx, person: Uuid, now: Timestamp) -> Result<Vec<String>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as (String,),
        "select distinct role from role_grant
         where person = $1 and from_at <= $2 and (until_at is null or until_at > $2)
         order by role",
        person,
        now.micros()
    )?;
    Ok(rows.into_iter().map(|(role,)| role).collect())
}
