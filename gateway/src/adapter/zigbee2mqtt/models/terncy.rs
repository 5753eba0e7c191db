//! Terncy's door sensor: `contact` is true while the door is open.

use super::super::super::sense::Sense;
use super::super::keys::Meaning;
use super::Profile;

pub const PROFILE: Profile = Profile {
    models: &["TERNCY-DC01"],
    keys: &[("contact", Some(Meaning::Truth(Sense::Door)))],
};
