//! The corpus, run through the whole site.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use super::*;

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

fn check(corpus: &str, cases: usize, without_adapter: &[&str]) {
    let mut failed = Vec::new();
    let lines: Vec<&str> = corpus.lines().collect();
    assert_eq!(lines.len(), cases);
    for line in lines {
        let (id, faults) = faults(line);
        if faults.is_empty() == without_adapter.contains(&id.as_str()) {
            failed.push(format!("{id}: {faults:?}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_zigbee2mqtt_case_with_no_event_too_many() {
    let corpus = include_str!("../../../tests/fixtures/signals/zigbee2mqtt.jsonl");
    check(corpus, 34, &[]);
}

/// Two of the nine speak ESPHome and Home Assistant statestream, which have no adapter yet; they
/// must fail, so that whoever writes one strikes them off.
#[test]
fn every_robustness_case_whose_ecosystem_is_spoken() {
    let corpus = include_str!("../../../tests/fixtures/signals/robustness.jsonl");
    check(corpus, 9, &["rob-case-001", "rob-unavail-001"]);
}

/// Ours, in the corpus's form: traps of the device library that its visible part does not hold.
#[test]
fn every_trap_of_our_own() {
    let corpus = include_str!("../../../tests/fixtures/signals/zigbee2mqtt_own.jsonl");
    check(corpus, corpus.lines().count(), &[]);
}

#[test]
fn a_line_may_lack_nearly_everything() {
    for line in [
        "{}",
        "{\"context\":null,\"steps\":null}",
        "{\"steps\":[{}]}",
    ] {
        let printed: Value = serde_json::from_str(&decode(line).unwrap()).unwrap();
        assert_eq!(printed["events"], serde_json::json!([]));
    }
    let step = "{\"id\":7,\"ecosystem\":null,\"steps\":[{\"topic\":\"zigbee2mqtt/x\",\"payload\":\"{}\"}]}";
    assert!(decode(step).unwrap().contains("ingest.unmapped"));
    assert!(decode("[]").is_err() && decode("").is_err());
}
