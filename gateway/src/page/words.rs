//! The page's files, and the one page that is written here: the lamp. All words are in `www/words.json`.

use serde_json::Value;

use super::view::Lamp;

/// The page.
pub const HTML: &str = include_str!("www/index.html");
/// Its script.
pub const SCRIPT: &str = include_str!("www/page.js");
/// Its looks.
pub const STYLE: &str = include_str!("www/page.css");
/// Its words, Chinese and English.
pub const WORDS: &str = include_str!("www/words.json");
/// The lamp's page, with places for words.
const LAMP: &str = include_str!("www/lamp.html");

/// The page that says, in words and to anybody, whether an alarm stands.
#[must_use]
pub fn lamp_page(lamp: &Lamp) -> String {
    let code = match lamp {
        Lamp {
            not_forwarded: true,
            ..
        } => "lamp_not_forwarded",
        Lamp { alarm: true, .. } => "lamp_alarm",
        Lamp { known: false, .. } => "lamp_unknown",
        Lamp { .. } => "lamp_calm",
    };
    let words: Value = serde_json::from_str(WORDS).unwrap_or_default();
    let say = |language: &str| words[code][language].as_str().unwrap_or(code);
    LAMP.replace("{code}", code)
        .replace("{zh}", say("zh"))
        .replace("{en}", say("en"))
}
