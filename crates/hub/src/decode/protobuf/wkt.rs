//! The types of `google/protobuf/*.proto` that have a JSON of their own.

use prost_reflect::prost_types::Duration;
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};

use super::write::Writer;
use crate::decode::json::{self, Json, Written};
use crate::decode::{Cause, Undecoded};

/// Seconds of a duration either way: ten thousand years.
const DURATION_SECONDS_MAX: u64 = 315_576_000_000;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WellKnown {
    Timestamp,
    Duration,
    FieldMask,
    /// A field that is shown without its message: the wrappers, `Struct` and `ListValue`.
    Wrapper,
    /// A `Value`.
    Dynamic,
    Any,
}

pub(super) fn of(full_name: &str) -> Option<WellKnown> {
    let name = full_name.strip_prefix("google.protobuf.")?;
    Some(match name {
        "Timestamp" => WellKnown::Timestamp,
        "Duration" => WellKnown::Duration,
        "FieldMask" => WellKnown::FieldMask,
        "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value"
        | "BoolValue" | "StringValue" | "BytesValue" | "Struct" | "ListValue" => WellKnown::Wrapper,
        "Value" => WellKnown::Dynamic,
        "Any" => WellKnown::Any,
        _ => return None,
    })
}

impl Writer {
    pub(super) fn well_known(
        &mut self,
        well_known: WellKnown,
        message: &DynamicMessage,
        json: &mut Json,
    ) -> Written {
        match well_known {
            WellKnown::Timestamp => {
                let (seconds, nanos) = seconds_and_nanos(message);
                let time = u32::try_from(nanos).ok().and_then(|nanos| json::time(seconds, nanos));
                json.string(&time.ok_or_else(|| out_of_range("Timestamp"))?)
            }
            WellKnown::Duration => {
                let (seconds, nanos) = seconds_and_nanos(message);
                let differ = seconds.signum() * i64::from(nanos.signum()) < 0;
                if differ
                    || seconds.unsigned_abs() > DURATION_SECONDS_MAX
                    || nanos.unsigned_abs() >= 1_000_000_000
                {
                    return Err(out_of_range("Duration"));
                }
                json.string(&Duration { seconds, nanos }.to_string())
            }
            WellKnown::FieldMask => json.string(&mask(message)),
            WellKnown::Wrapper => {
                let field = message.descriptor().get_field(1).ok_or_else(|| foreign(message))?;
                self.value(&field.kind(), &message.get_field(&field), json)
            }
            WellKnown::Dynamic => match message.fields().next() {
                None => {
                    json.null();
                    Ok(())
                }
                Some((_, Value::F64(number))) if !number.is_finite() => Err(out_of_range("Value")),
                Some((field, value)) => self.value(&field.kind(), value, json),
            },
            WellKnown::Any => self.any(message, json),
        }
    }

    /// What is in it, beside its type; of a type that is not in the set, as bytes.
    fn any(&mut self, message: &DynamicMessage, json: &mut Json) -> Written {
        let type_url = message.get_field_by_number(1);
        let Some(type_url) = type_url.as_ref().and_then(|value| value.as_str()).filter(|url| !url.is_empty())
        else {
            return json.object(|_| Ok(()));
        };
        let value = message.get_field_by_number(2);
        let value = value.as_ref().and_then(|value| value.as_bytes()).cloned().unwrap_or_default();
        let name = type_url.rsplit('/').next().unwrap_or(type_url);
        let Some(inner) = message.descriptor().parent_pool().get_message_by_name(name) else {
            return json.object(|json| {
                json.key("@type")?;
                json.string(type_url)?;
                json.key("value")?;
                json.base64(&value)
            });
        };
        self.any_bytes_left = self
            .any_bytes_left
            .checked_sub(value.len())
            .ok_or_else(|| Undecoded::new(Cause::TooLarge, "one google.protobuf.Any in the other"))?;
        let inner = super::decode(&inner, value)?;
        json.object(|json| {
            json.key("@type")?;
            json.string(type_url)?;
            if of(name).is_some() {
                json.key("value")?;
                return self.message(&inner, json);
            }
            self.fields(&inner, json)
        })
    }
}

fn seconds_and_nanos(message: &DynamicMessage) -> (i64, i32) {
    let seconds = message.get_field_by_number(1).and_then(|value| value.as_i64());
    let nanos = message.get_field_by_number(2).and_then(|value| value.as_i32());
    (seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

/// Its paths in camel case, parted by commas.
fn mask(message: &DynamicMessage) -> String {
    let paths = message.get_field_by_number(1);
    let paths = paths.as_ref().and_then(|value| value.as_list()).unwrap_or_default();
    let camel = |path: &str| {
        let mut words = path.split('_');
        let mut text = words.next().unwrap_or_default().to_owned();
        for word in words {
            let mut chars = word.chars();
            text.extend(chars.next().map(|first| first.to_ascii_uppercase()));
            text.push_str(chars.as_str());
        }
        text
    };
    paths.iter().filter_map(Value::as_str).map(camel).collect::<Vec<_>>().join(",")
}

fn out_of_range(what: &str) -> Undecoded {
    Undecoded::malformed(format!("a google.protobuf.{what} that JSON cannot have"))
}

fn foreign(message: &DynamicMessage) -> Undecoded {
    Undecoded::malformed(format!("the descriptors define {} otherwise", message.descriptor().full_name()))
}
