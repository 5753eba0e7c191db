//! All devices of one centre at one box: a connection for each MQTT credential.

use crate::addresses::Broker;
use crate::clock::Clock;
use crate::device::{self, Ids, Sending};
use crate::ledger::DeviceLedger;
use crate::publisher::{Bridge, Publisher};
use crate::site::Site;
use crate::town::Centre;
use std::collections::BTreeMap;
use uuid::Uuid;

/// What zigbee2mqtt leaves with the broker as its last will.
const BRIDGE_WILL: &str = r#"{"state":"offline"}"#;

/// The running connections, by user name.
#[derive(Debug)]
pub struct Devices {
    publishers: BTreeMap<String, Publisher>,
}

impl Devices {
    /// Starts a connection for each credential of `gateway` (or of all) at this centre.
    pub fn start(
        (centre, site, gateway): (&Centre, &Site, Option<Uuid>),
        broker: &Broker,
        (ledger, ids, clock): (&DeviceLedger, &Ids, Clock),
    ) -> Devices {
        let ours = |gateway_of: Uuid| gateway.is_none_or(|gateway| gateway == gateway_of);
        let credentials = centre
            .mqtt_credentials
            .iter()
            .filter(|credential| ours(credential.gateway));
        let start = |credential: &crate::town::MqttCredential| {
            let spot = site
                .bridges
                .iter()
                .find(|spot| spot.connection == credential.username);
            let bridge = spot.map(|spot| Bridge {
                online: device::bridge_online(site, spot, ids.next()),
                will: BRIDGE_WILL,
            });
            let publisher = Publisher::start(
                broker.clone(),
                credential.clone(),
                bridge,
                ledger.clone(),
                clock,
            );
            (credential.username.clone(), publisher)
        };
        Devices {
            publishers: credentials.map(start).collect(),
        }
    }

    /// Hands a message to its connection.
    pub fn send(&self, sending: Sending) {
        match self.publishers.get(&sending.connection) {
            Some(publisher) => publisher.publish(sending),
            None => tracing::error!(connection = sending.connection, "no such connection"),
        }
    }

    /// Drops one connection without a goodbye; it comes back by itself.
    pub fn cut(&self, connection: &str) {
        if let Some(publisher) = self.publishers.get(connection) {
            publisher.cut();
        }
    }

    /// Waits until the box has taken every log-in.
    pub async fn until_connected(&self) {
        for publisher in self.publishers.values() {
            publisher.until_connected().await;
        }
    }

    /// Waits until no message waits for its PUBACK.
    pub async fn until_idle(&self) {
        for publisher in self.publishers.values() {
            publisher.until_idle().await;
        }
    }

    /// Connections that still wait, with the number of their messages.
    pub fn waiting(&self) -> Vec<(String, usize)> {
        let waits = self
            .publishers
            .iter()
            .map(|(name, publisher)| (name.clone(), publisher.waiting()));
        waits.filter(|(_, messages)| *messages > 0).collect()
    }

    /// Connections the box has not taken.
    pub fn unconnected(&self) -> Vec<String> {
        let out = self
            .publishers
            .iter()
            .filter(|(_, publisher)| !publisher.connected());
        out.map(|(name, _)| name.clone()).collect()
    }

    /// Says goodbye everywhere.
    pub async fn stop(self) {
        for publisher in self.publishers.into_values() {
            publisher.stop().await;
        }
    }
}
