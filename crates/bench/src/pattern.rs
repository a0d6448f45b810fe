//! Texts that differ by client: `{i}`, `{i:05}` and `{t}` filled in, escapes undone.

use std::fmt::Write as _;

/// A text with places for a client's number and topic. Other braces, JSON's for example, stay as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// With leading zeros up to so many digits.
    Number(usize),
    Topic,
}

impl Pattern {
    /// Every text is a pattern.
    pub fn new(text: &str) -> Self {
        let mut pieces = Vec::new();
        let (mut rest, mut plain) = (text, String::new());
        while let Some(brace) = rest.find('{') {
            plain.push_str(&rest[..brace]);
            rest = &rest[brace..];
            match place(rest) {
                Some((piece, length)) => {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    pieces.push(piece);
                    rest = &rest[length..];
                }
                None => {
                    plain.push('{');
                    rest = &rest[1..];
                }
            }
        }
        plain.push_str(rest);
        pieces.push(Piece::Text(plain));
        pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
        Self { pieces }
    }

    /// The text for one client.
    pub fn fill(&self, number: u64, topic: &str) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Number(width) => {
                    write!(text, "{number:0width$}").expect("writing to a String cannot fail")
                }
                Piece::Topic => text.push_str(topic),
            }
        }
        text
    }

    /// Whether it is another text for each client.
    pub fn has_number(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Number(_)))
    }
}

/// The place that `text` begins with, and its length.
fn place(text: &str) -> Option<(Piece, usize)> {
    let end = text.find('}')?;
    let piece = match &text[1..end] {
        "t" => Piece::Topic,
        "i" => Piece::Number(0),
        inner => {
            let width = inner.strip_prefix("i:0")?;
            let is_digit = width.len() == 1 && width.as_bytes()[0].is_ascii_digit();
            Piece::Number(is_digit.then(|| width.parse().ok())??)
        }
    };
    Some((piece, end + 1))
}

/// Undoes `\r \n \t \0 \\ \xHH`; a backslash before anything else stays, so that JSON's own escapes do.
///
/// # Errors
/// What is wrong with a `\x`.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        let known = match (byte, behind.first()) {
            (b'\\', Some(b'r')) => b'\r',
            (b'\\', Some(b'n')) => b'\n',
            (b'\\', Some(b't')) => b'\t',
            (b'\\', Some(b'0')) => 0,
            (b'\\', Some(b'\\')) => b'\\',
            (b'\\', Some(b'x')) => {
                let digits = behind.get(1..3).and_then(|digits| std::str::from_utf8(digits).ok());
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                rest = &behind[2.min(behind.len() - 1)..];
                byte.ok_or_else(|| format!("\\x needs two hexadecimal digits: {text}"))?
            }
            _ => {
                bytes.push(byte);
                continue;
            }
        };
        bytes.push(known);
        rest = &rest[1..];
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_and_other_braces_stay() {
        let fill = |text: &str| Pattern::new(text).fill(42, "jobs/x");
        assert_eq!(fill("/ws?topic={t}"), "/ws?topic=jobs/x");
        assert_eq!(fill("c{i:05}-{i}-{i:00}"), "c00042-42-42");
        let json = r#"{"id":1,"subscribe":{"topics":["{t}"]}}"#;
        assert_eq!(fill(json), r#"{"id":1,"subscribe":{"topics":["jobs/x"]}}"#);
        assert_eq!(fill("{i:5}{i:012}{}{{i}}{"), "{i:5}{i:012}{}{42}{");
        assert!(Pattern::new("c{i:05}").has_number() && !Pattern::new("bench{t}").has_number());
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape(r"a\r\n\t\0\\\x7f\xFFb").unwrap(), b"a\r\n\t\0\\\x7f\xFFb");
        assert_eq!(unescape(r#"{"a":"\"\u0041"}\"#).unwrap(), br#"{"a":"\"\u0041"}\"#);
        for broken in [r"\x", r"\x4", r"\xzz", r"ab\x"] {
            unescape(broken).unwrap_err();
        }
    }
}
