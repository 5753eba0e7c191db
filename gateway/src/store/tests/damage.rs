//! Real damage to a real file: bytes of a page written over, at rest and while it is open.

use std::fs;

use super::*;
use crate::testing::{padded, page_of, pages_with, words, wreck};

const LIFE: Lane = Lane::LifeSafety;
/// Rows in a file to be damaged: some forty pages.
const ROWS: u64 = 600;

/// A file with so many rows in the first epoch, packed, and closed in good order.
async fn seeded(scratch: &Scratch) -> PathBuf {
    let first = Running::start(scratch, 1).await;
    let rows = (1..=ROWS).map(|n| padded(LIFE, n)).collect();
    first.opened.store.commit(submission(rows)).await.unwrap();
    let path = first.opened.store.path().to_owned();
    first.stop().await;
    sql(&path, "vacuum").await;
    path
}

/// The one page that holds that row, and the numbers of all rows on it.
fn page_around(path: &Path, n: u64) -> (usize, Vec<u64>) {
    let page = *pages_with(path, &words(LIFE, n)).first().unwrap();
    let bytes = page_of(path, page);
    let text = String::from_utf8_lossy(&bytes);
    let on_it = (1..=ROWS).filter(|n| text.contains(&words(LIFE, *n)));
    (page, on_it.collect())
}

/// All numbers but those.
fn others(lost: &[u64]) -> Vec<u64> {
    (1..=ROWS).filter(|n| !lost.contains(n)).collect()
}

async fn root_page(path: &Path, name: &str) -> usize {
    let mut connection = connect(path).await.unwrap();
    let root: i64 = sqlx::query_scalar("select rootpage from sqlite_schema where name = ?")
        .bind(name)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    usize::try_from(root).unwrap() - 1
}

/// The start after the damage: all other rows are there, what is missing is named, a press is taken at once.
async fn assert_rescued(scratch: &Scratch, n: i64, lost: &[u64]) -> Running {
    let mut box_ = Running::start(scratch, n).await;
    assert!(box_.opened.store.standing().borrow().damaged);
    assert!(box_.opened.store.damage().borrow().is_none());
    assert!(!rescue::marker(box_.opened.store.path()).exists());
    let press = submission(vec![padded(LIFE, 1)]);
    box_.opened.store.commit(press).await.unwrap();
    let held = everything(&mut box_.opened.reader, stream(LIFE, 1)).await;
    assert_eq!(numbers(&held), others(lost));
    let reader = box_.opened.reader.another().await.unwrap();
    let looked = inspect(&box_.opened.store, reader, &box_clock()).await;
    looked.expect("the new file is sound");
    let whole = everything(&mut box_.opened.reader, stream(LIFE, 1)).await;
    assert_eq!(numbers(&whole), (1..=ROWS).collect::<Vec<_>>());
    box_
}

#[tokio::test]
async fn a_reader_that_meets_damage_ends_all_commits_and_the_next_start_keeps_the_other_rows() {
    let scratch = Scratch::new();
    let path = seeded(&scratch).await;
    let mut second = Running::start(&scratch, 2).await;
    let store = second.opened.store.clone();
    let press = || submission(vec![padded(LIFE, 1)]);
    store.commit(press()).await.unwrap();
    let (page, lost) = page_around(&path, 300);
    wreck(&path, page);
    store.commit(press()).await.expect("nobody knows yet");

    let reader = &mut second.opened.reader;
    let read = reader
        .page(stream(LIFE, 1), 0, ROWS, 1000, usize::MAX)
        .await;
    assert!(read.unwrap_err().is_damage());
    assert!(store.damage().borrow().is_some());
    assert!(rescue::marker(&path).exists());
    assert_eq!(store.commit(press()).await, Err(NotCommitted));
    assert_eq!(store.heads().borrow().last, [2, 0, 0]);
    drop(store);
    second.stop().await;

    let mut third = assert_rescued(&scratch, 3, &lost).await;
    let acknowledged = everything(&mut third.opened.reader, stream(LIFE, 2)).await;
    assert_eq!(
        numbers(&acknowledged),
        [1, 2],
        "the presses of the run that met it"
    );
    third.stop().await;
}

#[tokio::test]
async fn a_writer_that_meets_damage_acknowledges_nothing_and_says_why_before_it_refuses() {
    let scratch = Scratch::new();
    let path = seeded(&scratch).await;
    let second = Running::start(&scratch, 2).await;
    let store = second.opened.store.clone();
    let (page, lost) = page_around(&path, ROWS);
    wreck(&path, page);
    // A stranger's write makes SQLite read its pages again, as lack of memory would.
    sql(&path, "insert into mark (key, body) values ('k', '1')").await;
    let press = submission(vec![padded(LIFE, 1)]);
    assert_eq!(store.commit(press).await, Err(NotCommitted));
    let why = store.damage().borrow().clone();
    assert!(why.unwrap().contains("malformed"));
    assert!(rescue::marker(&path).exists());
    drop(store);
    second.stop().await;
    assert_rescued(&scratch, 3, &lost).await.stop().await;
}

