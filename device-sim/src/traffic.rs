//! `antuo-sim traffic`: random events against one box, with faults, for tests that break things meanwhile.

use crate::addresses::Broker;
use crate::books::Books;
use crate::clock::{Chance, Clock};
use crate::device::{self, Ids, Sending};
use crate::devices::Devices;
use crate::ledger::{Deed, DeviceLedger, LedgerError};
use crate::play::{Mix, Player};
use crate::report::say;
use crate::site::Site;
use crate::town::{Town, TownError};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;
use uuid::Uuid;

/// What goes wrong with devices, in percent of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// The message goes out twice.
    pub duplicate: u8,
    /// A damaged copy goes out before it.
    pub garble: u8,
    /// The device stays silent instead.
    pub mute: u8,
    /// The device's line drops right after it.
    pub cut: u8,
}

/// A fault that cannot be read.
#[derive(Debug, Error)]
#[error("unknown fault {0}: duplicate=PERCENT, garble=…, mute=…, cut=…, divided by commas")]
pub struct UnknownFault(String);

impl FromStr for Faults {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Faults, UnknownFault> {
        let mut faults = Faults::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            let unknown = || UnknownFault(word.to_owned());
            let (name, percent) = word.split_once('=').ok_or_else(unknown)?;
            let percent = percent
                .parse()
                .ok()
                .filter(|percent| *percent <= 100)
                .ok_or_else(unknown)?;
            match name {
                "duplicate" => faults.duplicate = percent,
                "garble" => faults.garble = percent,
                "mute" => faults.mute = percent,
                "cut" => faults.cut = percent,
                _other => return Err(unknown()),
            }
        }
        Ok(faults)
    }
}

/// What is to be played.
#[derive(Debug, Clone)]
pub struct Traffic {
    pub broker: Broker,
    pub town: PathBuf,
    pub centre: Uuid,
    pub gateway: Option<Uuid>,
    pub seed: u64,
    /// Messages to play; damaged copies and duplicates come on top.
    pub events: u64,
    /// Pause between two messages.
    pub pace: Duration,
    pub faults: Faults,
    pub ledger: PathBuf,
    /// Longest wait for the last PUBACK.
    pub deadline: Duration,
}

/// Why traffic was not played to its end.
#[derive(Debug, Error)]
pub enum TrafficError {
    #[error(transparent)]
    Town(#[from] TownError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the town file has no centre {0}")]
    NoCentre(Uuid),
    #[error("no PUBACK in time: {0:?} (connection, messages)")]
    NoPuback(Vec<(String, usize)>),
}

/// Plays. A ledger that is there already is gone on from: children and detectors are where it left them.
pub async fn run(traffic: Traffic) -> Result<(), TrafficError> {
    let (town, clock) = (Town::read(&traffic.town)?, Clock::start());
    let centre = town
        .centre(&traffic.centre.to_string())
        .ok_or(TrafficError::NoCentre(traffic.centre))?;
    let site = Site::of(&town, centre, traffic.gateway);
    let mut player = Player::new(site.clone(), Mix::DENSE);
    if traffic.ledger.exists() {
        player.go_on_from(&Books::read(std::slice::from_ref(&traffic.ledger))?);
    }
    let ids = Ids::of_run(clock.now(), std::process::id());
    let ledger = DeviceLedger::open(&traffic.ledger, ids.run())?;
    let devices = Devices::start(
        (centre, &site, traffic.gateway),
        &traffic.broker,
        (&ledger, &ids, clock),
    );

    let mut chance = Chance::new(traffic.seed);
    let mut played = 0;
    while played < traffic.events {
        let done = |id: &str| ledger.is_done(id);
        if let Some(sending) = player.next(&mut chance, &ids, clock.now(), &done) {
            let id = sending.sent.id.clone();
            if !send_with_faults(&devices, sending, &traffic.faults, &mut chance, &ids) {
                player.never_sent(&id);
            }
            played += 1;
        }
        tokio::time::sleep(traffic.pace).await;
    }
    let idle = tokio::time::timeout(traffic.deadline, devices.until_idle())
        .await
        .is_ok();
    let waiting = devices.waiting();
    devices.stop().await;
    if let Some(error) = ledger.failure() {
        return Err(error.into());
    }
    if !idle {
        return Err(TrafficError::NoPuback(waiting));
    }
    say(&format!(
        "{played} messages played at {}, all acknowledged",
        site.name
    ));
    Ok(())
}

/// False when the device stayed silent. Only a message whose absence changes nothing for later ones may be left out:
/// not the tap that brings a child in, nor a level.
fn send_with_faults(
    devices: &Devices,
    sending: Sending,
    faults: &Faults,
    chance: &mut Chance,
    ids: &Ids,
) -> bool {
    let [duplicate, garble, mute, cut] = [faults.duplicate, faults.garble, faults.mute, faults.cut]
        .map(|percent| chance.percent(percent));
    let way = chance.below(5);
    if mute && matches!(sending.sent.deed, Deed::Press | Deed::Background) {
        return false;
    }
    if garble {
        devices.send(device::damaged(&sending, way, ids.next()));
    }
    let connection = sending.connection.clone();
    if duplicate && sending.sent.qos > 0 {
        devices.send(sending.clone());
    }
    devices.send(sending);
    if cut {
        devices.cut(&connection);
    }
    true
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_from_words() {
        let faults: Faults = "duplicate=5,cut=2".parse().unwrap();
        assert_eq!(
            faults,
            Faults {
                duplicate: 5,
                cut: 2,
                ..Faults::default()
            }
        );
        assert!("cut=101".parse::<Faults>().is_err() && "cut".parse::<Faults>().is_err());
    }
}
