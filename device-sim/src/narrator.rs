//! Tells in plain lines what the operator's stream shows: what is new since the last view of a case. Pure.

use crate::view::Incident;
use std::collections::BTreeMap;

/// Remembers what it told.
#[derive(Debug, Default)]
pub struct Narrator {
    /// State of each case, and of each of its dispatches.
    told: BTreeMap<String, (String, BTreeMap<String, String>)>,
}

impl Narrator {
    /// Lines about what is new in this view.
    pub fn lines(&mut self, case: &Incident) -> Vec<String> {
        let mut lines = Vec::new();
        let (name, hazard, short) = (&case.centre.name, &case.hazard, short(&case.id));
        let known = self.told.get(&case.id).cloned().unwrap_or_default();
        if known.0 != case.state {
            lines.push(match (case.state.as_str(), &case.closed) {
                ("open", _) => {
                    let linked = case
                        .linked_to
                        .as_ref()
                        .map_or("", |_| ", linked to an earlier one");
                    format!(
                        "{name} · case {short} opened: {hazard}, priority {}{linked}",
                        case.priority
                    )
                }
                ("acknowledged", _) => {
                    format!("{name} · case {short} ({hazard}) taken by an operator")
                }
                (_, Some(closed)) => {
                    format!("{name} · case {short} ({hazard}) closed: {}", closed.cause)
                }
                (state, None) => format!("{name} · case {short} ({hazard}) is {state}"),
            });
        }
        let mut dispatches = BTreeMap::new();
        for dispatch in &case.dispatches {
            let before = known.1.get(&dispatch.id);
            if before != Some(&dispatch.state) && worth_a_line(&dispatch.state) {
                let (purpose, state, receiver) =
                    (&dispatch.purpose, &dispatch.state, &dispatch.receiver.name);
                lines.push(format!(
                    "{name} · case {short}: {purpose} to {receiver}: {state}"
                ));
            }
            dispatches.insert(dispatch.id.clone(), dispatch.state.clone());
        }
        self.told
            .insert(case.id.clone(), (case.state.clone(), dispatches));
        lines
    }
}

fn worth_a_line(state: &str) -> bool {
    !matches!(state, "queued" | "sending")
}

/// The end of an id: the part that differs between ids of the same minute.
fn short(id: &str) -> &str {
    id.rsplit('-').next().map_or(id, |tail| {
        tail.get(tail.len().saturating_sub(6)..).unwrap_or(tail)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::view::tests::published;
    use serde_json::json;

    #[test]
    fn only_what_is_new_is_told() {
        let mut narrator = Narrator::default();
        let mut view = published();
        let mut lines = |view: &serde_json::Value| {
            narrator.lines(&serde_json::from_value(view.clone()).unwrap())
        };
        assert_eq!(lines(&view), ["阳光 · case 1 opened: panic, priority 1"]);
        assert!(lines(&view).is_empty());
        view["dispatches"][0]["state"] = json!("received");
        assert_eq!(lines(&view), ["阳光 · case 1: order to 警: received"]);
        view["state"] = json!("closed");
        view["closed"] = json!({"at": 1, "cause": "false_alarm"});
        assert_eq!(lines(&view), ["阳光 · case 1 (panic) closed: false_alarm"]);
    }
}
