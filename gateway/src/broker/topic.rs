//! Topic names and topic filters of MQTT 3.1.1 (section 4.7): validity and matching.
//!
//! Pure functions over text. Owns no subscription index and decides nothing about who may publish.

use std::fmt;

/// Bounds on a topic name. A name beyond either is a protocol error for the connection that sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicLimits {
    /// Longest name, in bytes of UTF-8.
    pub bytes: usize,
    /// Deepest name, in levels (`a/b` has two).
    pub levels: usize,
}

/// Why a text is no topic name we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicFault {
    /// Zero bytes long (MQTT-4.7.3-1).
    #[error("topic is empty")]
    Empty,
    /// Holds U+0000 (MQTT-4.7.3-2).
    #[error("topic holds U+0000")]
    Nul,
    /// Holds `+` or `#`, which belong in filters only (MQTT-3.3.2-2).
    #[error("topic holds a wildcard")]
    Wildcard,
    /// Longer than [`TopicLimits::bytes`].
    #[error("topic is too long")]
    TooLong,
    /// More levels than [`TopicLimits::levels`].
    #[error("topic has too many levels")]
    TooDeep,
}

/// Why a text is no topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterFault {
    /// Zero bytes long (MQTT-4.7.3-1).
    #[error("filter is empty")]
    Empty,
    /// Holds U+0000 (MQTT-4.7.3-2).
    #[error("filter holds U+0000")]
    Nul,
    /// Longer than 65,535 bytes (MQTT-4.7.3-3).
    #[error("filter is too long")]
    TooLong,
    /// `#` that is not a whole last level (MQTT-4.7.1-2).
    #[error("# is not the whole last level")]
    MultiLevelMisplaced,
    /// `+` that is not a whole level (MQTT-4.7.1-3).
    #[error("+ is not a whole level")]
    SingleLevelMisplaced,
}

/// Longest text the wire can carry, in bytes (MQTT 3.1.1 section 1.5.3).
const LONGEST_TEXT: usize = 65_535;

/// Says whether `name` may be published to, by the standard and within `limits`.
///
/// # Errors
/// The first [`TopicFault`] found.
pub fn check_name(name: &str, limits: TopicLimits) -> Result<(), TopicFault> {
    if name.is_empty() {
        return Err(TopicFault::Empty);
    }
    if name.len() > limits.bytes {
        return Err(TopicFault::TooLong);
    }
    let mut levels = 1;
    for byte in name.bytes() {
        match byte {
            0 => return Err(TopicFault::Nul),
            b'+' | b'#' => return Err(TopicFault::Wildcard),
            b'/' => levels += 1,
            _ => {}
        }
    }
    if levels > limits.levels {
        return Err(TopicFault::TooDeep);
    }
    Ok(())
}

/// Says whether `filter` is well formed.
///
/// # Errors
/// The first [`FilterFault`] found.
pub fn check_filter(filter: &str) -> Result<(), FilterFault> {
    if filter.is_empty() {
        return Err(FilterFault::Empty);
    }
    if filter.len() > LONGEST_TEXT {
        return Err(FilterFault::TooLong);
    }
    if filter.contains('\0') {
        return Err(FilterFault::Nul);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err(FilterFault::MultiLevelMisplaced);
        }
        if level.contains('+') && level != "+" {
            return Err(FilterFault::SingleLevelMisplaced);
        }
    }
    Ok(())
}

/// A well-formed topic filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFilter(String);

impl TopicFilter {
    /// Reads a filter such as `antuo/v1/btn-hall/#`.
    ///
    /// # Errors
    /// The [`FilterFault`] that makes the text no filter (MQTT 3.1.1 section 4.7.1).
    pub fn parse(text: &str) -> Result<Self, FilterFault> {
        check_filter(text)?;
        Ok(Self(text.to_owned()))
    }

