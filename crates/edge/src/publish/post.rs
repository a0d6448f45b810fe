//! `POST /publish`: what its query and headers say, and its answer.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Buf;
use futures_util::{Stream, StreamExt as _};
use percent_encoding::percent_decode_str;
use tokio::sync::oneshot;
use tokio::time::timeout;
use trestle_hub::encode::{self, KEY_BYTES_MAX, Publish, Published};
use trestle_hub::{ErrorCode, Grant, Unpublished};
use trestle_messages::topic::{TOPIC_BYTES_MAX, is_reserved};

use super::{Outcome, Publications};

/// The bounds of a request's body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) body_bytes_max: usize,
    pub(crate) topic_bytes_max: usize,
    /// It has come within this.
    pub(crate) body_timeout: Duration,
}

/// What a request publishes, its body as one frame, if its client's grant covers the topic.
///
/// # Errors
/// Why it is not taken.
pub(crate) async fn read_request<B: Buf, E>(
    grant: &Grant,
    bounds: Bounds,
    query: &str,
    idempotency_key: Option<&[u8]>,
    body: impl Stream<Item = Result<B, E>>,
) -> Result<Publish, Unpublished> {
    let Target { topic, key } = target(query, idempotency_key)?;
    if topic.len() > bounds.topic_bytes_max {
        return Err(too_long(&topic, bounds.topic_bytes_max));
    }
    // Before the body is read.
    grant.may_publish(&topic).map_err(|denied| Unpublished::new(denied.code(), denied.to_string()))?;
    let body = timeout(bounds.body_timeout, read(body, bounds.body_bytes_max)).await;
    let body = body.map_err(|_| bad_request("the body did not come in time"))??;
    Ok(Publish { topic, body: vec![body], key })
}

/// Hands it in and waits for its outcome.
pub(crate) async fn publish(publications: &Publications, publish: Publish) -> Outcome {
    let (tell, told) = oneshot::channel();
    publications.hand_in(publish, move |outcome| {
        // The client may have gone.
        let _ = tell.send(outcome);
    });
    told.await
        .unwrap_or_else(|_| Err(Unpublished::new(ErrorCode::Unconfirmed, ErrorCode::Unconfirmed.text())))
}

async fn read<B: Buf, E>(
    body: impl Stream<Item = Result<B, E>>,
    body_bytes_max: usize,
) -> Result<Vec<u8>, Unpublished> {
    let (mut body, mut bytes) = (std::pin::pin!(body), Vec::new());
    while let Some(chunk) = body.next().await {
        let mut chunk = chunk.map_err(|_| bad_request("the body breaks off"))?;
        if bytes.len() + chunk.remaining() > body_bytes_max {
            let reason = format!("the body has more than {body_bytes_max} bytes");
            return Err(Unpublished::new(ErrorCode::TooLarge, reason));
        }
        bytes.extend_from_slice(&chunk.copy_to_bytes(chunk.remaining()));
    }
    Ok(bytes)
}

#[derive(Debug, PartialEq, Eq)]
struct Target {
    topic: Vec<u8>,
    key: Option<String>,
}

fn target(query: &str, idempotency_key: Option<&[u8]>) -> Result<Target, Unpublished> {
    let (mut topic, mut key) = (None, idempotency_key.map(unquoted));
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value: Vec<u8> = percent_decode_str(&value.replace('+', " ")).collect();
        let before = match name {
            "topic" => topic.replace(value),
            "topic_base64" => topic.replace(decoded(&value)?),
            "key" => key.replace(value),
            _ => {
                let reason =
                    format!("unknown parameter `{name}`; known are `topic`, `topic_base64` and `key`");
                return Err(Unpublished::new(ErrorCode::UnknownField, reason));
            }
        };
        if before.is_some() {
            return Err(bad_request("one `topic` and one `key`, which is a header or a parameter"));
        }
    }
    let topic =
        topic.ok_or_else(|| bad_request("`topic` or `topic_base64` is missing: POST /publish?topic=…"))?;
    Ok(Target { topic: allowed(topic)?, key: key.map(valid_key).transpose()? })
}

/// In a URL a `+` is a space and padding is a nuisance, so both alphabets are welcome, padded or not.
fn decoded(text: &[u8]) -> Result<Vec<u8>, Unpublished> {
    let standard = |byte: &u8| match byte {
        b' ' | b'-' => b'+',
        b'_' => b'/',
        byte => *byte,
    };
    let bare: Vec<u8> = text.iter().take_while(|byte| **byte != b'=').map(standard).collect();
    let is_padding = text[bare.len()..].iter().all(|byte| *byte == b'=');
    let decoded = STANDARD_NO_PAD.decode(&bare).ok().filter(|_| is_padding && text.len() - bare.len() <= 2);
    decoded.ok_or_else(|| bad_request("`topic_base64` must be base64"))
}

