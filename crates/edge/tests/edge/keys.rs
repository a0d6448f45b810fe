//! Where the keys come from that verify tokens, and how they change while the edge runs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use trestle_auth::{Claims, SigningKey};

use crate::client::{Client, JSON};
use crate::fixture::{Feed, TestEdge, until};
use crate::http::Request;
use crate::program::{NOBODY, Program, program};

const JWKS: &str = include_str!("../../../auth/tests/keys/jwks.json");
const EC: &[u8] = include_bytes!("../../../auth/tests/keys/ec.pem");
const ED: &[u8] = include_bytes!("../../../auth/tests/keys/ed.pem");

/// A set with those of the keys `r`, `e` and `d` whose names are given.
fn set(names: &[&str]) -> String {
    let mut set: Value = serde_json::from_str(JWKS).unwrap();
    set["keys"].as_array_mut().unwrap().retain(|key| names.iter().any(|name| key["kid"] == *name));
    set.to_string()
}

fn token(key: &[u8], kid: &str) -> String {
    let claims = Claims::new("ann", ["jobs/"], [""; 0], 600);
    SigningKey::read(key).unwrap().named(kid).sign(&claims).unwrap()
}

/// A login server that answers whatever a test says.
struct Server {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
}

#[derive(Clone)]
enum Answer {
    Body(String),
    Raw(String),
    /// A head, and then nothing until the client has gone.
    Never,
}

impl Server {
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let server =
            Self { address: listener.local_addr().unwrap(), answer: answer.clone(), asked: asked.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                asked.fetch_add(1, Ordering::SeqCst);
                let answer = answer.lock().unwrap().clone();
                std::thread::spawn(move || answer.to(stream));
            }
        });
        server
    }

    fn says(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn flags(&self, more: &str) -> String {
        format!("--auth jwt --auth-jwks http://{}/jwks.json {more}", self.address)
    }
}

