//! Momentary words: a press at an event entity, a decision at a reader.
//!
//! Owns the tables of such words; they match exactly, in any case. Never reads a level.

use domain::config::{Enrolment, Role};
use domain::event::{State, Unread};
use domain::kind::Kind;
use serde_json::Value;

use super::super::place::{call, unread};
use super::super::{Message, Says, antuo};
use super::{Entity, with_role};

/// Words that are a call for help on any button or keypad, whatever the map says.
const HELP: &[&str] = &["emergency", "help", "panic", "sos"];
/// Words of a button that somebody presses; they count unless the installer mapped others.
const PRESS: &[&str] = &[
    "press",
    "pressed",
    "push",
    "pushed",
    "click",
    "clicked",
    "button_press",
    "initial_press",
    "single",
    "single_press",
    "single_click",
    "single_push",
    "short",
    "short_press",
    "short_click",
    "double",
    "double_press",
    "double_click",
    "double_push",
    "triple",
    "triple_press",
    "triple_click",
    "triple_push",
    "multi_press_1",
    "multi_press_2",
    "multi_press_3",
    "hold",
    "long",
    "long_press",
    "long_click",
    "long_push",
    "trigger",
    "triggered",
    "alarm",
    "on",
];
/// Words that go with a press and are none.
const BESIDE: &[&str] = &[
    "release",
    "released",
    "clear",
    "idle",
    "off",
    "up",
    "down",
    "repeat",
    "button_release",
];
const GRANTED: &[&str] = &[
    "granted",
    "access_granted",
    "unlocked_by_card",
    "accepted",
    "allowed",
];
const DENIED: &[&str] = &[
    "denied",
    "access_denied",
    "rejected",
    "refused",
    "invalid_code",
];

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// Whether a word is a call for help on any keypad.
pub fn is_help(word: &str) -> bool {
    is_one_of(word, HELP)
}

/// The decision a word tells, if it is one.
pub fn decision(word: &str) -> Option<Kind> {
    if is_one_of(word, GRANTED) {
        Some(Kind::AccessGranted)
    } else if is_one_of(word, DENIED) {
        Some(Kind::AccessDenied)
    } else {
        None
    }
}

/// What the type of an event means at the points of one device. A word in no table is told, for it
/// may have been a call for help; the end of a press is not.
pub fn press(points: &[&Enrolment], entity: &Entity<'_>, word: &str, message: &mut Message) {
    let buttons = [
        Role::PanicButton,
        Role::Keypad,
        Role::ManualCallPoint,
        Role::Panel,
    ];
    if let Some(button) = with_role(points, &buttons) {
        if is_press(button, word) {
            let (kind, state) = (call(button), State::Raised);
            message.says(&button.key(), Says::Moment { kind, state });
        } else if !is_beside(word) && !counts_itself(button) {
            unread(points, Unread::UnknownWord, entity.address, message);
        }
        return;
    }
    let Some(point) = with_role(points, &[Role::Reader, Role::Lock]) else {
        return;
    };
    if let Some(kind) = decision(word) {
        let how = antuo::how(point.role);
        message.says(
            &point.key(),
            Says::Access {
                kind,
                credential: None,
                how,
            },
        );
    }
}

/// Roles whose events are many things beside a call for help.
fn counts_itself(button: &Enrolment) -> bool {
    matches!(button.role, Role::Keypad | Role::Panel)
}

fn is_press(button: &Enrolment, word: &str) -> bool {
    let mapped = button.options.get("press_values").and_then(Value::as_array);
    let is = |known: &str| known.eq_ignore_ascii_case(word);
    is_one_of(word, HELP)
        || match mapped {
            Some(words) => words.iter().filter_map(Value::as_str).any(is),
            None => is_one_of(word, PRESS) && !counts_itself(button),
        }
}

fn is_beside(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    is_one_of(&word, BESIDE)
        || ["_release", "_released", "_up", "_down"]
            .iter()
            .any(|end| word.ends_with(end))
}
