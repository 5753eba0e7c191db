//! The index of subscriptions: which of them a topic name falls under.
//!
//! A tree of levels, so that a publish costs its topic's depth and not the number of subscriptions. Knows no
//! session and no message.

use std::collections::{BTreeMap, HashMap};

use super::SessionId;

/// Who holds a subscription: alone, or as a member of a share group (MQTT 5 section 4.8.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Holder {
    /// The session.
    pub session: SessionId,
    /// The group's name; none = not shared.
    pub group: Option<String>,
}

/// Holders of one filter with what they asked for.
type Holders<T> = BTreeMap<Holder, T>;

#[derive(Debug)]
struct Node<T> {
    below: HashMap<String, Node<T>>,
    /// Of the filter that ends here.
    here: Holders<T>,
    /// Of the filter that ends here with `#`.
    rest: Holders<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            below: HashMap::new(),
            here: BTreeMap::new(),
            rest: BTreeMap::new(),
        }
    }
}

impl<T> Node<T> {
    fn is_empty(&self) -> bool {
        self.below.is_empty() && self.here.is_empty() && self.rest.is_empty()
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct Tree<T> {
    root: Node<T>,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self {
            root: Node::default(),
        }
    }
}

/// A filter's levels, and whether it ends in `#`.
fn levels(filter: &str) -> (Vec<&str>, bool) {
    let mut levels: Vec<_> = filter.split('/').collect();
    let open = levels.pop_if(|last| *last == "#").is_some();
    (levels, open)
}

impl<T> Tree<T> {
    /// Adds or replaces a subscription. `filter` is well formed and without a share prefix.
    pub fn insert(&mut self, filter: &str, holder: Holder, asked: T) {
        let (levels, open) = levels(filter);
        let mut node = &mut self.root;
        for level in levels {
            node = node.below.entry(level.to_owned()).or_default();
        }
        let holders = if open { &mut node.rest } else { &mut node.here };
        holders.insert(holder, asked);
    }

    /// Takes a subscription out, and branches that bear nothing any more.
    pub fn remove(&mut self, filter: &str, holder: &Holder) {
        let (levels, open) = levels(filter);
        remove(&mut self.root, &levels, open, holder);
    }

    /// Every subscription that `name` falls under. A filter that begins with a wildcard covers no name that
    /// begins with `$` (MQTT-4.7.2-1).
    pub fn matching<'a>(&'a self, name: &str) -> Vec<(&'a Holder, &'a T)> {
        let levels: Vec<_> = name.split('/').collect();
        let mut found = Vec::new();
        collect(&self.root, &levels, !name.starts_with('$'), &mut found);
        found
    }
}

fn remove<T>(node: &mut Node<T>, levels: &[&str], open: bool, holder: &Holder) {
    let Some((level, deeper)) = levels.split_first() else {
        let holders = if open { &mut node.rest } else { &mut node.here };
        holders.remove(holder);
        return;
    };
    if let Some(below) = node.below.get_mut(*level) {
        remove(below, deeper, open, holder);
        if below.is_empty() {
            node.below.remove(*level);
        }
    }
}

fn collect<'a, T>(
    node: &'a Node<T>,
    levels: &[&str],
    wildcards: bool,
    found: &mut Vec<(&'a Holder, &'a T)>,
) {
    if wildcards {
        found.extend(&node.rest);
    }
    let Some((level, deeper)) = levels.split_first() else {
        found.extend(&node.here);
        return;
    };
    if let Some(below) = node.below.get(*level) {
        collect(below, deeper, true, found);
    }
    if wildcards && let Some(below) = node.below.get("+") {
        collect(below, deeper, true, found);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holder(n: u64) -> Holder {
        Holder {
            session: SessionId(n),
            group: None,
        }
    }

    /// The standard's rule, said another way: level by level from the left (section 4.7).
    fn covers(filter: &[&str], name: &[&str]) -> bool {
        match (filter.split_first(), name.split_first()) {
            (Some((&"#", _)), _) | (None, None) => true,
            (Some((f, filter)), Some((n, name))) => (*f == "+" || f == n) && covers(filter, name),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    #[test]
    fn wildcards_cover_what_the_standard_says() {
        let mut tree = Tree::default();
        let filters = ["a/#", "a/+", "+/b", "#", "a/b", "+", "$SYS/#", "a//b", "/+"];
        for (n, filter) in (0..).zip(filters) {
            tree.insert(filter, holder(n), filter);
        }
        let found = |name: &str| {
            let mut found: Vec<_> = tree.matching(name).into_iter().map(|(_, f)| *f).collect();
            found.sort_unstable();
            found
        };
        assert_eq!(found("a"), ["#", "+", "a/#"]);
        assert_eq!(found("a/b"), ["#", "+/b", "a/#", "a/+", "a/b"]);
        assert_eq!(found("$SYS/x"), ["$SYS/#"]);
        assert_eq!(found("$SYS"), ["$SYS/#"]);
        assert_eq!(found("a//b"), ["#", "a/#", "a//b"]);
        assert_eq!(found("/x"), ["#", "/+"]);
    }

    proptest! {
        #[test]
        fn the_index_finds_what_the_rule_says_and_forgets_what_was_removed(
            filters in prop::collection::vec("(a|b|\\+)(/(a|b|\\+)){0,2}(/#)?", 1..12),
            name in "(a|b|c)(/(a|b|c)){0,3}",
            removed in any::<prop::sample::Index>(),
        ) {
            let mut tree = Tree::default();
            for (n, filter) in (0..).zip(&filters) {
                tree.insert(filter, holder(n), ());
            }
            let gone = removed.index(filters.len());
            tree.remove(&filters[gone], &holder(gone as u64));
            let mut found: Vec<_> = tree.matching(&name).iter().map(|(h, ())| h.session.0).collect();
            found.sort_unstable();
            let name: Vec<_> = name.split('/').collect();
            let falls = |filter: &String| covers(&filter.split('/').collect::<Vec<_>>(), &name);
            let expected: Vec<_> = (0..)
                .zip(&filters)
                .filter(|(n, filter)| *n != gone as u64 && falls(filter))
                .map(|(n, _)| n)
                .collect();
            prop_assert_eq!(found, expected);
            for (n, filter) in (0..).zip(&filters) {
                tree.remove(filter, &holder(n));
            }
            prop_assert!(tree.root.is_empty());
        }
    }
}
