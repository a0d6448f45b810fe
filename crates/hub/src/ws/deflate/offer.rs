//! What is made of a client's offers of permessage-deflate (RFC 7692 §7.1).

use super::{Deflate, DeflateWindow};
use crate::ws::HandshakeError;
use crate::ws::extensions::{self, Extension, Param};

const NAME: &str = "permessage-deflate";

/// The first offer that we can keep to, and the answer in `Sec-WebSocket-Extensions`; none where nothing suits.
///
/// `values` are the values of all the request's `Sec-WebSocket-Extensions`, in order; one that does not parse fails the
/// handshake (RFC 6455 §9.1). An offer of a server window of 8 bits is declined: the compressor has none that small.
pub fn negotiate_deflate<'a>(
    values: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Option<(Deflate, &'static str)>, HandshakeError> {
    let mut agreed = None;
    for value in values {
        let offers = extensions::parse(value).map_err(|_| HandshakeError::BadExtensions)?;
        agreed = agreed.or_else(|| offers.iter().find_map(accept));
    }
    Ok(agreed)
}

/// The answer to one offer, if it is of permessage-deflate and we can keep to it.
///
/// Both sides are always told to begin each message anew, which needs no word of the client (RFC 7692 §7.1.1). The
/// client's window never matters: there is one of 32 KiB to inflate all messages.
fn accept(Extension { name, params }: &Extension<'_>) -> Option<(Deflate, &'static str)> {
    let is_repeated = |(i, param): (usize, &Param<'_>)| params[..i].iter().any(|p| p.name == param.name);
    if *name != NAME || params.iter().enumerate().any(is_repeated) {
        return None;
    }
    let mut server_bits = None;
    for Param { name, value } in params {
        match (*name, value.as_deref()) {
            ("server_no_context_takeover" | "client_no_context_takeover", None) => {}
            ("client_max_window_bits", None) => {}
            ("client_max_window_bits", Some(value)) => drop(window_bits(value)?),
            ("server_max_window_bits", Some(value)) => server_bits = Some(window_bits(value)?),
            _ => return None,
        }
    }
    let window = match server_bits {
        None | Some(15) => DeflateWindow::Full,
        Some(9..) => DeflateWindow::Small,
        Some(_) => return None,
    };
    Some((Deflate { window }, answer(window, server_bits.is_some())))
}

/// A window's size as both parameters write it: 8 to 15, without leading zeros (RFC 7692 §7.1.2).
fn window_bits(value: &str) -> Option<u8> {
    matches!(value, "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15").then(|| value.parse().ok())?
}

/// A limit that the client asked for is repeated, or a lower one named (RFC 7692 §7.1.2.1).
fn answer(window: DeflateWindow, is_limited: bool) -> &'static str {
    match (window, is_limited) {
        (DeflateWindow::Small, _) => {
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9"
        }
        (DeflateWindow::Full, true) => {
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15"
        }
        (DeflateWindow::Full, false) => {
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    /// The window and what the answer has beside [`PLAIN`].
    fn negotiate(values: &[&str]) -> Option<(DeflateWindow, &'static str)> {
        let agreed = negotiate_deflate(values.iter().map(|value| value.as_bytes())).unwrap();
        agreed.map(|(deflate, answer)| (deflate.window, answer.strip_prefix(PLAIN).unwrap()))
    }

    const FULL: Option<(DeflateWindow, &str)> = Some((DeflateWindow::Full, ""));
    const FULL_15: Option<(DeflateWindow, &str)> = Some((DeflateWindow::Full, "; server_max_window_bits=15"));
    const SMALL: Option<(DeflateWindow, &str)> = Some((DeflateWindow::Small, "; server_max_window_bits=9"));

    #[test]
    fn what_browsers_offer() {
        // Chromium and WebKit, then Firefox.
        assert_eq!(negotiate(&["permessage-deflate; client_max_window_bits"]), FULL);
        assert_eq!(negotiate(&["permessage-deflate"]), FULL);
        assert_eq!(negotiate(&[]), None);
        assert_eq!(negotiate(&["x-webkit-deflate-frame"]), None);
    }

    #[test]
    fn section_7_1_parameters() {
        for (params, expected) in [
            ("server_no_context_takeover", FULL),
            ("client_no_context_takeover", FULL),
            ("client_no_context_takeover; server_no_context_takeover", FULL),
            ("client_max_window_bits=8", FULL),
            ("client_max_window_bits=\"15\"", FULL),
            ("server_max_window_bits=15", FULL_15),
            ("server_max_window_bits=14", SMALL),
            ("server_max_window_bits=\"1\\0\"", SMALL),
            ("server_max_window_bits=9", SMALL),
            ("server_max_window_bits=9; client_max_window_bits; client_no_context_takeover", SMALL),
        ] {
            assert_eq!(negotiate(&[&format!("permessage-deflate; {params}")]), expected, "{params}");
        }
    }

    #[test]
    fn section_7_1_offers_that_must_be_declined() {
        for params in [
            "server_no_context_takeover=1",
            "client_no_context_takeover=true",
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=09",
            "server_max_window_bits=+9",
            "server_max_window_bits=0x9",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=08",
            "client_max_window_bits; client_max_window_bits",
            "server_max_window_bits=10; server_max_window_bits=10",
            "mystery",
            "Server_No_Context_Takeover",
        ] {
            assert_eq!(negotiate(&[&format!("permessage-deflate; {params}")]), None, "{params}");
        }
    }

    #[test]
    fn a_server_window_of_eight_bits_cannot_be_kept() {
        assert_eq!(negotiate(&["permessage-deflate; server_max_window_bits=8"]), None);
        assert_eq!(negotiate(&["permessage-deflate; server_max_window_bits=8, permessage-deflate"]), FULL);
    }

    #[test]
    fn section_5_1_the_first_acceptable_offer_is_taken() {
        let with_fallback = "permessage-deflate; server_max_window_bits=10, permessage-deflate";
        assert_eq!(negotiate(&[with_fallback]), SMALL);
        assert_eq!(negotiate(&["permessage-deflate; mystery, permessage-deflate"]), FULL);
        assert_eq!(
            negotiate(&["permessage-bzip2", "foo, permessage-deflate; server_max_window_bits=15"]),
            FULL_15
        );
    }

    #[test]
    fn section_9_1_a_malformed_list_fails_even_behind_a_good_offer() {
        for values in [["permessage-deflate, a b", ""], ["permessage-deflate", "a;"]] {
            let agreed = negotiate_deflate(values.map(str::as_bytes));
            assert_eq!(agreed, Err(HandshakeError::BadExtensions));
        }
    }
}
