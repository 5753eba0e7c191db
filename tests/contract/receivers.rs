//! The whole way to receivers that are not ours: what they understood, not only that they replied.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::device::devices;
use support::receiver::Receiver;
use support::world::{Receivers, World, each};

/// Every account of the town, so that the foreign receiver knows them.
fn accounts(town: &Value) -> Vec<String> {
    each(&town["centres"])
        .flat_map(|centre| each(&centre["accounts"]))
        .filter_map(|a| a["account"].as_str().map(str::to_owned))
        .collect()
}

/// The zone number a receiver is told for a point.
fn number_of(town: &Value, device: &str) -> Option<u64> {
    each(&town["centres"][0]["enrolments"]).find(|e| e["device"] == device)?["number"].as_u64()
}

fn zone(line: &Value) -> Option<u64> {
    line["zone"].as_str()?.trim().parse().ok()
}

#[tokio::test]
async fn pysiaalarm_understands_a_press_a_fire_and_a_recall() -> Result<()> {
    // The receiver must know the accounts before it starts, and the town the receiver's address: the
    // accounts come from the seed alone, so a first town tells them.
    let nowhere: std::net::SocketAddr = "127.0.0.1:9".parse()?;
    let draft = Receivers::all_at(nowhere);
    let town = World::town(1, &draft).await?;
    let receiver = Receiver::pysiaalarm(&accounts(&town)).await?;
    let receivers = Receivers::all_at(receiver.address);
    let world = World::start(1, &receivers).await?;
    assert_eq!(accounts(&world.town), accounts(&town), "one seed, one town");
    let gateway = world.gateways().remove(0);
    world.box_is_configured(&gateway).await?;
    let known = accounts(&world.town);

    let button = devices(&world.town, 0, "panic_button").remove(0);
    let press = r#"{"id":"c-1","kind":"alarm.pressed","state":"raised"}"#;
    button.publish(world.mqtt(&gateway)?, press).await?;
    let panic = receiver.hears("a panic", |l| l["code"] == "PA").await?;
    assert_eq!(
        zone(&panic),
        number_of(&world.town, &button.device),
        "{panic}"
    );
    assert!(known.iter().any(|a| panic["account"] == **a), "{panic}");

    for (n, head) in devices(&world.town, 0, "smoke").iter().take(2).enumerate() {
        let smoke = format!(r#"{{"id":"c-s{n}","kind":"fire.smoke.alarm","state":"raised"}}"#);
        head.publish(world.mqtt(&gateway)?, &smoke).await?;
        let wanted = number_of(&world.town, &head.device);
        receiver
            .hears("a fire in that zone", |l| {
                l["code"] == "FA" && zone(l) == wanted
            })
            .await?;
    }

    let people = world.people_with("operator");
    let (first, second) = (
        world.log_in(&people[0]).await?,
        world.log_in(&people[1]).await?,
    );
    let case = first
        .incident_that("the panic case with its order received", |i| {
            i["hazard"] == "panic" && each(&i["dispatches"]).any(|d| d["state"] == "received")
        })
        .await?;
    let close = format!(
        "/api/operator/incidents/{}/close",
        case["id"].as_str().context("an id")?
    );
    let why = json!({"cause": "false_alarm", "note": "leaned on it"});
    first.post(&close, &why).await?;
    second.post(&close, &why).await?;
    let recall = receiver.hears("the recall", |l| l["code"] == "BC").await?;
    assert_eq!(recall["account"], panic["account"]);
    Ok(())
}
