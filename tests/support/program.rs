//! A child process of ours: started, listened to, killed.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

use crate::{built, wait_for};

/// A running program. Dropped, it is killed.
pub struct Program {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Program {
    /// Starts a built program; its log goes to `log`.
    ///
    /// # Errors
    /// When it is not built or cannot start.
    pub fn start<S: AsRef<OsStr>>(name: &str, args: &[S], log: &Path) -> Result<Self> {
        let mut command = Command::new(built(name)?);
        command.args(args);
        Self::spawn(name, command, log)
    }

    /// Starts any command; its output goes to `log`.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{name} does not start"))?;
        Ok(Self {
            child,
            name: name.to_owned(),
            log: log.to_owned(),
        })
    }

    /// `kill -9`, and its end.
    ///
    /// # Errors
    /// When the process cannot be killed.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("kill")
    }

    /// Asks it to end (`SIGTERM`) and waits.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        let pid = self.child.id().context("already ended")?;
        let sent = Command::new("kill")
            .args(["-TERM", &pid.to_string()])
            .status()
            .await?;
        if !sent.success() {
            bail!("{} could not be told to end", self.name);
        }
        let ended = tokio::time::timeout(crate::PATIENCE, self.child.wait()).await;
        Ok(ended.with_context(|| format!("{} does not end", self.name))??)
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// When it has not within `limit`, or fails; the end of its log is shown.
    pub async fn finish(mut self, limit: Duration) -> Result<()> {
        let ended = tokio::time::timeout(limit, self.child.wait()).await;
        let status =
            ended.with_context(|| format!("{} goes on and on:\n{}", self.name, self.tail()))??;
        if !status.success() {
            bail!("{} ended with {status}:\n{}", self.name, self.tail());
        }
        Ok(())
    }

    /// Waits for the `addresses.json` the program writes once its doors are open.
    ///
    /// # Errors
    /// When it ends or stays silent instead; the end of its log is shown.
    pub async fn addresses(&mut self, data: &Path) -> Result<serde_json::Value> {
        let file = data.join("addresses.json");
        let pid = self.pid();
        let name = self.name.clone();
        let child = std::sync::Mutex::new(&mut self.child);
        let found = wait_for(&format!("{name} to open its doors"), || async {
            if let Ok(mut child) = child.lock()
                && let Some(status) = child.try_wait()?
            {
                bail!("it ended with {status}");
            }
            let Ok(text) = std::fs::read_to_string(&file) else {
                return Ok(None);
            };
            let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) else {
                return Ok(None);
            };
            let same = value["pid"].as_u64() == pid.map(u64::from);
            Ok(same.then_some(value))
        })
        .await;
        found.with_context(|| format!("{name} did not come up; its log ends:\n{}", self.tail()))
    }

    /// The last lines of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

/// Runs a built program to its end and gives its standard output.
///
/// # Errors
/// When it fails, with what it said.
pub async fn run<S: AsRef<OsStr>>(name: &str, args: &[S]) -> Result<String> {
    let out = Command::new(built(name)?)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .await?;
    let said = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        bail!("{name} ended with {}: {said}", out.status);
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
