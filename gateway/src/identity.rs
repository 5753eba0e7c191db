//! Who the box is and whom it trusts: the files `antuo-cloud provision` made.
//!
//! Owns reading them. A key file that others can read is used and complained about: a box that refuses to
//! start protects nobody.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::id::GatewayId;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::parse_x509_certificate;

/// What the files say.
#[derive(Debug)]
pub struct Identity {
    /// The box, as its certificate names it.
    pub gateway: GatewayId,
    /// Its certificate, with whatever chain it came with.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
    /// The CAs the cloud may be signed by.
    pub authorities: RootCertStore,
    /// The Ed25519 key Configs are signed with.
    pub config_signing: [u8; 32],
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It cannot be read.
    #[error("{path} cannot be read; `antuo-cloud provision` makes it")]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's complaint.
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("{path} does not hold {wanted}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
}

impl Identity {
    /// Reads `box.pem`, `box.key`, `ca.pem` and `config-signing.pub` of the folder.
    ///
    /// # Errors
    /// Names the file and what it should hold.
    pub fn read(folder: &Path) -> Result<Self, IdentityError> {
        let certificates = read_certificates(&folder.join("box.pem"))?;
        let gateway = certificates.first().and_then(named).ok_or_else(|| {
            unreadable(
                folder.join("box.pem"),
                "a certificate whose common name is the gateway's id",
            )
        })?;
        let key_path = folder.join("box.key");
        complain_if_open(&key_path);
        let key = PrivateKeyDer::from_pem_slice(&read(&key_path)?)
            .map_err(|_| unreadable(key_path, "a private key (PEM)"))?;
        let ca_path = folder.join("ca.pem");
        let mut authorities = RootCertStore::empty();
        for certificate in read_certificates(&ca_path)? {
            authorities
                .add(certificate)
                .map_err(|_| unreadable(ca_path.clone(), "CA certificates (PEM)"))?;
        }
        let signing_path = folder.join("config-signing.pub");
        let text = read(&signing_path)?;
        let config_signing = STANDARD
            .decode(text.trim_ascii())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| unreadable(signing_path, "an Ed25519 public key (base64)"))?;
        Ok(Self {
            gateway,
            certificates,
            key,
            authorities,
            config_signing,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    fs::read(path).map_err(|source| IdentityError::Read {
        path: path.to_owned(),
        source,
    })
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| unreadable(path.to_owned(), "certificates (PEM)"))
}

fn unreadable(path: PathBuf, wanted: &'static str) -> IdentityError {
    IdentityError::Unreadable { path, wanted }
}

/// The gateway a certificate is for: its subject's common name (D10: the key decides, the name tells).
fn named(certificate: &CertificateDer<'_>) -> Option<GatewayId> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?;
    name.as_str().ok()?.parse().ok()
}

/// Says so if others can read a key.
pub(crate) fn complain_if_open(path: &Path) {
    let mode = fs::metadata(path).map(|meta| meta.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o077 != 0) {
        tracing::warn!(file = %path.display(), "others can read this key; it should have mode 0600");
    }
}
