//! CURVE on ØMQ sockets (ZeroMQ RFC 26): who a process is, whom it talks to, and who may talk to it.
//!
//! A socket that connects knows its server's public key (`ENDPOINT,curve=KEY`, [`ServerKey`]); one that binds has a secret
//! key ([`Identity`]) and, where an allow-list says who may connect, a [`Gate`] that asks it. What is refused is counted in
//! [`Refused`].

mod allow;
pub mod certificate;
mod gate;
mod key;
mod refused;

use std::fmt;
use std::path::{Path, PathBuf};

use zmq::Socket;

pub use gate::{Gate, check_allow};
pub use key::{KEY_BYTES, KeyError, PublicKey, SecretKey};
pub use refused::{Cause, Refused};

use crate::exit::Exit;
use crate::zmq::raw;

/// What CURVE adds to a frame: the name of its command, a nonce, the authenticator and the flags; bytes.
const FRAME_OVERHEAD_BYTES: i64 = 33;
/// `ZMQ_ZAP_ENFORCE_DOMAIN`, which the `zmq` crate does not know.
const ZAP_ENFORCE_DOMAIN: i32 = 93;

const SECRET_FLAG: &str = "--curve-secret-key";

/// The flag of every process that speaks ØMQ; flatten it into its own. clap makes a group of this name: no other flags of
/// a process may have it.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct CurveFlags {
    /// The file with this process's CURVE secret key, of `trestle keys` or CZMQ or pyzmq; nobody else may read it. With it
    /// ØMQ ports that listen are encrypted, and known by its public key; where this process connects to ENDPOINT,curve=KEY
    /// it is what an allow-list there asks for. Without it such connections have a key that ends with the process.
    #[arg(long, value_name = "FILE")]
    pub curve_secret_key: Option<PathBuf>,
}

impl CurveFlags {
    /// Of a process that only connects: to one of `servers` at least the key must be of use.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 that names the flag and the file.
    pub fn client<'a>(
        &self,
        servers: impl IntoIterator<Item = Option<&'a ServerKey>>,
    ) -> Result<Identity, Exit> {
        if self.curve_secret_key.is_some() && servers.into_iter().flatten().next().is_none() {
            return Err(Exit::usage(format!(
                "{SECRET_FLAG}: no endpoint has a server's public key, so all would be plain: write \
                 ENDPOINT,curve=KEY or ENDPOINT,curve-file=FILE"
            )));
        }
        self.open()
    }

    /// Of a process that listens, too.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 that names the flag and the file.
    pub fn open(&self) -> Result<Identity, Exit> {
        Identity::open(self.curve_secret_key.as_deref())
    }
}

/// The public key of a server to connect to, as typed behind its endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerKey {
    /// `,curve=KEY`.
    Key(PublicKey),
    /// `,curve-file=FILE`: a certificate, or a file of one key.
    File(PathBuf),
}

impl ServerKey {
    /// Parts `ENDPOINT[,curve=KEY|,curve-file=FILE]`.
    ///
    /// # Errors
    /// If what follows is no key, or no file is named.
    pub fn split(text: &str) -> Result<(&str, Option<Self>), KeyError> {
        if let Some((endpoint, key)) = text.rsplit_once(",curve=") {
            return Ok((endpoint, Some(Self::Key(key.parse()?))));
        }
        match text.rsplit_once(",curve-file=") {
            Some((_, "")) => Err(KeyError),
            Some((endpoint, path)) => Ok((endpoint, Some(Self::File(path.into())))),
            None => Ok((text, None)),
        }
    }

    fn read(&self, flag: &str) -> Result<PublicKey, Exit> {
        match self {
            Self::Key(key) => Ok(*key),
            Self::File(path) => certificate::read_public(flag, path),
        }
    }
}

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "curve={key}"),
            Self::File(path) => write!(f, "curve-file={}", path.display()),
        }
    }
}

