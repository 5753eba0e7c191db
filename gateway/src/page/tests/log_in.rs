//! Who comes in, how often one may try, and when one is out again.

use super::super::attempts::{LOCKED_FOR, TRIES};
use super::super::session::IDLE;
use super::*;

#[tokio::test]
async fn name_and_pin_open_a_session_that_ends_by_log_out() {
    let trial = Trial::start().await;
    let mut browser = trial.browser();
    assert_eq!(browser.get("/api/status").await.status, 401);
    let answer = browser.log_in(" WU ", PIN).await;
    assert_eq!(answer.json()["name"], "wu");
    assert_eq!(answer.json()["roles"], serde_json::json!(["director"]));
    assert_eq!(answer.json()["users"]["version"], 7);
    assert_eq!(browser.get("/api/status").await.status, 200);
    let mut stolen = browser.clone();
    assert_eq!(browser.post("/api/session/end", "").await.status, 204);
    assert_eq!(browser.get("/api/status").await.status, 401);
    assert_eq!(stolen.get("/api/status").await.status, 401);
    trial.end().await;
}

#[tokio::test]
async fn a_wrong_pin_and_an_unknown_name_get_one_answer() {
    let trial = Trial::start().await;
    let mut browser = trial.browser();
    let wrong = browser.log_in("wu", "111222").await;
    let unknown = browser.log_in("nobody", PIN).await;
    assert_eq!((wrong.status, &wrong.body), (403, &unknown.body));
    assert_eq!(unknown.status, 403);
    for body in ["", "{}", r#"{"name":"wu"}"#, "[1]"] {
        let answer = browser.post("/api/session", body).await;
        assert_eq!(answer.status, 400, "{body}");
    }
    let long = format!(r#"{{"name":"wu","pin":"{}"}}"#, "1".repeat(10_000));
    assert_eq!(browser.post("/api/session", &long).await.status, 400);
    assert!(browser.cookies.is_empty());
    trial.end().await;
}

#[tokio::test]
async fn five_wrong_tries_make_strangers_wait_but_not_a_device_in_use() {
    let trial = Trial::start().await;
    let mut tablet = trial.logged_in("wu").await;
    tablet.post("/api/session/end", "").await;
    let mut stranger = trial.browser();
    for _ in 0..TRIES {
        assert_eq!(stranger.log_in("wu", "111222").await.status, 403);
    }
    let wait = stranger.log_in("wu", PIN).await;
    assert_eq!(
        (wait.status, wait.json()["error"].as_str()),
        (429, Some("wait"))
    );
    assert_eq!(wait.json()["wait_s"], LOCKED_FOR.as_secs());
    assert_eq!(
        trial.browser().log_in("wu", PIN).await.status,
        429,
        "a new device waits too"
    );
    assert_eq!(tablet.log_in("wu", PIN).await.status, 200);
    // The cookie is the director's alone: for another name the tablet is a stranger.
    for _ in 0..TRIES {
        assert_eq!(tablet.log_in("an", "111222").await.status, 403);
    }
    assert_eq!(stranger.log_in("an", PIN).await.status, 429);
    trial.pass(LOCKED_FOR).await;
    assert_eq!(stranger.log_in("wu", PIN).await.status, 200);
    trial.end().await;
}

#[tokio::test]
async fn a_session_ends_when_the_config_no_longer_has_the_person_or_the_pin() {
    let trial = Trial::start().await;
    let (mut zheng, mut wu, mut an) = (
        trial.logged_in("郑").await,
        trial.logged_in("wu").await,
        trial.logged_in("an").await,
    );
    let mut changed = people(8);
    changed.local_users.remove(0);
    changed.local_users[0] = user(2, LocalRole::Director, "wu", OTHER_PIN);
    trial.config.send_replace(Some(Arc::new(changed)));
    assert_eq!(zheng.get("/api/me").await.status, 401, "removed");
    assert_eq!(wu.get("/api/me").await.status, 401, "another PIN");
    assert_eq!(an.get("/api/me").await.status, 200, "unchanged");
    assert_eq!(wu.log_in("wu", PIN).await.status, 403);
    assert_eq!(wu.log_in("wu", OTHER_PIN).await.status, 200);
    trial.config.send_replace(None);
    assert_eq!(an.get("/api/me").await.status, 401);
    trial.end().await;
}

#[tokio::test]
async fn a_page_that_only_looks_keeps_nobody_logged_in() {
    let trial = Trial::start().await;
    let mut browser = trial.logged_in("wu").await;
    let half = IDLE / 2 + Duration::from_secs(1);
    browser.touches = false;
    trial.pass(half).await;
    assert_eq!(browser.get("/api/me").await.status, 200);
    trial.pass(half).await;
    assert_eq!(browser.get("/api/me").await.status, 401);
    trial.end().await;
}

#[tokio::test]
async fn nothing_is_changed_from_another_page() {
    let trial = Trial::start().await;
    let mut browser = trial.logged_in("wu").await;
    for headers in [
        "",
        "sec-fetch-site: cross-site\r\n",
        "sec-fetch-site: same-site\r\n",
        "origin: https://evil.example\r\n",
        "origin: http://localhost\r\n",
        "sec-fetch-site: cross-site\r\norigin: https://localhost\r\n",
    ] {
        let answer = browser.ask("POST", "/api/session/end", headers, "").await;
        assert_eq!(answer.status, 403, "{headers}");
    }
    assert_eq!(browser.get("/api/me").await.status, 200, "still logged in");
    let own = "origin: https://localhost\r\n";
    let answer = browser.ask("POST", "/api/session/end", own, "").await;
    assert_eq!(answer.status, 204);
    trial.end().await;
}
