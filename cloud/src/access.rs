//! Who may see and do what: the one way to a row (D1).
//!
//! A [`Scope`] is proof of a right at an instant. Every SQL function of a capability takes one and
//! binds it in its `where`. People's scopes are built here from a session; a worker's only by the
//! engine once it holds the lock and by ingest for the certificate's centre (`tests/tidy.rs` lists
//! those call sites).

use domain::id::{CentreId, PersonId};

/// Proof of what its bearer may reach.
#[derive(Clone, Debug)]
pub struct Scope(Reach);

#[derive(Clone, Debug)]
enum Reach {
    Worker { centre: CentreId },
    Person { person: PersonId, role: Role },
}

/// In which capacity a person acts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Sees own children.
    Guardian,
    /// Watches the centres of a watch room.
    Operator,
    /// Runs the deployment; sees no child, guardian or picture.
    Admin,
}

impl Scope {
    /// The scope of our own work on one centre.
    #[must_use]
    pub fn worker(centre: CentreId) -> Self {
        Self(Reach::Worker { centre })
    }
}
