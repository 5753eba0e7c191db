//! Prints the table of figures that the README publishes. Measures, never judges: a slow machine
//! fails nothing. `ANTUO_BENCH_DIVISOR=100` divides the counts, for a look at whether it runs.

mod floor;
mod load;
mod mqtt;
mod stopwatch;
mod town;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use support::device::{Device, devices};
use support::program::Program;
use support::receiver::Receiver;
use support::world::{Receivers, World, each};
use support::{built, wait_for};

use crate::mqtt::Client;
use crate::stopwatch::{Figures, Stopwatch, per_second};

/// Presses measured one by one, each when the one before has been answered.
const PRESSES: usize = 40;
/// Pause between two presses: more than ten of one point in ten seconds would be counted, not told
/// one by one (D3).
const PAUSE: Duration = Duration::from_millis(550);
/// Door events of the throughput run.
const FLOOD: usize = 100_000;
/// Window of the throughput run: publishes under way on the one connection.
const WINDOW: usize = 20;
/// Devices of the memory figure.
const DEVICES: usize = 200;
/// A week of one event a second.
const WEEK: usize = 604_800;
/// The longer queue.
const MILLION: usize = 1_000_000;

#[tokio::main]
async fn main() -> Result<()> {
    println!("{:<58} {:>22}", "figure", "measured");
    sizes()?;
    let police = Receiver::simulated(&[]).await?;
    let receivers = Receivers::all_at(police.address);
    let mut world = World::start(1, &receivers).await?;
    let gateway = world.gateways().remove(0);
    world.box_is_configured(&gateway).await?;
    press_to_receiver(&world, &gateway, &police).await?;
    resident(&world, &gateway).await?;
    floor::measure(world.dir.path()).await?;
    throughput(&mut world, &gateway).await?;
    drop(world);
    load::measure(&receivers).await
}

/// That many, or the part of it that a dry run wants.
fn few(count: usize) -> usize {
    let divisor = std::env::var("ANTUO_BENCH_DIVISOR").ok();
    let divisor = divisor.and_then(|text| text.parse().ok());
    (count / divisor.unwrap_or(1).max(1)).max(1)
}

fn row(figure: &str, measured: &str) {
    println!("{figure:<58} {measured:>22}");
}

fn sizes() -> Result<()> {
    for name in ["antuo-gateway", "antuo-cloud"] {
        let bytes = std::fs::metadata(built(name)?)?.len();
        let tenths = bytes * 10 / 1_000_000;
        row(
            &format!("{name}, size of the program"),
            &format!("{}.{} MB", tenths / 10, tenths % 10),
        );
    }
    Ok(())
}

fn first(world: &World, role: &str) -> Result<Device> {
    devices(&world.town, 0, role)
        .into_iter()
        .next()
        .with_context(|| format!("the town has no {role}"))
}

