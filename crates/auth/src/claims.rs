//! What a token says, and what that grants.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use trestle_hub::{Expiry, Grant, Prefixes};

use crate::Refused;

/// Stands for the token's `sub` in a prefix.
const SUBJECT: &str = "{sub}";
/// Prefixes of each list.
const PREFIXES_MAX: usize = 1_000;
/// Bytes of a prefix, as of a topic on ØMQ.
const PREFIX_BYTES_MAX: usize = 255;
/// Bytes of a subject: it is a key of connections, and in logs.
const SUBJECT_BYTES_MAX: usize = 255;

/// The claims of a token that count here; others are passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Whose it is. Required.
    pub sub: Option<String>,
    /// When it ends, Unix seconds. Required.
    #[serde(deserialize_with = "whole_seconds")]
    pub exp: u64,
    /// Since when it is good, Unix seconds.
    #[serde(default, deserialize_with = "maybe_whole_seconds", skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// When it was made, Unix seconds. Nothing follows from it.
    #[serde(default, deserialize_with = "maybe_whole_seconds", skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// For whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<Audience>,
    /// What it allows; without it nothing.
    #[serde(default)]
    pub trestle: Allowed,
}

/// The claim `trestle`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// What topics to subscribe to begin with; `{sub}` stands for the token's subject.
    #[serde(default)]
    pub subscribe: Vec<String>,
    /// What topics to publish to begin with.
    #[serde(default)]
    pub publish: Vec<String>,
    /// So many connections of the subject at once, on each edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
}

/// One audience or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Any of them.
    Several(Vec<String>),
}

impl Claims {
    /// Of `sub`, for `ttl` seconds from now on.
    pub fn new<S: Into<String>, P: Into<String>>(
        sub: &str,
        subscribe: impl IntoIterator<Item = S>,
        publish: impl IntoIterator<Item = P>,
        ttl: u64,
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let subscribe = subscribe.into_iter().map(Into::into).collect();
        let publish = publish.into_iter().map(Into::into).collect();
        Self {
            sub: Some(sub.to_owned()),
            exp: now.saturating_add(ttl),
            nbf: None,
            iat: Some(now),
            iss: None,
            aud: None,
            trestle: Allowed { subscribe, publish, max_connections: None },
        }
    }

    /// What they grant, until `leeway` after their end.
    ///
    /// # Errors
    /// If the subject or a prefix is not one.
    pub fn grant(&self, leeway: Duration) -> Result<Grant, Refused> {
        let subject = self.sub.as_deref().unwrap_or_default();
        if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX || subject.contains(char::is_control) {
            return Err(Refused::BadClaims("`sub` has 1 to 255 bytes and no control characters"));
        }
        Ok(Grant {
            subject: Some(subject.into()),
            subscribe: prefixes(&self.trestle.subscribe, subject)?,
            publish: prefixes(&self.trestle.publish, subject)?,
            expires_at: Some(Expiry::new(self.exp, leeway, Instant::now(), SystemTime::now())),
            max_connections: self.trestle.max_connections,
        })
    }
}

fn prefixes(templates: &[String], subject: &str) -> Result<Prefixes, Refused> {
    if templates.len() > PREFIXES_MAX {
        return Err(Refused::BadClaims("there are more than 1,000 prefixes"));
    }
    let prefixes = templates.iter().map(|template| prefix(template, subject));
    prefixes
        .map(|prefix| prefix.map(String::into_bytes))
        .collect::<Result<Vec<_>, _>>()
        .map(Prefixes::from_iter)
}

/// A subject that holds what ends its place in the prefix would come out of that place: of `users/{sub}/` the subject `ann/x` is
/// not the user `ann`. And where nothing ends it, `users/{sub}` of `al` is the beginning of `users/alice`.
fn prefix(template: &str, subject: &str) -> Result<String, Refused> {
    let mut parts = template.split(SUBJECT);
    let mut prefix = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let Some(end) = part.chars().next() else {
            return Err(Refused::BadClaims("nothing ends `{sub}` in a prefix: write `{sub}/`"));
        };
        if subject.contains(end) {
            return Err(Refused::BadClaims("`sub` holds what ends `{sub}` in a prefix"));
        }
        prefix += subject;
        prefix += part;
    }
    match prefix.len() <= PREFIX_BYTES_MAX {
        true => Ok(prefix),
        false => Err(Refused::BadClaims("a prefix has more than 255 bytes")),
    }
}

