//! A walk over a command's JSON, object by object, that says in words what is wrong with a field.

use std::collections::HashSet;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::check;
use crate::ErrorCode;

/// A client's own words are quoted in a reason up to this many characters.
const QUOTED_CHARS_MAX: usize = 64;

/// Why a command is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    pub(super) fn bad_request(reason: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, reason)
    }
}

/// A client's word, as short as a reason may have it.
pub(super) fn quoted(word: &str) -> String {
    match word.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("`{}…`", &word[..end]),
        None => format!("`{word}`"),
    }
}

/// One field of an object, its value still JSON.
#[derive(Clone, Debug)]
pub(super) struct Field<'t> {
    /// The command that it belongs to; empty for the outermost object.
    parent: &'static str,
    pub(super) name: String,
    value: &'t RawValue,
}

/// The fields of the object `json`, which is the value of `parent`, in their order and each once. The values are
/// skipped without recursion, whatever their depth.
pub(super) fn fields_of<'t>(parent: &'static str, json: &'t RawValue) -> Result<Vec<Field<'t>>, Refusal> {
    let what = if parent.is_empty() { "a message".to_owned() } else { quoted(parent) };
    if !json.get().starts_with('{') {
        return Err(Refusal::bad_request(format!("{what} must be an object, not {}", kind(json))));
    }
    let fields = serde_json::Deserializer::from_str(json.get())
        .deserialize_map(Collect { parent })
        .map_err(|_| Refusal::bad_request(format!("{what} has a field name that is no Unicode text")))?;
    let mut seen = HashSet::with_capacity(fields.len());
    match fields.iter().find(|field| !seen.insert(&field.name)) {
        Some(twice) => Err(Refusal::bad_request(format!("field {} is there twice", twice.path()))),
        None => Ok(fields),
    }
}

struct Collect {
    parent: &'static str,
}

impl<'t> Visitor<'t> for Collect {
    type Value = Vec<Field<'t>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, value)) = map.next_entry()? {
            fields.push(Field { parent: self.parent, name, value });
        }
        Ok(fields)
    }
}

impl<'t> Field<'t> {
    pub(super) fn value(&self) -> &'t RawValue {
        self.value
    }

    /// The field as the client knows it, for example `subscribe.topics`.
    pub(super) fn path(&self) -> String {
        if self.parent.is_empty() {
            quoted(&self.name)
        } else {
            quoted(&format!("{}.{}", self.parent, self.name))
        }
    }

    /// A refusal of the right field with a wrong value.
    pub(super) fn must(&self, condition: &str) -> Refusal {
        check::must(&self.path(), condition)
    }

    /// A refusal of the right field with a value of the wrong type.
    fn must_be(&self, expected: &str) -> Refusal {
        self.must(&format!("be {expected}, not {}", kind(self.value)))
    }

    /// A refusal of a field that its object does not have.
    pub(super) fn unknown(&self, known: &[&str]) -> Refusal {
        let reason = format!("unknown field {}; known are {}", self.path(), known.join(", "));
        Refusal::new(ErrorCode::UnknownField, reason)
    }

    pub(super) fn bool(&self) -> Result<bool, Refusal> {
        serde_json::from_str(self.value.get()).map_err(|_| self.must_be("true or false"))
    }

    pub(super) fn number(&self, expected: &str) -> Result<f64, Refusal> {
        serde_json::from_str(self.value.get()).map_err(|_| self.must_be(expected))
    }

    pub(super) fn string(&self, expected: &str) -> Result<String, Refusal> {
        serde_json::from_str(self.value.get()).map_err(|_| {
            let found = kind_as_text(self.value);
            self.must(&format!("be {expected}, not {found}"))
        })
    }

    pub(super) fn array(&self, expected: &str) -> Result<Vec<&'t RawValue>, Refusal> {
        serde_json::from_str(self.value.get()).map_err(|_| self.must_be(expected))
    }

    pub(super) fn strings(&self) -> Result<Vec<String>, Refusal> {
        let items = self.array("an array of strings")?;
        let text = |item: &RawValue| {
            serde_json::from_str(item.get())
                .map_err(|_| self.must(&format!("be an array of strings; it holds {}", kind_as_text(item))))
        };
        items.into_iter().map(text).collect()
    }
}

/// What kind of value was found where a text is due.
fn kind_as_text(json: &RawValue) -> &'static str {
    match kind(json) {
        // JSON's grammar lets an escaped surrogate stand alone; no text can hold it.
        "a string" => "a string that is no Unicode text",
        kind => kind,
    }
}

/// What kind of value valid JSON is.
fn kind(json: &RawValue) -> &'static str {
    match json.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}
