//! Guardians see their own children, honestly, and nothing of other families.

use domain::event::{HandedBy, How};
use domain::id::{ChildId, PersonId};
use domain::presence::{Presence, Rank, Standing};
use domain::time::{Order, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::sql;
use crate::trial::{Running, id};

const WANG: u16 = 0xf001;
const LI: u16 = 0xf002;
const MING: u16 = 0xe001;

/// A movement of a child, as ingest keeps it.
pub async fn moves(running: &Running, child: u16, standing: Standing, at: Timestamp) -> Uuid {
    let event = Uuid::from_u128(u128::try_from(at.micros()).unwrap());
    let kind = match standing {
        Standing::Inside { .. } => "presence.checked_in",
        Standing::LeavingUnconfirmed => "presence.pending",
        Standing::Outside { .. } => "presence.checked_out",
    };
    let presence = Presence {
        rank: Rank {
            order: Order(at.micros()),
            node: "box".into(),
            event: None,
        },
        since: at,
        standing,
    };
    let body = serde_json::to_string(&presence).unwrap();
    let standing = serde_json::to_string(&standing).unwrap();
    let centre = id(0xc001);
    running
        .execute(move |tx| {
            Box::pin(async move {
                sql!(
                    tx,
                    execute,
                    "insert into presence (centre, child, body, version) values ($1, $2, $3, 1)
                     on conflict (centre, child) do update set body = excluded.body,
                         version = presence.version + 1",
                    centre,
                    id(child),
                    body.as_str()
                )
                .unwrap();
                sql!(
                    tx,
                    execute,
                    "insert into movement (centre, child, event, kind, at, order_hlc, body)
                     values ($1, $2, $3, $4, $5, $5, $6)",
                    centre,
                    id(child),
                    event,
                    kind,
                    at.micros(),
                    standing.as_str()
                )
                .unwrap();
            })
        })
        .await;
    event
}

pub fn inside(by: HandedBy) -> Standing {
    let how = How::Card;
    Standing::Inside { by, how }
}

fn person(tail: u16) -> HandedBy {
    HandedBy::Person(PersonId(id(tail)))
}

#[tokio::test]
async fn two_families_see_their_own_children_only() {
    let running = Running::new().await;
    let (wang, li) = (running.token(WANG).await, running.token(LI).await);
    let names = async |token: &str| {
        let (_, answer) = running.get("/api/family/children", token).await;
        let children = answer["children"].as_array().unwrap().clone();
        children
            .iter()
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&wang).await, ["王小明"]);
    assert_eq!(names(&li).await, ["李思雨", "赵乐天"]);
    moves(
        &running,
        MING,
        inside(person(WANG)),
        running.trial.clock.now(),
    )
    .await;
    let events = |child: Uuid| format!("/api/family/children/{child}/events");
    let (status, own) = running.get(&events(id(MING)), &wang).await;
    assert_eq!((status, own["events"].as_array().unwrap().len()), (200, 1));
    let foreign = running.get(&events(id(MING)), &li).await;
    let unknown = running.get(&events(id(0x9999)), &li).await;
    assert_eq!((foreign.0, &foreign), (404, &unknown));
}

#[tokio::test]
async fn a_guardian_reads_who_when_and_how_as_far_as_they_may() {
    let running = Running::new().await;
    let wang = running.token(WANG).await;
    let child = async || {
        let (_, answer) = running.get("/api/family/children", &wang).await;
        answer["children"][0].clone()
    };
    let before = child().await;
    assert_eq!(
        before["centre"],
        json!({"id": id(0xc001), "name": "向日葵托育中心"})
    );
    assert_eq!(before["class_group"], "小一班");
    assert_eq!(before["presence"]["state"], "expected");
    assert_eq!(before["version"], 0);
    let now = running.trial.clock.now();
    let cases = [
        (
            inside(person(WANG)),
            "present",
            json!("王建国"),
            json!("card"),
        ),
        (
            inside(person(LI)),
            "present",
            json!("another adult"),
            json!("card"),
        ),
        (
            inside(HandedBy::Unknown),
            "present",
            json!("not recorded"),
            json!("card"),
        ),
        (
            Standing::LeavingUnconfirmed,
            "pending_out",
            Value::Null,
            json!("card"),
        ),
        (
            Standing::Outside {
                by: person(0xf006),
                how: How::Staff,
            },
            "left",
            json!("staff"),
            json!("staff"),
        ),
    ];
    for (i, (standing, state, by, how)) in cases.into_iter().enumerate() {
        let at = Timestamp::from_micros(now.micros() + i64::try_from(i).unwrap());
        let event = moves(&running, MING, standing, at).await;
        let seen = child().await;
        let presence = &seen["presence"];
        assert_eq!((&presence["state"], &presence["by"]), (&json!(state), &by));
        assert_eq!(
            (&presence["how"], &presence["since_at"]),
            (&how, &json!(at.micros()))
        );
        assert_eq!(seen["version"], json!(i + 1));
        let url = format!("/api/family/children/{}/events", id(MING));
        let (_, page) = running.get(&url, &wang).await;
        let last = page["events"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["event"], json!(event));
        assert_eq!((&last["by"], &last["how"]), (&by, &how));
        assert_eq!(page["next"], Value::Null);
    }
}

