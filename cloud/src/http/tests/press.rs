//! A press on a button of the fixture, as its box would tell it.

use domain::event::{Detail, Event, Origin, State};
use domain::id::{CentreId, EpochId, EventId, GatewayId, PointKey};
use domain::kind::{Kind, Lane};
use domain::time::{Age, ClockTrust, Order, Timestamp};
use domain::wire::{Batch, Record, write_event};
use uuid::Uuid;

use crate::ingest::BoxIdentity;
use crate::trial::{Running, id};

/// The box of the first centre, or of the second.
pub fn box_of(centre: u16) -> BoxIdentity {
    BoxIdentity {
        gateway: GatewayId(id(if centre == 0xc001 { 0xd001 } else { 0xd002 })),
        centre: CentreId(id(centre)),
    }
}

/// A record of a press, numbered `seq`.
pub fn record(centre: u16, seq: u64, now: Timestamp) -> Record {
    of_kind(Kind::AlarmPressed, centre, seq, now)
}

/// A record of a door that opened, numbered `seq`.
pub fn door(centre: u16, seq: u64, now: Timestamp) -> Record {
    of_kind(Kind::DoorOpened, centre, seq, now)
}

fn of_kind(kind: Kind, centre: u16, seq: u64, now: Timestamp) -> Record {
    let lane = kind.lane() as u128;
    let event = Event {
        id: EventId(Uuid::from_u128(
            u128::from(centre) << 80 | lane << 64 | u128::from(seq),
        )),
        centre: CentreId(id(centre)),
        zone: Some("hall".parse().unwrap()),
        source: Some(PointKey {
            device: "btn-hall".parse().unwrap(),
            point: "button".parse().unwrap(),
        }),
        kind,
        state: State::Raised,
        severity: kind.severity(),
        occurred_at: None,
        received_at: now,
        order: Order(now.micros()),
        clock_trust: ClockTrust::Synced { err_ms: 1 },
        origin: Origin::Live,
        vendor_id: Some(format!("b-{seq}")),
        same_as: None,
        stamp: None,
        config_version: 1,
        signal: None,
        detail: Detail::None,
    };
    Record {
        seq,
        to_seq: None,
        age: Age::Known(1),
        body: write_event(event).unwrap(),
    }
}

pub fn epoch() -> EpochId {
    EpochId(id(0xaa01))
}

pub fn batch(centre: u16, seqs: std::ops::RangeInclusive<u64>, now: Timestamp) -> Batch {
    Batch {
        epoch: epoch(),
        lane: Lane::LifeSafety,
        records: seqs.map(|seq| record(centre, seq, now)).collect(),
    }
}

/// Presses, and gives the id of the case they are in.
pub async fn press(running: &Running, centre: u16, seqs: std::ops::RangeInclusive<u64>) -> String {
    let batch = batch(centre, seqs, running.trial.clock.now());
    running
        .api
        .ingest
        .batch(&box_of(centre), batch)
        .await
        .unwrap();
    let mut tx = running.trial.db.read().await.unwrap();
    let (incident,) = crate::sql!(
        &mut tx,
        fetch_one as (Uuid,),
        "select id from incident where centre = $1 and state <> 'closed'
         and not unreadable",
        id(centre)
    )
    .unwrap();
    incident.to_string()
}
