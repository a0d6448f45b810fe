//! JSON's syntax, written to a buffer: objects key by key, arrays, strings, numbers, base64.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use trestle_messages::Position;

/// The largest integer that JavaScript's numbers hold exactly, 2^53 − 1.
pub(super) const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// Bytes looked at together; the compiler makes vector instructions of the loop over them.
const CHUNK: usize = 32;

const BUFFER: &str = "writing to a buffer does not fail";

/// An object that is being written.
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
}

impl<'o> Object<'o> {
    pub(super) fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_empty: true }
    }

    /// The fields of an object whose braces are written elsewhere.
    pub(super) fn within(out: &'o mut Vec<u8>) -> Self {
        Self { out, is_empty: true }
    }

    /// Writes fields that were made within another.
    pub(super) fn fields(&mut self, fields: &[u8]) {
        self.separate();
        self.out.extend_from_slice(fields);
    }

    /// Writes the next key, one that needs no escape. Its value must follow.
    pub(super) fn key(&mut self, key: &'static str) -> &mut Vec<u8> {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// Writes the next key, any text. Its value must follow.
    pub(super) fn any_key(&mut self, key: &str) -> &mut Vec<u8> {
        self.separate();
        string(key, self.out);
        self.out.push(b':');
        self.out
    }

    fn separate(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
    }

    pub(super) fn end(self) {
        self.out.push(b'}');
    }
}

/// Writes a string. Only what must be is escaped (RFC 8259 §7); U+2028 and its like stay as they are.
pub(crate) fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = find_escape(rest) {
        out.extend_from_slice(&rest[..at]);
        escape(rest[at], out);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn find_escape(bytes: &[u8]) -> Option<usize> {
    let must_escape = |byte: &u8| (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\');
    bytes.chunks(CHUNK).enumerate().find_map(|(i, chunk)| {
        // No early exit in the fold: with one it would go byte by byte.
        let any = chunk.iter().fold(false, |any, byte| any | must_escape(byte));
        if any { chunk.iter().position(must_escape).map(|at| i * CHUNK + at) } else { None }
    })
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => return write!(out, "\\u{byte:04x}").expect(BUFFER),
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Writes an integer.
pub(super) fn integer(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Writes an integer that JavaScript must not round: beyond 2^53 − 1 as a string.
pub(super) fn safe_integer(value: u64, out: &mut Vec<u8>) {
    if value <= SAFE_INTEGER_MAX {
        integer(value, out);
    } else {
        write!(out, "\"{value}\"").expect(BUFFER);
    }
}

/// Writes a number; infinities and NaN, which JSON lacks, as `null`.
pub(crate) fn float(value: f64, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &value).expect(BUFFER);
}

/// Writes a position as the opaque string that clients give back.
pub(super) fn position(position: Position, out: &mut Vec<u8>) {
    write!(out, "\"{position}\"").expect(BUFFER);
}

/// Writes bytes as a string of standard base64 with padding (RFC 4648 §4).
pub(crate) fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    let len = base64::encoded_len(bytes.len(), true).expect("a frame is far below usize::MAX");
    out.push(b'"');
    let start = out.len();
    out.resize(start + len, 0);
    STANDARD.encode_slice(bytes, &mut out[start..]).expect("the room was measured");
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_escape_what_must_be_and_nothing_else() {
        for (text, expected) in [
            ("", r#""""#),
            ("a/b 'c' <é𝄞>", r#""a/b 'c' <é𝄞>""#),
            ("\"\\", r#""\"\\""#),
            ("\u{8}\u{c}\n\r\t", r#""\b\f\n\r\t""#),
            ("\0\u{1f}\u{7f}\u{80}", "\"\\u0000\\u001f\u{7f}\u{80}\""),
            ("\u{2028}\u{2029}", "\"\u{2028}\u{2029}\""),
        ] {
            assert_eq!(written(|out| string(text, out)), expected);
        }
    }

    #[test]
    fn integers_are_strings_where_javascript_would_round() {
        assert_eq!(written(|out| safe_integer(9_007_199_254_740_991, out)), "9007199254740991");
        assert_eq!(written(|out| safe_integer(9_007_199_254_740_992, out)), "\"9007199254740992\"");
        assert_eq!(written(|out| safe_integer(u64::MAX, out)), "\"18446744073709551615\"");
    }

    #[test]
    fn numbers_that_json_lacks_are_null() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(written(|out| float(value, out)), "null");
        }
    }

    #[test]
    fn objects_separate_their_keys() {
        let object = written(|out| {
            let mut object = Object::begin(out);
            integer(1, object.key("a"));
            Object::begin(object.any_key("b\"")).end();
            object.end();
        });
        assert_eq!(object, r#"{"a":1,"b\"":{}}"#);
    }

    proptest! {
        #[test]
        fn strings_and_their_escapes_read_back(text in "(\\PC|[\\x00-\\x22\\\\]){0,100}") {
            let json = written(|out| string(&text, out));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text.clone());
            prop_assert!(json.len() <= 2 + 6 * text.len());
        }

        #[test]
        fn finite_numbers_read_back(value in proptest::num::f64::NORMAL | proptest::num::f64::ZERO) {
            let json = written(|out| float(value, out));
            prop_assert_eq!(json.parse::<f64>().unwrap(), value);
            prop_assert!(crate::encode::body::is_json(&json));
        }

        #[test]
        fn base64_reads_back(bytes: Vec<u8>) {
            let json = written(|out| base64(&bytes, out));
            prop_assert_eq!(STANDARD.decode(json.trim_matches('"')).unwrap(), bytes);
        }
    }
}
