//! Passwords people choose, under Argon2id (RFC 9106) with the crate's defaults (19 MiB, 2 passes).
//!
//! Owns the one queue in front of the hashing, since each check takes a core and 19 MiB. Never keeps
//! a password.

use std::net::IpAddr;
use std::sync::Arc;

use ambient::Entropy;
use argon2::Argon2;
use argon2::password_hash::{Error, PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use tokio::sync::Semaphore;

use crate::quota::{Quota, whose};

/// Passwords checked at once; further ones wait.
const AT_ONCE: usize = 2;
/// Checks waiting or running; at it a log-in is refused as [`PasswordError::Busy`].
const WAITING_MAX: usize = 32;
/// Checks waiting or running of one address (see [`whose`]); at it a log-in from there is refused the same way.
const WAITING_EACH: usize = 4;
/// Longest password, in bytes. A longer one fits nothing.
pub const PASSWORD_MAX: usize = 1_024;

/// Why a password could not be checked or hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too many at once.
    #[error("too many password checks at once")]
    Busy,
    /// The stored hash is no Argon2 hash.
    #[error("the stored hash cannot be read")]
    Unreadable,
    /// The hashing task died.
    #[error("the check died")]
    Died,
    /// No randomness for a salt.
    #[error("the operating system gave no randomness")]
    NoEntropy,
}

/// The queue in front of the hashing.
#[derive(Clone)]
pub struct Passwords {
    at_once: Arc<Semaphore>,
    waiting: Quota<IpAddr>,
    nobodys: Arc<str>,
}

impl Passwords {
    /// Makes the hash that unknown names are checked against, so that they take as long.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new(entropy: &Entropy) -> Result<Self, PasswordError> {
        let chance: [u8; 16] = entropy.bytes().map_err(|_| PasswordError::NoEntropy)?;
        let nobodys = hash_password(&domain::digest::to_hex(&chance), entropy)?;
        Ok(Self {
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Quota::new(WAITING_MAX, WAITING_EACH),
            nobodys: nobodys.into(),
        })
    }

    /// Whether the password is the one of that hash; without a hash never, after the same work.
    ///
    /// # Errors
    /// When too many wait, or the hash cannot be read.
    pub async fn check(
        &self,
        from: IpAddr,
        hash: Option<String>,
        password: String,
    ) -> Result<bool, PasswordError> {
        let place = self.waiting.take(Some(whose(from)));
        let place = place.ok_or(PasswordError::Busy)?;
        let turn = self.at_once.clone().acquire_owned().await;
        let turn = turn.map_err(|_| PasswordError::Died)?;
        let nobodys = Arc::clone(&self.nobodys);
        tokio::task::spawn_blocking(move || {
            // Turn and place end with the work, not with a caller that went away.
            let _held = (turn, place);
            match hash {
                Some(hash) => is_password_of(&hash, &password),
                None => is_password_of(&nobodys, &password).map(|_| false),
            }
        })
        .await
        .map_err(|_| PasswordError::Died)?
    }
}

/// Whether the password is the one of that hash. Takes tens of milliseconds of a core.
///
/// # Errors
/// When the hash cannot be read.
pub fn is_password_of(hash: &str, password: &str) -> Result<bool, PasswordError> {
    let hash = PasswordHash::new(hash).map_err(|_| PasswordError::Unreadable)?;
    if password.len() > PASSWORD_MAX {
        return Ok(false);
    }
    match Argon2::default().verify_password(password.as_bytes(), &hash) {
        Ok(()) => Ok(true),
        Err(Error::Password) => Ok(false),
        Err(_) => Err(PasswordError::Unreadable),
    }
}

/// The hash of a password, as a PHC string.
///
/// # Errors
/// When there is no randomness for the salt.
pub fn hash_password(password: &str, entropy: &Entropy) -> Result<String, PasswordError> {
    let chance: [u8; 16] = entropy.bytes().map_err(|_| PasswordError::NoEntropy)?;
    let salt = SaltString::encode_b64(&chance).map_err(|_| PasswordError::NoEntropy)?;
    Argon2::default()
        .hash_password(password.as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(|_| PasswordError::Unreadable)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn only_the_right_password_fits_and_nobody_has_one() {
        let entropy = Entropy::seeded(1);
        let hash = hash_password("right", &entropy).unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let passwords = Passwords::new(&entropy).unwrap();
        let check = |hash: Option<&String>, word: &str| {
            passwords.check(HOME, hash.cloned(), word.to_owned())
        };
        assert_eq!(check(Some(&hash), "right").await, Ok(true));
        assert_eq!(check(Some(&hash), "wrong").await, Ok(false));
        assert_eq!(check(None, "right").await, Ok(false));
        let odd = "plain".to_owned();
        assert_eq!(
            check(Some(&odd), "plain").await,
            Err(PasswordError::Unreadable)
        );
    }

    #[tokio::test]
    async fn a_flood_of_log_ins_is_refused_not_queued() {
        let passwords = Passwords::new(&Entropy::seeded(1)).unwrap();
        let check = |from| passwords.check(from, None, "x".into());
        let take = |from| passwords.waiting.take(Some(from)).unwrap();
        let _four = [0; WAITING_EACH].map(|_| take(HOME));
        assert_eq!(check(HOME).await, Err(PasswordError::Busy));
        let away = |n: usize| IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(n).unwrap()));
        assert_eq!(check(away(0)).await, Ok(false));
        let rest = (WAITING_EACH..WAITING_MAX).map(|n| take(away(n)));
        let _rest = rest.collect::<Vec<_>>();
        assert_eq!(check(away(0)).await, Err(PasswordError::Busy));
    }
}
