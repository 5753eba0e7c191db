//! What a person should know of a box: what is good, what is wrong, and the fix for each.
//!
//! Looks at settings, files, the store and the running box, changes nothing, and never shows a secret or a name.
//! What is measured here; what it means is decided in [`judge`], purely.

mod judge;
#[cfg(test)]
mod tests;

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;
use std::{fmt, fs};

use ambient::Clock;
use serde_json::{Value, json};

use crate::chain;
use crate::config::Config;
use crate::identity::Identity;
use crate::lan;
use crate::seal::BoxKey;
use crate::store::{self, set_aside, survey};
use crate::uplink::tls;

/// Longest wait for a word of the running box. Beyond: it does not answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Longest answer read of it, in bytes. Beyond: cut, and then no answer of ours.
const ANSWER_BYTES: u64 = 64 * 1024;

/// How it is with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// To be known; nothing is broken.
    Note,
    /// To be mended.
    Wrong,
}

impl Verdict {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Wrong => "wrong",
        }
    }
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub about: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// In words.
    pub says: String,
    /// What to do, where something is to be done.
    pub fix: Option<&'static str>,
}

impl Finding {
    fn good(about: &'static str, says: impl Into<String>) -> Self {
        Self {
            about,
            verdict: Verdict::Good,
            says: says.into(),
            fix: None,
        }
    }

    fn note(about: &'static str, says: impl Into<String>, fix: &'static str) -> Self {
        Self {
            verdict: Verdict::Note,
            fix: Some(fix),
            ..Self::good(about, says)
        }
    }

    fn wrong(about: &'static str, says: impl Into<String>, fix: &'static str) -> Self {
        Self {
            verdict: Verdict::Wrong,
            ..Self::note(about, says, fix)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.verdict.as_str();
        write!(f, "{word:<6} {}: {}", self.about, self.says)?;
        match self.fix {
            Some(fix) => write!(f, "; {fix}"),
            None => Ok(()),
        }
    }
}

/// Everything looked at, in order.
#[derive(Debug, Default)]
pub struct Report(pub Vec<Finding>);

impl Report {
    /// Things to be mended.
    #[must_use]
    pub fn wrong(&self) -> usize {
        let of = self.0.iter();
        of.filter(|finding| finding.verdict == Verdict::Wrong)
            .count()
    }

    /// For a machine.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let findings: Vec<Value> = self
            .0
            .iter()
            .map(|finding| {
                json!({
                    "about": finding.about,
                    "verdict": finding.verdict.as_str(),
                    "says": finding.says,
                    "fix": finding.fix,
                })
            })
            .collect();
        json!({"wrong": self.wrong(), "findings": findings})
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.0 {
            writeln!(f, "{finding}")?;
        }
        write!(f, "wrong: {}", self.wrong())
    }
}

/// The files a start reads, so that a start will not fail on them: identity, TLS, the box's own key.
#[must_use]
pub fn files(config: &Config) -> Report {
    let mut report = Vec::new();
    match Identity::read(&config.identity) {
        Ok(identity) => {
            let gateway = identity.gateway;
            report.push(match tls::client(&identity, true) {
                Ok(_) => Finding::good("identity", format!("gateway {gateway}, its key fits")),
                Err(error) => Finding::wrong(
                    "identity",
                    chain(&error),
                    "take box.pem, box.key and ca.pem of one `antuo-cloud provision`",
                ),
            });
        }
        Err(error) => report.push(Finding::wrong(
            "identity",
            chain(&error),
            "copy the folder that `antuo-cloud provision` made",
        )),
    }
    report.push(judge::key_mode(mode_of(&config.identity.join("box.key"))));
    if let Some(files) = &config.lan {
        report.push(match lan::server_config(files) {
            Ok(_) => Finding::good(
                "certificate",
                "the one for the centre's network can be used",
            ),
            Err(error) => Finding::wrong(
                "certificate",
                chain(&error),
                "take lan.pem and lan.key of `antuo-cloud provision --lan-name`",
            ),
        });
    }
    report.push(match BoxKey::read(&config.data_dir) {
        Ok(None) => Finding::good("sealing key", "none yet; the first start makes it"),
        Ok(Some(_)) => judge::sealing_key(mode_of(&config.data_dir.join(crate::seal::FILE))),
        Err(error) => Finding::wrong(
            "sealing key",
            chain(&error),
            "restore box-seal.key; without it the Config kept cannot be opened and is asked for anew",
        ),
    });
    Report(report)
}

