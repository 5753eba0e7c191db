//! The box's own certificate for its centre's network: what its TLS listeners show to devices and phones.
//!
//! Owns reading the two files. It has nothing to do with the box's key towards the cloud, and asks no client
//! for a certificate: whoever connects logs in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use domain::time::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use x509_parser::parse_x509_certificate;

use crate::identity::complain_if_open;

/// Where certificate and key are: `[lan]` of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanFiles {
    /// The chain (PEM), the box's own certificate first.
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
}

/// Why the box has no TLS in its centre's network.
#[derive(Debug, thiserror::Error)]
pub enum LanError {
    /// A file cannot be read.
    #[error(
        "{path} cannot be read: {source}; it is named in [lan], `antuo-cloud provision --lan-name` makes it"
    )]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's complaint.
        source: io::Error,
    },
    /// No certificate in the file.
    #[error("{0} holds no certificate (PEM); lan.certificate is the box's chain, its own first")]
    NoCertificate(PathBuf),
    /// No key in the file.
    #[error("{0} holds no private key (PEM), see lan.key")]
    NoKey(PathBuf),
    /// They do not belong together, or are of a kind we do not speak.
    #[error("{certificate} and {key} cannot be used together: {source}")]
    Unusable {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// What TLS says of them.
        source: rustls::Error,
    },
}

/// The server side of TLS 1.2 and 1.3 with that certificate, without client certificates and without ALPN.
/// A key that others can read is used and complained about.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn server_config(files: &LanFiles) -> Result<Arc<ServerConfig>, LanError> {
    let chain = chain(&files.certificate)?;
    complain_if_open(&files.key);
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|_| LanError::NoKey(files.key.clone()))?;
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map(Arc::new)
        .map_err(|source| LanError::Unusable {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            source,
        })
}

/// How long before its certificate runs out the box begins to complain: time for a visit.
const RENEWAL: Duration = Duration::from_secs(60 * 86_400);

/// When the box's certificate runs out. Complains if that is near or past.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn valid_until(files: &LanFiles, now: Timestamp) -> Result<Timestamp, LanError> {
    let chain = chain(&files.certificate)?;
    let own = chain
        .first()
        .and_then(|own| parse_x509_certificate(own).ok());
    let (_, own) = own.ok_or_else(|| LanError::NoCertificate(files.certificate.clone()))?;
    let seconds = own.validity().not_after.timestamp();
    let until = Timestamp::from_micros(seconds.saturating_mul(1_000_000));
    if until < now.after(RENEWAL) {
        tracing::warn!(
            until_seconds = seconds,
            "the box's certificate for its centre's network runs out: devices that check it will be silent; \
             renew it with `antuo-cloud lan-certificate`"
        );
    }
    Ok(until)
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, LanError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| LanError::NoCertificate(path.to_owned()))
}

fn read(path: &Path) -> Result<Vec<u8>, LanError> {
    fs::read(path).map_err(|source| LanError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    fn issued() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["box.local".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    /// What is said of these two files; none: they are good.
    fn complaint(certificate: &str, key: &str) -> Option<String> {
        let scratch = Scratch::new();
        let files = LanFiles {
            certificate: scratch.path().join("lan.pem"),
            key: scratch.path().join("lan.key"),
        };
        fs::write(&files.certificate, certificate).unwrap();
        fs::write(&files.key, key).unwrap();
        server_config(&files).err().map(|error| error.to_string())
    }

    #[test]
    fn a_certificate_and_its_key_are_used_and_anything_else_is_named() {
        let (certificate, key) = issued();
        assert_eq!(complaint(&certificate, &key), None);
        let (other, _) = issued();
        let said = |certificate: &str, key: &str| complaint(certificate, key).unwrap();
        assert!(said(&other, &key).contains("cannot be used together"));
        assert!(said("", &key).contains("lan.pem holds no certificate"));
        assert!(said(&key, &key).contains("lan.pem holds no certificate"));
        assert!(said(&certificate, &certificate).contains("lan.key holds no private key"));
        let files = LanFiles {
            certificate: "/nowhere/lan.pem".into(),
            key: "/nowhere/lan.key".into(),
        };
        let said = server_config(&files).unwrap_err().to_string();
        assert!(said.contains("/nowhere/lan.pem") && said.contains("--lan-name"));
    }

    #[test]
    fn the_end_of_the_certificate_is_known() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["box.local".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2029, 2, 21);
        let scratch = Scratch::new();
        let files = LanFiles {
            certificate: scratch.path().join("lan.pem"),
            key: scratch.path().join("lan.key"),
        };
        let now = Timestamp::from_micros(0);
        fs::write(&files.certificate, "junk").unwrap();
        assert!(valid_until(&files, now).is_err());
        fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        let until = valid_until(&files, now).unwrap();
        assert_eq!(until.micros(), 1_866_326_400_000_000);
    }
}
