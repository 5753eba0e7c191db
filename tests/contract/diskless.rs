//! A box whose disk takes nothing: the real program under a limit on the size of its files, which the kernel
//! enforces as a full disk, lowered and lifted while it runs.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use support::built;
use support::device::{Device, devices};
use support::program::Program;
use support::receiver::Receiver;
use support::wait_for;
use support::world::{Receivers, World};
use tokio::process::Command;

use crate::puback::shown;

/// A town whose box can be cut off from its disk.
struct Cut {
    world: World,
    gateway: String,
    button: Device,
    _receiver: Receiver,
}

impl Cut {
    async fn prepare() -> Result<Self> {
        let receiver = Receiver::simulated(&[]).await?;
        let receivers = Receivers::all_at(receiver.address);
        let mut world = World::prepare(1, &receivers).await?;
        world.start_cloud().await?;
        let gateway = world.gateways().remove(0);
        // A program told to ignore the signal hears of the limit as an error of its write.
        let mut command = Command::new("bash");
        command
            .args(["-c", r#"trap "" XFSZ; exec "$0" run --config "$1""#])
            .arg(built("antuo-gateway")?)
            .arg(world.box_dir(&gateway).join("gateway.toml"));
        world.start_box_as(&gateway, command).await?;
        world.box_is_configured(&gateway).await?;
        let button = devices(&world.town, 0, "panic_button").remove(0);
        Ok(Self {
            world,
            gateway,
            button,
            _receiver: receiver,
        })
    }

    /// Whether files may still grow. The log of the box is far smaller than its store and is not touched.
    async fn set_disk(&self, takes: bool) -> Result<()> {
        let pid = self.world.boxes.get(&self.gateway).and_then(Program::pid);
        let wal = self.world.box_data(&self.gateway)?.join("outbox.db-wal");
        let size = std::fs::metadata(wal)?.len();
        ensure!(size > 40_000, "the store's log is {size} bytes");
        let limit = if takes {
            "unlimited".to_owned()
        } else {
            size.to_string()
        };
        let done = Command::new("prlimit")
            .args(["--pid", &pid.context("the box runs")?.to_string()])
            .arg(format!("--fsize={limit}:"))
            .status()
            .await?;
        ensure!(done.success(), "prlimit");
        Ok(())
    }

    async fn press(&self, id: &str) -> Result<()> {
        let payload = format!(r#"{{"id":"{id}","kind":"alarm.pressed","state":"raised"}}"#);
        let mqtt = self.world.mqtt(&self.gateway)?;
        self.button.publish(mqtt, &payload).await
    }

    async fn status(&self) -> Result<Value> {
        self.world.box_status(&self.gateway).await
    }

    async fn says(&self, word: &str, said: bool) -> Result<()> {
        let what = format!("the box to say {word:?}: {said}");
        wait_for(&what, || async {
            let status = self.status().await?;
            let says = status["faults"].to_string().contains(word);
            Ok((says == said).then_some(()))
        })
        .await
    }
}

#[tokio::test]
async fn without_a_disk_a_press_is_acknowledged_when_the_cloud_has_it_and_no_sooner() -> Result<()>
{
    let mut cut = Cut::prepare().await?;
    cut.press("before").await?;
    cut.set_disk(false).await?;

    // mosquitto_pub ends when it has its PUBACK: the cloud must have the press by then.
    cut.press("cut-1").await?;
    assert_eq!(shown(&cut.world, "cut-1").await?, 1);
    cut.says("the disk does not take events", true).await?;
    // Its resend is known, on the same disk-less day.
    cut.press("cut-1").await?;
    cut.press("cut-2").await?;
    assert_eq!(shown(&cut.world, "cut-1").await?, 1);
    assert_eq!(shown(&cut.world, "cut-2").await?, 1);
    // A door is not life safety: not taken, so that its device keeps it.
    let door = devices(&cut.world.town, 0, "door").remove(0);
    let mqtt = cut.world.mqtt(&cut.gateway)?;
    let opened = r#"{"id":"cut-door","kind":"door.opened","state":"raised"}"#;
    assert!(door.publish(mqtt, opened).await.is_err());

    // With the cloud away too nobody holds the press durably, and no PUBACK says so.
    cut.world
        .cloud
        .take()
        .context("the cloud runs")?
        .stop()
        .await?;
    let mut pressing = cut.button.publishing(
        mqtt,
        r#"{"id":"cut-3","kind":"alarm.pressed","state":"raised"}"#,
    )?;
    wait_for("the press in memory", || async {
        let status = cut.status().await?;
        Ok(status["in_memory_only"].as_u64().filter(|rows| *rows > 0))
    })
    .await?;
    cut.says("not forwarded", true).await?;
    assert!(
        pressing.try_wait()?.is_none(),
        "acknowledged, yet nowhere durable"
    );
    cut.world.start_cloud().await?;
    ensure!(pressing.wait().await?.success(), "no PUBACK");
    assert_eq!(shown(&cut.world, "cut-3").await?, 1);

    cut.set_disk(true).await?;
    cut.says("the disk does not take events", false).await?;
    for id in ["cut-1", "cut-3", "after"] {
        cut.press(id).await?;
    }
    door.publish(mqtt, opened).await?;
    wait_for("the press after", || async {
        Ok((shown(&cut.world, "after").await? == 1).then_some(()))
    })
    .await?;
    for id in ["before", "cut-1", "cut-2", "cut-3"] {
        assert_eq!(shown(&cut.world, id).await?, 1, "{id}");
    }
    Ok(())
}

#[tokio::test]
async fn what_only_memory_holds_comes_to_the_disk_that_is_back_and_is_acknowledged_then()
-> Result<()> {
    let mut cut = Cut::prepare().await?;
    cut.world
        .cloud
        .take()
        .context("the cloud runs")?
        .stop()
        .await?;
    cut.set_disk(false).await?;
    let mqtt = cut.world.mqtt(&cut.gateway)?;
    let press = r#"{"id":"home-1","kind":"alarm.pressed","state":"raised"}"#;
    let mut pressing = cut.button.publishing(mqtt, press)?;
    wait_for("the press in memory", || async {
        let status = cut.status().await?;
        Ok(status["in_memory_only"].as_u64().filter(|rows| *rows > 3))
    })
    .await?;
    assert!(
        pressing.try_wait()?.is_none(),
        "acknowledged, yet nowhere durable"
    );
    cut.set_disk(true).await?;
    ensure!(pressing.wait().await?.success(), "no PUBACK");
    // Acknowledged means on the disk: nothing else is left of this process.
    let program = cut.world.boxes.remove(&cut.gateway).context("a box")?;
    program.kill().await?;
    cut.world.start_cloud().await?;
    cut.world.start_box(&cut.gateway).await?;
    wait_for("the press in the cloud", || async {
        Ok((shown(&cut.world, "home-1").await? == 1).then_some(()))
    })
    .await?;
    cut.press("home-1").await?;
    cut.press("home-2").await?;
    wait_for("the press after", || async {
        Ok((shown(&cut.world, "home-2").await? == 1).then_some(()))
    })
    .await?;
    assert_eq!(shown(&cut.world, "home-1").await?, 1);
    Ok(())
}
