//! Senoro's window sensor: `opening_state` tells the window, `alarm_state` only its own sounder.

use super::Profile;

pub const PROFILE: Profile = Profile {
    models: &["Senoro.Win v2"],
    keys: &[("alarm_state", None)],
};
