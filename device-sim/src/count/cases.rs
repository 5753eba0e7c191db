//! Cases and what the agencies were told about them: each case has a cause, each message a reason, each agency its
//! message.

use super::{CLOCK_SLACK_US, Sheet, Taken, Tally, hazard_of, is_activation};
use crate::books::Entry;
use crate::clock::Micros;
use crate::dc09::Meaning;
use crate::town::{Agency, Centre};
use crate::view::Incident;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

impl Sheet<'_> {
    pub(super) fn check_cases(&self, tally: &mut Tally) {
        let mut claimed: BTreeSet<&str> = BTreeSet::new();
        let mut nameless_left: BTreeMap<(Uuid, &str, &str), usize> = BTreeMap::new();
        for entry in self
            .books
            .entries
            .iter()
            .filter(|entry| entry.sent.qos == 0 && is_activation(&entry.sent.deed))
        {
            *nameless_left
                .entry((entry.sent.centre, &entry.sent.device, &entry.sent.point))
                .or_default() += 1;
        }
        let mut cases: Vec<&Incident> = self.observed.incidents.iter().collect();
        cases.sort_by_key(|incident| incident.opened_at);
        for case in cases {
            let mut own = 0;
            for event in self
                .events_of(&case.id)
                .filter(|event| event.state == "raised")
            {
                own += match event.vendor_id.as_deref() {
                    Some(id) => usize::from(self.by_id.contains_key(id) && claimed.insert(id)),
                    None => {
                        let centre = event.centre.parse().unwrap_or_default();
                        let left = nameless_left.get_mut(&(
                            centre,
                            event.device.as_str(),
                            event.point.as_str(),
                        ));
                        left.filter(|left| **left > 0).map_or(0, |left| {
                            *left -= 1;
                            1
                        })
                    }
                };
            }
            let caused = match case.hazard.as_str() {
                "panic" | "fire" => own > 0,
                "technical" => true,
                _never_caused => false,
            };
            if !caused {
                let at = case.opened_at.china_hms();
                let (id, hazard, centre) = (&case.id, &case.hazard, &case.centre.name);
                tally.doubled.push(format!(
                    "incident {id} ({hazard}, {centre}, opened {at}) has no signal of its own"
                ));
            }
            self.check_orders(tally, case);
        }
    }

    fn check_orders(&self, tally: &mut Tally, case: &Incident) {
        let mut ordered = BTreeSet::new();
        for order in case
            .dispatches
            .iter()
            .filter(|dispatch| dispatch.purpose == "order")
        {
            if !ordered.insert(&order.receiver.id) {
                let (order, receiver) = (&order.id, &order.receiver.name);
                tally.doubled.push(format!(
                    "incident {}: order {order} to {receiver} is not the first",
                    case.id
                ));
            }
        }
    }

    pub(super) fn check_receivers(&self, tally: &mut Tally) {
        for message in &self.stray {
            let (receiver, account, number, data) = (
                &message.receiver,
                &message.account,
                message.number,
                &message.data,
            );
            tally.doubled.push(format!(
                "{receiver}: message {number:04} of account {account} [{data}] belongs to no zone"
            ));
        }
        let told = self
            .taken
            .iter()
            .filter(|taken| taken.meaning != Meaning::Other);
        tally.dispatches_received = told.count() + self.stray.len();
        for centre in &self.town.centres {
            for agency in Agency::ALL
                .into_iter()
                .filter(|agency| self.books.receivers.contains(agency.word()))
            {
                self.check_reasons(tally, centre, agency);
                self.check_cancels(tally, centre, agency);
                self.check_claims(tally, centre, agency);
            }
        }
        for case in &self.observed.incidents {
            self.check_told(tally, case);
        }
    }

    fn taken_by(&self, centre: Uuid, agency: Agency) -> impl Iterator<Item = &Taken<'_>> {
        self.taken
            .iter()
            .filter(move |taken| taken.centre.id == centre && taken.agency == agency)
    }

    /// Each message about a zone uses up one activation that came before it.
    fn check_reasons(&self, tally: &mut Tally, centre: &Centre, agency: Agency) {
        let mut unused: Vec<(&Entry, u16, Meaning)> = self.activations(centre);
        let gone_off: BTreeMap<u16, Micros> = unused
            .iter()
            .rev()
            .map(|(entry, zone, _)| (*zone, entry.sent.at))
            .collect();
        for taken in self
            .taken_by(centre.id, agency)
            .filter(|taken| is_alarm_message(taken.meaning))
        {
            if (taken.meaning == Meaning::Panic) != (agency == Agency::Police) {
                tally
                    .contradictions
                    .push(format!("{}: not for this agency", told(taken)));
            }
            let Some(zone) = taken.zone else { continue };
            let before = |at: Micros| at.0 <= taken.message.at.0 + CLOCK_SLACK_US;
            let fits = |same_zone: bool| {
                unused.iter().position(|(entry, other, hazard)| {
                    *hazard == taken.meaning
                        && before(entry.sent.at)
                        && (*other == zone || !same_zone)
                })
            };
            let went_off = gone_off.get(&zone).is_some_and(|at| before(*at));
            match fits(true).or_else(|| fits(false)).filter(|_| went_off) {
                Some(reason) => {
                    unused.remove(reason);
                }
                None => tally
                    .doubled
                    .push(format!("{}: no activation of its own", told(taken))),
            }
        }
    }

    /// All activations of a centre, oldest first, with zone number and hazard.
    fn activations(&self, centre: &Centre) -> Vec<(&Entry, u16, Meaning)> {
        let ours = self
            .books
            .entries
            .iter()
            .filter(|entry| entry.sent.centre == centre.id && is_activation(&entry.sent.deed));
        let mut activations: Vec<_> = ours
            .filter_map(|entry| {
                let own = centre.point(&entry.sent.device, &entry.sent.point)?;
                Some((entry, own.number, hazard_of(&own.role)?))
            })
            .collect();
        activations.sort_by_key(|(entry, ..)| entry.sent.at);
        activations
    }

    /// No more cancels than false alarms; and one for each whose order went out.
    fn check_cancels(&self, tally: &mut Tally, centre: &Centre, agency: Agency) {
        let cancels: Vec<_> = self
            .taken_by(centre.id, agency)
            .filter(|taken| taken.meaning == Meaning::Cancel)
            .collect();
        let called_off: Vec<&Incident> = self
            .cases_at(centre)
            .filter(|case| is_false_alarm(case))
            .collect();
        for taken in cancels.iter().skip(called_off.len()) {
            let closed = called_off.len();
            tally.doubled.push(format!(
                "{}: a cancel, but {closed} false alarms were closed",
                told(taken)
            ));
        }
        for case in called_off {
            let was_told = case.dispatches.iter().any(|dispatch| {
                dispatch.purpose != "cancel"
                    && dispatch.received_at.is_some()
                    && dispatch.receiver.agency == agency.word()
            });
            let closed_at = case.closed.as_ref().map_or(Micros(0), |closed| closed.at);
            let cancelled = cancels
                .iter()
                .any(|taken| taken.message.at.0 >= closed_at.0 - CLOCK_SLACK_US);
            if was_told && !cancelled {
                let (id, agency) = (&case.id, agency.word());
                tally.contradictions.push(format!(
                    "incident {id} was closed as false alarm, {agency} got no cancel"
                ));
            }
        }
    }

    /// What the cloud says the receiver took, against what it took.
    fn check_claims(&self, tally: &mut Tally, centre: &Centre, agency: Agency) {
        let (name, word) = (&centre.short_name, agency.word());
        let listed = |counts: &dyn Fn(&crate::view::Dispatch) -> bool| {
            let all = self.cases_at(centre).flat_map(|case| &case.dispatches);
            all.filter(|dispatch| dispatch.receiver.agency == word && counts(dispatch))
                .count()
        };
        let took = |counts: &dyn Fn(Meaning) -> bool| {
            self.taken_by(centre.id, agency)
                .filter(|taken| counts(taken.meaning))
                .count()
        };
        let (claimed, taken) = (
            listed(&|dispatch| dispatch.received_at.is_some()),
            took(&|it| it != Meaning::Other),
        );
        if claimed > taken {
            let text = format!(
                "{name}: the cloud says {claimed} dispatches were received by {word}, which took {taken}"
            );
            tally.contradictions.push(text);
        }
        let (ordered, taken) = (
            listed(&|dispatch| dispatch.purpose != "cancel"),
            took(&is_alarm_message),
        );
        if taken > ordered {
            let text = format!(
                "{name}: {word} took {taken} orders and updates, the cloud lists {ordered}"
            );
            tally.contradictions.push(text);
        }
    }

    /// Whoever must hear of a case has heard of one of its zones since it began.
    fn check_told(&self, tally: &mut Tally, case: &Incident) {
        let Some(centre) = self.town.centre(&case.centre.id) else {
            return;
        };
        let confirmed = case.confirmation.is_some() || !centre.fire_needs_verification;
        let (meaning, agencies): (Meaning, &[Agency]) = match case.hazard.as_str() {
            "panic" => (Meaning::Panic, &[Agency::Police]),
            "fire" if confirmed => (Meaning::Fire, &[Agency::Monitoring, Agency::Fire]),
            "fire" => (Meaning::Fire, &[Agency::Monitoring]),
            _other => return,
        };
        let zones: BTreeSet<u16> = self
            .events_of(&case.id)
            .filter_map(|event| Some(centre.point(&event.device, &event.point)?.number))
            .collect();
        let begun = self
            .events_of(&case.id)
            .filter_map(|event| self.by_id.get(event.vendor_id.as_deref()?))
            .map(|entry| entry.sent.at)
            .min();
        let begun = begun.unwrap_or(Micros(0)).0 - CLOCK_SLACK_US;
        for agency in agencies
            .iter()
            .filter(|agency| self.books.receivers.contains(agency.word()))
        {
            let heard = self.taken_by(centre.id, *agency).any(|taken| {
                taken.meaning == meaning
                    && taken.message.at.0 >= begun
                    && taken.zone.is_some_and(|zone| zones.contains(&zone))
            });
            if !heard {
                let (id, hazard, name) = (&case.id, &case.hazard, &centre.short_name);
                let states: Vec<&str> = case
                    .dispatches
                    .iter()
                    .map(|dispatch| dispatch.state.as_str())
                    .collect();
                let agency = agency.word();
                tally.contradictions.push(format!("incident {id} ({hazard}, {name}): {agency} never heard of it; dispatches: {states:?}"));
            }
        }
    }

    fn cases_at(&self, centre: &Centre) -> impl Iterator<Item = &Incident> {
        let id = centre.id.to_string();
        self.observed
            .incidents
            .iter()
            .filter(move |case| case.centre.id == id)
    }
}

