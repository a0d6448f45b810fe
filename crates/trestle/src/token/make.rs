//! `trestle token make`: a token from what the flags say.

use std::path::PathBuf;
use std::time::Duration;

use trestle_auth::{Audience, Claims, SigningKey, TOKEN_BYTES_MAX};
use trestle_process::exit::Exit;

use super::{duration, print, read};

const AFTER_HELP: &str = "\
Standard output has the token alone. Whoever has it is let in: keep it out of logs and histories.

Examples:
  trestle token secret login.secret
  trestle token make --key-file login.secret --sub ann --subscribe jobs/ --subscribe users/{sub}/
  openssl genpkey -algorithm ED25519 -out login.pem && openssl pkey -in login.pem -pubout -out login.pub.pem
  trestle token make --key-file login.pem --sub ann --publish chat/ --expires-in 15m --aud trestle";

/// What the token is to say.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Flags {
    /// What signs it: a secret of at least 32 bytes (HS256), or a private key in PEM (RS256, ES256, EdDSA).
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// Whose it is: 1 to 255 bytes.
    #[arg(long, value_name = "SUBJECT")]
    sub: String,
    /// Topics that begin so may be subscribed to; '' is all of them, {sub} stands for the subject. Repeatable.
    #[arg(long, value_name = "PREFIX")]
    subscribe: Vec<String>,
    /// Topics that begin so may be published to. Repeatable.
    #[arg(long, value_name = "PREFIX")]
    publish: Vec<String>,
    /// It counts so long, from now on.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    expires_in: Duration,
    /// For whom it is: as an edge's --auth-audience says. Repeatable.
    #[arg(long, value_name = "AUDIENCE")]
    aud: Vec<String>,
    /// Who made it: as an edge's --auth-issuer says.
    #[arg(long, value_name = "ISSUER")]
    iss: Option<String>,
    /// So many connections of the subject at once, on each edge.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: Option<u32>,
    /// The name of the key among those of an edge.
    #[arg(long, value_name = "NAME")]
    kid: Option<String>,
}

pub(super) fn run(flags: Flags) -> anyhow::Result<()> {
    let key = SigningKey::read(&read("--key-file", &flags.key_file)?)
        .map_err(|error| Exit::usage(format!("--key-file {}: {error}", flags.key_file.display())))?;
    let key = match &flags.kid {
        Some(kid) => key.named(kid),
        None => key,
    };
    if flags.subscribe.is_empty() && flags.publish.is_empty() {
        eprintln!("It allows nothing: --subscribe PREFIX and --publish PREFIX say what it should.");
    }
    let claims = flags.claims();
    // What no edge would take is not made at all.
    claims
        .grant(Duration::ZERO)
        .map_err(|refused| Exit::usage(format!("no edge would take it: {refused}")))?;
    let token = key.sign(&claims)?;
    if token.len() > TOKEN_BYTES_MAX {
        let n = token.len();
        return Err(
            Exit::usage(format!("the token has {n} bytes, and an edge takes {TOKEN_BYTES_MAX}")).into()
        );
    }
    print(&token)
}

impl Flags {
    fn claims(self) -> Claims {
        let mut claims = Claims::new(&self.sub, self.subscribe, self.publish, self.expires_in.as_secs());
        claims.iss = self.iss;
        claims.aud = match self.aud.len() {
            0 => None,
            1 => self.aud.into_iter().next().map(Audience::One),
            _ => Some(Audience::Several(self.aud)),
        };
        claims.trestle.max_connections = self.max_connections;
        claims
    }
}
