//! The outbox against a model disk that may refuse a commit, and a process that may die.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::store::row::Adopted;
use domain::time::Timestamp;
use proptest::prelude::*;
use serde_json::value::RawValue;
use std::collections::BTreeSet;

const SMALL: Limits = Limits {
    bytes: 8000,
    rows: 40,
    reserve_bytes: 2000,
};

fn epoch(n: u64) -> EpochId {
    EpochId::at(
        Timestamp::from_micros(i64::try_from(n).unwrap() * 1000),
        [0; 10],
    )
}

fn received(n: u64) -> Received {
    Received {
        up: Duration::from_millis(n),
        wall: Timestamp::from_micros(i64::try_from(n).unwrap()),
        trusted: true,
    }
}

fn entry(lane: Lane, n: u64) -> Entry {
    Entry {
        lane,
        received: received(n),
        body: RawValue::from_string(format!("{n}")).unwrap(),
        of_the_box: false,
    }
}

fn submission(entries: Vec<Entry>) -> Submission {
    Submission {
        entries,
        ..Submission::default()
    }
}

/// What is on disk, and everything that was ever promised.
#[derive(Default)]
struct World {
    rows: BTreeMap<(Stream, u64), Row>,
    ledgers: BTreeMap<Stream, Ledger>,
    acked: BTreeSet<u64>,
    stored: BTreeMap<u64, (Stream, u64)>,
    shed_deleted: u64,
    told: Vec<bool>,
}

impl World {
    /// Runs one transaction to its end and returns what was settled.
    fn transact(
        &mut self,
        outbox: &mut Outbox,
        inputs: Vec<Input>,
        now: Duration,
        ok: bool,
    ) -> Vec<(Ticket, bool)> {
        let mut rows = self.rows.clone();
        let mut shed_deleted = self.shed_deleted;
        for input in inputs.into_iter().chain([Input::Sweep]) {
            let mut effects = outbox.step(input, now);
            while let Some(Effect::Delete {
                stream,
                from,
                to,
                limit,
            }) = run(&mut rows, effects)
            {
                let (removed, bytes, shed) = delete(&mut rows, stream, from, to, limit);
                shed_deleted += shed;
                let answer = Input::Deleted {
                    rows: removed,
                    bytes,
                };
                effects = outbox.step(answer, now);
            }
        }
        let changed: Vec<_> = outbox.changed().map(|(s, l)| (s, l.clone())).collect();
        let end = if ok {
            for ((stream, seq), row) in &rows {
                if let Body::Event(body) = &row.body {
                    self.stored
                        .insert(body.get().parse().unwrap(), (*stream, *seq));
                }
            }
            self.rows = rows;
            self.shed_deleted = shed_deleted;
            self.ledgers.extend(changed);
            Input::Committed
        } else {
            Input::Failed
        };
        let mut settled = Vec::new();
        for effect in outbox.step(end, now) {
            match effect {
                Effect::Settle { ticket, committed } => settled.push((ticket, committed)),
                Effect::Shedding(began) => self.told.push(began),
                Effect::Epoch(..)
                | Effect::Append(_)
                | Effect::Replace(_)
                | Effect::Mark(_)
                | Effect::Config(_)
                | Effect::Mqtt(_)
                | Effect::Delete { .. } => panic!("a transaction has ended, yet {effect:?}"),
            }
        }
        settled
    }

    /// G2: every number up to the last is either in a row, once, or receipted.
    fn check_numbers(&self) {
        for (stream, ledger) in &self.ledgers {
            let mut named = vec![0; usize::try_from(ledger.last_seq).unwrap() + 1];
            for ((_, seq), row) in self.rows.range((*stream, 0)..=(*stream, u64::MAX)) {
                for n in *seq..=row.to_seq {
                    named[usize::try_from(n).unwrap()] += 1;
                }
            }
            for n in 1..=ledger.last_seq {
                let receipted = n <= ledger.through_seq
                    || ledger
                        .ranges
                        .iter()
                        .any(|(from, to)| (*from..=*to).contains(&n));
                let rows = named[usize::try_from(n).unwrap()];
                assert!(
                    rows == 1 || (rows == 0 && receipted),
                    "{stream:?} {n}: {rows}"
                );
            }
            let held = self.rows.range((*stream, 0)..=(*stream, u64::MAX)).count();
            assert_eq!(ledger.rows, held as u64);
        }
    }

