//! Receivers we did not write, as child processes that print what they understood.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::{built, python, root, wait_for};

/// A running receiver; dropped, it is killed.
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<Value>>>,
    _child: Child,
}

impl Receiver {
    /// `pysiaalarm`, taking the accounts given.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn pysiaalarm(accounts: &[String]) -> Result<Self> {
        let mut command = Command::new(python()?);
        command
            .arg(root().join("tests/fixtures/receivers/pysiaalarm_receiver.py"))
            .arg("0")
            .args(accounts);
        Self::start(command).await
    }

    /// The simulator's receiver on a free port, with its options.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn simulated(options: &[&str]) -> Result<Self> {
        let mut command = Command::new(built("antuo-sim")?);
        command
            .args(["receiver", "--listen", "127.0.0.1:0"])
            .args(options);
        Self::start(command).await
    }

    async fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()?;
        let out = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(out).lines();
        let first = lines
            .next_line()
            .await?
            .context("the receiver said nothing")?;
        let first: Value = serde_json::from_str(&first)?;
        let address = match first["listen"].as_str() {
            Some(address) => address.parse()?,
            None => format!("127.0.0.1:{}", first["port"]).parse()?,
        };
        let heard = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(listen(lines, heard.clone()));
        Ok(Self {
            address,
            heard,
            _child: child,
        })
    }

    /// Everything it has understood so far.
    #[must_use]
    pub fn heard(&self) -> Vec<Value> {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until it has heard something that fits.
    ///
    /// # Errors
    /// When it has not in time; tells what it heard instead.
    pub async fn hears(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let found = wait_for(what, || async {
            Ok(self.heard().into_iter().find(|v| fits(v)))
        });
        found
            .await
            .with_context(|| format!("heard only: {:?}", self.heard()))
    }
}

async fn listen(mut lines: Lines<BufReader<ChildStdout>>, heard: Arc<Mutex<Vec<Value>>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(value) = serde_json::from_str(&line) {
            heard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(value);
        }
    }
}
