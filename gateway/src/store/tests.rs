//! The store on a real file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod damage;
mod waiting;

use super::*;
use crate::testing::{Running, Scratch, box_clock, entry, epoch, sql, submission};
use domain::time::Timestamp;
use domain::wire::{Cause, Says, read_body};
use sqlx::Connection as _;

fn stream(lane: Lane, n: i64) -> Stream {
    Stream {
        lane,
        epoch: epoch(n),
    }
}

async fn everything(reader: &mut Reader, stream: Stream) -> Vec<Held> {
    reader
        .page(stream, 0, u64::MAX, 100_000, usize::MAX)
        .await
        .unwrap()
}

fn numbers(rows: &[Held]) -> Vec<u64> {
    rows.iter().flat_map(|row| row.seq..=row.to_seq).collect()
}

#[tokio::test]
async fn what_is_committed_is_there_after_a_restart_under_its_old_numbers() {
    let scratch = Scratch::new();
    let mut first = Running::start(&scratch, 1).await;
    assert_eq!(first.opened.previous, None);
    let rows = vec![
        entry(Lane::LifeSafety, 11),
        entry(Lane::Telemetry, 12),
        entry(Lane::LifeSafety, 13),
    ];
    first.opened.store.commit(submission(rows)).await.unwrap();
    assert_eq!(first.opened.store.heads().borrow().last, [2, 0, 1]);
    let life = stream(Lane::LifeSafety, 1);
    assert_eq!(everything(&mut first.opened.reader, life).await.len(), 2);
    first.stop().await;

    let mut second = Running::start(&scratch, 2).await;
    let previous = Previous {
        epoch: epoch(1),
        last: [2, 0, 1],
    };
    assert_eq!(second.opened.previous, Some(previous));
    let held = everything(&mut second.opened.reader, life).await;
    let bodies: Vec<_> = held.iter().map(|row| row.body.get()).collect();
    assert_eq!((numbers(&held), bodies), (vec![1, 2], vec!["11", "13"]));
    assert_eq!(held[0].received, crate::testing::received(11));
    let backlog: Vec<_> = second.opened.backlog.iter().map(|h| h.stream).collect();
    assert_eq!(backlog, [life, stream(Lane::Telemetry, 1)]);
    assert_eq!(second.gauges.lane(Lane::LifeSafety).rows.get(), 2);
    second.stop().await;
}

#[tokio::test]
async fn receipts_delete_and_are_remembered() {
    let scratch = Scratch::new();
    let mut first = Running::start(&scratch, 1).await;
    let rows = (1..=2500).map(|n| entry(Lane::Telemetry, n)).collect();
    first.opened.store.commit(submission(rows)).await.unwrap();
    let receipt = Receipt {
        epoch: epoch(1),
        lane: Lane::Telemetry,
        through_seq: 2400,
        ranges: vec![(2450, 2490)],
    };
    first.opened.store.receipt(receipt).await;
    let fence = submission(vec![entry(Lane::Supervisory, 1)]);
    first.opened.store.commit(fence).await.unwrap();
    while first.gauges.lane(Lane::Telemetry).rows.get() > 59 {
        tokio::task::yield_now().await;
    }
    let left = everything(&mut first.opened.reader, stream(Lane::Telemetry, 1)).await;
    let expected: Vec<u64> = (2401..2450).chain(2491..=2500).collect();
    assert_eq!(numbers(&left), expected);
    first.stop().await;

    let mut second = Running::start(&scratch, 2).await;
    let head = &second.opened.backlog[1].ledger;
    assert_eq!(
        (head.through_seq, &head.ranges[..]),
        (2400, &[(2450, 2490)][..])
    );
    let holes = second.opened.reader.holes(epoch(2)).await.unwrap();
    assert_eq!(holes, [], "what was receipted is no hole");
    second.stop().await;
}