    /// G1: what was acknowledged is on disk, was receipted, or is counted, and life safety is never counted.
    fn check_promises(&self, lanes: &BTreeMap<u64, Lane>) {
        let missing = self.acked.iter().filter(|n| !self.stored.contains_key(n));
        let mut shed = 0;
        for n in missing {
            assert_ne!(lanes[n], Lane::LifeSafety, "life safety is never shed");
            shed += 1;
        }
        let counted: u64 = self.rows.values().map(shed_count).sum();
        assert_eq!(counted + self.shed_deleted, shed);
    }

    fn check_order(&self) {
        let mut last: BTreeMap<Stream, (u64, u64)> = BTreeMap::new();
        for (n, (stream, seq)) in &self.stored {
            let before = last.insert(*stream, (*seq, *n));
            assert!(
                before.is_none_or(|(s, _)| s < *seq),
                "{stream:?} out of order"
            );
        }
    }
}

fn shed_count(row: &Row) -> u64 {
    match &row.body {
        Body::Event(_) => 0,
        Body::Tombstone(tombstone) => tombstone.count,
    }
}

fn run(rows: &mut BTreeMap<(Stream, u64), Row>, effects: Vec<Effect>) -> Option<Effect> {
    let mut delete = None;
    for effect in effects {
        match effect {
            Effect::Append(new) => {
                for row in new {
                    let key = (row.stream, row.seq);
                    assert!(rows.insert(key, row).is_none(), "a number given twice");
                }
            }
            Effect::Replace(row) => {
                let key = (row.stream, row.seq);
                assert!(rows.insert(key, row).is_some(), "nothing to replace");
            }
            Effect::Delete { .. } => delete = Some(effect),
            Effect::Epoch(..) | Effect::Mark(_) | Effect::Config(_) | Effect::Mqtt(_) => {}
            Effect::Settle { .. } | Effect::Shedding(_) => panic!("settled before the commit"),
        }
    }
    delete
}

fn delete(
    rows: &mut BTreeMap<(Stream, u64), Row>,
    stream: Stream,
    from: u64,
    to: u64,
    limit: u64,
) -> (u64, u64, u64) {
    let mut keys: Vec<_> = rows
        .range((stream, from)..=(stream, to))
        .filter(|(_, row)| row.to_seq <= to)
        .map(|(key, _)| *key)
        .collect();
    keys.truncate(usize::try_from(limit).unwrap());
    let gone: Vec<Row> = keys.iter().filter_map(|key| rows.remove(key)).collect();
    let bytes = gone.iter().map(|row| row.body.cost()).sum();
    (gone.len() as u64, bytes, gone.iter().map(shed_count).sum())
}

#[derive(Clone, Debug)]
enum Op {
    Submit(Vec<Lane>, bool),
    Receipt {
        lane: Lane,
        epochs_ago: u64,
        share: u64,
        range: Option<(u64, u64)>,
        ok: bool,
    },
    Crash,
    Wait(u64),
}

