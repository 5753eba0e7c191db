//! Who passes a reader, and which way (D8).
//!
//! Owns the two words box and cloud use of a credential and a reader. Decides nothing.

use serde::{Deserialize, Serialize};

use crate::id::{ChildId, PersonId};

/// Whose a credential is (D8).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "id")]
pub enum Holder {
    /// A child's own card: proves passage only.
    Child(ChildId),
    /// A guardian.
    Guardian(PersonId),
    /// An adult the guardian named.
    Pickup(PersonId),
    /// A member of staff.
    Staff(PersonId),
    /// A visitor.
    Visitor(PersonId),
}

/// Which way a reader counts people (D8).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Passage {
    /// Counts nobody.
    #[default]
    None,
    /// In only.
    In,
    /// Out only.
    Out,
    /// Either: a tap toggles.
    Both,
}
