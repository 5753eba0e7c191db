//! Every shape an entry of version 1 may have, as it was written: `tests/fixtures/journal/v1` is
//! append-only, and every later program reads it.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use super::journal::{BATCH, Said, read_body};

const WRITTEN: &str = include_str!("../../../tests/fixtures/journal/v1/entries.jsonl");

#[derive(serde::Deserialize)]
struct Line {
    kind: String,
    refs: String,
    body: String,
}

#[test]
fn every_entry_ever_written_reads_back_to_the_same_bytes() {
    let mut kinds = BTreeSet::new();
    for line in WRITTEN.lines() {
        let line: Line = serde_json::from_str(line).unwrap();
        let said = read_body(&line.kind, 1, &line.refs, line.body.as_bytes()).unwrap();
        assert_eq!(said.kind(), line.kind);
        assert_eq!(serde_json::to_string(&said.refs()).unwrap(), line.refs);
        let again = match said {
            Said::Case(_, entry) => serde_json::to_string(&entry).unwrap(),
            Said::Batch(batch) => serde_json::to_string(&batch).unwrap(),
        };
        assert_eq!(again, line.body);
        kinds.insert(line.kind);
    }
    let expected = [
        "alarm.raised",
        "alarm.repeated",
        "alarm.restored",
        "alarm.told",
        BATCH,
        "case.acknowledged",
        "case.closed",
        "case.confirmed",
        "case.escalated",
        "case.noted",
        "case.opened",
        "case.review_due",
        "close.proposed",
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
    ];
    assert_eq!(
        kinds.iter().map(String::as_str).collect::<Vec<_>>(),
        expected
    );
}