#[tokio::test]
async fn a_start_that_meets_damage_while_it_writes_rescues_in_the_same_start() {
    let scratch = Scratch::new();
    let path = seeded(&scratch).await;
    // No start reads this index; only the new epoch is written to it.
    let page = root_page(&path, "sqlite_autoindex_epoch_1").await;
    wreck(&path, page);
    assert_rescued(&scratch, 2, &[]).await.stop().await;
}

#[tokio::test]
async fn rows_outlive_the_page_with_their_epochs() {
    let scratch = Scratch::new();
    let path = seeded(&scratch).await;
    let page = root_page(&path, "epoch").await;
    wreck(&path, page);
    assert_rescued(&scratch, 2, &[]).await.stop().await;
}

#[tokio::test]
async fn rows_outlive_the_page_with_their_counters() {
    let scratch = Scratch::new();
    let path = seeded(&scratch).await;
    let page = root_page(&path, "stream").await;
    wreck(&path, page);
    let box_ = assert_rescued(&scratch, 2, &[]).await;
    let backlog: Vec<_> = box_.opened.backlog.iter().collect();
    let ledger = &backlog.first().unwrap().ledger;
    assert_eq!(
        (ledger.last_seq, ledger.rows, ledger.through_seq),
        (ROWS, ROWS, 0)
    );
    box_.stop().await;
}

#[tokio::test]
async fn a_statement_that_asks_too_much_is_no_damage() {
    let scratch = Scratch::new();
    let box_ = Running::start(&scratch, 1).await;
    let rows = (1..=10_000).map(|n| entry(LIFE, n)).collect();
    assert_eq!(
        box_.opened.store.commit(submission(rows)).await,
        Err(NotCommitted)
    );
    assert!(box_.opened.store.damage().borrow().is_none());
    let press = submission(vec![entry(LIFE, 1)]);
    box_.opened.store.commit(press).await.unwrap();
    box_.stop().await;
}

#[tokio::test]
async fn damage_found_beside_the_work_is_salvaged_at_the_next_start_and_its_holes_are_named() {
    let scratch = Scratch::new();
    let path = scratch.path().join(FILE);
    let first = Running::start(&scratch, 1).await;
    for chunk in 0..20 {
        let rows = (1..=100).map(|n| entry(Lane::Telemetry, chunk * 100 + n));
        first
            .opened
            .store
            .commit(submission(rows.collect()))
            .await
            .unwrap();
    }
    let press = submission(vec![entry(Lane::LifeSafety, 1)]);
    first.opened.store.commit(press).await.unwrap();
    first.stop().await;
    let pages = usize::try_from(fs::metadata(&path).unwrap().len() / 4096).unwrap();
    wreck(&path, pages / 2);

    let second = Running::start(&scratch, 2).await;
    assert!(!second.opened.store.standing().borrow().damaged);
    let reader = second.opened.reader.another().await.unwrap();
    let looked = inspect(&second.opened.store, reader, &box_clock()).await;
    assert!(looked.unwrap_err().is_damage());
    assert!(second.opened.store.damage().borrow().is_some());
    second.stop().await;

    let mut third = Running::start(&scratch, 3).await;
    assert!(third.opened.store.standing().borrow().damaged);
    assert!(!rescue::marker(&path).exists());
    let telemetry = stream(Lane::Telemetry, 1);
    let left = everything(&mut third.opened.reader, telemetry).await.len();
    assert!((1..2000).contains(&left), "{left}");
    let reader = third.opened.reader.another().await.unwrap();
    inspect(&third.opened.store, reader, &box_clock())
        .await
        .unwrap();
    let whole = everything(&mut third.opened.reader, telemetry).await;
    assert_eq!(numbers(&whole), (1..=2000).collect::<Vec<_>>());
    let tombstones = whole
        .iter()
        .filter(|row| row.body.get().contains("tombstone"));
    for row in tombstones {
        let Says::Tombstone(tombstone) = read_body(&row.body).unwrap() else {
            panic!("{row:?}")
        };
        assert_eq!(tombstone.cause, Cause::Damaged);
        assert_eq!(
            (tombstone.seq_from, tombstone.seq_to),
            (row.seq, row.to_seq)
        );
    }
    let life = everything(&mut third.opened.reader, stream(Lane::LifeSafety, 1)).await;
    assert_eq!(life.len(), 1, "the press was taken over");
    assert_eq!(third.opened.store.heads().borrow().backlog, 1);
    third.stop().await;
}

