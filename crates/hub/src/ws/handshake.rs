//! The server's side of the opening handshake (RFC 6455 §4.2), as a check of header lines.
//!
//! The method (GET), the HTTP version and `Host` are for whoever speaks HTTP to check.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest as _, Sha1};
use smallvec::SmallVec;

use super::deflate::{Deflate, negotiate_deflate};

/// The only protocol version (RFC 6455 §4.1).
pub const VERSION: &str = "13";

/// Header lines of an answer: name in lower case, value.
pub type HeaderLines<'a> = SmallVec<[(&'static str, &'a str); 5]>;

/// What the key is hashed with (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Clients that write 24 random characters leave bits set that the 16th byte does not use; that harms nobody.
const KEY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Why a request does not open a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// No `Upgrade: websocket`, or no `Connection: upgrade`: an ordinary request.
    #[error("not a WebSocket upgrade")]
    NotAnUpgrade,
    /// No `Sec-WebSocket-Version: 13`. Answer with this version in the same header (RFC 6455 §4.4).
    #[error("Sec-WebSocket-Version must be 13")]
    WrongVersion,
    /// No `Sec-WebSocket-Key`, several, or one that is not 16 bytes of base64.
    #[error("Sec-WebSocket-Key must be 16 bytes of base64")]
    BadKey,
    /// `Sec-WebSocket-Extensions` that its grammar does not allow (RFC 6455 §9.1).
    #[error("Sec-WebSocket-Extensions is malformed")]
    BadExtensions,
}

impl HandshakeError {
    /// The HTTP status to answer with (RFC 6455 §4.2.1, §4.2.2).
    pub fn status(self) -> u16 {
        match self {
            Self::NotAnUpgrade | Self::WrongVersion => 426,
            Self::BadKey | Self::BadExtensions => 400,
        }
    }

    /// The header lines that belong to the answer: a 426 says what to upgrade to (RFC 9110 §7.8, RFC 6455 §4.4).
    pub fn headers(self) -> HeaderLines<'static> {
        match self {
            Self::NotAnUpgrade | Self::WrongVersion => SmallVec::from_slice(&[
                ("upgrade", "websocket"),
                ("connection", "upgrade"),
                ("sec-websocket-version", VERSION),
            ]),
            Self::BadKey | Self::BadExtensions => SmallVec::new(),
        }
    }
}

