//! Operators see and work on the cases of their own watch room, and of no other.

use serde_json::{Value, json};

use super::press::press;
use crate::trial::{Running, id};

const NORTH: u16 = 0xf003;
const SOUTH: u16 = 0xf004;

async fn act(running: &Running, token: &str, path: String, body: Value) -> (u16, Value) {
    let path = format!("/api/operator/{path}");
    running.ask("POST", &path, Some(token), body).await
}

#[tokio::test]
async fn each_watch_room_sees_its_own_cases_only() {
    let running = Running::new().await;
    let (north, south) = (running.token(NORTH).await, running.token(SOUTH).await);
    let case = press(&running, 0xc001, 1..=1).await;
    let list = async |token: &str| {
        let (status, list) = running.get("/api/operator/incidents", token).await;
        assert_eq!(status, 200);
        assert!(list["as_of_at"].is_i64());
        list["incidents"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| i["id"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(list(&north).await, [json!(case)]);
    assert!(list(&south).await.is_empty());
    let paths = [
        format!("incidents/{case}"),
        format!("incidents/{case}/events"),
    ];
    for path in &paths {
        let path = format!("/api/operator/{path}");
        assert_eq!(running.get(&path, &north).await.0, 200);
        let foreign = running.get(&path, &south).await;
        let unknown = path.replace(&case, &id(0x9999).to_string());
        assert_eq!(foreign, running.get(&unknown, &south).await);
        assert_eq!(foreign.0, 404);
    }
    for (verb, body) in [
        ("acknowledge", json!({})),
        ("note", json!({"text": "x"})),
        ("confirm", json!({})),
        ("close", json!({"cause": "drill", "note": "x"})),
    ] {
        let path = format!("incidents/{case}/{verb}");
        assert_eq!(act(&running, &south, path, body).await.0, 404, "{verb}");
    }
    let (_, incident) = running
        .get(&format!("/api/operator/{}", paths[0]), &north)
        .await;
    let dispatch = incident["dispatches"][0]["id"].as_str().unwrap();
    let body = json!({"reference": "1", "spoke_to": "x"});
    let path = format!("dispatches/{dispatch}/confirmed");
    assert_eq!(act(&running, &south, path, body).await.0, 404);
    let (_, after) = running
        .get(&format!("/api/operator/{}", paths[0]), &north)
        .await;
    assert_eq!(after, incident);
}

#[tokio::test]
async fn a_case_is_shown_as_the_contract_says() {
    let running = Running::new().await;
    let north = running.token(NORTH).await;
    let case = press(&running, 0xc001, 1..=3).await;
    let (_, seen) = running
        .get(&format!("/api/operator/incidents/{case}"), &north)
        .await;
    assert_eq!(
        seen["centre"],
        json!({"id": id(0xc001), "name": "向日葵托育中心"})
    );
    assert_eq!(
        (&seen["hazard"], &seen["priority"]),
        (&json!("panic"), &json!(1))
    );
    assert_eq!(seen["state"], "open");
    for null in ["acknowledged_by", "closed", "confirmation", "linked_to"] {
        assert_eq!(seen[null], Value::Null, "{null}");
    }
    let alarm = &seen["alarms"][0];
    assert_eq!(
        (&alarm["device"], &alarm["point"], &alarm["zone"]),
        (&json!("btn-hall"), &json!("button"), &json!("hall"))
    );
    assert_eq!(
        (&alarm["kind"], &alarm["activations"]),
        (&json!("alarm.pressed"), &json!(3))
    );
    assert_eq!(
        (&alarm["state"], &alarm["acknowledged"]),
        (&json!("restored"), &json!(false))
    );
    let order = &seen["dispatches"][0];
    let police = json!({"id": id(0xb001), "name": "市公安接警", "agency": "police"});
    assert_eq!(order["receiver"], police);
    assert_eq!(
        (&order["purpose"], &order["state"]),
        (&json!("order"), &json!("queued"))
    );
    assert_eq!(order["possible_repeat"], false);
    let keys = seen["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["text_key"].clone());
    assert!(keys.collect::<Vec<_>>().contains(&json!("alarm.raised")));
    assert!(seen["version"].as_u64().unwrap() > 0);
    let (_, page) = running
        .get(&format!("/api/operator/incidents/{case}/events"), &north)
        .await;
    let events = page["events"].as_array().unwrap();
    let vendors = events.iter().map(|e| e["vendor_id"].as_str().unwrap());
    assert_eq!(vendors.collect::<Vec<_>>(), ["b-1", "b-2", "b-3"]);
    assert_eq!(page["next"], Value::Null);
    let after = events[1]["seq"].as_u64().unwrap();
    let url = format!("/api/operator/incidents/{case}/events?after={after}");
    let (_, rest) = running.get(&url, &north).await;
    assert_eq!(rest["events"], json!([events[2]]));
}

#[tokio::test]
async fn a_damaged_case_is_shown_as_such_and_hides_no_other() {
    let running = Running::new().await;
    let north = running.token(NORTH).await;
    let lost = press(&running, 0xc001, 1..=1).await;
    for text in [
        "update incident set body = 'x'",
        "update journal set body = null",
    ] {
        running.change(text).await;
    }
    let path = format!("incidents/{lost}/acknowledge");
    let (status, problem) = act(&running, &north, path, json!({})).await;
    assert_eq!((status, &problem["title"]), (500, &json!("Damaged")));
    press(&running, 0xc001, 2..=2).await;
    let (status, list) = running.get("/api/operator/incidents", &north).await;
    assert_eq!(status, 200);
    let told = |at: usize| {
        let case = &list["incidents"][at];
        (case["unreadable"].clone(), case["linked_to"].clone())
    };
    assert_eq!(told(0), (json!(true), Value::Null));
    assert_eq!(told(1), (json!(false), json!(lost)));
    let (_, metrics) = running.get("/metrics", &north).await;
    let metrics = metrics.as_str().unwrap();
    assert!(metrics.contains("antuo_unreadable_incidents 1\n"));
}

#[tokio::test]
async fn acts_are_done_by_the_caller_and_refusals_say_what_is_allowed() {
    let running = Running::new().await;
    let north = running.token(NORTH).await;
    let case = press(&running, 0xc001, 1..=1).await;
    let path = |verb: &str| format!("incidents/{case}/{verb}");
    let (status, done) = act(&running, &north, path("acknowledge"), json!({})).await;
    assert_eq!((status, &done["outcome"]), (200, &json!("done")));
    assert_eq!(done["incident"]["state"], "acknowledged");
    assert_eq!(
        done["incident"]["acknowledged_by"]["person"],
        json!(id(NORTH))
    );
    let dispatch = done["incident"]["dispatches"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let body = json!({"reference": "110-7", "spoke_to": "值班员"});
    let confirmed = format!("dispatches/{dispatch}/confirmed");
    let (status, done) = act(&running, &north, confirmed.clone(), body.clone()).await;
    assert_eq!(status, 200);
    assert_eq!(done["incident"]["dispatches"][0]["state"], "accepted");
    let (status, problem) = act(&running, &north, confirmed, body).await;
    assert_eq!(
        (status, &problem["type"]),
        (409, &json!("urn:antuo:problem:refused"))
    );
    let close = json!({"cause": "false_alarm", "note": "孩子误触"});
    let (status, waits) = act(&running, &north, path("close"), close).await;
    assert_eq!(
        (status, &waits["outcome"]),
        (202, &json!("needs_second_person"))
    );
    let close = json!({"cause": "drill", "note": "演练"});
    let (status, _) = act(&running, &north, path("close"), close).await;
    assert_eq!(
        status, 202,
        "another cause does not recall the police alone"
    );
    let close = json!({"cause": "real", "note": "属实"});
    let (status, done) = act(&running, &north, path("close"), close).await;
    assert_eq!(status, 200);
    let closed = &done["incident"]["closed"];
    assert_eq!(
        (&closed["by"], &closed["cause"]),
        (&json!(id(NORTH)), &json!("real"))
    );
    assert_eq!(closed["note"], "属实");
    let (status, problem) = act(&running, &north, path("acknowledge"), json!({})).await;
    assert_eq!(status, 409);
    assert!(
        problem["detail"].as_str().unwrap().contains("closed"),
        "{problem}"
    );
    for (state, count) in [("closed", 1), ("all", 1)] {
        let url = format!("/api/operator/incidents?state={state}");
        let (_, list) = running.get(&url, &north).await;
        assert_eq!(
            list["incidents"].as_array().unwrap().len(),
            count,
            "{state}"
        );
    }
}
