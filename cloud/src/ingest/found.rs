//! What records and numbers tell cases: reports of points, and the troubles the cloud finds in a box's
//! records by itself.

use std::collections::HashSet;

use ambient::{Entropy, NoEntropy};
use domain::alarm::Condition;
use domain::config::Enrolment;
use domain::event::State;
use domain::id::{EpochId, EventId, PointKey};
use domain::kind::{Kind, Lane, Severity};
use domain::time::Timestamp;
use domain::wire::Cause;

use super::arrived::{Arrived, Reading};
use super::facts;
use super::keep::{Kept, LaneHeld, Place, is_tombstone};
use super::{BoxIdentity, IngestError};
use crate::absence::{self, Service};
use crate::access::Scope;
use crate::column::readable;
use crate::commands::answer_of;
use crate::db::{DbError, Tx};
use crate::incident::decide::{Effect, Report};
use crate::incident::entry::Numbers;
use crate::incident::report::{Arrival, Point, fold, nature_of, report, trouble};
use crate::sql;

/// A report and the number of the record it was read from, if the entry is to chain it.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// For the engine.
    pub report: Report,
    /// The record's number.
    pub record: Option<u64>,
}

/// Whether a record may change a case or a point's alarm, so that it goes by the engine.
#[must_use]
pub fn concerns_cases(record: &Arrived) -> bool {
    match &record.reading {
        Reading::Event(event) => {
            event.kind.hazard().is_some()
                || matches!(event.kind, Kind::BridgeOnline)
                || event.kind.lane() == Lane::LifeSafety
        }
        Reading::Tombstone(tombstone) => tombstone.cause == Cause::Damaged,
        Reading::Foreign(_) => true,
        Reading::Unknown(_) => false,
    }
}

/// What new records say.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Findings {
    /// What they tell cases, in their order.
    pub found: Vec<Found>,
    /// Places in the list of those that answer a command.
    pub answers: Vec<usize>,
    /// Whether sessions or bypasses changed.
    pub served: bool,
}

/// Everything that new records say, in their order.
///
/// # Errors
/// When the store fails, a row cannot be read or there is no randomness.
pub async fn find(
    tx: &mut Tx,
    scope: &Scope,
    place: &Place,
    arrived: &[Arrived],
    kept: &Kept,
    now: Timestamp,
    entropy: &Entropy,
) -> Result<Findings, IngestError> {
    let gateway = place.from.gateway;
    let mut service = absence::store::of_box(tx, scope, gateway).await?;
    let (mut found, mut answers) = (Vec::new(), Vec::new());
    let mut foreign_told = false;
    let new = kept.fresh.iter().map(|at| (*at, false));
    let mut new: Vec<_> = new.chain(kept.forks.iter().map(|at| (*at, true))).collect();
    new.sort_unstable();
    for (at, forked) in new {
        let Some(record) = arrived.get(at) else {
            continue;
        };
        let numbers = numbers(place, record.seq, record.to_seq);
        let digest = (!forked).then(|| record.digest());
        let tell = |kind, severity| -> Result<Found, IngestError> {
            let event = EventId::at(now, entropy.bytes()?);
            Ok(Found {
                report: trouble(event, kind, severity, numbers, digest, now),
                record: digest.map(|_| record.seq),
            })
        };
        match &record.reading {
            Reading::Event(event) => {
                // A record that claims a taken number begins no session and keeps nothing back.
                let mut none = Service::default();
                let service = if forked { &mut none } else { &mut service };
                facts::take(tx, scope, gateway, service, event, now).await?;
                if !forked && answer_of(event).is_some() {
                    answers.push(at);
                }
                let mut arrival = Arrival {
                    event,
                    age: record.age,
                    numbers,
                    record: digest,
                    held: None,
                };
                let report = of_event(tx, scope, &mut arrival, service, now).await?;
                if report.effect() != Effect::Nothing {
                    let record = digest.map(|_| record.seq);
                    found.push(Found { report, record });
                }
            }
            Reading::Tombstone(tombstone) => match tombstone.cause {
                Cause::Damaged => found.push(tell(Kind::GatewayGap, Severity::High)?),
                Cause::Shed => {}
            },
            Reading::Unknown(_) if place.lane == Lane::LifeSafety => {
                found.push(tell(Kind::AlarmUnreadable, Severity::Critical)?);
            }
            Reading::Unknown(_) => {
                tracing::warn!(gateway = %place.from.gateway, seq = record.seq, "record not understood");
            }
            // One line is enough outside life safety: a box set up for another centre says
            // everything wrong.
            Reading::Foreign(_) if foreign_told && place.lane != Lane::LifeSafety => {}
            Reading::Foreign(_) => {
                foreign_told = true;
                found.push(tell(Kind::AlarmUnreadable, Severity::Critical)?);
            }
        }
        if forked && !is_tombstone(tx, scope, place, record.seq).await? {
            found.push(tell(Kind::GatewayFork, Severity::High)?);
        }
    }
    for (from, to) in &kept.holes {
        found.push(gap(numbers(place, *from, *to), now, entropy)?);
    }
    let served = absence::store::save(tx, scope, gateway, &service).await?;
    Ok(Findings {
        found,
        answers,
        served,
    })
}

