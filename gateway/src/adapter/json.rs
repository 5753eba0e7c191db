//! Reading JSON that a device wrote: limits before parsing, forgiving where a strict parser would
//! throw an alarm away, and blind to secrets.
//!
//! Never knows what a key means.

use std::fmt;

use domain::event::Unread;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::error::Category;

/// Longest payload of a sensor, in bytes. A longer one is rejected as too long, unread.
pub const PAYLOAD_MAX: usize = 64 * 1024;
/// Deepest nesting of objects and arrays. A deeper payload is rejected before it is parsed.
pub const DEPTH_MAX: usize = 16;

/// An object's members in the order written, a key said twice kept twice.
pub type Pairs = Vec<(String, Value)>;

/// A payload as text within the limits, without a byte order mark and the zero byte that some
/// firmware sends at the end of its texts.
///
/// # Errors
/// When it is too long, not UTF-8 or nested too deep.
pub fn text(payload: &[u8]) -> Result<&str, Unread> {
    if payload.len() > PAYLOAD_MAX {
        return Err(Unread::TooLong);
    }
    let text = std::str::from_utf8(payload).map_err(|_| Unread::NotUtf8)?;
    let text = text.trim_start_matches('\u{feff}').trim_end_matches('\0');
    if too_deep(text.as_bytes()) {
        return Err(Unread::TooDeep);
    }
    Ok(text)
}

/// The members of a payload that must be one object.
///
/// # Errors
/// When it is not readable, not JSON, or not an object.
pub fn object(payload: &[u8]) -> Result<Pairs, Unread> {
    let text = text(payload)?;
    let parsed =
        serde_json::from_str(text).or_else(|_| serde_json::from_slice(&without_non_numbers(text)));
    match parsed {
        Ok(Members(pairs)) => Ok(pairs),
        Err(fault) => Err(match fault.classify() {
            Category::Data => Unread::WrongType,
            Category::Syntax | Category::Eof | Category::Io => Unread::NotJson,
        }),
    }
}

struct Members(Pairs);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Members(pairs))
            }
        }
        input.deserialize_map(Collect)
    }
}

fn too_deep(text: &[u8]) -> bool {
    let mut depth = 0_usize;
    for (byte, quoted) in unquoted(text) {
        if quoted {
            continue;
        }
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return true;
        }
    }
    false
}

/// Each byte, and whether it stands inside a string.
fn unquoted(text: &[u8]) -> impl Iterator<Item = (u8, bool)> {
    let (mut inside, mut escaped) = (false, false);
    text.iter().map(move |&byte| {
        let was_inside = inside;
        if escaped {
            escaped = false;
        } else if inside && byte == b'\\' {
            escaped = true;
        } else if byte == b'"' {
            inside = !inside;
        }
        (byte, was_inside)
    })
}

/// NaN, infinities and numbers beyond all measure are no JSON, but some writers write them, in any
/// case: as null they say nothing, and the alarm beside them is still read.
fn without_non_numbers(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut start = 0;
    let end = std::iter::once((b' ', false));
    for (at, (byte, quoted)) in unquoted(text.as_bytes()).chain(end).enumerate() {
        if !quoted && (byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
            continue;
        }
        let bare = text.get(start..at).unwrap_or_default();
        let is_beyond = bare.parse::<f64>().is_ok_and(|number| !number.is_finite());
        let said = if is_beyond { "null" } else { bare };
        out.extend_from_slice(said.as_bytes());
        out.push(byte);
        start = at + 1;
    }
    out
}

/// True or false as devices write it: `true`, `1`, `"ON"`, in any case. Nothing else.
#[must_use]
pub fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::Number(number) => match number.as_f64() {
            Some(1.0) => Some(true),
            Some(0.0) => Some(false),
            Some(_) | None => None,
        },
        Value::String(text) => {
            let text = text.trim();
            let is = |words: [&str; 3]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
            if is(["true", "on", "1"]) {
                Some(true)
            } else if is(["false", "off", "0"]) {
                Some(false)
            } else {
                None
            }
        }
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Whether a value says nothing at all (R4): null, empty, unknown, unavailable.
#[must_use]
pub fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => ["", "unknown", "unavailable", "undefined", "null"]
            .iter()
            .any(|word| text.trim().eq_ignore_ascii_case(word)),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

