//! Who is inside: a fold of movements that gives one state in any order of arrival (D8).
//!
//! Owns one child's standing. Never infers a departure: a child is outside only because a movement
//! said so with an adult, and an exit by the child's own card stays pending, counted as inside,
//! until a carer names the adult.

use serde::{Deserialize, Serialize};

use crate::event::{Detail, Event, HandedBy, How};
use crate::id::{ChildId, EventId};
use crate::kind::Kind;
use crate::time::{Order, Timestamp};

/// Where a movement stands among all others (D5): hybrid time, then the node, then its number.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Rank {
    /// Hybrid logical time.
    pub order: Order,
    /// The node that made it: a gateway id, or the cloud's.
    pub node: String,
    /// The event itself, to part two made in one instant.
    pub event: Option<EventId>,
}

/// What the last movement of a child said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Standing {
    /// Inside.
    Inside {
        /// Who handed the child in.
        by: HandedBy,
        /// By what means.
        how: How,
    },
    /// At the exit by its own card: counts as inside until a carer names the adult.
    LeavingUnconfirmed,
    /// Left with somebody.
    Outside {
        /// Who took the child.
        by: HandedBy,
        /// By what means.
        how: How,
    },
}

impl Standing {
    /// Whether a roll call must find the child.
    #[must_use]
    pub const fn counts_as_inside(&self) -> bool {
        match self {
            Self::Inside { .. } | Self::LeavingUnconfirmed => true,
            Self::Outside { .. } => false,
        }
    }
}

/// One movement of one child, as the fold takes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Movement {
    /// Whose.
    pub child: ChildId,
    /// Among all others.
    pub rank: Rank,
    /// When, by the clock of the node that recorded it.
    pub at: Timestamp,
    /// What it says.
    pub standing: Standing,
}

impl Movement {
    /// The movement an event tells of, if it tells of one. `node` names who made the event.
    #[must_use]
    pub fn of(event: &Event, node: &str) -> Option<Self> {
        let (child, standing) = match (&event.kind, &event.detail) {
            (Kind::PresenceCheckedIn, Detail::Movement { child, by, how }) => {
                (*child, Standing::Inside { by: *by, how: *how })
            }
            (Kind::PresenceCheckedOut, Detail::Movement { child, by, how }) => {
                (*child, Standing::Outside { by: *by, how: *how })
            }
            (Kind::PresencePending, Detail::Pending { candidates, .. }) => match candidates[..] {
                [child] => (child, Standing::LeavingUnconfirmed),
                _ => return None,
            },
            (
                Kind::PresenceCorrected,
                Detail::Correction {
                    child, inside, by, ..
                },
            ) => {
                let (by, how) = (HandedBy::Person(*by), How::Staff);
                let standing = if *inside {
                    Standing::Inside { by, how }
                } else {
                    Standing::Outside { by, how }
                };
                (*child, standing)
            }
            _ => return None,
        };
        Some(Self {
            child,
            rank: Rank {
                order: event.order,
                node: node.to_owned(),
                event: Some(event.id),
            },
            at: event.received_at,
            standing,
        })
    }
}

/// A child's presence as far as the movements known tell it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Presence {
    /// The rank of the movement that decides.
    pub rank: Rank,
    /// When it happened.
    pub since: Timestamp,
    /// What it said.
    pub standing: Standing,
}

/// Takes one more movement into account. The latest by rank decides, so order of arrival and
/// duplicates change nothing.
#[must_use]
pub fn fold(known: Option<Presence>, movement: &Movement) -> Presence {
    match known {
        Some(known) if known.rank >= movement.rank => known,
        Some(_) | None => Presence {
            rank: movement.rank.clone(),
            since: movement.at,
            standing: movement.standing,
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::id::PersonId;
    use proptest::prelude::*;

    fn movement(order: i64, node: u8, inside: bool) -> Movement {
        let by = HandedBy::Person(PersonId::at(Timestamp::from_micros(order), [node; 10]));
        let how = How::Card;
        Movement {
            child: ChildId::at(Timestamp::default(), [1; 10]),
            rank: Rank {
                order: Order(order),
                node: node.to_string(),
                event: None,
            },
            at: Timestamp::from_micros(order),
            standing: if inside {
                Standing::Inside { by, how }
            } else {
                Standing::Outside { by, how }
            },
        }
    }

    proptest! {
        #[test]
        fn any_order_of_arrival_gives_one_state(
            made in prop::collection::btree_map((0i64..50, 0u8..3), any::<bool>(), 1..20),
            shuffle in any::<u64>(),
        ) {
            let moves: Vec<_> = made.into_iter().map(|((o, n), i)| movement(o, n, i)).collect();
            let straight = moves.iter().fold(None, |known, m| Some(fold(known, m)));
            let mut mixed = moves.clone();
            mixed.extend(moves);
            let len = mixed.len();
            for i in 0..len {
                let j = (shuffle.rotate_left(u32::try_from(i).unwrap()) as usize) % len;
                mixed.swap(i, j);
            }
            let any_way = mixed.iter().fold(None, |known, m| Some(fold(known, m)));
            prop_assert_eq!(straight, any_way);
        }
    }

    #[test]
    fn a_child_at_the_exit_alone_still_counts_as_inside() {
        assert!(Standing::LeavingUnconfirmed.counts_as_inside());
    }
}
