//! Clients' commands, in JSON and in protobuf: a refusal is short, names itself, and is the same each time.

use trestle_hub::encode::{self, Command, CommandError};

/// "A few hundred bytes at most".
const REASON_BYTES_MAX: usize = 1024;

pub(crate) fn json(bytes: &[u8]) {
    // The reader has refused text that is not UTF-8 before a command is read.
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    check(|| encode::parse(text), bytes);
    if let Ok(command) = encode::parse(text) {
        let padded = encode::parse(&format!(" \t{text}\r\n"));
        assert_eq!(
            format!("{padded:?}"),
            format!("{:?}", Ok::<_, CommandError>(command)),
            "white space around it"
        );
    }
}

pub(crate) fn proto(bytes: &[u8]) {
    check(|| encode::parse_proto(bytes), bytes);
}

fn check(parse: impl Fn() -> Result<Command, CommandError>, bytes: &[u8]) {
    let answer = parse();
    assert_eq!(format!("{:?}", parse()), format!("{answer:?}"), "the same bytes mean the same");
    if let Err(error) = answer {
        assert!(!error.reason.is_empty(), "a refusal says why");
        assert!(error.reason.len() <= REASON_BYTES_MAX, "{} bytes for {}", error.reason.len(), bytes.len());
    }
}
