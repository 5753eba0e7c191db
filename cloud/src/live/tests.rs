#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::{Arc, Mutex};

use domain::id::{CentreId, IncidentId};

use super::*;
use crate::stop::{Stopper, stop};
use crate::wake::Changed;

const SOON: Duration = Duration::from_millis(5);
const ROWS: Words = Words {
    list: "rows",
    row: "row",
};

/// A table in memory: rows by id, with version and whether listed.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    rows: BTreeMap<Uuid, (i64, bool)>,
    over: bool,
    looks: usize,
}

impl Table {
    fn set(&self, id: u128, version: i64, listed: bool) {
        let mut state = self.0.lock().unwrap();
        state.rows.insert(Uuid::from_u128(id), (version, listed));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap());
    }
}

fn item(id: Uuid, version: i64, listed: bool) -> Item {
    Item {
        words: ROWS,
        id,
        version,
        mark: version.to_string(),
        json: format!("{}:{version}", id.as_u128()),
        listed,
        signal_at: Some(Timestamp::from_micros(version)),
    }
}

impl Shown for Table {
    async fn all(&self) -> Result<Option<Vec<Item>>, DbError> {
        let state = self.0.lock().unwrap();
        let listed = state.rows.iter().filter(|(_, (_, listed))| *listed);
        let items = listed.map(|(id, (version, listed))| item(*id, *version, *listed));
        Ok((!state.over).then(|| items.collect()))
    }

    async fn marks(&self) -> Result<Option<Vec<(Uuid, String)>>, DbError> {
        let all = self.all().await?;
        Ok(all.map(|all| all.into_iter().map(|i| (i.id, i.mark)).collect()))
    }

    async fn one(&self, id: Uuid) -> Result<Look, DbError> {
        let mut state = self.0.lock().unwrap();
        state.looks += 1;
        if state.over {
            return Ok(Look::Over);
        }
        Ok(match state.rows.get(&id) {
            Some((version, listed)) => Look::Row(item(id, *version, *listed)),
            None => Look::Gone,
        })
    }

    fn concerns(&self, wake: &Wake) -> Option<Uuid> {
        match wake.what {
            Changed::Incident(id) => Some(id.0),
            Changed::Child(_) | Changed::Dispatch | Changed::Service | Changed::Gateway(_) => None,
        }
    }
}

fn wake(wakes: &Wakes, id: u128) {
    wakes.send(Wake {
        centre: CentreId(Uuid::nil()),
        what: Changed::Incident(IncidentId(Uuid::from_u128(id))),
    });
}

fn told(json: &str) -> Told {
    Told {
        words: ROWS,
        json: json.to_owned(),
    }
}

fn row(json: &str, fresh: Option<i64>) -> Update {
    Update::Row {
        told: told(json),
        fresh_signal: fresh.map(Timestamp::from_micros),
    }
}

async fn begun(table: &Table) -> (Feed<Table>, Wakes, Stopper) {
    let wakes = Wakes::new();
    let (stopper, stop) = stop();
    let mut feed = Feed::new(table.clone(), &wakes, stop, SOON);
    let Some(Update::Reset(_)) = feed.next().await.unwrap() else {
        panic!("a feed begins with everything");
    };
    (feed, wakes, stopper)
}

#[tokio::test]
async fn everything_first_then_whole_rows_and_many_wakes_are_one_look() {
    let table = Table::default();
    table.set(1, 4, true);
    let wakes = Wakes::new();
    let (_stopper, stop) = stop();
    let mut feed = Feed::new(table.clone(), &wakes, stop, SOON);
    table.set(2, 1, true);
    let all = Update::Reset(vec![told("1:4"), told("2:1")]);
    assert_eq!(feed.next().await.unwrap(), Some(all));
    table.set(1, 9, true);
    for _ in 0..100 {
        wake(&wakes, 1);
    }
    assert_eq!(feed.next().await.unwrap(), Some(row("1:9", Some(9))));
    assert_eq!(table.0.lock().unwrap().looks, 1);
}

#[tokio::test]
async fn a_row_is_never_sent_older_or_twice() {
    let table = Table::default();
    table.set(1, 4, true);
    let (mut feed, wakes, _stopper) = begun(&table).await;
    table.set(1, 3, true);
    wake(&wakes, 1);
    table.set(2, 1, true);
    wake(&wakes, 2);
    assert_eq!(feed.next().await.unwrap(), Some(row("2:1", Some(1))));
    table.set(1, 4, true);
    wake(&wakes, 1);
    table.set(3, 1, true);
    wake(&wakes, 3);
    assert_eq!(feed.next().await.unwrap(), Some(row("3:1", Some(1))));
}

#[tokio::test]
async fn a_viewer_who_falls_behind_gets_everything_anew() {
    let table = Table::default();
    let (mut feed, wakes, _stopper) = begun(&table).await;
    table.set(1, 1, true);
    for _ in 0..5_000 {
        wake(&wakes, 1);
    }
    let all = Update::Reset(vec![told("1:1")]);
    assert_eq!(feed.next().await.unwrap(), Some(all));
}

#[tokio::test]
async fn a_lost_wake_loses_no_truth() {
    let table = Table::default();
    table.set(1, 1, true);
    table.set(2, 1, true);
    let (mut feed, _wakes, _stopper) = begun(&table).await;
    table.set(1, 2, true);
    assert_eq!(feed.next().await.unwrap(), Some(row("1:2", Some(2))));
    table.set(2, 2, false);
    assert_eq!(feed.next().await.unwrap(), Some(row("2:2", None)));
    table.change(|state| {
        state.rows.remove(&Uuid::from_u128(1));
    });
    let all = Update::Reset(Vec::new());
    assert_eq!(feed.next().await.unwrap(), Some(all));
}

#[tokio::test]
async fn a_right_that_ended_ends_the_feed_at_the_next_send_or_look() {
    let table = Table::default();
    table.set(1, 1, true);
    let (mut feed, wakes, _stopper) = begun(&table).await;
    table.change(|state| state.over = true);
    table.set(1, 2, true);
    wake(&wakes, 1);
    assert_eq!(feed.next().await.unwrap(), None);
    table.change(|state| state.over = false);
    let (mut feed, _wakes, stopper) = begun(&table).await;
    table.change(|state| state.over = true);
    assert_eq!(feed.next().await.unwrap(), None);
    table.change(|state| state.over = false);
    let (mut other, _wakes, _other) = begun(&table).await;
    drop(stopper);
    assert_eq!(feed.next().await.unwrap(), None);
    table.set(1, 3, true);
    assert_eq!(other.next().await.unwrap(), Some(row("1:3", Some(3))));
}
