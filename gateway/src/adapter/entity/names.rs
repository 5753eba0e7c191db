//! What an entity's name says it is.
//!
//! People choose these names, so they are weak evidence: they tell a battery from a detector and one
//! detector of a device from another. Whatever they leave open is what the device is enrolled for
//! (R5). Whole words count, never parts of words.

use domain::config::{Enrolment, Role};

use super::super::place::{Place, place};
use super::super::sense::Sense;

/// What a name says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Name {
    /// One of the things we know.
    About(Sense),
    /// Something that is no business of ours.
    Other,
    /// A card number or a code.
    Credential,
    /// An exit button.
    Exit,
    /// Nothing.
    Neutral,
}

/// One word of a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    About(Sense),
    Fire,
    Leak,
    Alarm,
    Other,
    Credential,
    Exit,
}

const WORDS: &[(&[&str], Word)] = &[
    (&["smoke"], Word::About(Sense::Smoke)),
    (&["fire"], Word::Fire),
    (&["heat", "overheat"], Word::About(Sense::Heat)),
    (
        &["gas", "lpg", "methane", "cng", "lng"],
        Word::About(Sense::Gas),
    ),
    (&["co", "monoxide"], Word::About(Sense::Co)),
    (
        &["water", "moisture", "flood", "flooding", "wet"],
        Word::About(Sense::Water),
    ),
    (&["leak", "leakage"], Word::Leak),
    (
        &["panic", "sos", "emergency", "help", "duress", "holdup"],
        Word::About(Sense::Panic),
    ),
    (
        &[
            "door", "window", "gate", "garage", "opening", "contact", "entrance",
        ],
        Word::About(Sense::Door),
    ),
    (
        &["lock", "bolt", "deadbolt", "latch"],
        Word::About(Sense::Unlocked),
    ),
    (&["jam", "jammed"], Word::About(Sense::Jammed)),
    (&["forced"], Word::About(Sense::Forced)),
    (
        &["intrusion", "intruder", "burglar", "burglary", "breakin"],
        Word::About(Sense::Intrusion),
    ),
    (&["alarm", "triggered"], Word::Alarm),
    (&["prealarm"], Word::About(Sense::Prealarm)),
    (
        &["tamper", "tampered", "tampering", "sabotage"],
        Word::About(Sense::Tamper),
    ),
    (&["battery", "batt"], Word::About(Sense::Battery)),
    (
        &[
            "problem",
            "fault",
            "trouble",
            "malfunction",
            "failure",
            "error",
            "defect",
            "eol",
        ],
        Word::About(Sense::Fault),
    ),
    (&["test", "testing", "selftest"], Word::About(Sense::Test)),
    (
        &["silence", "silenced", "mute", "muted", "hush", "hushed"],
        Word::About(Sense::Silenced),
    ),
    (
        &[
            "connectivity",
            "connection",
            "connected",
            "online",
            "reachable",
        ],
        Word::About(Sense::Away),
    ),
    (
        &[
            "tag",
            "uid",
            "card",
            "rfid",
            "nfc",
            "badge",
            "credential",
            "wiegand",
            "code",
            "pin",
        ],
        Word::Credential,
    ),
    (&["exit", "rex", "egress"], Word::Exit),
    (
        &[
            "motion",
            "occupancy",
            "presence",
            "pir",
            "moving",
            "vibration",
            "sound",
            "noise",
            "light",
            "illuminance",
            "lux",
            "temperature",
            "temp",
            "humidity",
            "pressure",
            "co2",
            "dioxide",
            "voc",
            "tvoc",
            "pm25",
            "density",
            "concentration",
            "ppm",
            "charging",
            "charger",
            "voltage",
            "volt",
            "current",
            "power",
            "plug",
            "energy",
            "signal",
            "rssi",
            "linkquality",
            "lqi",
            "wifi",
            "ssid",
            "bssid",
            "mac",
            "ip",
            "dns",
            "version",
            "firmware",
            "build",
            "uptime",
            "boot",
            "restart",
            "reset",
            "seen",
            "time",
            "timestamp",
            "date",
            "update",
            "siren",
            "buzzer",
            "led",
            "valve",
            "heap",
            "memory",
            "debug",
            "position",
            "tilt",
            "calibration",
            "warmup",
        ],
        Word::Other,
    ),
];

fn word(token: &str) -> Option<Word> {
    WORDS
        .iter()
        .find(|(tokens, _)| tokens.contains(&token))
        .map(|(_, word)| *word)
}