/// Press at the MQTT socket to the receiver's reply. Each press opens a case of its own, since the
/// one before is closed in between (by two people, as a false alarm needs).
async fn press_to_receiver(world: &World, gateway: &str, police: &Receiver) -> Result<()> {
    let buttons = devices(&world.town, 0, "panic_button");
    let mut clients = Vec::new();
    for button in &buttons {
        let mqtt = world.mqtt(gateway)?;
        clients.push(Client::log_in(mqtt, &button.username, &button.secret).await?);
    }
    let operator = world.log_in(&world.person_with("operator")?).await?;
    let mut took = Figures::default();
    for n in 0..few(PRESSES) {
        let told = orders(police);
        let watch = Stopwatch::start();
        let press = format!(r#"{{"id":"bench-{n}","kind":"alarm.pressed","state":"raised"}}"#);
        let turn = n % buttons.len();
        clients[turn]
            .publish(&buttons[turn].topic, press.as_bytes())
            .await?;
        wait_briefly(|| orders(police) > told).await?;
        took.add(watch.elapsed());
        let case = operator
            .incident_that("the open case", |i| i["state"] != "closed")
            .await?;
        let id = case["id"].as_str().context("a case has an id")?;
        let close = serde_json::json!({"cause": "real", "note": "bench"});
        operator
            .post(&format!("/api/operator/incidents/{id}/close"), &close)
            .await?;
        tokio::time::sleep(PAUSE).await;
    }
    row(
        "press at the MQTT socket to the receiver's reply, p50",
        &took.at(50),
    );
    row(
        "press at the MQTT socket to the receiver's reply, p99",
        &took.at(99),
    );
    Ok(())
}

fn orders(police: &Receiver) -> usize {
    let panic = |line: &serde_json::Value| {
        line["data"]
            .as_str()
            .is_some_and(|data| data.contains("/PA"))
    };
    police.heard().iter().filter(|line| panic(line)).count()
}

/// Looks again every 200 microseconds: the figure is in milliseconds.
async fn wait_briefly(done: impl Fn() -> bool) -> Result<()> {
    let look = async {
        while !done() {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    };
    tokio::time::timeout(support::PATIENCE, look)
        .await
        .context("the receiver was never told")
}

async fn resident(world: &World, gateway: &str) -> Result<()> {
    // Spread, because the box lets only so many clients of one log-in in.
    let logins: Vec<_> = each(&world.town["centres"][0]["mqtt_credentials"]).collect();
    let mqtt = world.mqtt(gateway)?;
    let mut clients = Vec::with_capacity(DEVICES);
    for (n, login) in logins.iter().cycle().take(DEVICES).enumerate() {
        let text = |key: &str| login[key].as_str().context("a log-in of the town");
        let (username, secret) = (text("username")?, text("secret")?);
        clients.push(Client::log_in_as(mqtt, username, secret, &format!("d{n}")).await?);
    }
    ensure!(clients.len() == DEVICES, "the town has no log-ins");
    let pid = world.boxes.get(gateway).and_then(Program::pid);
    let pid = pid.context("the box runs")?;
    row(
        &format!("box, resident with {DEVICES} devices connected"),
        &resident_memory(pid)?,
    );
    drop(clients);
    Ok(())
}

fn resident_memory(pid: u32) -> Result<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .and_then(|l| l.trim().strip_suffix("kB"))
        .and_then(|n| n.trim().parse().ok())
        .context("no VmRSS in /proc")?;
    Ok(format!(
        "{}.{} MB",
        kib * 1024 / 1_000_000,
        kib * 1024 / 100_000 % 10
    ))
}

/// Durable events a second with the cloud away, until a week is queued; then the start of the box.
async fn throughput(world: &mut World, gateway: &str) -> Result<()> {
    world.cloud.take().context("the cloud runs")?.stop().await?;
    let door = first(world, "door")?;
    let mqtt = world.mqtt(gateway)?;
    let mut client = Client::log_in(mqtt, &door.username, &door.secret).await?;
    let watch = Stopwatch::start();
    flood(&mut client, &door.topic, 0, few(FLOOD)).await?;
    row(
        &format!("durable events, one connection, window {WINDOW}"),
        &per_second(few(FLOOD), watch.elapsed()),
    );
    let mut queued = few(FLOOD);
    for queue in [WEEK, MILLION] {
        flood(&mut client, &door.topic, queued, few(queue)).await?;
        queued = few(queue);
        start_again(world, gateway, queue).await?;
        client = Client::log_in(world.mqtt(gateway)?, &door.username, &door.secret).await?;
    }
    let pid = world.boxes.get(gateway).and_then(Program::pid);
    row(
        "box, resident with that queue",
        &resident_memory(pid.context("the box runs")?)?,
    );
    Ok(())
}

async fn start_again(world: &mut World, gateway: &str, queued: usize) -> Result<()> {
    world
        .boxes
        .remove(gateway)
        .context("the box runs")?
        .kill()
        .await?;
    let watch = Stopwatch::start();
    world.start_box(gateway).await?;
    let mqtt: SocketAddr = world.mqtt(gateway)?;
    wait_for("the door for devices", || async {
        Ok(tokio::net::TcpStream::connect(mqtt).await.ok())
    })
    .await?;
    row(
        &format!("box, start to listening with {queued} events queued"),
        &Figures::from(watch.elapsed()).at(50),
    );
    Ok(())
}

/// Door movements, opening and closing in turn so that every one is an event.
async fn flood(client: &mut Client, topic: &str, from: usize, to: usize) -> Result<()> {
    let payloads = (from..to).map(|n| {
        let kind = if n % 2 == 0 {
            "door.opened"
        } else {
            "door.closed"
        };
        format!(r#"{{"id":"w{n}","kind":"{kind}","state":"raised"}}"#).into_bytes()
    });
    client.publish_windowed(topic, payloads, WINDOW).await
}
