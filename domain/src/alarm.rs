//! The state of one point: is it in alarm, has a human looked, may it be reset.
//!
//! One exhaustive table, folded alike by the box (which owns the state) and the cloud (D6). Panic
//! and fire latch: back to normal only by acknowledge, then reset, with the condition gone
//! (GB 50394 5.2.2-5.2.3). A momentary point has no condition: a press makes it `Active` and in the
//! same step `Restored`, so each later press is a new activation that rings again.

use serde::{Deserialize, Serialize};

use crate::config::{Enrolment, Role};
use crate::time::Timestamp;

/// Whether a point is in alarm and whether a human has looked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Condition {
    /// Nothing is wrong.
    #[default]
    Normal,
    /// The condition is there.
    Active {
        /// Since this activation.
        since: Timestamp,
        /// A human has looked.
        acknowledged: bool,
    },
    /// The condition is gone, the alarm is not.
    Restored {
        /// Start of the activation.
        since: Timestamp,
        /// End of the condition.
        restored_at: Timestamp,
        /// A human has looked.
        acknowledged: bool,
    },
}

/// How a point behaves, from its enrolment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Nature {
    /// A press, not a level.
    pub momentary: bool,
    /// Needs acknowledge and reset to return to normal.
    pub latching: bool,
}

impl Nature {
    /// Panic and fire latch whatever the enrolment says.
    #[must_use]
    pub fn of(enrolment: &Enrolment) -> Self {
        let must_latch = match enrolment.role {
            Role::PanicButton
            | Role::Keypad
            | Role::Smoke
            | Role::Heat
            | Role::Gas
            | Role::Co
            | Role::ManualCallPoint
            | Role::Panel => true,
            Role::Water
            | Role::Door
            | Role::Lock
            | Role::Reader
            | Role::Motion
            | Role::Siren
            | Role::Lamp
            | Role::Bridge
            | Role::Node => false,
        };
        Self {
            momentary: enrolment.momentary,
            latching: enrolment.latching || must_latch,
        }
    }
}

/// What happens to a point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// An activation: a press, or a level that rose.
    Raise {
        /// More severe than what was acknowledged: rings again.
        more_severe: bool,
    },
    /// The level fell.
    Restoral,
    /// A named human looked.
    Acknowledge,
    /// A named human returns the point to normal.
    Reset {
        /// The human looked at a level device that never clears by itself.
        looked: bool,
    },
}

/// What the step meant, for the board and the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A new activation: ring.
    Rings,
    /// The same activation said again: a line, no ring.
    Repeat,
    /// The condition ended; the alarm stays.
    Restored,
    /// Returned to normal.
    BackToNormal,
    /// A human has looked.
    Acknowledged,
    /// Nothing changed; worth a note.
    Note,
    /// Not allowed now.
    Refused(Refusal),
}

/// Why an input was refused, in terms of what would be allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Nothing to acknowledge or reset.
    #[error("the point is normal")]
    Normal,
    /// The condition is still there.
    #[error("the condition is still there; restore it, or reset it as one who looked")]
    StillThere,
    /// Acknowledge comes before reset.
    #[error("acknowledge it first")]
    AcknowledgeFirst,
}

/// One step of a point's machine. Pure: the same inputs give the same state on box and cloud.
#[must_use]
pub fn step(from: Condition, nature: Nature, input: Input, at: Timestamp) -> (Condition, Outcome) {
    match input {
        Input::Raise { more_severe } => raise(from, nature, more_severe, at),
        Input::Restoral => restore(from, nature, at),
        Input::Acknowledge => acknowledge(from, nature),
        Input::Reset { looked } => reset(from, looked),
    }
}

fn raise(
    from: Condition,
    nature: Nature,
    more_severe: bool,
    at: Timestamp,
) -> (Condition, Outcome) {
    if nature.momentary {
        let pressed = Condition::Restored {
            since: at,
            restored_at: at,
            acknowledged: false,
        };
        return (pressed, Outcome::Rings);
    }
    let active = Condition::Active {
        since: at,
        acknowledged: false,
    };
    match from {
        Condition::Normal | Condition::Restored { .. } => (active, Outcome::Rings),
        Condition::Active { since, .. } if more_severe => (
            Condition::Active {
                since,
                acknowledged: false,
            },
            Outcome::Rings,
        ),
        Condition::Active { .. } => (from, Outcome::Repeat),
    }
}

fn restore(from: Condition, nature: Nature, at: Timestamp) -> (Condition, Outcome) {
    match from {
        Condition::Active {
            acknowledged: true, ..
        } if !nature.latching => (Condition::Normal, Outcome::BackToNormal),
        Condition::Active {
            since,
            acknowledged,
        } => (
            Condition::Restored {
                since,
                restored_at: at,
                acknowledged,
            },
            Outcome::Restored,
        ),
        Condition::Normal | Condition::Restored { .. } => (from, Outcome::Note),
    }
}

