#![allow(clippy::unwrap_used)]

use domain::kind::{Hazard, Kind};

use super::*;
use crate::engine::stage::Stage;
use crate::incident::Confirmation;

fn ticker(stage: &Stage) -> Ticker {
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
    let ticker = ticker(&stage);
    stage
        .alarm(1, stage.event(1, "smoke", Kind::FireSmokeAlarm))
        .await;
    ticker.keep_deadlines().await.unwrap();
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
