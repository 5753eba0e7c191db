//! From an event to a [`Report`]: what a case needs of it, and whether it may call an agency by
//! itself. Pure. Also keeps the state of a point, folded from the same facts as the box does (D6).

use std::collections::BTreeSet;

use domain::alarm::{Condition, Input, Nature, step};
use domain::config::{Enrolment, Policy};
use domain::digest::Sha256;
use domain::event::{Detail, Event, Origin, State};
use domain::id::{EpochId, EventId};
use domain::kind::{Hazard, Kind, Severity};
use domain::time::{Age, Timestamp};
use serde::{Deserialize, Serialize};

use super::decide::Report;
use super::entry::{Fact, Numbers, Withheld};
use crate::absence::Held;
use crate::commands::answer_of;

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
    /// Conditions that are there: the alarm is restored once the last of them ended.
    #[serde(default)]
    pub open: BTreeSet<Kind>,
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
    /// The session or bypass that keeps it back, if box and cloud agree on one.
    pub held: Option<Held>,
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
    let answer = answer_of(event);
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
        withheld: withheld(event, arrival.age, arrival.held),
        stamp: event.stamp,
        by: answer.map(|answer| answer.by),
        command: answer.map(|answer| answer.command),
        why: answer.and_then(|answer| answer.why),
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
        stamp: None,
        by: None,
        command: None,
        why: None,
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
fn withheld(event: &Event, age: Age, held: Option<Held>) -> Option<Withheld> {
    if event.severity == Severity::Test {
        Some(Withheld::Test)
    } else if event.severity == Severity::Unverified || event.origin != Origin::Live {
        Some(Withheld::Unverified)
    } else if age.is_old(Policy::default().old_after()) {
        Some(Withheld::Old)
    } else if let Some(held) = held {
        Some(match held {
            Held::Test => Withheld::Session,
            Held::Bypass => Withheld::Bypassed,
        })
    } else {
        Withheld::by_severity(event.severity)
    }
}

impl Point {
    /// Whether a later activation was judged before this record. Only within one epoch is that
    /// certain: epochs drain side by side, and a repeat is better than a loss (D4).
    fn has_overtaken(&self, numbers: &Numbers) -> bool {
        self.epoch == numbers.epoch && numbers.to < self.raised_seq
    }
}

/// Takes one event into a point's state, as the box did that owns it. None when the kind says nothing of an
/// alarm, or an older fact of the epoch than the newest known: that is a note only (D4).
#[must_use]
pub fn fold(known: Option<&Point>, nature: Nature, arrival: &Arrival<'_>) -> Option<Point> {
    let event = arrival.event;
    let said = said(event)?;
    let seq = arrival.numbers.to;
    let of_epoch = known.filter(|point| point.epoch == arrival.numbers.epoch);
    if of_epoch.is_some_and(|point| seq < point.seq) {
        return None;
    }
    let before = known.map_or(Condition::Normal, |point| point.condition);
    let mut open = known.map(|point| point.open.clone()).unwrap_or_default();
    let moved = |input| step(before, nature, input, event.received_at).0;
    let condition = match said {
        Said::Raised => {
            // The safety chain's own troubles are no alarm of a point.
            let is_peoples = event.kind.hazard() != Some(Hazard::Technical);
            if is_peoples && !nature.momentary {
                open.insert(event.kind);
            }
            // A device's own test sounds nothing, and a press said again is no second one.
            let is_same = event.same_as.is_some();
            if is_peoples && event.severity != Severity::Test && !is_same {
                moved(Input::Raise { more_severe: true })
            } else {
                before
            }
        }
        Said::Noted => before,
        Said::Cleared(kind) => {
            open.remove(&kind);
            if open.is_empty() {
                moved(Input::Restoral)
            } else {
                before
            }
        }
        Said::Acknowledged => moved(Input::Acknowledge),
        // The box has judged already that it may be reset, and from then on holds it for normal.
        Said::Reset => {
            open.clear();
            Condition::Normal
        }
    };
    let raised = said == Said::Raised;
    Some(Point {
        condition,
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
        open,
    })
}

/// What an event says of a point's alarm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    Raised,
    /// Nothing that moves an alarm.
    Noted,
    /// The condition of this kind ended.
    Cleared(Kind),
    Acknowledged,
    Reset,
}