fn acknowledge(from: Condition, nature: Nature) -> (Condition, Outcome) {
    match from {
        Condition::Normal => (from, Outcome::Refused(Refusal::Normal)),
        Condition::Active {
            acknowledged: true, ..
        }
        | Condition::Restored {
            acknowledged: true, ..
        } => (from, Outcome::Note),
        Condition::Active {
            since,
            acknowledged: false,
        } => (
            Condition::Active {
                since,
                acknowledged: true,
            },
            Outcome::Acknowledged,
        ),
        Condition::Restored {
            since,
            restored_at,
            acknowledged: false,
        } if nature.latching => (
            Condition::Restored {
                since,
                restored_at,
                acknowledged: true,
            },
            Outcome::Acknowledged,
        ),
        Condition::Restored { .. } => (Condition::Normal, Outcome::BackToNormal),
    }
}

fn reset(from: Condition, looked: bool) -> (Condition, Outcome) {
    match from {
        Condition::Normal => (from, Outcome::Note),
        Condition::Active {
            acknowledged: false,
            ..
        }
        | Condition::Restored {
            acknowledged: false,
            ..
        } => (from, Outcome::Refused(Refusal::AcknowledgeFirst)),
        Condition::Active {
            acknowledged: true, ..
        } if !looked => (from, Outcome::Refused(Refusal::StillThere)),
        Condition::Active { .. } | Condition::Restored { .. } => {
            (Condition::Normal, Outcome::BackToNormal)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BUTTON: Nature = Nature {
        momentary: true,
        latching: true,
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn any_nature() -> impl Strategy<Value = Nature> {
        (any::<bool>(), any::<bool>()).prop_map(|(momentary, latching)| Nature {
            momentary,
            latching,
        })
    }

    fn any_input() -> impl Strategy<Value = Input> {
        prop_oneof![
            any::<bool>().prop_map(|more_severe| Input::Raise { more_severe }),
            Just(Input::Restoral),
            Just(Input::Acknowledge),
            any::<bool>().prop_map(|looked| Input::Reset { looked }),
        ]
    }

    proptest! {
        #[test]
        fn a_panic_button_works_the_second_time(
            before in prop::collection::vec(any_input(), 0..40)
        ) {
            let mut now = Condition::Normal;
            for (i, input) in before.into_iter().enumerate() {
                now = step(now, BUTTON, input, at(i as i64)).0;
            }
            let (after, outcome) = step(now, BUTTON, Input::Raise { more_severe: false }, at(99));
            prop_assert_eq!(outcome, Outcome::Rings);
            prop_assert_eq!(after, Condition::Restored { since: at(99), restored_at: at(99), acknowledged: false });
        }

        #[test]
        fn nothing_but_a_human_returns_a_latching_point_to_normal(
            momentary in any::<bool>(),
            inputs in prop::collection::vec(any_input(), 1..60)
        ) {
            let nature = Nature { momentary, latching: true };
            let mut now = Condition::Normal;
            for (i, input) in inputs.into_iter().enumerate() {
                let before = now;
                now = step(now, nature, input, at(i as i64)).0;
                if before != Condition::Normal && now == Condition::Normal {
                    let was_reset = matches!(input, Input::Reset { .. });
                    prop_assert!(was_reset);
                }
            }
        }

        #[test]
        fn a_refusal_changes_nothing_and_a_raise_never_leaves_normal(
            nature in any_nature(),
            inputs in prop::collection::vec(any_input(), 1..60)
        ) {
            let mut now = Condition::Normal;
            for (i, input) in inputs.into_iter().enumerate() {
                let before = now;
                let (after, outcome) = step(now, nature, input, at(i as i64));
                if matches!(outcome, Outcome::Refused(_) | Outcome::Note | Outcome::Repeat) {
                    prop_assert_eq!(before, after);
                }
                if matches!(input, Input::Raise { .. }) {
                    prop_assert_ne!(after, Condition::Normal);
                }
                now = after;
            }
        }
    }

    #[test]
    fn a_smoke_head_goes_the_whole_way_round() {
        let smoke = Nature {
            momentary: false,
            latching: true,
        };
        let raise = Input::Raise { more_severe: false };
        let (active, rings) = step(Condition::Normal, smoke, raise, at(1));
        assert_eq!(rings, Outcome::Rings);
        assert_eq!(step(active, smoke, raise, at(2)).1, Outcome::Repeat);
        let early = step(active, smoke, Input::Reset { looked: true }, at(2)).1;
        assert_eq!(early, Outcome::Refused(Refusal::AcknowledgeFirst));
        let (seen, _) = step(active, smoke, Input::Acknowledge, at(3));
        let hot = step(seen, smoke, Input::Reset { looked: false }, at(4)).1;
        assert_eq!(hot, Outcome::Refused(Refusal::StillThere));
        let (gone, _) = step(seen, smoke, Input::Restoral, at(5));
        let (normal, back) = step(gone, smoke, Input::Reset { looked: false }, at(6));
        assert_eq!((normal, back), (Condition::Normal, Outcome::BackToNormal));
        let worse = step(seen, smoke, Input::Raise { more_severe: true }, at(7)).1;
        assert_eq!(worse, Outcome::Rings);
    }
}
