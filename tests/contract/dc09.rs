//! Our DC-09 connector against a receiver that is not ours: `pysiaalarm` 3.2.2.
//!
//! Proves that what we send is understood, not only acknowledged. Needs a Python with that package,
//! named by `ANTUO_PYSIAALARM_PYTHON`; without it the test fails and says so, because a contract that
//! is skipped proves nothing.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use ambient::{Clock, Entropy};
use antuo_cloud::dispatch::connector::{self, Connector, Described};
use antuo_cloud::dispatch::{Agency, Claimed, NotSent, Order, Outcome, Purpose, RefusedBy, Target};
use anyhow::{Context, Result, ensure};
use domain::id::{CentreId, DispatchId, IncidentId, ReceiverId};
use domain::kind::{Hazard, Kind};
use domain::time::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A running receiver; it ends when dropped.
struct Receiver {
    _process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: u64,
}

impl Receiver {
    async fn start(python: &Path, accounts: &[&str]) -> Result<Self> {
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/fixtures/receivers/pysiaalarm_receiver.py"
        );
        let mut process = Command::new(python)
            .arg(script)
            .arg("0")
            .args(accounts)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", python.display()))?;
        let stdout = process.stdout.take().context("no output")?;
        let mut receiver = Self {
            _process: process,
            lines: BufReader::new(stdout).lines(),
            port: 0,
        };
        let first = receiver.next().await?;
        receiver.port = first["port"].as_u64().context("no port")?;
        Ok(receiver)
    }

    /// The next thing it understood.
    async fn next(&mut self) -> Result<Value> {
        let line = self.lines.next_line().await?;
        Ok(serde_json::from_str(
            &line.context("the receiver went away")?,
        )?)
    }

    /// The next thing it understood that is no poll.
    async fn next_event(&mut self) -> Result<Value> {
        loop {
            let understood = self.next().await?;
            if understood["code"] != "RP" {
                return Ok(understood);
            }
        }
    }

    fn connector(&self, account: &str) -> Result<Arc<dyn Connector>> {
        let settings = json!({
            "primary": format!("127.0.0.1:{}", self.port), "backup": null,
            "receiver_no": "1", "line": "0", "poll_s": 1, "reply_timeout_ms": 10_000,
        });
        let described = Described {
            receiver: ReceiverId::at(Timestamp::from_micros(0), [0; 10]),
            protocol: "dc09".to_owned(),
            settings: settings.to_string(),
            account: account.to_owned(),
        };
        let entropy = Entropy::seeded(1);
        Ok(connector::open(&described, &Clock::system(), &entropy)?)
    }
}

fn order(account: &str, purpose: Purpose, kind: Kind, point_number: u16) -> Order {
    let then = Timestamp::from_micros(1_795_335_329_000_000);
    Order {
        dispatch: DispatchId::at(then, [1; 10]),
        incident: IncidentId::at(then, [2; 10]),
        receiver: ReceiverId::at(then, [3; 10]),
        agency: Agency::Police,
        purpose,
        hazard: kind.hazard().unwrap_or(Hazard::Technical),
        centre: CentreId::at(then, [4; 10]),
        account: account.to_owned(),
        point_number,
        kind,
        occurred_at: then,
        possible_repeat: false,
    }
}

async fn tell(connector: &dyn Connector, order: Order, number: u16, at: Timestamp) -> Outcome {
    let claimed = Claimed {
        frame: connector.frame(&order, number, at),
        order,
        attempt: 1,
        number,
        target: Target::Primary,
    };
    connector.send(&claimed).await
}

