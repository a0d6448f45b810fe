//! Positions as clients give them back: what is read is written as it was.

use trestle_messages::Position;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(position) = text.parse::<Position>() {
        assert_eq!(position.to_string(), text, "one text for one position");
    }
}
