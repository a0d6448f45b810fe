//! Tokens as tests write them, and who reads them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::{ErrorCode, Expiry, Grant, Prefixes, Unverified, Verifier};

/// The time of day at which every test begins, Unix seconds.
pub(super) const BEGUN: u64 = 1_790_000_000;

/// Reads `subject;prefixes to subscribe to;prefixes to publish;seconds from the start on`: lists by commas, of which `-` is an
/// empty one, and `*` everything; without seconds it does not end. `old` and anything else do not count.
#[derive(Debug)]
pub(super) struct Reader {
    start: Instant,
}

impl Reader {
    pub(super) fn new(start: Instant) -> Arc<Self> {
        Arc::new(Self { start })
    }

    /// What a valid token grants.
    pub(super) fn grant(&self, token: &str) -> Arc<Grant> {
        Arc::new(self.verify(token).expect("a valid token"))
    }
}

impl Verifier for Reader {
    fn verify(&self, token: &str) -> Result<Grant, Unverified> {
        let refused = |code: ErrorCode| Err(Unverified { code, reason: code.text().to_owned() });
        let mut fields = token.split(';');
        let (Some(subject), Some(subscribe), Some(publish)) = (fields.next(), fields.next(), fields.next())
        else {
            return refused(if token == "old" { ErrorCode::TokenExpired } else { ErrorCode::Unauthorized });
        };
        let expires_at = fields.next().map(|seconds| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(BEGUN);
            let seconds: u64 = seconds.parse().expect("seconds");
            Expiry::new(BEGUN + seconds, Duration::ZERO, self.start, time)
        });
        let (subscribe, publish) = (prefixes(subscribe), prefixes(publish));
        Ok(Grant { subject: Some(subject.into()), subscribe, publish, expires_at, max_connections: None })
    }
}

fn prefixes(list: &str) -> Prefixes {
    match list {
        "*" => Prefixes::everything(),
        "-" => Prefixes::default(),
        list => list.split(',').map(str::as_bytes).collect(),
    }
}
