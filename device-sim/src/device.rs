//! What devices say: topics and payloads of our own device schema and of a zigbee2mqtt bridge, with the ledger's line
//! for each. Pure: an id and an instant come in, a message goes out.

use crate::clock::Micros;
use crate::ledger::{Deed, Sent};
use crate::site::{Pupil, Site, Spot};
use crate::town::Passage;
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};

/// A message on its way to the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// Its line in the ledger; `at` is filled in when it is handed over.
    pub sent: Sent,
    /// User name of the connection it goes over.
    pub connection: String,
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
}

/// Gives out message ids no other run gives out: start of the run, process, running number; at most 30 bytes.
#[derive(Debug)]
pub struct Ids {
    run: String,
    given: AtomicU64,
}

impl Ids {
    /// Ids of a run that began at `at` in process `pid`.
    pub fn of_run(at: Micros, pid: u32) -> Ids {
        Ids {
            run: format!("{:x}-{pid:x}", at.0),
            given: AtomicU64::new(0),
        }
    }

    /// The name of the run.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// The next id.
    pub fn next(&self) -> String {
        format!(
            "{}-{}",
            self.run,
            self.given.fetch_add(1, Ordering::Relaxed) + 1
        )
    }
}

/// A card at a reader that let its holder pass.
pub fn tap(
    site: &Site,
    reader: &Spot,
    pupil: &Pupil,
    passage: Passage,
    id: String,
    at: Micros,
) -> Sending {
    let deed = Deed::Tap {
        holder: pupil.holder,
        children: vec![pupil.child],
        passage,
    };
    let body = json!({"id": id, "kind": "access.granted", "state": "raised", "at": at.0, "credential": pupil.card});
    message(site, reader, "access.granted", deed, id, &body)
}

/// A card nobody knows.
pub fn denied(site: &Site, reader: &Spot, id: String, at: Micros) -> Sending {
    let body = json!({"id": id, "kind": "access.denied", "state": "raised", "at": at.0, "credential": "FFFFFFFF"});
    message(site, reader, "access.denied", Deed::Background, id, &body)
}

/// A press of a panic button.
pub fn press(site: &Site, button: &Spot, id: String, at: Micros) -> Sending {
    let body = json!({"id": id, "kind": "alarm.pressed", "state": "raised", "at": at.0});
    message(site, button, "alarm.pressed", Deed::Press, id, &body)
}

/// A smoke detector changes its level.
pub fn smoke(site: &Site, detector: &Spot, raised: bool, id: String, at: Micros) -> Sending {
    let (state, deed) = if raised {
        ("raised", Deed::AlarmRaised)
    } else {
        ("cleared", Deed::AlarmCleared)
    };
    let body = json!({"id": id, "kind": "fire.smoke.alarm", "state": state, "at": at.0});
    message(site, detector, "fire.smoke.alarm", deed, id, &body)
}

/// A door opens or closes.
pub fn door(site: &Site, contact: &Spot, opened: bool, id: String, at: Micros) -> Sending {
    let kind = if opened { "door.opened" } else { "door.closed" };
    let body = json!({"id": id, "kind": kind, "state": "raised", "at": at.0});
    message(site, contact, kind, Deed::Background, id, &body)
}

/// A battery runs low.
pub fn battery(site: &Site, spot: &Spot, id: String, at: Micros) -> Sending {
    let body =
        json!({"id": id, "kind": "device.battery_low", "state": "raised", "at": at.0, "value": 9});
    message(
        site,
        spot,
        "device.battery_low",
        Deed::Background,
        id,
        &body,
    )
}

/// The whole cached state of a bridged smoke detector, as zigbee2mqtt sends it: QoS 0, no id, nothing but levels.
pub fn zigbee_smoke(site: &Site, detector: &Spot, raised: bool, id: String) -> Sending {
    let body = json!({"battery": 97, "battery_low": false, "linkquality": 120, "smoke": raised, "tamper": false});
    let deed = Deed::Level { raised };
    let mut sending = message(site, detector, "fire.smoke.alarm", deed, id, &body);
    sending.sent.qos = 0;
    sending
}

/// The bridge says that it runs; retained, as zigbee2mqtt does.
pub fn bridge_online(site: &Site, bridge: &Spot, id: String) -> Sending {
    let mut sending = message(
        site,
        bridge,
        "bridge.online",
        Deed::Background,
        id,
        &json!({"state": "online"}),
    );
    sending.sent.qos = 0;
    sending.topic.push_str("/state");
    sending.retain = true;
    sending
}

