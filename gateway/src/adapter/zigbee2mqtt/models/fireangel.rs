//! FireAngel's CO alarm: its `alarm` is the detector's own level.

use super::super::super::sense::Sense;
use super::super::keys::Meaning;
use super::Profile;

pub const PROFILE: Profile = Profile {
    models: &["ZBCO-AE-10X-EUR"],
    keys: &[("alarm", Some(Meaning::Truth(Sense::Role)))],
};
