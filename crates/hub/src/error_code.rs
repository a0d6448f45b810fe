//! The table of error codes that a client may find in a reply.

use std::fmt;

use crate::ws::CloseCode;

/// Why a command was refused. The list is closed: a client may match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The message is no JSON, lacks something, or holds something of the wrong type.
    BadRequest,
    /// A command that does not exist.
    UnknownCommand,
    /// A field that does not exist.
    UnknownField,
    /// A topic that nobody may name: too long, or reserved.
    InvalidTopic,
    /// The connection holds as many subscriptions as it may.
    TooManySubscriptions,
    /// Something exceeds its bound in bytes.
    TooLarge,
    /// The client sent more than its rate allows.
    RateLimited,
    /// No valid token.
    Unauthorized,
    /// The token ran out.
    TokenExpired,
    /// A valid token that does not allow this.
    Forbidden,
    /// Not now: an upstream is away, or the server drains.
    Unavailable,
    /// The link broke before an answer came: the publication may or may not have been sent.
    Unconfirmed,
    /// The server failed.
    Internal,
}

impl ErrorCode {
    /// Every code, for documentation and tests.
    pub const ALL: [Self; 13] = [
        Self::BadRequest,
        Self::UnknownCommand,
        Self::UnknownField,
        Self::InvalidTopic,
        Self::TooManySubscriptions,
        Self::TooLarge,
        Self::RateLimited,
        Self::Unauthorized,
        Self::TokenExpired,
        Self::Forbidden,
        Self::Unavailable,
        Self::Unconfirmed,
        Self::Internal,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::UnknownCommand => "unknown_command",
            Self::UnknownField => "unknown_field",
            Self::InvalidTopic => "invalid_topic",
            Self::TooManySubscriptions => "too_many_subscriptions",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::Unauthorized => "unauthorized",
            Self::TokenExpired => "token_expired",
            Self::Forbidden => "forbidden",
            Self::Unavailable => "unavailable",
            Self::Unconfirmed => "unconfirmed",
            Self::Internal => "internal",
        }
    }

    /// Whether the same command may succeed later: at once with a new token (`token_expired`) or with the same `key`
    /// (`unconfirmed`), after a while otherwise. Where this is false, the client must change something first.
    pub const fn retry(self) -> bool {
        match self {
            Self::RateLimited
            | Self::TokenExpired
            | Self::Unavailable
            | Self::Unconfirmed
            | Self::Internal => true,
            Self::BadRequest
            | Self::UnknownCommand
            | Self::UnknownField
            | Self::InvalidTopic
            | Self::TooManySubscriptions
            | Self::TooLarge
            | Self::Unauthorized
            | Self::Forbidden => false,
        }
    }

    /// With what the connection is closed where the same thing ends it; `None` if it never does.
    pub const fn close_code(self) -> Option<CloseCode> {
        match self {
            Self::BadRequest => Some(CloseCode::BadRequest),
            Self::TooLarge => Some(CloseCode::MessageTooBig),
            Self::RateLimited => Some(CloseCode::TooManyRequests),
            Self::Unauthorized => Some(CloseCode::Unauthorized),
            Self::TokenExpired => Some(CloseCode::TokenExpired),
            Self::Forbidden => Some(CloseCode::Forbidden),
            Self::Internal => Some(CloseCode::InternalError),
            Self::UnknownCommand
            | Self::UnknownField
            | Self::InvalidTopic
            | Self::TooManySubscriptions
            | Self::Unavailable
            | Self::Unconfirmed => None,
        }
    }

    /// What it means, in a few words for people: the reason where there is nothing more exact to say.
    pub const fn text(self) -> &'static str {
        match self {
            Self::BadRequest => "the message is not what a command looks like",
            Self::UnknownCommand => "there is no such command",
            Self::UnknownField => "there is no such field",
            Self::InvalidTopic => "the topic is too long or reserved",
            Self::TooManySubscriptions => "the connection holds as many subscriptions as it may",
            Self::TooLarge => "the message is too large",
            Self::RateLimited => "too many commands in a short time",
            Self::Unauthorized => "a valid token is needed",
            Self::TokenExpired => "the token has expired",
            Self::Forbidden => "the token does not allow this",
            Self::Unavailable => "not available at the moment",
            Self::Unconfirmed => "the link broke before the publication was confirmed",
            Self::Internal => "the server failed",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_closed() {
        let listed = "bad_request unknown_command unknown_field invalid_topic too_many_subscriptions too_large \
                      rate_limited unauthorized token_expired forbidden unavailable unconfirmed internal";
        assert_eq!(ErrorCode::ALL.map(|code| code.to_string()).join(" "), listed);
    }

    #[test]
    fn only_what_may_succeed_unchanged_is_to_be_retried() {
        let retry = ErrorCode::ALL.into_iter().filter(|code| code.retry()).map(ErrorCode::as_str);
        assert_eq!(
            retry.collect::<Vec<_>>(),
            ["rate_limited", "token_expired", "unavailable", "unconfirmed", "internal"]
        );
    }

    /// A close code's range says the same as `retry`.
    #[test]
    fn who_may_try_again_may_connect_again() {
        for code in ErrorCode::ALL {
            let may_reconnect = code.close_code().map(CloseCode::may_reconnect);
            assert_eq!(may_reconnect.unwrap_or(code.retry()), code.retry(), "{code}");
        }
    }

    #[test]
    fn texts_are_short_and_distinct() {
        let texts: std::collections::HashSet<_> = ErrorCode::ALL.map(ErrorCode::text).into();
        assert_eq!(texts.len(), ErrorCode::ALL.len());
        assert!(texts.iter().all(|text| text.len() <= 80));
    }
}
