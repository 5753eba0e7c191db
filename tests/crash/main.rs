//! `kill -9` of box, cloud and receiver at random points while devices speak, counted by the
//! simulator, which does not trust us: nothing missing, nothing doubled.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use support::program::Program;
use support::world::{Receivers, World, free_port};
use support::{built, wait_for};
use tokio::process::Command;

/// Rounds unless `ANTUO_CRASH_ROUNDS` says otherwise.
const ROUNDS: u64 = 20;
/// Messages the devices send meanwhile, a round.
const EVENTS_A_ROUND: u64 = 40;

/// Longest the devices may take for all their PUBACKs, a round and at least.
const A_ROUND_WITHIN: Duration = Duration::from_secs(5);
const TRAFFIC_WITHIN: Duration = Duration::from_secs(120);
/// Longest the devices' program may go on beyond that.
const TRAFFIC_GRACE: Duration = Duration::from_secs(60);

/// A receiver of the simulator that keeps its ledger across its own death.
struct Agency {
    name: &'static str,
    address: SocketAddr,
    ledger: PathBuf,
    program: Option<Program>,
}

impl Agency {
    fn new(name: &'static str, dir: &std::path::Path) -> Result<Self> {
        Ok(Self {
            name,
            address: free_port()?,
            ledger: dir.join(format!("{name}.ledger")),
            program: None,
        })
    }

    async fn start(&mut self) -> Result<()> {
        let args = [
            "receiver".to_owned(),
            "--name".into(),
            self.name.into(),
            "--listen".into(),
            self.address.to_string(),
            "--ledger".into(),
            self.ledger.display().to_string(),
        ];
        let log = self.ledger.with_extension("log");
        self.program = Some(Program::start("antuo-sim", &args, &log)?);
        let address = self.address;
        wait_for("the receiver to listen", || async {
            Ok(tokio::net::TcpStream::connect(address).await.ok())
        })
        .await?;
        Ok(())
    }
}

/// A repeatable stream of choices.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_or_doubled_through_random_deaths() -> Result<()> {
    let rounds = match std::env::var("ANTUO_CRASH_ROUNDS") {
        Ok(text) => text.parse().context("ANTUO_CRASH_ROUNDS is a number")?,
        Err(_) => ROUNDS,
    };
    let seed = match std::env::var("ANTUO_CRASH_SEED") {
        Ok(text) => text.parse().context("ANTUO_CRASH_SEED is a number")?,
        Err(_) => 20_261_125,
    };
    let ledgers = tempfile::tempdir()?;
    let mut agencies = [
        Agency::new("police", ledgers.path())?,
        Agency::new("fire", ledgers.path())?,
        Agency::new("monitoring", ledgers.path())?,
    ];
    for agency in &mut agencies {
        agency.start().await?;
    }
    let receivers = Receivers {
        police: agencies[0].address,
        police_backup: None,
        fire: agencies[1].address,
        monitoring: agencies[2].address,
    };
    let mut world = World::start(1, &receivers).await?;
    let gateway = world.gateways().remove(0);
    world.box_is_configured(&gateway).await?;
    let traffic_ledger = ledgers.path().join("devices.ledger");
    let within = TRAFFIC_WITHIN + A_ROUND_WITHIN * u32::try_from(rounds)?;
    let traffic = traffic(&world, &gateway, rounds, within, &traffic_ledger)?;

    let mut dice = Dice(seed);
    for round in 0..rounds {
        // The moment of death is drawn, not waited for: this pause decides what is under way.
        tokio::time::sleep(Duration::from_millis(100 + dice.below(900))).await;
        let down = Duration::from_millis(dice.below(700));
        let victim = dice.below(5);
        println!("round {round} of seed {seed}: victim {victim}, down for {down:?}");
        match victim {
            0 | 1 => {
                let program = world.boxes.remove(&gateway).context("a running box")?;
                program.kill().await?;
                tokio::time::sleep(down).await;
                world.start_box(&gateway).await?;
            }
            2 | 3 => {
                world
                    .cloud
                    .take()
                    .context("a running cloud")?
                    .kill()
                    .await?;
                tokio::time::sleep(down).await;
                world.start_cloud().await?;
            }
            _ => {
                let agency = &mut agencies[usize::try_from(dice.below(3))?];
                agency
                    .program
                    .take()
                    .context("a running receiver")?
                    .kill()
                    .await?;
                tokio::time::sleep(down).await;
                agency.start().await?;
            }
        }
    }
    traffic.finish(within + TRAFFIC_GRACE).await?;
    let (counted, clean) = count(&world, &traffic_ledger, &agencies).await?;
    tell(rounds, seed, &counted)?;
    ensure!(clean, "the count is not clean: {counted}");
    let number = |name: &str| {
        counted[name]
            .as_u64()
            .with_context(|| format!("{name} in {counted}"))
    };
    ensure!(
        number("missing")? == 0 && number("doubled")? == 0,
        "{counted}"
    );
    ensure!(
        number("puback")? >= rounds,
        "the devices were heard: {counted}"
    );
    ensure!(number("journalled")? == number("puback")?, "{counted}");
    let verified = Command::new(built("antuo-cloud")?)
        .args(["verify", "--config"])
        .arg(world.cloud_config())
        .output()
        .await?;
    let said = [verified.stdout, verified.stderr].concat();
    ensure!(
        verified.status.success(),
        "the chain does not hold: {}",
        String::from_utf8_lossy(&said)
    );
    Ok(())
}

