//! What each role is shown: one struct an answer, each field filled only for whose eyes it is (G6).
//!
//! Pure. A silent panic point is for carers and directors alone; children are for carers and directors
//! alone; the signal log is for installers and directors. Codes only: the words are in `words.json`.

mod inside;
mod log;
mod status;

use std::time::Duration;

use domain::config::LocalRole;
use domain::time::Timestamp;
use serde::Serialize;

use super::look::Look;
pub use inside::inside;
pub use log::log;
pub use status::{Version, status, version};

/// Beyond this silence what is shown as present reads "as of" (D8).
pub const STALE_AFTER: Duration = Duration::from_secs(180);

/// Who sees children, and silent panic points.
pub const CARERS: &[LocalRole] = &[LocalRole::Carer, LocalRole::Director];
/// Who sees the signal log.
pub const INSTALLERS: &[LocalRole] = &[LocalRole::Installer, LocalRole::Director];

/// An instant, in milliseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Millis(i64);

impl From<Timestamp> for Millis {
    fn from(at: Timestamp) -> Self {
        Self(at.micros() / 1_000)
    }
}

/// What the lamp says, to anybody: no name, no place, no number.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Lamp {
    /// A point is in alarm, or nobody has reset it.
    pub alarm: bool,
    /// An alarm did not get through.
    pub not_forwarded: bool,
    /// Whether what the box knows is fresh; if not, `alarm` is what it last knew.
    pub known: bool,
}

impl Lamp {
    /// For anybody.
    #[must_use]
    pub fn of(look: &Look) -> Self {
        let view = look.view.as_deref();
        Self {
            alarm: view.is_some_and(|view| view.alarms.iter().any(|alarm| !alarm.silent)),
            not_forwarded: status::not_forwarded(look, false).is_some(),
            known: view.is_some() && !is_stale(look),
        }
    }
}

fn is_stale(look: &Look) -> bool {
    look.now.monotonic.saturating_sub(look.viewed) > STALE_AFTER
}
