//! The mechanism PLAIN of ZWS 2.0 (ZeroMQ RFC 45 and 24): a name and a password, which is a token, before anything else.

use bytes::Bytes;

use super::command::Token;
use super::zws::{COMMAND, says_socket};
use crate::protocol::Role;
use crate::ws::{Opcode, server_frame};

/// What a name and a password may have each: a byte says how much.
const WORD_BYTES_MAX: usize = u8::MAX as usize;

/// What ZAP (ZeroMQ RFC 27) calls a client that is not let in, and so an authentication failure to libzmq's monitor; but
/// libzmq 4.3.5 knows no ERROR of PLAIN: in its source a hexadecimal escape swallows the E.
const REFUSED: &[u8] = b"400";

/// The token in a client's HELLO, empty where it has none; `None` if it is no HELLO.
///
/// It is the password. One that is longer than a password can be begins in the name: a name as long as can be is none.
pub(crate) fn token(payload: &[u8]) -> Option<Token> {
    let rest = payload.strip_prefix(&[COMMAND]).and_then(|command| command.strip_prefix(b"\x05HELLO"))?;
    let (name, rest) = word(rest)?;
    let (password, rest) = word(rest)?;
    if !rest.is_empty() {
        return None;
    }
    let begun = if name.len() == WORD_BYTES_MAX { name } else { &[] };
    Some(Token(String::from_utf8_lossy(&[begun, password].concat()).into()))
}

/// Bytes behind their number, and what is behind them.
fn word(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*len))
}

/// The answer to a HELLO whose token counts.
pub(crate) fn welcome() -> Bytes {
    command(b"\x07WELCOME", &[])
}

/// The answer to one whose token does not. libzmq does not come again after it.
pub(crate) fn error() -> Bytes {
    command(b"\x05ERROR", &[&[REFUSED.len() as u8], REFUSED].concat())
}

/// Whether what follows WELCOME is the INITIATE of such a socket. READY answers it.
pub(crate) fn is_initiate_of(client: Role, payload: &[u8]) -> bool {
    let command = payload.strip_prefix(&[COMMAND]).and_then(|command| command.strip_prefix(b"\x08INITIATE"));
    command.is_some_and(|metadata| says_socket(client, metadata))
}

fn command(name: &[u8], body: &[u8]) -> Bytes {
    server_frame(Opcode::Binary, &[&[COMMAND], name, body].concat())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn hello(name: &[u8], password: &[u8]) -> Vec<u8> {
        let lens = [name, password].map(|word| [word.len() as u8]);
        [b"\x02\x05HELLO", &lens[0][..], name, &lens[1], password].concat()
    }

    fn token_of(name: &str, password: &str) -> String {
        token(&hello(name.as_bytes(), password.as_bytes())).unwrap().as_str().to_owned()
    }

    proptest! {
        #[test]
        fn a_password_is_the_token(name in "[a-z]{0,254}", password in "[a-zA-Z0-9._-]{0,255}") {
            prop_assert_eq!(token_of(&name, &password), password);
        }

        #[test]
        fn a_long_token_begins_in_the_name(long in "[a-zA-Z0-9._-]{255,510}") {
            prop_assert_eq!(token_of(&long[..255], &long[255..]), long);
        }

        #[test]
        fn a_hello_cut_short_or_gone_on_is_none(name in vec(any::<u8>(), 0..20), password in vec(any::<u8>(), 0..20), cut in any::<prop::sample::Index>()) {
            let hello = hello(&name, &password);
            prop_assert!(token(&hello).is_some());
            prop_assert_eq!(token(&hello[..cut.index(hello.len())]), None);
            prop_assert_eq!(token(&[&hello[..], b"\0"].concat()), None);
        }

        #[test]
        fn no_bytes_do_harm(bytes in vec(any::<u8>(), 0..60)) {
            let _ = (token(&bytes), token(&[b"\x02\x05HELLO", &bytes[..]].concat()));
            let _ = is_initiate_of(Role::Publisher, &[b"\x02\x08INITIATE", &bytes[..]].concat());
        }
    }

    #[test]
    fn an_initiate_says_what_socket_it_is() {
        let initiate = b"\x02\x08INITIATE\x0bSocket-Type\0\0\0\x03PUB\x08Identity\0\0\0\0";
        assert!(is_initiate_of(Role::Publisher, initiate) && !is_initiate_of(Role::Subscriber, initiate));
        assert!(!is_initiate_of(Role::Publisher, &initiate[..initiate.len() - 1]));
        assert!(!is_initiate_of(Role::Publisher, b"\x02\x08INITIATE"));
        assert!(!is_initiate_of(Role::Publisher, b"\x02\x05READY\x0bSocket-Type\0\0\0\x03PUB"));
    }

    #[test]
    fn the_servers_words_to_the_letter() {
        assert_eq!(welcome()[..], *b"\x82\x09\x02\x07WELCOME");
        assert_eq!(error()[..], *b"\x82\x0b\x02\x05ERROR\x03400");
    }
}
