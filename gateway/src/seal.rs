//! The box's own key, and what it seals: the Config at rest, with the children's names in it (D2, D8), and the
//! MQTT server's memory (`intake::memory`).
//!
//! Suite `s1`: AES-256-GCM. A sealed value names suite and key. The key is a file beside the store, mode
//! 0600: a stolen disk can be read, and SECURITY.md says so (D10).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ambient::{Entropy, NoEntropy};
use domain::digest::{SUITE, Sha256, from_hex_32, to_hex};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Name of the key's file in the data directory.
pub const FILE: &str = "box-seal.key";
/// Bytes of the key's digest that name it.
const NAME_LEN: usize = 8;

/// What a Config of that version is sealed for.
#[must_use]
pub fn config_purpose(version: u64) -> String {
    format!("antuo config {version}")
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum BoxKeyError {
    /// The file cannot be read or made.
    #[error("{path} cannot be read or made")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's complaint.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{0} does not hold 64 hex digits")]
    Unreadable(PathBuf),
    /// No randomness to make one.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

/// Why a value cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// No randomness for the nonce.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// Longer than the cipher takes.
    #[error("too long to seal")]
    TooLong,
}

/// Why a sealed value cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not one of ours, or of a suite this program does not know.
    #[error("unknown suite")]
    UnknownSuite,
    /// Sealed with another key.
    #[error("sealed with another key")]
    OtherKey,
    /// Changed since it was sealed, or not for this purpose.
    #[error("damaged")]
    Damaged,
}

/// The key.
pub struct BoxKey {
    key: LessSafeKey,
    name: [u8; NAME_LEN],
}

impl std::fmt::Debug for BoxKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BoxKey({})", to_hex(&self.name))
    }
}

impl BoxKey {
    /// Reads the key of the data directory, or makes one at the first start.
    ///
    /// # Errors
    /// Names the file.
    pub fn read_or_make(directory: &Path, entropy: &Entropy) -> Result<Self, BoxKeyError> {
        if let Some(key) = Self::read(directory)? {
            return Ok(key);
        }
        let path = directory.join(FILE);
        let text = to_hex(&entropy.bytes::<32>()?);
        match write_durably(directory, &path, text.as_bytes()) {
            Ok(()) => Self::from_text(&text, path),
            Err(source) => Err(BoxKeyError::File { path, source }),
        }
    }

    /// Reads the key of the data directory; none before the first start.
    ///
    /// # Errors
    /// Names the file.
    pub fn read(directory: &Path) -> Result<Option<Self>, BoxKeyError> {
        let path = directory.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Self::from_text(&text, path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(BoxKeyError::File { path, source }),
        }
    }

    fn from_text(text: &str, path: PathBuf) -> Result<Self, BoxKeyError> {
        let bytes = from_hex_32(text.trim()).ok();
        bytes
            .and_then(|bytes| Self::new(&bytes))
            .ok_or(BoxKeyError::Unreadable(path))
    }

    fn new(bytes: &[u8; 32]) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).ok()?);
        let mut name = [0; NAME_LEN];
        name.copy_from_slice(&Sha256::of(&[b"antuo box key", bytes]).0[..NAME_LEN]);
        Some(Self { key, name })
    }

    /// Seals `plain` for one purpose; it opens for no other.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn seal(
        &self,
        purpose: &str,
        plain: &[u8],
        entropy: &Entropy,
    ) -> Result<Vec<u8>, SealError> {
        let nonce = entropy.bytes::<NONCE_LEN>()?;
        let mut body = plain.to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(purpose.as_bytes()),
                &mut body,
            )
            .map_err(|_| SealError::TooLong)?;
        Ok([SUITE.as_bytes(), &self.name, &nonce, &body].concat())
    }

    /// Opens what [`Self::seal`] made for the same purpose.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let rest = sealed
            .strip_prefix(SUITE.as_bytes())
            .ok_or(OpenError::UnknownSuite)?;
        let (name, rest) = rest
            .split_first_chunk::<NAME_LEN>()
            .ok_or(OpenError::Damaged)?;
        if *name != self.name {
            return Err(OpenError::OtherKey);
        }
        let (nonce, body) = rest
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(OpenError::Damaged)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut body = body.to_vec();
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(purpose.as_bytes()), &mut body);
        plain
            .map(|plain| plain.to_vec())
            .map_err(|_| OpenError::Damaged)
    }
}

/// A power cut leaves the whole file or none.
fn write_durably(directory: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::testing::Scratch;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_key_is_made_once_for_its_owner_only() {
        let scratch = Scratch::new();
        let entropy = Entropy::seeded(1);
        let made = BoxKey::read_or_make(scratch.path(), &entropy).unwrap();
        let sealed = made.seal("config 1", b"name", &entropy).unwrap();
        let mode = fs::metadata(scratch.path().join(FILE)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        let read = BoxKey::read_or_make(scratch.path(), &entropy).unwrap();
        assert_eq!(read.open("config 1", &sealed).unwrap(), b"name");
        fs::write(scratch.path().join(FILE), "short").unwrap();
        let refused = BoxKey::read_or_make(scratch.path(), &entropy);
        assert!(matches!(refused, Err(BoxKeyError::Unreadable(_))));
    }

    #[test]
    fn what_was_touched_or_meant_for_something_else_does_not_open() {
        let entropy = Entropy::seeded(1);
        let key = BoxKey::new(&[7; 32]).unwrap();
        let sealed = key.seal("config 1", b"name", &entropy).unwrap();
        assert!(!sealed.windows(4).any(|part| part == b"name"));
        assert_ne!(sealed, key.seal("config 1", b"name", &entropy).unwrap());
        assert_eq!(key.open("config 2", &sealed), Err(OpenError::Damaged));
        let other = BoxKey::new(&[8; 32]).unwrap();
        assert_eq!(other.open("config 1", &sealed), Err(OpenError::OtherKey));
        assert_eq!(key.open("config 1", b"s9xx"), Err(OpenError::UnknownSuite));
        for at in 0..sealed.len() {
            let mut touched = sealed.clone();
            touched[at] ^= 1;
            assert!(key.open("config 1", &touched).is_err(), "{at}");
            assert!(key.open("config 1", &sealed[..at]).is_err(), "{at}");
        }
    }
}
