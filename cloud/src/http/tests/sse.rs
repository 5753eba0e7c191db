//! Streams: everything first, whole rows as they change, and an end with the right to see them.

use domain::event::HandedBy;
use domain::id::{CentreId, ChildId};
use serde_json::{Value, json};

use super::family::{inside, moves};
use super::press::press;
use crate::sql;
use crate::trial::{Running, id};
use crate::wake::{Changed, Wake};

/// An open stream.
pub(super) struct Events {
    response: reqwest::Response,
    text: String,
}

/// One event.
#[derive(Debug)]
pub(super) struct Got {
    id: String,
    pub(super) event: String,
    pub(super) data: Value,
}

impl Events {
    pub(super) async fn open(running: &Running, path: &str, token: &str) -> Self {
        let url = format!("{}{path}", running.base);
        let response = running
            .client
            .get(url)
            .bearer_auth(token)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "text/event-stream");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-accel-buffering"), "no");
        let text = String::new();
        Self { response, text }
    }

    /// The next event; none at the end.
    pub(super) async fn next(&mut self) -> Option<Got> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let line = event.lines().find_map(|line| line.strip_prefix(name));
                    line.map(|value| value.trim_start().to_owned())
                };
                let got = field("event:").map(|event| Got {
                    event,
                    id: field("id:").unwrap(),
                    data: serde_json::from_str(&field("data:").unwrap()).unwrap(),
                });
                self.text = rest.to_owned();
                if got.is_some() {
                    return got;
                }
                continue;
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test]
async fn an_operator_gets_everything_then_each_change_of_the_own_room() {
    let running = Running::new().await;
    let (north, south) = (running.token(0xf003).await, running.token(0xf004).await);
    let case = press(&running, 0xc001, 1..=1).await;
    let mut stream = Events::open(&running, "/api/operator/stream", &north).await;
    let mut other = Events::open(&running, "/api/operator/stream", &south).await;
    let reset = stream.next().await.unwrap();
    assert_eq!(reset.event, "reset");
    assert_eq!(reset.data["incidents"][0]["id"], json!(case));
    assert_eq!(
        other.next().await.unwrap().data,
        json!({"incidents": [], "service": []})
    );

    press(&running, 0xc001, 2..=2).await;
    let changed = stream.next().await.unwrap();
    assert_eq!(changed.event, "incident");
    assert_eq!(changed.data["alarms"][0]["activations"], 2);
    assert!(changed.data["version"].as_u64() > reset.data["incidents"][0]["version"].as_u64());
    assert_ne!(changed.id, reset.id);
    let (_, whole) = running
        .get(&format!("/api/operator/incidents/{case}"), &north)
        .await;
    assert_eq!(changed.data, whole);

    let path = format!("/api/operator/incidents/{case}/close");
    let body = json!({"cause": "real", "note": "x"});
    running.ask("POST", &path, Some(&north), body).await;
    assert_eq!(stream.next().await.unwrap().data["state"], "closed");
    let elsewhere = press(&running, 0xc002, 1..=1).await;
    let first = other.next().await.unwrap();
    assert_eq!(
        (first.event.as_str(), &first.data["id"]),
        ("incident", &json!(elsewhere))
    );
    let mut metrics = String::new();
    running.api.metrics.write(&mut metrics);
    assert!(
        metrics.contains("antuo_signal_to_screen_seconds_count 2"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_guardian_gets_the_own_children_and_their_changes() {
    let running = Running::new().await;
    let li = running.token(0xf002).await;
    let mut stream = Events::open(&running, "/api/family/stream", &li).await;
    let reset = stream.next().await.unwrap();
    let children = reset.data["children"].as_array().unwrap();
    assert_eq!((reset.event.as_str(), children.len()), ("reset", 2));
    let now = running.trial.clock.now();
    for child in [0xe001, 0xe002] {
        moves(&running, child, inside(HandedBy::Unknown), now).await;
        running.api.wakes.send(Wake {
            centre: CentreId(id(0xc001)),
            what: Changed::Child(ChildId(id(child))),
        });
    }
    let changed = stream.next().await.unwrap();
    assert_eq!(changed.event, "child");
    assert_eq!(changed.data["id"], json!(id(0xe002)));
    assert_eq!(changed.data["presence"]["state"], "present");
}

#[tokio::test]
async fn a_stream_ends_when_the_session_or_the_grant_does() {
    let running = Running::new().await;
    let token = running.token(0xf003).await;
    let mut stream = Events::open(&running, "/api/operator/stream", &token).await;
    stream.next().await.unwrap();
    running
        .change("update role_grant set until_at = 1 where role = 'operator'")
        .await;
    press(&running, 0xc001, 1..=1).await;
    assert!(stream.next().await.is_none());

    let token = running.token(0xf004).await;
    let mut stream = Events::open(&running, "/api/operator/stream", &token).await;
    stream.next().await.unwrap();
    running
        .ask("DELETE", "/api/session", Some(&token), Value::Null)
        .await;
    press(&running, 0xc002, 1..=1).await;
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_lost_child_grant_resets_the_stream_without_a_wake() {
    let running = Running::new().await;
    let li = running.token(0xf002).await;
    let mut stream = Events::open(&running, "/api/family/stream", &li).await;
    stream.next().await.unwrap();
    running
        .execute(move |tx| {
            Box::pin(async move {
                let text = "update role_grant set until_at = 1 where child = $1";
                sql!(tx, execute, text, id(0xe003)).unwrap();
            })
        })
        .await;
    let reset = stream.next().await.unwrap();
    assert_eq!(reset.event, "reset");
    assert_eq!(reset.data["children"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn streams_end_with_the_process_and_one_person_has_only_so_many() {
    let running = Running::new().await;
    let token = running.token(0xf003).await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = Events::open(&running, "/api/operator/stream", &token).await;
        stream.next().await.unwrap();
        streams.push(stream);
    }
    assert_eq!(running.get("/api/operator/stream", &token).await.0, 429);
    running.stopper.tell();
    for mut stream in streams {
        assert!(stream.next().await.is_none());
    }
}