/// What a name says on these points. The last word of it that means anything decides, as in
/// `nap_smoke_battery_low`; but a name that holds the point's own business is that, unless it ends
/// in what every device has: a battery, a fault, a test.
pub fn name(object: &str, points: &[&Enrolment]) -> Name {
    let object = object.to_ascii_lowercase();
    let words: Vec<Word> = object
        .split(|c: char| !c.is_alphanumeric())
        .filter_map(word)
        .collect();
    let meant: Vec<Word> = words
        .iter()
        .copied()
        .filter(|w| *w != Word::Alarm)
        .collect();
    let Some(last) = meant.last().copied() else {
        return unnamed(&object, &words, points);
    };
    if let Word::About(sense) = last
        && is_of_any_device(sense)
    {
        return Name::About(sense);
    }
    if last == Word::Other {
        return Name::Other;
    }
    let senses = meant.iter().map(|word| about(*word, &meant, points));
    let own = senses
        .clone()
        .flatten()
        .find(|sense| is_own(*sense, points));
    match (own, last) {
        (Some(sense), _) => Name::About(sense),
        (None, Word::Credential) => Name::Credential,
        (None, Word::Exit) => Name::Exit,
        (None, Word::About(_) | Word::Fire | Word::Leak | Word::Alarm | Word::Other) => {
            about(last, &meant, points).map_or(Name::Neutral, Name::About)
        }
    }
}

fn unnamed(object: &str, words: &[Word], points: &[&Enrolment]) -> Name {
    let is_panel = points.iter().any(|e| e.role == Role::Panel);
    if object == "status" {
        // ESPHome's own sensor of that name is its connection.
        Name::About(Sense::Away)
    } else if is_panel && words.contains(&Word::Alarm) {
        Name::About(Sense::Intrusion)
    } else {
        Name::Neutral
    }
}

fn about(word: Word, name: &[Word], points: &[&Enrolment]) -> Option<Sense> {
    match word {
        Word::About(sense) => Some(sense),
        Word::Fire => Some(
            own(points)
                .filter(|sense| is_fire(*sense))
                .unwrap_or(Sense::Smoke),
        ),
        Word::Leak if name.contains(&Word::About(Sense::Gas)) => Some(Sense::Gas),
        Word::Leak => Some(
            own(points)
                .filter(|s| *s == Sense::Gas)
                .unwrap_or(Sense::Water),
        ),
        Word::Alarm | Word::Other | Word::Credential | Word::Exit => None,
    }
}

/// What the device is enrolled for, as a sense; none where a name must say it.
pub fn own(points: &[&Enrolment]) -> Option<Sense> {
    points.iter().find_map(|e| of_role(e.role))
}

fn is_own(sense: Sense, points: &[&Enrolment]) -> bool {
    points.iter().any(|e| of_role(e.role) == Some(sense))
}

const fn of_role(role: Role) -> Option<Sense> {
    match role {
        Role::Smoke => Some(Sense::Smoke),
        Role::Heat => Some(Sense::Heat),
        Role::Gas => Some(Sense::Gas),
        Role::Co => Some(Sense::Co),
        Role::ManualCallPoint => Some(Sense::Role),
        Role::Water => Some(Sense::Water),
        Role::Door => Some(Sense::Door),
        Role::Lock => Some(Sense::Unlocked),
        Role::PanicButton => Some(Sense::Panic),
        Role::Keypad
        | Role::Reader
        | Role::Motion
        | Role::Siren
        | Role::Lamp
        | Role::Bridge
        | Role::Panel
        | Role::Node => None,
    }
}

const fn is_fire(sense: Sense) -> bool {
    matches!(
        sense,
        Sense::Smoke | Sense::Heat | Sense::Gas | Sense::Co | Sense::Role
    )
}

/// Whether this is a matter of any device, whatever it is enrolled for.
const fn is_of_any_device(sense: Sense) -> bool {
    matches!(
        sense,
        Sense::Battery
            | Sense::Tamper
            | Sense::Fault
            | Sense::Test
            | Sense::Silenced
            | Sense::Away
            | Sense::Prealarm
            | Sense::Jammed
            | Sense::Forced
    )
}

/// Whether one of the points tells this sense.
pub fn lands(sense: Sense, points: &[&Enrolment]) -> bool {
    matches!(place(sense, points), Place::At(..))
}