/// A message broken on purpose, made from a good one. `way` chooses how: cut off, not UTF-8, nested deeply, wrongly
/// typed, empty.
pub fn damaged(good: &Sending, way: usize, id: String) -> Sending {
    let half = good.payload.len() / 2;
    let payload = match way % 5 {
        0 => good.payload[..half].to_vec(),
        1 => [b"\xFF\xFE\xC0".as_slice(), &good.payload[half..]].concat(),
        2 => [b"[".repeat(2000), b"]".repeat(2000)].concat(),
        3 => br#"{"id":17,"kind":["alarm.pressed"],"state":null}"#.to_vec(),
        _empty => Vec::new(),
    };
    let sent = Sent {
        id,
        deed: Deed::Damaged,
        kind: "damaged".to_owned(),
        ..good.sent.clone()
    };
    Sending {
        sent,
        payload,
        retain: false,
        ..good.clone()
    }
}

fn message(
    site: &Site,
    spot: &Spot,
    kind: &str,
    deed: Deed,
    id: String,
    body: &serde_json::Value,
) -> Sending {
    Sending {
        sent: Sent {
            id,
            centre: site.centre,
            device: spot.device.clone(),
            point: spot.point.clone(),
            kind: kind.to_owned(),
            deed,
            qos: 1,
            excluded: false,
            at: Micros(0),
        },
        connection: spot.connection.clone(),
        topic: spot.address.clone(),
        payload: body.to_string().into_bytes(),
        retain: false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::site::tests::town_and_site;
    use serde_json::Value;

    const AT: Micros = Micros(1_764_000_000_000_000);

    #[test]
    fn our_schema_is_as_published() {
        let (_town, site) = town_and_site();
        let sending = tap(
            &site,
            &site.readers_in[0],
            &site.pupils[0],
            Passage::In,
            "r-1".to_owned(),
            AT,
        );
        let body: Value = serde_json::from_slice(&sending.payload).unwrap();
        assert_eq!(sending.topic, "antuo/v1/door-in/reader");
        assert_eq!(
            (&body["id"], &body["kind"], &body["state"]),
            (&json!("r-1"), &json!("access.granted"), &json!("raised"))
        );
        assert_eq!(
            (&body["credential"], &body["at"]),
            (&json!(site.pupils[0].card), &json!(AT.0))
        );
        assert_eq!(sending.sent.qos, 1);
        let cleared = smoke(&site, &site.smokes[0], false, "r-2".to_owned(), AT);
        assert_eq!(
            serde_json::from_slice::<Value>(&cleared.payload).unwrap()["state"],
            "cleared"
        );
    }

    #[test]
    fn a_bridge_speaks_without_id_and_unacknowledged() {
        let (_town, site) = town_and_site();
        let sending = zigbee_smoke(&site, &site.zigbee_smokes[0], true, "r-1".to_owned());
        assert_eq!(
            (sending.topic.as_str(), sending.sent.qos),
            ("zigbee2mqtt/nap_smoke", 0)
        );
        assert!(!String::from_utf8(sending.payload).unwrap().contains("r-1"));
        let online = bridge_online(&site, &site.bridges[0], "r-2".to_owned());
        assert_eq!(
            (online.topic.as_str(), online.retain),
            ("zigbee2mqtt/bridge/state", true)
        );
    }

    #[test]
    fn damaged_messages_are_damaged_and_count_as_nothing() {
        let (_town, site) = town_and_site();
        let good = press(&site, &site.buttons[0], "r-1".to_owned(), AT);
        for way in 0..5 {
            let bad = damaged(&good, way, format!("r-{way}"));
            assert_eq!(bad.sent.deed, Deed::Damaged);
            let read: Result<Value, _> = serde_json::from_slice(&bad.payload);
            assert!(
                read.is_err() || read.unwrap()["id"].is_number(),
                "way {way}"
            );
        }
    }

    #[test]
    fn ids_are_short_slugs_and_never_given_twice() {
        let ids = Ids::of_run(AT, u32::MAX);
        let (one, two) = (ids.next(), ids.next());
        assert_ne!(one, two);
        assert!(one.len() <= 64 && one.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
    }
}
