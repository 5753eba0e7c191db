//! The box as a client of a broker that the centre already has: a real Mosquitto.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;
use support::device::{Device, devices};
use support::mosquitto::{BRIDGE, Mosquitto, bridge_shows};
use support::receiver::Receiver;
use support::wait_for;
use support::world::{Receivers, World, each};

use crate::puback::{lines, read_at, shown, synced_at, traced};

/// A town with one box, whose devices speak to a Mosquitto beside it.
struct Scene {
    mosquitto: Mosquitto,
    world: World,
    gateway: String,
    _receiver: Receiver,
}

fn press(id: &str) -> String {
    format!(r#"{{"id":"{id}","kind":"alarm.pressed","state":"raised"}}"#)
}

const QOS1: &[&str] = &["-q", "1"];

impl Scene {
    /// Everything but the box runs.
    async fn prepare() -> Result<Self> {
        let receiver = Receiver::simulated(&[]).await?;
        let mut world = World::prepare(1, &Receivers::all_at(receiver.address)).await?;
        world.start_cloud().await?;
        let gateway = world.gateways().remove(0);
        let mosquitto = Mosquitto::start(world.dir.path()).await?;
        mosquitto.bridge(&world, &gateway, &["antuo/v1/#"])?;
        Ok(Self {
            mosquitto,
            world,
            gateway,
            _receiver: receiver,
        })
    }

    async fn start() -> Result<Self> {
        let mut scene = Self::prepare().await?;
        scene.start_box().await?;
        scene.world.box_is_configured(&scene.gateway).await?;
        Ok(scene)
    }

    async fn start_box(&mut self) -> Result<()> {
        self.world.start_box(&self.gateway).await?;
        self.shows("up", |up| up == 1).await
    }

    async fn kill_box(&mut self) -> Result<()> {
        let program = self.world.boxes.remove(&self.gateway);
        program.context("a running box")?.kill().await
    }

    async fn shows(&self, figure: &str, fits: impl Fn(u64) -> bool) -> Result<()> {
        bridge_shows(&self.world, &self.gateway, figure, fits).await
    }

    fn device(&self, role: &str) -> Device {
        devices(&self.world.town, 0, role).remove(0)
    }

    async fn press(&self, id: &str) -> Result<()> {
        let topic = self.device("panic_button").topic;
        self.mosquitto.publish(&topic, &press(id), QOS1).await
    }

    /// Waits until the press stands in the cloud, once.
    async fn arrives(&self, id: &str) -> Result<()> {
        wait_for(&format!("press {id} in the cloud"), || async {
            Ok((shown(&self.world, id).await? == 1).then_some(()))
        })
        .await
    }
}

#[tokio::test]
async fn presses_through_mosquitto_outlive_a_kill_of_the_box_and_a_restart_of_mosquitto()
-> Result<()> {
    let mut scene = Scene::start().await?;
    scene.press("m-1").await?;
    scene.arrives("m-1").await?;
    scene
        .shows("acknowledged_total", |count| count == 1)
        .await?;

    scene.kill_box().await?;
    scene.press("m-2").await?;
    scene.press("m-3").await?;
    scene.start_box().await?;
    scene.arrives("m-2").await?;
    scene.arrives("m-3").await?;

    scene.mosquitto.end().await?;
    scene.shows("up", |up| up == 0).await?;
    scene.mosquitto.begin().await?;
    scene.shows("up", |up| up == 1).await?;
    scene.shows("forgotten_total", |times| times == 0).await?;
    scene.press("m-4").await?;
    for id in ["m-1", "m-2", "m-3", "m-4"] {
        scene.arrives(id).await?;
    }

    scene.mosquitto.end().await?;
    scene.mosquitto.forget()?;
    scene.mosquitto.begin().await?;
    scene.shows("forgotten_total", |times| times == 1).await
}

#[tokio::test]
async fn killed_between_commit_and_acknowledgement_nothing_is_lost_or_doubled() -> Result<()> {
    let mut scene = Scene::start().await?;
    scene.kill_box().await?;
    let trace: PathBuf = scene.world.dir.path().join("trace");
    // Every answer to a socket is held for two seconds: time to kill the box while a PUBACK hangs.
    let hold = ["-e", "inject=sendto,sendmsg,writev:delay_enter=2000000"];
    let command = traced(&scene.world, &scene.gateway, &trace, &hold)?;
    scene.world.start_box_as(&scene.gateway, command).await?;
    scene.press("k-1").await?;
    wait_for("the commit", || async {
        let lines = lines(&trace);
        let read = read_at(&lines, "k-1");
        Ok(read.and_then(|read| synced_at(&lines, read)))
    })
    .await?;
    scene.kill_box().await?;
    scene.start_box().await?;
    scene.arrives("k-1").await?;
    // Sent again by Mosquitto as well, and read: it holds nothing back for the box any more.
    scene
        .shows("acknowledged_total", |count| count == 1)
        .await?;
    scene.press("k-2").await?;
    scene.arrives("k-2").await?;
    scene.arrives("k-1").await
}

#[tokio::test]
async fn a_retained_smoke_alarm_asks_instead_of_calling() -> Result<()> {
    let mut scene = Scene::prepare().await?;
    let smoke = scene.device("smoke");
    let alarm = r#"{"id":"r-1","kind":"fire.smoke.alarm","state":"raised"}"#;
    let retained = ["-q", "1", "-r"];
    scene
        .mosquitto
        .publish(&smoke.topic, alarm, &retained)
        .await?;
    scene.start_box().await?;
    scene.world.box_is_configured(&scene.gateway).await?;
    let operator = scene.world.person_with("operator")?;
    let operator = scene.world.log_in(&operator).await?;
    let of_it = |i: &Value| i["alarms"][0]["device"] == *smoke.device;
    let case = operator.incident_that("the retained alarm", of_it).await?;
    assert_eq!(each(&case["dispatches"]).count(), 0, "{case}");
    // The same, said now, calls: the case was not merely late.
    let live = alarm.replace("r-1", "r-2");
    scene.mosquitto.publish(&smoke.topic, &live, QOS1).await?;
    operator
        .incident_that("the live alarm", |i| {
            of_it(i) && each(&i["dispatches"]).count() > 0
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_lost_broker_is_a_case_and_its_return_is_told() -> Result<()> {
    let mut scene = Scene::start().await?;
    scene.mosquitto.end().await?;
    let operator = scene.world.person_with("operator")?;
    let operator = scene.world.log_in(&operator).await?;
    operator
        .incident_that("the loss of the broker", |i| {
            i["alarms"][0]["device"] == BRIDGE && i["alarms"][0]["kind"] == "bridge.offline"
        })
        .await?;
    scene.mosquitto.begin().await?;
    scene.shows("up", |up| up == 1).await?;
    operator
        .incident_that("the return of the broker", |i| {
            i["alarms"][0]["device"] == BRIDGE && i["alarms"][0]["state"] == "restored"
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_device_that_publishes_at_qos_0_is_shown_as_not_acknowledged() -> Result<()> {
    let scene = Scene::start().await?;
    let topic = scene.device("panic_button").topic;
    scene
        .mosquitto
        .publish(&topic, &press("q-0"), &["-q", "0"])
        .await?;
    scene.arrives("q-0").await?;
    let shown = scene.world.box_metrics(&scene.gateway).await?;
    assert!(
        shown.contains("antuo_box_not_acknowledged_devices 1\n"),
        "{shown}"
    );
    Ok(())
}
