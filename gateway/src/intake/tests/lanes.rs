//! What a full outbox and a flood may not do to an alarm (D3): over a real file, with a bridge to a broker of
//! the test's own.

use super::*;
use crate::bridge::Pace;
use crate::bridge::trial::{Bridge, EAGER, HANG, House, settings};
use crate::broker::{Ack, Origin, Settled};
use crate::hub::{Message, Properties, Qos};
use crate::testing::enrolment;
use domain::config::{Config, Role};
use tokio::time::timeout;

const SMOKE: &str = "antuo/v1/nap/smoke";
const READER: &str = "antuo/v1/gate/reader";

/// A smoke detector, a second button and a reader beside what every test has.
fn wide(version: u64) -> Config {
    let mut config = config(version);
    config.enrolments.extend([
        enrolment("nap", SMOKE, Role::Smoke),
        enrolment("gate", READER, Role::Reader),
        enrolment("other", "antuo/v1/other/button", Role::PanicButton),
    ]);
    config
}

fn parts(running: &Running, reader: crate::store::Reader, scratch: &Scratch) -> Parts {
    let entropy = Entropy::system();
    Parts {
        store: running.opened.store.clone(),
        reader,
        clock: box_clock(),
        gauges: Arc::clone(&running.gauges),
        gateway: GATEWAY,
        config_signing: Signer::new().public(),
        box_key: BoxKey::read_or_make(scratch.path(), &entropy).unwrap(),
        access: watch::Sender::default(),
        version: watch::Sender::new(0),
        unacknowledged: watch::Sender::default(),
        outlet: Outlet::new(
            crate::hub::Hub::new(crate::broker::KEPT),
            ambient::Clock::system(),
        ),
        tells: broadcast::Sender::new(1),
        in_force: watch::Sender::new(None),
        signals: SignalLog::default(),
        entropy,
    }
}

/// An intake with that Config in force, not running yet.
async fn intake(running: &Running, scratch: &Scratch) -> Intake {
    let reader = running.opened.reader.another().await.unwrap();
    let parts = parts(running, reader, scratch);
    let document = serde_json::to_string(&wide(1)).unwrap();
    let purpose = crate::seal::config_purpose(1);
    let sealed = parts
        .box_key
        .seal(&purpose, document.as_bytes(), &parts.entropy)
        .unwrap();
    let sealed = crate::store::row::SealedConfig { version: 1, sealed };
    let mut intake = Intake::new(parts, &[sealed], Vec::new(), None);
    intake.begin().await;
    intake
}

async fn kinds(running: &mut Running, lane: Lane) -> Vec<Kind> {
    let stream = Stream {
        lane,
        epoch: epoch(1),
    };
    let reader = &mut running.opened.reader;
    let rows = reader.page(stream, 0, u64::MAX, 100_000, usize::MAX).await;
    let mut kinds = Vec::new();
    for row in rows.unwrap() {
        if let Says::Event(event) = read_body(&row.body).unwrap() {
            kinds.push(event.into_event().unwrap().kind);
        }
    }
    kinds
}

/// A box that hears one bridge.
struct Bridged {
    running: Running,
    house: House,
    bridge: Bridge,
    ears: JoinHandle<()>,
    unacknowledged: watch::Receiver<Unacknowledged>,
}

impl Bridged {
    async fn start(scratch: &Scratch, limits: Limits, pace: Pace) -> Self {
        let running = Running::try_start(scratch, 1, limits).await.unwrap();
        let intake = intake(&running, scratch).await;
        let unacknowledged = intake.parts.unacknowledged.subscribe();
        let house = House::open().await;
        let (work_in, work) = mpsc::channel(64);
        let settings = settings(house.address(), &["antuo/v1/#"]);
        let bridge = Bridge::start(scratch, settings, pace, work_in);
        let ears = Ears {
            work,
            configs: mpsc::channel(1).1,
            standing: running.opened.store.standing(),
            bridges: bridge.board.clone(),
            commands: mpsc::channel(1).1,
            unforwarded: watch::channel(Unforwarded::default()).1,
            asked: mpsc::channel(1).1,
        };
        Self {
            running,
            house,
            bridge,
            ears: tokio::spawn(intake.run(ears)),
            unacknowledged,
        }
    }