fn allowed(topic: Vec<u8>) -> Result<Vec<u8>, Unpublished> {
    if topic.len() > TOPIC_BYTES_MAX {
        return Err(too_long(&topic, TOPIC_BYTES_MAX));
    }
    if is_reserved(&topic) {
        let wrong = "topics that begin with \\0trestle are reserved";
        return Err(Unpublished::new(ErrorCode::InvalidTopic, wrong));
    }
    Ok(topic)
}

fn too_long(topic: &[u8], max: usize) -> Unpublished {
    let reason = format!("a topic of {} bytes, at most {max} are allowed", topic.len());
    Unpublished::new(ErrorCode::InvalidTopic, reason)
}

fn valid_key(key: Vec<u8>) -> Result<String, Unpublished> {
    let key = String::from_utf8(key).ok().filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()));
    key.ok_or_else(|| bad_request(&format!("a key is UTF-8 of 1 to {KEY_BYTES_MAX} bytes")))
}

/// The header's value is a string in quotes; most senders leave them out.
fn unquoted(value: &[u8]) -> Vec<u8> {
    let inside = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    inside.unwrap_or(value).to_vec()
}

fn bad_request(reason: &str) -> Unpublished {
    Unpublished::new(ErrorCode::BadRequest, reason)
}

/// The answer's status and JSON: what a reply has beside its id.
pub(crate) fn answer(outcome: &Outcome) -> (u16, Vec<u8>) {
    match outcome {
        Ok(position) => (200, encode::Outcome::Published(Published { position: *position }).json()),
        Err(Unpublished { code, reason }) => {
            (status(*code), encode::Outcome::Error { code: *code, reason, retry: code.retry() }.json())
        }
    }
}

/// An error as HTTP has it (RFC 9110 §15, RFC 6585 §4).
fn status(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::BadRequest
        | ErrorCode::UnknownCommand
        | ErrorCode::UnknownField
        | ErrorCode::InvalidTopic
        | ErrorCode::TooManySubscriptions => 400,
        ErrorCode::Unauthorized | ErrorCode::TokenExpired => 401,
        ErrorCode::Forbidden => 403,
        ErrorCode::TooLarge => 413,
        ErrorCode::RateLimited => 429,
        ErrorCode::Internal => 500,
        ErrorCode::Unavailable => 503,
        ErrorCode::Unconfirmed => 504,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_the_topic_and_perhaps_the_key() {
        let of =
            |topic: &[u8], key: Option<&str>| Target { topic: topic.to_vec(), key: key.map(str::to_owned) };
        for (query, header, expected) in [
            ("topic=chat%2Flobby+1", None, of(b"chat/lobby 1", None)),
            ("topic=&key=a%20b", None, of(b"", Some("a b"))),
            ("topic_base64=/%2B8=", Some("k"), of(b"\xff\xef", Some("k"))),
            ("topic_base64=_-8", Some("\"k\""), of(b"\xff\xef", Some("k"))),
            ("topic_base64=/+8", None, of(b"\xff\xef", None)),
        ] {
            assert_eq!(target(query, header.map(str::as_bytes)), Ok(expected), "{query}");
        }
        let (long, long_key) = (format!("topic={}", "x".repeat(256)), "k".repeat(65));
        for (query, header, code, named) in [
            ("", None, ErrorCode::BadRequest, "`topic`"),
            ("topic=a&qos=1", None, ErrorCode::UnknownField, "`qos`"),
            ("topic=a&topic=b", None, ErrorCode::BadRequest, "one `topic`"),
            ("topic=a&topic_base64=YQ", None, ErrorCode::BadRequest, "one `topic`"),
            ("topic=a&key=k", Some("k"), ErrorCode::BadRequest, "one `key`"),
            ("topic=a&key=", None, ErrorCode::BadRequest, "1 to 64 bytes"),
            ("topic=a", Some(&long_key[..]), ErrorCode::BadRequest, "1 to 64 bytes"),
            ("topic_base64=!", None, ErrorCode::BadRequest, "base64"),
            ("topic=%00trestle", None, ErrorCode::InvalidTopic, "reserved"),
            (&long, None, ErrorCode::InvalidTopic, "256 bytes"),
        ] {
            let refused = target(query, header.map(str::as_bytes)).expect_err(query);
            assert_eq!(refused.code, code, "{query}: {refused}");
            assert!(refused.reason.contains(named), "{query}: {refused}");
        }
    }
}
