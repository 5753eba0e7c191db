//! Whether alarms wait for the cloud, and since when (G7).
//!
//! Owns the look at what is unreceipted. In doubt an alarm waits: what cannot be read has waited at least as
//! long as when it last could be. Decides nothing about sirens or lamps: that is for `site`.

use std::sync::Arc;
use std::time::Duration;

use domain::event::State;
use domain::id::PointKey;
use domain::kind::{Hazard, Kind, Lane, Severity};
use domain::time::Age;
use domain::wire::{Says, read_body};
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::clock::{BoxClock, Received, age};
use crate::gauges::Gauges;
use crate::site::Unforwarded;
use crate::store::afloat::Afloat;
use crate::store::{ReadError, Reader};

/// An alarm without the cloud's receipt for longer than this is "not forwarded" (G7).
pub const NOT_FORWARDED_AFTER: Duration = Duration::from_secs(10);
/// How often the waiting rows are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Waiting rows that are read one by one. Behind more of them an alarm is taken to wait.
const ROWS: usize = 200;

/// Age of the oldest row without a receipt, per lane.
pub type Ages = [Option<Duration>; 3];

/// What is told of the waiting rows.
#[derive(Debug)]
pub struct Told {
    /// How old they are.
    pub ages: watch::Sender<Ages>,
    /// The alarms among them.
    pub unforwarded: watch::Sender<Unforwarded>,
}

/// Looks at what waits until told to stop.
pub async fn watch(
    (mut reader, afloat): (Reader, watch::Receiver<Afloat>),
    clock: BoxClock,
    gauges: Arc<Gauges>,
    told: Told,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let known = *told.ages.borrow();
        let (ages, readable) = look(&mut reader, &afloat, &clock, &gauges, known).await;
        let late = |age: &Duration| *age > NOT_FORWARDED_AFTER;
        let unforwarded = if !readable {
            Unforwarded::unknown()
        } else if ages[0].as_ref().is_some_and(late) {
            match late_alarms(&mut reader, &afloat, &clock).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::error!(error = %crate::chain(&error), "waiting alarms cannot be read");
                    Unforwarded::unknown()
                }
            }
        } else {
            Unforwarded::default()
        };
        if gauges.not_forwarded.set(unforwarded.is_any()) {
            if unforwarded.is_any() {
                tracing::error!("not forwarded: dial 110 / 119 yourself");
            } else {
                tracing::info!("forwarded");
            }
        }
        told.unforwarded.send_if_modified(|shown| {
            let changed = *shown != unforwarded;
            *shown = unforwarded;
            changed
        });
        told.ages.send_replace(ages);
        let end = tokio::time::timeout(LOOK_EVERY, stop.wait_for(|stop| *stop)).await;
        if end.is_ok() {
            return;
        }
    }
}

/// The ages, and whether life safety could be read.
async fn look(
    reader: &mut Reader,
    afloat: &watch::Receiver<Afloat>,
    clock: &BoxClock,
    gauges: &Gauges,
    known: Ages,
) -> (Ages, bool) {
    let mut ages = [None; 3];
    let mut readable = true;
    for (lane, slot) in Lane::ALL.into_iter().zip(&mut ages) {
        let floats = afloat.borrow().oldest(lane);
        let floats = floats.map(|at| waited(clock, at, clock.boot()));
        if gauges.lane(lane).rows.get() == 0 {
            *slot = floats;
            continue;
        }
        match reader.oldest(lane).await {
            Ok(oldest) => {
                let waits = oldest.iter().map(|(at, boot)| waited(clock, *at, boot));
                *slot = waits.chain(floats).max();
            }
            Err(error) => {
                *slot = known[lane as usize].map(|age| age + LOOK_EVERY);
                readable &= lane != Lane::LifeSafety;
                tracing::error!(error = %crate::chain(&error), "the store cannot be read");
            }
        }
    }
    (ages, readable)
}

async fn late_alarms(
    reader: &mut Reader,
    afloat: &watch::Receiver<Afloat>,
    clock: &BoxClock,
) -> Result<Unforwarded, ReadError> {
    let mut rows = reader.waiting_life_safety(ROWS + 1).await?;
    let boot = clock.boot();
    let floating = afloat.borrow().life_safety(ROWS + 1);
    rows.extend(
        floating
            .into_iter()
            .map(|held| (held.received, boot.to_string(), held.body)),
    );
    let mut found = Unforwarded {
        unknown: rows.len() > ROWS,
        ..Unforwarded::default()
    };
    for (received, boot, body) in &rows {
        if waited(clock, *received, boot) <= NOT_FORWARDED_AFTER {
            continue;
        }
        match calls_for_people(body) {
            Call::Nobody => {}
            Call::From(Some(point), hazard) => {
                found.alarms.insert((point, hazard));
            }
            Call::From(None, _) => found.unknown = true,
        }
    }
    Ok(found)
}

/// What a waiting row calls for.
enum Call {
    Nobody,
    From(Option<PointKey>, Hazard),
}

/// A row nobody can read may be an alarm.
fn calls_for_people(body: &RawValue) -> Call {
    let unknown = Call::From(None, Hazard::Technical);
    let event = match read_body(body) {
        Ok(Says::Event(event)) => event,
        Ok(Says::Tombstone(_)) => return Call::Nobody,
        Err(_) => return unknown,
    };
    let Ok(kind) = event.kind.parse::<Kind>() else {
        return unknown;
    };
    // A stamp holds nothing back unless the cloud agrees, and with the line cut nobody knows whether it does.
    let is_test = event.severity == Severity::Test;
    match kind.hazard() {
        Some(hazard) if event.state == State::Raised && !is_test => {
            Call::From(event.source, hazard)
        }
        Some(_) | None => Call::Nobody,
    }
}

fn waited(clock: &BoxClock, received: Received, boot: &str) -> Duration {
    match age(received, boot == &**clock.boot(), &clock.now()) {
        Age::Known(ms) | Age::AtLeast(ms) => Duration::from_millis(ms),
    }
}

#[cfg(test)]
mod tests;
