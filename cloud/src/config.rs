//! The settings file `cloud.toml`: what it may say, and what is refused.
//!
//! Paths are relative to the file's folder, which is also the data folder. Secrets may come from the
//! environment instead: `ANTUO_DATABASE_URL`. Never holds a key, only where it is.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::keys::KeyFiles;

/// Overrides `database`, so that a password need not stand in the file.
pub const DATABASE_ENV: &str = "ANTUO_DATABASE_URL";

/// The settings, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The folder of the file; `addresses.json` is written there.
    pub dir: PathBuf,
    /// Which store.
    pub database: Database,
    /// Where browsers and apps connect.
    pub http: Browsers,
    /// Where boxes connect, always under mutual TLS.
    pub boxes: SocketAddr,
    /// Where the key files are.
    pub keys: KeyFiles,
}

/// Which store.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A file of this process's own.
    Sqlite(PathBuf),
    /// A server, by its URL.
    Postgres(String),
}

impl std::fmt::Debug for Database {
    /// Without the URL, which holds a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "Sqlite({})", path.display()),
            Self::Postgres(_) => f.write_str("Postgres(..)"),
        }
    }
}

/// Where browsers and apps connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Browsers {
    /// The address.
    pub listen: SocketAddr,
    /// With it the listener speaks TLS; without it only a loopback address is allowed.
    pub certificate: Option<Certificate>,
    /// A loopback peer is a proxy of ours: the client is whom it names last in `X-Forwarded-For`.
    pub trusted_proxy: bool,
    /// What browsers call us, such as `https://antuo.example`; none = whatever Host they send.
    pub origin: Option<String>,
}

impl std::fmt::Display for Browsers {
    /// What follows from the settings, a line each, for whoever checks them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let client = if self.trusted_proxy {
            "the last hop of X-Forwarded-For when a proxy on this machine sends it"
        } else {
            "the peer of the connection (behind a proxy set http.trusted_proxy, else all share its locks)"
        };
        writeln!(f, "a client's address is {client}")?;
        match &self.origin {
            Some(origin) => writeln!(f, "browsers are to use {origin} only"),
            None => writeln!(f, "browsers may use any name (http.origin is not set)"),
        }
    }
}

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, the server's own first.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Where a running process listens: `addresses.json` in its data folder (contract D).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Addresses {
    /// Browsers and apps.
    pub http: SocketAddr,
    /// Boxes.
    pub boxes: SocketAddr,
    /// The process.
    pub pid: u32,
}

impl Addresses {
    /// The file in a data folder.
    #[must_use]
    pub fn file(dir: &Path) -> PathBuf {
        dir.join("addresses.json")
    }

