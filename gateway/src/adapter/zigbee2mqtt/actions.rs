//! Momentary actions: calls for help, credentials at locks and keypads.
//!
//! A code never leaves this file but as a keyed digest.

use domain::config::{Enrolment, Passage, Role};
use domain::event::{How, State, Unread};
use domain::kind::Kind;
use serde_json::Value;

use super::super::json::{self, Pairs};
use super::super::place::call;
use super::super::{Book, Message, Says, VendorId};

/// Words that are a call for help on any button or keypad, whatever the map says.
const HELP: &[&str] = &["emergency", "panic", "sos"];
/// Words of keypads and remotes that are none.
const NEUTRAL: &[&str] = &[
    "disarm",
    "exit_delay",
    "entry_delay",
    "home",
    "sleep",
    "away",
    "identify",
    "invalid_code",
    "not_ready",
    "already_disarmed",
];
/// A lock let somebody through.
const GRANTED: &[&str] = &[
    "unlock",
    "keypad_unlock",
    "rfid_unlock",
    "zigbee_unlock",
    "finger_open",
    "password_open",
];
/// A lock or keypad refused somebody, beside every `…_failure_…`.
const DENIED: &[&str] = &["finger_not_match", "password_not_match"];

/// What an action means at the points of one device.
pub fn act(
    book: &Book,
    points: &[&Enrolment],
    pairs: &Pairs,
    value: &Value,
    message: &mut Message,
) {
    if json::says_nothing(value) {
        return;
    }
    let by = |roles: &[Role]| points.iter().copied().find(|e| roles.contains(&e.role));
    if let Some(lock) = by(&[Role::Lock]) {
        if let Some(kind) = value.as_str().and_then(|word| passes(word, pairs)) {
            message.says(
                &lock.key(),
                Says::Access {
                    kind,
                    credential: None,
                    how: source(pairs),
                },
            );
        }
    } else if let Some(button) = by(&[Role::PanicButton, Role::Keypad, Role::ManualCallPoint]) {
        match press(button, value) {
            Some(Ok(kind)) => message.says(
                &button.key(),
                Says::Moment {
                    kind,
                    state: State::Raised,
                },
            ),
            Some(Err(why)) => message.says(&button.key(), Says::Unread { why, key: None }),
            None => enter(book, button, pairs, message),
        }
    }
}

/// Whether an action is a call for help. A word in no table is told, for it may have been one; the
/// end of a press is not.
fn press(button: &Enrolment, value: &Value) -> Option<Result<Kind, Unread>> {
    let Some(word) = value.as_str().map(str::trim) else {
        return Some(Err(Unread::WrongType));
    };
    let is = |known: &str| word.eq_ignore_ascii_case(known);
    let mapped = button.options.get("press_values").and_then(Value::as_array);
    let is_mapped = mapped.is_some_and(|words| words.iter().filter_map(Value::as_str).any(is));
    if is_mapped || HELP.iter().copied().any(is) {
        return Some(Ok(call(button)));
    }
    let neutral = NEUTRAL.iter().copied().any(is)
        || word.starts_with("arm_")
        || is("release")
        || word.ends_with("_release");
    (!neutral).then_some(Err(Unread::UnknownWord))
}

/// A code typed at a keypad that counts people. Its transaction number wraps, so it is a weak id; a
/// call for help never carries it.
fn enter(book: &Book, keypad: &Enrolment, pairs: &Pairs, message: &mut Message) {
    let Some(code) = field(pairs, "action_code").and_then(digits) else {
        return;
    };
    if keypad.role != Role::Keypad || keypad.passage == Passage::None {
        return;
    }
    message.vendor = field(pairs, "action_transaction")
        .and_then(Value::as_u64)
        .map(|number| VendorId::Weak(number.to_string()));
    message.says(
        &keypad.key(),
        Says::Access {
            kind: Kind::AccessRead,
            credential: Some(book.hide(&code)),
            how: How::Code,
        },
    );
}

fn digits(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            None
        }
    }
}

/// Whether a lock's action let somebody through or refused somebody. Turned by hand from inside is
/// neither.
fn passes(word: &str, pairs: &Pairs) -> Option<Kind> {
    let by_hand = field(pairs, "action_source_name").and_then(Value::as_str) == Some("manual");
    if word.contains("_failure_") || DENIED.contains(&word) {
        Some(Kind::AccessDenied)
    } else if GRANTED.contains(&word) && !by_hand {
        Some(Kind::AccessGranted)
    } else {
        None
    }
}

fn source(pairs: &Pairs) -> How {
    match field(pairs, "action_source_name").and_then(Value::as_str) {
        Some("keypad") => How::Code,
        Some(_) | None => How::Card,
    }
}

fn field<'p>(pairs: &'p Pairs, name: &str) -> Option<&'p Value> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, v)| v)
}
