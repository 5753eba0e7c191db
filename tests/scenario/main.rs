//! Stories told to the real programs through their public doors.
#![allow(clippy::unwrap_used, clippy::panic)]

mod alarm;
mod backup;
mod commands;
mod family;
mod outage;
mod rubbish;

use support::receiver::Receiver;
use support::world::{Receivers, World};

/// A one-centre town whose three receivers are the simulator's, each answering as it should.
struct Town {
    world: World,
    police: Receiver,
    fire: Receiver,
    monitoring: Receiver,
    gateway: String,
}

impl Town {
    async fn start() -> anyhow::Result<Self> {
        let police = Receiver::simulated(&[]).await?;
        let fire = Receiver::simulated(&[]).await?;
        let monitoring = Receiver::simulated(&[]).await?;
        let receivers = Receivers {
            police: police.address,
            police_backup: None,
            fire: fire.address,
            monitoring: monitoring.address,
        };
        let world = World::start(1, &receivers).await?;
        let gateway = world.gateways().remove(0);
        world.box_is_configured(&gateway).await?;
        Ok(Self {
            world,
            police,
            fire,
            monitoring,
            gateway,
        })
    }

    fn devices(&self, role: &str) -> Vec<support::device::Device> {
        support::device::devices(&self.world.town, 0, role)
    }

    fn mqtt(&self) -> anyhow::Result<std::net::SocketAddr> {
        self.world.mqtt(&self.gateway)
    }
}

/// A press of our own schema.
fn press(id: &str) -> String {
    format!(r#"{{"id":"{id}","kind":"alarm.pressed","state":"raised"}}"#)
}

/// A smoke level of our own schema.
fn smoke(id: &str, state: &str) -> String {
    format!(r#"{{"id":"{id}","kind":"fire.smoke.alarm","state":"{state}"}}"#)
}

/// Whether a DC-09 line the simulator's receiver printed carries this SIA code.
fn says(line: &serde_json::Value, code: &str) -> bool {
    line["data"]
        .as_str()
        .is_some_and(|d| d.contains(&format!("/{code}")))
}