fn said(event: &Event) -> Option<Said> {
    match (event.kind, event.kind.hazard(), event.state) {
        (_, Some(Hazard::Technical), State::Cleared) => Some(Said::Noted),
        (_, Some(_), State::Raised) => Some(Said::Raised),
        (kind, Some(_), State::Cleared) => Some(Said::Cleared(kind)),
        (Kind::AlarmRestored, None, _) => Some(Said::Cleared(Kind::AlarmPressed)),
        (Kind::AlarmAcknowledged, None, _) => Some(Said::Acknowledged),
        (Kind::AlarmReset, None, _) => Some(Said::Reset),
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
            held: None,
        }
    }

    #[test]
    fn only_what_is_live_critical_and_young_may_call_by_itself() {
        let young = Age::Known(600_000);
        let mut press = event(Kind::AlarmPressed);
        assert_eq!(withheld(&press, young, None), None);
        assert_eq!(
            withheld(&press, Age::Known(600_001), None),
            Some(Withheld::Old)
        );
        assert_eq!(withheld(&press, Age::AtLeast(0), None), Some(Withheld::Old));
        press.severity = Severity::Test;
        assert_eq!(withheld(&press, young, None), Some(Withheld::Test));
        press.severity = Severity::Unverified;
        assert_eq!(withheld(&press, young, None), Some(Withheld::Unverified));
        press.severity = Severity::Critical;
        for origin in [Origin::Retained, Origin::Replayed] {
            press.origin = origin;
            assert_eq!(withheld(&press, young, None), Some(Withheld::Unverified));
        }
        let pre = event(Kind::FireSmokePrealarm);
        assert_eq!(withheld(&pre, young, None), Some(Withheld::NotCritical));
    }

    /// A point as the box keeps it: the conditions that are there, and the machine both sides share.
    #[derive(Default)]
    struct Boxed {
        condition: Condition,
        open: BTreeSet<Kind>,
    }

    impl Boxed {
        /// What happens at the box, and what it tells of it.
        fn does(&mut self, nature: Nature, kind: Kind, state: State, test: bool) -> Option<Event> {
            let at = Timestamp::from_micros(5);
            let mut event = event(kind);
            event.state = state;
            let input = match (kind, state) {
                (Kind::AlarmAcknowledged, _) => Input::Acknowledge,
                (Kind::AlarmReset, _) => Input::Reset { looked: true },
                (_, State::Raised) => {
                    if !nature.momentary && !self.open.insert(kind) {
                        return None;
                    }
                    if test {
                        event.severity = Severity::Test;
                        return Some(event);
                    }
                    Input::Raise { more_severe: true }
                }
                (_, State::Cleared) => {
                    if !self.open.remove(&kind) {
                        return None;
                    }
                    if !self.open.is_empty() {
                        return Some(event);
                    }
                    Input::Restoral
                }
            };
            let (condition, outcome) = step(self.condition, nature, input, at);
            let refused = matches!(outcome, domain::alarm::Outcome::Refused(_));
            let idle = kind == Kind::AlarmReset && self.condition == Condition::Normal;
            if refused || idle {
                return None;
            }
            self.condition = condition;
            if kind == Kind::AlarmReset {
                self.open.clear();
            }
            Some(event)
        }
    }

    proptest::proptest! {
        #[test]
        fn box_and_cloud_fold_one_sequence_to_the_same_condition(
            momentary in proptest::bool::ANY,
            latching in proptest::bool::ANY,
            moves in proptest::collection::vec((0usize..6, proptest::bool::ANY), 1..60),
        ) {
            let nature = Nature { momentary, latching };
            let (mut boxed, mut known): (Boxed, Option<Point>) = (Boxed::default(), None);
            for (seq, (what, test)) in moves.into_iter().enumerate() {
                let (kind, state) = [
                    (Kind::FireSmokeAlarm, State::Raised),
                    (Kind::FireHeatAlarm, State::Raised),
                    (Kind::FireSmokeAlarm, State::Cleared),
                    (Kind::FireHeatAlarm, State::Cleared),
                    (Kind::AlarmAcknowledged, State::Raised),
                    (Kind::AlarmReset, State::Raised),
                ][what];
                let Some(event) = boxed.does(nature, kind, state, test) else {
                    continue;
                };
                let seq = u64::try_from(seq).unwrap() + 1;
                known = fold(known.as_ref(), nature, &arrival(&event, 1, seq)).or(known);
                let at_cloud = known.as_ref().map_or(Condition::Normal, |point| point.condition);
                proptest::prop_assert_eq!(at_cloud, boxed.condition);
            }
        }
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
