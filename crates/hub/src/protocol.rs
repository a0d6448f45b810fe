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
    /// `ZWS2.0` (ZeroMQ RFC 45): one ØMQ frame a binary message, without a security mechanism.
    Zws,
    /// `ZWS2.0/NULL`: the same after READY of both sides, which say what sockets they are.
    ZwsNull,
    /// `ZWS2.0/PLAIN`: the same behind a name and a password, which is a token.
    ZwsPlain,
    /// Server-sent events: a subscription by a URL, and events as JSON.
    Sse,
}

/// Which side of PUB and SUB a client of ZWS is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A SUB or XSUB: it gets what it subscribes to.
    Subscriber,
    /// A PUB or XPUB: what it sends is published.
    Publisher,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Json, Self::Proto, Self::RustWebsocket, Self::ZwsNull, Self::ZwsPlain, Self::Zws, Self::Sse];

    /// Those of WebSockets, the best first.
    pub const WEBSOCKET: [Self; 6] =
        [Self::Json, Self::Proto, Self::RustWebsocket, Self::ZwsNull, Self::ZwsPlain, Self::Zws];

    /// Its name in metrics and, of a WebSocket's, in `Sec-WebSocket-Protocol`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RustWebsocket => "rust-websocket",
            Self::Json => "trestle.v1.json",
            Self::Proto => "trestle.v1.proto",
            Self::Zws => "ZWS2.0",
            Self::ZwsNull => "ZWS2.0/NULL",
            Self::ZwsPlain => "ZWS2.0/PLAIN",
            Self::Sse => "sse",
        }
    }

    /// Those of WebSockets that a client may speak: to publish without a word more those of ZWS alone.
    pub fn of(role: Role) -> impl Iterator<Item = Self> {
        Self::WEBSOCKET.into_iter().filter(move |protocol| role == Role::Subscriber || protocol.is_zws())
    }

    /// The client's first choice that we speak (RFC 6455 §4.2.2: its list is in order of preference),
    /// but of those of ZWS one which says what a client is.
    pub fn choose<'a>(role: Role, offered: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let known = |name: &str| Self::of(role).find(|protocol| protocol.name() == name);
        let mut offered = offered.into_iter().filter_map(known);
        match offered.next() {
            Some(Self::Zws) => {
                offered.find(|other| matches!(other, Self::ZwsNull | Self::ZwsPlain)).or(Some(Self::Zws))
            }
            first => first,
        }
    }

    /// Whether its messages may be compressed (RFC 7692). No client of ZWS can, and several frames go out as one there.
    pub const fn may_compress(self) -> bool {
        !self.is_zws()
    }

    /// Whether a client can show a token after the handshake.
    pub const fn may_authenticate(self) -> bool {
        matches!(self, Self::Json | Self::Proto | Self::ZwsPlain)
    }

    /// How its events are encoded.
    pub(crate) const fn format(self) -> Format {
        match self {
            Self::RustWebsocket => Format::Raw,
            Self::Json => Format::Json,
            Self::Proto => Format::Proto,
            Self::Zws | Self::ZwsNull | Self::ZwsPlain => Format::Zws,
            Self::Sse => Format::Sse,
        }
    }

    /// Whether a client can be told what it lost and how far it is.
    pub(crate) const fn is_told(self) -> bool {
        matches!(self, Self::Json | Self::Proto | Self::Sse)
    }

    /// Whether it is ØMQ's own over WebSockets.
    pub const fn is_zws(self) -> bool {
        matches!(self, Self::Zws | Self::ZwsNull | Self::ZwsPlain)
    }

    /// Whether a client that is never heard is well: that of server-sent events cannot speak, and libzmq does not answer
    /// pings on `ZWS2.0`. TCP says when such a one is gone.
    pub(crate) const fn may_be_silent(self) -> bool {
        self.is_zws() || matches!(self, Self::Sse)
    }

    /// Whether it is `trestle.v1.*`, in which a client says commands and is answered.
    pub(crate) const fn is_conversation(self) -> bool {
        matches!(self, Self::Json | Self::Proto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose<'a>(offered: impl IntoIterator<Item = &'a str>) -> Option<Protocol> {
        Protocol::choose(Role::Subscriber, offered)
    }

    #[test]
    fn the_clients_first_known_choice_is_taken() {
        assert_eq!(choose(["mqtt", "rust-websocket", "trestle.v1.json"]), Some(Protocol::RustWebsocket));
        assert_eq!(choose(["trestle.v1.proto", "trestle.v1.json"]), Some(Protocol::Proto));
        assert_eq!(choose(["ZWS2.0/CURVE"]), None);
        assert_eq!(choose(["sse"]), None);
        assert_eq!(choose([]), None);
    }

    #[test]
    fn a_publisher_speaks_zws() {
        let of = |offered| Protocol::choose(Role::Publisher, offered);
        assert_eq!(of(["trestle.v1.json", "ZWS2.0"]), Some(Protocol::Zws));
        assert_eq!(of(["trestle.v1.json", "rust-websocket"]), None);
    }

    #[test]
    fn of_zws_one_with_a_mechanism_is_taken_wherever_it_is_offered() {
        assert_eq!(choose(["ZWS2.0/NULL", "ZWS2.0"]), Some(Protocol::ZwsNull));
        assert_eq!(choose(["ZWS2.0", "ZWS2.0/NULL"]), Some(Protocol::ZwsNull));
        assert_eq!(choose(["ZWS2.0", "ZWS2.0/PLAIN", "ZWS2.0/NULL"]), Some(Protocol::ZwsPlain));
        assert_eq!(choose(["ZWS2.0", "ZWS2.0/CURVE"]), Some(Protocol::Zws));
        assert_eq!(choose(["trestle.v1.json", "ZWS2.0/NULL"]), Some(Protocol::Json));
    }
}