impl Answer {
    fn to(&self, mut stream: impl Read + Write) {
        let mut head = [0; 4096];
        // Whoever does not trust the certificate says nothing.
        let Ok(n @ 1..) = stream.read(&mut head) else { return };
        assert!(head[..n].starts_with(b"GET /jwks.json HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&head));
        let said = match self {
            Self::Body(body) => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
            Self::Raw(answer) => answer.clone(),
            Self::Never => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_owned(),
        };
        // The client goes when it has read enough.
        let _ = stream.write_all(said.as_bytes());
        if matches!(self, Self::Never) {
            let _ = stream.read(&mut head);
        }
    }
}

/// What a token's bearer is answered. Keys come while the edge's own runtime is driven, as by any question to it.
fn status(edge: &TestEdge, token: &str) -> u16 {
    edge.private("/healthz");
    let request =
        Request::websocket("/ws?topic=jobs/", JSON).with("Authorization", &format!("Bearer {token}"));
    let mut stream = crate::http::connect(edge.address());
    stream.write_all(&request.bytes()).unwrap();
    crate::http::Answer::read(&mut stream).status
}

/// An edge that has its server's keys, and a feed for it.
fn edge(server: &Server, flags: &str) -> (TestEdge, Feed) {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, &server.flags(flags));
    edge.wait_ready();
    (edge, feed)
}

fn failed(edge: &TestEdge) -> u64 {
    edge.metric("auth_key_refreshes_total{outcome=\"failed\"}")
}

#[test]
fn a_server_s_keys_are_asked_for_again_when_a_token_names_a_new_one() {
    let server = Server::start(Answer::Body(set(&["e"])));
    // Of themselves they would be asked for once more in an hour.
    let (edge, _feed) = edge(&server, "--auth-refresh 1h --auth-refresh-min 1ms");
    let (old, new) = (token(EC, "e"), token(ED, "d"));
    assert_eq!((status(&edge, &old), status(&edge, &new)), (101, 401));
    assert_eq!(edge.metric("auth_keys"), 1);
    let mut client = {
        let request = Request::websocket("/ws", JSON).with("Authorization", &format!("Bearer {old}"));
        Client::open(&edge, &request).welcomed()
    };
    server.says(Answer::Body(set(&["e", "d"])));
    until("the new key", || (status(&edge, &new) == 101).then_some(()));
    assert_eq!((status(&edge, &old), edge.metric("auth_keys")), (101, 2));
    server.says(Answer::Body(set(&["d"])));
    until("the old key to go", || {
        status(&edge, &token(ED, "of nobody"));
        (status(&edge, &old) == 401).then_some(())
    });
    // Who was let in is in, until the token's end; and takes a token of the new key in band.
    let taken = client.command(&json!({"id": 1, "authenticate": {"token": new}}));
    assert!(taken["authenticated"].is_object(), "{taken}");
    assert_eq!(failed(&edge), 0);
}

#[test]
fn whatever_tokens_name_a_server_is_asked_seldom() {
    let server = Server::start(Answer::Body(set(&["e"])));
    let (edge, _feed) = edge(&server, "--auth-refresh 1h --auth-refresh-min 1h");
    assert_eq!(server.asked(), 1);
    for nth in 0..100 {
        assert_eq!(status(&edge, &token(ED, &format!("k{nth}"))), 401);
    }
    assert_eq!((server.asked(), edge.metric("auth_key_refreshes_total{outcome=\"read\"}")), (1, 1));
    assert_eq!(status(&edge, &token(EC, "e")), 101);
}

#[test]
fn a_server_that_is_away_or_talks_nonsense_leaves_the_keys_that_are_here() {
    let server = Server::start(Answer::Body(set(&["e"])));
    let (edge, _feed) = edge(&server, "--auth-refresh 5ms --auth-refresh-min 1ms");
    let good = token(EC, "e");
    assert_eq!(status(&edge, &good), 101);
    let secret =
        json!({"keys": [{"kty": "oct", "kid": "e", "k": "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldCE"}]});
    let private = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA", "d": "AA"}]});
    let raw = |answer: &str| Answer::Raw(answer.to_owned());
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let elsewhere = other.local_addr().unwrap();
    for answer in [
        Answer::Body("<html>no such page</html>".into()),
        Answer::Body("{\"keys\": []}".into()),
        Answer::Body("{}".into()),
        Answer::Body(secret.to_string()),
        Answer::Body(private.to_string()),
        Answer::Body(format!("{{\"keys\": [], \"x\": \"{}\"}}", "x".repeat(256 << 10))),
        raw("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"),
        raw(&format!(
            "HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/jwks.json\r\nContent-Length: 0\r\n\r\n"
        )),
        raw("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{"),
        raw("SSH-2.0-OpenSSH_9.9\r\n"),
        raw(""),
    ] {
        let before = failed(&edge);
        server.says(answer);
        // One may have been under way.
        edge.until_metric("auth_key_refreshes_total{outcome=\"failed\"}", |n| n >= before + 2);
        assert_eq!((status(&edge, &good), edge.metric("auth_keys")), (101, 1));
    }
    assert!(other.accept().is_err(), "nobody follows it elsewhere");
    let read = edge.metric("auth_key_refreshes_total{outcome=\"read\"}");
    server.says(Answer::Body(set(&["d"])));
    edge.until_metric("auth_key_refreshes_total{outcome=\"read\"}", |n| n >= read + 2);
    assert_eq!((status(&edge, &good), status(&edge, &token(ED, "d"))), (401, 101));
}

/// It would be the first to come in otherwise, and be told for good that its token does not count.
#[test]
fn an_edge_that_has_never_had_its_keys_is_not_ready() {
    let server = Server::start(Answer::Never);
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, &server.flags("--auth-refresh 1h --auth-refresh-min 1ms"));
    let good = token(EC, "e");
    until("it to be asked", || {
        edge.private("/healthz");
        (server.asked() > 0).then_some(())
    });
    for request in [
        Request::websocket("/ws", JSON),
        Request::websocket("/ws?topic=jobs/", JSON).with("Authorization", &format!("Bearer {good}")),
        Request::get("/events?topic=jobs/").with("Authorization", &format!("Bearer {good}")),
        Request::post("/publish?topic=jobs/", b"x").with("Authorization", &format!("Bearer {good}")),
    ] {
        let answer = request.to(edge.address());
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.text().contains("keys"), "{}", answer.text());
    }
    let ready = edge.private("/readyz");
    assert!(ready.status == 503 && ready.text().contains("--auth-jwks"), "{}", ready.text());
    // It is given up after a while, and asked again.
    server.says(Answer::Body(set(&["e"])));
    until("readiness", || (edge.private("/readyz").status == 200).then_some(()));
    assert!(failed(&edge) >= 1);
    assert_eq!(status(&edge, &good), 101);
}

