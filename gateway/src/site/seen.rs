//! Which of a device's own message ids were already taken (D4, R10).
//!
//! Owns the memory and its bound. In doubt a message is new: losing is worse than repeating.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use domain::digest::Sha256;
use domain::id::DeviceId;
use domain::time::Timestamp;

use crate::adapter::VendorId;

/// How long a unique id is remembered.
pub const UNIQUE_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an identical body under a weak id is the same message.
pub const WEAK_FOR: Duration = Duration::from_secs(5 * 60);
/// Most ids remembered. Beyond it the oldest is forgotten early, and a resend later than that is
/// taken for a new message.
pub const SEEN_MAX: usize = 65_536;

/// A device's id for a message, shortened: 16 bytes of SHA-256 over device and id.
pub type Name = [u8; 16];

/// The ids taken.
#[derive(Clone, Default)]
pub struct Seen {
    at: HashMap<Name, Timestamp>,
    order: VecDeque<(Name, Timestamp)>,
}

/// The short name of a message.
#[must_use]
pub fn name(device: &DeviceId, id: &VendorId, body: &[u8]) -> Name {
    let device = device.as_str().as_bytes();
    let digest = match id {
        VendorId::Unique(id) => Sha256::of(&[b"unique\0", device, b"\0", id.as_bytes()]),
        VendorId::Weak(id) => Sha256::of(&[b"weak\0", device, b"\0", id.as_bytes(), b"\0", body]),
    };
    let mut name = [0; 16];
    name.copy_from_slice(&digest.0[..16]);
    name
}

const fn lifetime(id: &VendorId) -> Duration {
    match id {
        VendorId::Unique(_) => UNIQUE_FOR,
        VendorId::Weak(_) => WEAK_FOR,
    }
}

impl Seen {
    /// What the store remembers, in any order.
    #[must_use]
    pub fn restore(marks: Vec<(Name, Timestamp)>) -> Self {
        let mut marks = marks;
        marks.sort_by_key(|(_, at)| *at);
        let mut seen = Self::default();
        for (name, at) in marks {
            seen.take(name, at);
        }
        seen
    }

    /// Whether this message was taken before.
    #[must_use]
    pub fn knows(&self, name: &Name, id: &VendorId, now: Timestamp) -> bool {
        self.at
            .get(name)
            .is_some_and(|at| now.since(*at) < lifetime(id))
    }

    /// Whether something of this name was ever taken and is not forgotten.
    #[must_use]
    pub fn has(&self, name: &Name) -> bool {
        self.at.contains_key(name)
    }

    /// Remembers a message.
    pub fn take(&mut self, name: Name, at: Timestamp) {
        self.at.insert(name, at);
        self.order.push_back((name, at));
        while let Some((oldest, then)) = self.order.front().copied() {
            let replaced = self.at.get(&oldest) != Some(&then);
            let expired = at.since(then) >= UNIQUE_FOR;
            if !replaced && !expired && self.order.len() <= SEEN_MAX {
                break;
            }
            self.order.pop_front();
            if !replaced {
                self.at.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn named(n: usize) -> (Name, VendorId) {
        let id = VendorId::Unique(n.to_string());
        (name(&"d".parse().unwrap(), &id, b""), id)
    }

    #[test]
    fn a_resend_is_known_for_a_day() {
        let mut seen = Seen::default();
        let (name, id) = named(1);
        let start = Timestamp::from_micros(0);
        seen.take(name, start);
        let almost = start.after(UNIQUE_FOR - Duration::from_micros(1));
        assert!(seen.knows(&name, &id, almost));
        assert!(!seen.knows(&name, &id, start.after(UNIQUE_FOR)));
    }

    #[test]
    fn a_weak_counter_needs_the_same_body() {
        let device = "d".parse().unwrap();
        let id = VendorId::Weak("7".into());
        assert_ne!(name(&device, &id, b"a"), name(&device, &id, b"b"));
        let mut seen = Seen::default();
        let a = name(&device, &id, b"a");
        seen.take(a, Timestamp::from_micros(0));
        assert!(seen.knows(&a, &id, Timestamp::from_micros(299_999_999)));
        assert!(!seen.knows(&a, &id, Timestamp::from_micros(300_000_000)));
    }

    #[test]
    fn memory_is_bounded_and_forgets_the_oldest() {
        let mut seen = Seen::default();
        for n in 0..=SEEN_MAX {
            seen.take(
                named(n).0,
                Timestamp::from_micros(i64::try_from(n).unwrap()),
            );
        }
        assert_eq!(seen.at.len(), SEEN_MAX);
        let now = Timestamp::from_micros(1_000_000);
        let knows = |n| {
            let (name, id) = named(n);
            seen.knows(&name, &id, now)
        };
        assert!(!knows(0));
        assert!(knows(1) && knows(SEEN_MAX));
    }

    #[test]
    fn what_was_stored_is_known_again() {
        let (a, id) = named(1);
        let seen = Seen::restore(vec![
            (a, Timestamp::from_micros(9)),
            (named(2).0, Timestamp::from_micros(3)),
        ]);
        assert!(seen.knows(&a, &id, Timestamp::from_micros(10)));
    }
}
