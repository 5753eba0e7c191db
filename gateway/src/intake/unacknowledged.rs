//! Enrolled devices heard at QoS 0: what they send is not acknowledged, and nobody sends it again. Pure.
//!
//! Shown only. Not kept over a restart, and bounded by what is enrolled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::config::{Config, Enrolment};
use domain::id::DeviceId;

/// Time after its last message at QoS 0 from which a device is no longer listed.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Unacknowledged(BTreeMap<DeviceId, Unsure>);

/// One device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsure {
    /// Messages at QoS 0.
    pub messages: u64,
    /// Monotonic time of the last one.
    pub last: Duration,
    /// The log-in or bridge it came through last.
    pub through: Arc<str>,
    /// Which adapter reads it: the cure hangs on it.
    pub ecosystem: String,
    /// It has a life-safety role.
    pub is_life_safety: bool,
}

impl Unacknowledged {
    /// Notes a message at QoS 0 of an enrolled device.
    pub fn note(&mut self, enrolment: &Enrolment, through: &Arc<str>, now: Duration) {
        if let Some(known) = self.0.get_mut(&enrolment.device) {
            known.messages += 1;
            known.last = now;
            known.through = Arc::clone(through);
            known.is_life_safety |= enrolment.role.is_life_safety();
            return;
        }
        let unsure = Unsure {
            messages: 1,
            last: now,
            through: Arc::clone(through),
            ecosystem: enrolment.ecosystem.clone(),
            is_life_safety: enrolment.role.is_life_safety(),
        };
        self.0.insert(enrolment.device.clone(), unsure);
    }

    /// Forgets who is not enrolled any more.
    pub fn keep_enrolled(&mut self, config: &Config) {
        let is_enrolled = |device: &DeviceId| config.enrolments.iter().any(|e| e.device == *device);
        self.0.retain(|device, _| is_enrolled(device));
    }

    /// Those heard at QoS 0 within [`FORGOTTEN_AFTER`].
    pub fn listed(&self, now: Duration) -> impl Iterator<Item = (&DeviceId, &Unsure)> {
        let is_recent = move |unsure: &Unsure| now.saturating_sub(unsure.last) < FORGOTTEN_AFTER;
        self.0.iter().filter(move |(_, unsure)| is_recent(unsure))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{config, enrolment};
    use domain::config::Role;

    #[test]
    fn a_device_is_listed_until_a_day_after_its_last_message_at_qos_0() {
        let mut list = Unacknowledged::default();
        let at = |hours: u64| Duration::from_secs(hours * 3600);
        let button = enrolment("btn", "antuo/v1/btn/button", Role::PanicButton);
        let door = enrolment("door", "antuo/v1/door/contact", Role::Door);
        list.note(&door, &"door".into(), at(0));
        list.note(&button, &"btn".into(), at(0));
        list.note(&button, &"bridge:house".into(), at(1));
        let listed: Vec<_> = list.listed(at(24)).collect();
        let [(device, unsure)] = listed[..] else {
            unreachable!("{listed:?}")
        };
        assert_eq!((device.as_str(), unsure.messages), ("btn", 2));
        assert_eq!(
            (&*unsure.through, unsure.is_life_safety),
            ("bridge:house", true)
        );
        assert_eq!(list.listed(at(25)).count(), 0);
    }

    #[test]
    fn who_is_not_enrolled_any_more_is_forgotten() {
        let mut list = Unacknowledged::default();
        let gone = enrolment("gone", "antuo/v1/gone/x", Role::Smoke);
        let door = enrolment("door", "antuo/v1/door/contact", Role::Door);
        list.note(&gone, &"gone".into(), Duration::ZERO);
        list.note(&door, &"door".into(), Duration::ZERO);
        list.keep_enrolled(&config(1));
        let left: Vec<_> = list
            .listed(Duration::ZERO)
            .map(|(d, _)| d.as_str())
            .collect();
        assert_eq!(left, ["door"]);
    }
}
