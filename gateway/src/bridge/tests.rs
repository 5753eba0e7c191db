//! The bridge between a broker that does what the test says and an intake that the test plays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::trial::{Bridge, EAGER, HANG, House, settings};
use super::*;
use crate::broker::{Origin, PACKET_BYTES, Publish};
use crate::hub::Qos;
use crate::testing::Scratch;

/// At least once.
const QOS1: u8 = 2;

/// A bridge to a house, with the test as its intake.
struct Scene {
    house: House,
    bridge: Bridge,
    work: mpsc::Receiver<Work>,
    _scratch: Scratch,
}

impl Scene {
    async fn start() -> Self {
        Self::with(&["#"], EAGER).await
    }

    async fn with(topics: &[&str], pace: Pace) -> Self {
        let house = House::open().await;
        let scratch = Scratch::new();
        let (work_in, work) = mpsc::channel(4);
        let settings = settings(house.address(), topics);
        Self {
            bridge: Bridge::start(&scratch, settings, pace, work_in),
            house,
            work,
            _scratch: scratch,
        }
    }

    async fn next(&mut self) -> Publish {
        match timeout(HANG, self.work.recv()).await.expect("nothing came") {
            Some(Work::Publish(publish)) => *publish,
            other => panic!("{other:?}"),
        }
    }

    async fn stands(&mut self, what: &str, fits: impl Fn(&Standing) -> bool) -> Standing {
        let seen = self.bridge.board.wait_for(|all| fits(&all[0]));
        timeout(HANG, seen).await.expect(what).unwrap()[0].clone()
    }
}

#[tokio::test]
async fn acknowledgements_leave_after_the_commit_and_in_order() {
    let mut scene = Scene::start().await;
    let mut guest = scene.house.welcome(false).await;
    let mut works = Vec::new();
    for id in [11, 12, 13] {
        guest.publish(QOS1, id, "a/b", b"x").await;
        works.push(scene.next().await);
    }
    for work in works.into_iter().rev() {
        work.ack.committed();
    }
    for id in [11, 12, 13] {
        assert_eq!(guest.ack().await, Some(id));
    }
    let counters = Arc::clone(&scene.bridge.board.borrow()[0].counters);
    assert_eq!(
        (counters.messages.get(), counters.acknowledged.get()),
        (3, 3)
    );
    assert_eq!(counters.uncommitted.get(), 0);
    scene.bridge.stop().await;
}

#[tokio::test]
async fn a_message_says_where_it_comes_from_and_what_is_retained_is_past() {
    let mut scene = Scene::start().await;
    let mut guest = scene.house.welcome(false).await;
    guest.publish(QOS1 | 1, 1, "nap/smoke", b"kept").await;
    let kept = scene.next().await;
    assert_eq!((&*kept.username, kept.reserved), ("bridge:house", true));
    assert_eq!(
        (kept.origin, kept.message.qos),
        (Origin::Kept, Qos::AtLeastOnce)
    );
    assert!("bridge:house".parse::<domain::id::Username>().is_err());
    kept.ack.committed();
    assert_eq!(guest.ack().await, Some(1));
    guest.publish(0, 0, "nap/smoke", b"gone").await;
    let gone = scene.next().await;
    assert_eq!(
        (gone.origin, gone.message.qos),
        (Origin::Live, Qos::AtMostOnce)
    );
    gone.ack.committed();
    guest.publish(QOS1 | 8, 2, "nap/smoke", b"again").await;
    let again = scene.next().await;
    assert!(again.dup && again.origin == Origin::Live);
    again.ack.committed();
    assert_eq!(guest.ack().await, Some(2), "QoS 0 is not acknowledged");
    assert_eq!(scene.bridge.board.borrow()[0].counters.qos0.get(), 1);
    scene.bridge.stop().await;
}

#[tokio::test]
async fn what_is_not_committed_is_not_acknowledged_and_comes_again() {
    let mut scene = Scene::start().await;
    let mut guest = scene.house.welcome(false).await;
    guest.publish(QOS1, 1, "a", b"1").await;
    guest.publish(QOS1, 2, "a", b"2").await;
    let (first, second) = (scene.next().await, scene.next().await);
    second.ack.committed();
    first.ack.failed();
    assert_eq!(guest.ack().await, None, "the line is closed without a word");
    let mut guest = scene.house.welcome(true).await;
    guest.publish(QOS1 | 8, 1, "a", b"1").await;
    scene.next().await.ack.committed();
    assert_eq!(guest.ack().await, Some(1));
    assert_eq!(scene.bridge.board.borrow()[0].counters.not_stored.get(), 1);
    scene.bridge.stop().await;
}

