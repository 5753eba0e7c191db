//! What the things seen mean for the centre. Pure.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use domain::config::Config;
use domain::kind::Lane;
use domain::time::Timestamp;
use serde_json::Value;

use super::Finding;
use crate::clock::Trust;
use crate::seal::BoxKey;
use crate::store::Survey;
use crate::store::outbox::Limits;

/// The shortest span of rows from which a rate is told.
const RATE_FROM: Duration = Duration::from_secs(10 * 60);
/// Fewer days of room than this are wrong: a long weekend without the line must fit.
const DAYS_LEFT_MIN: u64 = 4;
/// No box of ours ran before 2025-01-01.
const FIRST_DAY: Timestamp = Timestamp::from_micros(1_735_689_600_000_000);
const HOUR: u64 = 60 * 60;

pub(super) fn key_mode(mode: Option<u32>) -> Finding {
    match mode {
        Some(mode) if mode & 0o077 == 0 => {
            Finding::good("identity key", "readable by its user only")
        }
        Some(mode) => Finding::wrong(
            "identity key",
            format!("box.key has mode {mode:03o}: others can read it"),
            "chmod 600 identity/box.key, and provision the box anew if others had the chance",
        ),
        None => Finding::wrong(
            "identity key",
            "box.key cannot be looked at",
            "run doctor as the box's user",
        ),
    }
}

pub(super) fn sealing_key(mode: Option<u32>) -> Finding {
    match mode {
        Some(mode) if mode & 0o077 != 0 => Finding::wrong(
            "sealing key",
            format!("box-seal.key has mode {mode:03o}: others can read it"),
            "chmod 600 box-seal.key",
        ),
        Some(_) | None => Finding::note(
            "sealing key",
            "it lies in a file beside the store: a stolen disk can be read",
            "encrypt the disk where theft is likely",
        ),
    }
}

pub(super) fn clock(trust: Trust, now: Timestamp) -> Finding {
    if now < FIRST_DAY {
        return Finding::wrong(
            "clock",
            "the wall clock stands before 2025",
            "set the clock and let a time source keep it",
        );
    }
    match trust {
        Trust::System => Finding::good("clock", "trusted, by the word of clock.trust = \"system\""),
        Trust::Unset => Finding::note(
            "clock",
            "nobody vouches for it: ages across a restart of the machine are lower bounds",
            "give the machine a time source and set clock.trust = \"system\"",
        ),
    }
}

pub(super) fn listener(address: &SocketAddr) -> Option<Finding> {
    (!address.ip().is_loopback()).then(|| {
        Finding::note(
            "listener",
            format!("{address} speaks MQTT in clear: log-ins cross the network readable"),
            "keep the devices on a network of their own",
        )
    })
}

pub(super) fn store(seen: &Survey, limits: Limits) -> Vec<Finding> {
    let mut report = Vec::new();
    let (found, known) = seen.steps;
    if found > known {
        report.push(Finding::wrong(
            "store",
            format!("written by a newer program (step {found}, this one knows {known})"),
            "install the newer program again",
        ));
    } else {
        report.push(Finding::good("store", "readable and sound"));
    }
    for (lane, held) in Lane::ALL.into_iter().zip(seen.lanes) {
        let (rows, mib) = (held.rows, held.bytes >> 20);
        report.push(Finding::good(
            "lane",
            format!("{lane}: {rows} rows wait, {mib} MiB"),
        ));
    }
    report.push(room(seen, limits));
    report
}

fn room(seen: &Survey, limits: Limits) -> Finding {
    let rows: u64 = seen.lanes.iter().map(|held| held.rows).sum();
    let bytes: u64 = seen.lanes.iter().map(|held| held.bytes).sum();
    let used = format!(
        "{rows} of {} rows, {} of {} MiB, {} MiB of it kept for life safety",
        limits.rows,
        bytes >> 20,
        limits.bytes >> 20,
        limits.reserve_bytes >> 20,
    );
    let full = "mend the line to the cloud: beyond the room doors and levels are counted, not kept";
    if bytes >= limits.bytes.saturating_sub(limits.reserve_bytes) || rows >= limits.rows {
        return Finding::wrong("room", format!("{used}; full"), full);
    }
    match days_left(seen, limits, rows, bytes) {
        Some(days) if days < DAYS_LEFT_MIN => Finding::wrong(
            "room",
            format!("{used}; {days} days left at today's rate"),
            full,
        ),
        Some(days) => Finding::good("room", format!("{used}; {days} days left at today's rate")),
        None => Finding::good(
            "room",
            format!("{used}; days left unknown: too little waits to tell a rate"),
        ),
    }
}

