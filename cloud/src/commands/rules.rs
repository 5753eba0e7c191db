//! What of a command can be judged before it is sent, and to which boxes it goes: pure.
//!
//! Owns the refusals a person gets at once, in terms of what would be right. Whatever needs the state of a
//! point is the box's to judge.

use std::collections::{BTreeMap, BTreeSet};

use domain::command::{Act, Command, Scope, Test, TestKind, Unfit, may_bypass};
use domain::config::Role;
use domain::id::{CommandId, GatewayId, PersonId, PointKey};
use domain::time::Timestamp;

/// What a centre has, as far as commands go.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Its boxes.
    pub gateways: BTreeSet<GatewayId>,
    /// Its points: the box that serves each, and what each is for.
    pub points: BTreeMap<PointKey, (GatewayId, Role)>,
    /// Test sessions asked for or begun and not known to be over, with their boxes.
    pub sessions: BTreeMap<CommandId, BTreeSet<GatewayId>>,
}

/// Why a command is not even sent, in terms of what would be right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unsuitable {
    /// The box would say so too.
    #[error("{0}")]
    Unfit(#[from] Unfit),
    /// No box serves the point.
    #[error(
        "no such point is enrolled at this centre; see the alarms of a case for device and point"
    )]
    NotEnrolled,
    /// A button that calls for help, in a test that never covers it.
    #[error(
        "a panic button, keypad or panel is tested only by a walk test that names it: give kind walk, or leave it out"
    )]
    PanicNeedsWalk,
    /// The centre has no box.
    #[error("the centre has no box that could do it")]
    NoBox,
    /// The other person has no right here.
    #[error("the second person or partner must have a right of their own at this centre now")]
    OtherPerson,
}

/// The boxes a command goes to, each with its own part of the act.
///
/// # Errors
/// The first reason against it.
pub fn parts(site: &Site, act: &Act, by: PersonId) -> Result<BTreeMap<GatewayId, Act>, Unsuitable> {
    check(act, by)?;
    match act {
        Act::Acknowledge { point, .. } | Act::Reset { point, .. } | Act::EndBypass { point } => {
            one(site, point, act)
        }
        Act::Expected { session, point } => {
            in_session(site, *session)?;
            one(site, point, act)
        }
        Act::Bypass(bypass) => {
            let (_, role) = served(site, &bypass.point)?;
            if !may_bypass(role) {
                return Err(Unfit::NeverBypassed.into());
            }
            one(site, &bypass.point, act)
        }
        Act::Release { door } => match served(site, door)?.1 {
            Role::Door | Role::Lock => one(site, door, act),
            Role::PanicButton
            | Role::Keypad
            | Role::Smoke
            | Role::Heat
            | Role::Gas
            | Role::Co
            | Role::ManualCallPoint
            | Role::Water
            | Role::Reader
            | Role::Motion
            | Role::Siren
            | Role::Lamp
            | Role::Bridge
            | Role::Panel
            | Role::Node => Err(Unfit::NoDoor.into()),
        },
        Act::TestBegin(test) => begin(site, test),
        Act::TestEnd { session } => {
            let boxes = in_session(site, *session)?;
            Ok(boxes.iter().map(|to| (*to, act.clone())).collect())
        }
    }
}

fn check(act: &Act, by: PersonId) -> Result<(), Unfit> {
    let command = Command {
        id: CommandId(uuid::Uuid::nil()),
        by,
        expires_at: Timestamp::default(),
        act: act.clone(),
    };
    command.check()
}

fn served(site: &Site, point: &PointKey) -> Result<(GatewayId, Role), Unsuitable> {
    let found = site.points.get(point).copied();
    found.ok_or(Unsuitable::NotEnrolled)
}

fn one(site: &Site, point: &PointKey, act: &Act) -> Result<BTreeMap<GatewayId, Act>, Unsuitable> {
    let (gateway, _) = served(site, point)?;
    Ok([(gateway, act.clone())].into())
}

fn in_session(site: &Site, session: CommandId) -> Result<&BTreeSet<GatewayId>, Unsuitable> {
    let found = site.sessions.get(&session);
    Ok(found.ok_or(Unfit::NoSession)?)
}