    /// What the file says; none when nothing runs there.
    #[must_use]
    pub fn read(dir: &Path) -> Option<Self> {
        let text = fs::read(Self::file(dir)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes the file whole, so that a reader never sees half of it.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let half = dir.join("addresses.json.new");
        fs::write(&half, serde_json::to_vec(self)?)?;
        fs::rename(half, Self::file(dir))
    }
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {source}; `init` makes it")]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's complaint.
        source: io::Error,
    },
    /// It is no TOML, or says something we do not know.
    #[error("{path}: {why}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Line and reason.
        why: String,
    },
    /// `database` names no store we speak to.
    #[error(
        "database must be \"sqlite:FILE\" or \"postgres://USER@HOST/NAME\" (or {DATABASE_ENV})"
    )]
    Database,
    /// Plain HTTP beyond the machine would show children's data to the network.
    #[error(
        "http.listen {0} is reachable from other machines: give http.certificate and http.key, or \
         listen on 127.0.0.1 behind a proxy that speaks TLS"
    )]
    PlainBeyondLoopback(SocketAddr),
    /// Only one of certificate and key is given.
    #[error("http.certificate and http.key go together: give both or neither")]
    HalfCertificate,
    /// Not what a browser sends as its origin.
    #[error(
        "http.origin is {0:?}: it must be \"https://HOST\" or \"https://HOST:PORT\" in small letters, with \
         nothing after it"
    )]
    Origin(String),
    /// Both listeners on one port.
    #[error("http.listen and boxes.listen are both {0}: give each its own port")]
    OnePort(SocketAddr),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    database: String,
    http: HttpText,
    boxes: BoxesText,
    keys: KeysText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpText {
    listen: SocketAddr,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    #[serde(default)]
    trusted_proxy: bool,
    origin: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BoxesText {
    listen: SocketAddr,
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysText {
    ca: PathBuf,
    ca_key: PathBuf,
    /// Absent in files of an older `init`: beside the other CA.
    lan_ca: Option<PathBuf>,
    lan_ca_key: Option<PathBuf>,
    config_signing: PathBuf,
    sealing: PathBuf,
}

impl Config {
    /// Reads and checks the file; `env` looks an environment variable up.
    ///
    /// # Errors
    /// Names what is wrong and what would be right.
    pub fn read(path: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::of_text(&text, path, env)
    }

    /// Checks the text of a file at `path`.
    ///
    /// # Errors
    /// Names what is wrong and what would be right.
    pub fn of_text(
        text: &str,
        path: &Path,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let dir = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            Some(_) | None => Path::new("."),
        };
        let file =
            toml::from_str(text).map_err(|why: toml::de::Error| ConfigError::Unreadable {
                path: path.to_owned(),
                why: why.to_string(),
            })?;
        Self::check(file, dir, env(DATABASE_ENV))
    }

    fn check(file: FileText, dir: &Path, url: Option<String>) -> Result<Self, ConfigError> {
        let certificate = match (file.http.certificate, file.http.key) {
            (Some(chain), Some(key)) => Some(Certificate {
                chain: dir.join(chain),
                key: dir.join(key),
            }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(ConfigError::HalfCertificate),
        };
        let listen = file.http.listen;
        if certificate.is_none() && !listen.ip().is_loopback() {
            return Err(ConfigError::PlainBeyondLoopback(listen));
        }
        if let Some(origin) = file.http.origin.as_ref().filter(|text| !is_origin(text)) {
            return Err(ConfigError::Origin(origin.clone()));
        }
        if listen == file.boxes.listen && listen.port() != 0 {
            return Err(ConfigError::OnePort(listen));
        }
        let beside = |named: Option<PathBuf>, ca: &Path, name| {
            dir.join(named.unwrap_or_else(|| ca.with_file_name(name)))
        };
        let keys = file.keys;
        Ok(Self {
            dir: dir.to_owned(),
            database: database(&url.unwrap_or(file.database), dir)?,
            http: Browsers {
                listen,
                certificate,
                trusted_proxy: file.http.trusted_proxy,
                origin: file.http.origin,
            },
            boxes: file.boxes.listen,
            keys: KeyFiles {
                lan_ca: beside(keys.lan_ca, &keys.ca, "lan-ca.pem"),
                lan_ca_key: beside(keys.lan_ca_key, &keys.ca_key, "lan-ca.key"),
                ca: dir.join(keys.ca),
                ca_key: dir.join(keys.ca_key),
                boxes_certificate: dir.join(file.boxes.certificate),
                boxes_key: dir.join(file.boxes.key),
                config_signing: dir.join(keys.config_signing),
                sealing: dir.join(keys.sealing),
            },
        })
    }
}

/// As browsers write it (RFC 6454): an internationalised name in its ASCII form, no default port.
fn is_origin(text: &str) -> bool {
    let Some(host) = text.strip_prefix("https://") else {
        return false;
    };
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        Some(_) | None => (host, None),
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._[]:".contains(&b);
    let port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|n| n != 443 && n != 0));
    !name.is_empty() && name.bytes().all(plain) && port
}

