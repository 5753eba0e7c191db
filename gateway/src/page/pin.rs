//! Checks PINs, one at a time, since each check takes a core and 19 MiB; and knows again the devices that
//! people logged in on before.
//!
//! Never keeps a PIN. A device is known by a cookie only this box can have made, good for one person and PIN.

use std::sync::Arc;

use ambient::{Entropy, NoEntropy};
use argon2::Argon2;
use argon2::password_hash::{Error, PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::digest::to_hex;
use tokio::sync::Semaphore;

use super::attempts::DeviceMark;
use super::session::Who;
use crate::seal::{BoxKey, SealError};

/// Checks waiting or running from devices not known. Beyond: refused as busy.
const STRANGERS_WAITING: usize = 4;
/// The same from devices known.
const KNOWN_WAITING: usize = 8;
/// Longest PIN looked at, in bytes. A longer one fits nothing.
pub const PIN_BYTES: usize = 64;
/// What the mark of a device is sealed for.
const PURPOSE: &str = "antuo page device 1";

/// Why a PIN was not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// Too many at once.
    #[error("too many log-ins at once")]
    Busy,
    /// The hash in the Config is none.
    #[error("the PIN's hash cannot be read")]
    Unreadable,
    /// The check died.
    #[error("the check died")]
    Died,
}

/// The one queue in front of the checks.
pub struct Pins {
    turn: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    known: Arc<Semaphore>,
    nobodys: Arc<str>,
}

impl Pins {
    /// Makes the hash that unknown names are checked against, so that they take as long.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new(entropy: &Entropy) -> Result<Self, NoEntropy> {
        let pin = to_hex(&entropy.bytes::<16>()?);
        let salt = SaltString::encode_b64(&entropy.bytes::<16>()?).map_err(|_| NoEntropy)?;
        let hash = Argon2::default()
            .hash_password(pin.as_bytes(), &salt)
            .map_err(|_| NoEntropy)?;
        Ok(Self {
            turn: Arc::new(Semaphore::new(1)),
            strangers: Arc::new(Semaphore::new(STRANGERS_WAITING)),
            known: Arc::new(Semaphore::new(KNOWN_WAITING)),
            nobodys: hash.to_string().into(),
        })
    }

    /// Whether the PIN is the one of that hash; without a hash never, after the same work.
    ///
    /// # Errors
    /// When too many wait, or the hash cannot be read.
    pub async fn check(
        &self,
        hash: Option<String>,
        pin: String,
        device_is_known: bool,
    ) -> Result<bool, PinError> {
        let places = if device_is_known {
            &self.known
        } else {
            &self.strangers
        };
        let place = Arc::clone(places)
            .try_acquire_owned()
            .map_err(|_| PinError::Busy)?;
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let turn = turn.map_err(|_| PinError::Died)?;
        let nobodys = Arc::clone(&self.nobodys);
        tokio::task::spawn_blocking(move || {
            // Turn and place end with the work, not with a browser that went away.
            let _held = (turn, place);
            match hash {
                Some(hash) => fits(&hash, &pin),
                None => fits(&nobodys, &pin).map(|_| false),
            }
        })
        .await
        .map_err(|_| PinError::Died)?
    }
}

fn fits(hash: &str, pin: &str) -> Result<bool, PinError> {
    let hash = PasswordHash::new(hash).map_err(|_| PinError::Unreadable)?;
    match Argon2::default().verify_password(pin.as_bytes(), &hash) {
        Ok(()) => Ok(pin.len() <= PIN_BYTES),
        Err(Error::Password) => Ok(false),
        Err(_) => Err(PinError::Unreadable),
    }
}

/// A cookie by which the device is known again when that person logs in on it with the present PIN.
///
/// # Errors
/// Without randomness.
pub fn device_cookie(
    who: &Who,
    mark: DeviceMark,
    box_key: &BoxKey,
    entropy: &Entropy,
) -> Result<String, SealError> {
    let plain = [&mark[..], &device_of(who)].concat();
    let sealed = box_key.seal(PURPOSE, &plain, entropy)?;
    Ok(URL_SAFE_NO_PAD.encode(sealed))
}

/// The mark of a device that this person logged in on before.
#[must_use]
pub fn known_device(cookie: &str, who: &Who, box_key: &BoxKey) -> Option<DeviceMark> {
    let sealed = URL_SAFE_NO_PAD.decode(cookie).ok()?;
    let plain = box_key.open(PURPOSE, &sealed).ok()?;
    let (mark, of) = plain.split_at_checked(size_of::<DeviceMark>())?;
    (of == device_of(who)).then(|| mark.try_into().ok())?
}

fn device_of(who: &Who) -> Vec<u8> {
    [&who.person.0.as_bytes()[..], &who.pin_mark()].concat()
}
