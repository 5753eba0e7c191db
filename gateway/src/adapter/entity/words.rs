//! What the words of an entity's state mean.
//!
//! Owns the tables; words match exactly, in any case, never by substring. Knows no points.

use super::super::json;
use super::super::sense::Sense::{
    self, Door, Fault, Intrusion, Jammed, Prealarm, Silenced, Test, Unlocked,
};
use super::super::sense::Word::{self, Active, Clear};
use super::super::sense::Words;
use serde_json::Value;

/// Statements about senses.
pub type Said = Vec<(Sense, Word)>;

/// A lock. On its way it is neither; jammed it is as open or locked as it was.
pub const LOCK: Words = &[
    ("unlocked", &[(Unlocked, Active), (Jammed, Clear)]),
    ("locked", &[(Unlocked, Clear), (Jammed, Clear)]),
    ("unlock", &[(Unlocked, Active), (Jammed, Clear)]),
    ("lock", &[(Unlocked, Clear), (Jammed, Clear)]),
    ("open", &[(Unlocked, Active), (Jammed, Clear)]),
    ("jammed", &[(Jammed, Active)]),
    ("locking", &[]),
    ("unlocking", &[]),
    ("opening", &[]),
];
/// A motor door or a shutter. On its way it is neither open nor closed.
pub const COVER: Words = &[
    ("open", &[(Door, Active)]),
    ("closed", &[(Door, Clear)]),
    ("opening", &[]),
    ("closing", &[]),
    ("stopped", &[]),
    ("stop", &[]),
];
/// An alarm panel. Waiting for a code is neither alarm nor its end.
pub const PANEL: Words = &[
    ("triggered", &[(Intrusion, Active)]),
    ("disarmed", &[(Intrusion, Clear)]),
    ("armed_home", &[(Intrusion, Clear)]),
    ("armed_away", &[(Intrusion, Clear)]),
    ("armed_night", &[(Intrusion, Clear)]),
    ("armed_vacation", &[(Intrusion, Clear)]),
    ("armed_custom_bypass", &[(Intrusion, Clear)]),
    ("arming", &[]),
    ("disarming", &[]),
    ("pending", &[]),
];

/// What a word means.
#[derive(Clone, Copy)]
enum Verdict {
    There,
    Gone,
    About(Sense),
    Neither,
}

const HAZARD: &[(&str, Verdict)] = &[
    ("alarm", Verdict::There),
    ("alarmed", Verdict::There),
    ("alert", Verdict::There),
    ("detected", Verdict::There),
    ("triggered", Verdict::There),
    ("active", Verdict::There),
    ("pressed", Verdict::There),
    ("fire", Verdict::There),
    ("smoke", Verdict::There),
    ("heat", Verdict::There),
    ("gas", Verdict::There),
    ("leak", Verdict::There),
    ("wet", Verdict::There),
    ("unsafe", Verdict::There),
    ("clear", Verdict::Gone),
    ("cleared", Verdict::Gone),
    ("normal", Verdict::Gone),
    ("ok", Verdict::Gone),
    ("safe", Verdict::Gone),
    ("idle", Verdict::Gone),
    ("dry", Verdict::Gone),
    ("inactive", Verdict::Gone),
    ("not detected", Verdict::Gone),
    ("not_detected", Verdict::Gone),
    ("no leak", Verdict::Gone),
    ("no_leak", Verdict::Gone),
    ("released", Verdict::Gone),
    ("prealarm", Verdict::About(Prealarm)),
    ("pre_alarm", Verdict::About(Prealarm)),
    ("test", Verdict::About(Test)),
    ("testing", Verdict::About(Test)),
    ("silenced", Verdict::About(Silenced)),
    ("muted", Verdict::About(Silenced)),
    ("fault", Verdict::About(Fault)),
    ("warmup", Verdict::Neither),
    ("starting", Verdict::Neither),
];
const DOOR: &[(&str, Verdict)] = &[
    ("open", Verdict::There),
    ("opened", Verdict::There),
    ("ajar", Verdict::There),
    ("tilted", Verdict::There),
    ("closed", Verdict::Gone),
    ("close", Verdict::Gone),
    ("shut", Verdict::Gone),
    ("opening", Verdict::Neither),
    ("closing", Verdict::Neither),
    ("forced", Verdict::About(Sense::Forced)),
];
const BOLT: &[(&str, Verdict)] = &[
    ("unlocked", Verdict::There),
    ("open", Verdict::There),
    ("locked", Verdict::Gone),
    ("closed", Verdict::Gone),
    ("locking", Verdict::Neither),
    ("unlocking", Verdict::Neither),
    ("jammed", Verdict::About(Jammed)),
];
const HEALTH: &[(&str, Verdict)] = &[
    ("problem", Verdict::There),
    ("fault", Verdict::There),
    ("error", Verdict::There),
    ("failed", Verdict::There),
    ("failure", Verdict::There),
    ("low", Verdict::There),
    ("critical", Verdict::There),
    ("tampered", Verdict::There),
    ("tamper", Verdict::There),
    ("detected", Verdict::There),
    ("active", Verdict::There),
    ("open", Verdict::There),
    ("ok", Verdict::Gone),
    ("normal", Verdict::Gone),
    ("good", Verdict::Gone),
    ("medium", Verdict::Gone),
    ("high", Verdict::Gone),
    ("full", Verdict::Gone),
    ("clear", Verdict::Gone),
    ("closed", Verdict::Gone),
    ("inactive", Verdict::Gone),
];
const LINK: &[(&str, Verdict)] = &[
    ("connected", Verdict::Gone),
    ("online", Verdict::Gone),
    ("disconnected", Verdict::There),
    ("offline", Verdict::There),
];

