//! The deployment's keys: files named in the TOML, mode 0600, made by `init`, never overwritten (D10).
//!
//! Owns the CAs, the key that signs Configs and the keys that seal what rests in the database. No key
//! ever enters the database, a log or an error.

mod authority;
mod lan;
mod sealing;
mod signing;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ambient::{Entropy, NoEntropy};

pub use authority::{Authority, Issued, fingerprint_of, first_name_of};
pub use lan::{LAN_VALIDITY, LanAuthority, LanName, NotLan};
pub use sealing::{OpenError, SealError, Sealed, SealingKeys};
pub use signing::SigningKey;

/// Where the key files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFiles {
    /// Certificate of the CA that signs gateway keys (PEM).
    pub ca: PathBuf,
    /// Its private key (PKCS #8, PEM); read only by `provision`.
    pub ca_key: PathBuf,
    /// Certificate of the CA of the centres' networks (PEM); phones install it.
    pub lan_ca: PathBuf,
    /// Its private key (PKCS #8, PEM); read only where a box's certificate for its network is made.
    pub lan_ca_key: PathBuf,
    /// Certificate of the boxes' listener (PEM).
    pub boxes_certificate: PathBuf,
    /// Its private key (PKCS #8, PEM).
    pub boxes_key: PathBuf,
    /// Ed25519 key that signs Configs (PKCS #8, PEM).
    pub config_signing: PathBuf,
    /// AES-256 keys, 64 hex digits a line; the last one seals, all open.
    pub sealing: PathBuf,
}

/// What `serve` and `import` hold in memory.
pub struct Keys {
    /// Signs Configs.
    pub signing: SigningKey,
    /// Seals and opens names and centre keys.
    pub sealing: SealingKeys,
}

/// What is wrong with a key or its file.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("key file {path} cannot be read: {source}; `init` makes it")]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's complaint.
        source: io::Error,
    },
    /// The file cannot be written; one that exists is never overwritten.
    #[error("{path} cannot be written: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// The system's complaint.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("key file {path} does not hold {wanted}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// A certificate or key pair cannot be made.
    #[error("certificate or key cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// No randomness.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

impl Keys {
    /// Reads the keys that `serve` and `import` need; the CA's private key is not among them.
    ///
    /// # Errors
    /// Names the file and what it should hold.
    pub fn read(files: &KeyFiles) -> Result<Self, KeyError> {
        Ok(Self {
            signing: SigningKey::read(&files.config_signing)?,
            sealing: SealingKeys::read(&files.sealing)?,
        })
    }
}

/// Makes every key file of a deployment. `names` are what boxes call the cloud by (DNS names or
/// addresses).
///
/// # Errors
/// When one of the files exists already or cannot be written.
pub fn make_all(files: &KeyFiles, names: &[String], entropy: &Entropy) -> Result<(), KeyError> {
    let (authority, ca_pem, ca_key_pem) = Authority::make()?;
    let server = authority.issue_server(names)?;
    write_new(&files.ca, ca_pem.as_bytes())?;
    write_new(&files.ca_key, ca_key_pem.as_bytes())?;
    lan::make(&files.lan_ca, &files.lan_ca_key)?;
    write_new(&files.boxes_certificate, server.certificate_pem.as_bytes())?;
    write_new(&files.boxes_key, server.key_pem.as_bytes())?;
    write_new(&files.config_signing, SigningKey::make()?.as_bytes())?;
    write_new(&files.sealing, SealingKeys::make(entropy)?.as_bytes())
}

/// Writes a file that did not exist, readable by its owner only, and makes it durable.
///
/// # Errors
/// When it exists or cannot be written.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        match path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|source| KeyError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Makes a folder for its owner only; one that exists is left as it is.
///
/// # Errors
/// When it cannot be made.
pub fn make_folder(path: &Path) -> Result<(), KeyError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| KeyError::Write {
            path: path.to_owned(),
            source,
        })
}

fn read_text(path: &Path) -> Result<String, KeyError> {
    fs::read_to_string(path).map_err(|source| KeyError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_for_their_owner_only_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let files = KeyFiles {
            ca: file("ca.pem"),
            ca_key: file("ca.key"),
            lan_ca: file("lan-ca.pem"),
            lan_ca_key: file("lan-ca.key"),
            boxes_certificate: file("boxes.pem"),
            boxes_key: file("boxes.key"),
            config_signing: file("config-signing.key"),
            sealing: file("sealing.keys"),
        };
        let entropy = Entropy::seeded(1);
        make_all(&files, &["localhost".into()], &entropy).unwrap();
        for entry in fs::read_dir(dir.path()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        Keys::read(&files).unwrap();
        let before = fs::read(&files.ca).unwrap();
        let again = make_all(&files, &["localhost".into()], &entropy).unwrap_err();
        assert!(again.to_string().contains("ca.pem"), "{again}");
        assert_eq!(fs::read(&files.ca).unwrap(), before);
    }
}
