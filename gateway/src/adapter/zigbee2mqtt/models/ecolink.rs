//! Ecolink's listener for the sound of smoke alarms: `alarm` is what it heard.

use super::super::super::sense::Sense;
use super::super::keys::Meaning;
use super::Profile;

pub const PROFILE: Profile = Profile {
    models: &["FFZB1-SM-ECO"],
    keys: &[("alarm", Some(Meaning::Truth(Sense::Role)))],
};