/// Every alarm we can tell, its update and its cancel, is understood with the right code, account,
/// zone and time of occurrence.
async fn every_order_is_understood(python: &Path) -> Result<()> {
    let mut receiver = Receiver::start(python, &["1234", "A1B2C3"]).await?;
    let connector = receiver.connector("1234")?;
    let poll = receiver.next().await?;
    ensure!(poll["code"] == "RP" && poll["account"] == "1234", "{poll}");
    let mut number = 0;
    let expected = [
        (Kind::AlarmPressed, "PA", "Panic Alarm", "BC"),
        (Kind::AlarmDuress, "HA", "Holdup Alarm", "BC"),
        (Kind::FireSmokeAlarm, "FA", "Fire Alarm", "FC"),
        (Kind::FireSmokePrealarm, "FA", "Fire Alarm", "FC"),
        (Kind::FireManualCallPointAlarm, "FA", "Fire Alarm", "FC"),
        (Kind::FireUnspecifiedAlarm, "FA", "Fire Alarm", "FC"),
        (Kind::FireHeatAlarm, "KA", "Heat Alarm", "FC"),
        (Kind::FireGasAlarm, "GA", "Gas Alarm", "FC"),
        (Kind::FireCoAlarm, "GA", "Gas Alarm", "FC"),
        (Kind::IntrusionAlarm, "BA", "Burglary Alarm", "BC"),
        (Kind::DoorForced, "DF", "Door Forced", "BC"),
        (Kind::ChildMissing, "QA", "Emergency Alarm", "BC"),
        (Kind::AlarmUnreadable, "UA", "Untyped Zone Alarm", "BC"),
        (Kind::GatewayGap, "YC", "Communications Fail", "BC"),
        (Kind::GatewayFork, "YC", "Communications Fail", "BC"),
        (Kind::GatewayDisk, "YX", "Service Required", "BC"),
        (Kind::BridgeOffline, "UY", "Untyped Missing Trouble", "BC"),
    ];
    for (kind, code, meaning, cancel) in expected {
        for account in ["1234", "A1B2C3"] {
            for purpose in [Purpose::Order, Purpose::Update, Purpose::Cancel] {
                number += 1;
                let order = order(account, purpose, kind, 7);
                let outcome = tell(&*connector, order, number, Clock::system().now()).await;
                ensure!(
                    matches!(outcome, Outcome::Received { .. }),
                    "{kind} {purpose}: {outcome:?}"
                );
                let understood = receiver.next_event().await?;
                let wanted = if purpose == Purpose::Cancel { cancel } else { code };
                ensure!(understood["code"] == wanted, "{kind} {purpose}: {understood}");
                if purpose == Purpose::Order {
                    ensure!(understood["meaning"] == meaning, "{understood}");
                }
                ensure!(understood["account"] == account, "{understood}");
                ensure!(understood["number"] == format!("{number:04}"), "{understood}");
                ensure!(understood["area"] == "1", "{understood}");
                ensure!(understood["zone"] == "007", "{understood}");
                let occurred = json!({ "H": "08:15:29,11-22-2026" });
                ensure!(understood["extended"] == occurred, "{understood}");
            }
        }
    }
    let told = Kind::ALL.iter().filter(|kind| kind.hazard().is_some());
    ensure!(told.count() == expected.len(), "a kind is missing here");
    Ok(())
}

/// What the receiver refuses comes back as what it is.
async fn refusals_are_told_apart(python: &Path) -> Result<()> {
    let receiver = Receiver::start(python, &["1234"]).await?;
    let connector = receiver.connector("1234")?;
    let now = Clock::system().now();
    let minute = std::time::Duration::from_secs(60);
    for (at, offset_s) in [(now.before(minute), 60), (now.after(minute), -60)] {
        let fire = order("1234", Purpose::Order, Kind::FireSmokeAlarm, 1);
        // The offset is against our clock, which is right here: the frame's time alone was wrong.
        match tell(&*connector, fire, 1, at).await {
            Outcome::Nak {
                clock_offset_micros,
            } => ensure!(
                clock_offset_micros.abs() < 30_000_000,
                "{offset_s}: {clock_offset_micros}"
            ),
            other @ (Outcome::Received { .. }
            | Outcome::Unanswered
            | Outcome::Refused { .. }
            | Outcome::NotSent { .. }) => anyhow::bail!("{offset_s}: {other:?}"),
        }
    }
    let stranger = order("9999", Purpose::Order, Kind::AlarmPressed, 1);
    let outcome = tell(&*connector, stranger, 2, now).await;
    let why = RefusedBy::UnknownAccount;
    ensure!(outcome == Outcome::Refused { why }, "{outcome:?}");
    let wordless = order("1234", Purpose::Order, Kind::DoorOpened, 1);
    let outcome = tell(&*connector, wordless, 3, now).await;
    let why = NotSent::Unsendable;
    ensure!(outcome == Outcome::NotSent { why }, "{outcome:?}");
    Ok(())
}

/// The whole contract; `python` has `pysiaalarm` 3.2.2.
async fn contract(python: &Path) -> Result<()> {
    every_order_is_understood(python).await?;
    refusals_are_told_apart(python).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_receiver_understands_us() -> Result<()> {
    let python = std::env::var_os("ANTUO_PYSIAALARM_PYTHON")
        .context("ANTUO_PYSIAALARM_PYTHON names no Python with pysiaalarm 3.2.2")?;
    contract(Path::new(&python)).await
}