fn any_lane() -> impl Strategy<Value = Lane> {
    prop_oneof![
        Just(Lane::LifeSafety),
        Just(Lane::Supervisory),
        Just(Lane::Telemetry)
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    let lanes = prop::collection::vec(any_lane(), 1..12);
    prop_oneof![
        6 => (lanes, prop::bool::weighted(0.85)).prop_map(|(l, ok)| Op::Submit(l, ok)),
        4 => (any_lane(), 0u64..2, 0u64..=100, prop::option::of((1u64..50, 0u64..5)), prop::bool::weighted(0.85))
            .prop_map(|(lane, epochs_ago, share, range, ok)| Op::Receipt { lane, epochs_ago, share, range, ok }),
        1 => Just(Op::Crash),
        1 => (1u64..90).prop_map(Op::Wait),
    ]
}

proptest! {
    #[test]
    fn numbers_have_no_hole_and_no_promise_is_broken(ops in prop::collection::vec(any_op(), 1..60)) {
        let (mut world, mut lanes) = (World::default(), BTreeMap::new());
        let (mut starts, mut n, mut now) = (1, 0, Duration::ZERO);
        let mut outbox = Outbox::new(epoch(starts), SMALL, BTreeMap::new());
        for op in ops {
            match op {
                Op::Submit(which, ok) => {
                    let first = n;
                    let entries: Vec<_> = which.iter().map(|lane| { n += 1; lanes.insert(n, *lane); entry(*lane, n) }).collect();
                    let input = Input::Submit(Ticket(first), submission(entries));
                    let settled = world.transact(&mut outbox, vec![input], now, ok);
                    prop_assert_eq!(settled, vec![(Ticket(first), ok)]);
                    if ok { world.acked.extend(first + 1..=n); }
                }
                Op::Receipt { lane, epochs_ago, share, range, ok } => {
                    let stream = Stream { lane, epoch: epoch(starts - epochs_ago.min(starts - 1)) };
                    let last = world.ledgers.get(&stream).map_or(0, |l| l.last_seq);
                    let receipt = Receipt {
                        epoch: stream.epoch, lane, through_seq: last * share / 100,
                        ranges: range.map(|(from, len)| (from, from + len)).into_iter().collect(),
                    };
                    world.transact(&mut outbox, vec![Input::Receipt(receipt)], now, ok);
                }
                Op::Crash => {
                    starts += 1;
                    outbox = Outbox::new(epoch(starts), SMALL, world.ledgers.clone());
                }
                Op::Wait(s) => {
                    now += Duration::from_secs(s);
                    prop_assert!(outbox.step(Input::Tick, now).is_empty());
                }
            }
            world.check_numbers();
            world.check_promises(&lanes);
            let held: u64 = Lane::ALL.iter().map(|lane| outbox.held(*lane).rows).sum();
            prop_assert_eq!(held, world.rows.len() as u64);
        }
        world.check_order();
    }
}

#[test]
fn a_flood_over_the_limit_becomes_one_counted_row_and_an_alarm_still_fits() {
    let mut world = World::default();
    let mut outbox = Outbox::new(epoch(1), SMALL, BTreeMap::new());
    let doors = |from: u64, count: u64| {
        let entries = (from..from + count).map(|n| entry(Lane::Telemetry, n));
        Input::Submit(Ticket(from), submission(entries.collect()))
    };
    world.transact(&mut outbox, vec![doors(1, 500)], Duration::ZERO, true);
    world.transact(
        &mut outbox,
        vec![doors(501, 500)],
        Duration::from_secs(59),
        true,
    );
    let held = outbox.held(Lane::Telemetry).rows;
    let counted: u64 = world.rows.values().map(shed_count).sum();
    assert_eq!(held - 1 + counted, 1000);
    assert_eq!(
        world
            .rows
            .values()
            .filter(|row| shed_count(row) > 0)
            .count(),
        1
    );
    assert_eq!(world.told, [true], "the fault is told once");
    assert_eq!(
        outbox.sendable(Lane::Telemetry),
        held - 1,
        "an open tombstone is not sent"
    );

    let press = Input::Submit(Ticket(9), submission(vec![entry(Lane::LifeSafety, 2000)]));
    world.transact(&mut outbox, vec![press], Duration::from_secs(60), true);
    assert_eq!(outbox.sendable(Lane::LifeSafety), 1);
    outbox.step(Input::Tick, Duration::from_secs(60));
    assert_eq!(
        outbox.sendable(Lane::Telemetry),
        1000,
        "closed by time, so it can go up"
    );

    let receipt = Receipt {
        epoch: epoch(1),
        lane: Lane::Telemetry,
        through_seq: 1000,
        ranges: vec![],
    };
    world.transact(
        &mut outbox,
        vec![Input::Receipt(receipt)],
        Duration::from_secs(61),
        true,
    );
    assert_eq!(world.told, [true, false], "room again");
    assert_eq!(outbox.held(Lane::Telemetry), Held::default());
}

#[test]
fn telemetry_is_shed_before_supervisory_and_facts_about_the_box_never() {
    let mut world = World::default();
    let mut outbox = Outbox::new(epoch(1), SMALL, BTreeMap::new());
    let fill = |lane, from: u64| {
        let entries = (from..from + 200).map(|n| entry(lane, n)).collect();
        Input::Submit(Ticket(from), submission(entries))
    };
    world.transact(
        &mut outbox,
        vec![fill(Lane::Telemetry, 1)],
        Duration::ZERO,
        true,
    );
    let shed_doors = outbox.shed();
    world.transact(
        &mut outbox,
        vec![fill(Lane::Supervisory, 300)],
        Duration::ZERO,
        true,
    );
    assert!(
        outbox.shed() - shed_doors < 200,
        "supervisory still found room"
    );
    let fact = Entry {
        of_the_box: true,
        ..entry(Lane::Supervisory, 900)
    };
    let shed = outbox.shed();
    let input = Input::Submit(Ticket(900), submission(vec![fact]));
    world.transact(&mut outbox, vec![input], Duration::ZERO, true);
    assert_eq!(outbox.shed(), shed);
    assert!(world.stored.contains_key(&900));
}

#[test]
fn deletes_are_spread_over_transactions() {
    let mut world = World::default();
    let mut outbox = Outbox::new(epoch(1), Limits::DEFAULT, BTreeMap::new());
    let entries = (1..=2500).map(|n| entry(Lane::Telemetry, n)).collect();
    let input = Input::Submit(Ticket(1), submission(entries));
    world.transact(&mut outbox, vec![input], Duration::ZERO, true);
    let receipt = Receipt {
        epoch: epoch(1),
        lane: Lane::Telemetry,
        through_seq: 2500,
        ranges: vec![],
    };
    let mut left = Vec::new();
    world.transact(
        &mut outbox,
        vec![Input::Receipt(receipt)],
        Duration::ZERO,
        true,
    );
    while outbox.has_deletes() {
        left.push(world.rows.len());
        world.transact(&mut outbox, vec![], Duration::ZERO, true);
    }
    assert_eq!(left, [1500, 500]);
    assert!(world.rows.is_empty());
}

#[test]
fn a_receipt_for_what_was_never_sent_deletes_nothing() {
    let mut world = World::default();
    let mut outbox = Outbox::new(epoch(1), SMALL, BTreeMap::new());
    let input = Input::Submit(Ticket(1), submission(vec![entry(Lane::LifeSafety, 1)]));
    world.transact(&mut outbox, vec![input], Duration::ZERO, true);
    let ahead = Receipt {
        epoch: epoch(1),
        lane: Lane::LifeSafety,
        through_seq: 0,
        ranges: vec![(1, 9)],
    };
    world.transact(
        &mut outbox,
        vec![Input::Receipt(ahead)],
        Duration::ZERO,
        true,
    );
    assert_eq!(world.rows.len(), 1);
    let stranger = Receipt {
        epoch: epoch(77),
        lane: Lane::LifeSafety,
        through_seq: 5,
        ranges: vec![],
    };
    world.transact(
        &mut outbox,
        vec![Input::Receipt(stranger)],
        Duration::ZERO,
        true,
    );
    assert_eq!(outbox.changed().count(), 0);
}

#[test]
fn a_hole_of_an_old_epoch_is_closed_by_a_damaged_tombstone() {
    let old = Stream {
        lane: Lane::Supervisory,
        epoch: epoch(1),
    };
    let ledger = Ledger {
        last_seq: 9,
        ..Ledger::default()
    };
    let mut world = World::default();
    let mut outbox = Outbox::new(epoch(2), SMALL, BTreeMap::from([(old, ledger)]));
    let holes = Input::Holes(Ticket(1), old, vec![(1, 9)], received(5));
    let settled = world.transact(&mut outbox, vec![holes], Duration::ZERO, true);
    assert_eq!(settled, [(Ticket(1), true)]);
    world.check_numbers();
    let row = world.rows.values().next().unwrap();
    let Body::Tombstone(tombstone) = &row.body else {
        panic!("{row:?}")
    };
    assert_eq!(
        (tombstone.cause, tombstone.count),
        (domain::wire::Cause::Damaged, 9)
    );
}

#[test]
fn an_epoch_from_memory_comes_home_under_its_own_numbers_or_not_at_all() {
    let mut outbox = Outbox::new(epoch(1), SMALL, BTreeMap::new());
    let adopted = |rows: Vec<Row>| {
        let cost = rows.iter().map(|row| row.body.cost()).sum();
        let life = Ledger {
            last_seq: 3,
            through_seq: 1,
            rows: rows.len() as u64,
            bytes: cost,
            ..Ledger::default()
        };
        Submission {
            adopted: Some(Box::new(Adopted {
                epoch: epoch(77),
                boot: "boot".into(),
                ledgers: [life, Ledger::default(), Ledger::default()],
                rows,
            })),
            ..Submission::default()
        }
    };
    let stream = Stream {
        lane: Lane::LifeSafety,
        epoch: epoch(77),
    };
    let row = |seq| Row {
        stream,
        seq,
        to_seq: seq,
        received: received(seq),
        body: Body::Event(RawValue::from_string("1".into()).unwrap()),
    };
    let mut world = World::default();
    for commits in [false, true] {
        let input = Input::Submit(Ticket(1), adopted(vec![row(2), row(3)]));
        let settled = world.transact(&mut outbox, vec![input], Duration::ZERO, commits);
        assert_eq!(settled, [(Ticket(1), commits)]);
        assert_eq!(world.ledgers.contains_key(&stream), commits);
        assert_eq!(
            outbox.held(Lane::LifeSafety).rows,
            if commits { 2 } else { 0 }
        );
    }
    world.check_numbers();
    let all = Input::Receipt(Receipt {
        epoch: stream.epoch,
        lane: stream.lane,
        through_seq: 3,
        ranges: vec![],
    });
    world.transact(&mut outbox, vec![all], Duration::ZERO, true);
    assert!(world.rows.is_empty());
    assert_eq!(outbox.held(Lane::LifeSafety), Held::default());
}