fn numbers(place: &Place, from: u64, to: u64) -> Numbers {
    Numbers {
        gateway: place.from.gateway,
        epoch: place.epoch,
        lane: place.lane,
        from,
        to,
    }
}

/// A hole: grave in life safety, a fault elsewhere.
fn gap(numbers: Numbers, now: Timestamp, entropy: &Entropy) -> Result<Found, NoEntropy> {
    let severity = match numbers.lane {
        Lane::LifeSafety => Severity::High,
        Lane::Supervisory | Lane::Telemetry => Severity::Medium,
    };
    let event = EventId::at(now, entropy.bytes()?);
    Ok(Found {
        report: trouble(event, Kind::GatewayGap, severity, numbers, None, now),
        record: None,
    })
}

/// The report of an event; its point's state is folded on the way, and what a session has heard of it.
async fn of_event(
    tx: &mut Tx,
    scope: &Scope,
    arrival: &mut Arrival<'_>,
    service: &mut Service,
    now: Timestamp,
) -> Result<Report, DbError> {
    let Some(key) = &arrival.event.source else {
        return Ok(report(arrival, None, None, now));
    };
    let enrolment = enrolment_of(tx, scope, key).await?;
    let point = point_of(tx, scope, key).await?;
    let event = arrival.event;
    let nature = nature_of(enrolment.as_ref(), event.kind);
    let is_raised = event.state == State::Raised;
    if let (Some(stamp), Some(enrolment), true) = (event.stamp, &enrolment, is_raised) {
        arrival.held = service.hold(stamp, key, enrolment.role, event.kind, now);
    }
    if let Some(folded) = fold(point.as_ref(), nature, arrival) {
        if !matches!(folded.condition, Condition::Active { .. }) {
            service.over(key);
        }
        save_point(tx, scope, key, &folded).await?;
    }
    Ok(report(arrival, enrolment.as_ref(), point.as_ref(), now))
}

/// What a point is enrolled as; one that cannot be read counts as not enrolled, and still alarms.
async fn enrolment_of(
    tx: &mut Tx,
    scope: &Scope,
    key: &PointKey,
) -> Result<Option<Enrolment>, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (String,),
        "select body from enrolment where centre = $1 and device = $2 and point = $3",
        scope.own_centre(),
        key.device.as_str(),
        key.point.as_str()
    )?;
    Ok(row.and_then(|(body,)| readable(serde_json::from_str(&body), "enrolment.body")))
}

/// What a point last said; if that cannot be read, its next report counts as a new one.
async fn point_of(tx: &mut Tx, scope: &Scope, key: &PointKey) -> Result<Option<Point>, DbError> {
    let row = sql!(
        tx,
        fetch_optional as (String,),
        "select body from alarm where centre = $1 and device = $2 and point = $3",
        scope.own_centre(),
        key.device.as_str(),
        key.point.as_str()
    )?;
    Ok(row.and_then(|(body,)| readable(serde_json::from_str(&body), "alarm.body")))
}

async fn save_point(
    tx: &mut Tx,
    scope: &Scope,
    key: &PointKey,
    point: &Point,
) -> Result<(), DbError> {
    let body = serde_json::to_string(point).map_err(DbError::corrupt("alarm.body"))?;
    sql!(
        tx,
        execute,
        "insert into alarm (centre, device, point, body, version) values ($1, $2, $3, $4, 1)
         on conflict (centre, device, point) do update set body = excluded.body,
           version = alarm.version + 1",
        scope.own_centre(),
        key.device.as_str(),
        key.point.as_str(),
        body.as_str()
    )?;
    Ok(())
}

/// Ends of old epochs that the box no longer drains and that never came, as its lanes tell them.
#[must_use]
pub fn lost_ends(
    from: &BoxIdentity,
    lanes: &[LaneHeld],
    draining: &HashSet<EpochId>,
) -> Vec<Numbers> {
    let lost = lanes
        .iter()
        .filter(|lane| lane.expected > lane.held.highest() && !draining.contains(&lane.epoch));
    lost.map(|lane| {
        let place = Place {
            from: *from,
            epoch: lane.epoch,
            lane: lane.lane,
        };
        numbers(&place, lane.held.highest() + 1, lane.expected)
    })
    .collect()
}

/// The reports of lost ends.
///
/// # Errors
/// When there is no randomness.
pub fn of_ends(
    ends: &[Numbers],
    now: Timestamp,
    entropy: &Entropy,
) -> Result<Vec<Report>, NoEntropy> {
    ends.iter()
        .map(|end| gap(*end, now, entropy).map(|found| found.report))
        .collect()
}
