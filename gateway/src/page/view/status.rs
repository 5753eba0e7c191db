//! How the box is, for whoever is logged in. Silent panic points are left out for installers.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::alarm::Condition;
use domain::config::{Config, Place, Role};
use domain::id::{GatewayId, PointKey};
use domain::kind::{Kind, Lane, Severity};
use domain::time::ClockTrust;
use serde::Serialize;

use super::{CARERS, Millis, is_stale};
use crate::forwarding::NOT_FORWARDED_AFTER;
use crate::page::look::{Line, Look, WaitingAlarm};
use crate::page::session::Who;
use crate::site::{Alarm, View, is_silent};
use crate::status::Shown;
use crate::store::Standing;

/// How the box is.
#[derive(Debug, Serialize)]
pub struct Status {
    now: Millis,
    clock_trusted: bool,
    gateway: GatewayId,
    centre: Option<Place>,
    cloud: Cloud,
    config: Version,
    as_of: Option<Millis>,
    devices_connected: u64,
    lanes: Vec<Waits>,
    faults: Vec<Fault>,
    alarms: Vec<AlarmShown>,
    not_forwarded: Option<NotForwarded>,
    devices: Vec<Device>,
}

#[derive(Debug, Serialize)]
struct Cloud {
    up: bool,
    since: Millis,
    trouble: Option<String>,
}

/// How old the list of people and devices is.
#[derive(Debug, Serialize)]
pub struct Version {
    version: u64,
    made_at: Option<Millis>,
    /// The cloud would have sent a newer one.
    current: bool,
}

