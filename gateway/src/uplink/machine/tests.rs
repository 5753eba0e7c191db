//! The conversation against a model store, a model line that breaks, and a model cloud.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::store::row::{Ledger, Stream};
use crate::testing::{epoch, received};
use crate::uplink::lanes::{BULK_FLYING, LIFE_SAFETY_BATCH, LIFE_SAFETY_FLYING};
use domain::time::{Age, ClockTrust, Timestamp};
use proptest::prelude::*;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use uuid::Uuid;

const BODY: usize = 300;

fn at(ms: u64) -> Now {
    Now {
        wall: Timestamp::from_micros(i64::try_from(ms).unwrap() * 1000),
        monotonic: Duration::from_millis(ms),
        clock_trust: ClockTrust::Unset,
    }
}

fn speaker() -> Speaker {
    Speaker {
        gateway: GatewayId(Uuid::from_u128(7)),
        epoch: epoch(9),
        program: "test".into(),
    }
}

fn body(n: u64) -> Box<RawValue> {
    RawValue::from_string(format!("\"{n}{}\"", "x".repeat(BODY))).unwrap()
}

/// Everything around the machine.
struct World {
    uplink: Uplink,
    rows: BTreeMap<(Stream, u64), Held>,
    heads: Heads,
    to_cloud: VecDeque<Batch>,
    from_cloud: VecDeque<Down>,
    cloud: BTreeMap<Stream, BTreeSet<u64>>,
    hello: Option<Hello>,
    sent: Vec<(Stream, u64)>,
    now: u64,
}

impl World {
    fn new(backlog: Vec<(Stream, u64)>) -> Self {
        let mut uplink = Uplink::new(speaker(), Lanes::new(epoch(9), "boot".into()));
        let mut rows = BTreeMap::new();
        let heads = backlog.iter().map(|(stream, last)| {
            for seq in 1..=*last {
                rows.insert((*stream, seq), held(seq));
            }
            StreamHead {
                stream: *stream,
                boot: "earlier".into(),
                ledger: Ledger {
                    last_seq: *last,
                    rows: *last,
                    ..Ledger::default()
                },
            }
        });
        let heads = heads.collect();
        assert!(uplink.step(Input::Backlog(heads), &at(0)).is_empty());
        Self {
            uplink,
            rows,
            heads: Heads::default(),
            to_cloud: VecDeque::new(),
            from_cloud: VecDeque::new(),
            cloud: BTreeMap::new(),
            hello: None,
            sent: Vec::new(),
            now: 0,
        }
    }

