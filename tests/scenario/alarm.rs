//! From a press or a smoke head to the agency, and back to a quiet board.

use anyhow::Result;
use serde_json::{Value, json};
use support::wait_for;
use support::world::{Session, each};

use crate::{Town, press, says, smoke};

async fn operators(town: &Town) -> Result<(Session, Session)> {
    let people = town.world.people_with("operator");
    assert!(people.len() >= 2, "the town has two operators");
    Ok((
        town.world.log_in(&people[0]).await?,
        town.world.log_in(&people[1]).await?,
    ))
}

fn dispatch_to<'a>(incident: &'a Value, agency: &str) -> Vec<&'a Value> {
    each(&incident["dispatches"])
        .filter(|d| d["receiver"]["agency"] == agency)
        .collect()
}

fn path(incident: &Value, act: &str) -> String {
    let id = incident["id"].as_str().unwrap_or_default();
    format!("/api/operator/incidents/{id}{act}")
}

#[tokio::test]
async fn a_press_reaches_the_police_and_the_second_one_rings_again() -> Result<()> {
    let town = Town::start().await?;
    let (operator, _) = operators(&town).await?;
    let button = town.devices("panic_button").remove(0);
    button.publish(town.mqtt()?, &press("p-1")).await?;

    let told = town
        .police
        .hears("a panic code at the police", |l| says(l, "PA"))
        .await?;
    let account = each(&town.world.town["centres"][0]["accounts"])
        .find_map(|a| a["account"].as_str().filter(|a| told["account"] == **a));
    assert!(account.is_some(), "the account is the centre's: {told}");

    let case = operator
        .incident_that("the police's reply to stand as received", |i| {
            i["hazard"] == "panic"
                && dispatch_to(i, "police")
                    .iter()
                    .any(|d| d["state"] == "received")
        })
        .await?;
    assert_eq!(
        (&case["priority"], &case["state"]),
        (&json!(1), &json!("open"))
    );
    assert!(town.fire.heard().is_empty(), "a panic is no fire");

    let acted = operator
        .post(&path(&case, "/acknowledge"), &json!({}))
        .await?;
    assert_eq!(acted["incident"]["state"], "acknowledged");

    button.publish(town.mqtt()?, &press("p-2")).await?;
    let rings = wait_for("the second press in the case", || async {
        let case = operator.get(&path(&case, "")).await?;
        let alarm = case["alarms"][0].clone();
        Ok((alarm["activations"] == 2).then_some((case, alarm)))
    });
    let (again, alarm) = rings.await?;
    assert_eq!(alarm["acknowledged"], false, "the point rings again");
    assert_eq!(again["id"], case["id"]);
    let events = operator.get(&path(&case, "/events")).await?;
    let ids: Vec<_> = each(&events["events"])
        .map(|e| e["vendor_id"].clone())
        .collect();
    assert_eq!(ids, [json!("p-1"), json!("p-2")]);

    // The same message again is the same press.
    button.publish(town.mqtt()?, &press("p-2")).await?;
    button.publish(town.mqtt()?, &press("p-3")).await?;
    wait_for("the third press", || async {
        let case = operator.get(&path(&case, "")).await?;
        Ok((case["alarms"][0]["activations"] == 3).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_false_alarm_takes_two_people_and_is_recalled() -> Result<()> {
    let town = Town::start().await?;
    let (first, second) = operators(&town).await?;
    let button = town.devices("panic_button").remove(0);
    button.publish(town.mqtt()?, &press("f-1")).await?;
    let case = first
        .incident_that("the police to have been told", |i| {
            dispatch_to(i, "police")
                .iter()
                .any(|d| d["state"] == "received")
        })
        .await?;
    let close = json!({"cause": "false_alarm", "note": "leaned on it"});
    for _ in 0..2 {
        let (status, answer) = first.try_post(&path(&case, "/close"), &close).await?;
        assert_eq!(
            (status, &answer["outcome"]),
            (202, &json!("needs_second_person"))
        );
    }
    let closed = second.post(&path(&case, "/close"), &close).await?;
    assert_eq!(closed["incident"]["state"], "closed");
    town.police.hears("the recall", |l| says(l, "BC")).await?;

    // Closed is final; the next press opens a new case that names the old one.
    let (status, _) = first
        .try_post(&path(&case, "/acknowledge"), &json!({}))
        .await?;
    assert_eq!(status, 409);
    button.publish(town.mqtt()?, &press("f-2")).await?;
    let next = first
        .incident_that("a new case", |i| {
            i["state"] == "open" && i["hazard"] == "panic"
        })
        .await?;
    assert_eq!(next["linked_to"], case["id"]);
    Ok(())
}

#[tokio::test]
async fn a_second_detector_confirms_a_fire() -> Result<()> {
    let town = Town::start().await?;
    let (operator, _) = operators(&town).await?;
    let heads = town.devices("smoke");
    heads[0]
        .publish(town.mqtt()?, &smoke("s-1", "raised"))
        .await?;
    town.monitoring
        .hears("fire at the monitoring centre", |l| says(l, "FA"))
        .await?;
    let case = operator
        .incident_that("the fire case", |i| i["hazard"] == "fire")
        .await?;
    assert_eq!(case["confirmation"], Value::Null);
    assert!(
        town.fire.heard().is_empty(),
        "one head does not call the fire service by itself"
    );

    // The cached level again is not a second detector.
    heads[0]
        .publish(town.mqtt()?, &smoke("s-2", "raised"))
        .await?;
    heads[1]
        .publish(town.mqtt()?, &smoke("s-3", "raised"))
        .await?;
    town.fire
        .hears("fire at the fire service", |l| says(l, "FA"))
        .await?;
    let case = operator
        .incident_that("the confirmation", |i| i["confirmation"] == "second_point")
        .await?;
    assert_eq!(case["alarms"].as_array().map(Vec::len), Some(2));
    heads[0]
        .publish(town.mqtt()?, &smoke("s-4", "cleared"))
        .await?;
    heads[1]
        .publish(town.mqtt()?, &smoke("s-5", "cleared"))
        .await?;
    let restored = operator
        .incident_that("both heads restored", |i| {
            each(&i["alarms"]).all(|a| a["state"] == "restored")
        })
        .await?;
    assert_eq!(restored["state"], "open", "a restoral closes nothing");
    Ok(())
}
