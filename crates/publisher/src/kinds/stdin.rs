//! The lines of an input, as they come.

use std::io::{self, Read};

use trestle_messages::v1::event::Body;

use crate::config::BODY_BYTES_MAX;

/// Bytes read at once: a pipe's whole buffer.
const READ_BYTES: usize = 64 << 10;

/// Splits an input into lines. It never reads unless told to: the caller knows when that does not block.
pub(crate) struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    /// Before this the buffer was given out.
    start: usize,
    /// Before this the buffer holds no line end.
    scanned: usize,
    ended: bool,
}

/// What [`Lines::next`] has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// A line without its line feed.
    Line(&'a [u8]),
    /// [`Lines::fill`] first.
    Empty,
    /// The input has ended.
    End,
}

/// A line is longer than [`BODY_BYTES_MAX`]: nobody would take it.
#[derive(Debug, thiserror::Error)]
#[error("a line of standard input is longer than {BODY_BYTES_MAX} bytes")]
pub(crate) struct LineTooLong;

impl<R: Read> Lines<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), start: 0, scanned: 0, ended: false }
    }

    /// The input, to be polled.
    pub(crate) fn input(&self) -> &R {
        &self.input
    }

    /// Whether [`next`](Self::next) has a line.
    pub(crate) fn has_next(&self) -> bool {
        let rest = &self.buffer[self.scanned..];
        memchr::memchr(b'\n', rest).is_some() || (self.ended && self.start < self.buffer.len())
    }

    /// The next line, as far as it was read. The last one need not end in a line feed.
    pub(crate) fn next(&mut self) -> Result<Next<'_>, LineTooLong> {
        let from = self.start;
        match memchr::memchr(b'\n', &self.buffer[self.scanned..]) {
            Some(n) => {
                let end = self.scanned + n;
                self.start = end + 1;
                self.scanned = self.start;
                check_line(&self.buffer[from..end])
            }
            None if self.ended && from < self.buffer.len() => {
                self.start = self.buffer.len();
                self.scanned = self.start;
                check_line(&self.buffer[from..])
            }
            None if self.ended => Ok(Next::End),
            None => {
                self.scanned = self.buffer.len();
                check_line(&self.buffer[from..])?;
                Ok(Next::Empty)
            }
        }
    }

    /// Reads once.
    pub(crate) fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        let n_before = self.buffer.len();
        self.buffer.resize(n_before + READ_BYTES, 0);
        let read = self.input.read(&mut self.buffer[n_before..]);
        self.buffer.truncate(n_before + read.as_ref().map_or(0, |n| *n));
        match read {
            Ok(n) => self.ended = n == 0,
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn check_line(line: &[u8]) -> Result<Next<'_>, LineTooLong> {
    if line.len() > BODY_BYTES_MAX { Err(LineTooLong) } else { Ok(Next::Line(line)) }
}

/// What a body is in a typed event: a JSON object or array as JSON, other UTF-8 as text, the rest as bytes. A carriage
/// return at the end belongs to the line end.
pub(crate) fn typed(body: &[u8]) -> Body {
    let body = body.strip_suffix(b"\r").unwrap_or(body);
    let Ok(text) = str::from_utf8(body) else { return Body::Bytes(body.to_vec().into()) };
    let is_json = text.trim_ascii_start().starts_with(['{', '['])
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if is_json { Body::Json(text.to_owned()) } else { Body::Text(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(input: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Lines::new(input);
        let mut found = Vec::new();
        loop {
            match lines.next().unwrap() {
                Next::Line(line) => found.push(line.to_vec()),
                Next::Empty => lines.fill().unwrap(),
                Next::End => return found,
            }
        }
    }

    /// Gives a few bytes at a time.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = self.0.len().min(3).min(buffer.len());
            buffer[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    proptest! {
        /// However the bytes arrive, the lines are those of a plain split.
        #[test]
        fn splits_as_split_does(input in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..60)) {
            let mut plain: Vec<&[u8]> = input.split(|&byte| byte == b'\n').collect();
            if plain.last() == Some(&&b""[..]) {
                plain.pop();
            }
            prop_assert_eq!(&lines(&input), &plain);
            let mut trickle = Lines::new(Trickle(&input));
            let mut found = Vec::new();
            loop {
                let has_next = trickle.has_next();
                let next = trickle.next().unwrap();
                prop_assert_eq!(has_next, matches!(next, Next::Line(_)));
                match next {
                    Next::Line(line) => found.push(line.to_vec()),
                    Next::Empty => trickle.fill().unwrap(),
                    Next::End => break,
                }
            }
            prop_assert_eq!(found, plain);
        }
    }

    #[test]
    fn a_line_without_end_is_refused_in_bounded_memory() {
        let mut lines = Lines::new(io::repeat(b'x'));
        let error = loop {
            match lines.next() {
                Ok(Next::Empty) => lines.fill().unwrap(),
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("longer than"));
        assert!(lines.buffer.len() <= BODY_BYTES_MAX + READ_BYTES);
    }

    #[test]
    fn bodies_are_typed_by_what_they_are() {
        let json = |text: &str| Body::Json(text.to_owned());
        let text = |text: &str| Body::Text(text.to_owned());
        for (line, body) in [
            (&b"{\"a\": 1.0e400}"[..], json("{\"a\": 1.0e400}")),
            (b" [1, 2] ", json(" [1, 2] ")),
            (b"{\"a\":1}\r", json("{\"a\":1}")),
            (b"{\"a\":1", text("{\"a\":1")),
            (b"[1] x", text("[1] x")),
            (b"17", text("17")),
            (b"\"quoted\"", text("\"quoted\"")),
            ("grün\r".as_bytes(), text("grün")),
            (b"", text("")),
            (b"\xff\x00", Body::Bytes(vec![0xff, 0].into())),
        ] {
            assert_eq!(typed(line), body, "{line:?}");
        }
    }
}
