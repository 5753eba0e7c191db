//! Bad input: told, counted, and no trouble for anybody else.

use anyhow::{Context, Result};
use support::device::Device;
use support::wait_for;

use crate::{Town, press, says};

/// The sum of a metric over its labels.
fn metric(text: &str, name: &str, label: &str) -> f64 {
    text.lines()
        .filter(|l| l.starts_with(name) && l.contains(label))
        .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[tokio::test]
async fn garbage_is_told_and_the_next_press_still_goes_through() -> Result<()> {
    let town = Town::start().await?;
    let mqtt = town.mqtt()?;
    let button = town.devices("panic_button").remove(0);
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let rubbish = [
        "",
        "{",
        "null",
        "[]",
        r#"{"id":7,"kind":"alarm.pressed","state":"raised"}"#,
        r#"{"kind":"alarm.pressed","state":"raised"}"#,
        r#"{"id":"x","kind":"alarm.telepathy","state":"raised"}"#,
        r#"{"id":"y","kind":"fire.smoke.alarm","state":"raised"}"#,
        &deep,
    ];
    for payload in rubbish {
        button
            .publish(mqtt, payload)
            .await
            .with_context(|| format!("{payload:.40}"))?;
    }
    let counted = wait_for("every bad message to be counted", || async {
        let text = town.world.box_metrics(&town.gateway).await?;
        let count = metric(&text, "antuo_box_events_total", "ingest.");
        Ok((count >= 9.0).then_some(count))
    });
    assert!((counted.await? - 9.0).abs() < 0.5, "one event for each");

    let stranger = Device {
        secret: "0".repeat(32),
        ..button.clone()
    };
    assert!(
        stranger.publish(mqtt, &press("g-0")).await.is_err(),
        "a wrong secret gets nowhere"
    );
    button.publish(mqtt, &press("g-1")).await?;
    town.police
        .hears("the press after the rubbish", |l| says(l, "PA"))
        .await?;
    assert_eq!(town.police.heard().len(), 1, "rubbish calls nobody");
    Ok(())
}
