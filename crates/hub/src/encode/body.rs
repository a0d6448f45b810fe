//! What a body frame is to a browser: JSON, text, or bytes.

use memchr::memchr2;
use serde::de::IgnoredAny;

/// JSON nested deeper than this many arrays and objects is sent as text: a client's parser may recurse.
pub const JSON_DEPTH_MAX: usize = 128;

/// A body as it is shown to a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A JSON object or array, valid and at most [`JSON_DEPTH_MAX`] deep, with the white space around it.
    Data(&'a str),
    /// UTF-8 without control characters (Unicode's Cc: C0, DEL, C1) other than tab, CR and LF.
    Text(&'a str),
    /// Anything else.
    Base64(&'a [u8]),
}

impl<'a> Body<'a> {
    /// Looks at `frame` alone. A JSON number, string or word is text: most such bodies were never meant as JSON.
    pub fn classify(frame: &'a [u8]) -> Self {
        let Ok(text) = simdutf8::basic::from_utf8(frame) else { return Self::Base64(frame) };
        let first = frame.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        if matches!(first, Some(b'{' | b'[')) && is_json(text) {
            Self::Data(text)
        } else if has_binary_controls(frame) {
            Self::Base64(frame)
        } else {
            Self::Text(text)
        }
    }
}

/// Whether `text` is one JSON text (RFC 8259) of any kind, at most [`JSON_DEPTH_MAX`] deep.
///
/// The grammar alone counts: numbers have no bound, keys may repeat, escaped surrogates may stand alone.
pub fn is_json(text: &str) -> bool {
    // serde_json skips values with a loop and a stack of one byte a level: it neither recurses nor bounds the depth.
    serde_json::from_str::<IgnoredAny>(text).is_ok() && !is_deeper_than(JSON_DEPTH_MAX, text.as_bytes())
}

/// Whether valid JSON nests more than `depth_max` arrays and objects.
pub(crate) fn is_deeper_than(depth_max: usize, json: &[u8]) -> bool {
    // Each level needs an opening and a closing byte; so most bodies need no look.
    if json.len() < 2 * (depth_max + 1) {
        return false;
    }
    let (mut depth, mut at) = (0, 0);
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' if depth == depth_max => return true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' => at += string_rest_bytes(&json[at..]),
            _ => {}
        }
    }
    false
}

/// How many bytes a valid JSON string has behind its opening quote, the closing one included.
fn string_rest_bytes(json: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr2(b'"', b'\\', &json[at..]) {
        at += found + 1;
        if json[at - 1] == b'"' {
            break;
        }
        at += 1; // Whatever is escaped; of \uXXXX the digits are neither quote nor backslash.
    }
    at
}

/// Bytes looked at together; the compiler makes vector instructions of the loop over them.
const CHUNK: usize = 32;