/// Whether a key holds something that must not rest anywhere: codes, PINs, card numbers.
#[must_use]
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    [
        "code",
        "pin",
        "passw",
        "secret",
        "card",
        "credential",
        "uid",
        "rfid",
    ]
    .iter()
    .any(|word| key.contains(word))
}

/// The object without the values of secret keys at any depth; none when it has none.
#[must_use]
pub fn redacted(pairs: &Pairs) -> Option<Vec<u8>> {
    if !pairs
        .iter()
        .any(|(key, value)| is_secret(key) || holds_secret(value))
    {
        return None;
    }
    let clean: Vec<(&str, Value)> = pairs
        .iter()
        .map(|(key, value)| (key.as_str(), clean(key, value)))
        .collect();
    serde_json::to_vec(&clean).ok()
}

fn holds_secret(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, v)| is_secret(key) || holds_secret(v)),
        Value::Array(items) => items.iter().any(holds_secret),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn clean(key: &str, value: &Value) -> Value {
    if is_secret(key) {
        return Value::Null;
    }
    match value {
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), clean(k, v))).collect(),
        Value::Array(items) => items.iter().map(|item| clean("", item)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn limits_hold_before_anything_is_parsed() {
        let deep = |n| format!("{}{}", "[".repeat(n), "]".repeat(n));
        let at_limit = format!("{{\"a\":{}}}", deep(DEPTH_MAX - 1));
        assert!(object(at_limit.as_bytes()).is_ok());
        let over = format!("{{\"a\":{}}}", deep(DEPTH_MAX));
        assert_eq!(object(over.as_bytes()), Err(Unread::TooDeep));
        let text = format!("{{\"a\":\"{}\"}}", "[{".repeat(40));
        assert!(
            object(text.as_bytes()).is_ok(),
            "brackets in a text are text"
        );
        assert_eq!(object(&vec![b' '; PAYLOAD_MAX + 1]), Err(Unread::TooLong));
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(Unread::NotUtf8));
        assert_eq!(object(b"{\"a\":"), Err(Unread::NotJson));
        assert_eq!(object(b"[1]"), Err(Unread::WrongType));
    }

    #[test]
    fn a_strict_parser_would_throw_these_alarms_away() {
        let pairs = object(
            "\u{feff}{\"t\":NaN,\"x\":-Infinity,\"y\":-nan,\"z\":1e999,\"s\":\"nan 烟\",\"smoke\":true}"
                .as_bytes(),
        );
        let expected = [
            ("t", json!(null)),
            ("x", json!(null)),
            ("y", json!(null)),
            ("z", json!(null)),
            ("s", json!("nan 烟")),
            ("smoke", json!(true)),
        ];
        assert_eq!(pairs.unwrap(), expected.map(|(k, v)| (k.to_owned(), v)));
        let twice = object(b"{\"smoke\":true,\"smoke\":false}").unwrap();
        assert_eq!(twice.len(), 2);
    }

    #[test]
    fn truth_is_exact() {
        for yes in [
            json!(true),
            json!(1),
            json!("ON"),
            json!("On"),
            json!("1"),
            json!(" TRUE\n"),
        ] {
            assert_eq!(truth(&yes), Some(true), "{yes}");
        }
        for no in [json!(false), json!(0), json!("off"), json!("False")] {
            assert_eq!(truth(&no), Some(false), "{no}");
        }
        for neither in [
            json!(0.008),
            json!(2),
            json!("NO LEAK"),
            json!(null),
            json!([true]),
        ] {
            assert_eq!(truth(&neither), None, "{neither}");
        }
    }

    #[test]
    fn no_code_survives_redaction() {
        let pairs = object(br#"{"a":1,"users":{"1":{"pin_code":"4711"}},"action_code":"4712","x":[{"UID":"4713"}]}"#);
        let clean = String::from_utf8(redacted(&pairs.unwrap()).unwrap()).unwrap();
        assert!(!clean.contains("471"), "{clean}");
        assert_eq!(redacted(&object(b"{\"smoke\":true}").unwrap()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = object(&bytes).map(|pairs| redacted(&pairs));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]{}:,\"\\\\NaInfinity烟 0-9-]{0,80}") {
            let _ = object(text.as_bytes());
        }
    }
}
