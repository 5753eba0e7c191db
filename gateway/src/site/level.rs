//! Edges of one condition at one point, against what was last known (R1, R2, R4, R6).
//!
//! Pure and durable: the struct is stored as it stands, so a restart changes no answer. Several
//! keys of one condition are OR-ed.

use std::collections::BTreeMap;

use domain::kind::Severity;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Most keys one condition keeps. A further key is not taken in and is told as unmapped.
pub const KEYS_MAX: usize = 64;

/// What is known of one condition at one point.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Level {
    /// What each key last said; none is an explicit "not there".
    keys: BTreeMap<String, Option<Severity>>,
    /// The severity last told, while the condition is there.
    open: Option<Severity>,
    /// Since when it has been told as there; none of one that a program before this kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
}

/// One key's statement.
#[derive(Clone, Copy, Debug)]
pub struct Said<'k> {
    /// The key.
    pub key: &'k str,
    /// How bad, or explicitly not there.
    pub active: Option<Severity>,
    /// Known from a broker's retained copy only.
    pub retained: bool,
    /// A retained first sight asks instead of alarming (fire, alarm, water, intrusion).
    pub asks: bool,
}

/// A change worth an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edge {
    /// There now, or worse than told before.
    Raised(Severity),
    /// Gone.
    Cleared,
    /// Too many keys: the statement was not taken in.
    Full,
}

impl Level {
    /// Whether the condition has been told as there.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The severity last told.
    #[must_use]
    pub const fn open(&self) -> Option<Severity> {
        self.open
    }

    /// Since when the condition has been told as there.
    #[must_use]
    pub const fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Notes when an edge happened. Growing worse is no new beginning.
    pub fn note(&mut self, edge: Edge, at: Timestamp) {
        match edge {
            Edge::Raised(_) => self.since = self.since.or(Some(at)),
            Edge::Cleared => self.since = None,
            Edge::Full => {}
        }
    }

    /// Whether this key last said that the condition is there.
    #[must_use]
    pub fn is_active(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(Option::is_some)
    }

    /// Whether a statement would change nothing, so that it needs no storing.
    #[must_use]
    pub fn knows(&self, said: Said<'_>) -> bool {
        let confirms = said.active.is_some() && !said.retained;
        self.keys.get(said.key) == Some(&said.active)
            && !(confirms && self.open == Some(Severity::Unverified))
    }

    /// Takes a statement in.
    pub fn say(&mut self, said: Said<'_>) -> Option<Edge> {
        let first = self.keys.is_empty();
        if !self.keys.contains_key(said.key) && self.keys.len() >= KEYS_MAX {
            return Some(Edge::Full);
        }
        self.keys.insert(said.key.to_owned(), said.active);
        let worst = self.keys.values().flatten().max().copied();
        let confirms = said.active.is_some() && !said.retained;
        match (self.open, worst) {
            (None, None) => None,
            (None, Some(worst)) => {
                let unverified = said.retained && first && said.asks;
                let told = if unverified {
                    Severity::Unverified
                } else {
                    worst
                };
                self.open = Some(told);
                Some(Edge::Raised(told))
            }
            (Some(_), None) => {
                self.open = None;
                Some(Edge::Cleared)
            }
            (Some(Severity::Unverified), Some(worst)) if confirms => {
                self.open = Some(worst);
                Some(Edge::Raised(worst))
            }
            (Some(told), Some(worst)) if told != Severity::Unverified && worst > told => {
                self.open = Some(worst);
                Some(Edge::Raised(worst))
            }
            (Some(_), Some(_)) => None,
        }
    }

    /// The excuse of a test has run out: whatever is still there is real (D6).
    pub fn end_test(&mut self, real: Severity) -> Option<Edge> {
        if self.open != Some(Severity::Test) {
            return None;
        }
        for said in self.keys.values_mut() {
            if *said == Some(Severity::Test) {
                *said = Some(real);
            }
        }
        self.open = Some(real);
        Some(Edge::Raised(real))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CRITICAL: Option<Severity> = Some(Severity::Critical);

    fn said(key: &str, active: Option<Severity>, retained: bool) -> Said<'_> {
        Said {
            key,
            active,
            retained,
            asks: true,
        }
    }

