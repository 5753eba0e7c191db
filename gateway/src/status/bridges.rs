//! The hop before the box in words and figures: how each bridge stands, what its broker cannot promise, and
//! which devices send what nobody acknowledges.
//!
//! Decides nothing and names no topic that was not in the settings.

use std::time::Duration;

use domain::id::DeviceId;
use serde_json::{Value, json};

use super::line;
use crate::adapter::at_least_once;
use crate::bridge::{Line, Standing};
use crate::intake::Unsure;

/// What every bridge has before it, and the cure.
pub const NOT_DURABLE: &str = "the hop before this box is not durable unless that broker keeps its sessions on \
    disk (Mosquitto: `persistence true`). Even then Mosquitto, killed or without power, loses what it \
    acknowledged since its last save, up to 30 minutes unless `autosave_on_changes true` and \
    `autosave_interval 1` are set. A device that connects to this box directly has no such hop";

/// One bridge as the status shows it.
pub fn words(standing: &Standing, now: Duration) -> Value {
    let counters = &standing.counters;
    json!({
        "name": standing.name,
        "broker": standing.address,
        "line": line_in_words(standing, now),
        "messages": counters.messages.get(),
        "not_on_disk_yet": counters.uncommitted.get(),
        "acknowledged": counters.acknowledged.get(),
        "sent_at_qos_0": counters.qos0.get(),
        "refused_topics": standing.refused,
        "note": NOT_DURABLE,
    })
}

fn line_in_words(standing: &Standing, now: Duration) -> String {
    let seconds = |since: Duration| now.saturating_sub(since).as_secs();
    match &standing.line {
        Line::Up { since } => format!("up for {} s", seconds(*since)),
        Line::Down {
            since,
            trouble: None,
        } => format!("connecting for {} s", seconds(*since)),
        Line::Down {
            since,
            trouble: Some(trouble),
        } => format!("down for {} s: {trouble}", seconds(*since)),
    }
}

/// What is wrong with a bridge, with the cure.
pub fn faults(standing: &Standing) -> Vec<String> {
    let name = &standing.name;
    let mut faults = Vec::new();
    if standing.silent == Some(true) {
        faults.push(format!(
            "bridge {name}: no line to {}, so nothing behind that broker is heard",
            standing.address
        ));
    }
    for topic in &standing.refused {
        faults.push(format!(
            "bridge {name}: that broker does not grant {topic}; let the box read it there at QoS 1"
        ));
    }
    if standing.forgot == Some(true) {
        faults.push(format!(
            "bridge {name}: that broker had forgotten the box, so messages may be lost; set `persistence \
             true` there, and no `persistent_client_expiration`"
        ));
    }
    faults
}

/// A device that publishes at QoS 0 as the status shows it.
pub fn unsure(device: &DeviceId, unsure: &Unsure, now: Duration) -> Value {
    json!({
        "device": device,
        "through": *unsure.through,
        "messages": unsure.messages,
        "last_s": now.saturating_sub(unsure.last).as_secs(),
        "life_safety": unsure.is_life_safety,
        "what": not_acknowledged(device, unsure),
    })
}

/// What is wrong with a device that publishes at QoS 0, with the cure.
pub fn not_acknowledged(device: &DeviceId, unsure: &Unsure) -> String {
    let cure = at_least_once(&unsure.ecosystem);
    format!("not acknowledged: {device} publishes at QoS 0; {cure}")
}

/// The metrics of one bridge.
pub fn metrics(out: &mut String, standing: &Standing) {
    let label = format!("{{bridge=\"{}\"}}", standing.name);
    let counters = &standing.counters;
    for (name, value) in [
        ("up", u64::from(standing.is_up())),
        ("messages_total", counters.messages.get()),
        ("messages_qos0_total", counters.qos0.get()),
        ("acknowledged_total", counters.acknowledged.get()),
        ("uncommitted", counters.uncommitted.get()),
        ("connects_total", counters.connects.get()),
        ("forgotten_total", counters.forgotten.get()),
        ("not_stored_total", counters.not_stored.get()),
        ("cut_total", counters.cut.get()),
        ("unusable_total", counters.unusable.get()),
        ("refused_topics", standing.refused.len() as u64),
    ] {
        line(out, &format!("antuo_box_bridge_{name}"), &label, value);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::bridge::{Settings, board};

    fn standing() -> Standing {
        let table = "name = \"house\"\naddress = \"10.0.0.2:1883\"\ntopics = [\"a\"]";
        let settings = Settings::read(toml::from_str(table).unwrap()).unwrap();
        board(&[settings], Duration::from_secs(10)).0.borrow()[0].clone()
    }

    #[test]
    fn a_device_at_qos_0_is_shown_with_its_cure() {
        let mut list = crate::intake::Unacknowledged::default();
        let mut smoke =
            crate::testing::enrolment("nap", "zigbee2mqtt/nap", domain::config::Role::Smoke);
        smoke.ecosystem = "zigbee2mqtt".into();
        list.note(&smoke, &"bridge:house".into(), Duration::from_secs(5));
        let now = Duration::from_secs(9);
        let shown: Vec<_> = list.listed(now).map(|(d, u)| unsure(d, u, now)).collect();
        assert_eq!(shown[0]["last_s"], 4);
        let what = shown[0]["what"].as_str().unwrap();
        assert!(
            what.starts_with("not acknowledged: nap publishes at QoS 0; set `qos: 1`"),
            "{what}"
        );
    }

    #[test]
    fn a_bridge_is_shown_in_words() {
        let mut bridge = standing();
        let at = |seconds| Duration::from_secs(seconds);
        assert_eq!(words(&bridge, at(12))["line"], "connecting for 2 s");
        assert_eq!(faults(&bridge), Vec::<String>::new());
        bridge.line = Line::Down {
            since: at(10),
            trouble: Some("refused".into()),
        };
        bridge.silent = Some(true);
        assert_eq!(words(&bridge, at(20))["line"], "down for 10 s: refused");
        assert!(faults(&bridge)[0].contains("no line to 10.0.0.2:1883"));
        bridge.line = Line::Up { since: at(20) };
        bridge.silent = Some(false);
        bridge.forgot = Some(true);
        bridge.refused = vec!["a".into()];
        bridge.counters.messages.add(3);
        let shown = words(&bridge, at(25));
        assert_eq!(
            (&shown["line"], &shown["messages"]),
            (&"up for 5 s".into(), &3.into())
        );
        assert!(shown["note"].as_str().unwrap().contains("persistence true"));
        let told = faults(&bridge).join("\n");
        assert!(told.contains("does not grant a;") && told.contains("forgotten the box"));
        let mut out = String::new();
        metrics(&mut out, &bridge);
        assert!(
            out.contains("antuo_box_bridge_up{bridge=\"house\"} 1\n"),
            "{out}"
        );
        assert!(out.contains("antuo_box_bridge_messages_total{bridge=\"house\"} 3\n"));
    }
}
