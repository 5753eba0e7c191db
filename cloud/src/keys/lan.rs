//! The CA of the centres' networks: it makes the certificate a box shows to devices and phones there.
//!
//! A phone that trusts this CA trusts it for private addresses and local names only (RFC 5280 4.2.1.10): it
//! cannot vouch for a bank. It is not the CA that signs gateway keys, and never signs one. Never decides
//! which box has which name.

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use domain::time::Timestamp;
use rcgen::{
    CertificateParams, CidrSubnet, ExtendedKeyUsagePurpose, GeneralSubtree, Issuer, KeyPair,
    NameConstraints, date_time_ymd,
};

use super::authority::{Issued, ca_params, issue, named, read_issuer};
use super::{KeyError, KeyFiles, write_new};

/// How long a box's certificate is good: phones refuse one of more than 825 days, whoever signed it.
pub const LAN_VALIDITY: Duration = Duration::from_secs(820 * 86_400);
/// How far a clock of the centre may be behind ours.
const LAN_BACKDATED: Duration = Duration::from_secs(86_400);

/// What the CA may sign for: private and link-local addresses, and this machine for a trial.
const ADDRESSES: [(&str, u8); 8] = [
    ("10.0.0.0", 8),
    ("172.16.0.0", 12),
    ("192.168.0.0", 16),
    ("169.254.0.0", 16),
    ("127.0.0.0", 8),
    ("fc00::", 7),
    ("fe80::", 10),
    ("::1", 128),
];
/// The same for names: these and everything below them.
const DOMAINS: [&str; 3] = ["local", "lan", "home.arpa"];

/// What devices and phones call a box in its centre's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanName(String);

/// Why a name is none the CA may sign for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name of a centre's own network: give a private address such as 192.168.1.10, or a host name \
     in small letters below .local, .lan or .home.arpa"
)]
pub struct NotLan(String);

impl FromStr for LanName {
    type Err = NotLan;

    fn from_str(text: &str) -> Result<Self, NotLan> {
        let ours = match text.parse::<IpAddr>() {
            Ok(address) => ADDRESSES.iter().any(|range| within(address, *range)),
            Err(_) => is_local_host(text),
        };
        if ours {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotLan(text.to_owned()))
        }
    }
}

/// Whether an address lies in a range; one family never in the other's.
fn within(address: IpAddr, (base, prefix): (&str, u8)) -> bool {
    let head = |bits: u128, width: u32| bits >> (width - u32::from(prefix));
    match (address, base.parse()) {
        (IpAddr::V4(address), Ok(IpAddr::V4(base))) => {
            head(address.to_bits().into(), 32) == head(base.to_bits().into(), 32)
        }
        (IpAddr::V6(address), Ok(IpAddr::V6(base))) => {
            head(address.to_bits(), 128) == head(base.to_bits(), 128)
        }
        (IpAddr::V4(_) | IpAddr::V6(_), Ok(_) | Err(_)) => false,
    }
}

fn is_local_host(text: &str) -> bool {
    let below = |domain: &&str| {
        let host = text.strip_suffix(*domain)?.strip_suffix('.')?;
        Some(host).filter(|host| !host.is_empty())
    };
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253
        && DOMAINS
            .iter()
            .find_map(below)
            .is_some_and(|host| host.split('.').all(label))
}

/// Whoever can sign for the centres' networks.
pub struct LanAuthority(Issuer<'static, KeyPair>);

impl LanAuthority {
    /// Reads the CA from its files, or makes them where neither is: folders made by an older `init` have
    /// none.
    ///
    /// # Errors
    /// Names the file and what it should hold.
    pub fn read_or_make(files: &KeyFiles) -> Result<Self, KeyError> {
        if !files.lan_ca.exists() && !files.lan_ca_key.exists() {
            make(&files.lan_ca, &files.lan_ca_key)?;
        }
        read_issuer(&files.lan_ca, &files.lan_ca_key).map(Self)
    }

    /// A server certificate for a box under these names.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn issue(&self, names: &[LanName], now: Timestamp) -> Result<Issued, rcgen::Error> {
        let texts: Vec<String> = names.iter().map(|name| name.0.clone()).collect();
        let mut params = CertificateParams::new(texts)?;
        // No name of its network: OpenSSL would hold an address here to be a host name, and not a permitted one.
        named(&mut params, "Antuo box");
        let at = |instant: Timestamp| {
            date_time_ymd(1970, 1, 1) + instant.since(Timestamp::from_micros(0))
        };
        params.not_before = at(now.before(LAN_BACKDATED));
        params.not_after = at(now.after(LAN_VALIDITY).before(LAN_BACKDATED));
        issue(&self.0, params, ExtendedKeyUsagePurpose::ServerAuth)
    }
}

