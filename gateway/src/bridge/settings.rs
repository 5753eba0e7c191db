//! What the settings file says of one bridge, checked.
//!
//! Pure but for the secret, which the environment holds. Never keeps the secret.

use std::env;
use std::fmt;

use domain::id::DeviceId;
use serde::Deserialize;

use crate::broker::{FilterFault, TopicFilter};

/// Filters of one bridge. Beyond: the file is refused.
pub const TOPICS_MAX: usize = 64;
/// Bytes of one filter. Beyond: the file is refused.
pub const TOPIC_BYTES: usize = 512;

/// A `[[bridge]]` table as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    name: String,
    address: String,
    username: Option<String>,
    password_env: Option<String>,
    client_id: Option<String>,
    topics: Vec<String>,
}

/// A bridge to a broker that the centre already has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What people call it.
    pub name: DeviceId,
    /// Where that broker listens.
    pub address: Address,
    /// How the box logs in there; none: without a name.
    pub log_in: Option<LogIn>,
    /// The box's name there; none: made of its own and the bridge's.
    pub client_id: Option<String>,
    /// What it subscribes to; no two have a topic in common.
    pub topics: Vec<TopicFilter>,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name or number.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A user name, and where its secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogIn {
    /// The name.
    pub username: String,
    /// The environment variable that holds the secret.
    pub password_env: String,
}

/// A secret. Its debug output shows nothing of it: it must not reach a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// What is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// Why a `[[bridge]]` table cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsFault {
    /// The name.
    #[error("{0:?} is not a name of 1 to 64 letters, digits, '.', '_' or '-'")]
    Name(String),
    /// Where it is.
    #[error("address {0:?} is not host:port, such as 192.168.1.20:1883")]
    Address(String),
    /// Half a log-in.
    #[error("username and password_env go together")]
    HalfLogIn,
    /// The secret.
    #[error("the environment variable {0} is not set; it is to hold the password")]
    NoPassword(String),
    /// The box's name at that broker.
    #[error("client_id is empty; leave it out, and one is made")]
    ClientId,
    /// Nothing to hear.
    #[error("topics is empty; name at least one filter, such as \"zigbee2mqtt/#\"")]
    NoTopic,
    /// Too much to hear.
    #[error("topics has more than {TOPICS_MAX} filters")]
    TooManyTopics,
    /// Not a filter.
    #[error("topics: {0:?} is not a topic filter")]
    Topic(String, #[source] FilterFault),
    /// A filter nobody needs.
    #[error("topics: {0:?} is longer than {TOPIC_BYTES} bytes")]
    LongTopic(String),
    /// Others would get a part of the messages.
    #[error("topics: {0:?} is a shared subscription; others would get a part of the messages")]
    Shared(String),
    /// A press would be heard twice.
    #[error("topics: {0:?} and {1:?} have topics in common; a press there could be heard twice")]
    Overlap(String, String),
}

impl Settings {
    /// Checks a table.
    ///
    /// # Errors
    /// Says what is wrong and what would be right.
    pub fn read(table: Table) -> Result<Self, SettingsFault> {
        let name = DeviceId::try_from(table.name.clone());
        let log_in = match (table.username, table.password_env) {
            (None, None) => None,
            (Some(username), Some(password_env)) => Some(LogIn {
                username,
                password_env,
            }),
            (Some(_), None) | (None, Some(_)) => return Err(SettingsFault::HalfLogIn),
        };
        if table.client_id.as_deref() == Some("") {
            return Err(SettingsFault::ClientId);
        }
        let settings = Self {
            name: name.map_err(|_| SettingsFault::Name(table.name))?,
            address: address(&table.address).ok_or(SettingsFault::Address(table.address))?,
            log_in,
            client_id: table.client_id,
            topics: topics(&table.topics)?,
        };
        settings.password()?;
        Ok(settings)
    }

    /// The secret, from the environment; none where the box logs in without a name.
    ///
    /// # Errors
    /// [`SettingsFault::NoPassword`].
    pub fn password(&self) -> Result<Option<Password>, SettingsFault> {
        let Some(log_in) = &self.log_in else {
            return Ok(None);
        };
        let name = &log_in.password_env;
        let held = env::var(name).map_err(|_| SettingsFault::NoPassword(name.clone()))?;
        Ok(Some(Password(held)))
    }
}

