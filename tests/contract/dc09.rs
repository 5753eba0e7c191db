//! Our DC-09 words against a receiver that is not ours: `pysiaalarm` 3.2.2.
//!
//! Proves that what we send is understood, not only acknowledged, and that each of its refusals comes
//! back as what it is.

use std::sync::Arc;
use std::time::Duration;

use ambient::{Clock, Entropy};
use antuo_cloud::dispatch::connector::dc09::code::{Say, code};
use antuo_cloud::dispatch::connector::dc09::frame::Frame;
use antuo_cloud::dispatch::connector::dc09::frame::{Content, Event, Place};
use antuo_cloud::dispatch::connector::{self, Connector, Described, PathState};
use antuo_cloud::dispatch::{Agency, Claimed, Order, Outcome, Purpose, RefusedBy, Target};
use anyhow::{Context, Result, ensure};
use domain::id::{CentreId, DispatchId, IncidentId, ReceiverId};
use domain::kind::{Hazard, Kind};
use domain::time::Timestamp;
use serde_json::{Value, json};
use support::receiver::Receiver;
use support::wait_for;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// 08:15:29, 22 November 2026: when everything told here happened.
const THEN: Timestamp = Timestamp::from_micros(1_795_335_329_000_000);

fn connector(receiver: &Receiver, account: &str) -> Result<Arc<dyn Connector>> {
    let settings = json!({
        "primary": receiver.address.to_string(), "backup": null,
        "receiver_no": "1", "line": "0", "poll_s": 1, "reply_timeout_ms": 10_000,
    });
    let described = Described {
        receiver: ReceiverId::at(THEN, [0; 10]),
        protocol: "dc09".to_owned(),
        settings: settings.to_string(),
        account: account.to_owned(),
    };
    let entropy = Entropy::seeded(1);
    Ok(connector::open(&described, &Clock::system(), &entropy)?)
}

fn order(account: &str, purpose: Purpose, kind: Kind) -> Order {
    Order {
        dispatch: DispatchId::at(THEN, [1; 10]),
        incident: IncidentId::at(THEN, [2; 10]),
        receiver: ReceiverId::at(THEN, [3; 10]),
        agency: Agency::Police,
        purpose,
        hazard: kind.hazard().unwrap_or(Hazard::Technical),
        centre: CentreId::at(THEN, [4; 10]),
        account: account.to_owned(),
        point_number: 7,
        kind,
        occurred_at: THEN,
        possible_repeat: false,
    }
}

async fn tell(connector: &dyn Connector, order: Order, number: u16, at: Timestamp) -> Outcome {
    let claimed = Claimed {
        frame: connector.frame(&order, number, at),
        order,
        attempt: 1,
        number,
        target: Target::Primary,
    };
    connector.send(&claimed).await
}

async fn understood(receiver: &Receiver, number: u16) -> Result<Value> {
    let number = format!("{number:04}");
    let what = format!("message {number}");
    receiver
        .hears(&what, |line| line["number"] == *number)
        .await
}

/// Every kind that can be told: code of the alarm and what the receiver calls it, of its restoral, of
/// its cancel.
const WORDS: &[(Kind, &str, &str, &str, &str)] = &[
    (Kind::AlarmPressed, "PA", "Panic Alarm", "PH", "BC"),
    (Kind::AlarmDuress, "HA", "Holdup Alarm", "HH", "BC"),
    (Kind::FireSmokeAlarm, "FA", "Fire Alarm", "FH", "FC"),
    (Kind::FireSmokePrealarm, "FA", "Fire Alarm", "FH", "FC"),
    (
        Kind::FireManualCallPointAlarm,
        "FA",
        "Fire Alarm",
        "FH",
        "FC",
    ),
    (Kind::FireUnspecifiedAlarm, "FA", "Fire Alarm", "FH", "FC"),
    (Kind::FireHeatAlarm, "KA", "Heat Alarm", "KH", "FC"),
    (Kind::FireGasAlarm, "GA", "Gas Alarm", "GH", "FC"),
    (Kind::FireCoAlarm, "GA", "Gas Alarm", "GH", "FC"),
    (Kind::IntrusionAlarm, "BA", "Burglary Alarm", "BH", "BC"),
    (Kind::DoorForced, "DF", "Door Forced", "DR", "BC"),
    (Kind::ChildMissing, "QA", "Emergency Alarm", "QH", "BC"),
    (
        Kind::AlarmUnreadable,
        "UA",
        "Untyped Zone Alarm",
        "UH",
        "BC",
    ),
    (Kind::GatewayGap, "YC", "Communications Fail", "YK", "BC"),
    (Kind::GatewayFork, "YC", "Communications Fail", "YK", "BC"),
    (Kind::GatewayDisk, "YX", "Service Required", "YZ", "BC"),
    (
        Kind::BridgeOffline,
        "UY",
        "Untyped Missing Trouble",
        "UR",
        "BC",
    ),
];