    fn step(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = at(self.now);
            for effect in self.uplink.step(input, &now) {
                match effect {
                    Effect::Connect => inputs.push_back(Input::Opened),
                    Effect::Hello(hello) => {
                        self.hello = Some(hello);
                        let welcome = self.welcome();
                        self.from_cloud.push_back(welcome);
                    }
                    Effect::Load(load) => {
                        let page = self.page(&load);
                        inputs.push_back(Input::Page(load, page));
                    }
                    Effect::Send(batch) => self.send(batch),
                    Effect::Receipt(receipt) => self.delete(&receipt),
                    Effect::Close(trouble) => {
                        self.cut();
                        inputs.push_back(Input::Lost { trouble, chance: 0 });
                    }
                    Effect::Ping | Effect::Config(_) | Effect::Command(_) => {}
                }
            }
        }
    }

    fn send(&mut self, batch: Batch) {
        let stream = Stream {
            lane: batch.lane,
            epoch: batch.epoch,
        };
        assert!(!batch.records.is_empty());
        if batch.lane != Lane::LifeSafety {
            let unsent = self.unsent_life_safety();
            assert_eq!(unsent, 0, "bulk went before life safety");
        }
        self.sent
            .extend(batch.records.iter().map(|r| (stream, r.seq)));
        self.to_cloud.push_back(batch);
        let bulk = self.to_cloud.iter().filter(|b| b.lane != Lane::LifeSafety);
        let bytes: usize = bulk
            .flat_map(|b| &b.records)
            .map(|r| r.body.get().len())
            .sum();
        assert!(bytes <= BULK_FLYING, "{bytes} bytes in the way of a press");
    }

    /// Life-safety rows known to be sendable and never sent, while the window has room for them.
    fn unsent_life_safety(&self) -> usize {
        let flying = self.to_cloud.iter().filter(|b| b.lane == Lane::LifeSafety);
        if flying.count() >= LIFE_SAFETY_FLYING {
            return 0;
        }
        let keys = self
            .rows
            .keys()
            .filter(|(stream, _)| stream.lane == Lane::LifeSafety);
        keys.filter(|key| !self.sent.contains(key)).count()
    }

    fn append(&mut self, lane: Lane, count: u64) {
        let index = Lane::ALL.iter().position(|l| *l == lane).unwrap();
        let stream = Stream {
            lane,
            epoch: epoch(9),
        };
        for _ in 0..count {
            self.heads.last[index] += 1;
            let seq = self.heads.last[index];
            self.rows.insert((stream, seq), held(seq));
        }
        self.step(Input::Heads(self.heads));
    }

    fn page(&self, load: &Load) -> Vec<Held> {
        let range = (load.stream, load.after + 1)..=(load.stream, load.through);
        let mut bytes = 0;
        let rows = self.rows.range(range).take(load.rows);
        rows.map(|(_, held)| held.clone())
            .take_while(|held| {
                let first = bytes == 0;
                bytes += held.body.get().len();
                first || bytes <= load.bytes
            })
            .collect()
    }

    fn welcome(&self) -> Down {
        let hello = self.hello.as_ref().unwrap();
        let epochs: BTreeSet<_> = hello.draining.iter().chain([&hello.epoch]).collect();
        let known = self.cloud.keys().filter(|s| epochs.contains(&s.epoch));
        Down::Welcome(Welcome {
            v: 1,
            receipts: known.map(|stream| self.receipt(*stream)).collect(),
        })
    }

    fn receipt(&self, stream: Stream) -> Receipt {
        let held = &self.cloud[&stream];
        let through_seq = (1..).take_while(|n| held.contains(n)).last().unwrap_or(0);
        let beyond = held.iter().filter(|n| **n > through_seq);
        Receipt {
            epoch: stream.epoch,
            lane: stream.lane,
            through_seq,
            ranges: beyond.map(|n| (*n, *n)).collect(),
        }
    }

    fn delete(&mut self, receipt: &Receipt) {
        let stream = Stream {
            lane: receipt.lane,
            epoch: receipt.epoch,
        };
        let mut ledger = Ledger::default();
        ledger.receipt(receipt, u64::MAX);
        self.rows
            .retain(|(of, seq), _| *of != stream || !ledger.covers(*seq));
    }

    /// The cloud takes one batch in; `loses` makes it miss the first record of it.
    fn ingest(&mut self, loses: bool) {
        let Some(batch) = self.to_cloud.pop_front() else {
            return;
        };
        let stream = Stream {
            lane: batch.lane,
            epoch: batch.epoch,
        };
        let records = batch.records.iter().skip(usize::from(loses));
        let seqs: Vec<_> = records.map(|r| r.seq).collect();
        self.cloud.entry(stream).or_default().extend(seqs);
        let receipt = Down::Receipt(self.receipt(stream));
        self.from_cloud.push_back(receipt);
    }

    fn hear(&mut self) {
        if let Some(down) = self.from_cloud.pop_front() {
            self.step(Input::Frame(down));
        }
    }

    fn cut(&mut self) {
        self.to_cloud.clear();
        self.from_cloud.clear();
    }

    fn reconnect(&mut self) {
        self.cut();
        let trouble = Trouble::Closed;
        self.step(Input::Lost { trouble, chance: 0 });
        self.sent.clear();
        self.now += 600_000;
        self.step(Input::Tick);
        self.hear();
    }

    fn settle(&mut self) {
        while !self.to_cloud.is_empty() || !self.from_cloud.is_empty() {
            self.ingest(false);
            self.hear();
        }
    }
}

