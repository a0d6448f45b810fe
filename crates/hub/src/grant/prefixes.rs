//! A set of byte prefixes.

use std::fmt;

/// So many are named to who is refused.
const NAMED_MAX: usize = 8;
/// Of each at most so many characters.
const NAMED_CHARS_MAX: usize = 40;

/// What topics may begin with. No member begins with another one: that would add nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// Sorted.
    sorted: Box<[Box<[u8]>]>,
}

impl Prefixes {
    /// All topics.
    pub fn everything() -> Self {
        Self { sorted: Box::new([Box::default()]) }
    }

    /// Whether `topic`, and with it all that begins with it, begins with one of them.
    pub fn cover(&self, topic: &[u8]) -> bool {
        // Between a prefix and what begins with it nothing sorts that does not.
        let behind = self.sorted.partition_point(|prefix| **prefix <= *topic);
        behind > 0 && topic.starts_with(&self.sorted[behind - 1])
    }

    /// What both cover.
    #[must_use]
    pub fn within(&self, bound: &Self) -> Self {
        let inner = self.iter().filter(|prefix| bound.cover(prefix));
        let outer = bound.iter().filter(|prefix| self.cover(prefix));
        inner.chain(outer).collect()
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.sorted.iter().map(|prefix| &**prefix)
    }

    /// Whether they cover nothing.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }
}

impl<P: Into<Box<[u8]>>> FromIterator<P> for Prefixes {
    fn from_iter<I: IntoIterator<Item = P>>(prefixes: I) -> Self {
        let mut sorted: Vec<Box<[u8]>> = prefixes.into_iter().map(Into::into).collect();
        sorted.sort_unstable();
        sorted.dedup_by(|longer, kept| longer.starts_with(kept));
        Self { sorted: sorted.into() }
    }
}

/// For people: "`jobs/` or `chat/`", in a few hundred bytes at most.
impl fmt::Display for Prefixes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.sorted.len().min(NAMED_MAX).saturating_sub(1);
        for (n, prefix) in self.iter().take(NAMED_MAX).enumerate() {
            let between = match n {
                0 => "",
                n if n == last && self.sorted.len() <= NAMED_MAX => " or ",
                _ => ", ",
            };
            let text = String::from_utf8_lossy(prefix);
            match text.char_indices().nth(NAMED_CHARS_MAX) {
                Some((end, _)) => write!(f, "{between}`{}…`", &text[..end])?,
                None => write!(f, "{between}`{text}`")?,
            }
        }
        if self.sorted.len() > NAMED_MAX { f.write_str(" and others") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefixes(list: &[&str]) -> Prefixes {
        list.iter().map(|prefix| prefix.as_bytes()).collect()
    }

    #[test]
    fn what_adds_nothing_is_left_out() {
        let kept = prefixes(&["b/x", "a", "b/", "a", "ab", "c"]);
        assert_eq!(kept.iter().collect::<Vec<_>>(), [&b"a"[..], b"b/", b"c"]);
        assert_eq!(prefixes(&["x", ""]), Prefixes::everything());
        assert!(prefixes(&[]).is_empty() && !Prefixes::everything().is_empty());
    }

    #[test]
    fn they_are_named_in_few_words() {
        assert_eq!(prefixes(&[]).to_string(), "");
        assert_eq!(prefixes(&["jobs/"]).to_string(), "`jobs/`");
        assert_eq!(prefixes(&["jobs/", "chat/", "x"]).to_string(), "`chat/`, `jobs/` or `x`");
        let nine: Vec<_> = (1..=9).map(|n| n.to_string()).collect();
        let nine: Vec<_> = nine.iter().map(String::as_str).collect();
        assert_eq!(prefixes(&nine).to_string(), "`1`, `2`, `3`, `4`, `5`, `6`, `7`, `8` and others");
        let long = prefixes(&["é".repeat(100).as_str()]).to_string();
        assert_eq!(long, format!("`{}…`", "é".repeat(40)));
    }

    fn some() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(0u8..3, 0..4), 0..6)
    }

    proptest! {
        #[test]
        fn they_cover_what_begins_with_one_of_them(given in some(), topic in proptest::collection::vec(0u8..3, 0..6)) {
            let naive = given.iter().any(|prefix| topic.starts_with(prefix));
            prop_assert_eq!(given.into_iter().collect::<Prefixes>().cover(&topic), naive);
        }

        #[test]
        fn within_a_bound_is_covered_by_both(a in some(), b in some(),
                                             topic in proptest::collection::vec(0u8..3, 0..6)) {
            let (a, b): (Prefixes, Prefixes) = (a.into_iter().collect(), b.into_iter().collect());
            prop_assert_eq!(a.within(&b).cover(&topic), a.cover(&topic) && b.cover(&topic));
            prop_assert_eq!(a.within(&b), b.within(&a));
        }
    }
}
