//! The box under load from many connections, with the cloud away: how much it takes, and how soon it answers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use support::program::Program;
use support::world::{Receivers, World};
use tokio::task::JoinSet;

use crate::mqtt::Client;
use crate::stopwatch::{Figures, Stopwatch, per_second};
use crate::town::{self, BUTTON_LOGIN, BUTTONS, DOOR_LOGINS, SECRET};
use crate::{few, resident_memory, row};

/// Doors enrolled: one for each connection.
const DOORS: usize = 500;
/// Connections from one address; the box takes 256.
const PER_ADDRESS: usize = 200;
/// Events of one row of the throughput table.
const EVENTS: usize = 50_000;
/// Presses of one run, and pairs of an idle and a flooded run.
const PRESSES: usize = 2_000;
const PAIRS: usize = 5;
/// Door events a second of the flood, and of the paced run.
const FLOOD: u32 = 200;
const PACE: u32 = 500;
/// Connections that share the pace.
const PACERS: u32 = 10;
/// Presses of one point further apart than this, ten times over, each stand alone (D3).
const ALONE_AFTER: Duration = Duration::from_secs(10);

/// All rows of this file.
pub async fn measure(receivers: &Receivers) -> Result<()> {
    let mut world = start(receivers, DOORS, true).await?;
    let gateway = world.gateways().remove(0);
    let cloud = world.cloud.take().context("the cloud runs")?;
    cloud.stop().await?;
    let mqtt = world.mqtt(&gateway)?;
    for connections in [1, 8, 64, 500] {
        for window in [1, 20] {
            let before = held(&world, &gateway).await?;
            let sent = durable(mqtt, connections, window).await?;
            let kept = held(&world, &gateway).await? - before;
            ensure!(
                kept >= sent,
                "of {sent} acknowledged events {kept} are on disk"
            );
        }
    }
    paced(mqtt).await?;
    flooded(mqtt).await?;
    drop(world);
    for devices in [200, 2_000] {
        let world = start(receivers, devices, false).await?;
        let gateway = world.gateways().remove(0);
        let pid = world.boxes.get(&gateway).and_then(Program::pid);
        row(
            &format!("box, resident with {devices} devices enrolled"),
            &resident_memory(pid.context("the box runs")?)?,
        );
    }
    Ok(())
}

async fn start(receivers: &Receivers, doors: usize, buttons: bool) -> Result<World> {
    let mut town = World::town(1, receivers).await?;
    town::enlarge(&mut town, doors, buttons)?;
    let mut world = World::lay_out_town(town).await?;
    world.start_cloud().await?;
    let gateway = world.gateways().remove(0);
    world.start_box(&gateway).await?;
    world.box_is_configured(&gateway).await?;
    Ok(world)
}

/// The `n`th connection, under a log-in and from an address that still have room.
async fn door(mqtt: SocketAddr, n: usize) -> Result<(Client, String)> {
    let last = u8::try_from(1 + n / PER_ADDRESS)?;
    let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
    let login = n % DOOR_LOGINS;
    let (username, id) = (town::door_login(login), format!("door-{n}"));
    let client = Client::log_in_from(from, mqtt, &username, SECRET, &id).await?;
    Ok((client, town::door_topic(login, n / DOOR_LOGINS)))
}

