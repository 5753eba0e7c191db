//! (being written)
use domain::time::Timestamp;

use std::time::Duration;

/// A proposal to close a panic as false alarm is void after this; the second person starts anew.
pub const SECOND_PERSON_WITHIN: Duration = Duration::from_secs(600);

/// Why a person's act is refused, in terms of what would be allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Closed is final.
    #[error("the case is closed; only a note can be added, a new alarm opens a linked case")]
    Closed {
        /// Since when.
        at: Timestamp,
    },
    /// The request is not one of this case.
    #[error("the case has no such request")]
    NoSuchDispatch,
    /// It is taken or cancelled.
    #[error("the request is accepted or cancelled already")]
    DispatchSettled,
}