fn held(seq: u64) -> Held {
    Held {
        seq,
        to_seq: seq,
        received: received(0),
        body: body(seq),
    }
}

fn old(lane: Lane, n: i64) -> Stream {
    Stream {
        lane,
        epoch: epoch(n),
    }
}

fn present(lane: Lane) -> Stream {
    old(lane, 9)
}

#[derive(Clone, Debug)]
enum Op {
    Append(Lane, u64),
    Ingest(bool),
    Hear,
    Cut,
}

fn any_op() -> impl Strategy<Value = Op> {
    let lane = prop_oneof![
        Just(Lane::LifeSafety),
        Just(Lane::Supervisory),
        Just(Lane::Telemetry)
    ];
    prop_oneof![
        4 => (lane, 1u64..90).prop_map(|(l, n)| Op::Append(l, n)),
        4 => prop::bool::weighted(0.1).prop_map(Op::Ingest),
        4 => Just(Op::Hear),
        1 => Just(Op::Cut),
    ]
}

proptest! {
    #[test]
    fn everything_arrives_through_any_number_of_cuts(
        ops in prop::collection::vec(any_op(), 1..80),
        life_safety in 0u64..120,
        doors in 0u64..200,
    ) {
        let backlog = vec![(old(Lane::LifeSafety, 1), life_safety), (old(Lane::Telemetry, 2), doors)];
        let backlog: Vec<_> = backlog.into_iter().filter(|(_, n)| *n > 0).collect();
        let mut world = World::new(backlog.clone());
        world.step(Input::Tick);
        for op in ops {
            match op {
                Op::Append(lane, count) => world.append(lane, count),
                Op::Ingest(loses) => world.ingest(loses),
                Op::Hear => world.hear(),
                Op::Cut => world.reconnect(),
            }
        }
        world.reconnect();
        world.settle();
        prop_assert!(world.rows.is_empty(), "{} rows left", world.rows.len());
        for (lane, last) in Lane::ALL.into_iter().zip(world.heads.last) {
            let arrived = world.cloud.get(&present(lane)).map_or(0, BTreeSet::len);
            prop_assert_eq!(arrived as u64, last);
        }
        for (stream, last) in backlog {
            prop_assert_eq!(world.cloud[&stream].len() as u64, last);
        }
    }
}

#[test]
fn a_press_overtakes_ten_thousand_doors() {
    let mut world = World::new(vec![(old(Lane::Telemetry, 1), 10_000)]);
    world.step(Input::Tick);
    world.hear();
    let in_the_way = world.to_cloud.len();
    world.append(Lane::LifeSafety, 1);
    let last = world.to_cloud.back().unwrap();
    assert_eq!(
        (last.lane, world.to_cloud.len()),
        (Lane::LifeSafety, in_the_way + 1)
    );
    world.settle();
    assert!(world.rows.is_empty());
}

#[test]
fn after_a_cut_exactly_what_has_no_receipt_is_sent_again() {
    let mut world = World::new(vec![]);
    world.step(Input::Tick);
    world.hear();
    world.append(Lane::LifeSafety, 30);
    world.ingest(true);
    world.reconnect();
    let seqs: Vec<_> = world.sent.iter().map(|(_, seq)| *seq).collect();
    assert_eq!(seqs, [1], "2 to 30 are held beyond the hole");
    assert_eq!(world.hello.as_ref().unwrap().draining, []);
}

#[test]
fn many_presses_travel_in_batches_of_a_transaction_within_the_window() {
    let mut world = World::new(vec![]);
    world.step(Input::Tick);
    world.hear();
    world.append(Lane::LifeSafety, 1000);
    assert_eq!(world.to_cloud.len(), LIFE_SAFETY_FLYING);
    assert!(
        world
            .to_cloud
            .iter()
            .all(|b| b.records.len() == LIFE_SAFETY_BATCH)
    );
    world.append(Lane::Telemetry, 1);
    assert_eq!(world.to_cloud.len(), LIFE_SAFETY_FLYING, "doors wait");
    world.settle();
    assert!(world.rows.is_empty());
}

