//! Who a request is from: the token that it carries, and what that grants.

mod carrier;
mod failures;
mod fetch;
mod keys;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use trestle_auth::{Jwt, Keys, Rules};
use trestle_hub::{ErrorCode, Grant, Unverified, Verifier};
use trestle_process::exit::Exit;
use warp::http::HeaderMap;

use crate::config::duration;
pub(crate) use carrier::Carriers;
pub(crate) use failures::Failures;
use fetch::Fetcher;
pub use fetch::JwksUrl;
pub(crate) use keys::Known;
use keys::{Pace, Sources};

/// Who is asked for a token, and what makes one count.
#[derive(Debug, Clone, Args)]
pub struct AuthFlags {
    /// Whether clients need a token: none, or jwt, a JSON Web Token. With none everybody reads everything.
    #[arg(long, value_name = "KIND", value_enum, default_value_t = Auth::None)]
    pub auth: Auth,
    /// With --auth jwt: a file with what verifies tokens, a public key in PEM (RS256, ES256, EdDSA), a JWK or a set of them, or
    /// a secret of at least 32 bytes (HS256, HS384, HS512). Read again as --auth-refresh says. Repeatable.
    #[arg(long, value_name = "FILE")]
    pub auth_key_file: Vec<PathBuf>,
    /// The same as its text, best as the variable TRESTLE_AUTH_KEY: what is on a command line others on the machine see.
    #[arg(long, value_name = "KEY", hide_env_values = true)]
    pub auth_key: Option<String>,
    /// The same as a URL of a set of public keys (JWKS) that a login server publishes: https://, or http:// on this machine. Until it
    /// has answered once, clients get 503. Repeatable.
    #[arg(long, value_name = "URL")]
    pub auth_jwks: Vec<JwksUrl>,
    /// Keys are read again after this time.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub auth_refresh: Duration,
    /// And sooner, where a token names a key that is not here or the last time was in vain; but never within this time.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub auth_refresh_min: Duration,
    /// Only tokens whose `iss` is this count. Repeatable: any of them.
    #[arg(long, value_name = "ISSUER")]
    pub auth_issuer: Vec<String>,
    /// Only tokens whose `aud` is, or holds, this count; without it only those that name no audience. Repeatable: any of them.
    #[arg(long, value_name = "AUDIENCE")]
    pub auth_audience: Vec<String>,
    /// By so much may clocks differ: a token counts so long after its `exp`, and before its `nbf`. Whole seconds.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub auth_leeway: Duration,
    /// Take the token from the cookie of this name, too. Pages of other origins must be kept out then: see --allow-origin.
    #[arg(long, value_name = "NAME")]
    pub auth_cookie: Option<String>,
    /// Take the token from the parameter `access_token`, too: for EventSource, which sends no header. Proxies log URLs.
    #[arg(long)]
    pub auth_query: bool,
}

/// Kinds of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// None is asked for.
    None,
    /// JSON Web Tokens.
    Jwt,
}

/// Why an edge is not ready whose keys have never been here.
pub(crate) const NO_KEYS: &str = "the keys that verify tokens have not come yet";

/// The doorkeeper of all shards.
#[derive(Debug)]
pub(crate) struct Tokens {
    /// None where everybody may come in.
    verifier: Option<Arc<dyn Verifier>>,
    carriers: Carriers,
    /// What whoever comes may do, where no tokens are asked for.
    anybody: Arc<Grant>,
    failures: Arc<Failures>,
    known: Arc<Known>,
}

impl Tokens {
    /// As the flags say, and what keeps their keys up to date. `anybody`: what everybody may, where no tokens are asked for.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 that names the flag at fault.
    pub(crate) fn of(flags: &AuthFlags, anybody: Grant) -> Result<(Self, Option<Keeping>), Exit> {
        let failures = Arc::new(Failures::default());
        let carriers = Carriers::new(flags.auth_cookie.clone(), flags.auth_query);
        let anybody = Arc::new(anybody);
        if flags.auth == Auth::None {
            flags.none_given()?;
            let known = Arc::new(Known::new(true));
            return Ok((Self { verifier: None, carriers, anybody, failures, known }, None));
        }
        let sources = flags.sources()?;
        let jwt = Arc::new(flags.jwt(&sources)?);
        let known = Arc::new(Known::new(sources.are_here()));
        let verifier = failures::Counted::new(Arc::clone(&jwt), Arc::clone(&failures), Arc::clone(&known));
        let keeping = Keeping { sources, jwt, known: Arc::clone(&known) };
        Ok((Self { verifier: Some(Arc::new(verifier)), carriers, anybody, failures, known }, Some(keeping)))
    }

