//! The judgement of what was seen, and a look at a real folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use ambient::Entropy;
use domain::kind::Lane;
use domain::time::Timestamp;
use rustls::pki_types::ServerName;

use super::*;
use crate::broker::Doors;
use crate::clock::Trust;
use crate::store::outbox::{Held, Limits};
use crate::store::row::{SealedConfig, Submission};
use crate::store::{Lately, Survey};
use crate::testing::{CHILD, Running, SECRET, Scratch, Signer, config, entry};

const HOUR: Duration = Duration::from_secs(3600);

fn seen(rows: u64, bytes: u64, lately: Option<(u64, u64, Duration)>) -> Survey {
    Survey {
        lanes: [Held { rows, bytes }, Held::default(), Held::default()],
        lately: lately.map(|(rows, bytes, span)| Lately {
            held: Held { rows, bytes },
            span,
        }),
        configs: vec![],
        configured_at: None,
        steps: (2, 2),
    }
}

fn left(seen: &Survey) -> Option<u64> {
    let held = seen.lanes[0];
    judge::days_left(seen, Limits::DEFAULT, held.rows, held.bytes)
}

#[test]
fn days_left_go_by_whichever_runs_out_first_and_by_enough_rows_only() {
    assert_eq!(left(&seen(9, 9, Some((9, 9, 60 * HOUR / 3600)))), None);
    assert_eq!(left(&seen(0, 0, None)), None);
    // 86,400 a day: 5,000,000 rows are 57 days.
    let door = seen(0, 0, Some((3_600, 3_600 * 100, HOUR)));
    assert_eq!(left(&door), Some(57));
    // 1 GiB a day: 1.75 GiB are one day.
    let fat = seen(0, 0, Some((10, 1 << 30, 24 * HOUR)));
    assert_eq!(left(&fat), Some(1));
    let room = |seen: &Survey| judge::store(seen, Limits::DEFAULT).pop().unwrap();
    assert_eq!(room(&door).verdict, Verdict::Good);
    assert_eq!(room(&fat).verdict, Verdict::Wrong);
    assert!(room(&seen(0, 0, None)).says.contains("unknown"));
    assert!(room(&seen(5_000_000, 0, None)).says.contains("full"));
}

#[test]
fn what_the_running_box_says_is_passed_on_and_counts() {
    let well = json!({"cloud": "up", "devices_connected": 3, "faults": []});
    assert_eq!(Report(judge::said(&well)).wrong(), 0);
    let ill = json!({"cloud": "down: no route", "faults": ["the outbox is full"]});
    let report = Report(judge::said(&ill));
    assert_eq!(report.wrong(), 2);
    assert!(report.to_string().contains("the outbox is full"));
}

#[test]
fn an_open_key_and_a_listener_in_clear_are_told() {
    assert_eq!(judge::key_mode(Some(0o600)).verdict, Verdict::Good);
    assert_eq!(judge::key_mode(Some(0o640)).verdict, Verdict::Wrong);
    let stolen = judge::sealing_key(Some(0o600));
    assert_eq!(stolen.verdict, Verdict::Note);
    assert!(stolen.says.contains("a stolen disk can be read"));
    let address = |text: &str| judge::listener(&text.parse().unwrap());
    assert_eq!(address("127.0.0.1:1883"), None);
    assert!(address("192.168.1.2:1883").unwrap().says.contains("clear"));
    let old = Timestamp::from_micros(0);
    assert_eq!(judge::clock(Trust::System, old).verdict, Verdict::Wrong);
}

fn settings(folder: &std::path::Path) -> Config {
    Config {
        data_dir: folder.to_owned(),
        identity: folder.join("identity"),
        cloud_address: "127.0.0.1:1".into(),
        server_name: ServerName::try_from("localhost").unwrap(),
        mqtt: Doors {
            tcp: vec!["127.0.0.1:0".parse().unwrap()],
            ..Doors::default()
        },
        lan: None,
        bridges: vec![],
        page: None,
        status: "127.0.0.1:0".parse().unwrap(),
        clock: Trust::System,
        outbox: Limits::DEFAULT,
    }
}

fn about<'r>(report: &'r Report, what: &str) -> Vec<&'r Finding> {
    report.0.iter().filter(|f| f.about == what).collect()
}

#[tokio::test]
async fn a_folder_is_looked_at_beside_its_running_box_and_nothing_secret_is_shown() {
    let scratch = Scratch::new();
    let box_ = Running::start(&scratch, 1).await;
    let entropy = Entropy::system();
    let key = BoxKey::read_or_make(scratch.path(), &entropy).unwrap();
    let document = Signer::new().sign(&config(4)).document;
    let purpose = crate::seal::config_purpose(4);
    let sealed = key.seal(&purpose, document.as_bytes(), &entropy).unwrap();
    let submission = Submission {
        entries: (1..=7).map(|n| entry(Lane::LifeSafety, n)).collect(),
        config: Some(SealedConfig { version: 4, sealed }),
        ..Submission::default()
    };
    box_.opened.store.commit(submission).await.unwrap();
    let files = || {
        let of = fs::read_dir(scratch.path()).unwrap();
        let mut names: Vec<PathBuf> = of.map(|f| f.unwrap().path()).collect();
        names.sort();
        names
    };
    let before = files();
    let report = examine(&settings(scratch.path()), &Clock::system()).await;
    assert_eq!(files(), before, "nothing was made or moved");
    assert!(about(&report, "lane")[0].says.contains("7 rows"));
    let config = about(&report, "config")[0];
    assert!(config.says.contains("version 4 in force"), "{config}");
    assert_eq!(about(&report, "identity")[0].verdict, Verdict::Wrong);
    assert!(
        about(&report, "running box")[0]
            .says
            .contains("no box runs")
    );
    let key = fs::read_to_string(scratch.path().join(crate::seal::FILE)).unwrap();
    for text in [report.to_string(), report.to_json().to_string()] {
        for secret in [CHILD, SECRET, key.trim()] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    box_.stop().await;
}

#[tokio::test]
async fn a_damaged_store_is_told_and_left_alone() {
    let scratch = Scratch::new();
    let path = scratch.path().join(store::FILE);
    fs::write(&path, vec![b'x'; 8192]).unwrap();
    fs::write(scratch.path().join("outbox.db.damaged-1"), b"old").unwrap();
    let report = examine(&settings(scratch.path()), &Clock::system()).await;
    assert_eq!(about(&report, "store")[0].verdict, Verdict::Wrong);
    assert!(about(&report, "damage")[0].says.contains("1 files"));
    assert_eq!(fs::read(&path).unwrap(), vec![b'x'; 8192]);
    assert!(!store::is_marked_damaged(&path));
}
