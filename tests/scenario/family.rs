//! A card at the door reaches the child's own guardian, and nobody else's.

use anyhow::{Context, Result};
use futures_util::StreamExt;
use serde_json::{Value, json};
use support::world::each;

use crate::Town;

/// The town's child whose guardian has a card and only this one child: (guardian, card, child).
fn single_child(town: &Value) -> Option<(Value, String, Value)> {
    let centre = &town["centres"][0];
    each(&town["people"]).find_map(|person| {
        let children: Vec<_> = each(&person["grants"])
            .filter(|g| g["role"] == "guardian")
            .collect();
        let [only] = children[..] else { return None };
        let child = each(&centre["children"]).find(|c| c["id"] == only["child"])?;
        let card = each(&centre["credentials"])
            .find(|c| c["holder"]["kind"] == "guardian" && c["holder"]["id"] == person["id"])?;
        person["username"].as_str()?;
        Some((
            person.clone(),
            card["card"].as_str()?.to_owned(),
            child.clone(),
        ))
    })
}

/// Reads a stream of events until one carries this child in this state.
async fn until_present(response: reqwest::Response, child: &Value) -> Result<String> {
    let mut text = String::new();
    let mut bytes = response.bytes_stream();
    let reading = async {
        while let Some(part) = bytes.next().await {
            text.push_str(&String::from_utf8_lossy(&part?));
            let shown = text
                .lines()
                .filter_map(|l| l.strip_prefix("data:"))
                .filter_map(|d| serde_json::from_str::<Value>(d).ok())
                .any(|v| v["id"] == child["id"] && v["presence"]["state"] == "present");
            if shown {
                return Ok(());
            }
        }
        anyhow::bail!("the stream ended")
    };
    tokio::time::timeout(support::PATIENCE, reading)
        .await
        .context("the child's arrival on the stream")??;
    Ok(text)
}

#[tokio::test]
async fn an_arrival_reaches_the_own_guardian_only() -> Result<()> {
    let town = Town::start().await?;
    let (guardian, card, child) = single_child(&town.world.town).context("a fitting family")?;
    let stranger = town
        .world
        .people_with("guardian")
        .into_iter()
        .find(|p| each(&p["grants"]).all(|g| g["child"] != child["id"]))
        .context("another family")?;
    let own = town.world.log_in(&guardian).await?;
    let other = town.world.log_in(&stranger).await?;

    let before = own.get("/api/family/children").await?;
    assert_eq!(before["children"][0]["presence"]["state"], "expected");
    let stream = own.stream("/api/family/stream").await?;
    let reader = town
        .devices("reader")
        .into_iter()
        .find(|d| {
            each(&town.world.town["centres"][0]["enrolments"])
                .any(|e| e["device"] == *d.device && e["point"] == *d.point && e["passage"] == "in")
        })
        .context("a reader at the entrance")?;
    let tap = json!({"id": "t-1", "kind": "access.granted", "state": "raised", "credential": card});
    reader.publish(town.mqtt()?, &tap.to_string()).await?;
    let seen = until_present(stream, &child).await?;
    assert!(
        seen.contains("event: reset") || seen.contains("event:reset"),
        "a snapshot comes first"
    );

    let id = child["id"].as_str().context("an id")?;
    let history = own
        .get(&format!("/api/family/children/{id}/events"))
        .await?;
    let kinds: Vec<_> = each(&history["events"])
        .map(|e| e["kind"].clone())
        .collect();
    assert_eq!(kinds, [json!("presence.checked_in")]);

    let theirs = other.get("/api/family/children").await?;
    assert!(each(&theirs["children"]).all(|c| c["id"] != child["id"]));
    let peek = other
        .get(&format!("/api/family/children/{id}/events"))
        .await;
    assert!(peek.is_err_and(|e| e.to_string().starts_with("404")));
    let operator = town
        .world
        .log_in(&town.world.person_with("operator")?)
        .await?;
    assert!(
        operator.get("/api/family/children").await.is_err(),
        "an operator sees no family"
    );
    assert!(
        own.get("/api/operator/incidents").await.is_err(),
        "a guardian sees no cases"
    );
    Ok(())
}
