//! Who is inside, for carers and directors.

use std::collections::BTreeMap;

use domain::config::Passage;
use domain::id::PointKey;
use domain::kind::Kind;
use domain::presence::Standing;
use serde::Serialize;

use super::{Millis, STALE_AFTER, is_stale};
use crate::page::look::{Line, Look};
use crate::site::View;

/// Who is inside.
#[derive(Debug, Serialize)]
pub struct Inside {
    now: Millis,
    as_of: Option<Millis>,
    /// Codes of why "present" reads "as of".
    stale: Vec<&'static str>,
    total: usize,
    classes: Vec<Class>,
    children: Vec<Child>,
}

#[derive(Debug, Serialize)]
struct Class {
    name: String,
    inside: usize,
    enrolled: usize,
}

#[derive(Debug, Serialize)]
struct Child {
    /// None: no longer in the list of children.
    short_name: Option<String>,
    class_group: Option<String>,
    since: Millis,
    /// At the exit by its own card: no adult is recorded yet.
    leaving: bool,
}

/// Who is inside, for carers and directors.
#[must_use]
pub fn inside(look: &Look, line: &Line) -> Inside {
    let Some(view) = look.view.as_deref() else {
        return Inside {
            now: look.now.wall.into(),
            as_of: None,
            stale: vec!["unknown"],
            total: 0,
            classes: Vec::new(),
            children: Vec::new(),
        };
    };
    let mut classes: BTreeMap<&str, Class> = BTreeMap::new();
    for child in &view.config.roster {
        let class = classes.entry(&child.class_group).or_insert_with(|| Class {
            name: child.class_group.clone(),
            inside: 0,
            enrolled: 0,
        });
        class.enrolled += 1;
    }
    let mut children = Vec::with_capacity(view.inside.len());
    for (id, presence) in &view.inside {
        let known = view.config.roster.iter().find(|child| child.id == *id);
        if let Some(class) = known.and_then(|child| classes.get_mut(child.class_group.as_str())) {
            class.inside += 1;
        }
        children.push(Child {
            short_name: known.map(|child| child.short_name.clone()),
            class_group: known.map(|child| child.class_group.clone()),
            since: presence.since.into(),
            leaving: presence.standing == Standing::LeavingUnconfirmed,
        });
    }
    children.sort_by(|a, b| (&a.class_group, &a.short_name).cmp(&(&b.class_group, &b.short_name)));
    Inside {
        now: look.now.wall.into(),
        as_of: Some(view.at.into()),
        stale: stale(look, line, view),
        total: children.len(),
        classes: classes.into_values().collect(),
        children,
    }
}

/// Why what is shown as present may have changed unseen.
fn stale(look: &Look, line: &Line, view: &View) -> Vec<&'static str> {
    let cut = !line.up && look.now.monotonic.saturating_sub(line.monotonic) > STALE_AFTER;
    let is_reader = |point: &PointKey| {
        let enrolments = view.config.enrolments.iter();
        let mut of_device = enrolments.filter(|e| e.device == point.device);
        of_device.any(|e| e.passage != Passage::None)
    };
    let reader_away = view.troubles.iter().any(|trouble| {
        matches!(trouble.kind, Kind::DeviceOffline | Kind::BridgeOffline)
            && is_reader(&trouble.point)
    });
    [
        (is_stale(look), "not_answering"),
        (cut, "link_down"),
        (reader_away, "reader_silent"),
    ]
    .into_iter()
    .filter_map(|(is, code)| is.then_some(code))
    .collect()
}