    #[test]
    fn two_keys_are_one_condition() {
        let mut level = Level::default();
        let raised = Some(Edge::Raised(Severity::Critical));
        assert_eq!(level.say(said("a", CRITICAL, false)), raised);
        assert_eq!(level.say(said("b", CRITICAL, false)), None);
        assert_eq!(level.say(said("a", None, false)), None);
        assert_eq!(level.say(said("b", None, false)), Some(Edge::Cleared));
    }

    #[test]
    fn retained_asks_only_when_nothing_was_known() {
        let mut level = Level::default();
        let unverified = Some(Edge::Raised(Severity::Unverified));
        let critical = Some(Edge::Raised(Severity::Critical));
        assert_eq!(level.say(said("a", CRITICAL, true)), unverified);
        assert_eq!(level.say(said("a", CRITICAL, true)), None);
        assert_eq!(level.say(said("a", CRITICAL, false)), critical);
        assert_eq!(level.say(said("a", None, true)), Some(Edge::Cleared));
        assert_eq!(level.say(said("a", CRITICAL, true)), critical);
        let mut door = Level::default();
        let plain = Said {
            asks: false,
            ..said("a", Some(Severity::Info), true)
        };
        assert_eq!(door.say(plain), Some(Edge::Raised(Severity::Info)));
    }

    #[test]
    fn worse_is_told_again_and_better_is_not() {
        let mut gas = Level::default();
        let high = Some(Severity::High);
        assert_eq!(
            gas.say(said("g", high, false)),
            Some(Edge::Raised(Severity::High))
        );
        let critical = Some(Edge::Raised(Severity::Critical));
        assert_eq!(gas.say(said("g", CRITICAL, false)), critical);
        assert_eq!(gas.say(said("g", high, false)), None);
        assert_eq!(gas.say(said("g", None, false)), Some(Edge::Cleared));
    }

    #[test]
    fn a_flood_of_keys_is_bounded_and_told() {
        let mut level = Level::default();
        for n in 0..KEYS_MAX {
            level.say(said(&n.to_string(), None, false));
        }
        assert_eq!(
            level.say(said("one more", CRITICAL, false)),
            Some(Edge::Full)
        );
        assert_eq!(level.keys.len(), KEYS_MAX);
    }

    proptest! {
        #[test]
        fn edges_alternate_and_restart_changes_nothing(
            says in prop::collection::vec((0u8..3, any::<Option<bool>>(), any::<bool>()), 1..60),
            cut in 0usize..60,
        ) {
            let mut level = Level::default();
            let mut told: Option<Severity> = None;
            for (i, (key, mild, retained)) in says.into_iter().enumerate() {
                if i == cut {
                    level = serde_json::from_str(&serde_json::to_string(&level).unwrap()).unwrap();
                }
                let active = mild.map(|m| if m { Severity::High } else { Severity::Critical });
                let name = key.to_string();
                let known = level.knows(said(&name, active, retained));
                let before = level.clone();
                match level.say(said(&name, active, retained)) {
                    Some(Edge::Raised(now)) => {
                        prop_assert!(told.is_none_or(|t| now > t || t == Severity::Unverified));
                        told = Some(now);
                    }
                    Some(Edge::Cleared) => {
                        prop_assert!(told.is_some());
                        told = None;
                    }
                    Some(Edge::Full) => prop_assert!(false),
                    None => {}
                }
                prop_assert_eq!(known, before == level);
                prop_assert_eq!(level.is_open(), told.is_some());
                prop_assert_eq!(level.is_open(), level.keys.values().any(Option::is_some));
            }
        }
    }
}