#[test]
fn a_file_of_keys_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let write = |text: &str| {
        let next = folder.path().join("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, &path).unwrap();
    };
    write(&set(&["e"]));
    let feed = Feed::bound();
    let flags =
        format!("--auth jwt --auth-key-file {} --auth-refresh 5ms --auth-refresh-min 1ms", path.display());
    let edge = TestEdge::on(&feed, &flags);
    let (old, new) = (token(EC, "e"), token(ED, "d"));
    assert_eq!((status(&edge, &old), status(&edge, &new)), (101, 401));
    write(&set(&["d"]));
    until("the new key", || (status(&edge, &new) == 101).then_some(()));
    assert_eq!(status(&edge, &old), 401);
    write("{");
    let before = failed(&edge);
    edge.until_metric("auth_key_refreshes_total{outcome=\"failed\"}", |n| n >= before + 2);
    assert_eq!(status(&edge, &new), 101);
    std::fs::remove_file(&path).unwrap();
    let before = failed(&edge);
    edge.until_metric("auth_key_refreshes_total{outcome=\"failed\"}", |n| n >= before + 2);
    assert_eq!(status(&edge, &new), 101);
}

/// A folder with what `scripts/cert` makes for localhost.
fn certificate() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/cert");
    let made = Command::new(script).arg(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    folder
}

/// Serves the set of all keys by TLS; gives its URL.
fn serve_by_tls(folder: &Path) -> String {
    let chain = CertificateDer::pem_file_iter(folder.join("tls/cert.pem")).unwrap().map(Result::unwrap);
    let key = PrivateKeyDer::from_pem_file(folder.join("tls/key.pem")).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = Arc::new(builder.with_single_cert(chain.collect(), key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            Answer::Body(JWKS.to_owned()).to(StreamOwned::new(connection, stream));
        }
    });
    format!("https://localhost:{port}/jwks.json")
}

#[test]
fn keys_by_tls_come_from_whom_the_system_trusts() {
    let (trusted, other) = (certificate(), certificate());
    let url = serve_by_tls(trusted.path());
    let start = |folder: &tempfile::TempDir| {
        let mut command = program();
        command.env("SSL_CERT_FILE", folder.path().join("tls/cert.pem"));
        Program::spawn(command.args([NOBODY, "--auth=jwt", &format!("--auth-jwks={url}")]))
    };
    start(&trusted).says("3 keys that verify tokens are here");
    let said = start(&other).says("--auth-jwks");
    assert!(said.contains("WARN") && said.contains("certificate") && said.contains("503"), "{said}");
}

#[test]
fn an_edge_that_asks_for_no_tokens_says_so_loudly() {
    let mut edge = Program::start(&[NOBODY]);
    let said = edge.says("--auth none");
    let address = edge.address.to_string();
    assert!(said.contains("WARN") && said.contains(&address) && said.contains("every topic"), "{said}");
}
