//! What is printed: the last line for machines, the findings for people.

use crate::count::{Latencies, Tally};
use serde::Serialize;
use std::io::Write;

/// Most findings of one sort printed in full; the rest is a count.
const SHOWN: usize = 20;

/// The last line, as published.
#[derive(Debug, Serialize)]
pub struct Report {
    published: usize,
    puback: usize,
    unacknowledged: usize,
    journalled: usize,
    missing: usize,
    doubled: usize,
    incidents: usize,
    dispatches_received: usize,
    press_to_receiver_ms: Figures,
    checkin_to_parent_ms: Figures,
}

/// Times in milliseconds; null where there is none.
#[derive(Debug, Serialize)]
struct Figures {
    n: usize,
    p50: Option<f64>,
    max: Option<f64>,
    excluded: usize,
}

impl From<&Latencies> for Figures {
    fn from(latencies: &Latencies) -> Figures {
        let mut ms = latencies.ms.clone();
        ms.sort_by(f64::total_cmp);
        let tenths = |ms: &f64| (ms * 10.0).round() / 10.0;
        Figures {
            n: ms.len(),
            p50: ms.get(ms.len().saturating_sub(1) / 2).map(tenths),
            max: ms.last().map(tenths),
            excluded: latencies.excluded,
        }
    }
}

impl From<&Tally> for Report {
    fn from(tally: &Tally) -> Report {
        Report {
            published: tally.published,
            puback: tally.puback,
            unacknowledged: tally.unacknowledged,
            journalled: tally.journalled,
            missing: tally.missing.len(),
            doubled: tally.doubled.len(),
            incidents: tally.incidents,
            dispatches_received: tally.dispatches_received,
            press_to_receiver_ms: (&tally.press_to_receiver).into(),
            checkin_to_parent_ms: (&tally.checkin_to_parent).into(),
        }
    }
}

/// What is wrong, in lines for people; nothing when all is well.
pub fn findings(tally: &Tally) -> Vec<String> {
    let sorts = [
        ("MISSING", &tally.missing),
        ("DOUBLED", &tally.doubled),
        ("CONTRADICTION", &tally.contradictions),
    ];
    let mut lines = Vec::new();
    for (sort, found) in sorts {
        lines.extend(
            found
                .iter()
                .take(SHOWN)
                .map(|finding| format!("{sort}: {finding}")),
        );
        if found.len() > SHOWN {
            lines.push(format!("{sort}: and {} more", found.len() - SHOWN));
        }
    }
    lines
}

/// Prints the findings, then the last line.
pub fn print(tally: &Tally) {
    findings(tally).iter().for_each(|line| say(line));
    print_json(&Report::from(tally));
}

/// Prints one JSON line.
pub fn print_json(line: &impl Serialize) {
    match serde_json::to_string(line) {
        Ok(text) => say(&text),
        Err(error) => tracing::error!(%error, "line not printed"),
    }
}

/// Prints one line. A reader that has gone away does not end the play.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _reader_gone = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_as_published() {
        let latencies = Latencies {
            ms: vec![12.04, 8.0, 30.26, 9.0],
            excluded: 1,
        };
        let tally = Tally {
            published: 9,
            puback: 8,
            press_to_receiver: latencies,
            ..Tally::default()
        };
        assert_eq!(
            serde_json::to_string(&Report::from(&tally)).unwrap(),
            "{\"published\":9,\"puback\":8,\"unacknowledged\":0,\"journalled\":0,\"missing\":0,\"doubled\":0,\
             \"incidents\":0,\"dispatches_received\":0,\
             \"press_to_receiver_ms\":{\"n\":4,\"p50\":9.0,\"max\":30.3,\"excluded\":1},\
             \"checkin_to_parent_ms\":{\"n\":0,\"p50\":null,\"max\":null,\"excluded\":0}}"
        );
    }

    #[test]
    fn findings_are_listed_and_cut_off() {
        let tally = Tally {
            missing: (0..30).map(|n| format!("m{n}")).collect(),
            ..Tally::default()
        };
        let lines = findings(&tally);
        assert_eq!(
            (lines.len(), lines[0].as_str(), lines[20].as_str()),
            (21, "MISSING: m0", "MISSING: and 10 more")
        );
    }
}