#[derive(Debug, Serialize)]
struct Waits {
    lane: Lane,
    rows: u64,
    oldest_s: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Fault {
    code: &'static str,
    since: Option<Millis>,
    count: Option<u64>,
}

#[derive(Debug, Serialize)]
struct AlarmShown {
    #[serde(flatten)]
    place: PointShown,
    kinds: Vec<Kind>,
    /// Only from a broker's copy, or from a device's own test.
    worst: Option<Severity>,
    since: Option<Millis>,
    active: bool,
    acknowledged: bool,
    silent: bool,
}

#[derive(Debug, Serialize)]
struct PointShown {
    point: String,
    zone: Option<String>,
    role: Option<Role>,
}

impl PointShown {
    fn of(view: Option<&View>, point: &PointKey) -> Self {
        Self {
            point: point.to_string(),
            zone: view.and_then(|view| view.zone_of(point)).map(str::to_owned),
            role: view.and_then(|view| view.enrolment(point)).map(|e| e.role),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct NotForwarded {
    alarms: Vec<Case>,
    /// Others may wait that cannot be read.
    doubtful: bool,
}

#[derive(Debug, Serialize)]
struct Case {
    #[serde(flatten)]
    place: Option<PointShown>,
    kind: Kind,
    at: Millis,
    silent: bool,
}

#[derive(Debug, Serialize)]
struct Device {
    device: String,
    zone: Option<String>,
    roles: Vec<Role>,
    heard: Option<Millis>,
    supervised: bool,
    troubles: Vec<TroubleShown>,
}

#[derive(Debug, Serialize)]
struct TroubleShown {
    kind: Kind,
    since: Option<Millis>,
}

/// The status, for a person.
#[must_use]
pub fn status(
    who: &Who,
    shown: &Shown,
    look: &Look,
    line: &Line,
    config: Option<&Config>,
) -> Status {
    let sees_silent = who.is_any(CARERS);
    let view = look.view.as_deref();
    let alarms = view.map_or(&[][..], |view| &view.alarms);
    Status {
        now: look.now.wall.into(),
        clock_trusted: look.now.clock_trust != ClockTrust::Unset,
        gateway: shown.gateway,
        centre: config.and_then(|config| config.place.clone()),
        cloud: Cloud {
            up: line.up,
            since: line.since.into(),
            trouble: line.trouble.clone(),
        },
        config: version(config, line),
        as_of: view.map(|view| view.at.into()),
        devices_connected: shown.broker.sessions.load(Ordering::Relaxed),
        lanes: lanes(shown),
        faults: faults(shown, look, line),
        alarms: alarms
            .iter()
            .filter(|alarm| sees_silent || !alarm.silent)
            .map(|alarm| alarm_shown(view, alarm))
            .collect(),
        not_forwarded: not_forwarded(look, sees_silent),
        devices: view
            .map(|view| devices(view, sees_silent))
            .unwrap_or_default(),
    }
}

/// How old the list of people and devices is.
#[must_use]
pub fn version(config: Option<&Config>, line: &Line) -> Version {
    Version {
        version: config.map_or(0, |config| config.version),
        made_at: config.and_then(|config| config.made_at).map(Millis::from),
        current: line.up,
    }
}

fn lanes(shown: &Shown) -> Vec<Waits> {
    let waiting = *shown.waiting.borrow();
    let waits = |(lane, age): (Lane, Option<Duration>)| Waits {
        lane,
        rows: shown.gauges.lane(lane).rows.get(),
        oldest_s: age.map(|age| age.as_secs()),
    };
    Lane::ALL.into_iter().zip(waiting).map(waits).collect()
}

fn faults(shown: &Shown, look: &Look, line: &Line) -> Vec<Fault> {
    let Standing {
        failing,
        shedding,
        damaged,
        ..
    } = *shown.standing.borrow();
    let afloat = shown.afloat.borrow().epoch().is_some();
    let (rejected, unmapped) = (shown.gauges.rejected.get(), shown.gauges.unmapped.get());
    let qos0 = &shown.broker.publishes_qos0;
    let qos0 = qos0.load(Ordering::Relaxed);
    let down = (!line.up).then(|| line.since.into());
    [
        (*shown.version.borrow() == 0, "no_config", None, None),
        (!line.up, "link_down", down, None),
        (failing || afloat, "store_failing", None, None),
        (shedding, "store_full", None, None),
        (damaged, "store_damaged", None, None),
        (is_stale(look), "not_answering", None, None),
        (
            look.now.clock_trust == ClockTrust::Unset,
            "clock",
            None,
            None,
        ),
        (unmapped > 0, "unmapped", None, Some(unmapped)),
        (rejected > 0, "rejected", None, Some(rejected)),
        (qos0 > 0, "qos0", None, Some(qos0)),
    ]
    .into_iter()
    .filter(|(wrong, ..)| *wrong)
    .map(|(_, code, since, count)| Fault { code, since, count })
    .collect()
}

fn alarm_shown(view: Option<&View>, alarm: &Alarm) -> AlarmShown {
    let (since, active, acknowledged) = match alarm.condition {
        Condition::Normal => (None, false, true),
        Condition::Active {
            since,
            acknowledged,
        } => (Some(since), true, acknowledged),
        Condition::Restored {
            since,
            acknowledged,
            ..
        } => (Some(since), false, acknowledged),
    };
    AlarmShown {
        place: PointShown::of(view, &alarm.point),
        kinds: alarm.kinds.iter().map(|(kind, _)| *kind).collect(),
        worst: alarm.kinds.first().map(|(_, severity)| *severity),
        since: since.map(Millis::from),
        active,
        acknowledged,
        silent: alarm.silent,
    }
}

/// What somebody must telephone about, since it did not get through in time (G7).
pub(super) fn not_forwarded(look: &Look, sees_silent: bool) -> Option<NotForwarded> {
    let late = look
        .waiting
        .alarms
        .iter()
        .filter(|alarm| alarm.age > NOT_FORWARDED_AFTER && (sees_silent || !alarm.silent));
    let case = |alarm: &WaitingAlarm| Case {
        place: alarm
            .point
            .as_ref()
            .map(|point| PointShown::of(look.view.as_deref(), point)),
        kind: alarm.kind,
        at: alarm.at.into(),
        silent: alarm.silent,
    };
    let found = NotForwarded {
        alarms: late.map(case).collect(),
        doubtful: look.waiting.doubtful,
    };
    (found.doubtful || !found.alarms.is_empty()).then_some(found)
}

/// When a silent button was last heard is when it was pressed, which is for those alone who may know.
fn devices(view: &View, sees_silent: bool) -> Vec<Device> {
    let mut devices: BTreeMap<&str, Device> = BTreeMap::new();
    for enrolment in &view.config.enrolments {
        let device = devices
            .entry(enrolment.device.as_str())
            .or_insert_with(|| Device {
                device: enrolment.device.to_string(),
                zone: view.zone_of(&enrolment.key()).map(str::to_owned),
                roles: Vec::new(),
                heard: None,
                supervised: false,
                troubles: Vec::new(),
            });
        device.supervised |= enrolment.interval_s.is_some();
        if !device.roles.contains(&enrolment.role) {
            device.roles.push(enrolment.role);
        }
    }
    let is_hidden = |point: &PointKey| {
        let mut all = view.config.enrolments.iter();
        !sees_silent && all.any(|e| e.device == point.device && is_silent(e))
    };
    for (point, at) in view.heard.iter().filter(|(point, _)| !is_hidden(point)) {
        if let Some(device) = devices.get_mut(point.device.as_str()) {
            device.heard = device.heard.max(Some((*at).into()));
        }
    }
    for trouble in &view.troubles {
        let name = trouble.point.device.as_str();
        // A bridge nobody enrolled has troubles too.
        let device = devices.entry(name).or_insert_with(|| Device {
            device: name.to_owned(),
            zone: None,
            roles: Vec::new(),
            heard: None,
            supervised: false,
            troubles: Vec::new(),
        });
        device.troubles.push(TroubleShown {
            kind: trouble.kind,
            since: trouble.since.map(Millis::from),
        });
    }
    let mut devices: Vec<Device> = devices.into_values().collect();
    devices.sort_by_key(|device| device.troubles.is_empty());
    devices
}
