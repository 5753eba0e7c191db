#![allow(clippy::unwrap_used)]

use std::time::Duration;

use domain::kind::{Kind, Lane};

use super::*;
use crate::chainer::Chainer;
use crate::engine::stage::{Stage, record};

/// A chain with a case (entries 1 to 3) and a batch of two records (entry 4).
async fn chained() -> Stage {
    let stage = Stage::new().await;
    stage.alarm(1, stage.press(1)).await;
    let door = |n: u64| record(n, stage.event(u128::from(n), "door", Kind::DoorOpened));
    stage.send(Lane::Telemetry, vec![door(2), door(1)]).await;
    let chainer = Chainer::new(stage.db.clone(), stage.clock.clone(), stage.engine.clone());
    let later = stage.clock.now().after(Duration::from_secs(60));
    chainer.chain_records(later).await.unwrap();
    let verdict = stage.verdict().await;
    assert_eq!(
        (verdict.entries, verdict.records, verdict.broken),
        (4, 3, None)
    );
    stage
}

async fn broken_by(change: &'static str) -> Broken {
    let stage = chained().await;
    stage.change(change).await;
    stage.verdict().await.broken.unwrap()
}

#[tokio::test]
async fn whatever_is_changed_is_found() {
    let at = broken_by("update journal set at = at + 1 where seq = 2").await;
    assert_eq!(at, Broken::Hash(2));
    let kind = broken_by("update journal set kind = 'case.noted' where seq = 3").await;
    assert_eq!(kind, Broken::Hash(3));
    let body = broken_by("update journal set body = salt where seq = 2").await;
    assert_eq!(body, Broken::Body(2));
    let gone = broken_by("update journal set body = null where seq = 2").await;
    assert_eq!(gone, Broken::Gone(2));
    let missing = broken_by("delete from journal where seq = 2").await;
    assert_eq!(
        missing,
        Broken::Number {
            expected: 2,
            found: 3
        }
    );
    let cut = broken_by("delete from journal where seq = 4").await;
    assert_eq!(cut, Broken::Head { last: 3, head: 4 });
    let head = broken_by("update journal_head set hash = (select salt from journal where seq = 1)");
    assert_eq!(head.await, Broken::HeadHash);
    let case = broken_by("update journal set incident = null where seq = 2").await;
    assert_eq!(case, Broken::Case(2));
    let suite = broken_by("update journal set suite = 's9' where seq = 1").await;
    assert_eq!(suite, Broken::Suite(1));
}

#[tokio::test]
async fn a_changed_or_missing_record_is_found() {
    let alarm = "delete from record where lane = 'life_safety'";
    assert_eq!(broken_by(alarm).await, Broken::Record(2));
    let door = "update record set body = salt where lane = 'telemetry' and seq = 1";
    assert_eq!(broken_by(door).await, Broken::Root(4));
    let moved = "update record set chained = 4 where lane = 'life_safety'";
    assert_eq!(broken_by(moved).await, Broken::Record(2));
    let claimed =
        "insert into record select centre, gateway, epoch, lane, 9, 9, event, kind, device,
        point, received_at, committed_at, body, salt, 3 from record where lane = 'life_safety'";
    assert_eq!(broken_by(claimed).await, Broken::Claim(3));
}

#[tokio::test]
async fn an_erased_body_is_named_and_breaks_nothing() {
    let stage = chained().await;
    let erase = "update journal set body = null, salt = null, erased_under = 'term' where seq = 2";
    stage.change(erase).await;
    let verdict = stage.verdict().await;
    assert_eq!(verdict.broken, None);
    assert_eq!(verdict.erased, BTreeMap::from([("term".to_owned(), 1)]));
}

#[test]
fn the_bytes_of_an_entry_are_those_of_the_description() {
    let header = Header {
        centre: CentreId(Uuid::from_u128(1)),
        seq: 2,
        at: Timestamp::from_micros(3),
        v: 1,
        kind: "batch",
        refs: "{}",
        suite: "s1",
    };
    let mut expected = b"antuo-journal\x02s1".to_vec();
    expected.extend([0; 15]);
    expected.extend([
        1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 5,
    ]);
    expected.extend(b"batch\x00\x00\x00\x02{}");
    assert_eq!(header.bytes(), expected);
    let digest = Sha256::of(&[b"salt", b"body"]);
    let by_hand = Sha256::of(&[&[0; 32], &expected, &digest.0]);
    assert_eq!(header.hash(GENESIS, digest), by_hand);
    let [a, b, c] = [Sha256([1; 32]), Sha256([2; 32]), Sha256([3; 32])];
    let ab = Sha256::of(&[&[1], &a.0, &b.0]);
    assert_eq!(merkle_root(&[a, b, c]), Sha256::of(&[&[1], &ab.0, &c.0]));
    assert_eq!(merkle_root(&[a]), a);
}
