//! Every route with every role, and answers that are no success.

use serde_json::{Value, json};

use crate::http::ROUTES;
use crate::trial::{Running, id};

/// Guardian, operator, shift lead, admin, director and carer of the fixture.
const PEOPLE: [u16; 5] = [0xf001, 0xf003, 0xf004, 0xf005, 0xf006];

/// What each caller gets: nobody, then [`PEOPLE`]. Ids in paths are of nothing.
const EXPECTED: &[(&str, &str, [u16; 6])] = &[
    ("GET", "/healthz", [200; 6]),
    ("GET", "/readyz", [200; 6]),
    ("GET", "/metrics", [200; 6]),
    ("POST", "/api/session", [400; 6]),
    (
        "GET",
        "/api/operator/incidents",
        [401, 403, 200, 200, 403, 403],
    ),
    (
        "GET",
        "/api/operator/incidents/{id}",
        [401, 403, 404, 404, 403, 403],
    ),
    (
        "GET",
        "/api/operator/incidents/{id}/events",
        [401, 403, 404, 404, 403, 403],
    ),
    (
        "POST",
        "/api/operator/incidents/{id}/acknowledge",
        [401, 403, 404, 404, 403, 403],
    ),
    (
        "POST",
        "/api/operator/incidents/{id}/note",
        [401, 403, 404, 404, 403, 403],
    ),
    (
        "POST",
        "/api/operator/incidents/{id}/confirm",
        [401, 403, 404, 404, 403, 403],
    ),
    (
        "POST",
        "/api/operator/incidents/{id}/close",
        [401, 403, 404, 404, 403, 403],
    ),
    (
        "POST",
        "/api/operator/incidents/{id}/real",
        [401, 403, 404, 404, 403, 403],
    ),
    (
        "POST",
        "/api/operator/centres/{id}/commands",
        [401, 403, 404, 404, 403, 403],
    ),
    (
        "GET",
        "/api/operator/centres/{id}/commands",
        [401, 403, 404, 404, 403, 403],
    ),
    (
        "GET",
        "/api/operator/centres/{id}/service",
        [401, 403, 404, 404, 403, 403],
    ),
    (
        "POST",
        "/api/operator/dispatches/{id}/confirmed",
        [401, 403, 404, 404, 403, 403],
    ),
    (
        "GET",
        "/api/operator/stream",
        [401, 403, 200, 200, 403, 403],
    ),
    (
        "GET",
        "/api/family/children",
        [401, 200, 403, 403, 403, 403],
    ),
    (
        "GET",
        "/api/family/children/{id}/events",
        [401, 404, 403, 403, 403, 403],
    ),
    ("GET", "/api/family/stream", [401, 200, 403, 403, 403, 403]),
    ("GET", "/api/admin/gateways", [401, 403, 403, 403, 200, 403]),
    ("DELETE", "/api/session", [401, 204, 204, 204, 204, 204]),
];

fn body_for(path: &str) -> Value {
    match path.rsplit('/').next() {
        Some("note") => json!({"text": "x"}),
        Some("close") => json!({"cause": "drill", "note": "x"}),
        Some("confirmed") => json!({"reference": "1", "spoke_to": "x"}),
        Some("session") => json!({"user": "x"}),
        _ => json!({}),
    }
}

