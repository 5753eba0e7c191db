//! The two times people feel: press to receiver, card to parent.

use super::{Sheet, Tally, words};
use crate::books::Entry;
use crate::clock::Micros;
use crate::dc09::Meaning;
use crate::ledger::Deed;
use crate::town::{Agency, Passage};
use std::collections::BTreeSet;
use uuid::Uuid;

impl Sheet<'_> {
    pub(super) fn measure(&self, tally: &mut Tally) {
        self.measure_presses(tally);
        self.measure_checkins(tally);
    }

    /// The press that opened a case, and the first message about its zone at the police receiver after it. Later
    /// presses in an open case need not go out, so they have no such time.
    fn measure_presses(&self, tally: &mut Tally) {
        for case in self
            .observed
            .incidents
            .iter()
            .filter(|incident| incident.hazard == "panic")
        {
            let raised = self
                .events_of(&case.id)
                .filter(|event| event.state == "raised");
            let Some(first) = raised.min_by_key(|event| event.seq) else {
                continue;
            };
            let Some(entry) = first.vendor_id.as_deref().and_then(|id| self.by_id.get(id)) else {
                continue;
            };
            let Some(centre) = self.town.centre(&case.centre.id) else {
                continue;
            };
            let zone = centre
                .point(&first.device, &first.point)
                .map(|own| own.number);
            let answered = self.taken.iter().find(|taken| {
                taken.agency == Agency::Police
                    && taken.centre.id == centre.id
                    && taken.meaning == Meaning::Panic
                    && taken.zone == zone
                    && taken.message.at >= entry.sent.at
            });
            match answered {
                _ if entry.sent.excluded || entry.copies > 1 => {
                    tally.press_to_receiver.excluded += 1
                }
                Some(taken) => tally
                    .press_to_receiver
                    .ms
                    .push(taken.message.at.ms_since(entry.sent.at)),
                None => {}
            }
        }
    }

    /// A tap, and the first line of the parent's stream after it that shows the child where the tap put it.
    fn measure_checkins(&self, tally: &mut Tally) {
        let watched: BTreeSet<Uuid> = self.books.seen.iter().map(|seen| seen.child).collect();
        for entry in &self.books.entries {
            let Deed::Tap {
                holder,
                children,
                passage,
            } = &entry.sent.deed
            else {
                continue;
            };
            let [child] = children.as_slice() else {
                continue;
            };
            if entry.puback_at.is_none() || !watched.contains(child) {
                continue;
            }
            if entry.sent.excluded || entry.copies > 1 {
                tally.checkin_to_parent.excluded += 1;
                continue;
            }
            let state = match passage {
                Passage::In => "present",
                Passage::Out if holder == child => "pending_out",
                Passage::Out | Passage::None | Passage::Both => "left",
            };
            let until = self
                .next_tap(*child, entry.sent.at)
                .unwrap_or(Micros(i64::MAX));
            let shown = |seen: &&crate::books::Seen| {
                seen.child == *child
                    && seen.state == state
                    && (entry.sent.at..until).contains(&seen.at)
            };
            match self.books.seen.iter().find(shown) {
                Some(seen) => tally
                    .checkin_to_parent
                    .ms
                    .push(seen.at.ms_since(entry.sent.at)),
                None => tally.contradictions.push(format!(
                    "{}: the parent's open stream never showed the child as {state}",
                    words(self.town, entry)
                )),
            }
        }
    }

    /// When this child's next tap was sent.
    fn next_tap(&self, child: Uuid, after: Micros) -> Option<Micros> {
        let of_child = |entry: &&Entry| matches!(&entry.sent.deed, Deed::Tap { children, .. } if children.contains(&child));
        self.books
            .entries
            .iter()
            .filter(of_child)
            .map(|entry| entry.sent.at)
            .filter(|at| *at > after)
            .min()
    }
}
