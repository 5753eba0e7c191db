//! Models whose keys do not mean what the interface says.
//!
//! A further one is one file in this folder and one line in [`PROFILES`]. Owns no meaning that holds
//! for every model: those are `keys`'s.

mod ecolink;
mod fireangel;
mod heiman;
mod senoro;
mod terncy;

use domain::config::Enrolment;

use super::keys::Meaning;

/// What a model's keys mean in place of the common meaning.
struct Profile {
    /// Names as zigbee2mqtt gives them; an enrolment's `model` selects by them.
    models: &'static [&'static str],
    /// Key, and what it means here; none for a key that says nothing about safety.
    keys: &'static [(&'static str, Option<Meaning>)],
}

const PROFILES: &[Profile] = &[
    ecolink::PROFILE,
    fireangel::PROFILE,
    heiman::PROFILE,
    senoro::PROFILE,
    terncy::PROFILE,
];

/// What a key means on the enrolled models; the outer none where they have nothing to say to it.
pub fn meaning(key: &str, points: &[&Enrolment]) -> Option<Option<Meaning>> {
    let is_here = |profile: &&Profile| {
        let models = points.iter().filter_map(|e| e.model.as_deref());
        models.into_iter().any(|m| profile.models.contains(&m))
    };
    let mut keys = PROFILES.iter().filter(is_here).flat_map(|p| p.keys);
    keys.find(|(name, _)| *name == key)
        .map(|(_, meaning)| *meaning)
}
