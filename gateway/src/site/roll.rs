//! Who is inside, and what a tap at a reader means for it (D8).
//!
//! Owns the children's presence at this box and the judgement of one tap. Never guesses: what a tap
//! does not prove stays pending, and a child counts as inside until an adult took it.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::config::Passage;
use domain::digest::CredentialDigest;
use domain::event::{HandedBy, Holder};
use domain::id::{ChildId, PersonId};
use domain::presence::{Movement, Presence, Standing, fold};
use domain::time::Timestamp;

/// Two taps within this span are one.
pub const ONE_TAP: Duration = Duration::from_secs(60);

/// An adult who leaves this soon after handing a child in has most likely left without it: a carer
/// decides, and until then the child counts as inside.
pub const DROP_OFF: Duration = Duration::from_secs(15 * 60);

/// What a tap proves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// Nothing about a child.
    Nothing,
    /// A child came in or left.
    Moved {
        /// Who.
        child: ChildId,
        /// In, or out.
        inside: bool,
        /// Who handed it over or took it.
        by: HandedBy,
    },
    /// A carer must decide.
    Pending(Vec<ChildId>),
}

/// The roll of children at this box.
#[derive(Clone, Default)]
pub struct Roll {
    children: BTreeMap<ChildId, Presence>,
    /// Adults whose tap left a choice to a carer, and until when (monotonic) another tap of theirs
    /// asks nothing new and decides nothing. Forgotten by a restart.
    asked: BTreeMap<CredentialDigest, Duration>,
}

/// One tap.
#[derive(Clone, Copy, Debug)]
pub struct Tap<'t> {
    /// The credential.
    pub credential: CredentialDigest,
    /// Whose.
    pub holder: Holder,
    /// Which way the reader counts.
    pub passage: Passage,
    /// The children the holder may bring and fetch.
    pub charges: &'t [ChildId],
    /// Wall time.
    pub at: Timestamp,
    /// Monotonic time.
    pub monotonic: Duration,
}

impl Roll {
    /// Puts back what the store knows of a child.
    pub fn restore(&mut self, child: ChildId, presence: Presence) {
        self.children.insert(child, presence);
    }

    /// Takes a movement into account; the child's presence after it.
    pub fn fold(&mut self, movement: &Movement) -> &Presence {
        let known = self.children.remove(&movement.child);
        self.children
            .entry(movement.child)
            .or_insert(fold(known, movement))
    }

    /// What is known of a child.
    #[must_use]
    pub fn presence(&self, child: &ChildId) -> Option<&Presence> {
        self.children.get(child)
    }

    /// Everyone a roll call must find.
    pub fn inside(&self) -> impl Iterator<Item = (ChildId, &Presence)> {
        self.children
            .iter()
            .filter(|(_, presence)| presence.standing.counts_as_inside())
            .map(|(child, presence)| (*child, presence))
    }

    /// What a tap proves.
    pub fn judge(&mut self, tap: &Tap<'_>) -> Finding {
        match tap.holder {
            Holder::Child(child) => self.own_card(child, tap),
            Holder::Guardian(person) | Holder::Pickup(person) => self.adult(person, tap),
            Holder::Staff(_) | Holder::Visitor(_) => Finding::Nothing,
        }
    }

    fn own_card(&self, child: ChildId, tap: &Tap<'_>) -> Finding {
        let (standing, fresh) = self.standing(&child, tap.at);
        let inside = matches!(standing, Some(Standing::Inside { .. }));
        let goes_in = match tap.passage {
            Passage::None => return Finding::Nothing,
            Passage::In => true,
            Passage::Out => false,
            Passage::Both if fresh => return Finding::Nothing,
            Passage::Both => !inside,
        };
        let said_already = fresh && goes_in == inside;
        if said_already {
            Finding::Nothing
        } else if goes_in {
            Finding::Moved {
                child,
                inside: true,
                by: HandedBy::Unknown,
            }
        } else {
            Finding::Pending(vec![child])
        }
    }

    fn adult(&mut self, person: PersonId, tap: &Tap<'_>) -> Finding {
        self.asked.retain(|_, until| tap.monotonic < *until);
        if self.asked.contains_key(&tap.credential) {
            return Finding::Nothing;
        }
        let can_move = |child: &ChildId| self.eligible(child, tap);
        let eligible: Vec<ChildId> = tap.charges.iter().copied().filter(can_move).collect();
        match eligible[..] {
            [] => Finding::Nothing,
            [child] => {
                let (standing, _) = self.standing(&child, tap.at);
                let was_inside = standing.is_some_and(|s| s.counts_as_inside());
                let inside = match tap.passage {
                    Passage::In => true,
                    Passage::Out => false,
                    Passage::Both => !was_inside,
                    Passage::None => return Finding::Nothing,
                };
                if !inside && self.just_handed_in(&child, person, tap.at) {
                    return self.ask(vec![child], tap, DROP_OFF);
                }
                Finding::Moved {
                    child,
                    inside,
                    by: HandedBy::Person(person),
                }
            }
            _ => self.ask(eligible, tap, ONE_TAP),
        }
    }

    fn ask(&mut self, candidates: Vec<ChildId>, tap: &Tap<'_>, quiet: Duration) -> Finding {
        self.asked
            .insert(tap.credential, tap.monotonic.saturating_add(quiet));
        Finding::Pending(candidates)
    }

    /// Whether this very adult handed the child in within [`DROP_OFF`].
    fn just_handed_in(&self, child: &ChildId, person: PersonId, at: Timestamp) -> bool {
        self.children.get(child).is_some_and(|presence| {
            let by_them = matches!(
                presence.standing,
                Standing::Inside { by: HandedBy::Person(by), .. } if by == person
            );
            by_them && at.since(presence.since) < DROP_OFF
        })
    }

    /// Whether an adult's tap can move a child this way. One that went in a moment ago with the
    /// same tap does not leave with it; one whose own card came first gets the adult's name.
    fn eligible(&self, child: &ChildId, tap: &Tap<'_>) -> bool {
        let (standing, fresh) = self.standing(child, tap.at);
        match (tap.passage, standing) {
            (Passage::None, _) => false,
            (Passage::In, Some(Standing::Inside { by, .. })) => fresh && by == HandedBy::Unknown,
            (Passage::In, _) => true,
            (Passage::Out, Some(Standing::Inside { .. })) => !fresh,
            (Passage::Out, Some(Standing::LeavingUnconfirmed)) => true,
            (Passage::Out, Some(Standing::Outside { .. }) | None) => false,
            (Passage::Both, Some(Standing::LeavingUnconfirmed)) => true,
            (Passage::Both, _) => !fresh,
        }
    }

    /// What is known of a child, and whether it moved within [`ONE_TAP`].
    fn standing(&self, child: &ChildId, at: Timestamp) -> (Option<Standing>, bool) {
        let presence = self.children.get(child);
        let fresh = presence.is_some_and(|p| p.since <= at && at.since(p.since) < ONE_TAP);
        (presence.map(|p| p.standing), fresh)
    }
}
