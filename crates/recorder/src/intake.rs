//! Where a message enters: alias and split give a topic to those that have none of their own.

use std::ops::Range;
use std::str::FromStr;

/// A single frame that begins with `prefix` is parted at the first `delimiter` into topic and body.
/// As text: `PREFIX=DELIMITER` with the escapes `\n \t \r \0 \\ \xHH`, for example `=\x20` or `salt/=\n\n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitRule {
    /// Matched by byte prefix; the longest of several rules wins.
    pub prefix: Vec<u8>,
    /// Not empty.
    pub delimiter: Vec<u8>,
}

/// Why a text is no split rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitRuleError {
    /// There is no `=`.
    #[error("write PREFIX=DELIMITER, for example `weather/=\\x20` or `=\\n\\n`")]
    NoDelimiter,
    /// Nothing stands behind the `=`.
    #[error("the delimiter is empty")]
    EmptyDelimiter,
    /// A backslash begins no known escape.
    #[error("`\\{0}` is no escape; known are \\n \\t \\r \\0 \\\\ \\xHH")]
    Escape(String),
}

impl FromStr for SplitRule {
    type Err = SplitRuleError;

    fn from_str(text: &str) -> Result<Self, SplitRuleError> {
        let (prefix, delimiter) = text.split_once('=').ok_or(SplitRuleError::NoDelimiter)?;
        let rule = Self { prefix: unescape(prefix)?, delimiter: unescape(delimiter)? };
        if rule.delimiter.is_empty() { Err(SplitRuleError::EmptyDelimiter) } else { Ok(rule) }
    }
}

fn unescape(text: &str) -> Result<Vec<u8>, SplitRuleError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        if char != '\\' {
            bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let tail = rest.as_str();
        bytes.push(match rest.next() {
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('r') => b'\r',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let hex = tail.get(1..3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                let byte = hex.ok_or_else(|| SplitRuleError::Escape(tail.chars().take(3).collect()))?;
                rest = tail[3..].chars();
                byte
            }
            _ => return Err(SplitRuleError::Escape(tail.chars().take(1).collect())),
        });
    }
    Ok(bytes)
}

/// What a message's topic is, found from its frame 0 and its number of frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entered {
    /// Frame 0 is the topic, as the publisher sent it.
    AsSent,
    /// The source's alias is the topic; a topic frame is put in front.
    Aliased,
    /// The topic is this part of frame 0, its body begins at `body_start`; a topic frame is put in front.
    Split {
        /// Bytes of frame 0 that are the topic.
        topic: Range<usize>,
        /// Where the body begins in frame 0, behind the delimiter.
        body_start: usize,
    },
}

/// The rules of one place where messages enter. An alias is the source's own and comes before any split.
#[derive(Debug, Clone, Default)]
pub struct Intake {
    /// Longest prefix first.
    splits: Vec<SplitRule>,
}

impl Intake {
    /// Of several split rules that match a frame, the longest prefix wins.
    pub fn new(mut splits: Vec<SplitRule>) -> Self {
        splits.sort_by_key(|rule| std::cmp::Reverse(rule.prefix.len()));
        Self { splits }
    }

    /// Decides for a message with this first frame. `aliased`: its source has an alias.
    pub fn enter(&self, aliased: bool, frame0: &[u8], n_frames: usize) -> Entered {
        if aliased {
            return Entered::Aliased;
        }
        if n_frames != 1 || self.splits.is_empty() {
            return Entered::AsSent;
        }
        // The empty prefix is not compared, as in `RecordRules::ruling`.
        let rules = |rule: &&SplitRule| rule.prefix.is_empty() || frame0.starts_with(&rule.prefix);
        let Some(rule) = self.splits.iter().find(rules) else {
            return Entered::AsSent;
        };
        // The delimiter may begin inside the prefix: the weather server's "10001 " is both.
        let at = frame0.windows(rule.delimiter.len()).position(|window| window == rule.delimiter);
        at.map_or(Entered::AsSent, |at| Entered::Split {
            topic: 0..at,
            body_start: at + rule.delimiter.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms() {
        let rule = |prefix: &[u8], delimiter: &[u8]| SplitRule {
            prefix: prefix.into(),
            delimiter: delimiter.into(),
        };
        assert_eq!("= ".parse(), Ok(rule(b"", b" ")));
        assert_eq!("salt/=\\n\\n".parse(), Ok(rule(b"salt/", b"\n\n")));
        assert_eq!("\\x00é=\\x20\\\\".parse(), Ok(rule("\0é".as_bytes(), b" \\")));
        assert_eq!("x".parse::<SplitRule>(), Err(SplitRuleError::NoDelimiter));
        assert_eq!("x=".parse::<SplitRule>(), Err(SplitRuleError::EmptyDelimiter));
        assert_eq!("x=\\q".parse::<SplitRule>(), Err(SplitRuleError::Escape("q".into())));
        assert_eq!("x=\\xzz".parse::<SplitRule>(), Err(SplitRuleError::Escape("xzz".into())));
        assert_eq!("x=\\x1é".parse::<SplitRule>(), Err(SplitRuleError::Escape("x1é".into())));
    }

    #[test]
    fn the_longest_split_wins_and_multipart_is_left_alone() {
        let intake = Intake::new(vec!["=\\x20".parse().unwrap(), "salt/=\\n\\n".parse().unwrap()]);
        let split = |topic, body_start| Entered::Split { topic, body_start };
        assert_eq!(intake.enter(false, b"10001 23 45", 1), split(0..5, 6));
        assert_eq!(intake.enter(false, b"salt/a b\n\nbody", 1), split(0..8, 10));
        assert_eq!(intake.enter(false, b"salt/a b", 1), Entered::AsSent);
        assert_eq!(intake.enter(false, b"10001 23 45", 2), Entered::AsSent);
        assert_eq!(intake.enter(true, b"10001 23 45", 1), Entered::Aliased);
        assert_eq!(intake.enter(false, b"", 1), Entered::AsSent);
    }
}
