//! How far a subscription has come.

use trestle_messages::Position;

/// A position as an edge gave it. To be given back it need not be understood: an edge of a later release may lay it out
/// otherwise. To be compared it must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    text: String,
    known: Option<Position>,
}

impl Place {
    pub(super) fn new(text: String) -> Self {
        let known = text.parse().ok();
        Self { text, known }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is `other` or before it; false where that cannot be said.
    pub(super) fn is_reached_by(&self, other: &Self) -> bool {
        match (self.known, other.known) {
            (Some(a), Some(b)) => a.epoch == b.epoch && a.offset <= b.offset,
            _ => self.text == other.text,
        }
    }

    /// The one before the other; `None` where that cannot be said.
    pub(super) fn earlier<'a>(&'a self, other: &'a Self) -> Option<&'a Self> {
        match (self.is_reached_by(other), other.is_reached_by(self)) {
            (true, _) => Some(self),
            (false, true) => Some(other),
            (false, false) => None,
        }
    }
}

/// Goes on to `next`, never back within an epoch.
pub(super) fn advance(place: &mut Option<Place>, next: &Place) {
    if place.as_ref().is_none_or(|place| !next.is_reached_by(place)) {
        *place = Some(next.clone());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(epoch: u64, offset: u64) -> Place {
        Place::new(Position { epoch, offset }.to_string())
    }

    proptest! {
        #[test]
        fn goes_to_the_greatest_of_the_latest_epoch(steps in prop::collection::vec((1u64..4, 0u64..50), 1..50)) {
            let mut reached = None;
            let mut expected = steps[0];
            for &(epoch, offset) in &steps {
                advance(&mut reached, &place(epoch, offset));
                expected = if epoch == expected.0 { (epoch, offset.max(expected.1)) } else { (epoch, offset) };
            }
            prop_assert_eq!(reached, Some(place(expected.0, expected.1)));
        }
    }

    #[test]
    fn what_cannot_be_compared_is_not_ordered() {
        let unknown = Place::new("of a later release".to_owned());
        assert_eq!(place(1, 7).earlier(&unknown), None);
        assert_eq!(place(1, 7).earlier(&place(2, 7)), None);
        assert_eq!(unknown.earlier(&unknown.clone()), Some(&unknown));
        assert_eq!(place(1, 7).earlier(&place(1, 6)), Some(&place(1, 6)));
    }
}