/// The figures of the run as one line, also into the file that `make crash` ends with.
fn tell(rounds: u64, seed: u64, counted: &Value) -> Result<()> {
    let told = serde_json::json!({
        "rounds": rounds,
        "seed": seed,
        "published": counted["published"],
        "puback": counted["puback"],
        "lost": counted["missing"],
        "doubled": counted["doubled"],
    });
    println!("{told}");
    if let Some(file) = std::env::var_os("ANTUO_CRASH_REPORT") {
        std::fs::write(file, format!("{told}\n"))?;
    }
    Ok(())
}

fn traffic(
    world: &World,
    gateway: &str,
    rounds: u64,
    within: Duration,
    ledger: &std::path::Path,
) -> Result<Program> {
    let events = rounds * EVENTS_A_ROUND;
    let mut command = Command::new(built("antuo-sim")?);
    command
        .arg("traffic")
        .arg("--mqtt")
        .arg(world.box_data(gateway)?.join("addresses.json"))
        .arg("--town")
        .arg(world.town_file())
        .args([
            "--centre",
            world.town["centres"][0]["id"]
                .as_str()
                .context("a centre")?,
        ])
        .args([
            "--seed",
            "5",
            "--events",
            &events.to_string(),
            "--pace-ms",
            "20",
        ])
        .args([
            "--faults",
            "duplicate=10,garble=5,cut=3",
            "--deadline-s",
            &within.as_secs().to_string(),
        ])
        .arg("--ledger")
        .arg(ledger);
    Program::spawn("antuo-sim traffic", command, &ledger.with_extension("log"))
}

/// What the simulator counted, and whether it calls that clean.
async fn count(
    world: &World,
    devices: &std::path::Path,
    agencies: &[Agency],
) -> Result<(Value, bool)> {
    let mut command = Command::new(built("antuo-sim")?);
    command
        .args(["count", "--cloud", &format!("http://{}", world.http())])
        .arg("--town")
        .arg(world.town_file())
        .args(["--settle-s", "60", "--ledger"])
        .arg(devices);
    for agency in agencies {
        command.arg("--ledger").arg(&agency.ledger);
    }
    let out = command.output().await?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let last = text.lines().last().context("the count said nothing")?;
    let counted: Value = serde_json::from_str(last)
        .with_context(|| format!("{text}{}", String::from_utf8_lossy(&out.stderr)))?;
    if !out.status.success() {
        println!("{text}");
    }
    Ok((counted, out.status.success()))
}
