#![allow(clippy::unwrap_used)]

use domain::kind::{Hazard, Kind};

use super::*;
use crate::engine::stage::{Stage, record};
use crate::incident::Confirmation;

async fn ticker(stage: &Stage) -> Ticker {
    Ticker::new(stage.db.clone(), stage.clock.clone(), stage.engine.clone())
}

async fn entries(stage: &Stage) -> u64 {
    let verdict = stage.verdict().await;
    assert_eq!(verdict.broken, None);
    verdict.entries
}

#[tokio::test]
async fn silence_confirms_a_fire_and_makes_it_louder() {
    let stage = Stage::new().await;
    let mut ticker = ticker(&stage).await;
    stage
        .alarm(1, stage.event(1, "smoke", Kind::FireSmokeAlarm))
        .await;
    ticker.look().await.unwrap();
    let before = entries(&stage).await;
    stage.clock.advance(Duration::from_secs(59));
    ticker.keep_deadlines().await.unwrap();
    assert_eq!(entries(&stage).await, before);
    stage.clock.advance(Duration::from_secs(1));
    ticker.keep_deadlines().await.unwrap();
    let after = entries(&stage).await;
    ticker.keep_deadlines().await.unwrap();
    assert_eq!(
        entries(&stage).await,
        after,
        "looking twice does nothing twice"
    );
    let case = stage.board().await.remove(0).case;
    assert_eq!(case.hazard, Hazard::Fire);
    assert_eq!(case.confirmation, Some(Confirmation::Timeout));
    assert_eq!(case.jobs.len(), 2);
}

#[tokio::test]
async fn records_are_chained_by_minute_once() {
    let stage = Stage::new().await;
    let mut ticker = ticker(&stage).await;
    let doors = |stage: &Stage, from: u64, to: u64| {
        let door = |n: u64| record(n, stage.event(u128::from(n), "door", Kind::DoorOpened));
        (from..=to).map(door).collect::<Vec<_>>()
    };
    stage.send(Lane::Telemetry, doors(&stage, 1, 30)).await;
    ticker.look().await.unwrap();
    assert_eq!(
        stage.verdict().await.unchained,
        30,
        "the minute is not over"
    );
    stage.clock.advance(Duration::from_secs(60));
    stage.send(Lane::Telemetry, doors(&stage, 31, 40)).await;
    stage.alarm(1, stage.press(500)).await;
    ticker.look().await.unwrap();
    let verdict = stage.verdict().await;
    assert_eq!(
        (verdict.unchained, verdict.records, verdict.broken),
        (10, 31, None)
    );
    let chained = verdict.entries;
    ticker.chain_records(stage.clock.now()).await.unwrap();
    stage.clock.advance(Duration::from_secs(60));
    ticker.look().await.unwrap();
    ticker.look().await.unwrap();
    let verdict = stage.verdict().await;
    assert_eq!((verdict.unchained, verdict.records), (0, 41));
    let escalated = 1;
    assert_eq!(verdict.entries, chained + 1 + escalated);
}

#[tokio::test]
async fn a_crowded_minute_makes_several_batches() {
    let stage = Stage::new().await;
    let ticker = ticker(&stage).await;
    let door = |n: u64| record(n, stage.event(u128::from(n), "door", Kind::DoorOpened));
    for from in [1, 501, 1_001, 1_501, 2_001] {
        let records = (from..from + 500).map(door).collect();
        stage.send(Lane::Telemetry, records).await;
    }
    let later = stage.clock.now().after(Duration::from_secs(60));
    ticker.chain_records(later).await.unwrap();
    let verdict = stage.verdict().await;
    assert_eq!(
        (verdict.entries, verdict.records, verdict.broken),
        (2, 2_500, None)
    );
}