/// Days until the room for the lanes that are shed is used up, at the rate of the rows that wait.
pub(super) fn days_left(seen: &Survey, limits: Limits, rows: u64, bytes: u64) -> Option<u64> {
    let lately = seen.lately.filter(|lately| lately.span >= RATE_FROM)?;
    let day = u128::from(24 * HOUR);
    let seconds = u128::from(lately.span.as_secs());
    let left = |limit: u64, used: u64, lately: u64| {
        let left = u128::from(limit.saturating_sub(used)) * seconds;
        let a_day = u128::from(lately) * day;
        left.checked_div(a_day)
    };
    let by_bytes = limits.bytes.saturating_sub(limits.reserve_bytes);
    let days = [
        left(limits.rows, rows, lately.held.rows),
        left(by_bytes, bytes, lately.held.bytes),
    ];
    let days = days.into_iter().flatten().min()?;
    Some(u64::try_from(days).unwrap_or(u64::MAX))
}

pub(super) fn config(seen: &Survey, key: Option<&BoxKey>, now: Timestamp) -> Finding {
    let Some(newest) = seen.configs.first() else {
        return Finding::wrong(
            "config",
            "none from the cloud yet: no device can log in",
            "let the box reach the cloud once",
        );
    };
    let version = newest.version;
    let purpose = crate::seal::config_purpose(version);
    let opened = key.and_then(|key| key.open(&purpose, &newest.sealed).ok());
    if opened.is_none_or(|document| Config::read(&document).is_err()) {
        return Finding::wrong(
            "config",
            format!("version {version} does not open or read"),
            "restore box-seal.key, or let the box reach the cloud: it asks for the Config anew",
        );
    }
    let age = seen.configured_at.map(|at| now.since(at).as_secs() / HOUR);
    let age = match age {
        Some(hours) => format!("taken {hours} h ago"),
        None => "its age is not kept once the cloud has the record of it".to_owned(),
    };
    Finding::good("config", format!("version {version} in force, {age}"))
}

pub(super) fn set_aside(copies: &[(PathBuf, u64)]) -> Option<Finding> {
    let bytes: u64 = copies.iter().map(|(_, bytes)| bytes).sum();
    (!copies.is_empty()).then(|| {
        let says = format!(
            "{} files of damaged stores are kept, {} MiB",
            copies.len(),
            bytes >> 20
        );
        let fix = "look at the disk (SMART, the card's age); move the .damaged-* files away when looked at";
        Finding::wrong("damage", says, fix)
    })
}

pub(super) fn silent(says: &str) -> Finding {
    Finding::wrong(
        "running box",
        says,
        "start it: antuo-gateway run --config FILE",
    )
}

/// The running box's own words.
pub(super) fn said(said: &Value) -> Vec<Finding> {
    let link = said["cloud"]
        .as_str()
        .unwrap_or("says nothing of the cloud");
    let devices = said["devices_connected"].as_u64().unwrap_or_default();
    let mut report = vec![Finding::good(
        "running box",
        format!("answers; {devices} devices on line"),
    )];
    report.push(if link == "up" {
        Finding::good("cloud", "the line is up")
    } else {
        let fix = "see that the box reaches cloud.address; what waits is kept meanwhile";
        Finding::wrong("cloud", link, fix)
    });
    let faults = said["faults"].as_array().into_iter().flatten();
    report.extend(faults.filter_map(Value::as_str).map(|fault| {
        let fix = "see the box's log";
        Finding::wrong("running box", fault, fix)
    }));
    report
}