/// When not even the settings can be read.
#[must_use]
pub fn unreadable(why: &str) -> Report {
    let fix = "mend the file as it says, or take the one `antuo-cloud provision` made";
    Report(vec![Finding::wrong("settings", why, fix)])
}

/// Looks at everything.
pub async fn examine(config: &Config, clock: &Clock) -> Report {
    let now = clock.now();
    let mut report = vec![Finding::good("settings", "read")];
    report.extend(files(config).0);
    report.push(judge::clock(config.clock, now));
    let in_clear = config.mqtt.tcp.iter().chain(&config.mqtt.websocket);
    report.extend(in_clear.filter_map(judge::listener));
    report.extend(stored(config, clock).await);
    report.extend(running(config));
    Report(report)
}

async fn stored(config: &Config, clock: &Clock) -> Vec<Finding> {
    let directory = &config.data_dir;
    let path = directory.join(store::FILE);
    let mut report = Vec::new();
    if path.exists() {
        match survey(&path, clock.now()).await {
            Ok(seen) => {
                let key = BoxKey::read(directory).ok().flatten();
                report.extend(judge::store(&seen, config.outbox));
                report.push(judge::config(&seen, key.as_ref(), clock.now()));
            }
            Err(error) => report.push(Finding::wrong(
                "store",
                chain(&error),
                "restart the box: its start sets a damaged file aside and keeps what reads; then look at the disk",
            )),
        }
    } else {
        let says = "no file yet; the first start makes it";
        report.push(Finding::good("store", says));
    }
    if store::is_marked_damaged(&path) {
        report.push(Finding::wrong(
            "store",
            "damage was met at work",
            "restart the box: its start rescues what reads",
        ));
    }
    // A folder that is not there holds none.
    report.extend(judge::set_aside(&set_aside(directory).unwrap_or_default()));
    report
}

/// What the running box says of itself.
fn running(config: &Config) -> Vec<Finding> {
    let addresses = fs::read_to_string(config.data_dir.join("addresses.json"));
    let addresses = addresses.ok().and_then(|text| {
        let addresses: Value = serde_json::from_str(&text).ok()?;
        addresses["status"].as_str()?.parse::<SocketAddr>().ok()
    });
    let Some(status) = addresses else {
        return vec![judge::silent("no box runs on this folder")];
    };
    match ask(status) {
        Ok(said) => judge::said(&said),
        Err(error) => vec![judge::silent(&format!("{status} does not answer: {error}"))],
    }
}

fn ask(status: SocketAddr) -> io::Result<Value> {
    let mut line = TcpStream::connect_timeout(&status, ANSWER_WITHIN)?;
    line.set_read_timeout(Some(ANSWER_WITHIN))?;
    line.set_write_timeout(Some(ANSWER_WITHIN))?;
    write!(
        line,
        "GET / HTTP/1.0\r\nHost: {status}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    line.take(ANSWER_BYTES).read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    let said = body.and_then(|body| serde_json::from_str(body).ok());
    said.ok_or_else(|| io::Error::other("no answer of a box"))
}

/// Who may read a file; none when it cannot be looked at.
fn mode_of(path: &Path) -> Option<u32> {
    let meta = fs::metadata(path).ok()?;
    Some(meta.permissions().mode() & 0o777)
}
