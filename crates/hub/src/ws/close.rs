//! The body of a Close frame (RFC 6455 §5.5.1, §7.4).

use bytes::Bytes;

use super::frame::{CONTROL_BYTES_MAX, Opcode, server_frame};
use super::{CloseCode, ReadError};

/// A close reason is at most this many bytes: a control frame's payload without the code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// A server's Close frame with the code and reason of the table.
pub fn close_frame(code: CloseCode) -> Bytes {
    let mut body = Vec::with_capacity(2 + code.reason().len());
    body.extend_from_slice(&code.value().to_be_bytes());
    body.extend_from_slice(code.reason().as_bytes());
    server_frame(Opcode::Close, &body)
}

/// A server's answer to a client's Close frame: the same code, or none where the client gave none (RFC 6455 §5.5.1).
pub fn close_echo(code: Option<u16>) -> Bytes {
    match code {
        Some(code) => server_frame(Opcode::Close, &code.to_be_bytes()),
        None => server_frame(Opcode::Close, b""),
    }
}

/// Splits the body of a client's Close frame into code and reason.
pub(super) fn parse(body: &[u8]) -> Result<(Option<u16>, &str), ReadError> {
    let Some((code, reason)) = body.split_first_chunk::<2>() else {
        return if body.is_empty() { Ok((None, "")) } else { Err(ReadError::CloseBodyTooShort) };
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(ReadError::CloseCodeInvalid(code));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| ReadError::InvalidUtf8)?;
    Ok((Some(code), reason))
}

/// Whether a Close frame may carry `code`: those defined since in the IANA registry (1012–1014) count, the ones that
/// stand for "no frame came" (1005, 1006, 1015) do not.
pub(super) fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_5_5_1_a_body_is_empty_or_a_code_and_a_reason() {
        assert_eq!(parse(b""), Ok((None, "")));
        assert_eq!(parse(b"\x03"), Err(ReadError::CloseBodyTooShort));
        assert_eq!(parse(b"\x03\xe8"), Ok((Some(1000), "")));
        assert_eq!(parse(b"\x03\xe9bye"), Ok((Some(1001), "bye")));
    }

    #[test]
    fn section_5_5_1_a_reason_is_utf8() {
        assert_eq!(parse(b"\x03\xe8\xc3"), Err(ReadError::InvalidUtf8));
        assert_eq!(parse(b"\x03\xe8\xed\xa0\x80"), Err(ReadError::InvalidUtf8));
        assert_eq!(parse("\u{3}\u{0}".as_bytes()), Err(ReadError::CloseCodeInvalid(0x300)));
    }

    #[test]
    fn section_7_4_codes_that_must_not_be_sent() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert_eq!(parse(&u16::to_be_bytes(code)), Err(ReadError::CloseCodeInvalid(code)));
        }
        for code in
            [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
        {
            assert_eq!(parse(&u16::to_be_bytes(code)), Ok((Some(code), "")));
        }
    }

    #[test]
    fn frames_of_the_table_parse_back() {
        for code in CloseCode::ALL {
            let frame = close_frame(code);
            assert_eq!(frame[0], 0x88);
            assert_eq!(usize::from(frame[1]), frame.len() - 2);
            assert_eq!(parse(&frame[2..]), Ok((Some(code.value()), code.reason())));
        }
    }

    #[test]
    fn section_5_5_1_the_answer_repeats_the_code() {
        assert_eq!(&close_echo(None)[..], b"\x88\x00");
        assert_eq!(&close_echo(Some(4999))[..], b"\x88\x02\x13\x87");
    }
}