#[test]
fn epochs_of_a_lane_take_turns() {
    let mut world = World::new(vec![(old(Lane::LifeSafety, 1), 400)]);
    world.append(Lane::LifeSafety, 1);
    world.step(Input::Tick);
    world.hear();
    let epochs: Vec<_> = world.to_cloud.iter().take(2).map(|b| b.epoch).collect();
    assert!(
        epochs.contains(&epoch(9)),
        "a live press does not wait for the backlog"
    );
}

#[test]
fn age_of_another_boot_is_a_lower_bound() {
    let mut world = World::new(vec![(old(Lane::LifeSafety, 1), 1)]);
    world.now = 5_000;
    world.step(Input::Tick);
    world.hear();
    world.append(Lane::LifeSafety, 1);
    let ages: Vec<_> = world.to_cloud.iter().map(|b| b.records[0].age).collect();
    assert_eq!(ages, [Age::AtLeast(5_000), Age::Known(5_000)]);
}

#[test]
fn a_receipt_for_what_was_never_sent_ends_the_connection_and_deletes_nothing() {
    let mut world = World::new(vec![]);
    world.step(Input::Tick);
    world.hear();
    world.append(Lane::LifeSafety, 2);
    let receipt = Receipt {
        epoch: epoch(9),
        lane: Lane::LifeSafety,
        through_seq: 3,
        ranges: vec![],
    };
    world.step(Input::Frame(Down::Receipt(receipt)));
    assert_eq!(world.rows.len(), 2);
    let Phase::Resting { trouble, .. } = world.uplink.phase() else {
        panic!("{:?}", world.uplink.phase())
    };
    assert_eq!(trouble, &Some(Trouble::ImpossibleReceipt));
}

#[test]
fn a_silent_line_is_dead_after_two_pings() {
    let mut uplink = Uplink::new(speaker(), Lanes::new(epoch(9), "boot".into()));
    uplink.step(Input::Tick, &at(0));
    uplink.step(Input::Opened, &at(0));
    let welcome = Welcome {
        v: 1,
        receipts: vec![],
    };
    uplink.step(Input::Frame(Down::Welcome(welcome)), &at(0));
    let mut told = Vec::new();
    for ms in (0..=46_000).step_by(500) {
        let effects = uplink.step(Input::Tick, &at(ms));
        told.extend(
            effects
                .into_iter()
                .map(|effect| (ms, format!("{effect:?}"))),
        );
        if ms == 10_000 {
            uplink.step(Input::Heard, &at(ms));
        }
    }
    let told: Vec<_> = told.iter().map(|(ms, what)| (*ms, what.as_str())).collect();
    assert_eq!(
        told,
        [
            (15_000, "Ping"),
            (30_000, "Ping"),
            (45_000, "Close(Silent)")
        ]
    );
}

#[test]
fn trouble_a_person_must_mend_rests_longer_and_success_forgets() {
    let mut uplink = Uplink::new(speaker(), Lanes::new(epoch(9), "boot".into()));
    let rest = |uplink: &mut Uplink, trouble: Trouble| {
        let chance = u32::MAX;
        uplink.step(Input::Lost { trouble, chance }, &at(0));
        uplink.next_deadline().unwrap()
    };
    assert_eq!(
        rest(&mut uplink, Trouble::Unreachable),
        Duration::from_millis(500)
    );
    assert_eq!(rest(&mut uplink, Trouble::Closed), Duration::from_secs(1));
    let revoked = Trouble::Refused(Refused::KeyRevoked);
    assert_eq!(rest(&mut uplink, revoked), Duration::from_secs(120));
    uplink.step(Input::Tick, &at(120_000));
    uplink.step(Input::Opened, &at(120_000));
    let newer = Welcome {
        v: 2,
        receipts: vec![],
    };
    let effects = uplink.step(Input::Frame(Down::Welcome(newer)), &at(120_000));
    assert!(matches!(
        effects[..],
        [Effect::Close(Trouble::UnknownVersion(2))]
    ));
}

