//! From an event to a [`Report`]: what a case needs of it, and whether it may call an agency by
//! itself. Pure. Also keeps the state of a point, folded from the same facts as the box does (D6).

use domain::alarm::{Condition, Input, Nature, step};
use domain::config::{Enrolment, Policy};
use domain::digest::Sha256;
use domain::event::{Detail, Event, Origin, State};
use domain::id::{EpochId, EventId};
use domain::kind::{Kind, Severity};
use domain::time::{Age, Timestamp};
use serde::{Deserialize, Serialize};

use super::decide::Report;
use super::entry::{Fact, Numbers, Withheld};

/// The state of one point at the cloud.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Point {
    /// In alarm or not, looked at or not.
    pub condition: Condition,
    /// How bad the last activation was.
    pub severity: Severity,
    /// The epoch of the newest fact.
    pub epoch: EpochId,
    /// Its number.
    pub seq: u64,
    /// The number of the newest activation in that epoch; 0 if none yet.
    pub raised_seq: u64,
}

/// An event with what the wire said around it.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The event.
    pub event: &'a Event,
    /// How old it was when it was sent.
    pub age: Age,
    /// Its numbers.
    pub numbers: Numbers,
    /// SHA-256(salt, body) of its record; none for one that claims a taken number.
    pub record: Option<Sha256>,
}

/// How a point behaves: as enrolled, or the safe guess for one that is not.
#[must_use]
pub fn nature_of(enrolment: Option<&Enrolment>, kind: Kind) -> Nature {
    enrolment.map_or(
        Nature {
            momentary: matches!(kind, Kind::AlarmPressed | Kind::AlarmDuress),
            latching: true,
        },
        Nature::of,
    )
}

/// What cases are told of an event. `point` is the state before it.
#[must_use]
pub fn report(
    arrival: &Arrival<'_>,
    enrolment: Option<&Enrolment>,
    point: Option<&Point>,
    now: Timestamp,
) -> Report {
    let event = arrival.event;
    let fact = Fact {
        event: event.id,
        vendor_id: event.vendor_id.clone(),
        source: event.source.clone(),
        zone: event.zone.clone(),
        number: enrolment.map_or(0, |enrolment| enrolment.number),
        kind: event.kind,
        state: event.state,
        severity: event.severity,
        momentary: nature_of(enrolment, event.kind).momentary,
        received_at: event.received_at,
        occurred_at: happened_at(event, arrival.age, now),
        count: if let Detail::Counted { count, .. } = event.detail {
            count
        } else {
            1
        },
        withheld: withheld(event, arrival.age),
        numbers: Some(arrival.numbers),
        record: arrival.record,
    };
    Report {
        fact,
        same_activation: event.same_as.is_some(),
        overtaken: point.is_some_and(|point| point.has_overtaken(&arrival.numbers)),
    }
}

/// A trouble the cloud found in a box's records by itself.
#[must_use]
pub fn trouble(
    event: EventId,
    kind: Kind,
    severity: Severity,
    numbers: Numbers,
    record: Option<Sha256>,
    now: Timestamp,
) -> Report {
    let fact = Fact {
        event,
        vendor_id: None,
        source: None,
        zone: None,
        number: 0,
        kind,
        state: State::Raised,
        severity,
        momentary: true,
        received_at: now,
        occurred_at: now,
        count: 1,
        withheld: None,
        numbers: Some(numbers),
        record,
    };
    Report {
        fact,
        same_activation: false,
        overtaken: false,
    }
}

/// When it happened by the cloud's clock: a box's wall clock may be wrong, its age is not (D5).
fn happened_at(event: &Event, age: Age, now: Timestamp) -> Timestamp {
    match age {
        Age::Known(ms) => now.before(std::time::Duration::from_millis(ms)),
        Age::AtLeast(_) => event.received_at,
    }
}

/// Why an event may not call an agency by itself (D5, D7).
fn withheld(event: &Event, age: Age) -> Option<Withheld> {
    if event.severity == Severity::Test {
        Some(Withheld::Test)
    } else if event.severity == Severity::Unverified || event.origin != Origin::Live {
        Some(Withheld::Unverified)
    } else if age.is_old(Policy::default().old_after()) {
        Some(Withheld::Old)
    } else {
        (event.severity != Severity::Critical).then_some(Withheld::NotCritical)
    }
}

impl Point {
    /// Whether a later activation was judged before this record. Only within one epoch is that
    /// certain: epochs drain side by side, and a repeat is better than a loss (D4).
    fn has_overtaken(&self, numbers: &Numbers) -> bool {
        self.epoch == numbers.epoch && numbers.to < self.raised_seq
    }
}

/// Takes one event into a point's state. None when the kind says nothing of an alarm, or an older
/// fact of the epoch than the newest known: that is a note only (D4).
#[must_use]
pub fn fold(known: Option<&Point>, nature: Nature, arrival: &Arrival<'_>) -> Option<Point> {
    let event = arrival.event;
    let before = known.map_or(Condition::Normal, |point| point.condition);
    let input = input_of(event, known)?;
    let seq = arrival.numbers.to;
    let of_epoch = known.filter(|point| point.epoch == arrival.numbers.epoch);
    if of_epoch.is_some_and(|point| seq < point.seq) {
        return None;
    }
    let raised = matches!(input, Input::Raise { .. });
    Some(Point {
        condition: step(before, nature, input, event.received_at).0,
        severity: match (raised, known) {
            (true, _) | (false, None) => event.severity,
            (false, Some(point)) => point.severity,
        },
        epoch: arrival.numbers.epoch,
        seq,
        raised_seq: if raised {
            seq
        } else {
            of_epoch.map_or(0, |point| point.raised_seq)
        },
    })
}

