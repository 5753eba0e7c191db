//! Topics on which a device, or a broker in its name, says whether it is there.
//!
//! Owns the words and shapes of such topics. Never decides what an absence means.

use std::borrow::Cow;

use domain::event::Unread;
use domain::id::PointKey;
use domain::kind::Kind;
use serde_json::Value;

use super::{AVAILABILITY, Message, Says, Signal, json};

/// Whether an online/offline topic, JSON or plain text, says that somebody is there; none when it
/// says nothing.
///
/// # Errors
/// When it cannot be read or is no such word.
pub fn is_there(payload: &[u8]) -> Result<Option<bool>, Unread> {
    let text = json::text(payload)?.trim();
    let word = if text.starts_with('{') {
        let pairs = json::object(payload)?;
        let state = pairs.into_iter().find(|(key, _)| key == "state");
        state.ok_or(Unread::MissingField)?.1
    } else {
        Value::String(text.trim_matches('"').to_owned())
    };
    if json::says_nothing(&word) {
        return Ok(None);
    }
    let word = word.as_str().ok_or(Unread::WrongType)?;
    if word.eq_ignore_ascii_case("online") {
        Ok(Some(true))
    } else if word.eq_ignore_ascii_case("offline") {
        Ok(Some(false))
    } else {
        Err(Unread::UnknownWord)
    }
}

/// What such a topic says of a point. `by` is who was heard saying it.
pub fn presence_of(point: &PointKey, by: &PointKey, kind: Kind, signal: &Signal<'_>) -> Message {
    let mut message = Message::from([by.clone()]);
    match is_there(signal.payload) {
        Ok(Some(there)) => message.says(
            point,
            Says::Level {
                kind,
                key: Cow::Borrowed(AVAILABILITY),
                active: (!there).then(|| kind.severity()),
            },
        ),
        Ok(None) => {}
        Err(why) => return message.unread(point, why),
    }
    message
}
