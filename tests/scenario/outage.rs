//! The cloud away, the box gone and back: nothing acknowledged is lost, nothing comes twice.

use anyhow::{Context, Result};
use support::wait_for;
use support::world::each;

use crate::{Town, press, says};

async fn presses_shown(town: &Town) -> Result<Vec<String>> {
    let operator = town
        .world
        .log_in(&town.world.person_with("operator")?)
        .await?;
    let all = operator.get("/api/operator/incidents?state=all").await?;
    let mut shown = Vec::new();
    for incident in each(&all["incidents"]) {
        let id = incident["id"].as_str().context("an id")?;
        let events = operator
            .get(&format!("/api/operator/incidents/{id}/events"))
            .await?;
        shown.extend(
            each(&events["events"]).filter_map(|e| e["vendor_id"].as_str().map(str::to_owned)),
        );
    }
    Ok(shown)
}

#[tokio::test]
async fn what_was_acknowledged_during_an_outage_arrives_once() -> Result<()> {
    let mut town = Town::start().await?;
    let button = town.devices("panic_button").remove(0);
    let cloud = town.world.cloud.take().context("a running cloud")?;
    assert!(cloud.stop().await?.success(), "the cloud ends cleanly");
    let ids: Vec<String> = (0..5).map(|n| format!("o-{n}")).collect();
    for id in &ids {
        button.publish(town.mqtt()?, &press(id)).await?;
    }
    // The box too dies with everything still in its outbox, and comes back.
    let gateway = town.gateway.clone();
    town.world
        .boxes
        .remove(&gateway)
        .context("a running box")?
        .kill()
        .await?;
    town.world.start_box(&gateway).await?;
    button.publish(town.mqtt()?, &press("o-5")).await?;
    town.world.start_cloud().await?;

    town.police
        .hears("the presses at the police", |l| says(l, "PA"))
        .await?;
    let shown = wait_for("all six presses", || async {
        let shown = presses_shown(&town).await?;
        Ok((shown.len() >= 6).then_some(shown))
    })
    .await?;
    assert_eq!(shown, ["o-0", "o-1", "o-2", "o-3", "o-4", "o-5"]);
    let ended = town
        .world
        .boxes
        .remove(&gateway)
        .context("a running box")?
        .stop()
        .await?;
    assert!(ended.success(), "the box ends cleanly");
    Ok(())
}
