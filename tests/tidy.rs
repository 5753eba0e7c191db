//! Rules that live in a check, not in a document: who may import whom, how long a file may be, what
//! decision code may name. Reads the sources as text; knows nothing of what they do.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// A file longer than this is split; tests may be a little longer.
const LINES_MAX: usize = 500;
/// The same for a file of tests only.
const TEST_LINES_MAX: usize = 650;

/// The floors of a crate: a module imports only from lower floors, or from its own folder.
struct House {
    name: &'static str,
    floors: &'static [(u8, &'static [&'static str])],
}

const HOUSES: &[House] = &[
    House {
        name: "gateway",
        floors: &[
            (9, &["main", "app"]),
            (8, &["page"]),
            (7, &["status", "doctor"]),
            (6, &["intake", "uplink", "config", "forwarding"]),
            (5, &["control", "bridge"]),
            (4, &["store", "broker", "decode"]),
            (3, &["clock", "signal_log"]),
            (2, &["site", "lan"]),
            (1, &["adapter", "hub", "identity", "gauges", "seal"]),
        ],
    },
    House {
        name: "cloud",
        floors: &[
            (9, &["main", "app"]),
            (8, &["http", "setup"]),
            (
                7,
                &[
                    "ingest",
                    "dispatcher",
                    "ticker",
                    "chainer",
                    "live",
                    "health",
                    "verify",
                ],
            ),
            (6, &["engine"]),
            (
                5,
                &["incident", "presence", "board", "family", "boxes", "server"],
            ),
            (4, &["commands", "dispatch", "centre", "tls"]),
            (3, &["absence", "config"]),
            (2, &["access", "column"]),
            (
                1,
                &["db", "keys", "metrics", "process", "quota", "stop", "wake"],
            ),
        ],
    },
    House {
        name: "domain",
        floors: &[
            (8, &["wire"]),
            (7, &["presence", "alarm"]),
            (6, &["event"]),
            (5, &["command"]),
            (4, &["config"]),
            (3, &["passage"]),
            (2, &["id"]),
            (1, &["backoff", "digest", "kind", "supervision", "time"]),
        ],
    },
];

/// Code that decides: given `now`, no I/O. Paths of files or folders.
const DECISION_CODE: &[&str] = &[
    "domain/src",
    "gateway/src/adapter",
    "gateway/src/doctor/judge",
    "gateway/src/bridge/settings",
    "gateway/src/intake/queue",
    "gateway/src/intake/unacknowledged",
    "gateway/src/hub",
    "gateway/src/site",
    "gateway/src/store/afloat",
    "gateway/src/store/outbox",
    "gateway/src/uplink/machine",
    "cloud/src/incident/decide",
    "cloud/src/incident/entry",
    "cloud/src/incident/fact",
    "cloud/src/incident/line",
    "cloud/src/incident/report",
    "cloud/src/absence/mod",
    "cloud/src/commands/rules",
    "cloud/src/dispatch/plan",
    "cloud/src/dispatch/job",
];

/// Names decision code may not speak.
const IO_CRATES: &[&str] = &["tokio", "sqlx", "rumqttc", "axum", "reqwest", "ambient"];

/// What the shared language may depend on.
const DOMAIN_MAY_USE: &[&str] = &[
    "jiff",
    "ring",
    "serde",
    "serde_json",
    "thiserror",
    "uuid",
    "proptest",
];

/// The only files that may make a worker's scope (D1): under the lock, or for the centre that a box's
/// certificate names.
const WORKER_SCOPE: &[&str] = &[
    "cloud/src/access.rs",
    "cloud/src/engine",
    "cloud/src/ingest",
    "cloud/src/chainer",
    "cloud/src/http/gateway",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(dir: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(dir)];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {dir}");
    found.sort();
    found
}

fn all_sources() -> Vec<(String, String)> {
    [
        "domain",
        "ambient",
        "gateway",
        "cloud",
        "device-sim",
        "tests",
    ]
    .iter()
    .flat_map(|dir| sources(dir))
    .collect()
}

/// Files that exist in a test build only, besides those named after tests.
const TEST_SCENERY: &[&str] = &["stage.rs", "trial.rs", "testing.rs"];

fn is_test_only(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    file.contains("/tests/") || name == "tests.rs" || TEST_SCENERY.contains(&name)
}

fn agree(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

/// The module a path like `cloud/src/http/error.rs` belongs to: `http`.
fn module_of<'a>(house: &str, file: &'a str) -> Option<&'a str> {
    let inside = file.strip_prefix(house)?.strip_prefix("/src/")?;
    let first = inside.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first))
}

/// The modules a source names after `crate::`, unit tests left out.
fn imports(text: &str) -> Vec<&str> {
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c == '$' || c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let word = |text: &str| {
            text.chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .count()
        };
        if let Some(group) = rest.strip_prefix('{') {
            let group = group.split('}').next().unwrap_or(group);
            named.extend(
                group
                    .split(',')
                    .map(str::trim)
                    .map(|w| &w[..word(w)])
                    .filter(|w| !w.is_empty()),
            );
        } else {
            named.push(&rest[..word(rest)]);
        }
    }
    named
}