/// A broker is free to give the same packet id to another message on the next line.
#[tokio::test]
async fn a_commit_for_a_former_line_acknowledges_nothing_on_the_next() {
    let mut scene = Scene::start().await;
    let mut guest = scene.house.welcome(false).await;
    guest.publish(QOS1, 7, "a", b"old").await;
    let old = scene.next().await;
    drop(guest);
    let mut guest = scene.house.welcome(true).await;
    guest.publish(QOS1, 7, "a", b"new").await;
    let new = scene.next().await;
    assert_eq!(&new.message.payload[..], b"new");
    old.ack.committed();
    guest.publish(QOS1, 8, "a", b"next").await;
    scene.next().await.ack.committed();
    new.ack.failed();
    assert_eq!(guest.ack().await, None);
    scene.bridge.stop().await;
}

#[tokio::test]
async fn a_full_window_stops_the_reading_and_nothing_hangs_or_is_lost() {
    let mut scene = Scene::start().await;
    let mut guest = scene.house.welcome(false).await;
    let count = 2 * u16::try_from(WINDOW).unwrap() + 50;
    for id in 1..=count {
        guest.publish(QOS1, id, "a", b"x").await;
    }
    let mut held = Vec::new();
    for _ in 0..WINDOW {
        held.push(scene.next().await);
    }
    // One more is read, and waits for a place.
    let counters = Arc::clone(&scene.bridge.board.borrow()[0].counters);
    while counters.messages.get() <= u64::from(WINDOW) {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(counters.uncommitted.get(), u64::from(WINDOW));
    for one in held {
        one.ack.committed();
    }
    for _ in WINDOW..u32::from(count) {
        scene.next().await.ack.committed();
    }
    for id in 1..=count {
        assert_eq!(guest.ack().await, Some(id));
    }
    scene.bridge.stop().await;
}

#[tokio::test]
async fn too_large_a_message_is_cut_and_a_topic_that_is_none_is_dropped_and_both_are_acknowledged()
{
    let mut scene = Scene::start().await;
    let mut guest = scene.house.welcome(false).await;
    guest
        .publish(QOS1, 1, "camera", &vec![b'x'; PACKET_BYTES + 1])
        .await;
    let large = scene.next().await;
    assert_eq!(large.message.payload.len(), PACKET_BYTES);
    guest.publish(QOS1, 2, "a/+", b"x").await;
    guest.publish(QOS1, 3, "a", b"x").await;
    let after = scene.next().await;
    assert_eq!(&*after.message.topic, "a");
    after.ack.committed();
    large.ack.committed();
    for id in 1..=3 {
        assert_eq!(guest.ack().await, Some(id));
    }
    let counters = Arc::clone(&scene.bridge.board.borrow()[0].counters);
    assert_eq!((counters.cut.get(), counters.unusable.get()), (1, 1));
    scene.bridge.stop().await;
}

#[tokio::test]
async fn topics_that_are_not_granted_are_shown_and_none_granted_is_no_line() {
    let mut scene = Scene::with(&["a", "b/#"], EAGER).await;
    let mut guest = scene.house.log_in(false).await;
    guest.answer_subscribe(&[0x80, 0x80]).await;
    let deaf = scene.stands("no trouble", |s| {
        matches!(
            &s.line,
            Line::Down {
                trouble: Some(_),
                ..
            }
        )
    });
    let Line::Down {
        trouble: Some(trouble),
        ..
    } = deaf.await.line
    else {
        panic!("up")
    };
    assert!(trouble.contains("none of the topics"), "{trouble}");
    let mut guest = scene.house.log_in(false).await;
    guest.answer_subscribe(&[1, 0x80]).await;
    let partly = scene.stands("not up", Standing::is_up).await;
    assert_eq!(partly.refused, ["b/#"]);
    drop(guest);
    let mut guest = scene.house.log_in(true).await;
    guest.answer_subscribe(&[1, 1]).await;
    scene
        .stands("still refused", |s| s.is_up() && s.refused.is_empty())
        .await;
    scene.bridge.stop().await;
}

#[tokio::test]
async fn a_broker_that_forgot_the_box_is_told_until_it_remembers() {
    let mut scene = Scene::start().await;
    for (present, forgot, times) in [(false, false, 0), (false, true, 1), (true, false, 1)] {
        let guest = scene.house.welcome(present).await;
        let stands = scene.stands("not up", Standing::is_up).await;
        assert_eq!(stands.forgot, Some(forgot));
        assert_eq!(stands.counters.forgotten.get(), times);
        drop(guest);
        scene.stands("not down", |s| !s.is_up()).await;
    }
    scene.bridge.stop().await;
}

#[tokio::test]
async fn a_line_that_stays_down_is_told_and_so_is_its_return() {
    let pace = Pace {
        silent_after: Duration::from_millis(20),
        ..EAGER
    };
    let mut scene = Scene::with(&["#"], pace).await;
    // Connected, and never answered: no line.
    scene.stands("not told", |s| s.silent == Some(true)).await;
    let guest = scene.house.welcome(false).await;
    let up = scene.stands("not told", |s| s.silent == Some(false)).await;
    assert!(up.is_up());
    drop(guest);
    scene.stands("not told", |s| s.silent == Some(true)).await;
    scene.bridge.stop().await;
}

#[tokio::test]
async fn told_to_stop_it_acknowledges_what_is_committed_and_says_goodbye() {
    let mut scene = Scene::start().await;
    let mut guest = scene.house.welcome(false).await;
    guest.publish(QOS1, 1, "a", b"x").await;
    let under_way = scene.next().await;
    scene.bridge.stop.send_replace(true);
    under_way.ack.committed();
    assert_eq!(guest.ack().await, Some(1));
    assert_eq!(guest.read().await, Some((0xE0, Vec::new())));
    assert_eq!(guest.read().await, None);
    scene.bridge.stop().await;
}

#[tokio::test]
async fn it_logs_in_under_its_name_with_the_secret_of_the_environment() {
    let house = House::open().await;
    let scratch = Scratch::new();
    let table = format!(
        "name = \"house\"\naddress = \"{}\"\nusername = \"us\"\npassword_env = \"PATH\"\ntopics = [\"a\"]",
        house.address()
    );
    let settings = Settings::read(toml::from_str(&table).unwrap()).unwrap();
    let (work_in, _work) = mpsc::channel(1);
    let bridge = Bridge::start(&scratch, settings, EAGER, work_in);
    let guest = house.log_in(false).await;
    let mut wanted = b"\0\x0aantuo-test\0\x02us".to_vec();
    let secret = std::env::var("PATH").unwrap();
    wanted.extend(u16::try_from(secret.len()).unwrap().to_be_bytes());
    wanted.extend(secret.as_bytes());
    assert_eq!(guest.1[10..], wanted);
    bridge.stop().await;
}

#[tokio::test]
async fn while_nobody_is_there_it_stops_at_once() {
    let scene = Scene::start().await;
    drop(scene.house);
    scene.bridge.stop().await;
}

#[tokio::test]
async fn a_device_behind_that_broker_is_told_and_one_elsewhere_is_not() {
    let mut scene = Scene::with(&["zigbee2mqtt/+"], EAGER).await;
    let mut guest = scene.house.welcome(false).await;
    scene.stands("up", Standing::is_up).await;
    let tell = |address: &str| crate::site::Tell {
        point: serde_json::from_str(r#"{"device":"d","point":"x"}"#).unwrap(),
        address: address.to_owned(),
        topic: format!("{address}/set"),
        payload: b"go".to_vec(),
        good_for: Duration::from_secs(10),
    };
    for address in ["antuo/v1/lock/x", "zigbee2mqtt/lock"] {
        scene.bridge.tells.send(tell(address)).unwrap();
    }
    let (first, body) = guest.read().await.expect("PUBLISH");
    assert_eq!(first & 0xf1, 0x30, "not retained");
    let text = String::from_utf8_lossy(&body);
    assert!(
        text.contains("zigbee2mqtt/lock/set") && text.ends_with("go"),
        "{text:?}"
    );
    scene.bridge.stop().await;
}

#[tokio::test]
async fn that_broker_speaks_for_nothing_it_was_not_asked_for() {
    let mut scene = Scene::with(&["zigbee2mqtt/#"], EAGER).await;
    let mut guest = scene.house.welcome(false).await;
    guest.publish(QOS1, 1, "antuo/v1/hall/button", b"x").await;
    assert_eq!(guest.ack().await, Some(1), "or it would come for ever");
    guest.publish(QOS1, 2, "zigbee2mqtt/s", b"x").await;
    let heard = scene.next().await;
    assert_eq!(&*heard.message.topic, "zigbee2mqtt/s");
    heard.ack.committed();
    assert_eq!(guest.ack().await, Some(2));
    let counters = Arc::clone(&scene.bridge.board.borrow()[0].counters);
    assert_eq!(counters.unusable.get(), 1);
    scene.bridge.stop().await;
}