#[test]
fn an_overdue_receipt_of_life_safety_ends_the_connection() {
    let mut world = World::new(vec![]);
    world.step(Input::Tick);
    world.hear();
    world.append(Lane::LifeSafety, 1);
    let due = world.uplink.next_deadline().unwrap();
    assert_eq!(due, LIFE_SAFETY_RECEIPT_WITHIN);
    let effects = world.uplink.step(Input::Tick, &at(10_000));
    assert!(matches!(
        effects[..],
        [Effect::Close(Trouble::ReceiptOverdue)]
    ));
}

fn page_of(load: &Load) -> Vec<Held> {
    (load.after + 1..=load.through).map(held).collect()
}

fn loads(effects: &[Effect]) -> Vec<Load> {
    let load = |effect: &Effect| match effect {
        Effect::Load(load) => Some(*load),
        Effect::Connect
        | Effect::Hello(_)
        | Effect::Send(_)
        | Effect::Ping
        | Effect::Close(_)
        | Effect::Receipt(_)
        | Effect::Config(_)
        | Effect::Command(_) => None,
    };
    effects.iter().filter_map(load).collect()
}

#[test]
fn what_memory_holds_goes_up_past_a_store_that_cannot_be_read() {
    let mut uplink = Uplink::new(speaker(), Lanes::new(epoch(9), "boot".into()));
    uplink.step(Input::Tick, &at(0));
    uplink.step(Input::Opened, &at(0));
    let heads = Heads {
        last: [5, 0, 0],
        backlog: 0,
    };
    uplink.step(Input::Heads(heads), &at(0));
    let welcome = Welcome {
        v: 1,
        receipts: vec![],
    };
    let stored = loads(&uplink.step(Input::Frame(Down::Welcome(welcome)), &at(0)))[0];
    assert_eq!(stored.stream.epoch, epoch(9));
    assert!(
        uplink
            .step(Input::Afloat(Some((epoch(10), [2, 0, 0]))), &at(0))
            .is_empty()
    );
    let next = loads(&uplink.step(Input::Unreadable(stored), &at(0)));
    assert_eq!(next[0].stream.epoch, epoch(10), "the store rests");
    let sent = uplink.step(Input::Page(next[0], page_of(&next[0])), &at(1));
    assert!(matches!(&sent[..], [Effect::Send(batch)] if batch.epoch == epoch(10)));
    assert!(
        matches!(uplink.phase(), Phase::Up(_)),
        "and the line stands"
    );

    // Receipted to the last, it still grows, and the next hello still names it.
    let receipt = Receipt {
        epoch: epoch(10),
        lane: Lane::LifeSafety,
        through_seq: 2,
        ranges: vec![],
    };
    let after = uplink.step(Input::Frame(Down::Receipt(receipt.clone())), &at(2));
    assert!(matches!(&after[..], [Effect::Receipt(r)] if *r == receipt));
    let more = loads(&uplink.step(Input::Afloat(Some((epoch(10), [3, 0, 0]))), &at(3)));
    assert_eq!((more[0].after, more[0].through), (2, 3));
    uplink.step(Input::Page(more[0], page_of(&more[0])), &at(3));

    // The store is read again by itself, and the row still without a receipt is now its own.
    let due = uplink.next_deadline().unwrap();
    assert_eq!(due, READ_AGAIN);
    let again = loads(&uplink.step(Input::Tick, &at(5_000)));
    assert_eq!(again, [stored]);
    uplink.step(Input::Afloat(None), &at(5_000));
    let lost = Input::Lost {
        trouble: Trouble::Closed,
        chance: 0,
    };
    uplink.step(lost, &at(5_001));
    let effects = uplink.step(Input::Opened, &at(6_000));
    assert!(matches!(&effects[..], [Effect::Hello(hello)] if hello.draining == [epoch(10)]));
}
