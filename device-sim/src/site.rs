//! One centre as a player sees it: which points it can act on, and which cards mean exactly one thing.
//!
//! Owns: the digest of a town's centre. Never: sends anything.

use crate::town::{Centre, Enrolment, HolderKind, Passage, Town};
use uuid::Uuid;

/// A centre ready to be played.
#[derive(Debug, Clone)]
pub struct Site {
    pub centre: Uuid,
    pub name: String,
    pub readers_in: Vec<Spot>,
    pub readers_out: Vec<Spot>,
    pub doors: Vec<Spot>,
    pub buttons: Vec<Spot>,
    pub smokes: Vec<Spot>,
    /// Smoke detectors behind a zigbee2mqtt bridge.
    pub zigbee_smokes: Vec<Spot>,
    pub bridges: Vec<Spot>,
    pub pupils: Vec<Pupil>,
}

/// A point and the connection it speaks over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    pub device: String,
    pub point: String,
    pub address: String,
    /// User name of the MQTT credential that covers the address.
    pub connection: String,
    pub zone: String,
    pub number: u16,
}

/// A child and the card that brings it: a guardian's card where that guardian has only this child, else the child's
/// own. A card of a guardian of several is left alone, for the product then asks a person instead of guessing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pupil {
    pub child: Uuid,
    pub short_name: String,
    pub holder: Uuid,
    pub card: String,
    /// A guardian's card also fetches; a child's own only brings (out, it would wait for a carer's word).
    pub fetches: bool,
}

impl Site {
    /// The digest of `centre`, limited to the points and credentials of `gateway` where one is named.
    pub fn of(town: &Town, centre: &Centre, gateway: Option<Uuid>) -> Site {
        let spots = |fits: &dyn Fn(&Enrolment) -> bool| -> Vec<Spot> {
            let ours =
                |enrolment: &&Enrolment| gateway.is_none_or(|gateway| enrolment.gateway == gateway);
            centre
                .enrolments
                .iter()
                .filter(ours)
                .filter(|own| fits(own))
                .filter_map(|own| spot(centre, own))
                .collect()
        };
        let antuo =
            |role: &'static str| spots(&move |own| own.role == role && own.ecosystem == "antuo");
        let zigbee = |role: &'static str| {
            spots(&move |own| own.role == role && own.ecosystem == "zigbee2mqtt")
        };
        let reader = |passage| {
            spots(&move |own| own.role == "reader" && own.decides && own.passage == passage)
        };
        Site {
            centre: centre.id,
            name: centre.short_name.clone(),
            readers_in: reader(Passage::In),
            readers_out: reader(Passage::Out),
            doors: antuo("door"),
            buttons: antuo("panic_button"),
            smokes: antuo("smoke"),
            zigbee_smokes: zigbee("smoke"),
            bridges: zigbee("bridge"),
            pupils: centre
                .children
                .iter()
                .filter_map(|child| pupil(town, centre, child.id, &child.short_name))
                .collect(),
        }
    }
}

fn spot(centre: &Centre, own: &Enrolment) -> Option<Spot> {
    let covers = |filter: &String| {
        filter
            .strip_suffix('#')
            .is_some_and(|prefix| own.address.starts_with(prefix))
    };
    let connection = centre.mqtt_credentials.iter().find(|credential| {
        credential.gateway == own.gateway && credential.publish.iter().any(covers)
    })?;
    let zone = centre.zones.iter().find(|zone| zone.id == own.zone);
    Some(Spot {
        device: own.device.clone(),
        point: own.point.clone(),
        address: own.address.clone(),
        connection: connection.username.clone(),
        zone: zone.map_or_else(|| own.zone.clone(), |zone| zone.name.clone()),
        number: own.number,
    })
}

fn pupil(town: &Town, centre: &Centre, child: Uuid, short_name: &str) -> Option<Pupil> {
    let of_guardian = centre.credentials.iter().find(|credential| {
        credential.holder.kind == HolderKind::Guardian
            && town.children_of(credential.holder.id) == [child]
    });
    let own = || {
        let is_own = |credential: &&crate::town::Credential| {
            credential.holder.kind == HolderKind::Child && credential.holder.id == child
        };
        centre.credentials.iter().find(is_own)
    };
    let credential = of_guardian.or_else(own)?;
    Some(Pupil {
        child,
        short_name: short_name.to_owned(),
        holder: credential.holder.id,
        card: credential.card.clone(),
        fetches: of_guardian.is_some(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub mod tests {
    use super::*;
    use crate::make_town::{Addresses, make};

    /// A town of two centres and the digest of its first.
    pub fn town_and_site() -> (Town, Site) {
        let at = |port: u16| (format!("127.0.0.1:{port}"), None);
        let town = make(
            7,
            2,
            &Addresses {
                police: at(1),
                fire: at(2),
                monitoring: at(3),
            },
        );
        let site = Site::of(&town, &town.centres[0], None);
        (town, site)
    }

    #[test]
    fn a_made_centre_can_be_played_in_full() {
        let (town, site) = town_and_site();
        assert_eq!(
            (
                site.readers_in.len(),
                site.readers_out.len(),
                site.doors.len()
            ),
            (1, 1, 2)
        );
        assert_eq!((site.buttons.len(), site.smokes.len()), (2, 2));
        assert_eq!((site.zigbee_smokes.len(), site.bridges.len()), (1, 1));
        assert_eq!(site.zigbee_smokes[0].connection, "z2m");
        assert_eq!(site.buttons[0].zone, "大厅");
        assert_eq!(site.pupils.len(), 8);
        assert_eq!(
            site.pupils.iter().filter(|pupil| !pupil.fetches).count(),
            2,
            "the siblings come by their own cards"
        );
        for pupil in site.pupils.iter().filter(|pupil| pupil.fetches) {
            assert_eq!(town.children_of(pupil.holder), [pupil.child]);
        }
    }

    #[test]
    fn another_gateways_points_are_left_out() {
        let (town, _site) = town_and_site();
        let other = Site::of(
            &town,
            &town.centres[0],
            Some(town.centres[1].gateways[0].id),
        );
        assert!(other.buttons.is_empty() && other.readers_in.is_empty());
    }
}
