//! The list of extensions that a client offers (RFC 6455 §9.1), read strictly.

use std::borrow::Cow;

use smallvec::SmallVec;

/// `Sec-WebSocket-Extensions` that its grammar does not allow; such a handshake fails as a whole (RFC 6455 §9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// One extension of the list, with the parameters that it shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extension<'a> {
    pub(super) name: &'a str,
    pub(super) params: SmallVec<[Param<'a>; 4]>,
}

/// A parameter, in the order and as often as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Param<'a> {
    pub(super) name: &'a str,
    /// Without the quotes, if it had any.
    pub(super) value: Option<Cow<'a, str>>,
}

/// The extensions of one header line, the client's favourite first.
pub(super) fn parse(value: &[u8]) -> Result<Vec<Extension<'_>>, Malformed> {
    let mut rest = Rest(value);
    let (mut extensions, mut has_separator) = (Vec::new(), true);
    loop {
        rest.skip_space();
        // Empty elements are allowed (RFC 9110 §5.6.1.2).
        if rest.take(b',') {
            has_separator = true;
        } else if rest.0.is_empty() {
            return Ok(extensions);
        } else if has_separator {
            extensions.push(rest.extension()?);
            has_separator = false;
        } else {
            return Err(Malformed);
        }
    }
}

/// What of the value is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn extension(&mut self) -> Result<Extension<'a>, Malformed> {
        let name = self.token()?;
        let mut params = SmallVec::new();
        loop {
            self.skip_space();
            if !self.take(b';') {
                return Ok(Extension { name, params });
            }
            self.skip_space();
            params.push(self.param()?);
        }
    }

    fn param(&mut self) -> Result<Param<'a>, Malformed> {
        let name = self.token()?;
        self.skip_space();
        if !self.take(b'=') {
            return Ok(Param { name, value: None });
        }
        self.skip_space();
        let value = if self.take(b'"') { self.quoted()? } else { Cow::Borrowed(self.token()?) };
        Ok(Param { name, value: Some(value) })
    }

    fn token(&mut self) -> Result<&'a str, Malformed> {
        let n = self.0.iter().take_while(|byte| is_token(**byte)).count();
        let (token, rest) = self.0.split_at(n);
        self.0 = rest;
        if token.is_empty() { Err(Malformed) } else { str::from_utf8(token).map_err(|_| Malformed) }
    }

    /// The rest of a quoted string. What is in the quotes must be a token, too, so only `\` needs care.
    fn quoted(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let plain = self.token().unwrap_or_default();
        if self.take(b'"') {
            return if plain.is_empty() { Err(Malformed) } else { Ok(Cow::Borrowed(plain)) };
        }
        let mut value = plain.to_owned();
        while !self.take(b'"') {
            self.take(b'\\');
            let (&byte, rest) = self.0.split_first().filter(|(byte, _)| is_token(**byte)).ok_or(Malformed)?;
            value.push(char::from(byte));
            self.0 = rest;
        }
        Ok(Cow::Owned(value))
    }

    fn take(&mut self, byte: u8) -> bool {
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn skip_space(&mut self) {
        while self.take(b' ') || self.take(b'\t') {}
    }
}

/// Whether `byte` may stand in a token (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    /// What `value` holds, written out again in one canonical way.
    fn canonical(value: &str) -> Option<String> {
        let extensions = parse(value.as_bytes()).ok()?;
        let written = extensions.iter().map(|Extension { name, params }| {
            let params = params.iter().map(|Param { name, value }| match value {
                Some(value) => format!(";{name}={value}"),
                None => format!(";{name}"),
            });
            format!("{name}{}", params.collect::<String>())
        });
        Some(written.collect::<Vec<_>>().join(","))
    }

    #[test]
    fn section_9_1_lists_parameters_and_quotes() {
        for (value, expected) in [
            ("", ""),
            ("foo", "foo"),
            ("foo, bar; baz=2", "foo,bar;baz=2"),
            ("foo;bar;bar", "foo;bar;bar"),
            (" \ta ;\tb = c\t, d", "a;b=c,d"),
            ("a; b=\"10\"; c=\"1\\0\"", "a;b=10;c=10"),
            (",, a ,,b,", "a,b"),
            ("deflate-stream", "deflate-stream"),
        ] {
            assert_eq!(canonical(value).as_deref(), Some(expected), "{value:?}");
        }
    }

    #[test]
    fn section_9_1_whatever_else_there_is_fails() {
        for value in [
            "a b",
            "a;",
            ";a",
            "a;;b",
            "a;b=",
            "a;=b",
            "a=b",
            "a;b=c d",
            "a;b=\"",
            "a;b=\"\"",
            "a;b=\"c",
            "a;b=\"c d\"",
            "a;b=\"c,d\"",
            "a;b=\"\\\"",
            "a;b=\"c\"d",
            "a;b=c\"d\"",
            "a/b",
            "(a)",
            "ä",
            "a\n",
        ] {
            assert_eq!(canonical(value), None, "{value:?}");
        }
        assert_eq!(parse(b"a\xff"), Err(Malformed));
    }

    proptest! {
        #[test]
        fn what_is_read_is_read_the_same_when_written_out(value in "[ab=;,\"\\\\ \t15ä]{0,24}") {
            if let Some(first) = canonical(&value) {
                prop_assert_eq!(canonical(&first), Some(first));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(extensions) = parse(&value) {
                prop_assert!(extensions.iter().all(|extension| extension.name.bytes().all(is_token)));
            }
        }
    }
}