/// Makes the CA's two files.
///
/// # Errors
/// When one exists already or cannot be written.
pub(super) fn make(ca: &Path, ca_key: &Path) -> Result<(), KeyError> {
    let key = KeyPair::generate()?;
    let mut params = ca_params(&key, "Antuo centre networks");
    params.name_constraints = Some(constraints());
    let certificate = params.self_signed(&key)?.pem();
    write_new(ca_key, key.serialize_pem().as_bytes())?;
    write_new(ca, certificate.as_bytes())
}

fn constraints() -> NameConstraints {
    let addresses = ADDRESSES.iter().filter_map(|(base, prefix)| {
        let base = base.parse().ok()?;
        Some(GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(
            base, *prefix,
        )))
    });
    let domains = DOMAINS.map(|domain| GeneralSubtree::DnsName(domain.to_owned()));
    NameConstraints {
        permitted_subtrees: addresses.chain(domains).collect(),
        excluded_subtrees: Vec::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{CertificateError, Error, RootCertStore};
    use std::fs;
    use std::sync::Arc;

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    fn files(dir: &Path) -> KeyFiles {
        KeyFiles {
            ca: dir.join("ca.pem"),
            ca_key: dir.join("ca.key"),
            lan_ca: dir.join("lan-ca.pem"),
            lan_ca_key: dir.join("lan-ca.key"),
            boxes_certificate: dir.join("boxes.pem"),
            boxes_key: dir.join("boxes.key"),
            config_signing: dir.join("config-signing.key"),
            sealing: dir.join("sealing.keys"),
        }
    }

    /// Whether whoever trusts the CA takes the certificate for this name at this time.
    fn taken(files: &KeyFiles, issued: &Issued, name: &str, at: Timestamp) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(&fs::read(&files.lan_ca).unwrap()).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let certificate =
            CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let at = UnixTime::since_unix_epoch(at.since(Timestamp::from_micros(0)));
        let verified = verifier.verify_server_cert(&certificate, &[], &name, &[], at);
        verified.map(drop)
    }

    #[test]
    fn a_box_is_taken_under_its_names_for_as_long_as_phones_allow() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let authority = LanAuthority::read_or_make(&files).unwrap();
        let names = ["192.168.1.10", "fd00::7", "box.hall.local"].map(|n| n.parse().unwrap());
        // A CA that was read signs as the one that was made.
        let again = LanAuthority::read_or_make(&files).unwrap();
        for authority in [authority, again] {
            let issued = authority.issue(&names, NOW).unwrap();
            for name in ["192.168.1.10", "fd00::7", "box.hall.local"] {
                assert_eq!(taken(&files, &issued, name, NOW), Ok(()), "{name}");
            }
            assert!(taken(&files, &issued, "192.168.1.11", NOW).is_err());
            let late = NOW.after(Duration::from_secs(825 * 86_400));
            assert!(taken(&files, &issued, "192.168.1.10", late).is_err());
        }
    }

    #[test]
    fn whoever_trusts_the_ca_trusts_it_for_nothing_beyond_such_networks() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let authority = LanAuthority::read_or_make(&files).unwrap();
        for name in ["8.8.8.8", "2001:db8::1", "bank.example", "local.example"] {
            assert!(name.parse::<LanName>().is_err(), "{name}");
            // As one who stole the key would.
            let stolen = [LanName(name.to_owned())];
            let issued = authority.issue(&stolen, NOW).unwrap();
            let refused = taken(&files, &issued, name, NOW).unwrap_err();
            let why = format!("{refused:?}");
            assert!(
                matches!(
                    refused,
                    Error::InvalidCertificate(CertificateError::Other(_))
                ) && why.contains("NameConstraintViolation"),
                "{name}: {why}"
            );
        }
    }

    #[test]
    fn names_are_private_addresses_or_local_hosts() {
        for good in [
            "10.1.2.3",
            "172.31.0.1",
            "169.254.1.1",
            "127.0.0.1",
            "fe80::1",
            "::1",
            "a.lan",
            "x-1.home.arpa",
        ] {
            assert!(good.parse::<LanName>().is_ok(), "{good}");
        }
        for bad in [
            "172.32.0.1",
            "fec0::1",
            "::2",
            "local",
            ".local",
            "a..lan",
            "-a.lan",
            "A.lan",
            "*.lan",
            "host",
            "home.arpa",
            "",
        ] {
            let refused = bad.parse::<LanName>().unwrap_err().to_string();
            assert!(refused.contains(".home.arpa"), "{bad}");
        }
    }

    #[test]
    fn half_a_ca_is_neither_used_nor_completed() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        LanAuthority::read_or_make(&files).unwrap();
        fs::remove_file(&files.lan_ca_key).unwrap();
        let refused = LanAuthority::read_or_make(&files).err().unwrap();
        assert!(refused.to_string().contains("lan-ca.key"), "{refused}");
        assert!(!files.lan_ca_key.exists());
    }
}
