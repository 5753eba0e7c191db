//! Every shape an entry of version 1 may have, as it was written: `tests/fixtures/journal/v1` is
//! append-only, and every later program reads it.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use serde_json::Value;

use super::journal::{BATCH, Said, read_body};

const WRITTEN: &str = include_str!("../../../tests/fixtures/journal/v1/entries.jsonl");

#[derive(serde::Deserialize)]
struct Line {
    kind: String,
    refs: String,
    body: String,
}

/// Whether `now` still says all that was written; it may say more, for fields are added.
fn still_says(now: &Value, written: &Value) -> bool {
    match (now, written) {
        (Value::Object(now), Value::Object(written)) => written
            .iter()
            .all(|(key, value)| now.get(key).is_some_and(|now| still_says(now, value))),
        (Value::Array(now), Value::Array(written)) => {
            now.len() == written.len() && now.iter().zip(written).all(|(n, w)| still_says(n, w))
        }
        (now, written) => now == written,
    }
}

#[test]
fn every_entry_ever_written_still_says_what_it_said() {
    let mut kinds = BTreeSet::new();
    for line in WRITTEN.lines() {
        let line: Line = serde_json::from_str(line).unwrap();
        let said = read_body(&line.kind, 1, &line.refs, line.body.as_bytes()).unwrap();
        assert_eq!(said.kind(), line.kind);
        assert_eq!(serde_json::to_string(&said.refs()).unwrap(), line.refs);
        let again = match said {
            Said::Case(_, entry) => serde_json::to_value(&entry).unwrap(),
            Said::Batch(batch) => serde_json::to_value(&batch).unwrap(),
            Said::Command(turn) => serde_json::to_value(&turn).unwrap(),
        };
        let written = serde_json::from_str(&line.body).unwrap();
        assert!(still_says(&again, &written), "{again} {written}");
        kinds.insert(line.kind);
    }
    let expected = [
        "alarm.raised",
        "alarm.repeated",
        "alarm.restored",
        "alarm.told",
        BATCH,
        "box.asked",
        "box.unanswered",
        "case.acknowledged",
        "case.closed",
        "case.confirmed",
        "case.escalated",
        "case.noted",
        "case.opened",
        "case.review_due",
        "close.proposed",
        "command.answered",
        "command.expired",
        "command.given",
        "dispatch.accepted",
        "dispatch.cancelled",
        "dispatch.exhausted",
        "dispatch.failed",
        "dispatch.no_receiver",
        "dispatch.queued",
        "dispatch.received",
        "dispatch.refused",
        "dispatch.sending",
        "dispatch.telephone_exhausted",
        "dispatch.telephone_refused",
        "session.over",
        "test.over",
    ];
    assert_eq!(
        kinds.iter().map(String::as_str).collect::<Vec<_>>(),
        expected
    );
}