#[tokio::test]
async fn every_route_answers_every_role_as_documented() {
    let in_table = EXPECTED.iter().map(|(method, path, _)| (*method, *path));
    let mut in_table = in_table.collect::<Vec<_>>();
    let mut routes = ROUTES.to_vec();
    in_table.sort_unstable();
    routes.sort_unstable();
    assert_eq!(
        routes, in_table,
        "a route is missing from the table, or gone"
    );

    let running = Running::new().await;
    let key = &running.trial.config.keys.config_signing;
    running.api.health.probe(&running.trial.db, key).await;
    let mut tokens = vec![None];
    for person in PEOPLE {
        tokens.push(Some(running.token(person).await));
    }
    for (method, path, statuses) in EXPECTED {
        let url = path.replace("{id}", &id(0x9999).to_string());
        for (token, status) in tokens.iter().zip(statuses) {
            let url = format!("{}{url}", running.base);
            let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
            let mut request = running.client.request(method.clone(), url);
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            if method == reqwest::Method::POST {
                request = request.json(&body_for(path));
            }
            let response = request.send().await.unwrap();
            let who = tokens.iter().position(|t| t == token);
            assert_eq!(
                response.status().as_u16(),
                *status,
                "{method} {path} as {who:?}"
            );
            if *status >= 400 {
                let kind = response.headers()["content-type"].to_str().unwrap();
                assert_eq!(kind, "application/problem+json");
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_told_with_what_would_be_right() {
    let running = Running::new().await;
    let token = running.token(0xf003).await;
    let note = format!("{}/api/operator/incidents/{}/note", running.base, id(1));
    let post = |kind: &'static str, body: String| {
        let request = running.client.post(&note).bearer_auth(&token);
        request.header("content-type", kind).body(body).send()
    };
    let status = async |kind, body: &str| {
        let response = post(kind, body.to_owned()).await.unwrap();
        let status = response.status().as_u16();
        (
            status,
            response.json::<Value>().await.unwrap()["detail"]
                .as_str()
                .unwrap()
                .to_owned(),
        )
    };
    let json = "application/json";
    assert_eq!(status("text/plain", "{\"text\":\"x\"}").await.0, 415);
    assert_eq!(status(json, "{\"text\":\"x\",\"b\":1}").await.0, 400);
    assert!(status(json, "{").await.1.starts_with("the body: "));
    assert_eq!(status(json, "{\"text\":\"  \"}").await.0, 400);
    let long = format!("{{\"text\":\"{}\"}}", "x".repeat(70_000));
    assert_eq!(status(json, &long).await.0, 413);
    assert_eq!(
        status("application/json; charset=utf-8", "{\"text\":\"x\"}")
            .await
            .0,
        404
    );

    let (status, problem) = running.get("/api/nothing", &token).await;
    assert_eq!(
        (status, &problem["type"]),
        (404, &json!("urn:antuo:problem:not-found"))
    );
    let (status, problem) = running
        .ask("DELETE", "/api/family/children", None, json!({}))
        .await;
    assert_eq!((status, &problem["title"]), (405, &json!("Other method")));
    let (status, _) = running
        .get("/api/operator/incidents?state=old", &token)
        .await;
    assert_eq!(status, 400);
    let (status, _) = running
        .get("/api/operator/incidents?stat=open", &token)
        .await;
    assert_eq!(status, 400);
    let (status, _) = running.get("/api/operator/incidents/no-id", &token).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn machines_learn_what_the_process_and_its_tables_know() {
    let running = Running::new().await;
    let token = running.token(0xf005).await;
    let (status, ready) = running.get("/readyz", &token).await;
    assert_eq!((status, &ready["store_writable"]), (503, &json!(false)));
    let (_, gateways) = running.get("/api/admin/gateways", &token).await;
    let boxes = gateways["gateways"].as_array().unwrap();
    assert_eq!(boxes.len(), 3);
    assert_eq!(boxes[0]["centre"]["name"], "向日葵托育中心");
    assert_eq!(boxes[0]["connected"], false);
    assert_eq!(boxes[0]["last_seen_at"], Value::Null);
    let (_, text) = running.get("/metrics", &token).await;
    let text = text.as_str().unwrap();
    for line in [
        "antuo_store_up 1",
        "antuo_sessions 1",
        "antuo_oldest_unreceipted_age 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    running.trial.db.close().await;
    let (status, _) = running.get("/api/admin/gateways", &token).await;
    assert_eq!(status, 503);
    let (status, text) = running.get("/metrics", &token).await;
    assert_eq!(status, 200);
    assert!(text.as_str().unwrap().contains("antuo_store_up 0"));
}
