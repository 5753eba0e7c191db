//! Reading a JSON document by hand, so that every complaint names the place and what would be right.
//!
//! Never repeats a value in a complaint: the document holds passwords and card numbers.

use std::str::FromStr;

use serde_json::{Map, Value};
use uuid::Uuid;

/// What is wrong in a document, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {wanted}")]
pub struct Wrong {
    /// JSON path, `$.centres[0].name`.
    pub path: String,
    /// What would be right.
    pub wanted: String,
}

/// A value and where it stands.
#[derive(Clone)]
pub struct At<'a> {
    value: &'a Value,
    /// JSON path.
    pub path: String,
}

/// An object whose fields are all known.
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    /// JSON path.
    pub path: String,
}

impl<'a> At<'a> {
    /// The whole document.
    pub fn root(value: &'a Value) -> Self {
        Self {
            value,
            path: "$".to_owned(),
        }
    }

    /// A complaint about this value.
    pub fn wrong(&self, wanted: impl Into<String>) -> Wrong {
        Wrong {
            path: self.path.clone(),
            wanted: wanted.into(),
        }
    }

    /// An object with no fields but these.
    pub fn fields(&self, known: &[&str]) -> Result<Fields<'a>, Wrong> {
        let Value::Object(map) = self.value else {
            return Err(self.wrong("must be an object"));
        };
        let unknown = map.keys().find(|name| !known.contains(&name.as_str()));
        if let Some(name) = unknown {
            let path = format!("{}.{name}", self.path);
            let wanted = format!("unknown field; known are {}", known.join(", "));
            return Err(Wrong { path, wanted });
        }
        Ok(Fields {
            map,
            path: self.path.clone(),
        })
    }

    /// The elements of an array.
    pub fn list(&self) -> Result<Vec<At<'a>>, Wrong> {
        let Value::Array(values) = self.value else {
            return Err(self.wrong("must be an array"));
        };
        let at = |(i, value)| At {
            value,
            path: format!("{}[{i}]", self.path),
        };
        Ok(values.iter().enumerate().map(at).collect())
    }

    /// A text of 1 to `max` characters without control characters.
    pub fn text(&self, max: usize) -> Result<String, Wrong> {
        let text = self.value.as_str().filter(|text| {
            (1..=max).contains(&text.chars().count()) && !text.contains(char::is_control)
        });
        text.map(str::to_owned)
            .ok_or_else(|| self.wrong(format!("must be a text of 1 to {max} characters")))
    }

    /// A UUID.
    pub fn uuid(&self) -> Result<Uuid, Wrong> {
        self.parsed("must be a UUID, such as 0198c0de-0000-7000-8000-000000000001")
    }

    /// A text that some type can be read from.
    pub fn parsed<T: FromStr>(&self, wanted: &str) -> Result<T, Wrong> {
        let text = self.value.as_str();
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| self.wrong(wanted))
    }

    /// One of our slugs: 1 to 64 letters, digits, '.', '_' or '-'.
    pub fn slug<T: FromStr>(&self) -> Result<T, Wrong> {
        self.parsed("must be a name of 1 to 64 letters, digits, '.', '_' or '-'")
    }

    /// One of a few words.
    pub fn word(&self, words: &[&'static str]) -> Result<&'static str, Wrong> {
        let text = self.value.as_str();
        let found = words.iter().find(|word| Some(**word) == text);
        found
            .copied()
            .ok_or_else(|| self.wrong(format!("must be one of {}", words.join(", "))))
    }

    /// Hex digits of either case, `least` to `most` of them.
    pub fn hex(&self, least: usize, most: usize) -> Result<String, Wrong> {
        let text = self.value.as_str().filter(|text| {
            (least..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
        });
        let count = if least == most {
            least.to_string()
        } else {
            format!("{least} to {most}")
        };
        text.map(str::to_owned)
            .ok_or_else(|| self.wrong(format!("must be {count} hex digits, as a text")))
    }

    /// A whole number within bounds.
    pub fn number(&self, least: u32, most: u32) -> Result<u32, Wrong> {
        let number = self.value.as_u64().and_then(|n| u32::try_from(n).ok());
        number
            .filter(|n| (least..=most).contains(n))
            .ok_or_else(|| self.wrong(format!("must be a whole number from {least} to {most}")))
    }

    /// true or false.
    pub fn bool(&self) -> Result<bool, Wrong> {
        self.value
            .as_bool()
            .ok_or_else(|| self.wrong("must be true or false"))
    }

    /// An object of any content.
    pub fn any_object(&self) -> Result<Map<String, Value>, Wrong> {
        let object = self.value.as_object().cloned();
        object.ok_or_else(|| self.wrong("must be an object"))
    }
}

impl<'a> Fields<'a> {
    /// A field that must be there.
    pub fn get(&self, name: &str) -> Result<At<'a>, Wrong> {
        let path = format!("{}.{name}", self.path);
        match self.map.get(name) {
            Some(value) => Ok(At { value, path }),
            None => Err(Wrong {
                path,
                wanted: "is missing".to_owned(),
            }),
        }
    }

    /// A field that may be absent or null.
    pub fn maybe(&self, name: &str) -> Option<At<'a>> {
        let value = self.map.get(name).filter(|value| !value.is_null())?;
        Some(At {
            value,
            path: format!("{}.{name}", self.path),
        })
    }

    /// A list that may be absent, each element read by `read`.
    pub fn each<T>(
        &self,
        name: &str,
        read: impl Fn(&At<'a>) -> Result<T, Wrong>,
    ) -> Result<Vec<T>, Wrong> {
        match self.maybe(name) {
            Some(list) => list.list()?.iter().map(read).collect(),
            None => Ok(Vec::new()),
        }
    }

    /// An optional field, read by `read`.
    pub fn optional<T>(
        &self,
        name: &str,
        read: impl Fn(&At<'a>) -> Result<T, Wrong>,
    ) -> Result<Option<T>, Wrong> {
        self.maybe(name).map(|at| read(&at)).transpose()
    }
}
