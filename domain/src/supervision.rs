//! Silence is a fault with a deadline.
//!
//! Owns who was last heard when and who is overdue. The caller brings monotonic time (a box's clock
//! may jump) and turns what falls overdue into events.

use std::collections::BTreeMap;
use std::time::Duration;

/// Deadlines of everything supervised, by key. Times are spans since an arbitrary monotonic start.
#[derive(Clone, Debug)]
pub struct Supervision<K> {
    watched: BTreeMap<K, Watch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Watch {
    interval: Duration,
    heard: Duration,
    overdue: bool,
}

impl<K> Default for Supervision<K> {
    fn default() -> Self {
        Self {
            watched: BTreeMap::new(),
        }
    }
}

/// A change in what is known to be silent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change<K> {
    /// Nothing heard within the interval.
    Silent(K, Duration),
    /// Heard again after having been silent.
    Back(K),
}

impl<K: Ord + Clone> Supervision<K> {
    /// Watches exactly these keys from now on. A key watched before keeps when it was heard and
    /// whether it is overdue; a new one counts as heard now; the rest are forgotten.
    pub fn watch(&mut self, keys: impl IntoIterator<Item = (K, Duration)>, now: Duration) {
        let mut next = BTreeMap::new();
        for (key, interval) in keys {
            let known = self.watched.get(&key);
            let watch = Watch {
                interval,
                heard: known.map_or(now, |w| w.heard),
                overdue: known.is_some_and(|w| w.overdue),
            };
            next.insert(key, watch);
        }
        self.watched = next;
    }

    /// Something was heard from `key`.
    pub fn heard(&mut self, key: &K, now: Duration) -> Option<Change<K>> {
        let watch = self.watched.get_mut(key)?;
        watch.heard = now.max(watch.heard);
        std::mem::take(&mut watch.overdue).then(|| Change::Back(key.clone()))
    }

    /// Everything that has just fallen silent; each silence is told once.
    pub fn poll(&mut self, now: Duration) -> Vec<Change<K>> {
        let mut changes = Vec::new();
        for (key, watch) in &mut self.watched {
            if !watch.overdue && now >= watch.heard + watch.interval {
                watch.overdue = true;
                changes.push(Change::Silent(key.clone(), watch.interval));
            }
        }
        changes
    }

    /// When [`Self::poll`] next has something to say, if nothing is heard before.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.watched
            .values()
            .filter(|w| !w.overdue)
            .map(|w| w.heard + w.interval)
            .min()
    }

    /// Who is silent now.
    pub fn silent(&self) -> impl Iterator<Item = &K> {
        self.watched
            .iter()
            .filter(|(_, w)| w.overdue)
            .map(|(k, _)| k)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn silence_is_told_once_and_its_end_too() {
        let mut s = Supervision::default();
        s.watch([("a", MINUTE)], Duration::ZERO);
        assert_eq!(s.poll(MINUTE - Duration::from_millis(1)), []);
        assert_eq!(s.poll(MINUTE), [Change::Silent("a", MINUTE)]);
        assert_eq!(s.poll(MINUTE * 2), []);
        assert_eq!(s.next(), None);
        assert_eq!(s.heard(&"a", MINUTE * 3), Some(Change::Back("a")));
        assert_eq!(s.heard(&"a", MINUTE * 3), None);
        assert_eq!(s.next(), Some(MINUTE * 4));
    }

    #[test]
    fn a_new_list_keeps_what_is_known() {
        let mut s = Supervision::default();
        s.watch([("a", MINUTE), ("b", MINUTE)], Duration::ZERO);
        s.poll(MINUTE);
        s.watch([("a", MINUTE)], MINUTE);
        assert_eq!(s.silent().collect::<Vec<_>>(), [&"a"]);
        assert_eq!(s.poll(MINUTE * 5), []);
    }

    proptest! {
        #[test]
        fn whoever_is_not_heard_in_time_is_told(times in prop::collection::vec(0u64..500, 1..60)) {
            let mut times = times;
            times.sort_unstable();
            let mut s = Supervision::default();
            s.watch([(1, MINUTE)], Duration::ZERO);
            let mut last_heard = Duration::ZERO;
            for (i, t) in times.into_iter().map(Duration::from_secs).enumerate() {
                if i % 2 == 0 {
                    s.poll(t);
                    prop_assert_eq!(s.silent().count() == 1, t >= last_heard + MINUTE);
                } else {
                    s.heard(&1, t);
                    last_heard = t;
                }
            }
        }
    }
}