/// Who this process is, to those who ask by CURVE.
#[derive(Debug, Clone)]
pub struct Identity {
    secret: SecretKey,
    public: PublicKey,
}

impl Identity {
    /// Of a file; without one a key that nobody knows and that ends with the process.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 that names the flag and the file.
    pub fn open(path: Option<&Path>) -> Result<Self, Exit> {
        let broken = |error| Exit::os(format!("{SECRET_FLAG}: libzmq makes no CURVE key: {error}"));
        let secret = match path {
            Some(path) => certificate::read_secret(SECRET_FLAG, path)?,
            None => SecretKey::generate().map_err(broken)?,
        };
        let public = secret.public().map_err(broken)?;
        Ok(Self { secret, public })
    }

    /// What others know this process by.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// `socket` will only talk to the holder of `server`'s secret key, if there is one. Before it connects; `flag` is named
    /// in errors.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 for a file without a key.
    pub fn dial(&self, socket: &Socket, flag: &str, server: Option<&ServerKey>) -> Result<(), Exit> {
        let Some(server) = server else { return Ok(()) };
        let key = server.read(flag)?;
        let set = || {
            socket.set_curve_serverkey(key.bytes())?;
            socket.set_curve_publickey(self.public.bytes())?;
            socket.set_curve_secretkey(self.secret.bytes())?;
            leave_room(socket)
        };
        set().map_err(|error| Exit::os(format!("{flag}: libzmq takes no CURVE key: {error}")))
    }

    /// `socket` will only talk to who knows this process's public key and, with a `gate`, is let in there. Before it binds.
    /// `port` is how logs and metrics call it.
    ///
    /// # Errors
    /// What libzmq answers.
    pub fn listen(&self, socket: &mut Socket, port: &str, gate: Option<&Gate>) -> zmq::Result<()> {
        socket.set_curve_server(true)?;
        socket.set_curve_secretkey(self.secret.bytes())?;
        if gate.is_some() {
            socket.set_zap_domain(port)?;
            // Where nobody answers at the gate nobody is let in; libzmq would let in everybody.
            raw::set_int(socket, ZAP_ENFORCE_DOMAIN, 1)?;
        }
        leave_room(socket)
    }
}

/// A frame at its bound stays one.
fn leave_room(socket: &Socket) -> zmq::Result<()> {
    match socket.get_maxmsgsize()? {
        unbounded if unbounded < 0 => Ok(()),
        bytes_max => socket.set_maxmsgsize(bytes_max.saturating_add(FRAME_OVERHEAD_BYTES)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";

    #[test]
    fn a_server_key_stands_behind_its_endpoint() {
        let key = ServerKey::Key(PUBLIC.parse().unwrap());
        assert_eq!(ServerKey::split("tcp://a:1"), Ok(("tcp://a:1", None)));
        assert_eq!(ServerKey::split(&format!("tcp://a:1,{key}")), Ok(("tcp://a:1", Some(key))));
        let file = ServerKey::File("/run/a=b.key".into());
        assert_eq!(ServerKey::split("tcp://a:1,curve-file=/run/a=b.key"), Ok(("tcp://a:1", Some(file))));
        for wrong in ["tcp://a:1,curve=", "tcp://a:1,curve=short", "tcp://a:1,curve-file="] {
            assert_eq!(ServerKey::split(wrong), Err(KeyError), "{wrong}");
        }
    }

    #[test]
    fn a_secret_key_that_would_be_of_no_use_is_refused() {
        let flags = CurveFlags { curve_secret_key: Some("/none".into()) };
        let plain = flags.client([None]).unwrap_err();
        assert!(plain.reason.contains("would be plain"), "{plain}");
        let missing = flags.client([Some(&ServerKey::Key(PUBLIC.parse().unwrap()))]).unwrap_err();
        assert!(missing.reason.starts_with("--curve-secret-key /none: "), "{missing}");
        CurveFlags::default().client([None]).unwrap();
    }
}
