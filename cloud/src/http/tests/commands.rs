//! Commands from the operator's door to the box's and back.

use domain::command::{Act, Stamp, Test};
use domain::event::{Detail, Event};
use domain::id::{CommandId, EventId, PersonId, PointKey};
use domain::kind::{Kind, Lane};
use domain::time::Age;
use domain::wire::{Batch, Down, Record, SentCommand, Up, write_event};
use serde_json::{Value, json};
use uuid::Uuid;

use super::boxes::{BOX, Identity, Line, greeted, hear, say};
use super::press::{epoch, press, record};
use super::sse::Events;
use crate::trial::{Running, id};

const NORTH: u16 = 0xf003;
const COMMANDS: &str = "/api/operator/centres/00000000-0000-7000-8000-00000000c001/commands";

fn button() -> Value {
    json!({"device": "btn-hall", "point": "button"})
}

fn acknowledge() -> Value {
    json!({"do": "acknowledge", "point": button(), "activation": null})
}

async fn give(running: &Running, token: &str, body: Value) -> (u16, Value) {
    running.ask("POST", COMMANDS, Some(token), body).await
}

/// The next command on a box's line.
async fn told(line: &mut Line) -> SentCommand {
    loop {
        match hear(line).await {
            Some(Down::Command(sent)) => return sent,
            Some(Down::Receipt(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A record of the first box, numbered `seq`.
fn says(
    running: &Running,
    seq: u64,
    kind: Kind,
    device: Option<&str>,
    stamp: Option<Stamp>,
    detail: Detail,
) -> Up {
    let now = running.trial.clock.now();
    let like = record(0xc001, seq, now);
    let Ok(domain::wire::Says::Event(like)) = domain::wire::read_body(&like.body) else {
        panic!("a press was written")
    };
    let event = Event {
        id: EventId(Uuid::from_u128(0xee00 + u128::from(seq))),
        source: device.map(|device| PointKey {
            device: device.parse().unwrap(),
            point: "button".parse().unwrap(),
        }),
        kind,
        severity: kind.severity(),
        stamp,
        detail,
        ..like.into_event().unwrap()
    };
    Up::Batch(Batch {
        epoch: epoch(),
        lane: Lane::LifeSafety,
        records: vec![Record {
            seq,
            to_seq: None,
            age: Age::Known(1),
            body: write_event(event).unwrap(),
        }],
    })
}

/// Waits until that number is the cloud's.
async fn receipted(line: &mut Line, through: u64) {
    loop {
        match hear(line).await {
            Some(Down::Receipt(receipt)) if receipt.through_seq >= through => return,
            Some(Down::Receipt(_) | Down::Command(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_command_goes_down_and_its_fact_comes_up() {
    let running = Running::new().await;
    let north = running.token(NORTH).await;
    let case = press(&running, 0xc001, 1..=1).await;
    let known = Identity::provisioned(&running, BOX, "box").await;
    let mut line = greeted(&running, &known, 1).await;
    let mut body = acknowledge();
    body["id"] = json!(id(0x77));
    let (status, answer) = give(&running, &north, body.clone()).await;
    assert_eq!((status, &answer["id"]), (202, &json!(id(0x77))), "{answer}");
    assert_eq!(answer["commands"][0]["says"], "told the box, not confirmed");
    let sent = told(&mut line).await;
    assert_eq!(sent.command.id, CommandId(id(0x77)));
    assert!((1..=60_000).contains(&sent.lives_ms), "{}", sent.lives_ms);
    // The line is cut before the box answers: it is said again, with what is left of its time, and only once
    // however often the person sends it.
    assert_eq!(give(&running, &north, body).await.0, 202);
    drop(line);
    let mut line = greeted(&running, &known, 1).await;
    let again = told(&mut line).await;
    assert_eq!(again.command, sent.command);
    assert!(again.lives_ms <= sent.lives_ms);
    let detail = Detail::Act {
        command: sent.command.id,
        by: sent.command.by,
    };
    let kind = Kind::AlarmAcknowledged;
    say(
        &mut line,
        &says(&running, 2, kind, Some("btn-hall"), None, detail),
    )
    .await;
    receipted(&mut line, 2).await;
    let (_, page) = running.get(COMMANDS, &north).await;
    let all = page["commands"].as_array().unwrap();
    assert_eq!((all.len(), &all[0]["state"]), (1, &json!("done")), "{page}");
    let (_, seen) = running
        .get(&format!("/api/operator/incidents/{case}"), &north)
        .await;
    let alarm = &seen["alarms"][0];
    assert_eq!(alarm["looked"]["person"], json!(id(NORTH)), "{alarm}");
    assert_eq!(alarm["command"]["state"], "done");
}

#[tokio::test]
async fn a_box_that_is_away_is_said_to_be() {
    let running = Running::new().await;
    let north = running.token(NORTH).await;
    let (status, answer) = give(&running, &north, acknowledge()).await;
    assert_eq!(status, 202);
    let says = answer["commands"][0]["says"].as_str().unwrap();
    assert!(
        says.contains("it will be told if it returns within"),
        "{says}"
    );
    assert_eq!(answer["commands"][0]["gateway"]["connected"], false);
}

#[tokio::test]
async fn what_will_never_do_is_refused_with_what_would() {
    let running = Running::new().await;
    let (north, south) = (running.token(NORTH).await, running.token(0xf004).await);
    let bypass = |minutes: u16| json!({"do": "bypass", "point": button(), "minutes": minutes, "reason": "paint"});
    let drill = json!({"do": "test_begin", "scope": {"points": [button()]}, "kind": "drill",
        "minutes": 5, "reason": "drill"});
    let mut odd = acknowledge();
    odd["pint"] = json!(1);
    for (body, status, word) in [
        (bypass(30), 422, "never out of service"),
        (bypass(0), 422, "span"),
        (drill, 422, "walk test"),
        (
            json!({"do": "test_end", "session": id(1)}),
            422,
            "no such session",
        ),
        (odd, 400, "pint"),
        (json!({"do": "lock"}), 400, "lock"),
    ] {
        let (got, problem) = give(&running, &north, body).await;
        let detail = problem["detail"].as_str().unwrap();
        assert_eq!(got, status, "{problem}");
        assert!(detail.contains(word), "{detail}");
    }
    assert_eq!(give(&running, &south, acknowledge()).await.0, 404);
    let (_, page) = running.get(COMMANDS, &north).await;
    assert_eq!(page["commands"], json!([]));
}

#[tokio::test]
async fn a_session_is_on_the_stream_from_its_begin_to_its_end() {
    let running = Running::new().await;
    let north = running.token(NORTH).await;
    let known = Identity::provisioned(&running, BOX, "box").await;
    let mut line = greeted(&running, &known, 1).await;
    let mut stream = Events::open(&running, "/api/operator/stream", &north).await;
    let reset = stream.next().await.unwrap();
    assert_eq!(reset.data, json!({"incidents": [], "service": []}));
    let walk = json!({"do": "test_begin", "scope": {"points": [button()]}, "kind": "walk",
        "minutes": 5, "reason": "yearly"});
    let (status, answer) = give(&running, &north, walk).await;
    assert_eq!(status, 202, "{answer}");
    let sent = told(&mut line).await;
    let Act::TestBegin(test) = sent.command.act.clone() else {
        panic!("{sent:?}")
    };
    let mut service = async |what: &str, fits: &dyn Fn(&Value) -> bool| loop {
        let got = stream.next().await.unwrap();
        if got.event == "service" && fits(&got.data) {
            return got.data;
        }
        assert!(got.event == "service" || got.event == "incident", "{what}");
    };
    service("sent", &|row| row["commands"][0]["state"] == "sent").await;
    let (command, by) = (sent.command.id, sent.command.by);
    let begun = begun(command, by, test);
    say(
        &mut line,
        &says(&running, 1, Kind::TestBegun, None, None, begun),
    )
    .await;
    let row = service("begun", &|row| row["sessions"][0]["in_force"] == true).await;
    assert_eq!(row["commands"][0]["state"], "done");
    assert!(row["sessions"][0]["until_at"].is_i64());
    // The named button is tested: shown with the test mark, and nobody is told.
    let stamp = Some(Stamp::Test(command));
    let press = says(
        &running,
        2,
        Kind::AlarmPressed,
        Some("btn-hall"),
        stamp,
        Detail::None,
    );
    say(&mut line, &press).await;
    receipted(&mut line, 2).await;
    let (_, list) = running.get("/api/operator/incidents", &north).await;
    let case = &list["incidents"][0];
    assert_eq!(case["alarms"][0]["withheld"], "session", "{case}");
    assert_eq!(
        (&case["priority"], &case["dispatches"]),
        (&json!(4), &json!([]))
    );
    let path = format!(
        "/api/operator/incidents/{}/real",
        case["id"].as_str().unwrap()
    );
    let (status, real) = running.ask("POST", &path, Some(&north), json!({})).await;
    assert_eq!(status, 200, "{real}");
    assert_eq!(
        real["incident"]["dispatches"][0]["receiver"]["agency"],
        "police"
    );
    service("over", &|row| row["sessions"] == json!([])).await;
    let end = told(&mut line).await;
    assert_eq!(end.command.act, Act::TestEnd { session: command });
}

fn begun(command: CommandId, by: PersonId, test: Test) -> Detail {
    Detail::TestBegun { command, by, test }
}
