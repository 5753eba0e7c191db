//! Whom a case must tell: pure, from what is known of it.
//!
//! Owns the built-in plan for China (D7) and its snapshot in the case. Never looks at how a telling
//! went: that is `job`.

use domain::id::ReceiverId;
use domain::kind::Hazard;
use serde::{Deserialize, Serialize};

use super::Agency;

/// The plan as it stood when the case opened.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Plan {
    /// The local authority wants fire verified before the fire service is called.
    pub fire_needs_verification: bool,
    /// Every receiver that keeps an account for the centre.
    pub receivers: Vec<PlanReceiver>,
}

/// A receiver that keeps an account for the centre.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PlanReceiver {
    /// The receiver.
    pub receiver: ReceiverId,
    /// Whose it is.
    pub agency: Agency,
    /// The centre's account there.
    pub account: String,
}

impl Plan {
    /// The receivers of an agency, in the order of the snapshot.
    pub fn receivers_of(&self, agency: Agency) -> impl Iterator<Item = &PlanReceiver> {
        self.receivers.iter().filter(move |r| r.agency == agency)
    }

    /// The centre's account at a receiver.
    #[must_use]
    pub fn account_at(&self, receiver: ReceiverId) -> Option<&str> {
        (self
            .receivers
            .iter()
            .find(|known| known.receiver == receiver))
        .map(|known| known.account.as_str())
    }

    /// Which agencies must be told now of a case with something dispatchable in it: panic goes to
    /// the police at once; fire to the monitoring centre at once and to the fire service once
    /// confirmed, or at once where no verification is asked for (D7). The other hazards are for our
    /// operators, who telephone.
    #[must_use]
    pub fn agencies(&self, hazard: Hazard, confirmed: bool) -> &'static [Agency] {
        match hazard {
            Hazard::Panic => &[Agency::Police],
            Hazard::Fire if confirmed || !self.fire_needs_verification => {
                &[Agency::Monitoring, Agency::Fire]
            }
            Hazard::Fire => &[Agency::Monitoring],
            Hazard::Intrusion | Hazard::MissingChild | Hazard::Technical => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_never_waits_and_a_fire_waits_only_where_the_authority_says_so() {
        let asks = Plan {
            fire_needs_verification: true,
            ..Plan::default()
        };
        let direct = Plan::default();
        for plan in [&asks, &direct] {
            assert_eq!(plan.agencies(Hazard::Panic, false), [Agency::Police]);
            let all = plan.agencies(Hazard::Fire, true);
            assert_eq!(all, [Agency::Monitoring, Agency::Fire]);
        }
        assert_eq!(asks.agencies(Hazard::Fire, false), [Agency::Monitoring]);
        let at_once = direct.agencies(Hazard::Fire, false);
        assert_eq!(at_once, [Agency::Monitoring, Agency::Fire]);
    }

    #[test]
    fn panic_and_fire_never_share_an_agency_list() {
        let plan = Plan::default();
        for confirmed in [false, true] {
            let panic = plan.agencies(Hazard::Panic, confirmed);
            let fire = plan.agencies(Hazard::Fire, confirmed);
            assert!(panic.iter().all(|agency| !fire.contains(agency)));
        }
    }
}