fn input_of(event: &Event, known: Option<&Point>) -> Option<Input> {
    match (event.kind, event.kind.hazard(), event.state) {
        (_, Some(_), State::Raised) => Some(Input::Raise {
            more_severe: known.is_some_and(|point| event.severity > point.severity),
        }),
        (_, Some(_), State::Cleared) | (Kind::AlarmRestored, None, _) => Some(Input::Restoral),
        (Kind::AlarmAcknowledged, None, _) => Some(Input::Acknowledge),
        // The box, which owns the point's state, has judged already that it may be reset.
        (Kind::AlarmReset, None, _) => Some(Input::Reset { looked: true }),
        (_, None, _) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use domain::id::{CentreId, GatewayId, PointKey};
    use domain::kind::Lane;
    use domain::time::{ClockTrust, Order};
    use uuid::Uuid;

    fn event(kind: Kind) -> Event {
        Event {
            id: EventId(Uuid::from_u128(1)),
            centre: CentreId(Uuid::from_u128(2)),
            zone: None,
            source: Some(PointKey {
                device: "d".parse().unwrap(),
                point: "p".parse().unwrap(),
            }),
            kind,
            state: State::Raised,
            severity: kind.severity(),
            occurred_at: None,
            received_at: Timestamp::from_micros(5),
            order: Order(5),
            clock_trust: ClockTrust::Unset,
            origin: Origin::Live,
            vendor_id: None,
            same_as: None,
            stamp: None,
            config_version: 1,
            signal: None,
            detail: Detail::None,
        }
    }

    fn arrival(event: &Event, epoch: u128, seq: u64) -> Arrival<'_> {
        Arrival {
            event,
            age: Age::Known(0),
            numbers: Numbers {
                gateway: GatewayId(Uuid::from_u128(3)),
                epoch: EpochId(Uuid::from_u128(epoch)),
                lane: Lane::LifeSafety,
                from: seq,
                to: seq,
            },
            record: None,
        }
    }

    #[test]
    fn only_what_is_live_critical_and_young_may_call_by_itself() {
        let young = Age::Known(600_000);
        let mut press = event(Kind::AlarmPressed);
        assert_eq!(withheld(&press, young), None);
        assert_eq!(withheld(&press, Age::Known(600_001)), Some(Withheld::Old));
        assert_eq!(withheld(&press, Age::AtLeast(0)), Some(Withheld::Old));
        press.severity = Severity::Test;
        assert_eq!(withheld(&press, young), Some(Withheld::Test));
        press.severity = Severity::Unverified;
        assert_eq!(withheld(&press, young), Some(Withheld::Unverified));
        press.severity = Severity::Critical;
        for origin in [Origin::Retained, Origin::Replayed] {
            press.origin = origin;
            assert_eq!(withheld(&press, young), Some(Withheld::Unverified));
        }
        let pre = event(Kind::FireSmokePrealarm);
        assert_eq!(withheld(&pre, young), Some(Withheld::NotCritical));
    }

    #[test]
    fn when_it_happened_is_told_by_its_age_not_by_the_boxs_clock() {
        let press = event(Kind::AlarmPressed);
        let now = Timestamp::from_micros(9_000_000);
        let at = happened_at(&press, Age::Known(2_000), now);
        assert_eq!(at, Timestamp::from_micros(7_000_000));
        assert_eq!(
            happened_at(&press, Age::AtLeast(2_000), now),
            press.received_at
        );
    }

    #[test]
    fn a_points_state_takes_no_older_fact_and_another_epoch_is_never_older() {
        let smoke = event(Kind::FireSmokeAlarm);
        let mut clear = smoke.clone();
        clear.state = State::Cleared;
        let level = Nature {
            momentary: false,
            latching: true,
        };
        let up = fold(None, level, &arrival(&smoke, 1, 5)).unwrap();
        assert!(matches!(up.condition, Condition::Active { .. }));
        assert_eq!(fold(Some(&up), level, &arrival(&clear, 1, 4)), None);
        let older = report(
            &arrival(&smoke, 1, 4),
            None,
            Some(&up),
            Timestamp::default(),
        );
        assert!(older.overtaken);
        let down = fold(Some(&up), level, &arrival(&clear, 1, 6)).unwrap();
        assert!(matches!(down.condition, Condition::Restored { .. }));
        assert_eq!((down.seq, down.raised_seq), (6, 5));
        let unset_clock = arrival(&smoke, 0, 1);
        let again = report(&unset_clock, None, Some(&down), Timestamp::default());
        assert!(!again.overtaken, "a repeat is better than a loss");
        assert!(fold(Some(&down), level, &unset_clock).is_some());
        let mut reset = event(Kind::AlarmReset);
        reset.severity = Severity::Info;
        let seen = fold(
            Some(&down),
            level,
            &arrival(&event(Kind::AlarmAcknowledged), 1, 7),
        );
        let normal = fold(seen.as_ref(), level, &arrival(&reset, 1, 8)).unwrap();
        assert_eq!(normal.condition, Condition::Normal);
        assert_eq!(
            fold(None, level, &arrival(&event(Kind::DoorOpened), 1, 9)),
            None
        );
    }
}