#[tokio::test]
async fn a_failed_commit_acknowledges_nothing_and_uses_up_no_number() {
    let scratch = Scratch::new();
    let mut box_ = Running::start(&scratch, 1).await;
    let store = box_.opened.store.clone();
    let one = || submission(vec![entry(Lane::LifeSafety, 7)]);
    store.commit(one()).await.unwrap();
    let refuse = "create trigger refuse before insert on record when new.seq = 2
                  begin select raise(abort, 'no'); end";
    sql(store.path(), refuse).await;
    let mark = Mark::State {
        key: "k".into(),
        body: Some("1".into()),
    };
    let with_mark = Submission {
        marks: vec![mark],
        ..one()
    };
    assert_eq!(store.commit(with_mark).await, Err(NotCommitted));
    assert!(store.standing().borrow().failing);
    assert_eq!(box_.gauges.commit_failures.get(), 1);
    assert_eq!(
        box_.opened
            .reader
            .marks(Timestamp::default())
            .await
            .unwrap(),
        []
    );
    sql(store.path(), "drop trigger refuse").await;
    store.commit(one()).await.unwrap();
    assert!(!store.standing().borrow().failing);
    let held = everything(&mut box_.opened.reader, stream(Lane::LifeSafety, 1)).await;
    assert_eq!(numbers(&held), [1, 2]);
    drop(store);
    box_.stop().await;
}

#[tokio::test]
async fn a_receipt_that_could_not_be_saved_is_saved_later() {
    let scratch = Scratch::new();
    let box_ = Running::start(&scratch, 1).await;
    let store = box_.opened.store.clone();
    let rows = submission(vec![entry(Lane::LifeSafety, 7)]);
    store.commit(rows).await.unwrap();
    sql(
        store.path(),
        "create trigger refuse before delete on record begin select raise(abort, 'no'); end",
    )
    .await;
    let receipt = Receipt {
        epoch: epoch(1),
        lane: Lane::LifeSafety,
        through_seq: 1,
        ranges: vec![],
    };
    store.receipt(receipt).await;
    let mut standing = store.standing();
    standing.wait_for(|s| s.failing).await.unwrap();
    sql(store.path(), "drop trigger refuse").await;
    standing.wait_for(|s| !s.failing).await.unwrap();
    assert_eq!(box_.gauges.lane(Lane::LifeSafety).rows.get(), 0);
    drop((store, standing));
    box_.stop().await;
}

#[tokio::test]
async fn marks_follow_the_last_word_and_old_vendor_ids_are_forgotten() {
    let scratch = Scratch::new();
    let box_ = Running::start(&scratch, 1).await;
    let state = |key: &str, body: Option<&str>| Mark::State {
        key: key.into(),
        body: body.map(str::to_owned),
    };
    let seen = |n: u8, hour: i64| Mark::Seen {
        vendor: [n; 16],
        at: Timestamp::from_micros(hour * 3_600_000_000),
    };
    let with = |marks| Submission {
        marks,
        ..Submission::default()
    };
    let store = &box_.opened.store;
    let first = vec![
        state("a", Some("1")),
        state("b", Some("2")),
        state("a", Some("3")),
        seen(1, 1),
    ];
    store.commit(with(first)).await.unwrap();
    let second = vec![state("b", None), seen(2, 26)];
    store.commit(with(second)).await.unwrap();
    box_.stop().await;
    let again = Running::start(&scratch, 2).await;
    let kept = &again.opened.marks;
    assert_eq!(kept, &[state("a", Some("3"))], "1970 is long past");
    let mut reader = again.opened.reader.another().await.unwrap();
    let all = reader.marks(Timestamp::default()).await.unwrap();
    assert_eq!(all, [state("a", Some("3")), seen(2, 26)]);
    reader.close().await;
    again.stop().await;
}

