//! Who a request is from: the token that it carries, and what that grants.

mod carrier;
mod failures;

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

/// Who is asked for a token, and what makes one count.
#[derive(Debug, Clone, Args)]
pub struct AuthFlags {
    /// Whether clients need a token: none, or jwt, a JSON Web Token. With none everybody reads everything.
    #[arg(long, value_name = "KIND", value_enum, default_value_t = Auth::None)]
    pub auth: Auth,
    /// With --auth jwt: a file with what verifies tokens, a public key in PEM (RS256, ES256, EdDSA), a JWK or a set of them, or
    /// a secret of at least 32 bytes (HS256, HS384, HS512). Repeatable.
    #[arg(long, value_name = "FILE")]
    pub auth_key_file: Vec<PathBuf>,
    /// The same as its text, best as the variable TRESTLE_AUTH_KEY: what is on a command line others on the machine see.
    #[arg(long, value_name = "KEY", hide_env_values = true)]
    pub auth_key: Option<String>,
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

/// The doorkeeper of all shards.
#[derive(Debug)]
pub(crate) struct Tokens {
    /// None where everybody may come in.
    verifier: Option<Arc<dyn Verifier>>,
    carriers: Carriers,
    /// What whoever comes may do, where no tokens are asked for.
    anybody: Arc<Grant>,
    failures: Arc<Failures>,
}

impl Tokens {
    /// As the flags say. `publish`: what everybody may, where no tokens are asked for.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 that names the flag at fault.
    pub(crate) fn of(flags: &AuthFlags, anybody: Grant) -> Result<Self, Exit> {
        let failures = Arc::new(Failures::default());
        let verifier: Option<Arc<dyn Verifier>> = match flags.auth {
            Auth::None => flags.none_given()?,
            Auth::Jwt => Some(Arc::new(failures::Counted::new(flags.jwt()?, Arc::clone(&failures)))),
        };
        let carriers = Carriers::new(flags.auth_cookie.clone(), flags.auth_query);
        Ok(Self { verifier, carriers, anybody: Arc::new(anybody), failures })
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

impl AuthFlags {
    fn none_given(&self) -> Result<Option<Arc<dyn Verifier>>, Exit> {
        let given = [
            ("--auth-key-file", !self.auth_key_file.is_empty()),
            ("--auth-key", self.auth_key.is_some()),
            ("--auth-issuer", !self.auth_issuer.is_empty()),
            ("--auth-audience", !self.auth_audience.is_empty()),
            ("--auth-cookie", self.auth_cookie.is_some()),
            ("--auth-query", self.auth_query),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => {
                Err(Exit::usage(format!("{flag} needs --auth jwt: without it nobody is asked for a token")))
            }
            None => Ok(None),
        }
    }

    fn jwt(&self) -> Result<Jwt, Exit> {
        let mut keys = Keys::default();
        for path in &self.auth_key_file {
            let bytes = std::fs::read(path)
                .map_err(|error| Exit::usage(format!("--auth-key-file {}: {error}", path.display())))?;
            let read = Keys::read(&bytes).and_then(|read| std::mem::take(&mut keys).and(read));
            keys =
                read.map_err(|error| Exit::usage(format!("--auth-key-file {}: {error}", path.display())))?;
        }
        if let Some(key) = &self.auth_key {
            let read = Keys::read(key.as_bytes()).and_then(|read| keys.and(read));
            keys = read.map_err(|error| Exit::usage(format!("--auth-key: {error}")))?;
        }
        if keys.is_empty() {
            return Err(Exit::usage("--auth jwt needs --auth-key-file FILE, or TRESTLE_AUTH_KEY"));
        }
        if self.auth_leeway.subsec_nanos() != 0 {
            return Err(Exit::usage("--auth-leeway: write whole seconds, for example 5s"));
        }
        let (issuers, audiences) = (self.auth_issuer.clone(), self.auth_audience.clone());
        Ok(Jwt::new(keys, Rules { issuers, audiences, leeway: self.auth_leeway }))
    }
}
