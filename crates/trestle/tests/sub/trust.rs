//! TLS, with the certificate of the compose cluster.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use crate::fake::{Client, Fake};
use crate::program::Sub;

/// What `scripts/cert` makes.
struct Certificate(TempDir);

impl Certificate {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/cert");
        let made = Command::new(script).arg(folder.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join("tls").join(name).to_str().unwrap().to_owned()
    }

    fn config(&self) -> Arc<ServerConfig> {
        let open = |name| File::open(Path::new(&self.path(name))).unwrap();
        let chain = CertificateDer::pem_reader_iter(open("cert.pem")).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_reader(open("key.pem")).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
    }
}

#[test]
fn a_certificate_is_trusted_where_it_is_named_or_nothing_is_asked() {
    let certificate = Certificate::new();
    let config = certificate.config();
    for flags in [format!("--cacert {}", certificate.path("cert.pem")), "--insecure".to_owned()] {
        let fake = Fake::start();
        let sub = Sub::start(&format!("wss://localhost:{} {flags}", fake.address().port()));
        let tls = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), fake.tcp());
        let (mut edge, request) = Client::accept(tls);
        assert_eq!(request.uri().path(), "/ws");
        edge.serve(1, 10);
        edge.event("a", 11);
        assert_eq!(sub.line(), r#"a {"n":11}"#, "{flags}");
    }
}

#[test]
fn what_is_not_trusted_says_why() {
    let (certificate, other) = (Certificate::new(), Certificate::new());
    for (host, flags, why) in [
        ("localhost", format!("--cacert {}", other.path("cert.pem")), "--insecure trusts any"),
        ("127.0.0.2", format!("--cacert {}", certificate.path("cert.pem")), "not valid for name"),
    ] {
        let fake = Fake::at("0.0.0.0:0".parse().unwrap());
        let port = fake.address().port();
        let sub = Sub::start(&format!("wss://{host}:{port} --wait {flags}"));
        let mut tls = StreamOwned::new(ServerConnection::new(certificate.config()).unwrap(), fake.tcp());
        assert!(std::io::Read::read(&mut tls, &mut [0]).is_err());
        let (code, out, err) = sub.end();
        assert_eq!((code, out), (69, vec![]));
        let said = format!("error: the certificate of {host}:{port} is not trusted: ");
        assert!(err[0].starts_with(&said) && err[0].contains(why), "{err:?}");
    }
}

#[test]
fn a_server_without_tls_is_said() {
    let fake = Fake::start();
    let port = fake.address().port();
    let sub = Sub::start(&format!("https://localhost:{port} --insecure"));
    std::io::Write::write_all(&mut fake.tcp(), b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    let (code, _, err) = sub.end();
    assert_eq!(code, 69);
    assert_eq!(
        err,
        [format!("error: localhost:{port} does not speak TLS; write ws:// if it is to be without")]
    );
}