/// RFC 7519 §2 allows fractions of a second; what is good until 1.5 is good until 1 here.
fn whole_seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let seconds = serde_json::Number::deserialize(deserializer)?;
    let whole = seconds.as_u64().or_else(|| {
        let float = seconds.as_f64().filter(|float| (0.0..1e18).contains(float))?;
        // In that range it loses its fraction, and nothing else that matters.
        Some(float as u64)
    });
    whole.ok_or_else(|| serde::de::Error::custom("no time"))
}

fn maybe_whole_seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    whole_seconds(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(sub: &str, subscribe: &[&str]) -> Result<Grant, Refused> {
        Claims::new(sub, subscribe.iter().copied(), [""; 0], 60).grant(Duration::ZERO)
    }

    #[test]
    fn the_subject_takes_its_place_and_stays_there() {
        let grant = of("ann", &["users/{sub}/", "jobs/", "{sub}-{sub}:"]).unwrap();
        for (topic, may) in [
            ("users/ann/", true),
            ("users/ann/mail", true),
            ("users/ann", false),
            ("users/anna/", false),
            ("users/{sub}/", false),
            ("ann-ann:x", true),
            ("jobs/1", true),
            ("", false),
        ] {
            assert_eq!(grant.may_subscribe(topic.as_bytes()).is_ok(), may, "{topic}");
        }
        assert_eq!(grant.subject.as_deref(), Some("ann"));
        assert!(grant.may_publish(b"jobs/1").is_err(), "nothing was said of that");
        for (sub, template) in [("ann/x", "users/{sub}/"), ("/", "users/{sub}/"), ("a-b", "{sub}-")] {
            assert!(matches!(of(sub, &[template]), Err(Refused::BadClaims(_))), "{sub}");
        }
        for template in ["users/{sub}", "{sub}", "{sub}{sub}/"] {
            assert!(matches!(of("al", &[template]), Err(Refused::BadClaims(_))), "{template}: also alice's");
        }
        assert!(of("ann/x", &["jobs/"]).is_ok());
    }

    #[test]
    fn a_subject_and_prefixes_have_bounds() {
        for sub in ["", "an\nn", "\0", &"s".repeat(256)] {
            assert!(matches!(of(sub, &[]), Err(Refused::BadClaims(_))), "{} bytes", sub.len());
        }
        assert!(of(&"s".repeat(255), &[]).is_ok());
        assert!(of("ann", &["p".repeat(255).as_str()]).is_ok());
        assert!(of("ann", &["p".repeat(256).as_str()]).is_err());
        assert!(
            of(&"s".repeat(200), &["users/of/the/whole/of/this/house/and/of/its/garden/too/{sub}/"]).is_err()
        );
        let many = vec!["p"; PREFIXES_MAX + 1];
        assert!(of("ann", &many).is_err());
        assert!(of("ann", &many[1..]).is_ok());
    }

    #[test]
    fn what_is_said_of_trestle_is_known_by_name() {
        let of = |json: &str| serde_json::from_str::<Claims>(json);
        let claims =
            of(r#"{"sub":"a","exp":1.9,"other":{},"trestle":{"subscribe":["x"],"max_connections":3}}"#);
        let claims = claims.unwrap();
        assert_eq!((claims.exp, claims.trestle.max_connections), (1, Some(3)));
        assert_eq!(claims.trestle.subscribe, ["x"]);
        for wrong in [
            r#"{"sub":"a","exp":1,"trestle":{"subcribe":["x"]}}"#,
            r#"{"sub":"a","exp":1,"trestle":{"subscribe":"x"}}"#,
            r#"{"sub":"a","exp":1,"trestle":null}"#,
            r#"{"sub":"a","exp":-1}"#,
            r#"{"sub":"a","exp":1e300}"#,
            r#"{"sub":"a","exp":"1"}"#,
            r#"{"sub":"a"}"#,
            r#"{"sub":7,"exp":1}"#,
            r#"{"sub":"a","exp":1,"nbf":"then"}"#,
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        /// Whatever a subject is called, it reaches nothing of another one's place.
        #[test]
        fn no_subject_reaches_into_anothers_place(one in "[a-c/{}sub]{1,6}", other in "[a-c/{}sub]{1,6}") {
            let Ok(grant) = of(&one, &["users/{sub}/"]) else {
                prop_assert!(one.contains('/'));
                return Ok(());
            };
            let place = format!("users/{other}/");
            prop_assert_eq!(grant.may_subscribe(place.as_bytes()).is_ok(), other == one || other.starts_with(&format!("{one}/")));
        }
    }
}
