//! What the topic of an entity looks like.
//!
//! Owns the list of components and the topics that are never evidence. Never reads a payload.

/// The components and domains whose topics are an entity's.
const COMPONENTS: &[&str] = &[
    "alarm_control_panel",
    "automation",
    "binary_sensor",
    "button",
    "camera",
    "climate",
    "cover",
    "date",
    "datetime",
    "device_tracker",
    "event",
    "fan",
    "group",
    "humidifier",
    "image",
    "input_boolean",
    "input_button",
    "input_datetime",
    "input_number",
    "input_select",
    "input_text",
    "light",
    "lock",
    "media_player",
    "number",
    "person",
    "remote",
    "scene",
    "script",
    "select",
    "sensor",
    "siren",
    "switch",
    "text",
    "text_sensor",
    "time",
    "update",
    "vacuum",
    "valve",
    "water_heater",
    "weather",
    "zone",
];
/// The components that are an input: a detector, a door, a button.
const INPUTS: &[&str] = &[
    "alarm_control_panel",
    "binary_sensor",
    "cover",
    "event",
    "lock",
];
/// The last part of an entity's state topic.
pub const STATE: &str = "state";

/// What an entity's topic names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entity<'t> {
    /// Everything before the component.
    pub prefix: &'t str,
    /// The component, in Home Assistant the domain; empty for a topic of no component.
    pub component: &'t str,
    /// The object id.
    pub object: &'t str,
    /// The topic up to the object id, which names the entity in the level store too.
    pub address: &'t str,
    /// What follows the object id.
    pub rest: &'t str,
}

impl<'t> Entity<'t> {
    /// The entity whose topic this is: `{prefix}/{component}/{object}/{rest}`, where the rest has one
    /// level or two.
    pub fn of(topic: &'t str) -> Option<Self> {
        let (above, last) = topic.rsplit_once('/')?;
        Self::at(above, last).or_else(|| {
            let (above, _) = above.rsplit_once('/')?;
            Self::at(above, &topic[above.len() + 1..])
        })
    }

    /// The entity with this address.
    pub fn at(address: &'t str, rest: &'t str) -> Option<Self> {
        let (above, object) = address.rsplit_once('/')?;
        let (prefix, component) = above.rsplit_once('/')?;
        COMPONENTS.contains(&component).then_some(Self {
            prefix,
            component,
            object,
            address,
            rest,
        })
    }

    /// A topic of no component, as firmware publishes beside its entities.
    pub fn plain(topic: &'t str) -> Self {
        let (prefix, object) = topic.rsplit_once('/').unwrap_or(("", topic));
        Self {
            prefix,
            component: "",
            object,
            address: topic,
            rest: STATE,
        }
    }

    /// Whether the component is an input: a detector, a door, a button.
    pub fn is_input(&self) -> bool {
        INPUTS.contains(&self.component)
    }

    /// Whether its state can say anything to us.
    pub fn speaks(&self) -> bool {
        self.is_input() || ["sensor", "text_sensor", ""].contains(&self.component)
    }
}

/// Whether a topic is a discovery document of Home Assistant, which is never evidence.
pub fn is_discovery(topic: &str) -> bool {
    let mut levels = topic.split('/').skip(1);
    let component = levels.next().unwrap_or_default();
    let rest: Vec<&str> = levels.take(4).collect();
    COMPONENTS.contains(&component) && matches!(rest[..], [_, "config"] | [_, _, "config"])
}

/// Whether the last level of a topic says that it carries a command (R8).
pub fn is_command(topic: &str) -> bool {
    let last = topic.rsplit_once('/').map_or(topic, |(_, last)| last);
    [
        "set", "get", "cmnd", "command", "cmd", "control", "action", "request", "rpc",
    ]
    .contains(&last)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_names_prefix_component_and_object() {
        let entity = Entity::of("kinder/floor 2/cover/gate/position/state").unwrap();
        assert_eq!(
            (entity.prefix, entity.component, entity.rest),
            ("kinder/floor 2", "cover", "position/state")
        );
        let entity = Entity::of("nap/lock/binary_sensor/x/state").unwrap();
        assert_eq!((entity.prefix, entity.object), ("nap/lock", "x"));
        assert_eq!(entity.address, "nap/lock/binary_sensor/x");
        for other in ["binary_sensor/x/state", "a/b", "", "/", "a/b/c/d/e/f"] {
            assert_eq!(Entity::of(other), None, "{other}");
        }
    }

    #[test]
    fn a_discovery_document_is_known_by_its_topic() {
        assert!(is_discovery("homeassistant/binary_sensor/nap/smoke/config"));
        assert!(is_discovery("ha/lock/front/config"));
        for other in [
            "homeassistant/binary_sensor/config",
            "homeassistant/lamp/nap/smoke/config",
            "homeassistant/binary_sensor/nap/smoke/state",
            "homeassistant/binary_sensor/a/b/c/config",
        ] {
            assert!(!is_discovery(other), "{other}");
        }
    }
}