/// Whether a sense is what the point is for, so that the installer's polarity concerns it.
pub const fn is_of_the_role(sense: Sense) -> bool {
    match sense {
        Sense::Smoke
        | Sense::Heat
        | Sense::Gas
        | Sense::Co
        | Sense::Water
        | Sense::Panic
        | Sense::Role
        | Sense::Door
        | Sense::Unlocked
        | Sense::Intrusion => true,
        Sense::Prealarm
        | Sense::Forced
        | Sense::Jammed
        | Sense::Tamper
        | Sense::Battery
        | Sense::Fault
        | Sense::Test
        | Sense::Silenced
        | Sense::Away => false,
    }
}

/// What a word says about one sense; none when it stands in no table. `is_inverse` turns on and off
/// around, not a word that speaks for itself.
pub fn binary(sense: Sense, text: &str, is_inverse: bool) -> Option<Said> {
    let there = |is_there| if is_there { Active } else { Clear };
    if let Some(truth) = json::truth(&Value::from(text)) {
        return Some(vec![(sense, there(truth != is_inverse))]);
    }
    let tables: &[&[(&str, Verdict)]] = match sense {
        Sense::Smoke
        | Sense::Prealarm
        | Sense::Heat
        | Sense::Gas
        | Sense::Co
        | Sense::Water
        | Sense::Panic
        | Sense::Intrusion
        | Sense::Test
        | Sense::Silenced => &[HAZARD],
        Sense::Role => &[HAZARD, DOOR],
        Sense::Door | Sense::Forced => &[DOOR],
        Sense::Unlocked | Sense::Jammed => &[BOLT],
        Sense::Tamper | Sense::Battery | Sense::Fault => &[HEALTH],
        Sense::Away => &[LINK],
    };
    let found = tables
        .iter()
        .flat_map(|table| table.iter())
        .find(|(word, _)| word.eq_ignore_ascii_case(text))?;
    Some(match found.1 {
        Verdict::There => vec![(sense, Active)],
        // A word, unlike an off, ends the other states that words tell too.
        Verdict::Gone if sense == Sense::Tamper || sense == Sense::Away => vec![(sense, Clear)],
        Verdict::Gone => {
            let beside = [Prealarm, Test, Silenced, Fault, Sense::Forced, Jammed];
            let ended = std::iter::once(sense).chain(beside.into_iter().filter(|s| *s != sense));
            ended.map(|sense| (sense, Clear)).collect()
        }
        Verdict::About(other) => vec![(other, Active)],
        Verdict::Neither => Vec::new(),
    })
}
