//! The table of close codes that Trestle sends.
//!
//! Below 3000 they mean what RFC 6455 §7.4.1 and the IANA registry say. In the private range, 4000–4499 tell the
//! client that it may reconnect, 4500–4999 that doing the same again would fail the same way.

/// A reason to close a WebSocket, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// The connection has done what it was for.
    Normal = 1000,
    /// The server, or the page, goes away.
    GoingAway = 1001,
    /// The client broke the WebSocket protocol.
    ProtocolError = 1002,
    /// A kind of message that this subprotocol does not take (text where binary is due).
    UnsupportedData = 1003,
    /// Text that is not UTF-8, or compressed data that does not inflate.
    InvalidPayload = 1007,
    /// A message that the server's policy forbids.
    PolicyViolation = 1008,
    /// A message over the size limit.
    MessageTooBig = 1009,
    /// The server failed.
    InternalError = 1011,
    /// The server restarts; spread reconnects follow.
    ServiceRestart = 1012,
    /// The server has no room for this connection now.
    TryAgainLater = 1013,
    /// The client did not read as fast as its subscriptions produce.
    SlowConsumer = 4008,
    /// The client sent more than its rate allows.
    TooManyRequests = 4029,
    /// The token ran out: reconnect with a new one.
    TokenExpired = 4401,
    /// Messages that do not parse.
    BadRequest = 4500,
    /// No valid token.
    Unauthorized = 4501,
    /// A valid token that does not allow this.
    Forbidden = 4503,
}

impl CloseCode {
    /// Every code, in order, for documentation and tests.
    pub const ALL: [Self; 16] = [
        Self::Normal,
        Self::GoingAway,
        Self::ProtocolError,
        Self::UnsupportedData,
        Self::InvalidPayload,
        Self::PolicyViolation,
        Self::MessageTooBig,
        Self::InternalError,
        Self::ServiceRestart,
        Self::TryAgainLater,
        Self::SlowConsumer,
        Self::TooManyRequests,
        Self::TokenExpired,
        Self::BadRequest,
        Self::Unauthorized,
        Self::Forbidden,
    ];

    /// The number on the wire.
    pub const fn value(self) -> u16 {
        self as u16
    }

    /// The reason on the wire: a word or two of ASCII, never more than 123 bytes.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::GoingAway => "going away",
            Self::ProtocolError => "protocol error",
            Self::UnsupportedData => "unsupported data",
            Self::InvalidPayload => "invalid payload",
            Self::PolicyViolation => "policy violation",
            Self::MessageTooBig => "message too big",
            Self::InternalError => "internal error",
            Self::ServiceRestart => "service restart",
            Self::TryAgainLater => "try again later",
            Self::SlowConsumer => "slow consumer",
            Self::TooManyRequests => "too many requests",
            Self::TokenExpired => "token expired",
            Self::BadRequest => "bad request",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
        }
    }

    /// Whether a client may connect again by itself. The private codes say it by their range; of the others, those
    /// that speak of the server's state do, and those that speak of what the client sent do not.
    pub const fn may_reconnect(self) -> bool {
        match self {
            Self::GoingAway | Self::InternalError | Self::ServiceRestart | Self::TryAgainLater => true,
            _ => matches!(self.value(), 4000..=4499),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::CLOSE_REASON_BYTES_MAX;
    use crate::ws::close::may_be_sent;

    #[test]
    fn section_7_4_every_code_may_be_sent_with_its_reason() {
        for code in CloseCode::ALL {
            assert!(may_be_sent(code.value()), "{code:?}");
            assert!(code.reason().is_ascii() && code.reason().len() <= CLOSE_REASON_BYTES_MAX, "{code:?}");
        }
    }

    #[test]
    fn codes_and_reasons_are_distinct_and_in_order() {
        assert!(CloseCode::ALL.is_sorted_by(|a, b| a.value() < b.value()));
        let reasons: std::collections::HashSet<_> = CloseCode::ALL.map(CloseCode::reason).into();
        assert_eq!(reasons.len(), CloseCode::ALL.len());
    }

    #[test]
    fn the_private_range_says_whether_to_reconnect() {
        for code in CloseCode::ALL.into_iter().filter(|code| code.value() >= 4000) {
            assert_eq!(code.may_reconnect(), code.value() < 4500, "{code:?}");
        }
        let reconnect = CloseCode::ALL.into_iter().filter(|code| code.may_reconnect()).map(CloseCode::value);
        assert_eq!(reconnect.collect::<Vec<_>>(), [1001, 1011, 1012, 1013, 4008, 4029, 4401]);
    }
}