#[test]
fn imports_point_down_the_floors_only() {
    let mut broken = Vec::new();
    for house in HOUSES {
        let floor_of = |module: &str| {
            house
                .floors
                .iter()
                .find(|(_, modules)| modules.contains(&module))
                .map(|(floor, _)| *floor)
        };
        for (file, text) in sources(&format!("{}/src", house.name)) {
            let module = module_of(house.name, &file).filter(|m| *m != "lib");
            let Some(module) = module.filter(|_| !is_test_only(&file)) else {
                continue;
            };
            let Some(floor) = floor_of(module) else {
                broken.push(format!(
                    "{file}: module {module} stands on no floor; add it to the table"
                ));
                continue;
            };
            for named in imports(&text).into_iter().filter(|n| *n != module) {
                match floor_of(named) {
                    Some(below) if below < floor => {}
                    Some(_) => broken.push(format!(
                        "{file} (floor {floor}) reaches up or across to {named}"
                    )),
                    None => {}
                }
            }
        }
    }
    agree(&broken);
}

#[test]
fn decision_code_does_no_io() {
    let mut broken = Vec::new();
    for (file, text) in all_sources() {
        if !DECISION_CODE.iter().any(|path| file.starts_with(path)) {
            continue;
        }
        for name in IO_CRATES {
            if text.contains(&format!("{name}::")) {
                broken.push(format!("{file} names {name}"));
            }
        }
    }
    agree(&broken);
    for path in DECISION_CODE {
        let there = root().join(path).exists() || root().join(format!("{path}.rs")).exists();
        assert!(there, "{path} is in the table but not in the tree");
    }
}

#[test]
fn files_are_short_and_say_what_they_own() {
    let mut broken = Vec::new();
    for (file, text) in all_sources() {
        let lines = text.lines().count();
        let most = if is_test_only(&file) {
            TEST_LINES_MAX
        } else {
            LINES_MAX
        };
        if lines > most {
            broken.push(format!("{file}: {lines} lines, at most {most}"));
        }
        if !text.starts_with("//!") && !is_test_only(&file) {
            broken.push(format!("{file}: begins without a module head (`//!`)"));
        }
    }
    agree(&broken);
}

#[test]
fn names_say_what_a_thing_is() {
    let mut broken = Vec::new();
    for (file, text) in all_sources() {
        for line in text.lines() {
            let mut words = line.split_whitespace().skip_while(|w| w.starts_with("pub"));
            let (Some(keyword), Some(name)) = (words.next(), words.next()) else {
                continue;
            };
            let named = matches!(keyword, "struct" | "enum" | "trait" | "mod");
            let empty = ["Manager", "Helper", "Util", "helper", "util", "manager"];
            if named && empty.iter().any(|word| name.contains(word)) {
                broken.push(format!("{file}: {keyword} {name}"));
            }
        }
    }
    agree(&broken);
}

#[test]
fn nothing_unfinished_is_left_lying_about() {
    let signs = [
        ["to", "do!("].concat(),
        ["unimple", "mented!("].concat(),
        ["#[ign", "ore"].concat(),
        ["FIX", "ME"].concat(),
        ["TO", "DO"].concat(),
        ["../sha", "red"].concat(),
        ["thread::", "sleep"].concat(),
    ];
    let mut broken = Vec::new();
    for (file, text) in all_sources() {
        for sign in &signs {
            if text.contains(sign.as_str()) {
                broken.push(format!("{file}: {sign}"));
            }
        }
    }
    agree(&broken);
}

#[test]
fn only_the_engine_and_ingest_make_a_workers_scope() {
    let mut broken = Vec::new();
    for (file, text) in sources("cloud/src") {
        let code = text.split("#[cfg(test)]").next().unwrap_or(&text);
        let allowed = is_test_only(&file) || WORKER_SCOPE.iter().any(|path| file.starts_with(path));
        if !allowed && code.contains("Scope::worker(") {
            broken.push(format!("{file} makes a worker's scope"));
        }
    }
    agree(&broken);
}

#[test]
fn the_shared_language_and_the_simulator_stay_clean() {
    let names = |file: &str| -> Vec<String> {
        fs::read_to_string(root().join(file))
            .unwrap()
            .lines()
            .skip_while(|line| !line.contains("dependencies]"))
            .filter_map(|line| line.split(['.', ' ', '=']).next())
            .filter(|word| !word.is_empty() && !word.starts_with('['))
            .map(str::to_owned)
            .collect()
    };
    for name in names("domain/Cargo.toml") {
        assert!(
            DOMAIN_MAY_USE.contains(&name.as_str()),
            "domain uses {name}"
        );
    }
    for name in names("device-sim/Cargo.toml") {
        let ours = matches!(name.as_str(), "domain" | "ambient") || name.starts_with("antuo");
        assert!(!ours, "device-sim uses {name}: it must not share our bugs");
    }
}