#[tokio::test]
async fn two_configs_are_kept() {
    let scratch = Scratch::new();
    let box_ = Running::start(&scratch, 1).await;
    for version in [3, 4, 7] {
        let config = SealedConfig {
            version,
            sealed: vec![1],
        };
        let submission = Submission {
            config: Some(config),
            ..Submission::default()
        };
        box_.opened.store.commit(submission).await.unwrap();
    }
    box_.stop().await;
    let again = Running::start(&scratch, 2).await;
    let versions: Vec<_> = again.opened.configs.iter().map(|c| c.version).collect();
    assert_eq!(versions, [7, 4]);
    again.stop().await;
}

#[tokio::test]
async fn a_file_of_a_newer_program_is_refused_untouched() {
    let scratch = Scratch::new();
    let path = scratch.path().join(FILE);
    Running::start(&scratch, 1).await.stop().await;
    sql(&path, "pragma user_version = 99").await;
    let refused = Running::try_start(&scratch, 2, Limits::DEFAULT)
        .await
        .err()
        .unwrap();
    assert!(matches!(
        refused,
        OpenError::Schema(SchemaFault::Newer { found: 99, .. })
    ));
    assert!(path.exists());
}

#[tokio::test]
async fn epochs_with_nothing_left_are_dropped_but_for_the_last() {
    let scratch = Scratch::new();
    for n in 1..=5 {
        let box_ = Running::start(&scratch, n).await;
        if n == 2 {
            let rows = submission(vec![entry(Lane::LifeSafety, 5)]);
            box_.opened.store.commit(rows).await.unwrap();
        }
        box_.stop().await;
    }
    let mut connection = connect(&scratch.path().join(FILE)).await.unwrap();
    let left = reader::all_streams(&mut connection).await.unwrap();
    let mut epochs: Vec<_> = left.iter().map(|head| head.stream.epoch).collect();
    epochs.dedup();
    assert_eq!(epochs, [epoch(2), epoch(4), epoch(5)]);
    connection.close().await.unwrap();
}

#[tokio::test]
async fn an_epoch_from_memory_is_an_old_one_after_its_return_and_is_never_the_one_before() {
    let scratch = Scratch::new();
    let mut first = Running::start(&scratch, 1).await;
    let store = first.opened.store.clone();
    let press = submission(vec![entry(Lane::LifeSafety, 11)]);
    store.commit(press).await.unwrap();
    let mut afloat = Afloat::default();
    afloat.begin(epoch(5));
    afloat.take((21..=23).map(|n| entry(Lane::LifeSafety, n)).collect());
    let receipt = Receipt {
        epoch: epoch(5),
        lane: Lane::LifeSafety,
        through_seq: 1,
        ranges: vec![],
    };
    afloat.receipt(&receipt);
    let home = Submission {
        adopted: afloat.leftovers(&"boot".into()).map(Box::new),
        ..Submission::default()
    };
    store.commit(home).await.unwrap();
    let floated = stream(Lane::LifeSafety, 5);
    let held = everything(&mut first.opened.reader, floated).await;
    assert_eq!(numbers(&held), [2, 3]);
    drop(store);
    first.stop().await;

    let mut second = Running::start(&scratch, 6).await;
    let previous = second.opened.previous.unwrap();
    assert_eq!((previous.epoch, previous.last), (epoch(1), [1, 0, 0]));
    let backlog: Vec<_> = second.opened.backlog.iter().map(|h| h.stream).collect();
    assert_eq!(backlog, [floated, stream(Lane::LifeSafety, 1)]);
    let holes = second.opened.reader.holes(epoch(6)).await.unwrap();
    assert_eq!(holes, [], "what the cloud held already is no hole");
    let all = Receipt {
        through_seq: 3,
        ..receipt
    };
    second.opened.store.receipt(all).await;
    let fence = submission(vec![entry(Lane::Supervisory, 1)]);
    second.opened.store.commit(fence).await.unwrap();
    while second.gauges.lane(Lane::LifeSafety).rows.get() > 1 {
        tokio::task::yield_now().await;
    }
    second.stop().await;
}
