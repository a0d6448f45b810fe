//! Protobuf by a descriptor set, to JSON. docs/decoders.md has the mapping.

mod weigh;
mod wkt;
mod write;

use bytes::Bytes;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use super::json::{Json, too_deep};
use super::{Undecoded, kind};
use write::Writer;

/// Names of messages that an error lists.
const LISTED_MAX: usize = 10;

/// A type of messages.
#[derive(Debug, Clone)]
pub struct Protobuf {
    message: MessageDescriptor,
}

/// Why there is no such type.
#[derive(Debug, thiserror::Error)]
pub enum NoType {
    /// The descriptors are no `FileDescriptorSet`, or do not fit together.
    #[error(
        "no descriptor set that stands alone, as `protoc --include_imports --descriptor_set_out` makes it: {0}"
    )]
    Descriptors(String),
    /// They have other messages.
    #[error("no message `{message}` in the set; it has {known}")]
    Message {
        /// As it was asked for.
        message: String,
        /// Some of those that there are.
        known: String,
    },
}

/// Bytes that may be decoded out of an `Any`, of a body of next to none, and for each of its bytes: each level of one in
/// one decodes all that is further in once more.
const ANY_BYTES_MIN: usize = 64 << 10;
const ANY_TIMES: usize = 4;

impl Protobuf {
    /// The message with the full name `message` in `descriptors`, a `google.protobuf.FileDescriptorSet`. The types of
    /// `google/protobuf/*.proto` need not be in it.
    ///
    /// # Errors
    /// [`NoType`].
    pub fn new(descriptors: &[u8], message: &str) -> Result<Self, NoType> {
        let mut pool = DescriptorPool::global();
        let n_before = pool.files().len();
        pool.decode_file_descriptor_set(descriptors)
            .map_err(|error| NoType::Descriptors(error.to_string()))?;
        if let Some(message) = pool.get_message_by_name(message) {
            return Ok(Self { message });
        }
        let own: Vec<_> =
            pool.files().skip(n_before).flat_map(|file| file.messages().collect::<Vec<_>>()).collect();
        let mut known: Vec<_> =
            own.iter().take(LISTED_MAX).map(|message| format!("`{}`", message.full_name())).collect();
        if own.len() > LISTED_MAX {
            known.push(format!("{} more", own.len() - LISTED_MAX));
        }
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(NoType::Message { message: message.to_owned(), known })
    }

    /// The JSON of a body of this type.
    pub(super) fn to_json(&self, body: Bytes, bytes_max: usize) -> Result<String, Undecoded> {
        let mut json = Json::new(bytes_max);
        // What an `Any` holds is decoded once more, and what that holds once more.
        let any_bytes_left = ANY_BYTES_MIN + ANY_TIMES * body.len();
        let mut writer = Writer { any_bytes_left };
        writer.message(&decode(&self.message, body)?, &mut json)?;
        json.finish()
    }
}

fn decode(message: &MessageDescriptor, body: Bytes) -> Result<DynamicMessage, Undecoded> {
    weigh::check(message, &body)?;
    DynamicMessage::decode(message.clone(), body).map_err(|error| {
        let is_too_deep = error.to_string().contains("recursion limit");
        if is_too_deep { too_deep() } else { kind::no_protobuf(&error) }
    })
}
