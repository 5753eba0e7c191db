//! The corpus, run through the whole site.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;

/// The folder of cases whose ecosystems have no adapter.
const UNSPOKEN: &str = "unspoken";

#[derive(Deserialize)]
struct Wanted {
    after_step: usize,
    kind: String,
    state: String,
    severity: String,
    #[serde(default)]
    optional: bool,
    alt: Option<Value>,
}

#[derive(Deserialize)]
struct Expectation {
    id: String,
    #[serde(default)]
    expect: Vec<Wanted>,
    #[serde(default)]
    forbid: Vec<String>,
}

/// The families for which a case's list is complete.
const COMPLETE: &[&str] = &[
    "fire.",
    "water.",
    "alarm.",
    "door.",
    "lock.",
    "access.",
    "device.",
    "bridge.",
    "camera.",
    "intrusion.",
    "ingest.",
];

/// What is wrong with a case, in words; empty when it passes.
fn faults(line: &str) -> (String, Vec<String>) {
    let wanted: Expectation = serde_json::from_str(line).unwrap();
    let printed: Value = serde_json::from_str(&decode(line).unwrap()).unwrap();
    let mut told: Vec<String> = Vec::new();
    let mut faults = Vec::new();
    for event in printed["events"].as_array().unwrap() {
        let word = |key: &str| event[key].as_str().unwrap().to_owned();
        let (kind, state) = (word("kind"), word("state"));
        for forbidden in &wanted.forbid {
            if *forbidden == kind || *forbidden == format!("{kind}:{state}") {
                faults.push(format!("forbidden {kind}"));
            }
        }
        if COMPLETE.iter().any(|family| kind.starts_with(family)) {
            let line = format!(
                "{} {kind} {state} {}",
                event["after_step"],
                word("severity")
            );
            told.push(line);
        }
    }
    let mut alternatives: BTreeMap<String, bool> = BTreeMap::new();
    for want in &wanted.expect {
        let line = format!(
            "{} {} {} {}",
            want.after_step, want.kind, want.state, want.severity
        );
        let found = told.iter().position(|told| *told == line);
        if let Some(at) = found {
            told.remove(at);
        }
        match &want.alt {
            Some(alt) => *alternatives.entry(alt.to_string()).or_default() |= found.is_some(),
            None if found.is_none() && !want.optional => faults.push(format!("missing {line}")),
            None => {}
        }
    }
    let unmet = alternatives.iter().filter(|(_, met)| !**met);
    faults.extend(unmet.map(|(alt, _)| format!("none of alternative {alt}")));
    faults.extend(told.iter().map(|line| format!("too many: {line}")));
    (wanted.id, faults)
}

/// The corpora of one folder under `tests/fixtures/signals`.
fn corpora(folder: &Path) -> Vec<(String, String)> {
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().path());
    let read = |path: PathBuf| {
        let name = path.strip_prefix(signals()).unwrap().display().to_string();
        (name, std::fs::read_to_string(&path).unwrap())
    };
    let mut found: Vec<_> = files.map(read).collect();
    found.sort();
    found
}

fn signals() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/signals")
}

/// Every folder is a family's but the one of ecosystems that no adapter speaks: a new family's
/// fixtures count as soon as they are there.
#[test]
fn every_case_of_a_spoken_ecosystem_with_no_event_too_many() {
    let mut failed = Vec::new();
    let mut passed = BTreeMap::new();
    for folder in std::fs::read_dir(signals())
        .unwrap()
        .map(|f| f.unwrap().path())
    {
        if folder.ends_with(UNSPOKEN) {
            continue;
        }
        for (name, corpus) in corpora(&folder) {
            for line in corpus.lines() {
                let (id, faults) = faults(line);
                if faults.is_empty() {
                    *passed.entry(name.clone()).or_insert(0) += 1;
                } else {
                    failed.push(format!("{name} {id}: {faults:?}"));
                }
            }
        }
    }
    println!("{passed:#?}");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    for (corpus, cases) in [
        ("zigbee2mqtt/corpus.jsonl", 34),
        ("esphome/corpus.jsonl", 5),
        ("robustness/corpus.jsonl", 9),
    ] {
        assert_eq!(passed.get(corpus), Some(&cases), "{corpus}");
    }
}

/// R11: an enrolled device whose language nobody speaks is told, whatever it says, and nothing else
/// is made of it.
#[test]
fn an_ecosystem_without_adapter_is_told_and_never_guessed() {
    for (_, corpus) in corpora(&signals().join(UNSPOKEN)) {
        for line in corpus.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let printed: Value = serde_json::from_str(&decode(line).unwrap()).unwrap();
            let events = printed["events"].as_array().unwrap();
            let kinds: Vec<&str> = events.iter().filter_map(|e| e["kind"].as_str()).collect();
            let told = kinds.iter().all(|kind| *kind == "ingest.unmapped");
            assert!(told, "{}: {kinds:?}", case["id"]);
            let is_enrolled = case["context"]["role"].is_string();
            assert!(!is_enrolled || !kinds.is_empty(), "{}", case["id"]);
        }
    }
}

#[test]
fn a_line_may_lack_nearly_everything() {
    for line in [
        "{}",
        "{\"context\":null,\"steps\":null}",
        "{\"steps\":[{}]}",
        "{\"context\":{\"role\":null,\"devices\":null,\"now\":null},\"steps\":[{\"topic\":null,\"payload\":null,\"retain\":null,\"gateway\":null}]}",
    ] {
        let printed: Value = serde_json::from_str(&decode(line).unwrap()).unwrap();
        assert_eq!(printed["events"], serde_json::json!([]));
    }
    let step = "{\"id\":7,\"ecosystem\":null,\"steps\":[{\"topic\":\"zigbee2mqtt/x\",\"payload\":\"{}\"}]}";
    assert!(decode(step).unwrap().contains("ingest.unmapped"));
    assert!(decode("[]").is_err() && decode("").is_err());
    assert!(matches!(
        decode_bytes(b"{\"id\":\"\xff\"}"),
        Err(DecodeFault::NotUtf8(_))
    ));
}

/// Names that look alike once they are made ours stay two devices.
#[test]
fn children_with_foreign_names_stay_apart() {
    let line = r#"{"ecosystem":"zigbee2mqtt","context":{"devices":{"午睡":"smoke","厨房":"smoke"}},"steps":[
        {"topic":"zigbee2mqtt/午睡","payload":{"smoke":true}},
        {"topic":"zigbee2mqtt/厨房","payload":{"smoke":true}}]}"#;
    let told = decode(line).unwrap();
    assert_eq!(told.matches("fire.smoke.alarm").count(), 2, "{told}");
}
