//! How long rows have waited, before and after a rescue.

use super::*;
use crate::testing::received;

const LIFE: Lane = Lane::LifeSafety;

async fn with_rows(scratch: &Scratch, n: i64, rows: std::ops::RangeInclusive<u64>) -> Running {
    let box_ = Running::start(scratch, n).await;
    let rows = rows.map(|at| entry(LIFE, at)).collect();
    box_.opened.store.commit(submission(rows)).await.unwrap();
    box_
}

async fn close_holes(box_: &Running) {
    let reader = box_.opened.reader.another().await.unwrap();
    inspect(&box_.opened.store, reader, &box_clock())
        .await
        .unwrap();
}

async fn oldest(box_: &mut Running) -> Vec<Received> {
    let found = box_.opened.reader.oldest(LIFE).await.unwrap();
    found.into_iter().map(|(received, _)| received).collect()
}

#[tokio::test]
async fn the_tombstone_of_a_hole_does_not_speak_for_the_rows_behind_it() {
    let scratch = Scratch::new();
    with_rows(&scratch, 1, 11..=20).await.stop().await;
    sql(
        &scratch.path().join(FILE),
        "delete from record where seq in (1, 2, 3, 5)",
    )
    .await;
    let mut box_ = Running::start(&scratch, 2).await;
    assert_eq!(oldest(&mut box_).await, [received(14)]);
    close_holes(&box_).await;
    let held = everything(&mut box_.opened.reader, stream(LIFE, 1)).await;
    assert_eq!(
        numbers(&held),
        (1..=10).collect::<Vec<_>>(),
        "the holes are closed"
    );
    assert_eq!(oldest(&mut box_).await, [received(14)]);
    box_.stop().await;
}

#[tokio::test]
async fn an_epoch_of_tombstones_does_not_speak_for_the_epochs_behind_it() {
    let scratch = Scratch::new();
    with_rows(&scratch, 1, 11..=13).await.stop().await;
    with_rows(&scratch, 2, 21..=22).await.stop().await;
    let path = scratch.path().join(FILE);
    sql(&path, "delete from record where epoch = 1").await;
    let mut box_ = with_rows(&scratch, 3, 31..=31).await;
    close_holes(&box_).await;
    let tombstone = Received::from(&box_clock().now());
    let expected = [tombstone, received(21), received(31)];
    let found = oldest(&mut box_).await;
    assert_eq!(
        found.iter().map(|at| at.wall).collect::<Vec<_>>(),
        expected.map(|at| at.wall)
    );
    box_.stop().await;
}
