//! What each role is shown, and what nobody is.

use serde_json::Value;

use super::*;

const PRESS: &str = r#"{"id":"1","kind":"alarm.pressed","state":"raised"}"#;
const LATE: Duration = Duration::from_secs(11);
const EYES: [&str; 3] = ["郑", "wu", "an"];

fn tap(id: u8) -> String {
    format!(r#"{{"id":"{id}","kind":"access.read","state":"raised","credential":"04A1"}}"#)
}

async fn lamp(trial: &Trial) -> Value {
    trial.browser().get("/api/lamp").await.json()
}

/// Each door of the API, with whom it opens to.
#[tokio::test]
async fn each_role_has_its_doors_and_no_others() {
    let trial = Trial::start().await;
    let doors = [
        ("/api/lamp", [200; 4]),
        ("/api/me", [401, 200, 200, 200]),
        ("/api/status", [401, 200, 200, 200]),
        ("/api/inside", [401, 200, 200, 403]),
        ("/api/signals", [401, 403, 200, 200]),
    ];
    let mut browsers = vec![trial.browser()];
    for name in EYES {
        browsers.push(trial.logged_in(name).await);
    }
    for (path, wanted) in doors {
        for (browser, wanted) in browsers.iter_mut().zip(wanted) {
            assert_eq!(browser.get(path).await.status, wanted, "{path}");
        }
    }
    trial.end().await;
}

#[tokio::test]
async fn children_are_for_carers_and_directors_alone() {
    let trial = Trial::start().await;
    trial.send("antuo/v1/reader/reader", &tap(1)).await;
    for (name, sees) in EYES.into_iter().zip([true, true, false]) {
        let mut browser = trial.logged_in(name).await;
        let mut all = String::new();
        for path in ["/api/me", "/api/status", "/api/inside", "/api/signals"] {
            all += &browser.get(path).await.body;
        }
        assert_eq!(all.contains(CHILD), sees, "{name}");
        assert!(!all.contains("04A1"), "a card number is for nobody");
        assert!(!all.contains("argon2"), "nor is a hash");
        let inside = browser.get("/api/inside").await;
        if sees {
            let inside = inside.json();
            assert_eq!(inside["total"], 1);
            assert_eq!(inside["children"][0]["class_group"], "小一班");
            assert_eq!(inside["classes"][0]["inside"], 1);
            assert_eq!(inside["stale"], serde_json::json!([]));
        }
    }
    trial.end().await;
}

#[tokio::test]
async fn present_reads_as_of_when_something_has_been_silent_for_long() {
    let trial = Trial::start().await;
    trial.send("antuo/v1/reader/reader", &tap(1)).await;
    let mut browser = trial.logged_in("郑").await;
    trial.link.send_replace(Link::Resting(None));
    trial.pass(Duration::from_secs(61)).await;
    let stale =
        async |browser: &mut Client| browser.get("/api/inside").await.json()["stale"].clone();
    assert_eq!(
        stale(&mut browser).await,
        serde_json::json!(["reader_silent"])
    );
    trial.pass(Duration::from_secs(181)).await;
    let both = serde_json::json!(["link_down", "reader_silent"]);
    assert_eq!(stale(&mut browser).await, both);
    let status = browser.get("/api/status").await.json();
    assert_eq!(status["cloud"]["up"], false);
    assert_eq!(status["config"]["current"], false);
    let devices = status["devices"].as_array().unwrap();
    assert_eq!(devices[0]["device"], "reader", "what is wrong comes first");
    assert_eq!(devices[0]["troubles"][0]["kind"], "device.offline");
    assert_eq!(devices[0]["troubles"][0]["since"], 1_800_000_061_000_u64);
    trial.end().await;
}

#[tokio::test]
async fn an_alarm_without_a_receipt_asks_people_to_telephone_after_ten_seconds() {
    let trial = Trial::start().await;
    assert_eq!(lamp(&trial).await["alarm"], false);
    trial.send("antuo/v1/btn/button", PRESS).await;
    trial.pass(Duration::from_secs(10)).await;
    let mut browser = trial.logged_in("an").await;
    let status = browser.get("/api/status").await.json();
    assert_eq!(status["alarms"][0]["point"], "btn/button");
    assert_eq!(status["not_forwarded"], Value::Null, "not yet late");
    trial.pass(Duration::from_secs(1)).await;
    let status = browser.get("/api/status").await.json();
    let case = &status["not_forwarded"]["alarms"][0];
    assert_eq!(
        (&case["kind"], &case["point"]),
        (&"alarm.pressed".into(), &"btn/button".into())
    );
    assert_eq!(status["centre"]["address"], "长治市潞州区英雄路 1 号");
    let lamp = lamp(&trial).await;
    assert_eq!(
        (&lamp["alarm"], &lamp["not_forwarded"]),
        (&true.into(), &true.into())
    );
    trial.end().await;
}

#[tokio::test]
async fn what_waits_without_being_an_alarm_asks_nobody_to_telephone() {
    let trial = Trial::start().await;
    let test = r#"{"id":"1","kind":"alarm.restored","state":"cleared"}"#;
    trial.send("antuo/v1/btn/button", test).await;
    trial.pass(LATE).await;
    assert_eq!(lamp(&trial).await["not_forwarded"], false);
    trial.end().await;
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_never_shown_as_forwarded() {
    let trial = Trial::start().await;
    trial.send("antuo/v1/hidden/button", PRESS).await;
    let file = trial.scratch.path().join(crate::store::FILE);
    crate::testing::sql(&file, "alter table record rename to hidden").await;
    trial.pass(LATE).await;
    let mut browser = trial.logged_in("wu").await;
    let status = browser.get("/api/status").await.json();
    let said = status["not_forwarded"]["doubtful"].as_bool();
    let lit = lamp(&trial).await["not_forwarded"].as_bool();
    crate::testing::sql(&file, "alter table hidden rename to record").await;
    assert_eq!((said, lit), (Some(true), Some(true)));
    trial.end().await;
}

#[tokio::test]
async fn a_silent_press_is_for_carers_and_directors_alone() {
    let trial = Trial::start().await;
    trial.send("antuo/v1/hidden/button", PRESS).await;
    trial.pass(LATE).await;
    let lamp = lamp(&trial).await;
    assert_eq!(
        (&lamp["alarm"], &lamp["not_forwarded"]),
        (&false.into(), &false.into())
    );
    for (name, sees) in EYES.into_iter().zip([true, true, false]) {
        let mut browser = trial.logged_in(name).await;
        let status = browser.get("/api/status").await.json();
        let alarms = status["alarms"].as_array().unwrap().len();
        let has = |name: &str| status[name] != Value::Null;
        assert_eq!((alarms == 1, has("not_forwarded")), (sees, sees), "{name}");
        if sees {
            assert_eq!(status["alarms"][0]["silent"], true);
        }
        let log = browser.get("/api/signals").await.body;
        assert_eq!(log.contains("hidden/button"), name == "wu", "{name}");
    }
    let plain = client::plain(trial.redirect, "/lamp", "box.local").await;
    assert!(plain.body.contains("lamp_calm"), "{}", plain.body);
    trial.end().await;
}

#[tokio::test]
async fn the_signal_log_says_what_was_meant_and_never_a_pin() {
    let trial = Trial::start().await;
    let canary = "4711-canary";
    let with_pin =
        format!(r#"{{"id":"1","kind":"alarm.pressed","state":"raised","pin":"{canary}"}}"#);
    for (topic, body) in [
        ("antuo/v1/btn/button", with_pin.as_str()),
        ("antuo/v1/new/button", with_pin.as_str()),
        ("antuo/v1/btn/button", canary),
        ("some/where", canary),
    ] {
        trial.send(topic, body).await;
    }
    let mut browser = trial.logged_in("an").await;
    let answer = browser.get("/api/signals").await;
    assert!(!answer.body.contains("canary"), "{}", answer.body);
    let log = answer.json();
    assert_eq!(log["serial"], 4);
    let line = |n: usize| &log["lines"][n];
    assert_eq!(
        (&line(0)["became"], &line(0)["hidden"]),
        (&"foreign".into(), &"unknown".into())
    );
    assert_eq!(
        (&line(1)["unread"], &line(1)["size"]),
        (&"wrong_type".into(), &11.into())
    );
    assert_eq!(line(2)["enrol"]["address"], "antuo/v1/new/button");
    assert_eq!(
        (&line(3)["events"][0]["kind"], &line(3)["redacted"]),
        (&"alarm.pressed".into(), &true.into())
    );
    let found = browser.get("/api/signals?find=NEW&after=0").await.json();
    assert_eq!(found["lines"].as_array().unwrap().len(), 1);
    let newer = browser.get("/api/signals?after=3").await.json();
    assert_eq!(newer["lines"].as_array().unwrap().len(), 1);
    assert_eq!(trial.signals.after(0).serial, 4);
    trial.end().await;
}

#[tokio::test]
async fn plain_http_leads_to_the_page_and_shows_the_lamp_without_names() {
    let trial = Trial::start().await;
    let port = trial.page.port();
    let answer = client::plain(trial.redirect, "/api/status", "box.local:8080").await;
    assert_eq!(answer.status, 307);
    let to = format!("https://box.local:{port}/");
    assert_eq!(answer.header("location"), Some(to.as_str()));
    assert!(answer.body.contains("lamp_calm"));
    let answer = client::plain(trial.redirect, "/", "evil\"host").await;
    assert_eq!((answer.status, answer.header("location")), (200, None));
    trial.send("antuo/v1/btn/button", PRESS).await;
    trial.pass(Duration::from_secs(1)).await;
    let lit = client::plain(trial.redirect, "/lamp", "box.local").await;
    assert!(
        lit.body.contains("lamp_alarm") && !lit.body.contains("btn"),
        "{}",
        lit.body
    );
    trial.pass(LATE).await;
    let late = client::plain(trial.redirect, "/lamp", "box.local").await;
    assert!(late.body.contains("lamp_not_forwarded") && late.body.contains("110"));
    assert!(!late.body.contains("英雄路"));
    trial.end().await;
}

#[tokio::test]
async fn every_answer_carries_the_policy_and_the_page_has_nothing_inline() {
    let trial = Trial::start().await;
    let mut browser = trial.browser();
    for path in [
        "/",
        "/page.js",
        "/page.css",
        "/words.json",
        "/api/status",
        "/nowhere",
    ] {
        let answer: Answer = browser.get(path).await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'"),
            "{path}"
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    for html in [super::super::words::HTML, include_str!("../www/lamp.html")] {
        assert!(!html.contains("<style") && !html.contains("style=") && !html.contains(" on"));
        let scripts = html.matches("<script").count();
        assert_eq!(scripts, html.matches("<script src=").count());
    }
    trial.end().await;
}

/// A word the page looks up must be there in both languages.
#[test]
fn every_word_is_there_in_both_languages() {
    let words: Value = serde_json::from_str(super::super::words::WORDS).unwrap();
    let words = words.as_object().unwrap();
    for (code, word) in words {
        for language in ["zh", "en"] {
            let text = word[language].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{code} has no {language}");
        }
    }
    for kind in domain::kind::Kind::ALL {
        assert!(words.contains_key(kind.as_str()), "{kind} has no word");
    }
    let script = super::super::words::SCRIPT;
    let html = super::super::words::HTML;
    let said = |text: &str, before: &str| -> Vec<String> {
        let parts = text.split(before).skip(1);
        parts
            .map(|part| part.split(['"', '\'']).next().unwrap().to_owned())
            .collect()
    };
    let mut wanted = said(script, "say(\"");
    wanted.extend(said(html, "data-say=\""));
    assert!(wanted.len() > 20, "the search finds what is there");
    for code in wanted {
        // Of a word that is put together the beginning is looked for.
        let is_there = match code.strip_suffix('_') {
            Some(_) => words.keys().any(|word| word.starts_with(&code)),
            None => words.contains_key(&code),
        };
        assert!(is_there, "{code} has no word");
    }
}
