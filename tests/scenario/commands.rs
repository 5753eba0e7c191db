//! Commands of operators at the real box: who looked, what is tested, and what a test never hides.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use support::device::{Device, devices};
use support::program::run;
use support::wait_for;
use support::world::{Session, each};

use crate::{Town, press, says, smoke};

/// A town whose hall has a siren too.
async fn with_siren() -> Result<(Town, Session, Device)> {
    let mut town = Town::start().await?;
    let mut siren = each(&town.world.town["centres"][0]["enrolments"])
        .find(|e| e["role"] == "smoke" && e["ecosystem"] == "antuo")
        .context("no smoke head")?
        .clone();
    let gateway = siren["gateway"].clone();
    siren["device"] = json!("siren-hall");
    siren["point"] = json!("siren");
    siren["role"] = json!("siren");
    siren["address"] = json!("antuo/v1/siren-hall/siren");
    siren["number"] = json!(90);
    siren["latching"] = json!(false);
    let login = json!({"gateway": gateway, "username": "siren-hall",
        "secret": "5ec12e75ec12e75ec12e75ec12e75ec9", "publish": ["antuo/v1/siren-hall/#"]});
    let centre = &mut town.world.town["centres"][0];
    let push = |list: &mut Value, new: Value| list.as_array_mut().map(|list| list.push(new));
    push(&mut centre["enrolments"], siren);
    push(&mut centre["mqtt_credentials"], login);
    let file = town.world.town_file();
    std::fs::write(&file, town.world.town.to_string())?;
    let config = town.world.cloud_config();
    let (file, config) = (file.display().to_string(), config.display().to_string());
    run("antuo-cloud", &["import", &file, "--config", &config]).await?;
    let admin = town.world.log_in(&town.world.person_with("admin")?).await?;
    wait_for("the box to know the siren", || async {
        let all = admin.get("/api/admin/gateways").await?;
        let mut boxes = each(&all["gateways"]);
        let applied = boxes.find_map(|b| b["config_version_applied"].as_u64());
        Ok(applied.filter(|version| *version > 1))
    })
    .await?;
    let operator = town
        .world
        .log_in(&town.world.person_with("operator")?)
        .await?;
    let siren = devices(&town.world.town, 0, "siren").remove(0);
    Ok((town, operator, siren))
}

/// Gives a command and gives its id.
async fn give(town: &Town, operator: &Session, act: &Value) -> Result<Value> {
    let answer = operator.post(&path(town, "commands"), act).await?;
    Ok(answer["id"].clone())
}

fn path(town: &Town, of: &str) -> String {
    let centre = town.world.town["centres"][0]["id"].as_str();
    format!("/api/operator/centres/{}/{of}", centre.unwrap_or_default())
}

/// Waits until a command is in a state.
async fn is(town: &Town, operator: &Session, id: &Value, state: &str) -> Result<()> {
    wait_for(&format!("the command to be {state}"), || async {
        let page = operator.get(&path(town, "commands")).await?;
        let found = each(&page["commands"]).find(|command| command["id"] == *id);
        Ok(found
            .filter(|command| command["state"] == state)
            .map(|_| ()))
    })
    .await
}

fn point(device: &Device) -> Value {
    json!({"device": device.device, "point": device.point})
}

#[tokio::test]
async fn an_operator_acknowledges_and_the_siren_falls_silent() -> Result<()> {
    let (town, operator, siren) = with_siren().await?;
    let mut heard = siren.listen(town.mqtt()?)?;
    let head = town.devices("smoke").remove(0);
    head.publish(town.mqtt()?, &smoke("a-1", "raised")).await?;
    heard.hears("sound").await?;
    operator
        .incident_that("the fire", |i| i["hazard"] == "fire")
        .await?;
    let act = json!({"do": "acknowledge", "point": point(&head), "activation": null});
    let id = give(&town, &operator, &act).await?;
    heard.hears("silence").await?;
    is(&town, &operator, &id, "done").await?;
    let looked = |i: &Value| each(&i["alarms"]).any(|a| a["looked"]["what"] == "acknowledged");
    let case = operator.incident_that("who looked", looked).await?;
    assert_eq!(
        case["state"], "open",
        "the point was looked at, not the case"
    );
    // A reset too early is refused by the box, in its words.
    let early = json!({"do": "reset", "point": point(&head), "activation": null, "looked": false});
    let id = give(&town, &operator, &early).await?;
    is(&town, &operator, &id, "refused").await
}

#[tokio::test]
async fn a_test_is_kept_from_the_agencies_and_hides_nothing_real() -> Result<()> {
    let (town, operator, _siren) = with_siren().await?;
    let head = town.devices("smoke").remove(0);
    let begin = json!({"do": "test_begin", "scope": "centre", "kind": "maintenance", "minutes": 30,
        "reason": "yearly"});
    let session = give(&town, &operator, &begin).await?;
    is(&town, &operator, &session, "done").await?;
    let service = operator.get(&path(&town, "service")).await?;
    assert_eq!(service["sessions"][0]["in_force"], true, "{service}");
    head.publish(town.mqtt()?, &smoke("t-1", "raised")).await?;
    let tested = |i: &Value| each(&i["alarms"]).any(|a| a["withheld"] == "session");
    let case = operator.incident_that("the tested head", tested).await?;
    assert_eq!(
        (&case["priority"], &case["dispatches"]),
        (&json!(4), &json!([]))
    );
    // A press for help in the same session goes out; nothing sent before it is still to come.
    let button = town.devices("panic_button").remove(0);
    button.publish(town.mqtt()?, &press("t-2")).await?;
    town.police.hears("the press", |l| says(l, "PA")).await?;
    assert!(town.monitoring.heard().iter().all(|l| !says(l, "FA")));
    // At the end of the session the head still says smoke: that is real.
    let end = json!({"do": "test_end", "session": session});
    let id = give(&town, &operator, &end).await?;
    is(&town, &operator, &id, "done").await?;
    town.monitoring
        .hears("the fire that is still there", |l| says(l, "FA"))
        .await?;
    let over = operator.get(&path(&town, "service")).await?;
    assert_eq!(over["sessions"], json!([]));
    Ok(())
}