fn address(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    (!host.is_empty()).then(|| Address {
        host: host.to_owned(),
        port,
    })
}

fn topics(texts: &[String]) -> Result<Vec<TopicFilter>, SettingsFault> {
    if texts.is_empty() {
        return Err(SettingsFault::NoTopic);
    }
    if texts.len() > TOPICS_MAX {
        return Err(SettingsFault::TooManyTopics);
    }
    let mut topics: Vec<TopicFilter> = Vec::with_capacity(texts.len());
    for text in texts {
        if text.len() > TOPIC_BYTES {
            return Err(SettingsFault::LongTopic(text.clone()));
        }
        if text.starts_with("$share/") {
            return Err(SettingsFault::Shared(text.clone()));
        }
        let filter = TopicFilter::parse(text);
        let filter = filter.map_err(|fault| SettingsFault::Topic(text.clone(), fault))?;
        if let Some(other) = topics.iter().find(|other| overlap(other.as_str(), text)) {
            let other = other.as_str().to_owned();
            return Err(SettingsFault::Overlap(other, text.clone()));
        }
        topics.push(filter);
    }
    Ok(topics)
}

/// Whether a topic could fall under both filters: a broker may then send it twice (MQTT 3.1.1 section 3.3.5).
fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(mine), Some(theirs)) if mine == "+" || theirs == "+" || mine == theirs => {}
            (Some(_) | None, Some(_) | None) => return false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "house"
address = "192.168.1.20:1883"
username = "antuo"
password_env = "PATH"
topics = ["zigbee2mqtt/#", "homeassistant/+/state"]
"#;

    fn read(text: &str) -> Result<Settings, SettingsFault> {
        Settings::read(toml::from_str(text).unwrap())
    }

    #[test]
    fn a_plain_table_is_enough() {
        let settings = read(GOOD).unwrap();
        assert_eq!(settings.address.to_string(), "192.168.1.20:1883");
        let password = settings.password().unwrap().unwrap();
        assert_eq!(password.as_str(), env::var("PATH").unwrap());
        assert_eq!(format!("{password:?}"), "Password");
        assert_eq!(settings.topics.len(), 2);
        let bare = "name = \"b\"\naddress = \"[::1]:1883\"\ntopics = [\"#\"]";
        let bare = read(bare).unwrap();
        assert_eq!((bare.address.host.as_str(), bare.log_in), ("[::1]", None));
    }

    #[test]
    fn nonsense_is_refused_with_what_would_be_right() {
        let refused = |from: &str, to: &str| {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD);
            read(&text).unwrap_err()
        };
        let topics = r#""zigbee2mqtt/#", "homeassistant/+/state""#;
        for (from, to, why) in [
            ("\"house\"", "\"a house\"", "1 to 64 letters"),
            (":1883", "", "host:port"),
            ("192.168.1.20:1883", ":1883", "host:port"),
            ("password_env = \"PATH\"", "", "go together"),
            ("\"PATH\"", "\"ANTUO_NOT_SET\"", "ANTUO_NOT_SET is not set"),
            (topics, "", "at least one"),
            (topics, "\"a/#/b\"", "not a topic filter"),
            (topics, "\"$share/g/a\"", "shared"),
            (topics, "\"a/+/c\", \"a/b/+\"", "in common"),
            (topics, "\"a\", \"a/#\"", "in common"),
            ("topics", "client_id = \"\"\ntopics", "client_id is empty"),
        ] {
            let told = refused(from, to).to_string();
            assert!(told.contains(why), "{to}: {told}");
        }
        let many: String = (0..=TOPICS_MAX).map(|n| format!("\"t{n}\",")).collect();
        assert_eq!(refused(topics, &many), SettingsFault::TooManyTopics);
        let long = format!("\"{}\"", "x".repeat(TOPIC_BYTES + 1));
        let told = refused(topics, &long).to_string();
        assert!(told.contains("longer than"), "{told}");
    }

    #[test]
    fn filters_side_by_side_are_taken() {
        for (one, other) in [("a/+", "a/b/c"), ("a/#", "b/#"), ("a/+/c", "a/b/d")] {
            assert!(!overlap(one, other), "{one} {other}");
        }
    }
}
