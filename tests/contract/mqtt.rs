//! The box is a broker as clients we did not write expect one, in both versions of MQTT; what they left
//! behind is there after a kill -9.

use anyhow::{Context, Result};
use support::device::{Device, devices};
use support::receiver::Receiver;
use support::world::{Receivers, World};
use tokio::process::Command;

async fn world() -> Result<(World, String, Device, Receiver)> {
    let receiver = Receiver::simulated(&[]).await?;
    let receivers = Receivers::all_at(receiver.address);
    let world = World::start(1, &receivers).await?;
    let gateway = world.gateways().remove(0);
    world.box_is_configured(&gateway).await?;
    let button = devices(&world.town, 0, "panic_button").remove(0);
    Ok((world, gateway, button, receiver))
}

#[tokio::test]
async fn foreign_clients_of_both_versions_hear_each_other() -> Result<()> {
    let (world, gateway, button, _receiver) = world().await?;
    button.talk(world.mqtt(&gateway)?, "talk").await?;
    let metrics = world.box_metrics(&gateway).await?;
    // 20 of each client's 30 at QoS 1 or 2 and so on: what matters is that all three were used.
    let of = |qos: u8| format!("antuo_box_mqtt_publishes_total{{qos=\"{qos}\"}} 26");
    for qos in [0, 2] {
        assert!(metrics.contains(&of(qos)), "{metrics}");
    }
    Ok(())
}

#[tokio::test]
async fn sessions_and_retained_messages_outlive_a_kill() -> Result<()> {
    let (mut world, gateway, button, _receiver) = world().await?;
    button.talk(world.mqtt(&gateway)?, "leave").await?;
    let running = world.boxes.remove(&gateway).context("a running box")?;
    running.kill().await?;
    world.start_box(&gateway).await?;
    button.talk(world.mqtt(&gateway)?, "return").await
}

/// A town whose box has a door of every kind.
async fn world_with_every_door() -> Result<(World, String, Device, Receiver)> {
    let receiver = Receiver::simulated(&[]).await?;
    let receivers = Receivers::all_at(receiver.address);
    let mut world = World::prepare(1, &receivers).await?;
    let gateway = world.gateways().remove(0);
    world.open_every_door(&gateway).await?;
    world.start_cloud().await?;
    world.start_box(&gateway).await?;
    world.box_is_configured(&gateway).await?;
    let button = devices(&world.town, 0, "panic_button").remove(0);
    Ok((world, gateway, button, receiver))
}

/// Over TCP, TLS, WebSocket and both, certificate and name checked wherever there is one.
#[tokio::test]
async fn foreign_clients_talk_at_every_door() -> Result<()> {
    let (world, gateway, button, _receiver) = world_with_every_door().await?;
    let ca = world.lan_ca(&gateway);
    let doors = world.doors(&gateway)?;
    let metrics = world.box_metrics(&gateway).await?;
    let until = "antuo_box_lan_certificate_until_seconds ";
    let named = metrics.split(until).nth(1).context("no such figure")?;
    assert!(!named.starts_with('0'), "{metrics}");
    let schemes: Vec<_> = doors.iter().map(|door| door.scheme).collect();
    assert_eq!(schemes, ["mqtt", "mqtts", "ws", "wss"]);
    for door in doors {
        button
            .talk_at(door, &ca, "talk")
            .await
            .context(door.scheme)?;
        button
            .talk_in_javascript(door, &ca)
            .await
            .context(door.scheme)?;
        if matches!(door.scheme, "mqtts" | "wss") {
            let distrusted = button.talk_at(door, &ca, "distrust").await;
            distrusted.context(door.scheme)?;
            // The deployment's other CA signs for gateways, never for this.
            let other = world.cloud_dir().join("keys/ca.pem");
            let refused = button.talk_at(door, &other, "talk").await.unwrap_err();
            let why = refused.to_string();
            assert!(why.contains("CERTIFICATE_VERIFY_FAILED"), "{why}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_session_moves_from_door_to_door_and_outlives_a_kill() -> Result<()> {
    let (mut world, gateway, button, _receiver) = world_with_every_door().await?;
    let ca = world.lan_ca(&gateway);
    let [_, tls, ..] = world.doors(&gateway)?[..] else {
        anyhow::bail!("a door is missing");
    };
    button.talk_at(tls, &ca, "leave").await?;
    let running = world.boxes.remove(&gateway).context("a running box")?;
    running.kill().await?;
    world.start_box(&gateway).await?;
    let [.., both] = world.doors(&gateway)?[..] else {
        anyhow::bail!("a door is missing");
    };
    button.talk_at(both, &ca, "return").await
}

/// `mosquitto_sub` in MQTT 5 hears what `mosquitto_pub` retained in 3.1.1.
#[tokio::test]
async fn mosquitto_hears_mosquitto_across_versions_and_doors() -> Result<()> {
    let (world, gateway, button, _receiver) = world_with_every_door().await?;
    let [plain, tls, ..] = world.doors(&gateway)?[..] else {
        anyhow::bail!("a door is missing");
    };
    let ca = world.lan_ca(&gateway);
    let topic = format!("{}/kept", button.prefix());
    let client = |program: &str, version: &str| {
        let mut command = Command::new(program);
        let mqtt = if version == "5" {
            command.arg("--cafile").arg(&ca);
            tls.address
        } else {
            plain.address
        };
        command
            .args(["-h", &mqtt.ip().to_string(), "-p", &mqtt.port().to_string()])
            .args(["-u", &button.username, "-P", &button.secret])
            .args(["-V", version, "-q", "2", "-t", &topic]);
        command
    };
    let said = client("mosquitto_pub", "311")
        .args(["-r", "-m", "kept"])
        .output()
        .await?;
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    let heard = client("mosquitto_sub", "5")
        .args(["-C", "1", "-W", "20", "-v"])
        .output()
        .await?;
    assert_eq!(
        String::from_utf8_lossy(&heard.stdout).trim(),
        format!("{topic} kept")
    );
    Ok(())
}