/// The `n`th movement of a door in the part of the run with that name: an event each.
fn moved(part: &str, n: usize) -> Vec<u8> {
    let kind = ["door.opened", "door.closed"][n % 2];
    format!(r#"{{"id":"{part}-{n}","kind":"{kind}","state":"raised"}}"#).into_bytes()
}

/// Door events that wait on the box's disk, the cloud being away.
async fn held(world: &World, gateway: &str) -> Result<usize> {
    let metrics = world.box_metrics(gateway).await?;
    let name = "antuo_box_waiting_rows{lane=\"telemetry\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.context("the box tells its rows")?.parse()?)
}

async fn durable(mqtt: SocketAddr, connections: usize, window: usize) -> Result<usize> {
    // One publish of one connection at a time waits for a commit of its own.
    let events = few(if connections * window < 20 {
        EVENTS / 10
    } else {
        EVENTS
    });
    // Even, so that every run finds its door closed and begins with an event.
    let each = (events / connections / 2).max(1) * 2;
    let mut clients = Vec::with_capacity(connections);
    for n in 0..connections {
        clients.push(door(mqtt, n).await?);
    }
    let watch = Stopwatch::start();
    let mut running = JoinSet::new();
    for (number, (mut client, topic)) in clients.into_iter().enumerate() {
        let part = format!("{connections}-{window}-{number}");
        running.spawn(async move {
            let payloads = (0..each).map(|n| moved(&part, n));
            client.publish_windowed(&topic, payloads, window).await
        });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    row(
        &format!("durable events, {connections} connections, window {window}"),
        &per_second(each * connections, watch.elapsed()),
    );
    Ok(each * connections)
}

/// Publishes one by one at a pace, and says how long each PUBACK took.
async fn at_pace(
    mqtt: SocketAddr,
    n: usize,
    part: String,
    (every, count): (Duration, usize),
) -> Result<Figures> {
    let (mut client, topic) = door(mqtt, n).await?;
    let mut ticks = tokio::time::interval(every);
    let mut took = Figures::default();
    for event in 0..count {
        ticks.tick().await;
        let watch = Stopwatch::start();
        client.publish(&topic, &moved(&part, event)).await?;
        took.add(watch.elapsed());
    }
    Ok(took)
}

async fn paced(mqtt: SocketAddr) -> Result<()> {
    let every = Duration::from_secs(1) * PACERS / PACE;
    let count = few(500);
    let mut running = JoinSet::new();
    for n in 0..PACERS as usize {
        running.spawn(at_pace(mqtt, n, format!("paced-{n}"), (every, count)));
    }
    let mut all = Figures::default();
    while let Some(took) = running.join_next().await {
        all.join(took??);
    }
    row(&format!("PUBACK at {PACE} events/s, p50"), &all.at(50));
    row(&format!("PUBACK at {PACE} events/s, p99"), &all.at(99));
    Ok(())
}

/// Pairs of runs, idle and under a flood in turn, so that a slow minute of the machine hits both alike; of each
/// kind the median of the runs' p99 is told.
async fn flooded(mqtt: SocketAddr) -> Result<()> {
    let (mut idle, mut flooded) = (Figures::default(), Figures::default());
    let mut run = 0;
    for _ in 0..PAIRS {
        idle.add(presses(mqtt, &mut run).await?.value(99));
        let every = Duration::from_secs(1) / FLOOD;
        let flood = at_pace(mqtt, 0, format!("flood-{run}"), (every, usize::MAX));
        let flood = tokio::spawn(flood);
        let took = presses(mqtt, &mut run).await;
        flood.abort();
        flooded.add(took?.value(99));
    }
    row("press to commit, idle, p99, median of 5", &idle.at(50));
    row(
        &format!("press to commit, {FLOOD} doors/s, p99, median of 5"),
        &flooded.at(50),
    );
    Ok(())
}

/// Presses one by one, of all buttons in turn: a point is pressed again only after its presses of the run before are
/// old, and at most ten times in ten seconds in this one.
async fn presses(mqtt: SocketAddr, run: &mut usize) -> Result<Figures> {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut client = Client::log_in_from(local, mqtt, BUTTON_LOGIN, SECRET, "buttons").await?;
    *run += 1;
    if *run > 1 {
        tokio::time::sleep(ALONE_AFTER).await;
    }
    let mut took = Figures::default();
    for n in 0..few(PRESSES) {
        let press = format!(r#"{{"id":"{run}-{n}","kind":"alarm.pressed","state":"raised"}}"#);
        let topic = town::button_topic(n % BUTTONS);
        let watch = Stopwatch::start();
        client.publish(&topic, press.as_bytes()).await?;
        took.add(watch.elapsed());
    }
    Ok(took)
}
