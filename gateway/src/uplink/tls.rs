//! TLS to the cloud: our key, their chain and name against the pinned CAs, dates only when our clock is
//! trusted (D10).

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme, version,
};

use crate::identity::{Identity, IdentityError};

/// Certificates of one chain whose dates may have to be set aside: more than any chain we accept.
const CHAIN: usize = 4;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The identity is not usable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Key, certificate or CAs do not work together.
    #[error("key, certificate or CAs do not work together: {0}")]
    Setup(String),
}

/// The client side of the uplink: TLS 1.3 with the box's key.
///
/// # Errors
/// When key and certificate do not belong together, or no CA is usable.
pub fn client(identity: &Identity, dates_count: bool) -> Result<ClientConfig, TlsError> {
    let setup = |error: &dyn std::fmt::Display| TlsError::Setup(error.to_string());
    let provider = Arc::new(ring::default_provider());
    let verifier = CloudVerifier::new(identity, dates_count, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| setup(&error))?;
    builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(identity.certificates.clone(), identity.key.clone_key())
        .map_err(|error| setup(&error))
}

/// Checks chain and name always, dates only where they count.
#[derive(Debug)]
struct CloudVerifier {
    inner: Arc<WebPkiServerVerifier>,
    dates_count: bool,
}

impl CloudVerifier {
    fn new(
        identity: &Identity,
        dates_count: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let roots = Arc::new(identity.authorities.clone());
        let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
            .build()
            .map_err(|error| TlsError::Setup(error.to_string()))?;
        Ok(Self { inner, dates_count })
    }
}

impl ServerCertVerifier for CloudVerifier {
    /// Without a trusted clock a certificate is judged at the edge of its own validity: whatever else is
    /// wrong with it still refuses it.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let check = |at| {
            self.inner
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at)
        };
        let mut outcome = check(now);
        for _ in 0..CHAIN {
            let Some(edge) = outcome.as_ref().err().and_then(edge_of_validity) else {
                break;
            };
            if self.dates_count {
                break;
            }
            outcome = check(edge);
        }
        outcome
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The nearest time at which the certificate complained of was or will be valid.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "foreign enums; everything else refuses"
)]
fn edge_of_validity(error: &Error) -> Option<UnixTime> {
    match error {
        Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }) => {
            Some(*not_before)
        }
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            Some(*not_after)
        }
        _ => None,
    }
}