#[tokio::test]
async fn a_foreign_receiver_understands_every_order() -> Result<()> {
    let told = Kind::ALL.iter().filter(|kind| kind.hazard().is_some());
    ensure!(
        told.count() == WORDS.len(),
        "a kind is missing from the table"
    );
    let accounts = ["1234", "A1B2C3"];
    let receiver = Receiver::pysiaalarm(&accounts.map(str::to_owned)).await?;
    let connector = connector(&receiver, "1234")?;
    let mut number = 0;
    for (kind, code, meaning, _, cancel) in WORDS {
        for account in accounts {
            for purpose in [Purpose::Order, Purpose::Update, Purpose::Cancel] {
                number += 1;
                let order = order(account, purpose, *kind);
                let outcome = tell(&*connector, order, number, Clock::system().now()).await;
                let taken = matches!(outcome, Outcome::Received { .. });
                ensure!(taken, "{kind} {purpose}: {outcome:?}");
                let line = understood(&receiver, number).await?;
                let code = match purpose {
                    Purpose::Order | Purpose::Update => code,
                    Purpose::Cancel => cancel,
                };
                ensure!(line["code"] == **code, "{kind} {purpose}: {line}");
                ensure!(
                    line["code"] == **cancel || line["meaning"] == **meaning,
                    "{line}"
                );
                ensure!(line["account"] == account, "{line}");
                ensure!(
                    (&line["area"], &line["zone"]) == (&json!("1"), &json!("007")),
                    "{line}"
                );
                ensure!(
                    line["extended"] == json!({ "H": "08:15:29,11-22-2026" }),
                    "{line}"
                );
            }
        }
    }
    Ok(())
}

/// Restorals are in the table but no plan orders them yet, so they go past the connector.
#[tokio::test]
async fn a_foreign_receiver_understands_every_restoral() -> Result<()> {
    let receiver = Receiver::pysiaalarm(&["1234".to_owned()]).await?;
    let mut stream = tokio::net::TcpStream::connect(receiver.address).await?;
    for (number, (kind, _, _, restoral, _)) in (1..).zip(WORDS) {
        let frame = Frame {
            number,
            receiver: "1".parse()?,
            line: "0".parse()?,
            account: "1234".parse()?,
            content: Content::Event(Event {
                object: "1234".parse()?,
                code: code(*kind, Say::Restoral).context("no code")?,
                place: Some(Place { area: 1, zone: 7 }),
                extended: Vec::new(),
            }),
            time: None,
        };
        stream.write_all(&frame.encode()?).await?;
        let line = understood(&receiver, number).await?;
        ensure!(
            line["code"] == **restoral && line["zone"] == "007",
            "{kind}: {line}"
        );
        ensure!(stream.read(&mut [0; 64]).await? > 0, "no answer");
    }
    Ok(())
}

#[tokio::test]
async fn a_foreign_receiver_is_polled() -> Result<()> {
    let receiver = Receiver::pysiaalarm(&["1234".to_owned()]).await?;
    let known = connector(&receiver, "1234")?;
    let poll = receiver
        .hears("a poll", |line| line["code"] == "RP")
        .await?;
    ensure!(poll["account"] == "1234", "{poll}");
    wait_for("the path to be up", || async {
        Ok(known.paths().primary.is_up().then_some(()))
    })
    .await?;
    let stranger = connector(&receiver, "9999")?;
    wait_for("an unknown account to show", || async {
        let refusing = matches!(stranger.paths().primary, PathState::Refusing { .. });
        Ok(refusing.then_some(()))
    })
    .await
}

#[tokio::test]
async fn each_refusal_of_a_foreign_receiver_is_told_apart() -> Result<()> {
    let receiver = Receiver::pysiaalarm(&["1234".to_owned()]).await?;
    let connector = connector(&receiver, "1234")?;
    let now = Clock::system().now();
    let minute = Duration::from_secs(60);
    for at in [now.before(minute), now.after(minute)] {
        let fire = order("1234", Purpose::Order, Kind::FireSmokeAlarm);
        let outcome = tell(&*connector, fire, 1, at).await;
        // The receiver's clock is ours, so it is the frame's time alone that was wrong.
        let close = matches!(outcome, Outcome::Nak { clock_offset_micros: offset }
            if offset.abs() < 30_000_000);
        ensure!(close, "{outcome:?}");
    }
    let stranger = order("9999", Purpose::Order, Kind::AlarmPressed);
    let outcome = tell(&*connector, stranger, 2, now).await;
    let why = RefusedBy::UnknownAccount;
    ensure!(outcome == Outcome::Refused { why }, "{outcome:?}");
    Ok(())
}
