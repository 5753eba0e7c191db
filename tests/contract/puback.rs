//! PUBACK means "on disk": seen on the level of system calls, and by killing the box between the
//! commit and the acknowledgement.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use support::device::{Device, devices};
use support::receiver::Receiver;
use support::world::{Receivers, World, each};
use support::{built, wait_for};
use tokio::process::Command;

/// A town whose box's devices can log in; the box then stopped, to be started under a tracer.
async fn ready_box() -> Result<(World, String, Device, Receiver)> {
    let receiver = Receiver::simulated(&[]).await?;
    let receivers = Receivers::all_at(receiver.address);
    let mut world = World::start(1, &receivers).await?;
    let gateway = world.gateways().remove(0);
    world.box_is_configured(&gateway).await?;
    let button = devices(&world.town, 0, "panic_button").remove(0);
    world
        .boxes
        .remove(&gateway)
        .context("a running box")?
        .stop()
        .await?;
    Ok((world, gateway, button, receiver))
}

/// The box's command under `strace`, which stays out of the way: the box is our direct child.
pub fn traced(world: &World, gateway: &str, trace: &Path, inject: &[&str]) -> Result<Command> {
    let mut command = Command::new("strace");
    command
        .args(["-D", "-f", "-qq", "-s", "400", "-o"])
        .arg(trace)
        .args([
            "-e",
            "trace=recvfrom,read,fdatasync,fsync,sendto,sendmsg,writev,write",
        ])
        .args(inject)
        .arg(built("antuo-gateway")?)
        .args(["run", "--config"])
        .arg(world.box_dir(gateway).join("gateway.toml"));
    Ok(command)
}

pub fn lines(trace: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(trace).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Where the box read this message from the socket.
pub fn read_at(lines: &[String], id: &str) -> Option<usize> {
    lines
        .iter()
        .position(|l| (l.contains("recvfrom") || l.contains("read")) && l.contains(id))
}

/// Where, after `from`, a sync of the store came back good.
pub fn synced_at(lines: &[String], from: usize) -> Option<usize> {
    let found = lines[from..]
        .iter()
        .position(|l| (l.contains("fdatasync") || l.contains("fsync")) && l.ends_with("= 0"));
    found.map(|at| at + from)
}

/// Where, after `from`, a PUBACK (`40 02 ..`) was written.
fn puback_at(lines: &[String], from: usize) -> Option<usize> {
    let found = lines[from..].iter().position(|l| {
        ["sendto(", "sendmsg(", "writev(", "write("]
            .iter()
            .any(|c| l.contains(c))
            && l.contains(r#""@\2\"#)
    });
    found.map(|at| at + from)
}

#[tokio::test]
async fn the_store_is_synced_before_the_puback_is_written() -> Result<()> {
    let (mut world, gateway, button, _receiver) = ready_box().await?;
    let trace: PathBuf = world.dir.path().join("trace");
    let command = traced(&world, &gateway, &trace, &[])?;
    world.start_box_as(&gateway, command).await?;
    let payload = r#"{"id":"traced-1","kind":"alarm.pressed","state":"raised"}"#;
    button.publish(world.mqtt(&gateway)?, payload).await?;
    let lines = wait_for("the PUBACK in the trace", || async {
        let lines = lines(&trace);
        let read = read_at(&lines, "traced-1");
        Ok(read.and_then(|r| puback_at(&lines, r)).map(|_| lines))
    })
    .await?;
    let read = read_at(&lines, "traced-1").context("the message was read")?;
    let synced = synced_at(&lines, read).context("the store was synced")?;
    let acked = puback_at(&lines, read).context("the PUBACK was written")?;
    assert!(
        read < synced && synced < acked,
        "read {read}, synced {synced}, acknowledged {acked}:\n{}",
        lines[read..=acked].join("\n")
    );
    Ok(())
}

/// Events of cases with that id of their device, as an operator sees them.
pub async fn shown(world: &World, vendor_id: &str) -> Result<usize> {
    let operator = world.log_in(&world.person_with("operator")?).await?;
    let all = operator.get("/api/operator/incidents?state=all").await?;
    let mut count = 0;
    for incident in each(&all["incidents"]) {
        let id = incident["id"].as_str().context("an id")?;
        let events = operator
            .get(&format!("/api/operator/incidents/{id}/events"))
            .await?;
        count += each(&events["events"])
            .filter(|e| e["vendor_id"] == vendor_id)
            .count();
    }
    Ok(count)
}

#[tokio::test]
async fn killed_between_commit_and_puback_nothing_is_lost_or_doubled() -> Result<()> {
    let (mut world, gateway, button, _receiver) = ready_box().await?;
    let trace: PathBuf = world.dir.path().join("trace");
    // Every answer to a socket is held for two seconds: time to kill the box while a PUBACK hangs.
    let hold = ["-e", "inject=sendto,sendmsg,writev:delay_enter=2000000"];
    let command = traced(&world, &gateway, &trace, &hold)?;
    world.start_box_as(&gateway, command).await?;
    let mqtt = world.mqtt(&gateway)?;
    let payload = r#"{"id":"killed-1","kind":"alarm.pressed","state":"raised"}"#;
    let pressing = {
        let button = button.clone();
        tokio::spawn(async move { button.publish(mqtt, payload).await })
    };
    wait_for("the commit", || async {
        let lines = lines(&trace);
        let read = read_at(&lines, "killed-1");
        Ok(read.and_then(|r| synced_at(&lines, r)))
    })
    .await?;
    let program = world.boxes.remove(&gateway).context("a running box")?;
    program.kill().await?;
    let acknowledged = pressing.await?.is_ok();
    let written = lines(&trace);
    let read = read_at(&written, "killed-1").context("the message was read")?;
    let finished = puback_at(&written, read).is_some_and(|at| written[at].ends_with("= 4"));
    assert!(
        !acknowledged && !finished,
        "the box was killed before its PUBACK left"
    );

    world.start_box(&gateway).await?;
    wait_for("the press in the cloud, unasked", || async {
        Ok((shown(&world, "killed-1").await? == 1).then_some(()))
    })
    .await?;
    // The device, never acknowledged, sends again under the same id; a later press proves it was read.
    button.publish(world.mqtt(&gateway)?, payload).await?;
    let later = payload.replace("killed-1", "killed-2");
    button.publish(world.mqtt(&gateway)?, &later).await?;
    wait_for("the later press", || async {
        Ok((shown(&world, "killed-2").await? == 1).then_some(()))
    })
    .await?;
    assert_eq!(shown(&world, "killed-1").await?, 1);
    Ok(())
}
