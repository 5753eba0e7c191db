//! Devices we did not write: `mosquitto_pub` and a Python client.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::world::each;
use crate::{PATIENCE, node_modules, python, root};

/// Where a box listens for MQTT, and what is spoken below it.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    /// `mqtt`, `mqtts`, `ws` or `wss`.
    pub scheme: &'static str,
    /// The address.
    pub address: SocketAddr,
}

impl Door {
    /// As clients write it.
    #[must_use]
    pub fn url(&self) -> String {
        let path = if self.scheme.starts_with("ws") {
            "/mqtt"
        } else {
            ""
        };
        format!("{}://{}{path}", self.scheme, self.address)
    }
}

/// A point of the town and how its device logs in.
#[derive(Clone, Debug)]
pub struct Device {
    /// The box it belongs to.
    pub gateway: String,
    /// Device name.
    pub device: String,
    /// Point name.
    pub point: String,
    /// Log-in name.
    pub username: String,
    /// Device secret.
    pub secret: String,
    /// Topic it speaks on (own schema).
    pub topic: String,
}

/// The points of a centre (by index in the town) with a role that speak our own schema.
#[must_use]
pub fn devices(town: &Value, centre: usize, role: &str) -> Vec<Device> {
    let centre = &town["centres"][centre];
    each(&centre["enrolments"])
        .filter(|e| e["role"] == role && e["ecosystem"] == "antuo")
        .filter_map(|e| {
            let topic = e["address"].as_str()?;
            let login = each(&centre["mqtt_credentials"]).find(|c| {
                each(&c["publish"]).filter_map(Value::as_str).any(|f| {
                    f.strip_suffix('#')
                        .is_some_and(|prefix| topic.starts_with(prefix))
                        || f == topic
                })
            })?;
            let text = |v: &Value| v.as_str().map(str::to_owned);
            Some(Device {
                gateway: text(&e["gateway"])?,
                device: text(&e["device"])?,
                point: text(&e["point"])?,
                username: text(&login["username"])?,
                secret: text(&login["secret"])?,
                topic: topic.to_owned(),
            })
        })
        .collect()
}

/// A device that listens; dropped, it goes away.
pub struct Heard {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Heard {
    /// Waits until it was told that.
    ///
    /// # Errors
    /// When it is not in time, or the client ends.
    pub async fn hears(&mut self, what: &str) -> Result<()> {
        let told = async {
            while let Some(line) = self.lines.next_line().await? {
                let line: Value = serde_json::from_str(&line)?;
                if line["do"] == what {
                    return Ok(());
                }
            }
            bail!("the client ended before it was told to {what}")
        };
        tokio::time::timeout(PATIENCE, told)
            .await
            .with_context(|| format!("not told in time: {what}"))?
    }
}

impl Device {
    /// Publishes one message with `mosquitto_pub` at QoS 1 and waits for the PUBACK.
    ///
    /// # Errors
    /// When the box refuses or does not acknowledge.
    pub async fn publish(&self, mqtt: SocketAddr, payload: &str) -> Result<()> {
        self.publish_on(mqtt, &self.topic, payload).await
    }

    /// The same on any topic.
    ///
    /// # Errors
    /// When the box refuses or does not acknowledge.
    pub async fn publish_on(&self, mqtt: SocketAddr, topic: &str, payload: &str) -> Result<()> {
        let out = self.mosquitto_pub(mqtt, topic, payload).output().await?;
        if !out.status.success() {
            bail!("mosquitto_pub: {}", String::from_utf8_lossy(&out.stderr));
        }
        Ok(())
    }

    /// The same, and does not wait: the program ends when it has its PUBACK. Dropped, it is killed.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn publishing(&self, mqtt: SocketAddr, payload: &str) -> Result<Child> {
        let mut command = self.mosquitto_pub(mqtt, &self.topic, payload);
        Ok(command.kill_on_drop(true).spawn()?)
    }

    fn mosquitto_pub(&self, mqtt: SocketAddr, topic: &str, payload: &str) -> Command {
        let mut command = Command::new("mosquitto_pub");
        command
            .args(["-h", &mqtt.ip().to_string(), "-p", &mqtt.port().to_string()])
            .args(["-u", &self.username, "-P", &self.secret])
            .args(["-q", "1", "-t", topic, "-m", payload]);
        command
    }

    /// What the box says to it, line by line, as `mosquitto_sub` prints it.
    ///
    /// # Errors
    /// When the client does not start.
    pub fn listen(&self, mqtt: SocketAddr) -> Result<Heard> {
        let mut child = Command::new("mosquitto_sub")
            .args(["-h", &mqtt.ip().to_string(), "-p", &mqtt.port().to_string()])
            .args(["-u", &self.username, "-P", &self.secret])
            .args(["-q", "1", "-t", &format!("{}/set", self.topic)])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let out = child.stdout.take().context("no standard output")?;
        Ok(Heard {
            lines: BufReader::new(out).lines(),
            _child: child,
        })
    }

    /// The topics it may speak on and hear: this and everything below.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.topic
            .rsplit_once('/')
            .map_or(&self.topic, |(prefix, _)| prefix)
    }

    /// Lets the clients of `mqtt_clients.py` talk under its log-in at a plain door; see there for the modes.
    ///
    /// # Errors
    /// With what is not so.
    pub async fn talk(&self, mqtt: SocketAddr, mode: &str) -> Result<()> {
        let door = Door {
            scheme: "mqtt",
            address: mqtt,
        };
        self.talk_at(door, Path::new(""), mode).await
    }

    /// The same at any door; `ca` is the file its certificate is checked against.
    ///
    /// # Errors
    /// With what is not so.
    pub async fn talk_at(&self, door: Door, ca: &Path, mode: &str) -> Result<()> {
        let out = Command::new(python()?)
            .arg(root().join("tests/fixtures/devices/mqtt_clients.py"))
            .args([mode, door.scheme, &door.address.ip().to_string()])
            .arg(door.address.port().to_string())
            .arg(ca)
            .args([&self.username, &self.secret, self.prefix()])
            .output()
            .await?;
        if !out.status.success() {
            bail!("mqtt_clients.py: {}", String::from_utf8_lossy(&out.stderr));
        }
        Ok(())
    }

    /// Lets MQTT.js talk under its log-in at any door, and distrust a certificate that `ca` did not sign.
    ///
    /// # Errors
    /// With what is not so.
    pub async fn talk_in_javascript(&self, door: Door, ca: &Path) -> Result<()> {
        let out = Command::new("node")
            .env("NODE_PATH", node_modules()?)
            .arg(root().join("tests/fixtures/devices/mqtt_js.js"))
            .arg(door.url())
            .arg(ca)
            .args([&self.username, &self.secret, self.prefix()])
            .output()
            .await?;
        if !out.status.success() {
            bail!("mqtt_js.js: {}", String::from_utf8_lossy(&out.stderr));
        }
        Ok(())
    }

    /// Publishes payloads with the Python client at QoS 1; ends when all are acknowledged.
    ///
    /// # Errors
    /// When the box refuses or does not acknowledge.
    pub async fn publish_from_python(&self, mqtt: SocketAddr, payloads: &[String]) -> Result<()> {
        let out = Command::new(python()?)
            .arg(root().join("tests/fixtures/devices/paho_device.py"))
            .args([mqtt.ip().to_string(), mqtt.port().to_string()])
            .args([&self.username, &self.secret, &self.topic])
            .args(payloads)
            .output()
            .await?;
        if !out.status.success() {
            bail!("paho_device.py: {}", String::from_utf8_lossy(&out.stderr));
        }
        Ok(())
    }
}
