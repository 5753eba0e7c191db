//! Logging in and out.

use serde_json::{Value, json};

use crate::access::SESSION_LASTS;
use crate::sql;
use crate::trial::{Running, Trial, id};

async fn log_in(running: &Running, name: &str, password: &str) -> (u16, Value) {
    let body = json!({"username": name, "password": password});
    running.ask("POST", "/api/session", None, body).await
}

#[tokio::test]
async fn a_log_in_opens_a_session_until_it_is_ended() {
    let running = Running::new().await;
    let (status, opened) = log_in(&running, "li", "pw-of-li-88").await;
    assert_eq!(status, 200);
    assert_eq!(opened["person"], json!(id(0xf002)));
    assert_eq!(opened["roles"], json!(["guardian"]));
    let lasts = opened["expires_at"].as_i64().unwrap() - running.trial.clock.now().micros();
    assert!(lasts > 0 && lasts <= i64::try_from(SESSION_LASTS.as_micros()).unwrap());
    let token = opened["token"].as_str().unwrap();
    assert_eq!(token.len(), 64);
    assert_eq!(running.get("/api/family/children", token).await.0, 200);
    assert_eq!(
        running
            .ask("DELETE", "/api/session", Some(token), Value::Null)
            .await
            .0,
        204
    );
    assert_eq!(running.get("/api/family/children", token).await.0, 401);
    assert_eq!(running.get("/api/family/children", "guess").await.0, 401);
}

#[tokio::test]
async fn wrong_names_and_passwords_are_one_answer_and_five_of_them_lock() {
    let running = Running::new().await;
    let (_, unknown) = log_in(&running, "nobody", "x").await;
    for _ in 0..5 {
        let (status, wrong) = log_in(&running, "li", "wrong").await;
        assert_eq!((status, &wrong), (401, &unknown));
    }
    let (status, locked) = log_in(&running, "li", "pw-of-li-88").await;
    assert_eq!(
        (status, &locked["type"]),
        (429, &json!("urn:antuo:problem:too-many"))
    );
    assert_eq!(log_in(&running, "wang", "pw-of-wang-77").await.0, 200);
}

#[tokio::test]
async fn a_cookie_works_for_our_own_pages_only() {
    let running = Running::new().await;
    let url = format!("{}/api/session", running.base);
    let body = json!({"username": "li", "password": "pw-of-li-88"});
    let response = running.client.post(&url).json(&body).send().await.unwrap();
    let cookie = response.headers()["set-cookie"]
        .to_str()
        .unwrap()
        .to_owned();
    for flag in [
        "antuo=",
        "; Path=/",
        "; HttpOnly",
        "; SameSite=Lax",
        "; Max-Age=43200",
    ] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    assert!(!cookie.contains("Secure"));
    let cookie = cookie.split(';').next().unwrap();
    let children = format!("{}/api/family/children", running.base);
    let read = running
        .client
        .get(&children)
        .header("cookie", cookie)
        .send()
        .await
        .unwrap();
    assert_eq!(read.status(), 200);
    let end = |site: Option<&str>| {
        let request = running.client.delete(&url).header("cookie", cookie);
        let request = match site {
            Some(site) => request.header("sec-fetch-site", site),
            None => request,
        };
        request.send()
    };
    for (site, status) in [
        (None, 403),
        (Some("cross-site"), 403),
        (Some("same-origin"), 204),
    ] {
        assert_eq!(end(site).await.unwrap().status(), status, "{site:?}");
    }
    let foreign = running
        .client
        .post(&url)
        .header("origin", "https://evil.cn")
        .json(&body);
    assert_eq!(foreign.send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn sessions_and_grants_end_when_their_time_is_over() {
    let running = Running::new().await;
    let token = running.token(0xf001).await;
    assert_eq!(running.get("/api/family/children", &token).await.0, 200);
    let now = running.trial.clock.now().micros();
    running
        .execute(move |tx| {
            Box::pin(async move {
                sql!(tx, execute, "update role_grant set until_at = $1", now).unwrap();
            })
        })
        .await;
    assert_eq!(running.get("/api/family/children", &token).await.0, 403);
    running
        .execute(move |tx| {
            Box::pin(async move {
                sql!(tx, execute, "update session set expires_at = $1", now).unwrap();
            })
        })
        .await;
    assert_eq!(running.get("/api/family/children", &token).await.0, 401);
}

#[tokio::test]
async fn the_store_knows_neither_token_nor_password() {
    let running = Running::new().await;
    let (_, opened) = log_in(&running, "li", "pw-of-li-88").await;
    let token = opened["token"].as_str().unwrap();
    let mut tx = running.trial.db.read().await.unwrap();
    let rows = sql!(
        &mut tx,
        fetch_all as (Vec<u8>,),
        "select token_hash from session"
    )
    .unwrap();
    assert_eq!(rows.len(), 1);
    let raw = domain::digest::from_hex(token).unwrap();
    assert!(rows[0].0 != raw && rows[0].0 != token.as_bytes());
}

#[tokio::test]
async fn a_store_that_is_away_locks_nobody() {
    let running = Running::new().await;
    running.trial.db.close().await;
    for _ in 0..7 {
        assert_eq!(log_in(&running, "li", "pw-of-li-88").await.0, 503);
    }
}

#[tokio::test]
async fn behind_a_proxy_clients_have_locks_of_their_own_and_a_cookie_for_tls() {
    let mut trial = Trial::new().await;
    trial.config.http.trusted_proxy = true;
    trial.config.http.origin = Some("https://antuo.cn".into());
    let running = Running::of(trial).await;
    let log_in = async |password: &str, from: &'static str, origin: &'static str| {
        let url = format!("{}/api/session", running.base);
        let body = json!({"username": "li", "password": password});
        let request = running.client.post(&url).json(&body);
        let request = request.header("x-forwarded-for", from);
        request.header("origin", origin).send().await.unwrap()
    };
    let own = "https://antuo.cn";
    for _ in 0..5 {
        assert_eq!(log_in("wrong", "192.0.2.1", own).await.status(), 401);
    }
    let forged = log_in("pw-of-li-88", "192.0.2.2, 192.0.2.1", own).await;
    assert_eq!(forged.status(), 429);
    let other = log_in("pw-of-li-88", "192.0.2.2", own).await;
    assert_eq!(other.status(), 200);
    let cookie = other.headers()["set-cookie"].to_str().unwrap();
    assert!(
        cookie.starts_with("__Host-antuo=") && cookie.ends_with("; Secure"),
        "{cookie}"
    );
    // The name that a client calls us by proves nothing.
    let by_host: &'static str = running.base.clone().leak();
    assert_eq!(
        log_in("pw-of-li-88", "192.0.2.2", by_host).await.status(),
        403
    );
}