    /// What is known of the keys.
    pub(crate) fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known)
    }

    /// What reads tokens that come in band.
    pub(crate) fn verifier(&self) -> Option<Arc<dyn Verifier>> {
        self.verifier.clone()
    }

    pub(crate) fn failures(&self) -> Arc<Failures> {
        Arc::clone(&self.failures)
    }

    /// Parts a query from the token that it may carry.
    pub(crate) fn part<'q>(&self, query: &'q str) -> (Cow<'q, str>, Option<String>) {
        self.carriers.part(query)
    }

    /// What a request may do; `None` if it carries no token, and one is asked for.
    ///
    /// # Errors
    /// Why its token does not count.
    pub(crate) fn grant(
        &self,
        headers: &HeaderMap,
        in_query: Option<&str>,
    ) -> Result<Option<Arc<Grant>>, Unverified> {
        let Some(verifier) = &self.verifier else { return Ok(Some(Arc::clone(&self.anybody))) };
        match self.carriers.token(headers, in_query) {
            Some(token) => Ok(Some(Arc::new(verifier.verify(&token)?))),
            None => Ok(None),
        }
    }

    /// The same of a request that is nothing without a token.
    ///
    /// # Errors
    /// That there is none, or why it does not count.
    pub(crate) fn need(&self, headers: &HeaderMap, in_query: Option<&str>) -> Result<Arc<Grant>, Unverified> {
        self.grant(headers, in_query)?.ok_or_else(|| self.missing())
    }

    /// Counts that a token is missing.
    pub(crate) fn missing(&self) -> Unverified {
        self.failures.missing();
        let reason = format!("a token is needed: {}", self.carriers);
        Unverified { code: ErrorCode::Unauthorized, reason }
    }
}

/// What is to be done for keys while the edge runs.
#[derive(Debug)]
pub(crate) struct Keeping {
    sources: Sources,
    jwt: Arc<Jwt>,
    known: Arc<Known>,
}

impl Keeping {
    /// Never ends. No shard waits for it.
    pub(crate) async fn run(self) {
        self.sources.keep(self.jwt, self.known).await;
    }
}

impl AuthFlags {
    fn none_given(&self) -> Result<(), Exit> {
        let given = [
            ("--auth-key-file", !self.auth_key_file.is_empty()),
            ("--auth-key", self.auth_key.is_some()),
            ("--auth-jwks", !self.auth_jwks.is_empty()),
            ("--auth-issuer", !self.auth_issuer.is_empty()),
            ("--auth-audience", !self.auth_audience.is_empty()),
            ("--auth-cookie", self.auth_cookie.is_some()),
            ("--auth-query", self.auth_query),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => {
                Err(Exit::usage(format!("{flag} needs --auth jwt: without it nobody is asked for a token")))
            }
            None => Ok(()),
        }
    }

    fn sources(&self) -> Result<Sources, Exit> {
        let given = match &self.auth_key {
            Some(key) => {
                Keys::read(key.as_bytes()).map_err(|error| Exit::usage(format!("--auth-key: {error}")))?
            }
            None => Keys::default(),
        };
        if given.is_empty() && self.auth_key_file.is_empty() && self.auth_jwks.is_empty() {
            return Err(Exit::usage(
                "--auth jwt needs --auth-key-file FILE, --auth-jwks URL or TRESTLE_AUTH_KEY",
            ));
        }
        let urls = self.auth_jwks.iter().map(Fetcher::new).collect::<Result<_, _>>()?;
        let pace = Pace { every: self.auth_refresh, at_most_every: self.auth_refresh_min };
        Sources::open(given, &self.auth_key_file, urls, pace)
    }

    fn jwt(&self, sources: &Sources) -> Result<Jwt, Exit> {
        if self.auth_leeway.subsec_nanos() != 0 {
            return Err(Exit::usage("--auth-leeway: write whole seconds, for example 5s"));
        }
        let keys = sources.keys().map_err(|error| Exit::usage(format!("--auth-key-file: {error}")))?;
        let (issuers, audiences) = (self.auth_issuer.clone(), self.auth_audience.clone());
        Ok(Jwt::new(keys, Rules { issuers, audiences, leeway: self.auth_leeway }))
    }
}
