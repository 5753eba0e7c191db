//! What an installer would have enrolled, from the context of a case.
//!
//! Every state topic of a case belongs to its one device, unless `devices` or `children` says
//! otherwise. Owns the words of the context; asks the adapters for addresses and knows no vendor.

use std::collections::BTreeSet;

use domain::config::{Enrolment, Passage, Role};
use domain::id::{NotASlug, PointId, SLUG_MAX};
use serde_json::{Map, Value};

use crate::adapter;

/// A topic and what was published there.
type Heard<'a> = (&'a str, &'a [u8]);

/// The enrolments of a case.
///
/// # Errors
/// When a device has no name of ours.
pub fn enrolments(
    ecosystem: Option<&str>,
    context: &Map<String, Value>,
    heard: &[Heard<'_>],
) -> Result<Vec<Enrolment>, NotASlug> {
    if context.get("enrolled") == Some(&Value::Bool(false)) {
        return Ok(Vec::new());
    }
    let heard: Vec<Heard<'_>> = heard
        .iter()
        .copied()
        .filter(|(topic, _)| !topic.starts_with('$'))
        .collect();
    let enrolling = Enrolling {
        ecosystem: ecosystem_of(ecosystem, context, &heard),
        context,
    };
    let mut found = Vec::new();
    let children = children(context);
    for (number, (child, roles)) in children.iter().enumerate() {
        for address in enrolling.addresses_of_child(child, &heard) {
            found.extend(enrolling.points(&slug(child, number), &address, roles)?);
        }
    }
    let roles = words(context.get("role"));
    let carries = roles.iter().any(|word| role(word) == Role::Bridge);
    if children.is_empty() || carries {
        for address in enrolling.addresses(&heard) {
            found.extend(enrolling.points("device", address, &roles)?);
        }
    }
    Ok(found)
}

/// The context's word first; a case about robustness speaks what its topics look like.
fn ecosystem_of<'a>(
    of_case: Option<&'a str>,
    context: &'a Map<String, Value>,
    heard: &[Heard<'_>],
) -> &'a str {
    let named = context.get("ecosystem").and_then(Value::as_str);
    named
        .or(of_case.filter(|name| *name != "robustness"))
        .or_else(|| {
            heard
                .iter()
                .find_map(|(topic, _)| adapter::looks_like(topic))
        })
        .unwrap_or_default()
}

/// Devices behind a bridge and their roles. A child whose role nobody says is only there or not.
fn children(context: &Map<String, Value>) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for key in ["devices", "children"] {
        match context.get(key) {
            Some(Value::Object(map)) => {
                let child = |(name, role): (&String, &Value)| {
                    let role = role.get("role").unwrap_or(role);
                    (name.clone(), words(Some(role)))
                };
                found.extend(map.iter().map(child));
            }
            Some(Value::Array(names)) => {
                let names = names.iter().filter_map(Value::as_str);
                found.extend(names.map(|name| (name.to_owned(), vec!["node".to_owned()])));
            }
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => {}
        }
    }
    found
}

/// The roles in a value: `smoke`, `smoke+co`, or a list.
fn words(value: Option<&Value>) -> Vec<String> {
    let split = |text: &str| -> Vec<String> {
        let words = text.split('+').map(|word| word.trim().to_owned());
        words.filter(|word| !word.is_empty()).collect()
    };
    match value {
        Some(Value::String(text)) => split(text),
        Some(Value::Array(items)) => items
            .iter()
            .filter_map(Value::as_str)
            .flat_map(split)
            .collect(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
            Vec::new()
        }
    }
}

/// A role by its word, with the words people use for others. One that we have no word for is a
/// device all the same.
fn role(word: &str) -> Role {
    match word {
        "occupancy" | "presence" | "vibration" => Role::Motion,
        "window" | "gate" => Role::Door,
        "button" => Role::PanicButton,
        "leak" | "flood" => Role::Water,
        _ => serde_json::from_value(Value::String(word.to_owned())).unwrap_or(Role::Node),
    }
}

struct Enrolling<'a> {
    ecosystem: &'a str,
    context: &'a Map<String, Value>,
}

impl Enrolling<'_> {
    /// The addresses at which the case's one device speaks.
    fn addresses<'t>(&self, heard: &[Heard<'t>]) -> BTreeSet<&'t str> {
        let of = |(topic, payload): &Heard<'t>| {
            adapter::address(self.ecosystem, topic, payload, self.context)
        };
        heard.iter().filter_map(of).collect()
    }

    /// The addresses of a child: every topic up to the child's own levels, or where it would speak.
    fn addresses_of_child(&self, child: &str, heard: &[Heard<'_>]) -> BTreeSet<String> {
        let spoken: BTreeSet<String> = [child.to_owned(), child.replacen('.', "/", 1)]
            .iter()
            .flat_map(|name| {
                heard
                    .iter()
                    .filter_map(move |(topic, _)| up_to(topic, name))
            })
            .map(str::to_owned)
            .collect();
        if !spoken.is_empty() {
            return spoken;
        }
        let base = heard.iter().find_map(|(topic, _)| topic.split_once('/'));
        BTreeSet::from([
            base.map_or_else(|| child.to_owned(), |(base, _)| format!("{base}/{child}"))
        ])
    }

    fn points(
        &self,
        device: &str,
        address: &str,
        roles: &[String],
    ) -> Result<Vec<Enrolment>, NotASlug> {
        let roles = roles.iter().map(|word| role(word));
        roles
            .map(|role| self.point(device, address, role))
            .collect()
    }

    fn point(&self, device: &str, address: &str, role: Role) -> Result<Enrolment, NotASlug> {
        let model = self.context.get("model").and_then(Value::as_str);
        Ok(Enrolment {
            device: device.parse()?,
            point: PointId::try_from(format!("{role:?}").to_ascii_lowercase())?,
            ecosystem: self.ecosystem.to_owned(),
            address: address.to_owned(),
            model: model.map(str::to_owned),
            role,
            zone: None,
            number: 1,
            momentary: role == Role::PanicButton,
            latching: false,
            interval_s: None,
            passage: Passage::None,
            decides: self.context.get("decides") != Some(&Value::Bool(false)),
            options: self.context.clone(),
        })
    }
}

/// A name of ours for a child, different for each.
fn slug(child: &str, number: usize) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = child.chars().map(plain).take(SLUG_MAX / 2).collect();
    format!("{name}-{number}")
}

/// The topic up to the end of a name that fills whole levels of it.
fn up_to<'t>(topic: &'t str, name: &str) -> Option<&'t str> {
    topic.match_indices(name).find_map(|(at, _)| {
        let (before, end) = (&topic[..at], at + name.len());
        let after = &topic[end..];
        let whole = (before.is_empty() || before.ends_with('/'))
            && (after.is_empty() || after.starts_with('/'));
        (whole && !name.is_empty()).then(|| &topic[..end])
    })
}