    async fn has(&mut self, lane: Lane, wanted: &[Kind]) {
        let mut heads = self.running.opened.store.heads();
        loop {
            if kinds(&mut self.running, lane).await == wanted {
                return;
            }
            timeout(HANG, heads.changed())
                .await
                .expect("not told")
                .unwrap();
        }
    }

    async fn stop(self) -> Running {
        self.bridge.stop().await;
        timeout(HANG, self.ears).await.expect("goes on").unwrap();
        self.running
    }
}

/// A bridge carries doors, cards and smoke on one connection: neither lane at its limit may hold up the smoke.
#[tokio::test]
async fn lanes_at_their_limit_never_delay_the_smoke_behind_them_on_the_same_bridge() {
    let scratch = Scratch::new();
    let limits = Limits {
        bytes: 16_000,
        rows: 1000,
        reserve_bytes: 8_000,
    };
    let box_ = Bridged::start(&scratch, limits, EAGER).await;
    let mut guest = box_.house.welcome(false).await;
    let count = 60;
    for n in 1..=count {
        let kind = if n % 2 == 0 { "opened" } else { "closed" };
        let door = format!(r#"{{"id":"d-{n}","kind":"door.{kind}","state":"raised"}}"#);
        guest.publish(2, 2 * n - 1, DOOR, door.as_bytes()).await;
        let card =
            format!(r#"{{"id":"r-{n}","kind":"access.read","state":"raised","credential":"{n}"}}"#);
        guest.publish(2, 2 * n, READER, card.as_bytes()).await;
    }
    let smoke = br#"{"id":"s-1","kind":"fire.smoke.alarm","state":"raised"}"#;
    guest.publish(2, 2 * count + 1, SMOKE, smoke).await;
    for id in 1..=2 * count + 1 {
        assert_eq!(guest.ack().await, Some(id), "the line was closed");
    }
    assert!(
        box_.running.gauges.shed.get() > 60,
        "the lanes were not full"
    );
    let mut running = box_.stop().await;
    let cards = kinds(&mut running, Lane::Supervisory).await;
    let cards = cards
        .iter()
        .filter(|kind| **kind == Kind::AccessRead)
        .count();
    assert!(
        cards < usize::from(count),
        "the supervisory lane was not full"
    );
    assert_eq!(
        kinds(&mut running, Lane::LifeSafety).await,
        [Kind::GatewayStarted, Kind::FireSmokeAlarm]
    );
    running.stop().await;
}

fn press_of(username: &str, user: &str, n: u64, settled: &mpsc::UnboundedSender<Settled>) -> Work {
    let message = Message {
        topic: format!("antuo/v1/{user}/button").into(),
        payload: press(&format!("{user}-{n}")).into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        properties: Properties::default(),
    };
    Work::Publish(Box::new(Publish {
        username: username.into(),
        reserved: true,
        message,
        dup: false,
        origin: Origin::Live,
        ack: Ack::routed(settled.clone(), n),
        route: None,
    }))
}

/// A point that chatters at any rate: what it sent waits in its own line.
#[tokio::test]
async fn a_press_is_in_the_next_commit_whatever_another_button_sent_before_it() {
    let scratch = Scratch::new();
    let mut running = Running::start(&scratch, 1).await;
    let mut intake = intake(&running, &scratch).await;
    let (settled_in, mut settled) = mpsc::unbounded_channel();
    let flood = 5_000;
    let mut taken: Vec<_> = (0..flood)
        .map(|n| press_of("other", "other", n, &settled_in))
        .collect();
    taken.push(press_of("btn", "btn", flood, &settled_in));
    intake.enqueue(&mut taken);
    let (_work_in, mut work) = mpsc::channel(1);
    let commits = running.gauges.commits.get();
    intake.take_group(&mut work).await;
    assert_eq!(running.gauges.commits.get(), commits + 1);
    let mut answered = Vec::new();
    while let Ok(one) = settled.try_recv() {
        assert!(one.committed);
        answered.push(one.ticket);
    }
    assert_eq!(answered.len(), queue::RESERVED);
    assert!(
        answered.contains(&flood),
        "the press waits behind the flood"
    );
    // The flood costs eleven rows, not four hundred: beyond ten presses in ten seconds they are counted.
    let told = kinds(&mut running, Lane::LifeSafety).await;
    let presses = told.iter().filter(|kind| **kind == Kind::AlarmPressed);
    assert_eq!(presses.count(), 10 + 1);
    drop(intake);
    running.stop().await;
}

/// Behind one bridge all share one line, so no more is read from it than one commit takes.
#[tokio::test]
async fn a_press_behind_a_bridge_is_in_the_next_commit_after_it_is_read() {
    let scratch = Scratch::new();
    let running = Running::start(&scratch, 1).await;
    let mut intake = intake(&running, &scratch).await;
    let (settled_in, mut settled) = mpsc::unbounded_channel();
    let house = "bridge:house";
    let last = u64::from(crate::bridge::WINDOW);
    let mut taken: Vec<_> = (1..last)
        .map(|n| press_of(house, "other", n, &settled_in))
        .collect();
    taken.push(press_of(house, "btn", last, &settled_in));
    intake.enqueue(&mut taken);
    let (_work_in, mut work) = mpsc::channel(1);
    intake.take_group(&mut work).await;
    let answered = std::iter::from_fn(|| settled.try_recv().ok());
    assert!(
        answered
            .into_iter()
            .any(|one| one.ticket == last && one.committed)
    );
    drop(intake);
    running.stop().await;
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_told_and_acknowledged() {
    let scratch = Scratch::new();
    let box_ = Bridged::start(&scratch, Limits::DEFAULT, EAGER).await;
    let mut guest = box_.house.welcome(false).await;
    let large = vec![b'x'; crate::broker::PACKET_BYTES + 1];
    guest.publish(2, 1, SMOKE, &large).await;
    assert_eq!(guest.ack().await, Some(1));
    assert_eq!(box_.running.gauges.rejected.get(), 1);
    guest.publish(2, 2, "antuo/v1/nobody/x", &large).await;
    assert_eq!(guest.ack().await, Some(2));
    assert_eq!(box_.running.gauges.rejected.get(), 1);
    box_.stop().await.stop().await;
}

#[tokio::test]
async fn a_broker_out_of_reach_is_told_and_so_is_its_return() {
    let scratch = Scratch::new();
    let pace = Pace {
        silent_after: Duration::from_millis(20),
        ..EAGER
    };
    let mut box_ = Bridged::start(&scratch, Limits::DEFAULT, pace).await;
    let started = Kind::GatewayStarted;
    box_.has(Lane::Supervisory, &[started, Kind::BridgeOffline])
        .await;
    let guest = box_.house.welcome(false).await;
    let back = [started, Kind::BridgeOffline, Kind::BridgeOnline];
    box_.has(Lane::Supervisory, &back).await;
    drop(guest);
    box_.stop().await.stop().await;
}

#[tokio::test]
async fn a_device_that_publishes_at_qos_0_is_listed_and_its_press_is_taken() {
    let scratch = Scratch::new();
    let mut box_ = Bridged::start(&scratch, Limits::DEFAULT, EAGER).await;
    let mut guest = box_.house.welcome(false).await;
    guest.publish(0, 0, "antuo/v1/nobody/x", b"{}").await;
    guest.publish(0, 0, BUTTON, press("q-1").as_bytes()).await;
    guest.publish(2, 1, SMOKE, b"{}").await;
    assert_eq!(guest.ack().await, Some(1));
    let pressed = [Kind::GatewayStarted, Kind::AlarmPressed];
    box_.has(Lane::LifeSafety, &pressed).await;
    let list = box_.unacknowledged.borrow().clone();
    let listed: Vec<_> = list.listed(box_clock().now().monotonic).collect();
    let [(device, unsure)] = listed[..] else {
        panic!("{listed:?}")
    };
    assert_eq!((device.as_str(), &*unsure.through), ("btn", "bridge:house"));
    assert_eq!((unsure.messages, unsure.is_life_safety), (1, true));
    box_.stop().await.stop().await;
}
