#![allow(clippy::unwrap_used)]

use domain::kind::Kind;

use super::*;
use crate::engine::stage::{self, Stage, record};

fn chainer(stage: &Stage) -> Chainer {
    Chainer::new(stage.db.clone(), stage.clock.clone(), stage.engine.clone())
}

#[tokio::test]
async fn records_are_chained_by_minute_once() {
    let stage = Stage::new().await;
    let mut chainer = chainer(&stage);
    let doors = |stage: &Stage, from: u64, to: u64| {
        let door = |n: u64| record(n, stage.event(u128::from(n), "door", Kind::DoorOpened));
        (from..=to).map(door).collect::<Vec<_>>()
    };
    stage.send(Lane::Telemetry, doors(&stage, 1, 30)).await;
    chainer.look().await.unwrap();
    assert_eq!(
        stage.verdict().await.unchained,
        30,
        "the minute is not over"
    );
    stage.clock.advance(Duration::from_secs(60));
    stage.send(Lane::Telemetry, doors(&stage, 31, 40)).await;
    stage.alarm(1, stage.press(500)).await;
    chainer.look().await.unwrap();
    let verdict = stage.verdict().await;
    assert_eq!(
        (verdict.unchained, verdict.records, verdict.broken),
        (10, 31, None)
    );
    let chained = verdict.entries;
    chainer.chain_records(stage.clock.now()).await.unwrap();
    stage.clock.advance(Duration::from_secs(60));
    chainer.look().await.unwrap();
    chainer.look().await.unwrap();
    let verdict = stage.verdict().await;
    assert_eq!((verdict.unchained, verdict.records), (0, 41));
    assert_eq!(verdict.entries, chained + 1);
}

#[tokio::test]
async fn a_crowded_minute_makes_several_batches() {
    let stage = Stage::new().await;
    let chainer = chainer(&stage);
    let door = |n: u64| record(n, stage.event(u128::from(n), "door", Kind::DoorOpened));
    for from in [1, 501, 1_001, 1_501, 2_001] {
        let records = (from..from + 500).map(door).collect();
        stage.send(Lane::Telemetry, records).await;
    }
    let later = stage.clock.now().after(Duration::from_secs(60));
    chainer.chain_records(later).await.unwrap();
    let verdict = stage.verdict().await;
    assert_eq!(
        (verdict.entries, verdict.records, verdict.broken),
        (2, 2_500, None)
    );
}

#[tokio::test]
async fn a_centre_whose_chain_is_damaged_keeps_no_other_waiting() {
    let stage = Stage::new().await;
    let chainer = chainer(&stage);
    let door = |n: u64| record(n, stage.event(u128::from(n), "door", Kind::DoorOpened));
    stage.send(Lane::Telemetry, vec![door(1)]).await;
    stage
        .change(
            "insert into record (centre, gateway, epoch, lane, seq, to_seq, committed_at, body, salt)
             select c.id, g.id, g.id, r.lane, 1, 1, r.committed_at, r.body, r.salt
             from centre c join gateway g on g.centre = c.id, record r where c.id <> r.centre",
        )
        .await;
    stage
        .change("insert into journal_head select id, 0, credential_key from centre")
        .await;
    stage
        .change(
            "update journal_head set hash = (select salt from record limit 1)
             where centre = (select id from centre order by id desc limit 1)",
        )
        .await;
    let later = stage.clock.now().after(Duration::from_secs(60));
    chainer.chain_records(later).await.unwrap();
    let mut tx = stage.read().await;
    let left = sql!(
        &mut tx,
        fetch_all as (Uuid,),
        "select centre from record where chained is null"
    );
    assert_eq!(left.unwrap(), [(stage::id(stage::CENTRE),)]);
}
