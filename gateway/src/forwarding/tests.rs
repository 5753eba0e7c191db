//! What is told of rows that wait, over a real file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use domain::time::Timestamp;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::clock::Trust;
use crate::store::{FILE, inspect};
use crate::testing::{Running, Scratch, entry, sql, submission};

/// A wait that takes this long has failed. No test waits for it when all is well.
const HANG: Duration = Duration::from_secs(20);

/// A store under the eyes of the status task.
struct Watched {
    box_: Running,
    waiting: watch::Receiver<Ages>,
    unforwarded: watch::Receiver<Unforwarded>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// `up` after the boot that the rows of [`entry`] count from.
fn clock(up: Duration) -> BoxClock {
    let clock = ambient::Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
    BoxClock::new(clock, "boot", up, Trust::System)
}

fn told() -> (Told, watch::Receiver<Ages>, watch::Receiver<Unforwarded>) {
    let told = Told {
        ages: watch::Sender::new([None; 3]),
        unforwarded: watch::Sender::default(),
    };
    let (ages, unforwarded) = (told.ages.subscribe(), told.unforwarded.subscribe());
    (told, ages, unforwarded)
}

impl Watched {
    async fn start(box_: Running, up: Duration) -> Self {
        let (told, waiting, unforwarded) = told();
        let (stop, stopped) = watch::channel(false);
        let reader = box_.opened.reader.another().await.unwrap();
        let gauges = Arc::clone(&box_.gauges);
        let afloat = box_.opened.store.afloat().subscribe();
        let task = super::watch((reader, afloat), clock(up), gauges, told, stopped);
        Self {
            box_,
            waiting,
            unforwarded,
            stop,
            task: tokio::spawn(task),
        }
    }

    /// The ages of the next look that began after this call.
    async fn look(&mut self) -> [Option<Duration>; 3] {
        for _ in 0..2 {
            self.waiting.mark_unchanged();
            let looked = timeout(HANG, self.waiting.changed()).await;
            looked.expect("no look").unwrap();
        }
        *self.waiting.borrow()
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
        self.box_.stop().await;
    }
}

async fn with_press(scratch: &Scratch) -> Running {
    let box_ = Running::start(scratch, 1).await;
    let press = submission(vec![entry(Lane::LifeSafety, 0)]);
    box_.opened.store.commit(press).await.unwrap();
    box_
}

#[tokio::test]
async fn a_press_without_a_receipt_is_shown_as_not_forwarded_after_ten_seconds() {
    let scratch = Scratch::new();
    let mut young = Watched::start(with_press(&scratch).await, NOT_FORWARDED_AFTER).await;
    assert_eq!(young.look().await[0], Some(NOT_FORWARDED_AFTER));
    assert!(!young.box_.gauges.not_forwarded.get());
    let old = NOT_FORWARDED_AFTER + Duration::from_millis(1);
    let reader = young.box_.opened.reader.another().await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let gauges = Arc::clone(&young.box_.gauges);
    let (told, mut waiting, _) = told();
    let afloat = young.box_.opened.store.afloat().subscribe();
    let task = super::watch((reader, afloat), clock(old), gauges, told, stopped);
    let task = tokio::spawn(task);
    waiting.changed().await.unwrap();
    assert!(young.box_.gauges.not_forwarded.get());
    stop.send(true).unwrap();
    task.await.unwrap();
    young.stop().await;
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_never_shown_as_forwarded() {
    let scratch = Scratch::new();
    let mut watched = Watched::start(with_press(&scratch).await, Duration::from_secs(3)).await;
    assert_eq!(watched.look().await[0], Some(Duration::from_secs(3)));
    assert!(!watched.box_.gauges.not_forwarded.get());
    let path = scratch.path().join(FILE);
    sql(&path, "alter table record rename to hidden").await;
    let unreadable = watched.look().await[0].expect("it has waited no less than before");
    assert!(unreadable >= Duration::from_secs(4), "{unreadable:?}");
    assert!(watched.box_.gauges.not_forwarded.get());
    sql(&path, "alter table hidden rename to record").await;
    assert_eq!(watched.look().await[0], Some(Duration::from_secs(3)));
    assert!(!watched.box_.gauges.not_forwarded.get());
    watched.stop().await;
}

#[tokio::test]
async fn a_store_that_could_never_be_read_is_not_shown_as_forwarded_either() {
    let scratch = Scratch::new();
    let box_ = with_press(&scratch).await;
    let path = scratch.path().join(FILE);
    sql(&path, "alter table record rename to hidden").await;
    let mut watched = Watched::start(box_, Duration::from_secs(3)).await;
    watched.look().await;
    assert!(watched.box_.gauges.not_forwarded.get());
    watched.stop().await;
}

#[tokio::test]
async fn a_tombstone_made_now_does_not_make_an_old_press_forwarded() {
    let scratch = Scratch::new();
    for start in 1..=2 {
        let former = Running::start(&scratch, start).await;
        let presses = (0..3).map(|n| entry(Lane::LifeSafety, n)).collect();
        let store = &former.opened.store;
        store.commit(submission(presses)).await.unwrap();
        former.stop().await;
    }
    // Nothing is left of one life, and all but the beginning of the next.
    let path = scratch.path().join(FILE);
    sql(&path, "delete from record where epoch = 1 or seq = 1").await;
    let box_ = Running::start(&scratch, 3).await;
    let now = clock(Duration::from_secs(60));
    let reader = box_.opened.reader.another().await.unwrap();
    inspect(&box_.opened.store, reader, &now).await.unwrap();
    let mut watched = Watched::start(box_, Duration::from_secs(60)).await;
    let age = watched.look().await[0].unwrap();
    assert_eq!(age, Duration::from_millis(60_000 - 1));
    assert!(watched.box_.gauges.not_forwarded.get());
    watched.stop().await;
}

/// A row that says this of the point `d/x`.
fn row(kind: Kind, n: u64) -> crate::store::row::Entry {
    let event = crate::testing::event(kind);
    crate::store::row::Entry {
        body: domain::wire::write_event(event).unwrap(),
        ..entry(Lane::LifeSafety, n)
    }
}

#[tokio::test]
async fn only_alarms_count_and_each_is_named() {
    let scratch = Scratch::new();
    let box_ = Running::start(&scratch, 1).await;
    let facts = [
        Kind::GatewayStarted,
        Kind::AlarmAcknowledged,
        Kind::TestBegun,
    ];
    let rows = facts
        .into_iter()
        .zip(0..)
        .map(|(kind, n)| row(kind, n))
        .collect();
    box_.opened.store.commit(submission(rows)).await.unwrap();
    let mut watched = Watched::start(box_, Duration::from_secs(60)).await;
    assert!(watched.look().await[0].unwrap() > NOT_FORWARDED_AFTER);
    assert!(!watched.box_.gauges.not_forwarded.get());
    let press = submission(vec![row(Kind::AlarmPressed, 9)]);
    watched.box_.opened.store.commit(press).await.unwrap();
    watched.look().await;
    assert!(watched.box_.gauges.not_forwarded.get());
    let alarms = watched.unforwarded.borrow().alarms.clone();
    let point = crate::testing::event(Kind::AlarmPressed).source.unwrap();
    assert_eq!(alarms, [(point, Hazard::Panic)].into());
    assert!(!watched.unforwarded.borrow().unknown);
    watched.stop().await;
}
