//! A town with more devices than the simulator gives one, for the figures that need them.

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Log-ins for doors; a log-in has at most 64 clients.
pub const DOOR_LOGINS: usize = 10;
/// Buttons behind the one log-in of buttons: enough that presses of a run stand alone, not counted (D3).
pub const BUTTONS: usize = 400;
/// The secret of every log-in here.
pub const SECRET: &str = "00112233445566778899aabbccddeeff";
/// The log-in of the buttons.
pub const BUTTON_LOGIN: &str = "bench-buttons";

/// Where a door of a log-in speaks.
pub fn door_topic(login: usize, door: usize) -> String {
    format!("antuo/v1/bench-d{login}/p{door}")
}

/// A log-in of doors.
pub fn door_login(login: usize) -> String {
    format!("bench-doors{login}")
}

/// Where a button speaks.
pub fn button_topic(button: usize) -> String {
    format!("antuo/v1/bench-b/p{button}")
}

/// Adds so many doors, and the buttons if wanted, to the first centre. Every other log-in of doors has a button
/// too, so that it is one of life safety: only those may fill the last quarter of the connections.
pub fn enlarge(town: &mut Value, doors: usize, buttons: bool) -> Result<()> {
    let centre = &mut town["centres"][0];
    let pattern = centre["enrolments"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|e| e["role"] == "door" && e["ecosystem"] == "antuo")
        .cloned()
        .context("a door of the town")?;
    let mut enrolments = Vec::new();
    let mut enrol = |topic: String, role: &str| -> Result<()> {
        let (head, point) = topic.rsplit_once('/').context("a topic")?;
        let device = head.rsplit('/').next().context("a device")?;
        let mut enrolment = pattern.clone();
        enrolment["device"] = json!(device);
        enrolment["point"] = json!(point);
        enrolment["address"] = json!(topic);
        enrolment["role"] = json!(role);
        enrolment["number"] = json!(1 + enrolments.len() % 900);
        enrolment["momentary"] = json!(role == "panic_button");
        enrolment["latching"] = json!(role == "panic_button");
        enrolments.push(enrolment);
        Ok(())
    };
    for n in 0..doors {
        enrol(door_topic(n % DOOR_LOGINS, n / DOOR_LOGINS), "door")?;
    }
    let mut logins = vec![(BUTTON_LOGIN.to_owned(), "antuo/v1/bench-b/#".to_owned())];
    for login in 0..DOOR_LOGINS {
        let publish = format!("antuo/v1/bench-d{login}/#");
        logins.push((door_login(login), publish));
        if buttons && login % 2 == 0 {
            enrol(format!("antuo/v1/bench-d{login}/button"), "panic_button")?;
        }
    }
    if buttons {
        for n in 0..BUTTONS {
            enrol(button_topic(n), "panic_button")?;
        }
    }
    let gateway = pattern["gateway"].clone();
    let logins = logins.into_iter().map(|(username, publish)| {
        json!({"gateway": gateway, "username": username, "secret": SECRET, "publish": [publish]})
    });
    let list = |value: &mut Value, more: Vec<Value>| -> Result<()> {
        value.as_array_mut().context("a list")?.extend(more);
        Ok(())
    };
    let logins = logins.collect();
    list(&mut centre["enrolments"], enrolments)?;
    list(&mut centre["mqtt_credentials"], logins)
}
