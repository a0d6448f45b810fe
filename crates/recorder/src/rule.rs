//! Which topics are recorded, and how much of each is kept.

use std::str::FromStr;
use std::time::Duration;

use trestle_messages::{topic, v1};

/// 64 MiB: about ten minutes of a thousand 100-byte messages a second.
const BYTES_MAX_DEFAULT: u64 = 64 << 20;
/// Ten minutes: a laptop's lid closed for a coffee, a phone in a tunnel.
const AGE_MAX_DEFAULT: Duration = Duration::from_secs(600);

/// Topics that begin with `prefix` are numbered and kept within both bounds. As text: `PREFIX[=BYTES[,AGE]]`,
/// for example `jobs/=64MiB,10m`; an empty prefix means every topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordRule {
    /// Matched by byte prefix.
    pub prefix: Vec<u8>,
    /// Bytes kept: frames, and 72 for each message.
    pub bytes_max: u64,
    /// A message older than this is gone, with all before it.
    pub age_max: Duration,
}

/// Why a text is no record rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordRuleError {
    /// The part before the comma.
    #[error("`{0}` is no size; write for example 67108864, 64MiB or 1GiB")]
    Bytes(String),
    /// The part behind the comma.
    #[error("`{0}` is no age; write for example 500ms, 90s, 10m or 2h")]
    Age(String),
    /// `\0trestle` belongs to the link itself.
    #[error("topics that begin with \\0trestle are reserved")]
    Reserved,
}

impl RecordRule {
    /// Records topics that begin with `prefix` within the default bounds: 64 MiB and ten minutes.
    pub fn new(prefix: impl Into<Vec<u8>>) -> Self {
        Self { prefix: prefix.into(), bytes_max: BYTES_MAX_DEFAULT, age_max: AGE_MAX_DEFAULT }
    }
}

impl FromStr for RecordRule {
    type Err = RecordRuleError;

    fn from_str(text: &str) -> Result<Self, RecordRuleError> {
        // The last `=` parts them, so that a prefix may hold one.
        let (prefix, bounds) = text.rsplit_once('=').unwrap_or((text, ""));
        if topic::is_reserved(prefix.as_bytes()) {
            return Err(RecordRuleError::Reserved);
        }
        let mut rule = Self::new(prefix);
        let (bytes, age) = bounds.split_once(',').unwrap_or((bounds, ""));
        if !bytes.is_empty() {
            rule.bytes_max = parse_bytes(bytes).ok_or_else(|| RecordRuleError::Bytes(bytes.to_owned()))?;
        }
        if !age.is_empty() {
            rule.age_max = parse_age(age).ok_or_else(|| RecordRuleError::Age(age.to_owned()))?;
        }
        Ok(rule)
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..digits].parse().ok()?, text[digits..].trim()))
}

fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let shift = match unit {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn parse_age(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let ms = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(ms).map(Duration::from_millis)
}

/// A set of rules; the longest prefix that matches a topic rules it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordRules {
    /// Longest first, so that the first match is the ruling one.
    rules: Vec<RecordRule>,
}

impl RecordRules {
    /// One rule with an empty prefix and default bounds.
    pub fn everything() -> Self {
        Self::from_iter([RecordRule::new("")])
    }

    /// No rule: nothing is numbered or kept.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// The rule that rules `topic`, if any.
    pub fn ruling(&self, topic: &[u8]) -> Option<&RecordRule> {
        self.ruling_index(topic).map(|index| &self.rules[index])
    }

    /// Its place among the rules.
    pub(crate) fn ruling_index(&self, topic: &[u8]) -> Option<usize> {
        // The empty prefix is not compared: glibc's AVX-512 memcmp loads from its dangling pointer under an empty mask,
        // which costs the CPU an assist, 130 ns a message.
        self.rules.iter().position(|rule| rule.prefix.is_empty() || topic.starts_with(&rule.prefix))
    }

