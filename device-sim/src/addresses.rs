//! Where the running processes listen: the `addresses.json` each writes once its listeners are open.

use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What the cloud writes.
#[derive(Debug, Clone, Deserialize)]
pub struct CloudAddresses {
    pub http: String,
    pub boxes: String,
}

/// What a box writes.
#[derive(Debug, Clone, Deserialize)]
pub struct BoxAddresses {
    pub mqtt: Vec<String>,
}

/// Reads a file of addresses; `None` while it is not there or not whole.
pub fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Where devices find their box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broker {
    /// A fixed address.
    At(SocketAddr),
    /// The box's `addresses.json`, read anew before each attempt: a restarted box may listen elsewhere.
    WrittenIn(PathBuf),
}

impl Broker {
    /// The address to try now, host and port.
    pub fn address(&self) -> Option<(String, u16)> {
        match self {
            Broker::At(address) => Some((address.ip().to_string(), address.port())),
            Broker::WrittenIn(path) => {
                let written: BoxAddresses = read(path)?;
                let (host, port) = written.mqtt.first()?.rsplit_once(':')?;
                Some((host.to_owned(), port.parse().ok()?))
            }
        }
    }
}

/// Reads `ADDR:PORT`, or else takes the text as the path of an `addresses.json`.
impl std::str::FromStr for Broker {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Broker, Self::Err> {
        Ok(text
            .parse()
            .map_or_else(|_| Broker::WrittenIn(PathBuf::from(text)), Broker::At))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::ledger::tests::Scratch;

    #[test]
    fn a_box_is_found_by_address_or_by_its_file() {
        assert_eq!(
            "127.0.0.1:1883".parse::<Broker>().unwrap().address(),
            Some(("127.0.0.1".to_owned(), 1883))
        );
        let scratch = Scratch::new("addresses");
        let path = scratch.0.join("addresses.json");
        let broker: Broker = path.to_str().unwrap().parse().unwrap();
        assert_eq!(broker.address(), None, "not written yet");
        std::fs::write(
            &path,
            r#"{"mqtt":["127.0.0.1:40001"],"status":"127.0.0.1:2","pid":3}"#,
        )
        .unwrap();
        assert_eq!(broker.address(), Some(("127.0.0.1".to_owned(), 40001)));
        std::fs::write(&path, r#"{"mqtt":["127.0.0."#).unwrap();
        assert_eq!(broker.address(), None, "not whole");
    }
}
