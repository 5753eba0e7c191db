//! Orders in DC-09 words, and the choice between two addresses.

#![allow(clippy::unwrap_used, clippy::panic)]

use domain::id::{CentreId, DispatchId, IncidentId, ReceiverId};
use domain::kind::{Hazard, Kind};
use uuid::Uuid;

use super::super::PathState;
use super::double::{Act, Double, acks, polls_acked, word};
use super::*;
use crate::dispatch::Agency;

const SETTINGS: &str = r#"{"primary":"127.0.0.1:12000","backup":null,"receiver_no":"1","line":"0","poll_s":20,"reply_timeout_ms":3000}"#;

fn order(purpose: Purpose, kind: Kind) -> Order {
    Order {
        dispatch: DispatchId(Uuid::from_u128(1)),
        incident: IncidentId(Uuid::from_u128(2)),
        receiver: ReceiverId(Uuid::from_u128(3)),
        agency: Agency::Police,
        purpose,
        hazard: Hazard::Panic,
        centre: CentreId(Uuid::from_u128(4)),
        account: "a1b2".to_owned(),
        point_number: 7,
        kind,
        // 08:15:29, 22 November 2026.
        occurred_at: Timestamp::from_micros(1_795_335_329_900_000),
        possible_repeat: false,
    }
}

fn claimed(connector: &Dc09, target: Target) -> Claimed {
    let order = order(Purpose::Order, Kind::AlarmPressed);
    let at = Timestamp::from_micros(1_795_335_330_000_000);
    Claimed {
        frame: connector.frame(&order, 7, at),
        order,
        attempt: 1,
        number: 7,
        target,
    }
}

fn open(primary: &str, backup: Option<&str>, reply_timeout_ms: u64) -> Dc09 {
    let settings = serde_json::json!({
        "primary": primary, "backup": backup, "receiver_no": "1", "line": "0",
        "poll_s": 3_600, "reply_timeout_ms": reply_timeout_ms,
    });
    let described = Described {
        receiver: ReceiverId(Uuid::from_u128(3)),
        protocol: "dc09".to_owned(),
        settings: settings.to_string(),
        account: "A1B2".to_owned(),
    };
    Dc09::open(&described, &Clock::system(), &Entropy::seeded(1)).unwrap()
}

#[tokio::test]
async fn orders_updates_and_cancels_become_the_right_words() {
    let connector = open("127.0.0.1:9", None, 50);
    let at = Timestamp::from_micros(1_795_335_330_000_000);
    let text = |purpose, kind| {
        let bytes = connector.frame(&order(purpose, kind), 7, at);
        String::from_utf8(bytes).unwrap()[9..].to_owned()
    };
    let expected = |code| {
        format!(
            "\"SIA-DCS\"0007R1L0#A1B2[#A1B2|Nri1/{code}007][H08:15:29,11-22-2026]_08:15:30,11-22-2026\r"
        )
    };
    assert_eq!(text(Purpose::Order, Kind::AlarmPressed), expected("PA"));
    assert_eq!(text(Purpose::Update, Kind::AlarmPressed), expected("PA"));
    assert_eq!(text(Purpose::Cancel, Kind::AlarmPressed), expected("BC"));
    assert_eq!(text(Purpose::Cancel, Kind::FireHeatAlarm), expected("FC"));
}

#[tokio::test]
async fn what_cannot_be_said_is_never_sent() {
    let mut double = Double::listen(acks).await;
    let connector = open(&double.address, None, 60_000);
    let at = Timestamp::from_micros(0);
    let no_words = order(Purpose::Order, Kind::DoorOpened);
    let no_account = Order {
        account: "kindergarten".to_owned(),
        ..order(Purpose::Order, Kind::AlarmPressed)
    };
    for order in [no_words, no_account] {
        let frame = connector.frame(&order, 7, at);
        assert_eq!(frame, Vec::<u8>::new());
        let claimed = Claimed {
            order,
            frame,
            ..claimed(&connector, Target::Primary)
        };
        let outcome = connector.send(&claimed).await;
        let why = NotSent::Unsendable;
        assert_eq!(outcome, Outcome::NotSent { why });
    }
    // The first event that arrives is the one that can be said.
    connector.send(&claimed(&connector, Target::Primary)).await;
    assert_eq!(double.frame().await.number, 7);
}

#[tokio::test]
async fn each_target_has_its_own_path() {
    let mut primary = Double::listen(acks).await;
    let mut backup = Double::listen(acks).await;
    let connector = open(&primary.address, Some(&backup.address), 60_000);
    assert_eq!(connector.targets(), Targets::WithBackup);
    for (target, double) in [
        (Target::Primary, &mut primary),
        (Target::Backup, &mut backup),
    ] {
        let outcome = connector.send(&claimed(&connector, target)).await;
        let frame = double.frame().await;
        let reply = word("ACK", &frame);
        assert_eq!(outcome, Outcome::Received { reply });
    }
}

#[tokio::test]
async fn a_silent_address_costs_no_time_while_the_other_is_up() {
    // It would take an order, but answers no poll.
    let primary = Double::listen(|frame| match frame.content {
        Content::Poll => Vec::new(),
        Content::Event(_) => acks(frame),
    })
    .await;
    let backup = Double::listen(polls_acked(|_| vec![Act::Close])).await;
    let connector = open(&primary.address, Some(&backup.address), 400);
    let known = || {
        let paths = connector.paths();
        paths.primary.is_silent() && paths.backup.is_some_and(PathState::is_up)
    };
    while !known() {
        tokio::task::yield_now().await;
    }
    let no_connection = Outcome::NotSent {
        why: NotSent::NoConnection,
    };
    let outcome = connector.send(&claimed(&connector, Target::Primary)).await;
    assert_eq!(outcome, no_connection);
    let outcome = connector.send(&claimed(&connector, Target::Backup)).await;
    assert_eq!(outcome, Outcome::Unanswered);
    // With the other one silent too, the address is tried in earnest.
    let outcome = connector.send(&claimed(&connector, Target::Primary)).await;
    assert!(matches!(outcome, Outcome::Received { .. }), "{outcome:?}");
}

#[test]
fn settings_say_which_value_is_wrong() {
    assert!(Settings::parse(SETTINGS).is_ok());
    for (from, to, field) in [
        ("127.0.0.1:12000", "127.0.0.1", "primary"),
        ("127.0.0.1:12000", ":1", "primary"),
        ("127.0.0.1:12000", "host:0", "primary"),
        ("null", "\"host:99999\"", "backup"),
        (
            "receiver_no\":\"1",
            "receiver_no\":\"1234567",
            "receiver_no",
        ),
        ("line\":\"0", "line\":\"x", "line"),
        ("_s\":20", "_s\":0", "poll_s"),
        ("3000", "60001", "reply_timeout_ms"),
    ] {
        let text = SETTINGS.replacen(from, to, 1);
        match Settings::parse(&text) {
            Err(SettingsError::Value { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{text}: {other:?}"),
        }
    }
    let unknown = SETTINGS.replacen("poll_s", "poll", 1);
    assert!(matches!(
        Settings::parse(&unknown),
        Err(SettingsError::Shape(_))
    ));
}