/// Each box gets the points it serves; a box refuses a test that names another's.
fn begin(site: &Site, test: &Test) -> Result<BTreeMap<GatewayId, Act>, Unsuitable> {
    let part = |scope: Scope| {
        Act::TestBegin(Test {
            scope,
            ..test.clone()
        })
    };
    let parts: BTreeMap<GatewayId, Act> = match &test.scope {
        Scope::Centre => {
            let boxes = site.gateways.iter();
            boxes.map(|to| (*to, part(Scope::Centre))).collect()
        }
        Scope::Points(points) => {
            let mut of_box: BTreeMap<GatewayId, BTreeSet<PointKey>> = BTreeMap::new();
            for point in points {
                let (gateway, role) = served(site, point)?;
                if test.kind != TestKind::Walk && !test.covers(point, role) {
                    return Err(Unsuitable::PanicNeedsWalk);
                }
                of_box.entry(gateway).or_default().insert(point.clone());
            }
            let boxes = of_box.into_iter();
            boxes
                .map(|(to, points)| (to, part(Scope::Points(points))))
                .collect()
        }
    };
    if parts.is_empty() {
        return Err(Unsuitable::NoBox);
    }
    Ok(parts)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use domain::command::Bypass;
    use uuid::Uuid;

    const ANNA: PersonId = PersonId(Uuid::from_u128(0xA));

    fn point(device: &str) -> PointKey {
        PointKey {
            device: device.parse().unwrap(),
            point: "x".parse().unwrap(),
        }
    }

    fn boxed(n: u128) -> GatewayId {
        GatewayId(Uuid::from_u128(n))
    }

    fn site() -> Site {
        let points = [
            ("btn", 1, Role::PanicButton),
            ("smoke", 1, Role::Smoke),
            ("heat", 2, Role::Heat),
            ("door", 2, Role::Door),
        ];
        Site {
            gateways: [boxed(1), boxed(2)].into(),
            points: (points.into_iter())
                .map(|(device, at, role)| (point(device), (boxed(at), role)))
                .collect(),
            sessions: [(CommandId(Uuid::from_u128(9)), [boxed(2)].into())].into(),
        }
    }

    fn test(kind: TestKind, names: &[&str]) -> Act {
        Act::TestBegin(Test {
            scope: Scope::Points(names.iter().map(|name| point(name)).collect()),
            kind,
            minutes: 10,
            reason: "yearly".into(),
            partner: None,
        })
    }

    #[test]
    fn each_box_gets_the_points_it_serves_and_a_centre_all_of_its_boxes() {
        let parts = |act: &Act| parts(&site(), act, ANNA);
        let both = parts(&test(TestKind::Maintenance, &["smoke", "heat"])).unwrap();
        assert_eq!(both[&boxed(1)], test(TestKind::Maintenance, &["smoke"]));
        assert_eq!(both[&boxed(2)], test(TestKind::Maintenance, &["heat"]));
        let Act::TestBegin(mut whole) = test(TestKind::Drill, &[]) else {
            unreachable!("a test was made")
        };
        whole.scope = Scope::Centre;
        assert_eq!(parts(&Act::TestBegin(whole)).unwrap().len(), 2);
        let end = |n| Act::TestEnd {
            session: CommandId(Uuid::from_u128(n)),
        };
        assert_eq!(
            parts(&end(9)).unwrap().into_keys().collect::<Vec<_>>(),
            [boxed(2)]
        );
        assert_eq!(parts(&end(8)), Err(Unfit::NoSession.into()));
    }

    #[test]
    fn what_no_box_would_do_is_refused_before_it_is_sent() {
        let verdict = |act: &Act| parts(&site(), act, ANNA).map(|_| ());
        let bypass = |name| {
            Act::Bypass(Bypass {
                point: point(name),
                minutes: 30,
                reason: "painting".into(),
                second: None,
            })
        };
        assert_eq!(verdict(&bypass("smoke")), Ok(()));
        assert_eq!(verdict(&bypass("btn")), Err(Unfit::NeverBypassed.into()));
        assert_eq!(verdict(&bypass("none")), Err(Unsuitable::NotEnrolled));
        let named = |kind| verdict(&test(kind, &["btn"]));
        assert_eq!(named(TestKind::Walk), Ok(()));
        assert_eq!(named(TestKind::Drill), Err(Unsuitable::PanicNeedsWalk));
        let nothing = verdict(&test(TestKind::Walk, &[]));
        assert_eq!(nothing, Err(Unfit::BadScope.into()));
        let release = |name| verdict(&Act::Release { door: point(name) });
        assert_eq!(release("door"), Ok(()));
        assert_eq!(release("smoke"), Err(Unfit::NoDoor.into()));
    }
}
