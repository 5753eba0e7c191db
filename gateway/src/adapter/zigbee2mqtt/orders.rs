//! Commands to zigbee2mqtt devices, and the keys in which they tell that they obeyed.
//!
//! `{friendly name}/set` with one JSON object. Models differ, so an installer may give the object for each
//! wish as an option of the same name.

use domain::config::{Enrolment, Role};
use domain::kind::Kind;
use serde_json::{Map, Value, json};

use super::super::json::Pairs;
use super::super::{Message, Order, Says, Why, Wish};

/// How long a warning device sounds by itself, in seconds. Its command has no end of its own.
const WARNING_S: u32 = 1_800;

/// How a device is told.
pub fn order(enrolment: &Enrolment, wish: Wish, _: &str) -> Option<Order> {
    let body = body(enrolment, wish)?;
    Some(Order {
        topic: format!("{}/set", enrolment.address),
        // A lock says `lock.unlocked` in its own keys; whether a released contact opens is up to people.
        echoes: match wish {
            Wish::Sound(_) | Wish::Silence | Wish::Light(_) | Wish::Dark => {
                echo(enrolment).is_some()
            }
            Wish::Release => enrolment.role == Role::Lock,
        },
        payload: Value::Object(body).to_string().into_bytes(),
    })
}

fn body(enrolment: &Enrolment, wish: Wish) -> Option<Map<String, Value>> {
    let given = enrolment.options.get(wish.as_str());
    if let Some(body) = given {
        return body.as_object().cloned();
    }
    let usual = match wish {
        Wish::Sound(_) => json!({
            "warning": {"mode": "emergency", "level": "high", "strobe": true, "duration": WARNING_S},
        }),
        Wish::Silence => json!({
            "warning": {"mode": "stop", "level": "low", "strobe": false, "duration": 0},
        }),
        Wish::Light(_) => json!({"state": "ON"}),
        Wish::Dark => json!({"state": "OFF"}),
        Wish::Release => json!({"state": "UNLOCK"}),
    };
    usual.as_object().cloned()
}

/// The key in which a siren or lamp says whether it is on, and its two values: those of its commands, where
/// they are one plain key. A warning device only takes commands.
fn echo(enrolment: &Enrolment) -> Option<(String, Value, Value)> {
    let (on, off) = match enrolment.role {
        Role::Siren => (Wish::Sound(Why::Alarm), Wish::Silence),
        Role::Lamp => (Wish::Light(Why::Alarm), Wish::Dark),
        Role::PanicButton
        | Role::Keypad
        | Role::Smoke
        | Role::Heat
        | Role::Gas
        | Role::Co
        | Role::ManualCallPoint
        | Role::Water
        | Role::Door
        | Role::Lock
        | Role::Reader
        | Role::Motion
        | Role::Bridge
        | Role::Panel
        | Role::Node => return None,
    };
    let (key, on) = plain(&body(enrolment, on)?)?;
    let (other, off) = plain(&body(enrolment, off)?)?;
    (key == other).then_some((key, on, off))
}

fn plain(body: &Map<String, Value>) -> Option<(String, Value)> {
    let (key, value) = body.iter().next()?;
    let is_plain = body.len() == 1 && !value.is_object() && !value.is_array();
    is_plain.then(|| (key.clone(), value.clone()))
}

/// What sirens and lamps among these points say of themselves. Any other value says nothing.
pub fn hear(points: &[&Enrolment], pairs: &Pairs, message: &mut Message) {
    for point in points {
        let kind = if point.role == Role::Siren {
            Kind::SirenSounding
        } else {
            Kind::LampLit
        };
        let Some((key, on, off)) = echo(point) else {
            continue;
        };
        let said = pairs.iter().find(|(name, _)| *name == key);
        if let Some((_, value)) = said.filter(|(_, value)| *value == on || *value == off) {
            let on = *value == on;
            message.says(&point.key(), Says::Echo { kind, on });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::super::book::tests::enrolment;
    use super::*;

    fn siren(options: Value) -> Enrolment {
        let mut siren = enrolment("s", super::super::NAME, "zigbee2mqtt/s", Role::Siren);
        siren.options = options.as_object().cloned().unwrap();
        siren
    }

    fn sent(enrolment: &Enrolment, wish: Wish) -> (String, Value, bool) {
        let order = order(enrolment, wish, "1").unwrap();
        let body = serde_json::from_slice(&order.payload).unwrap();
        (order.topic, body, order.echoes)
    }

    #[test]
    fn a_warning_device_takes_commands_and_says_nothing() {
        let (topic, body, echoes) = sent(&siren(json!({})), Wish::Sound(Why::Alarm));
        assert_eq!(topic, "zigbee2mqtt/s/set");
        assert_eq!(body["warning"]["mode"], "emergency");
        assert!(!echoes);
    }

    #[test]
    fn a_siren_with_a_switch_is_told_and_heard_by_it() {
        let siren = siren(json!({"sound": {"alarm": true}, "silence": {"alarm": false}}));
        let (_, body, echoes) = sent(&siren, Wish::Silence);
        assert_eq!((body, echoes), (json!({"alarm": false}), true));
        let mut message = Message::default();
        hear(
            &[&siren],
            &vec![("alarm".into(), true.into())],
            &mut message,
        );
        let said = Says::Echo {
            kind: Kind::SirenSounding,
            on: true,
        };
        assert_eq!(message.readings[0].says, said);
    }

    #[test]
    fn a_lock_is_only_ever_unlocked() {
        let lock = enrolment("l", super::super::NAME, "zigbee2mqtt/l", Role::Lock);
        let (_, body, echoes) = sent(&lock, Wish::Release);
        assert_eq!((body, echoes), (json!({"state": "UNLOCK"}), true));
    }
}