    /// Says whether `name`, a valid topic name, falls under this filter.
    ///
    /// `a/#` also covers `a` itself (section 4.7.1.2). A filter that starts with a wildcard covers no
    /// name that starts with `$` (MQTT-4.7.2-1).
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if name.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut wanted = self.0.split('/');
        let mut given = name.split('/');
        loop {
            match (wanted.next(), given.next()) {
                (Some("#"), _) | (None, None) => return true,
                (Some("+"), Some(_)) => {}
                (Some(filter), Some(level)) if filter == level => {}
                (Some(_), Some(_) | None) | (None, Some(_)) => return false,
            }
        }
    }

    /// Says whether every name under `other`, a well-formed filter, is under this one too.
    #[must_use]
    pub fn covers(&self, other: &str) -> bool {
        if other.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut own = self.0.split('/').peekable();
        let mut others = other.split('/');
        loop {
            match (own.next(), others.next()) {
                (Some("#"), _) | (None, None) => return true,
                (_, Some("#")) | (None, Some(_)) | (Some(_), None) => return false,
                (Some("+"), Some(_)) => {}
                (Some(mine), Some(level)) if mine == level => {}
                (Some(_), Some(_)) => return false,
            }
        }
    }

    /// The filter as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: TopicLimits = TopicLimits {
        bytes: 20,
        levels: 4,
    };

    #[test]
    fn names_are_taken_or_refused_with_the_reason() {
        for good in ["a", "/", "a/b/c/d", "$SYS/a", "a b", "温/湿", "a//b"] {
            assert_eq!(check_name(good, LIMITS), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", TopicFault::Empty),
            ("a/\0", TopicFault::Nul),
            ("a/+", TopicFault::Wildcard),
            ("a#", TopicFault::Wildcard),
            ("123456789012345678901", TopicFault::TooLong),
            ("a/b/c/d/e", TopicFault::TooDeep),
        ] {
            assert_eq!(check_name(bad, LIMITS), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn filters_are_taken_or_refused_with_the_reason() {
        for good in [
            "#", "+", "a/#", "a/+/b", "+/+", "/", "a//#", "/+", "$SYS/#", "a/b",
        ] {
            assert!(TopicFilter::parse(good).is_ok(), "{good}");
        }
        let long = "a".repeat(LONGEST_TEXT + 1);
        for (bad, why) in [
            ("", FilterFault::Empty),
            ("a\0", FilterFault::Nul),
            (long.as_str(), FilterFault::TooLong),
            ("a#", FilterFault::MultiLevelMisplaced),
            ("#/a", FilterFault::MultiLevelMisplaced),
            ("a/#/", FilterFault::MultiLevelMisplaced),
            ("a/b+", FilterFault::SingleLevelMisplaced),
            ("++", FilterFault::SingleLevelMisplaced),
        ] {
            assert_eq!(TopicFilter::parse(bad), Err(why), "{bad:?}");
        }
    }

    /// The examples of MQTT 3.1.1 sections 4.7.1.2, 4.7.1.3, 4.7.2 and 4.7.3.
    #[test]
    fn the_examples_of_the_standard_match() {
        for (filter, name, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/ranking",
                true,
            ),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/score/wimbledon",
                true,
            ),
            ("sport/#", "sport", true),
            ("#", "sport/tennis", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/uptime", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/uptime", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("ACCOUNTS", "Accounts", false),
            ("sport/tennis/player1/#", "sport/tennis/player10", false),
            ("a/b", "a", false),
            ("a", "a/b", false),
        ] {
            let parsed = TopicFilter::parse(filter).unwrap();
            assert_eq!(parsed.matches(name), expected, "{filter} on {name}");
        }
    }

    /// A slow second opinion, written as the standard's recursion over levels.
    fn covers(filter: &[&str], name: &[&str]) -> bool {
        match filter {
            [] => name.is_empty(),
            ["#", ..] => true,
            [first, rest @ ..] => {
                name.first().is_some_and(|n| *first == "+" || first == n)
                    && covers(rest, &name[1..])
            }
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_recursive_definition(
            filter in "(/|a|b|\\+){0,6}(/#)?",
            name in "(/|a|b){1,6}",
        ) {
            if let Ok(parsed) = TopicFilter::parse(&filter) {
                let wanted: Vec<&str> = filter.split('/').collect();
                let given: Vec<&str> = name.split('/').collect();
                prop_assert_eq!(parsed.matches(&name), covers(&wanted, &given));
            }
        }

        #[test]
        fn a_valid_name_is_a_filter_that_matches_exactly_itself(
            name in "[a-c/]{1,12}", other in "[a-c/]{1,12}",
        ) {
            let limits = TopicLimits { bytes: 12, levels: 13 };
            prop_assert_eq!(check_name(&name, limits), Ok(()));
            let filter = TopicFilter::parse(&name).unwrap();
            prop_assert!(filter.matches(&name));
            prop_assert_eq!(filter.matches(&other), name == other);
        }

        #[test]
        fn no_text_makes_the_checks_panic(text in ".{0,80}") {
            let _ = check_name(&text, LIMITS);
            if let Ok(filter) = TopicFilter::parse(&text) {
                let _ = filter.matches(&text);
            }
        }
    }
}