#[tokio::test]
async fn a_file_that_is_none_is_set_aside_and_kept() {
    let scratch = Scratch::new();
    let path = scratch.path().join(FILE);
    fs::write(&path, vec![b'x'; 8192]).unwrap();
    // Eight earlier misfortunes.
    for n in 1..=8 {
        fs::write(scratch.path().join(format!("{FILE}.damaged-{n}")), b"old").unwrap();
    }
    let box_ = Running::start(&scratch, 1).await;
    assert!(box_.opened.store.standing().borrow().damaged);
    let rows = submission(vec![entry(Lane::LifeSafety, 1)]);
    box_.opened.store.commit(rows).await.unwrap();
    box_.stop().await;
    let aside = set_aside(scratch.path()).unwrap();
    let aside: Vec<_> = aside.iter().map(|(file, _)| file).collect();
    let ends = |n: usize, with: &str| aside[n].to_string_lossy().ends_with(with);
    assert_eq!(aside.len(), 1 + evidence::NEWEST_KEPT, "{aside:?}");
    assert!(ends(0, ".damaged-1") && (ends(1, ".damaged-7") || ends(2, ".damaged-7")));
    let kept = aside.iter().map(|file| fs::read(file).unwrap());
    assert_eq!(kept.filter(|bytes| bytes == &[b'x'; 8192]).count(), 1);
}

#[tokio::test]
async fn rows_between_damaged_pages_are_taken_over_too() {
    let scratch = Scratch::new();
    let path = seeded(&scratch).await;
    let mut lost = Vec::new();
    for n in [40, 200, 230, 300, 420] {
        let (page, rows) = page_around(&path, n);
        if !lost.contains(&n) {
            lost.extend(rows);
            wreck(&path, page);
        }
    }
    lost.sort_unstable();
    assert!(lost.len() < 150, "{lost:?}");
    // As the run before noted it.
    fs::write(rescue::marker(&path), b"").unwrap();
    assert_rescued(&scratch, 2, &lost).await.stop().await;
}

/// The numbers held after a file was cut off, and that the rest is named.
async fn held_after_cut(scratch: &Scratch, path: &Path, left: impl Fn(u64) -> u64) -> Vec<u64> {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(left(file.metadata().unwrap().len())).unwrap();
    drop(file);
    let mut second = Running::start(scratch, 2).await;
    assert!(second.opened.store.standing().borrow().damaged);
    let held = numbers(&everything(&mut second.opened.reader, stream(LIFE, 1)).await);
    let reader = second.opened.reader.another().await.unwrap();
    let looked = inspect(&second.opened.store, reader, &box_clock()).await;
    looked.expect("the new file is sound");
    let whole = everything(&mut second.opened.reader, stream(LIFE, 1)).await;
    assert_eq!(numbers(&whole), (1..=ROWS).collect::<Vec<_>>());
    second.stop().await;
    held
}

#[tokio::test]
async fn of_a_truncated_file_what_is_left_and_can_be_found_is_taken_over() {
    let scratch = Scratch::new();
    let path = seeded(&scratch).await;
    let held = held_after_cut(&scratch, &path, |length| length / 5 * 4).await;
    assert!(held.len() > 100 && held.len() < 600, "{}", held.len());
}

#[tokio::test]
async fn of_a_file_cut_off_within_a_page_the_rows_before_it_are_taken_over() {
    let scratch = Scratch::new();
    let path = seeded(&scratch).await;
    let (page, torn) = page_around(&path, 590);
    let held = held_after_cut(&scratch, &path, |_| page as u64 * 4096 + 3000).await;
    let before: Vec<u64> = (1..*torn.first().unwrap()).collect();
    assert!(held.starts_with(&before), "{held:?}");
}

#[tokio::test]
async fn a_file_cut_in_half_is_met_at_the_start_and_what_is_missing_is_named() {
    let scratch = Scratch::new();
    let path = seeded(&scratch).await;
    // The pages through which rows are found lie behind the cut.
    held_after_cut(&scratch, &path, |length| length / 2).await;
}

#[tokio::test]
async fn an_interrupted_swap_is_finished() {
    let scratch = Scratch::new();
    let path = scratch.path().join(FILE);
    let first = Running::start(&scratch, 1).await;
    let rows = submission(vec![entry(Lane::LifeSafety, 5)]);
    first.opened.store.commit(rows).await.unwrap();
    first.stop().await;
    fs::rename(&path, path.with_extension("db.ready")).unwrap();
    let mut second = Running::start(&scratch, 2).await;
    let life = everything(&mut second.opened.reader, stream(Lane::LifeSafety, 1)).await;
    assert_eq!(numbers(&life), [1]);
    second.stop().await;
}
