//! The deployment's CA: it makes the server certificate of the boxes' listener and the boxes' own.
//!
//! A gateway is its key (D10): what identifies a box is the digest of its public key, and certificate
//! dates decide nothing, so they are wide. Never decides whether a key is still good.

use std::path::Path;

use domain::digest::Sha256;
use domain::id::GatewayId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::{KeyError, read_text};

/// Whoever can sign for the deployment.
pub struct Authority(Issuer<'static, KeyPair>);

/// A certificate and its private key, as text.
pub struct Issued {
    /// PEM.
    pub certificate_pem: String,
    /// PKCS #8, PEM.
    pub key_pem: String,
    /// SHA-256 of the public key (SubjectPublicKeyInfo, RFC 5280 4.1.2.7).
    pub fingerprint: Sha256,
}

impl Authority {
    /// Makes a CA: itself, its certificate, its key.
    ///
    /// # Errors
    /// When no key or certificate can be made.
    pub fn make() -> Result<(Self, String, String), rcgen::Error> {
        let key = KeyPair::generate()?;
        let params = ca_params(&key, "Antuo CA");
        let certificate = params.self_signed(&key)?.pem();
        let key_pem = key.serialize_pem();
        Ok((Self(Issuer::new(params, key)), certificate, key_pem))
    }

    /// Reads the CA from its files.
    ///
    /// # Errors
    /// Names the file and what it should hold.
    pub fn read(ca: &Path, ca_key: &Path) -> Result<Self, KeyError> {
        read_issuer(ca, ca_key).map(Self)
    }

    /// A server certificate for those DNS names and addresses.
    ///
    /// # Errors
    /// When a name is neither, or no certificate can be made.
    pub fn issue_server(&self, names: &[String]) -> Result<Issued, rcgen::Error> {
        let mut params = CertificateParams::new(names)?;
        named(&mut params, "Antuo cloud");
        issue(&self.0, params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client certificate for a box.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn issue_gateway(&self, gateway: GatewayId) -> Result<Issued, rcgen::Error> {
        let mut params = CertificateParams::default();
        named(&mut params, &gateway.to_string());
        issue(&self.0, params, ExtendedKeyUsagePurpose::ClientAuth)
    }
}

/// A CA's certificate before it is signed; the name says whose and, by its key, which.
pub(super) fn ca_params(key: &KeyPair, name: &str) -> CertificateParams {
    let id = Sha256::of(&[&key.subject_public_key_info()]).to_string();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    named(&mut params, &format!("{name} {}", &id[..16]));
    params
}

/// Reads a CA from its files.
pub(super) fn read_issuer(ca: &Path, ca_key: &Path) -> Result<Issuer<'static, KeyPair>, KeyError> {
    let key = KeyPair::from_pem(&read_text(ca_key)?).map_err(|_| KeyError::Unreadable {
        path: ca_key.to_owned(),
        wanted: "a private key (PKCS #8, PEM)",
    })?;
    let issuer =
        Issuer::from_ca_cert_pem(&read_text(ca)?, key).map_err(|_| KeyError::Unreadable {
            path: ca.to_owned(),
            wanted: "a CA certificate (PEM)",
        })?;
    Ok(issuer)
}

/// Makes a key and its certificate.
pub(super) fn issue(
    issuer: &Issuer<'_, KeyPair>,
    mut params: CertificateParams,
    usage: ExtendedKeyUsagePurpose,
) -> Result<Issued, rcgen::Error> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    Ok(Issued {
        certificate_pem: params.signed_by(&key, issuer)?.pem(),
        key_pem: key.serialize_pem(),
        fingerprint: Sha256::of(&[&key.subject_public_key_info()]),
    })
}

pub(super) fn named(params: &mut CertificateParams, name: &str) {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
}

/// The digest of the certificate's public key; none if it is no certificate.
#[must_use]
pub fn fingerprint_of(certificate: &CertificateDer<'_>) -> Option<Sha256> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    Some(Sha256::of(&[parsed.tbs_certificate.subject_pki.raw]))
}

/// The first name or address a server certificate is for.
#[must_use]
pub fn first_name_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| {
        if let GeneralName::DNSName(dns) = name {
            return Some((*dns).to_owned());
        }
        if let GeneralName::IPAddress(bytes) = name {
            return address_of(bytes);
        }
        None
    })
}

fn address_of(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::IpAddr::from(four).to_string());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::IpAddr::from(sixteen).to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject as _;

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    #[test]
    fn a_box_is_known_by_its_key_and_the_listener_by_its_names() {
        let (authority, _, _) = Authority::make().unwrap();
        let gateway = GatewayId(uuid::Uuid::from_u128(5));
        let one = authority.issue_gateway(gateway).unwrap();
        let two = authority.issue_gateway(gateway).unwrap();
        assert_ne!(one.fingerprint, two.fingerprint);
        assert_eq!(
            fingerprint_of(&der(&one.certificate_pem)),
            Some(one.fingerprint)
        );
        for (names, first) in [
            (["localhost", "::1"], "localhost"),
            (["10.0.0.7", "a.cn"], "10.0.0.7"),
        ] {
            let server = authority.issue_server(&names.map(String::from)).unwrap();
            assert_eq!(first_name_of(&der(&server.certificate_pem)).unwrap(), first);
        }
        assert!(authority.issue_server(&["门厅".into()]).is_err());
    }
}
