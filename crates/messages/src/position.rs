//! A position: where in the recorded sequence a message stands.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The first byte of an encoded position. A later layout takes another, so that old ones are refused, not misread.
const FORMAT: u8 = 1;

/// Bytes of an encoded position before base64: format, epoch, offset.
const ENCODED_BYTES: usize = 1 + 8 + 8;

/// A message's place in the recorded sequence. Clients see the opaque text of [`Display`](fmt::Display)
/// (23 characters, URL-safe) and give it back; only Trestle reads it.
///
/// Positions order within an epoch only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// One run of offsets; never 0.
    pub epoch: u64,
    /// Contiguous from 1 within an epoch; 0 is the place before the first message.
    pub offset: u64,
}

/// Why a text is no position. To a client it is `unknown_position` or `bad_request`, never a reason to guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// Not the base64 of the right length.
    #[error("not a position")]
    Malformed,
    /// Made by another release with another layout.
    #[error("a position of unknown format {0}")]
    Format(u8),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut raw = [FORMAT; ENCODED_BYTES];
        raw[1..9].copy_from_slice(&self.epoch.to_be_bytes());
        raw[9..].copy_from_slice(&self.offset.to_be_bytes());
        let mut text = [0; ENCODED_BYTES.div_ceil(3) * 4];
        let n = URL_SAFE_NO_PAD.encode_slice(raw, &mut text).expect("the buffer holds 17 bytes in base64");
        f.write_str(std::str::from_utf8(&text[..n]).expect("base64 is ASCII"))
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let raw = URL_SAFE_NO_PAD.decode(text).map_err(|_| PositionError::Malformed)?;
        let (&format, rest) = raw.split_first().ok_or(PositionError::Malformed)?;
        if format != FORMAT {
            return Err(PositionError::Format(format));
        }
        let (epoch, offset) = rest.split_at_checked(8).ok_or(PositionError::Malformed)?;
        let number =
            |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).map_err(|_| PositionError::Malformed);
        Ok(Self { epoch: number(epoch)?, offset: number(offset)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_round_trips(epoch: u64, offset: u64) {
            let position = Position { epoch, offset };
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".*") {
            let _ = text.parse::<Position>();
        }
    }

    #[test]
    fn what_is_no_position_is_refused() {
        assert_eq!("".parse::<Position>(), Err(PositionError::Malformed));
        assert_eq!("AQ".parse::<Position>(), Err(PositionError::Malformed));
        assert_eq!("ÿ".parse::<Position>(), Err(PositionError::Malformed));
        let later = URL_SAFE_NO_PAD.encode([9; ENCODED_BYTES]);
        assert_eq!(later.parse::<Position>(), Err(PositionError::Format(9)));
    }
}
