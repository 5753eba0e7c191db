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
use crate::broker::Doors;
use crate::clock::Trust;
use crate::lan::LanFiles;
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
    /// The box's certificate in its centre's network; none: it speaks no TLS there.
    pub lan: Option<LanFiles>,
    /// Where devices connect.
    pub mqtt: Doors,
    /// Brokers of the centre's own to listen to; no two have one name.
    pub bridges: Vec<bridge::Settings>,
    /// Where the box tells how it is; loopback only.
    pub status: SocketAddr,
    /// Where the page for the people of the centre is; none: there is none.
    pub page: Option<PageDoors>,
    /// What vouches for the wall clock.
    pub clock: Trust,
    /// How much the outbox holds.
    pub outbox: Limits,
}

/// Where the page for the people of the centre is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageDoors {
    /// HTTPS.
    pub listen: Vec<SocketAddr>,
    /// Plain HTTP that leads to the first of these and shows the lamp.
    #[serde(default)]
    pub redirect: Vec<SocketAddr>,
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
        "[mqtt] names no address; give at least one in listen, tls, websocket or websocket_tls, such as \
         listen = [\"192.168.1.10:1883\"], or a [[bridge]]"
    )]
    NoListener,
    /// A TLS listener has nothing to show.
    #[error(
        "mqtt.{0} needs the box's certificate for its centre's network: name certificate and key under [lan]; \
         `antuo-cloud provision --lan-name` or `antuo-cloud lan-certificate` makes them"
    )]
    NoLanCertificate(&'static str),
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
    /// Nobody could see it.
    #[error("page.listen is empty; name at least one address, such as 0.0.0.0:8443")]
    NoPageListener,
    /// A PIN must not travel in clear.
    #[error("[page] needs [lan] with certificate and key: people log in there")]
    PageWithoutLan,
    /// Too small to be of use.
    #[error("outbox.mib {0} is less than {OUTBOX_MIB_MIN}")]
    OutboxTooSmall(u64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data_dir: PathBuf,
    cloud: Cloud,
    lan: Option<Lan>,
    page: Option<PageDoors>,
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
struct Lan {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mqtt {
    #[serde(default)]
    listen: Vec<SocketAddr>,
    #[serde(default)]
    tls: Vec<SocketAddr>,
    #[serde(default)]
    websocket: Vec<SocketAddr>,
    #[serde(default)]
    websocket_tls: Vec<SocketAddr>,
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
    let mqtt = doors(file.mqtt, file.lan.is_some(), !bridges.is_empty())?;
    if !file.status.listen.ip().is_loopback() {
        return Err(ConfigError::StatusNotLocal(file.status.listen));
    }
    if let Some(page) = &file.page {
        if page.listen.is_empty() {
            return Err(ConfigError::NoPageListener);
        }
        if file.lan.is_none() {
            return Err(ConfigError::PageWithoutLan);
        }
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
        lan: file.lan.map(|lan| LanFiles {
            certificate: folder.join(lan.certificate),
            key: folder.join(lan.key),
        }),
        mqtt,
        bridges,
        status: file.status.listen,
        page: file.page,
        clock: file.clock.trust,
        outbox: Limits {
            bytes,
            reserve_bytes: (bytes / 8).min(Limits::DEFAULT.reserve_bytes),
            ..Limits::DEFAULT
        },
    })
}

fn doors(mqtt: Mqtt, with_certificate: bool, has_bridge: bool) -> Result<Doors, ConfigError> {
    let Mqtt {
        listen,
        tls,
        websocket,
        websocket_tls,
    } = mqtt;
    let lists = [&listen, &tls, &websocket, &websocket_tls];
    if !has_bridge && lists.iter().all(|list| list.is_empty()) {
        return Err(ConfigError::NoListener);
    }
    for (name, list) in [("tls", &tls), ("websocket_tls", &websocket_tls)] {
        if !list.is_empty() && !with_certificate {
            return Err(ConfigError::NoLanCertificate(name));
        }
    }
    Ok(Doors {
        tcp: listen,
        tls,
        websocket,
        websocket_tls,
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
        assert_eq!(config.lan, None);
        let moved = read(GOOD, Some("127.0.0.1:1")).unwrap();
        assert_eq!(moved.cloud_address, "127.0.0.1:1");
    }

    #[test]
    fn the_files_of_the_centres_network_lie_beside_the_settings() {
        let with =
            format!("{GOOD}[lan]\ncertificate = \"lan.pem\"\nkey = \"/elsewhere/lan.key\"\n");
        let config = read(&with, None).unwrap();
        let lan = config.lan.unwrap();
        assert_eq!(lan.certificate, config.data_dir.join("lan.pem"));
        assert_eq!(lan.key, Path::new("/elsewhere/lan.key"));
        let page = format!("{with}[page]\nlisten = [\"0.0.0.0:8443\"]\n");
        let doors = read(&page, None).unwrap().page.unwrap();
        assert_eq!((doors.listen.len(), doors.redirect.len()), (1, 0));
        let half = format!("{GOOD}[lan]\ncertificate = \"lan.pem\"\n");
        assert!(read(&half, None).unwrap_err().to_string().contains("key"));
    }

    #[test]
    fn devices_are_heard_only_where_and_as_the_file_says() {
        let only = |list: &str| GOOD.replace("listen = [\"127.0.0.1:1883\"]", list);
        let lan = "[lan]\ncertificate = \"lan.pem\"\nkey = \"lan.key\"\n";
        let address = "127.0.0.1:8883".parse().unwrap();
        for name in ["tls", "websocket_tls"] {
            let text = only(&format!("{name} = [\"127.0.0.1:8883\"]"));
            let refused = read(&text, None).unwrap_err().to_string();
            assert!(refused.contains(&format!("mqtt.{name} needs")), "{refused}");
            let doors = read(&format!("{text}{lan}"), None).unwrap().mqtt;
            assert_eq!([&doors.tls[..], &doors.websocket_tls].concat(), [address]);
            assert!(doors.tcp.is_empty() && doors.websocket.is_empty());
        }
        let doors = read(&only("websocket = [\"127.0.0.1:8883\"]"), None)
            .unwrap()
            .mqtt;
        assert_eq!(doors.websocket, [address]);
        assert!(doors.tcp.is_empty());
        let none = read(&only(""), None).unwrap_err().to_string();
        assert!(none.contains("at least one"), "{none}");
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
        assert!(config.mqtt == Doors::default() && config.bridges.len() == 1);
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
        let page = format!("{GOOD}[page]\nlisten = [\"0.0.0.0:8443\"]\n");
        assert!(read(&page, None).unwrap_err().to_string().contains("[lan]"));
        let small = format!("{GOOD}[outbox]\nmib = 1\n");
        assert!(read(&small, None).unwrap_err().to_string().contains("64"));
    }
}
