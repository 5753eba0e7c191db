//! So many places in all, and so many for each: nobody takes everyone's.
//!
//! Places come back when dropped. Knows not what is counted.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Leading bits of an IPv6 address that stand for whoever has it: what one household is commonly given.
const V6_PREFIX: u32 = 56;

/// Whoever is behind an address: itself, or its IPv6 network, since one customer has all of that.
#[must_use]
pub fn whose(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - V6_PREFIX);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

/// Places; copies share them.
pub struct Quota<K> {
    in_all: usize,
    each: usize,
    taken: Arc<Mutex<Taken<K>>>,
}

struct Taken<K> {
    in_all: usize,
    by: HashMap<K, usize>,
}

/// A place; given back when dropped.
pub struct Place<K: Eq + Hash> {
    taken: Arc<Mutex<Taken<K>>>,
    by: Option<K>,
}

fn locked<K>(taken: &Mutex<Taken<K>>) -> MutexGuard<'_, Taken<K>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K> Clone for Quota<K> {
    fn clone(&self) -> Self {
        Self {
            in_all: self.in_all,
            each: self.each,
            taken: Arc::clone(&self.taken),
        }
    }
}

impl<K: Eq + Hash + Clone> Quota<K> {
    /// So many in all, so many for each.
    #[must_use]
    pub fn new(in_all: usize, each: usize) -> Self {
        let taken = Taken {
            in_all: 0,
            by: HashMap::new(),
        };
        Self {
            in_all,
            each,
            taken: Arc::new(Mutex::new(taken)),
        }
    }

    /// A place for one; for nobody in particular only the whole counts. None when there is none left.
    #[must_use]
    pub fn take(&self, by: Option<K>) -> Option<Place<K>> {
        let mut taken = locked(&self.taken);
        if taken.in_all >= self.in_all {
            return None;
        }
        if let Some(key) = &by {
            let own = taken.by.get(key).copied().unwrap_or(0);
            if own >= self.each {
                return None;
            }
            taken.by.insert(key.clone(), own + 1);
        }
        taken.in_all += 1;
        Some(Place {
            taken: Arc::clone(&self.taken),
            by,
        })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = locked(&self.taken);
        taken.in_all -= 1;
        let Some(key) = &self.by else {
            return;
        };
        if let Some(own) = taken.by.get_mut(key) {
            *own -= 1;
            if *own == 0 {
                taken.by.remove(key);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_cannot_take_every_place_and_places_come_back() {
        let quota = Quota::new(3, 2);
        let first = quota.take(Some('a')).unwrap();
        let _second = quota.take(Some('a')).unwrap();
        assert!(quota.take(Some('a')).is_none());
        let nobodys = quota.take(None).unwrap();
        assert!(quota.take(Some('b')).is_none() && quota.take(None).is_none());
        drop(first);
        drop(quota.take(Some('a')).unwrap());
        drop(nobodys);
        let _third = quota.take(Some('b')).unwrap();
        assert_eq!(locked(&quota.taken).by.len(), 2);
    }

    #[test]
    fn a_household_is_one_address_or_one_ipv6_network() {
        let of = |text: &str| whose(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:3::9"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:ff::"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:102::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
