//! Who may publish what.

use trestle_hub::{ErrorCode, Unpublished};

/// So many prefixes are named to who is refused.
const NAMED_MAX: usize = 8;

/// The prefixes that `--allow-publish` names. The only place that decides.
#[derive(Debug)]
pub(super) struct Permission {
    prefixes: Vec<String>,
}

impl Permission {
    pub(super) fn new(prefixes: &[String]) -> Self {
        Self { prefixes: prefixes.to_vec() }
    }

    /// # Errors
    /// `forbidden`, with the prefixes that are allowed.
    pub(super) fn may_publish(&self, topic: &[u8]) -> Result<(), Unpublished> {
        if self.prefixes.iter().any(|prefix| topic.starts_with(prefix.as_bytes())) {
            return Ok(());
        }
        let named: Vec<_> =
            self.prefixes.iter().take(NAMED_MAX).map(|prefix| format!("`{prefix}`")).collect();
        let reason = match self.prefixes.len() {
            0 => "publishing is not allowed here".to_owned(),
            n if n > NAMED_MAX => format!("topics to publish to begin with {} and others", named.join(", ")),
            _ => format!("topics to publish to begin with {}", named.join(" or ")),
        };
        Err(Unpublished::new(ErrorCode::Forbidden, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(prefixes: &[&str], topic: &[u8]) -> Option<String> {
        let prefixes: Vec<_> = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
        let refused = Permission::new(&prefixes).may_publish(topic).err()?;
        assert_eq!(refused.code, ErrorCode::Forbidden);
        Some(refused.reason)
    }

    #[test]
    fn topics_are_allowed_by_prefix_and_nothing_by_default() {
        assert_eq!(reason(&[], b"").unwrap(), "publishing is not allowed here");
        assert_eq!(reason(&[""], b"\xff"), None);
        assert_eq!(reason(&["chat/", "x"], b"chat/lobby"), None);
        assert_eq!(reason(&["chat/", "x"], b"x"), None);
        let named = "topics to publish to begin with `chat/` or `x`";
        assert_eq!(reason(&["chat/", "x"], b"chat").unwrap(), named);
        let many: Vec<_> = (0..9).map(|n| n.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert!(reason(&many, b"x").unwrap().ends_with("`7` and others"));
    }
}