    /// Whether messages on `topic` are numbered and kept.
    pub fn is_recorded(&self, topic: &[u8]) -> bool {
        self.ruling(topic).is_some()
    }

    /// Whether every topic that begins with `prefix` is recorded.
    pub fn covers(&self, prefix: &[u8]) -> bool {
        self.is_recorded(prefix)
    }

    /// The rules, longest prefix first.
    pub fn iter(&self) -> impl Iterator<Item = &RecordRule> {
        self.rules.iter()
    }
}

impl FromIterator<RecordRule> for RecordRules {
    /// Of two rules with one prefix the later stands.
    fn from_iter<T: IntoIterator<Item = RecordRule>>(rules: T) -> Self {
        let mut set: Vec<RecordRule> = Vec::new();
        for rule in rules {
            set.retain(|other| other.prefix != rule.prefix);
            set.push(rule);
        }
        set.sort_by(|a, b| b.prefix.len().cmp(&a.prefix.len()).then_with(|| a.prefix.cmp(&b.prefix)));
        Self { rules: set }
    }
}

impl From<&RecordRules> for Vec<v1::RecordRule> {
    fn from(rules: &RecordRules) -> Self {
        let wire = |rule: &RecordRule| v1::RecordRule {
            prefix: rule.prefix.clone().into(),
            bytes_max: rule.bytes_max,
            age_ms_max: u64::try_from(rule.age_max.as_millis()).unwrap_or(u64::MAX),
        };
        rules.iter().map(wire).collect()
    }
}

impl From<&[v1::RecordRule]> for RecordRules {
    fn from(rules: &[v1::RecordRule]) -> Self {
        let core = |rule: &v1::RecordRule| RecordRule {
            prefix: rule.prefix.to_vec(),
            bytes_max: rule.bytes_max,
            age_max: Duration::from_millis(rule.age_ms_max),
        };
        rules.iter().map(core).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms() {
        let rule = |prefix: &str, bytes_max, secs| RecordRule {
            prefix: prefix.into(),
            bytes_max,
            age_max: Duration::from_secs(secs),
        };
        for (text, expected) in [
            ("", rule("", 64 << 20, 600)),
            ("jobs/", rule("jobs/", 64 << 20, 600)),
            ("jobs/=1MiB", rule("jobs/", 1 << 20, 600)),
            ("jobs/=1024,90s", rule("jobs/", 1024, 90)),
            ("a=b=2GiB,2h", rule("a=b", 2 << 30, 7200)),
            ("jobs/=,1m", rule("jobs/", 64 << 20, 60)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert_eq!("x=big".parse::<RecordRule>(), Err(RecordRuleError::Bytes("big".into())));
        assert_eq!("x=1,soon".parse::<RecordRule>(), Err(RecordRuleError::Age("soon".into())));
        assert_eq!(
            "x=99999999999GiB".parse::<RecordRule>(),
            Err(RecordRuleError::Bytes("99999999999GiB".into()))
        );
        assert_eq!("\0trestle".parse::<RecordRule>(), Err(RecordRuleError::Reserved));
    }

    #[test]
    fn the_longest_prefix_rules() {
        let rules: RecordRules =
            ["jobs/=1", "jobs/big/=2", "a"].map(|text| text.parse().unwrap()).into_iter().collect();
        assert_eq!(rules.ruling(b"jobs/7").unwrap().bytes_max, 1);
        assert_eq!(rules.ruling(b"jobs/big/7").unwrap().bytes_max, 2);
        assert!(rules.ruling(b"job").is_none());
        assert!(rules.covers(b"jobs/") && !rules.covers(b"jobs"));
    }

    #[test]
    fn rules_survive_the_wire() {
        let rules: RecordRules = ["jobs/=1,5s", ""].map(|text| text.parse().unwrap()).into_iter().collect();
        let wire = Vec::<v1::RecordRule>::from(&rules);
        assert_eq!(RecordRules::from(&wire[..]), rules);
    }
}
