//! What the cloud's API answers, as far as the simulator reads it. Fields it does not name are passed over.

use crate::clock::Micros;
use serde::Deserialize;

/// An incident, as lists and streams show it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Incident {
    pub id: String,
    pub centre: CentreName,
    /// `panic`, `fire`, `intrusion`, `missing_child`, `technical`.
    pub hazard: String,
    pub priority: u8,
    /// `open`, `acknowledged`, `closed`.
    pub state: String,
    pub opened_at: Micros,
    pub closed: Option<Closed>,
    #[serde(default)]
    pub alarms: Vec<AlarmLine>,
    #[serde(default)]
    pub dispatches: Vec<Dispatch>,
    pub confirmation: Option<String>,
    pub linked_to: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CentreName {
    pub id: String,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Closed {
    pub at: Micros,
    pub cause: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AlarmLine {
    #[serde(default, deserialize_with = "or_empty")]
    pub device: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub point: String,
    pub activations: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Dispatch {
    pub id: String,
    pub receiver: ReceiverName,
    /// `order`, `update`, `cancel`.
    pub purpose: String,
    pub state: String,
    pub received_at: Option<Micros>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReceiverName {
    pub id: String,
    pub name: String,
    pub agency: String,
}

/// An activation (or restoral) stored in an incident.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StoredEvent {
    pub seq: i64,
    pub event: String,
    pub vendor_id: Option<String>,
    /// Empty where the cloud found a trouble by itself.
    #[serde(default, deserialize_with = "or_empty")]
    pub device: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub point: String,
    pub kind: String,
    pub state: String,
    pub centre: String,
}

/// An event of a child, as its guardian sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PresenceEvent {
    pub event: String,
    pub vendor_id: Option<String>,
    pub kind: String,
}

/// A child, as lists and streams show it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChildView {
    pub id: uuid::Uuid,
    pub presence: Presence,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Presence {
    pub state: String,
}

/// `{"incidents":[…]}`, as answer and as `reset` of the operator's stream.
#[derive(Debug, Clone, Deserialize)]
pub struct Incidents {
    pub incidents: Vec<Incident>,
}

/// `{"children":[…]}`, as answer and as `reset` of the guardian's stream.
#[derive(Debug, Clone, Deserialize)]
pub struct Children {
    pub children: Vec<ChildView>,
}

/// A page of events. `next` is a number for incidents and an opaque text for children.
#[derive(Debug, Clone, Deserialize)]
pub struct Page<E> {
    pub events: Vec<E>,
    pub next: Option<serde_json::Value>,
}

/// What a command about an incident came to.
#[derive(Debug, Clone, Deserialize)]
pub struct Commanded {
    /// `done` or `needs_second_person`.
    pub outcome: String,
}

/// A box, as the administrator sees it.
#[derive(Debug, Clone, Deserialize)]
pub struct GatewayView {
    pub name: String,
    pub connected: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Gateways {
    pub gateways: Vec<GatewayView>,
}

fn or_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Incident {
    /// The dispatches that no reply has ended yet.
    pub fn undecided(&self) -> impl Iterator<Item = &Dispatch> {
        let waits = |state: &str| matches!(state, "queued" | "sending" | "unanswered");
        self.dispatches
            .iter()
            .filter(move |dispatch| waits(&dispatch.state))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub mod tests {
    use super::*;
    use serde_json::json;

    /// An incident in the published shape.
    pub fn published() -> serde_json::Value {
        json!({"id": "i-1", "centre": {"id": "c-1", "name": "阳光"}, "hazard": "panic", "priority": 1, "state": "open",
            "version": 3, "opened_at": 5, "acknowledged_by": null, "closed": null, "confirmation": null,
            "alarms": [{"device": "btn-hall", "point": "button", "zone": "hall", "kind": "alarm.pressed", "first_at": 1,
                "last_at": 1, "activations": 1, "state": "restored", "acknowledged": false}],
            "dispatches": [{"id": "d-1", "receiver": {"id": "r-1", "name": "警", "agency": "police"}, "purpose": "order",
                "state": "queued", "attempts": 0, "received_at": null, "possible_repeat": false}],
            "timeline": [], "linked_to": null})
    }

    #[test]
    fn the_published_incident_is_read() {
        let incident: Incident = serde_json::from_value(published()).unwrap();
        assert_eq!(incident.undecided().count(), 1);
        assert_eq!(incident.alarms[0].activations, 1);
    }

    #[test]
    fn an_event_of_no_device_is_read() {
        let event = json!({"seq": 5, "event": "e-1", "vendor_id": null, "device": null, "point": null,
            "kind": "gateway.gap", "state": "raised", "received_at": 1, "committed_at": 1, "centre": "c"});
        let event: StoredEvent = serde_json::from_value(event).unwrap();
        assert!(event.device.is_empty() && event.point.is_empty());
    }
}