fn is_alarm_message(meaning: Meaning) -> bool {
    matches!(meaning, Meaning::Panic | Meaning::Fire)
}

fn is_false_alarm(case: &Incident) -> bool {
    case.closed
        .as_ref()
        .is_some_and(|closed| closed.cause == "false_alarm")
}

/// A receiver's message in words.
fn told(taken: &Taken<'_>) -> String {
    let Taken {
        message, centre, ..
    } = taken;
    let (receiver, number, data, at) = (
        &message.receiver,
        message.number,
        &message.data,
        message.at.china_hms(),
    );
    format!(
        "{receiver}: message {number:04} [{data}] about {} at {at}",
        centre.short_name
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::super::tests::{Play, one_press};
    use crate::clock::Micros;
    use crate::ledger::Deed;
    use crate::town::Agency;
    use crate::view::Closed;

    const S: i64 = 1_000_000;

    #[test]
    fn a_false_alarm_is_called_off_once() {
        let mut play = one_press();
        play.observed.incidents[0].closed = Some(Closed {
            at: Micros(20 * S),
            cause: "false_alarm".to_owned(),
        });
        assert_eq!(play.tally().contradictions.len(), 1, "no cancel");
        play.told("i1", Agency::Police, 2, "BC011", 20_100);
        assert!(play.tally().clean());
        play.told("i1", Agency::Police, 3, "BC011", 20_200);
        assert_eq!(
            play.tally().doubled.len(),
            1,
            "two cancels for one false alarm"
        );
    }

    #[test]
    fn a_cancel_nobody_asked_for_is_doubled() {
        let mut play = one_press();
        play.told("i1", Agency::Police, 2, "BC011", 20_100);
        assert_eq!(play.tally().doubled.len(), 1);
    }

    #[test]
    fn a_fire_with_two_detectors_and_a_bridged_one_is_clean() {
        let mut play = Play::new();
        play.sent("v1", "smoke-hall", Deed::AlarmRaised, 10);
        play.sent("v2", "smoke-kitchen", Deed::AlarmRaised, 12);
        play.sent("v3", "nap-smoke", Deed::AlarmRaised, 13);
        play.sent("v4", "nap-smoke", Deed::Level { raised: true }, 14);
        play.sent("v5", "smoke-hall", Deed::AlarmCleared, 15);
        play.case("i1", "fire", 10).confirmation = Some("second_point".to_owned());
        play.stored("i1", Some("v1"), "smoke-hall", "raised");
        play.stored("i1", Some("v2"), "smoke-kitchen", "raised");
        play.stored("i1", None, "nap-smoke", "raised");
        play.stored("i1", Some("v5"), "smoke-hall", "cleared");
        play.told("i1", Agency::Monitoring, 1, "FA021", 10_010);
        play.told("i1", Agency::Monitoring, 2, "FA022", 12_010);
        assert_eq!(
            play.tally().contradictions.len(),
            1,
            "confirmed, but the fire service never heard of it"
        );
        play.told("i1", Agency::Fire, 1, "FA021", 12_020);
        play.told("i1", Agency::Fire, 2, "FA023", 13_020);
        let tally = play.tally();
        assert!(tally.clean(), "{tally:?}");
        assert_eq!(
            (tally.published, tally.journalled, tally.unacknowledged),
            (3, 3, 1)
        );
        play.stored("i1", None, "nap-smoke", "raised");
        assert_eq!(
            play.tally().doubled.len(),
            1,
            "the repeated level raised once more"
        );
    }

    #[test]
    fn a_case_opened_by_a_bridged_detector_alone_has_its_cause() {
        let mut play = Play::new();
        play.sent("v1", "nap-smoke", Deed::AlarmRaised, 10);
        play.case("i1", "fire", 10);
        play.stored("i1", None, "nap-smoke", "raised");
        play.told("i1", Agency::Monitoring, 1, "FA023", 10_010);
        assert!(play.tally().clean());
        play.case("i2", "fire", 11);
        assert_eq!(play.tally().doubled.len(), 1);
    }

    #[test]
    fn an_event_shown_in_another_state_is_a_contradiction() {
        let mut play = one_press();
        play.observed.events[0].1.state = "cleared".to_owned();
        assert!(!play.tally().contradictions.is_empty());
    }
}