#[tokio::test]
async fn pages_of_movements_follow_each_other_without_loss() {
    let running = Running::new().await;
    let wang = running.token(WANG).await;
    let start = running.trial.clock.now().micros();
    let mut wanted = Vec::new();
    for i in 0..205 {
        let at = Timestamp::from_micros(start + i);
        wanted.push(json!(
            moves(&running, MING, inside(HandedBy::Unknown), at).await
        ));
    }
    let url = format!("/api/family/children/{}/events", id(MING));
    let (_, first) = running.get(&url, &wang).await;
    let next = first["next"].as_str().unwrap();
    let (_, second) = running.get(&format!("{url}?after={next}"), &wang).await;
    let both = [&first, &second].map(|page| page["events"].as_array().unwrap().clone());
    let events = both
        .iter()
        .flatten()
        .map(|e| e["event"].clone())
        .collect::<Vec<_>>();
    assert_eq!(events, wanted);
    assert_eq!(second["next"], Value::Null);
    let (status, _) = running.get(&format!("{url}?after=x"), &wang).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn what_silent_boxes_told_is_shown_as_stale() {
    let running = Running::new().await;
    let wang = running.token(WANG).await;
    let now = running.trial.clock.now().micros();
    let presence = async |seen: [Option<i64>; 2]| {
        running
            .execute(move |tx| {
                Box::pin(async move {
                    for (gateway, seen) in [0xd001, 0xd003].into_iter().zip(seen) {
                        sql!(
                            tx,
                            execute,
                            "update gateway set last_seen_at = $1 where id = $2",
                            seen,
                            id(gateway)
                        )
                        .unwrap();
                        sql!(
                            tx,
                            execute,
                            "insert into gateway_key (fingerprint, centre, gateway, state, issued_at)
                             values ($1, $2, $3, 'active', 0) on conflict do nothing",
                            vec![u8::try_from(gateway % 256).unwrap()],
                            id(0xc001),
                            id(gateway)
                        )
                        .unwrap();
                    }
                })
            })
            .await;
        let (_, answer) = running.get("/api/family/children", &wang).await;
        let presence = answer["children"][0]["presence"].clone();
        (presence["stale"].clone(), presence["as_of_at"].clone())
    };
    let minutes = |n: i64| Some(now - n * 60_000_000);
    assert_eq!(
        presence([minutes(0), minutes(1)]).await,
        (json!(false), json!(minutes(1)))
    );
    assert_eq!(
        presence([minutes(0), minutes(4)]).await,
        (json!(true), json!(minutes(4)))
    );
    assert_eq!(
        presence([minutes(0), None]).await,
        (json!(true), Value::Null)
    );
}

#[tokio::test]
async fn a_revoked_grant_hides_the_child_at_once() {
    let running = Running::new().await;
    let li = running.token(LI).await;
    let now = running.trial.clock.now().micros();
    let child = ChildId(id(0xe002));
    running
        .execute(move |tx| {
            Box::pin(async move {
                sql!(
                    tx,
                    execute,
                    "update role_grant set until_at = $1 where child = $2",
                    now,
                    child.0
                )
                .unwrap();
            })
        })
        .await;
    let (status, answer) = running.get("/api/family/children", &li).await;
    assert_eq!(
        (status, answer["children"].as_array().unwrap().len()),
        (200, 1)
    );
    let url = format!("/api/family/children/{child}/events");
    assert_eq!(running.get(&url, &li).await.0, 404);
}
