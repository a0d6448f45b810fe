//! A decoded message as JSON, as protobuf's own mapping has it but for integers, which are numbers where they can be.

use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage as _, Value};

use super::wkt;
use crate::decode::json::{Json, Written};

/// What writing a body has left.
pub(super) struct Writer {
    /// Bytes that may still be decoded out of an `Any`.
    pub(super) any_bytes_left: usize,
}

impl Writer {
    /// Recurses as deep as [`Json`] lets arrays and objects nest.
    pub(super) fn message(&mut self, message: &DynamicMessage, json: &mut Json) -> Written {
        match wkt::of(message.descriptor().full_name()) {
            Some(well_known) => self.well_known(well_known, message, json),
            None => json.object(|json| self.fields(message, json)),
        }
    }

    /// Those that are set, by number.
    pub(super) fn fields(&mut self, message: &DynamicMessage, json: &mut Json) -> Written {
        for (field, value) in message.fields() {
            json.key(field.json_name())?;
            self.value(&field.kind(), value, json)?;
        }
        for (extension, value) in message.extensions() {
            json.key(extension.json_name())?;
            self.value(&extension.kind(), value, json)?;
        }
        Ok(())
    }

    /// `kind` is that of a list's elements, and of a map the entry's.
    pub(super) fn value(&mut self, kind: &Kind, value: &Value, json: &mut Json) -> Written {
        match value {
            Value::Bool(value) => json.bool(*value),
            Value::I32(value) => json.integer((*value).into()),
            Value::I64(value) => json.integer((*value).into()),
            Value::U32(value) => json.integer((*value).into()),
            Value::U64(value) => json.integer((*value).into()),
            Value::F32(value) => json.float(*value),
            Value::F64(value) => json.double(*value),
            Value::String(text) => json.string(text)?,
            Value::Bytes(bytes) => json.base64(bytes)?,
            Value::EnumNumber(number) => {
                let kind = kind.as_enum();
                match kind.and_then(|kind| kind.get_value(*number)) {
                    _ if kind.is_some_and(|kind| kind.full_name() == "google.protobuf.NullValue") => {
                        json.null()
                    }
                    Some(value) => json.string(value.name())?,
                    None => json.integer((*number).into()),
                }
            }
            Value::Message(message) => self.message(message, json)?,
            Value::List(values) => json.array(|json| {
                values.iter().try_for_each(|value| {
                    json.element()?;
                    self.value(kind, value, json)
                })
            })?,
            Value::Map(values) => {
                let mut entries: Vec<_> = values.iter().collect();
                entries.sort_unstable_by_key(|(key, _)| *key);
                let of_values = kind.as_message().map(|entry| entry.map_entry_value_field().kind());
                json.object(|json| {
                    entries.into_iter().try_for_each(|(key, value)| {
                        json.key(&key_text(key))?;
                        self.value(of_values.as_ref().unwrap_or(kind), value, json)
                    })
                })?;
            }
        }
        Ok(())
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}
