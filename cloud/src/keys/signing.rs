//! The key that signs Configs: Ed25519 (RFC 8032), suite `s1`.
//!
//! Signs bytes; never looks at what they say.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::digest::SUITE;
use domain::wire::SignedConfig;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

use super::{KeyError, read_text};

/// The private key.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// The content of a new key file.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn make() -> Result<String, rcgen::Error> {
        Ok(rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?.serialize_pem())
    }

    /// Reads the key file.
    ///
    /// # Errors
    /// When it cannot be read or is no Ed25519 key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        Self::of_pem(&read_text(path)?).ok_or_else(|| KeyError::Unreadable {
            path: path.to_owned(),
            wanted: "an Ed25519 private key (PKCS #8, PEM)",
        })
    }

    fn of_pem(text: &str) -> Option<Self> {
        let der = PrivateKeyDer::from_pem_slice(text.as_bytes()).ok()?;
        Ed25519KeyPair::from_pkcs8(der.secret_der()).ok().map(Self)
    }

    /// Signs a Config document.
    #[must_use]
    pub fn sign(&self, document: String) -> SignedConfig {
        let signature = self.0.sign(document.as_bytes());
        SignedConfig {
            suite: SUITE.to_owned(),
            signature: STANDARD.encode(signature),
            document,
        }
    }

    /// The public key as boxes pin it: base64 of its 32 bytes.
    #[must_use]
    pub fn public_text(&self) -> String {
        STANDARD.encode(self.0.public_key())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ring::signature::{ED25519, UnparsedPublicKey};

    #[test]
    fn whoever_holds_the_public_text_can_check_a_document() {
        let key = SigningKey::of_pem(&SigningKey::make().unwrap()).unwrap();
        let signed = key.sign("{\"v\":1}".into());
        let public = STANDARD.decode(key.public_text()).unwrap();
        assert_eq!(public.len(), 32);
        let check = |document: &str| {
            let signature = STANDARD.decode(&signed.signature).unwrap();
            UnparsedPublicKey::new(&ED25519, &public)
                .verify(document.as_bytes(), &signature)
                .is_ok()
        };
        assert!(check(&signed.document));
        assert!(!check("{\"v\":2}"));
    }
}
