//! The protocols of clients, and which of the WebSocket subprotocols offered is taken.

use crate::encode::Format;

/// What a client speaks: a WebSocket subprotocol, or server-sent events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `rust-websocket`: the original bridge's page, a passive listener to bare bodies.
    RustWebsocket,
    /// `trestle.v1.json`: commands and events as JSON, one object a text frame.
    Json,
    /// `trestle.v1.proto`: the same as protobuf, one message a binary frame.
    Proto,
    /// Server-sent events: a subscription by a URL, and events as JSON.
    Sse,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Json, Self::Proto, Self::RustWebsocket, Self::Sse];

    /// Those of WebSockets, the best first.
    pub const WEBSOCKET: [Self; 3] = [Self::Json, Self::Proto, Self::RustWebsocket];

    /// Its name in metrics and, of a WebSocket's, in `Sec-WebSocket-Protocol`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RustWebsocket => "rust-websocket",
            Self::Json => "trestle.v1.json",
            Self::Proto => "trestle.v1.proto",
            Self::Sse => "sse",
        }
    }

    /// The client's first choice that we speak (RFC 6455 §4.2.2: its list is in order of preference).
    pub fn choose<'a>(offered: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        offered
            .into_iter()
            .find_map(|name| Self::WEBSOCKET.into_iter().find(|protocol| protocol.name() == name))
    }

    /// How its events are encoded.
    pub(crate) const fn format(self) -> Format {
        match self {
            Self::RustWebsocket => Format::Raw,
            Self::Json => Format::Json,
            Self::Proto => Format::Proto,
            Self::Sse => Format::Sse,
        }
    }

    /// Whether a client can be told what it lost and how far it is.
    pub(crate) const fn is_told(self) -> bool {
        matches!(self, Self::Json | Self::Proto | Self::Sse)
    }

    /// Whether it is `trestle.v1.*`, in which a client says commands and is answered.
    pub(crate) const fn is_conversation(self) -> bool {
        matches!(self, Self::Json | Self::Proto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_first_known_choice_is_taken() {
        assert_eq!(
            Protocol::choose(["mqtt", "rust-websocket", "trestle.v1.json"]),
            Some(Protocol::RustWebsocket)
        );
        assert_eq!(Protocol::choose(["trestle.v1.proto", "trestle.v1.json"]), Some(Protocol::Proto));
        assert_eq!(Protocol::choose(["ZWS2.0/NULL"]), None);
        assert_eq!(Protocol::choose(["sse"]), None);
        assert_eq!(Protocol::choose([]), None);
    }
}
