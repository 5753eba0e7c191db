//! Heiman's heat alarm: its `alarm` is the detector's own level.

use super::super::super::sense::Sense;
use super::super::keys::Meaning;
use super::Profile;

pub const PROFILE: Profile = Profile {
    models: &["HM-5HA-E"],
    keys: &[("alarm", Some(Meaning::Truth(Sense::Role)))],
};
