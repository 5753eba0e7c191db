//! The settings file `gateway.toml`: what it may say, and what is refused.
//!
//! Paths are relative to the file's folder. Never holds a secret, only where one is.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use domain::id::DeviceId;
use rustls::pki_types::ServerName;
use serde::Deserialize;

use crate::bridge::{self, SettingsFault};
use crate::clock::Trust;
use crate::store::outbox::Limits;

/// Overrides `cloud.address`: the cloud may move while the file stays.
pub const CLOUD_ADDRESS_ENV: &str = "ANTUO_CLOUD_ADDRESS";

/// Least size of the outbox, in MiB: below it a day of a small centre does not fit.
const OUTBOX_MIB_MIN: u64 = 64;

/// The settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything the box keeps is.
    pub data_dir: PathBuf,
    /// Where the identity files are.
    pub identity: PathBuf,
    /// The cloud, `host:port`.
    pub cloud_address: String,
    /// The name the cloud's certificate must carry.
    pub server_name: ServerName<'static>,
    /// Where devices connect; empty only with a bridge.
    pub mqtt: Vec<SocketAddr>,
    /// Brokers of the centre's own to listen to; no two have one name.
    pub bridges: Vec<bridge::Settings>,
    /// Where the box tells how it is; loopback only.
    pub status: SocketAddr,
    /// What vouches for the wall clock.
    pub clock: Trust,
    /// How much the outbox holds.
    pub outbox: Limits,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error("{path} cannot be read: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's complaint.
        source: io::Error,
    },
    /// Not TOML, or a key that is unknown or missing.
    #[error("{path}: {source}")]
    Toml {
        /// Which.
        path: PathBuf,
        /// The reader's complaint, with line and column.
        source: Box<toml::de::Error>,
    },
    /// Not a host and a port.
    #[error("cloud.address {0:?} is not host:port, such as cloud.example:8443")]
    CloudAddress(String),
    /// Not a name a certificate can carry.
    #[error("cloud.server_name {0:?} is neither a host name nor an address")]
    ServerName(String),
    /// Nobody could connect.
    #[error(
        "mqtt.listen is empty; name at least one address, such as 192.168.1.10:1883, or a [[bridge]]"
    )]
    NoListener,
    /// A `[[bridge]]` table.
    #[error("bridge no. {number}")]
    Bridge {
        /// Its place in the file, from 1.
        number: usize,
        /// What is wrong.
        source: SettingsFault,
    },
    /// Two bridges nobody could tell apart.
    #[error("two bridges are called {0}")]
    SameBridge(DeviceId),
    /// Two bridges that would put each other out for ever.
    #[error("two bridges call themselves {0:?} at one broker; leave client_id out")]
    SameClient(String),
    /// The status page has no log-in.
    #[error("status.listen {0} is not on this machine; it has no log-in, so use 127.0.0.1")]
    StatusNotLocal(SocketAddr),
    /// Too small to be of use.
    #[error("outbox.mib {0} is less than {OUTBOX_MIB_MIN}")]
    OutboxTooSmall(u64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data_dir: PathBuf,
    cloud: Cloud,
    mqtt: Mqtt,
    #[serde(default)]
    bridge: Vec<bridge::Table>,
    status: Status,
    #[serde(default)]
    clock: Clock,
    #[serde(default)]
    outbox: Outbox,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cloud {
    address: String,
    server_name: String,
    identity: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mqtt {
    listen: Vec<SocketAddr>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Status {
    listen: SocketAddr,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clock {
    trust: Trust,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            trust: Trust::System,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outbox {
    mib: u64,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            mib: Limits::DEFAULT.bytes >> 20,
        }
    }
}

impl Config {
    /// Reads and checks the file; `cloud_address` (from the environment) wins over the file's.
    ///
    /// # Errors
    /// Says what is wrong and what would be right.
    pub fn read(path: &Path, cloud_address: Option<String>) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut file: File = toml::from_str(&text).map_err(|source| ConfigError::Toml {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        if let Some(address) = cloud_address {
            file.cloud.address = address;
        }
        checked(file, path.parent().unwrap_or_else(|| Path::new(".")))
    }
}

fn checked(file: File, folder: &Path) -> Result<Config, ConfigError> {
    let address = file.cloud.address;
    let port = address
        .rsplit_once(':')
        .map(|(host, port)| (host.is_empty(), port.parse::<u16>()));
    if !matches!(port, Some((false, Ok(_)))) {
        return Err(ConfigError::CloudAddress(address));
    }
    let server_name = ServerName::try_from(file.cloud.server_name.clone())
        .map_err(|_| ConfigError::ServerName(file.cloud.server_name))?;
    let bridges = bridges(file.bridge)?;
    if file.mqtt.listen.is_empty() && bridges.is_empty() {
        return Err(ConfigError::NoListener);
    }
    if !file.status.listen.ip().is_loopback() {
        return Err(ConfigError::StatusNotLocal(file.status.listen));
    }
    if file.outbox.mib < OUTBOX_MIB_MIN {
        return Err(ConfigError::OutboxTooSmall(file.outbox.mib));
    }
    let bytes = file.outbox.mib << 20;
    Ok(Config {
        data_dir: folder.join(file.data_dir),
        identity: folder.join(file.cloud.identity),
        cloud_address: address,
        server_name,
        mqtt: file.mqtt.listen,
        bridges,
        status: file.status.listen,
        clock: file.clock.trust,
        outbox: Limits {
            bytes,
            reserve_bytes: (bytes / 8).min(Limits::DEFAULT.reserve_bytes),
            ..Limits::DEFAULT
        },
    })
}

fn bridges(tables: Vec<bridge::Table>) -> Result<Vec<bridge::Settings>, ConfigError> {
    let mut known: Vec<bridge::Settings> = Vec::with_capacity(tables.len());
    for (index, table) in tables.into_iter().enumerate() {
        let number = index + 1;
        let read = bridge::Settings::read(table);
        let bridge = read.map_err(|source| ConfigError::Bridge { number, source })?;
        for other in &known {
            if other.name == bridge.name {
                return Err(ConfigError::SameBridge(bridge.name));
            }
            if let Some(id) = bridge.client_id.clone()
                && other.client_id.as_ref() == Some(&id)
                && other.address == bridge.address
            {
                return Err(ConfigError::SameClient(id));
            }
        }
        known.push(bridge);
    }
    Ok(known)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
data_dir = "."
[cloud]
address = "cloud.example:8443"
server_name = "cloud.example"
identity = "identity"
[mqtt]
listen = ["127.0.0.1:1883"]
[status]
listen = "127.0.0.1:9000"
"#;

    fn read(text: &str, address: Option<&str>) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        fs::write(&path, text).unwrap();
        Config::read(&path, address.map(str::to_owned))
    }

    #[test]
    fn a_plain_file_is_enough() {
        let config = read(GOOD, None).unwrap();
        assert_eq!(config.cloud_address, "cloud.example:8443");
        assert_eq!(config.outbox, Limits::DEFAULT);
        let moved = read(GOOD, Some("127.0.0.1:1")).unwrap();
        assert_eq!(moved.cloud_address, "127.0.0.1:1");
    }

    #[test]
    fn with_a_bridge_nobody_needs_to_connect_to_the_box() {
        let bridge = |name: &str| {
            format!(
                "[[bridge]]\nname = \"{name}\"\naddress = \"127.0.0.1:1884\"\nclient_id = \"us\"\n\
                 topics = [\"a\"]\n"
            )
        };
        let deaf = GOOD.replace(r#"["127.0.0.1:1883"]"#, "[]");
        let config = read(&format!("{deaf}{}", bridge("a")), None).unwrap();
        assert!(config.mqtt.is_empty() && config.bridges.len() == 1);
        let refused = |second: &str| {
            let text = format!("{GOOD}{}{second}", bridge("a"));
            crate::chain(&read(&text, None).unwrap_err())
        };
        assert!(refused(&bridge("a")).contains("are called a"));
        assert!(refused(&bridge("b")).contains("\"us\" at one broker"));
        let nameless = bridge("b c").replace("us", "them");
        let told = refused(&nameless);
        assert!(
            told.contains("bridge no. 2") && told.contains("1 to 64"),
            "{told}"
        );
        let mut known = bridge("b").replace("1884", "1885");
        known.push_str("tls = true\n");
        assert!(
            refused(&known).contains("tls"),
            "a setting of no meaning is refused"
        );
    }

    #[test]
    fn nonsense_is_refused_with_what_would_be_right() {
        let refused = |from: &str, to: &str| {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD);
            read(&text, None).unwrap_err().to_string()
        };
        assert!(refused("example:8443", "example").contains("host:port"));
        assert!(refused(r#"["127.0.0.1:1883"]"#, "[]").contains("at least one"));
        assert!(refused("127.0.0.1:9000", "0.0.0.0:9000").contains("127.0.0.1"));
        assert!(refused("data_dir", "data_folder").contains("data_folder"));
        let small = format!("{GOOD}[outbox]\nmib = 1\n");
        assert!(read(&small, None).unwrap_err().to_string().contains("64"));
    }
}
