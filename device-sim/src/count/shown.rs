//! What the cloud shows, signal by signal: every acknowledged one once, and no other.

use super::{Sheet, Tally, is_alarm, is_countable, is_signal, words};
use crate::books::Entry;
use crate::ledger::Deed;
use crate::town::Passage;
use crate::view::StoredEvent;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

impl Sheet<'_> {
    pub(super) fn count_messages(&self, tally: &mut Tally) {
        let events: BTreeSet<(&str, &str, &str)> = self
            .observed
            .events
            .iter()
            .filter_map(|(_, event)| {
                Some((
                    event.centre.as_str(),
                    event.device.as_str(),
                    event.vendor_id.as_deref()?,
                ))
            })
            .collect();
        let family: BTreeSet<(Uuid, &str)> = self
            .observed
            .family
            .iter()
            .filter_map(|(child, event)| Some((*child, event.vendor_id.as_deref()?)))
            .collect();
        for entry in self
            .books
            .entries
            .iter()
            .filter(|entry| is_countable(&entry.sent.deed))
        {
            let sent = &entry.sent;
            if sent.qos == 0 {
                tally.unacknowledged += 1;
                continue;
            }
            tally.published += 1;
            let Some(puback_at) = entry.puback_at else {
                continue;
            };
            tally.puback += 1;
            let shown = match &sent.deed {
                Deed::Tap { children, .. } => children
                    .iter()
                    .any(|child| family.contains(&(*child, sent.id.as_str()))),
                Deed::Press
                | Deed::AlarmRaised
                | Deed::AlarmCleared
                | Deed::Level { .. }
                | Deed::Background
                | Deed::Damaged => events.contains(&(
                    sent.centre.to_string().as_str(),
                    sent.device.as_str(),
                    sent.id.as_str(),
                )),
            };
            if shown {
                tally.journalled += 1;
            } else {
                let at = puback_at.china_hms();
                tally.missing.push(format!(
                    "{}: PUBACK at {at}, not shown by the cloud",
                    words(self.town, entry)
                ));
            }
        }
    }

    pub(super) fn check_events(&self, tally: &mut Tally) {
        let mut seen = BTreeSet::new();
        let mut nameless: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
        for (incident, event) in self
            .observed
            .events
            .iter()
            .filter(|(_, event)| is_signal(event))
        {
            let spot = (
                event.centre.as_str(),
                event.device.as_str(),
                event.point.as_str(),
            );
            let place = format!(
                "event {} of {}/{} in incident {incident}",
                event.event, event.device, event.point
            );
            let Some(id) = event.vendor_id.as_deref() else {
                *nameless.entry(spot).or_default() += 1;
                continue;
            };
            let entry = self.by_id.get(id).filter(|entry| {
                let sent = &entry.sent;
                is_alarm(&sent.deed)
                    && (
                        sent.centre.to_string().as_str(),
                        &*sent.device,
                        &*sent.point,
                    ) == spot
            });
            match entry {
                None => tally
                    .doubled
                    .push(format!("{place}: vendor id {id} was sent by no such point")),
                Some(entry) if !seen.insert(id) => {
                    tally.doubled.push(format!(
                        "{place}: {} is stored once more",
                        words(self.town, entry)
                    ));
                }
                Some(entry) => self.compare(tally, entry, event, &place),
            }
        }
        for (spot, shown) in nameless {
            let sent = self.books.entries.iter().filter(|entry| {
                let sent = &entry.sent;
                let same = (
                    sent.centre.to_string().as_str(),
                    &*sent.device,
                    &*sent.point,
                ) == spot;
                same && sent.qos == 0 && is_alarm(&sent.deed)
            });
            let sent = sent.count();
            for _ in sent..shown {
                let (_, device, point) = spot;
                tally.doubled.push(format!(
                    "{device}/{point}: {shown} events without vendor id, {sent} changes sent"
                ));
            }
        }
    }

    fn compare(&self, tally: &mut Tally, entry: &Entry, event: &StoredEvent, place: &str) {
        let state = if entry.sent.deed == Deed::AlarmCleared {
            "cleared"
        } else {
            "raised"
        };
        if (event.kind.as_str(), event.state.as_str()) != (entry.sent.kind.as_str(), state) {
            let shown = format!("shown as {} {}", event.kind, event.state);
            tally
                .contradictions
                .push(format!("{place}: {} {shown}", words(self.town, entry)));
        }
    }

    pub(super) fn check_family(&self, tally: &mut Tally) {
        let mut seen = BTreeSet::new();
        let known = [
            "presence.checked_in",
            "presence.checked_out",
            "presence.pending",
        ];
        for (child, event) in self
            .observed
            .family
            .iter()
            .filter(|(_, event)| known.contains(&event.kind.as_str()))
        {
            let place = format!("{} of child {child} (event {})", event.kind, event.event);
            let tap = event
                .vendor_id
                .as_deref()
                .and_then(|id| Some((id, *self.by_id.get(id)?)));
            let Some((id, entry)) = tap else {
                let id = event.vendor_id.as_deref().unwrap_or("none");
                tally
                    .doubled
                    .push(format!("{place}: vendor id {id} was sent by no reader"));
                continue;
            };
            let Deed::Tap {
                holder,
                children,
                passage,
            } = &entry.sent.deed
            else {
                tally
                    .doubled
                    .push(format!("{place}: {} is no tap", words(self.town, entry)));
                continue;
            };
            if !children.contains(child) {
                tally.doubled.push(format!(
                    "{place}: {} is another child's tap",
                    words(self.town, entry)
                ));
            } else if !seen.insert((child, id)) {
                tally.doubled.push(format!(
                    "{place}: {} is shown once more",
                    words(self.town, entry)
                ));
            } else if expected_kind(*passage, *holder, children)
                .is_some_and(|expected| expected != event.kind)
            {
                tally.contradictions.push(format!(
                    "{place}: {} means something else",
                    words(self.town, entry)
                ));
            }
        }
    }
}

/// What one child's tap is shown as; a tap that could mean several children may wait for a person.
fn expected_kind(passage: Passage, holder: Uuid, children: &[Uuid]) -> Option<&'static str> {
    match passage {
        _ if children.len() != 1 => None,
        Passage::Out if children.contains(&holder) => Some("presence.pending"),
        Passage::In => Some("presence.checked_in"),
        Passage::Out => Some("presence.checked_out"),
        Passage::None | Passage::Both => None,
    }
}
