//! Who may call a process's private gRPC services, and what it presents where it calls others.

mod guard;

use std::net::SocketAddr;
use std::path::PathBuf;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::Server;
use tonic::{Request, Status};

pub use guard::Guard;

use crate::exit::Exit;
use crate::link_token::LinkToken;
use crate::private_http::is_loopback;

/// The flags of every process with private gRPC; flatten them into its own. clap makes a group of this name: no other
/// flags of a process may have it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AccessFlags {
    /// The file of the token that the processes of an installation share, read at start: gRPC callers must present it, in
    /// front of every method but health, and so must who reads /metrics from another machine; an edge presents it to its
    /// --recorder. Private ports beyond loopback need it.
    #[arg(long, value_name = "FILE")]
    pub link_token_file: Option<PathBuf>,
}

impl AccessFlags {
    /// What the files hold.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 that names the flag and the file.
    pub fn open(&self) -> Result<Access, Exit> {
        let token = self.link_token_file.as_deref().map(|path| LinkToken::read("--link-token-file", path));
        Ok(Access { token: token.transpose()? })
    }
}

/// What this process asks of callers, and presents to those it calls.
#[derive(Debug, Clone, Default)]
pub struct Access {
    token: Option<LinkToken>,
}

impl Access {
    /// Whether everybody who reaches the port is served.
    pub fn is_open(&self) -> bool {
        self.token.is_none()
    }

    /// The token, also for `/metrics`.
    pub fn token(&self) -> Option<&LinkToken> {
        self.token.as_ref()
    }

    /// Refuses to listen beyond loopback for whoever comes.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 that names `flag` and what would help.
    pub fn check(&self, flag: &str, address: SocketAddr) -> Result<(), Exit> {
        if is_loopback(address.ip()) || !self.is_open() {
            return Ok(());
        }
        Err(Exit::usage(format!(
            "{flag} {address} is reached from other machines, where whoever calls would be served: give \
             --link-token-file FILE, or listen on 127.0.0.1"
        )))
    }

    /// A server that callers reach as they must.
    pub fn server(&self) -> Server {
        Server::builder()
    }

    /// For the services of that server.
    pub fn guard(&self) -> Guard {
        Guard::new(self.token.clone())
    }

    /// For a client whose server has a [`Guard`]; without a token calls go as they are.
    pub fn presenter(&self) -> Presenter {
        Presenter(self.token.as_ref().map(|token| {
            let mut header = MetadataValue::try_from(token.header()).expect("a token is visible ASCII");
            header.set_sensitive(true);
            header
        }))
    }
}

/// Presents the link token with each call.
#[derive(Clone)]
pub struct Presenter(Option<MetadataValue<Ascii>>);

impl Interceptor for Presenter {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link_token::tests::{SECRET, read};

    #[test]
    fn what_is_presented_passes() {
        let access = Access { token: Some(read(SECRET.as_bytes()).unwrap()) };
        let request = access.presenter().call(Request::new(())).unwrap();
        assert!(access.guard().call(request).is_ok());
        let request = Access::default().presenter().call(Request::new(())).unwrap();
        assert_eq!(access.guard().call(request).unwrap_err().code(), tonic::Code::Unauthenticated);
    }

    #[test]
    fn a_port_beyond_loopback_is_not_open_to_all() {
        let check = |access: &Access, address: &str| access.check("--grpc", address.parse().unwrap());
        let guarded = Access { token: Some(read(SECRET.as_bytes()).unwrap()) };
        for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            check(&Access::default(), address).unwrap();
        }
        for address in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "[2001:db8::1]:1"] {
            let refused = check(&Access::default(), address).unwrap_err();
            assert_eq!(refused.code, crate::exit::USAGE);
            assert!(refused.reason.starts_with(&format!("--grpc {address} ")), "{refused}");
            assert!(refused.reason.contains("--link-token-file"), "{refused}");
            check(&guarded, address).unwrap();
        }
    }
}