fn database(text: &str, dir: &Path) -> Result<Database, ConfigError> {
    if let Some(file) = text.strip_prefix("sqlite:").filter(|file| !file.is_empty()) {
        return Ok(Database::Sqlite(dir.join(file)));
    }
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return Ok(Database::Postgres(text.to_owned()));
    }
    Err(ConfigError::Database)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
database = "sqlite:antuo.db"
[http]
listen = "127.0.0.1:0"
[boxes]
listen = "127.0.0.1:0"
certificate = "keys/boxes.pem"
key = "keys/boxes.key"
[keys]
ca = "keys/ca.pem"
ca_key = "keys/ca.key"
config_signing = "keys/config-signing.key"
sealing = "/elsewhere/sealing.keys"
"#;

    fn read(text: &str, url: Option<&str>) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cloud.toml");
        fs::write(&file, text).unwrap();
        Config::read(&file, |_| url.map(String::from)).map_err(|e| e.to_string())
    }

    #[test]
    fn paths_are_relative_to_the_file_and_the_url_may_come_from_the_environment() {
        let config = read(GOOD, None).unwrap();
        assert_eq!(
            config.database,
            Database::Sqlite(config.dir.join("antuo.db"))
        );
        assert_eq!(config.keys.ca, config.dir.join("keys/ca.pem"));
        assert_eq!(config.keys.sealing, Path::new("/elsewhere/sealing.keys"));
        assert_eq!(config.keys.lan_ca, config.dir.join("keys/lan-ca.pem"));
        assert_eq!(config.keys.lan_ca_key, config.dir.join("keys/lan-ca.key"));
        let config = read(GOOD, Some("postgres://u:secret@h/d")).unwrap();
        assert_eq!(
            config.database,
            Database::Postgres("postgres://u:secret@h/d".into())
        );
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn a_proxy_is_trusted_and_an_origin_set_only_when_said() {
        let config = read(GOOD, None).unwrap();
        assert_eq!(
            (config.http.trusted_proxy, config.http.origin),
            (false, None)
        );
        for origin in [
            "https://antuo.example",
            "https://antuo.example:8443",
            "https://[2001:db8::1]",
        ] {
            let said = format!("trusted_proxy = true\norigin = \"{origin}\"\n[boxes]");
            let config = read(&GOOD.replacen("[boxes]", &said, 1), None).unwrap();
            assert!(config.http.trusted_proxy);
            let told = config.http.to_string();
            assert!(
                told.contains("X-Forwarded-For") && told.contains(origin),
                "{told}"
            );
            assert_eq!(config.http.origin.as_deref(), Some(origin));
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_would_be_right() {
        let swap = |from: &str, to: &str| read(&GOOD.replacen(from, to, 1), None).unwrap_err();
        assert!(swap("[keys]", "speed = 9\n[keys]").contains("unknown field `speed`"));
        assert!(swap("sqlite:antuo.db", "mysql://x").contains("sqlite:FILE"));
        assert!(swap("sqlite:antuo.db", "sqlite:").contains("sqlite:FILE"));
        assert!(swap("127.0.0.1:0", "0.0.0.0:80").contains("127.0.0.1 behind a proxy"));
        assert!(swap("127.0.0.1:0\"", "127.0.0.1:0\"\nkey = \"k\"").contains("go together"));
        assert!(swap("sealing =", "# sealing =").contains("missing field `sealing`"));
        let origin = |text: &str| swap("[boxes]", &format!("origin = \"{text}\"\n[boxes]"));
        for odd in [
            "http://a.cn",
            "https://",
            "https://a.cn/",
            "https://A.cn",
            "https://a.cn:443",
        ] {
            assert!(origin(odd).contains("in small letters"), "{odd}");
        }
        let both = GOOD.replace("127.0.0.1:0", "127.0.0.1:443");
        assert!(read(&both, None).unwrap_err().contains("its own port"));
    }
}