/// Whether UTF-8 has a control character other than tab, CR and LF.
fn has_binary_controls(utf8: &[u8]) -> bool {
    // C1 is C2 80..=C2 9F; its lead byte is only suspect, since C2 A0..=C2 BF are letters and signs.
    let suspect = |byte: u8| {
        (byte < 0x20) & (byte != b'\t') & (byte != b'\n') & (byte != b'\r') | (byte == 0x7f) | (byte == 0xc2)
    };
    let confirmed = |at: usize| {
        suspect(utf8[at]) && (utf8[at] != 0xc2 || utf8.get(at + 1).is_some_and(|next| *next < 0xa0))
    };
    utf8.chunks(CHUNK).enumerate().any(|(i, chunk)| {
        chunk.iter().fold(false, |any, byte| any | suspect(*byte))
            && (i * CHUNK..i * CHUNK + chunk.len()).any(confirmed)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rule in its own words, without regard to speed.
    fn naive(frame: &[u8]) -> Body<'_> {
        let Ok(text) = std::str::from_utf8(frame) else { return Body::Base64(frame) };
        let starts = text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with(['{', '[']);
        // Parsing to a `Value` also refuses numbers out of range and lone surrogates; the strategies make none.
        if starts && serde_json::from_str::<serde_json::Value>(text).is_ok() {
            Body::Data(text)
        } else if text.chars().all(|c| matches!(c, '\t' | '\r' | '\n') || !c.is_control()) {
            Body::Text(text)
        } else {
            Body::Base64(frame)
        }
    }

    fn nested(open: &str, inner: &str, close: &str, depth: usize) -> String {
        [&open.repeat(depth), inner, &close.repeat(depth)].concat()
    }

    #[test]
    fn data_is_an_object_or_an_array() {
        for json in [
            "{}",
            "[]",
            " \t\r\n{\"a\" : [1,2]}\r\n",
            "{\"a\":1,\"a\":2}",
            "[1e999,-0,1E-7]",
            "[\"\\ud800\", \"\u{2028}\u{7f}\u{85}\"]",
            "[\n\t1,\n\t2\n]",
        ] {
            assert_eq!(Body::classify(json.as_bytes()), Body::Data(json), "{json}");
        }
    }

    #[test]
    fn what_is_not_valid_json_is_text() {
        for text in [
            "",
            "42",
            "\"x\"",
            "true",
            "null",
            "hello",
            "{",
            "{a:1}",
            "[1,]",
            "[01]",
            "{} x",
            "{}{}",
            "[NaN]",
            "[\"\n\"]",
            "{'a':1}",
            "\u{feff}{}",
            "\u{a0}{}",
        ] {
            assert_eq!(Body::classify(text.as_bytes()), Body::Text(text), "{text}");
        }
    }

    #[test]
    fn json_may_be_128_deep() {
        let inner = format!("\"{}\\\"]\\\\\"", "[".repeat(200));
        for (levels, open, inner, close) in
            [(1, "[", "1", "]"), (1, "{\"[\":", &inner[..], "}"), (2, "[{\"a\":", "0", "}]")]
        {
            let at_bound = nested(open, inner, close, JSON_DEPTH_MAX / levels);
            let beyond = format!("[{at_bound}]");
            assert_eq!(Body::classify(at_bound.as_bytes()), Body::Data(&at_bound));
            assert_eq!(Body::classify(beyond.as_bytes()), Body::Text(&beyond));
        }
        let wide = format!("[{}[]]", "[[]],".repeat(1000));
        assert_eq!(Body::classify(wide.as_bytes()), Body::Data(&wide));
    }

    /// A parser that recurses would overflow its stack here.
    #[test]
    fn a_million_levels_do_no_harm() {
        for text in [nested("[", "", "]", 1_000_000), "[".repeat(1_000_000), "{\"a\":".repeat(500_000)] {
            assert_eq!(Body::classify(text.as_bytes()), Body::Text(&text));
        }
    }

    #[test]
    fn text_has_no_controls_but_tab_cr_and_lf() {
        for text in ["a\tb\r\nc", "Ø → 𝄞", "\u{a0}\u{bf}", "\u{2028}\u{feff}\u{200b}"] {
            assert_eq!(Body::classify(text.as_bytes()), Body::Text(text));
        }
        for control in (0..0x20).chain(0x7f..0xa0).map(|c| char::from_u32(c).unwrap()) {
            for text in [format!("{control}"), format!("{}{control}{}", "x".repeat(31), "y".repeat(40))] {
                let expected = match control {
                    '\t' | '\r' | '\n' => Body::Text(&text),
                    _ => Body::Base64(text.as_bytes()),
                };
                assert_eq!(Body::classify(text.as_bytes()), expected, "{control:?}");
            }
        }
    }

    #[test]
    fn what_is_not_utf8_is_bytes() {
        for bytes in [&b"\xff"[..], b"{\"a\":\"\xff\"}", b"abc\xc2", b"\xed\xa0\x80", b"\xc0\x80"] {
            assert_eq!(Body::classify(bytes), Body::Base64(bytes));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_rule_on_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(Body::classify(&bytes), naive(&bytes));
        }

        #[test]
        fn agrees_with_the_rule_on_text(text in "[\\x00-\\x21\\x7e-\\xa1a-cØ𝄞]{0,80}") {
            prop_assert_eq!(Body::classify(text.as_bytes()), naive(text.as_bytes()));
        }

        #[test]
        fn agrees_with_the_rule_on_what_looks_like_json(text in "[ \\n]?[\\[{][\\[\\]{}\",:1a\\\\ \\n\\x01]{0,12}[\\]}]?") {
            prop_assert_eq!(Body::classify(text.as_bytes()), naive(text.as_bytes()));
        }
    }
}
