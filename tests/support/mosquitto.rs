//! A broker we did not write, as a centre may already have one.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Result, bail};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::program::Program;
use crate::wait_for;
use crate::world::{World, free_port};

/// The bridge's name in the box's settings.
pub const BRIDGE: &str = "house";

/// A Mosquitto that keeps its sessions on disk; dropped, it is killed.
pub struct Mosquitto {
    /// Its port on this machine.
    pub port: u16,
    program: Option<Program>,
    config: std::path::PathBuf,
}

impl Mosquitto {
    /// Starts one that keeps its files in `dir`.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(dir: &Path) -> Result<Self> {
        let port = free_port()?.port();
        let folder = dir.join("mosquitto");
        std::fs::create_dir_all(&folder)?;
        let config = folder.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n\
             persistence_location {}/\nautosave_interval 1\nautosave_on_changes true\n",
            folder.display()
        );
        std::fs::write(&config, text)?;
        let mut mosquitto = Self {
            port,
            program: None,
            config,
        };
        mosquitto.begin().await?;
        Ok(mosquitto)
    }

    /// Starts it again where it was, with what it kept.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn begin(&mut self) -> Result<()> {
        // Debian keeps it where only root's search path looks.
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("mosquitto");
        command.env("PATH", format!("{path}:/usr/sbin:/usr/local/sbin"));
        command.arg("-c").arg(&self.config);
        let log = self.config.with_extension("log");
        self.program = Some(Program::spawn("mosquitto", command, &log)?);
        let port = self.port;
        wait_for("Mosquitto to listen", || async {
            Ok(TcpStream::connect(("127.0.0.1", port)).await.ok())
        })
        .await?;
        Ok(())
    }

    /// Ends it in good order, so that it saves what it holds.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn end(&mut self) -> Result<()> {
        if let Some(program) = self.program.take() {
            program.stop().await?;
        }
        Ok(())
    }

    /// Throws away what it kept, as a memory card does.
    ///
    /// # Errors
    /// When it kept nothing.
    pub fn forget(&self) -> Result<()> {
        Ok(std::fs::remove_file(
            self.config.with_file_name("mosquitto.db"),
        )?)
    }

    /// Publishes with `mosquitto_pub`, with options of the caller's; ends when acknowledged.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn publish(&self, topic: &str, payload: &str, options: &[&str]) -> Result<()> {
        let out = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-t", topic, "-m", payload])
            .args(options)
            .stdin(Stdio::null())
            .output()
            .await?;
        if !out.status.success() {
            bail!("mosquitto_pub: {}", String::from_utf8_lossy(&out.stderr));
        }
        Ok(())
    }

    /// Writes it into the settings of a box, which is to hear these topics.
    ///
    /// # Errors
    /// When the settings cannot be written.
    pub fn bridge(&self, world: &World, gateway: &str, topics: &[&str]) -> Result<()> {
        let file = world.box_dir(gateway).join("gateway.toml");
        let mut text = std::fs::read_to_string(&file)?;
        text.push_str(&format!(
            "\n[[bridge]]\nname = \"{BRIDGE}\"\naddress = \"localhost:{}\"\ntopics = {topics:?}\n",
            self.port
        ));
        Ok(std::fs::write(file, text)?)
    }
}

/// Waits until a box shows a figure of its bridge that fits.
///
/// # Errors
/// When it does not in time.
pub async fn bridge_shows(
    world: &World,
    gateway: &str,
    figure: &str,
    fits: impl Fn(u64) -> bool,
) -> Result<()> {
    let name = format!("antuo_box_bridge_{figure}{{bridge=\"{BRIDGE}\"}} ");
    wait_for(figure, || async {
        let shown = world.box_metrics(gateway).await?;
        let value = shown.lines().find_map(|line| line.strip_prefix(&name));
        let value = value.and_then(|value| value.parse().ok());
        Ok(value.filter(|value| fits(*value)).map(|_| ()))
    })
    .await
}