/// A request that may become a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// The value of `Sec-WebSocket-Accept` in the 101.
    pub accept: String,
    /// What `Sec-WebSocket-Protocol` offers, in the client's order; may be empty.
    pub protocols: SmallVec<[&'a str; 4]>,
    /// permessage-deflate as it would be with this client, and `Sec-WebSocket-Extensions` of a 101 that agrees to it; without
    /// that header nothing is compressed. `None` where the client offers nothing that can be kept to.
    pub deflate: Option<(Deflate, &'static str)>,
}

impl<'a> Handshake<'a> {
    /// Checks the request's header lines, given as (name, value); a name may come several times and in any case.
    pub fn parse(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, HandshakeError> {
        let (mut upgrade, mut connection) = (false, false);
        let (mut keys, mut versions) = (SmallVec::<[&str; 2]>::new(), SmallVec::<[&str; 2]>::new());
        let mut protocols = SmallVec::new();
        let mut extensions = SmallVec::<[&[u8]; 2]>::new();
        for (name, value) in headers {
            if name.eq_ignore_ascii_case("sec-websocket-extensions") {
                extensions.push(value);
                continue;
            }
            // A value that is not UTF-8 matches nothing below, which is what an empty one does.
            let value = std::str::from_utf8(value).unwrap_or_default();
            if name.eq_ignore_ascii_case("upgrade") {
                upgrade |= list_has_token(value, "websocket");
            } else if name.eq_ignore_ascii_case("connection") {
                connection |= list_has_token(value, "upgrade");
            } else if name.eq_ignore_ascii_case("sec-websocket-key") {
                keys.push(value.trim());
            } else if name.eq_ignore_ascii_case("sec-websocket-version") {
                versions.push(value.trim());
            } else if name.eq_ignore_ascii_case("sec-websocket-protocol") {
                protocols.extend(list_items(value));
            }
        }
        if !upgrade || !connection {
            return Err(HandshakeError::NotAnUpgrade);
        }
        // Before the key: a client of another version may well send none (RFC 6455 §4.4).
        if versions[..] != [VERSION] {
            return Err(HandshakeError::WrongVersion);
        }
        let [key] = keys[..] else { return Err(HandshakeError::BadKey) };
        if !is_valid_key(key) {
            return Err(HandshakeError::BadKey);
        }
        let deflate = negotiate_deflate(extensions)?;
        Ok(Self { accept: accept_key(key), protocols, deflate })
    }
}

impl Handshake<'_> {
    /// The header lines of the 101 that opens the WebSocket (RFC 6455 §4.2.2), with the one of the offered `protocols`
    /// that is spoken, and agreeing to `deflate` or not.
    pub fn headers<'a>(&'a self, protocol: Option<&'a str>, agrees_to_deflate: bool) -> HeaderLines<'a> {
        let mut lines = SmallVec::from_slice(&[
            ("upgrade", "websocket"),
            // libzmq wants it in this very case.
            ("connection", "upgrade"),
            ("sec-websocket-accept", self.accept.as_str()),
        ]);
        lines.extend(protocol.map(|protocol| ("sec-websocket-protocol", protocol)));
        let deflate = self.deflate.filter(|_| agrees_to_deflate);
        lines.extend(deflate.map(|(_, answer)| ("sec-websocket-extensions", answer)));
        lines
    }
}

/// The value of `Sec-WebSocket-Accept` for the client's key (RFC 6455 §4.2.2).
pub fn accept_key(key: &str) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// Whether `key` is 16 bytes in base64 (RFC 6455 §4.1).
pub fn is_valid_key(key: &str) -> bool {
    KEY_BASE64.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// The non-empty items of a comma-separated header value, without the white space around them.
///
/// Items need not be HTTP tokens: the subprotocol `ZWS2.0/NULL` of ZeroMQ RFC 45 holds a slash.
pub fn list_items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(|item| item.trim_matches([' ', '\t'])).filter(|item| !item.is_empty())
}

/// Whether a comma-separated header value has `token`, in any case.
pub fn list_has_token(value: &str, token: &str) -> bool {
    list_items(value).any(|item| item.eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    /// What a browser sends, with `change` in place of the line of that name, or beside them all.
    fn parse_with(change: (&'static str, &'static str)) -> Result<Handshake<'static>, HandshakeError> {
        let lines = [
            ("host", "example.org"),
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-key", KEY),
            ("sec-websocket-version", "13"),
        ];
        let others = lines.into_iter().filter(|line| line.0 != change.0);
        Handshake::parse(others.chain([change]).map(|(name, value)| (name, value.as_bytes())))
    }

    #[test]
    fn section_1_3_the_example_key() {
        assert_eq!(accept_key(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(parse_with(("host", "x")).unwrap().accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn section_4_1_a_key_is_sixteen_bytes() {
        for key in [KEY, "AAAAAAAAAAAAAAAAAAAAAA==", "abcdefghijklmnopqrstuv=="] {
            assert!(is_valid_key(key), "{key}");
        }
        for key in [
            "",
            "x",
            "AAAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAAA=",
            "AAAAAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAA_-==",
        ] {
            assert!(!is_valid_key(key), "{key}");
            assert_eq!(parse_with(("sec-websocket-key", key)), Err(HandshakeError::BadKey));
        }
    }

    #[test]
    fn section_11_3_1_one_key_only() {
        assert_eq!(parse_with(("Sec-WebSocket-Key", KEY)), Err(HandshakeError::BadKey));
    }

    #[test]
    fn section_4_2_1_upgrade_and_connection_are_lists_in_any_case() {
        for line in [
            ("connection", "keep-alive, Upgrade"),
            ("connection", "UPGRADE"),
            ("connection", "close,\tupgrade"),
            ("upgrade", "WebSocket"),
            ("upgrade", "h2c, websocket"),
            ("Connection", "keep-alive"),
        ] {
            assert!(parse_with(line).is_ok(), "{line:?}");
        }
        for line in [
            ("connection", "keep-alive"),
            ("connection", "upgraded"),
            ("connection", "up grade"),
            ("connection", ""),
            ("upgrade", "h2c"),
            ("upgrade", "websocket/13"),
        ] {
            let error = parse_with(line).unwrap_err();
            assert_eq!((error, error.status()), (HandshakeError::NotAnUpgrade, 426), "{line:?}");
        }
    }

    #[test]
    fn section_4_4_another_version_is_told_ours() {
        for version in ["8", "13, 8", "", "013"] {
            let error = parse_with(("sec-websocket-version", version)).unwrap_err();
            assert_eq!((error, error.status()), (HandshakeError::WrongVersion, 426), "{version}");
            assert!(error.headers().contains(&("sec-websocket-version", "13")));
        }
    }

    #[test]
    fn section_11_3_5_one_version_only() {
        assert_eq!(parse_with(("Sec-WebSocket-Version", "8")), Err(HandshakeError::WrongVersion));
    }

    #[test]
    fn rfc_45_offers_with_a_slash_are_split_by_commas() {
        let handshake =
            parse_with(("Sec-WebSocket-Protocol", "ZWS2.0/NULL,ZWS2.0 ,\ttrestle.v1.json,,")).unwrap();
        assert_eq!(handshake.protocols[..], ["ZWS2.0/NULL", "ZWS2.0", "trestle.v1.json"]);
    }

    #[test]
    fn section_11_3_4_offers_may_span_several_lines() {
        let lines = [
            ("Upgrade", "websocket"),
            ("Connection", "upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Protocol", "a, b"),
            ("Sec-WebSocket-Key", KEY),
            ("Sec-WebSocket-Protocol", "c"),
        ];
        let handshake = Handshake::parse(lines.map(|(name, value)| (name, value.as_bytes()))).unwrap();
        assert_eq!(handshake.protocols[..], ["a", "b", "c"]);
    }

    #[test]
    fn section_9_1_extensions_are_negotiated_or_fail_the_handshake() {
        let deflate =
            |value| parse_with(("Sec-WebSocket-Extensions", value)).map(|handshake| handshake.deflate);
        let (_, answer) = deflate("permessage-deflate; client_max_window_bits").unwrap().unwrap();
        assert_eq!(answer, "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
        assert_eq!(deflate("permessage-foo"), Ok(None));
        let error = deflate("permessage-deflate;").unwrap_err();
        assert_eq!((error, error.status()), (HandshakeError::BadExtensions, 400));
    }

    #[test]
    fn section_4_2_2_the_lines_of_a_101() {
        let handshake = parse_with(("Sec-WebSocket-Extensions", "permessage-deflate")).unwrap();
        let plain = [
            ("upgrade", "websocket"),
            ("connection", "upgrade"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ];
        assert_eq!(handshake.headers(None, false)[..], plain);
        let full = handshake.headers(Some("chat"), true);
        let answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(full[3..], [("sec-websocket-protocol", "chat"), ("sec-websocket-extensions", answer)]);
        // What was not offered is never agreed to.
        assert_eq!(parse_with(("host", "x")).unwrap().headers(None, true)[..], plain);
    }

    #[test]
    fn a_value_that_is_not_utf8_counts_as_empty() {
        let lines = [("upgrade", &b"websocket\xff"[..]), ("connection", b"upgrade")];
        assert_eq!(Handshake::parse(lines), Err(HandshakeError::NotAnUpgrade));
    }
}
