//! CURVE on the ØMQ ports: who is let in, who is not, and that the list of keys may change.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use trestle_process::curve::certificate::Pair;
use trestle_process::curve::{CurveFlags, Identity, ServerKey};
use trestle_process::zmq::{self as safe, Bounds};

use crate::fixture::{DEADLINE, Publisher, Subscriber, TestForwarder, frames, socket};

/// Whoever is let in has its subscription here within this.
const QUIET: Duration = Duration::from_millis(500);
/// A refused peer comes again when its handshake has lasted ten seconds.
const COMES_AGAIN: Duration = Duration::from_secs(60);

/// Keys of a forwarder and of its peers, in a folder.
struct Keys {
    folder: tempfile::TempDir,
    forwarder: ServerKey,
    allowed: PathBuf,
}

impl Keys {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let allowed = folder.path().join("allowed");
        fs::write(&allowed, "").unwrap();
        let forwarder = ServerKey::Key(make(&folder, "forwarder").make("forwarder").unwrap());
        Self { folder, forwarder, allowed }
    }

    /// A new key, and who has it.
    fn peer(&self, name: &str) -> (Identity, String) {
        let pair = make(&self.folder, name);
        let public = pair.make(name).unwrap().to_string();
        let flags = CurveFlags { curve_secret_key: Some(pair.secret) };
        (flags.open().unwrap(), public)
    }

    fn allow(&self, keys: &[&str]) {
        fs::write(&self.allowed, keys.join("\n")).unwrap();
    }

    fn start(&self, args: &[&str]) -> TestForwarder {
        let secret = make(&self.folder, "forwarder").secret;
        let flags = ["--no-record", "--curve-secret-key", secret.to_str().unwrap()];
        TestForwarder::start(&[&flags, args].concat())
    }

    fn start_with_list(&self) -> TestForwarder {
        self.start(&["--curve-allow", self.allowed.to_str().unwrap()])
    }
}

fn make(folder: &tempfile::TempDir, name: &str) -> Pair {
    let path = |suffix: &str| folder.path().join(format!("{name}{suffix}"));
    Pair { public: path(".key"), secret: path(".key_secret") }
}

/// A socket of a Trestle process that asks `server` to be let in as `identity`.
fn dial(
    forwarder: &TestForwarder,
    kind: zmq::SocketType,
    endpoint: &str,
    who: &Identity,
    server: &ServerKey,
) -> zmq::Socket {
    let socket = safe::socket(&forwarder.context, kind, Bounds::default()).unwrap();
    socket.set_rcvtimeo(i32::try_from(DEADLINE.as_millis()).unwrap()).unwrap();
    who.dial(&socket, "--connect", Some(server)).unwrap();
    socket.connect(endpoint).unwrap();
    socket
}

fn subscriber(forwarder: &TestForwarder, who: &Identity, server: &ServerKey) -> Subscriber {
    let socket = dial(forwarder, zmq::SUB, &forwarder.running.backend, who, server);
    socket.set_subscribe(b"a").unwrap();
    Subscriber(socket)
}

fn publisher(forwarder: &TestForwarder, who: &Identity, server: &ServerKey) -> Publisher {
    Publisher(dial(forwarder, zmq::XPUB, &forwarder.running.frontend, who, server))
}

/// A plain peer is refused for what it says, or goes when it reads that CURVE is spoken here, whichever comes first.
fn plain_is_refused(forwarder: &TestForwarder, port: &str) {
    let deadline = Instant::now() + DEADLINE;
    let count = |cause| {
        let line = format!("trestle_forwarder_curve_refused_total{{port=\"{port}\",cause=\"{cause}\"}}");
        forwarder.metric(&line, |_| true)
    };
    while count("not_curve") + count("hung_up") == 0 {
        assert!(Instant::now() < deadline, "nobody is refused at {port}");
    }
}

fn refused(forwarder: &TestForwarder, port: &str, cause: &str) -> u64 {
    let line = format!("trestle_forwarder_curve_refused_total{{port=\"{port}\",cause=\"{cause}\"}}");
    forwarder.metric(&line, |n| n > 0)
}

/// Sends until it has come, since a subscription takes its time; then everything comes.
fn reaches(publisher: &Publisher, subscriber: &Subscriber) {
    subscriber.0.set_rcvtimeo(100).unwrap();
    let deadline = Instant::now() + DEADLINE;
    while subscriber.0.recv_multipart(0).is_err() {
        assert!(Instant::now() < deadline, "nothing comes");
        publisher.send(&[b"a", b"?"]);
    }
}

#[test]
fn who_has_the_key_publishes_and_subscribes_on_every_port() {
    let keys = Keys::make();
    let ((one, key), (other, other_key)) = (keys.peer("publisher"), keys.peer("edge"));
    keys.allow(&[&key, &other_key]);
    let forwarder = keys.start_with_list();
    let publisher = publisher(&forwarder, &one, &keys.forwarder);
    let plain_frames = subscriber(&forwarder, &other, &keys.forwarder);
    let link = Subscriber(dial(&forwarder, zmq::SUB, &forwarder.running.link, &other, &keys.forwarder));
    link.0.set_subscribe(b"a").unwrap();
    publisher.wait_asked(b"a");
    reaches(&publisher, &plain_frames);
    reaches(&publisher, &link);
    assert_eq!(forwarder.metric("trestle_forwarder_curve_allowed_keys", |n| n > 0), 2);
}

#[test]
fn a_key_that_is_not_in_the_list_is_refused_until_it_is() {
    let keys = Keys::make();
    let ((one, key), (other, other_key)) = (keys.peer("edge"), keys.peer("stranger"));
    keys.allow(&[&key]);
    let forwarder = keys.start_with_list();
    let subscriber = subscriber(&forwarder, &one, &keys.forwarder);
    forwarder.metric("trestle_forwarder_subscriptions{port=\"backend\"}", |n| n == 1);
    let stranger = publisher(&forwarder, &other, &keys.forwarder);
    refused(&forwarder, "frontend", "key_not_allowed");
    stranger.0.set_rcvtimeo(i32::try_from(QUIET.as_millis()).unwrap()).unwrap();
    assert_eq!(stranger.0.recv_bytes(0), Err(zmq::Error::EAGAIN), "it is asked for nothing");

    stranger.0.set_rcvtimeo(i32::try_from(COMES_AGAIN.as_millis()).unwrap()).unwrap();
    keys.allow(&[&key, &other_key]);
    stranger.wait_asked(b"a");
    reaches(&stranger, &subscriber);
    forwarder.metric("trestle_forwarder_curve_allowed_keys", |n| n == 2);
}

#[test]
fn a_key_that_was_taken_off_the_list_does_not_come_back() {
    let keys = Keys::make();
    let ((one, key), (other, other_key)) = (keys.peer("publisher"), keys.peer("edge"));
    keys.allow(&[&key, &other_key]);
    let forwarder = keys.start_with_list();
    let publisher = publisher(&forwarder, &one, &keys.forwarder);
    reaches(&publisher, &subscriber(&forwarder, &other, &keys.forwarder));
    keys.allow(&[&key]);
    forwarder.metric("trestle_forwarder_curve_allowed_keys", |n| n == 1);
    let again = subscriber(&forwarder, &other, &keys.forwarder);
    refused(&forwarder, "backend", "key_not_allowed");
    drop(again);
}

#[test]
fn who_takes_the_forwarder_for_another_and_who_speaks_plain_are_refused() {
    let keys = Keys::make();
    let (one, key) = keys.peer("publisher");
    let (_, impostor) = keys.peer("impostor");
    keys.allow(&[&key]);
    let forwarder = keys.start_with_list();
    let wrong = ServerKey::Key(impostor.parse().unwrap());
    let _misled = subscriber(&forwarder, &one, &wrong);
    let _misled = publisher(&forwarder, &one, &wrong);
    let plain = forwarder.subscriber(&[b"a"]);
    let plain_publisher = forwarder.publisher();
    for port in ["backend", "frontend"] {
        refused(&forwarder, port, "wrong_server_key");
        plain_is_refused(&forwarder, port);
    }
    // Whoever is let in is served all the while, and alone.
    let (publisher, friend) =
        (publisher(&forwarder, &one, &keys.forwarder), subscriber(&forwarder, &one, &keys.forwarder));
    publisher.wait_asked(b"a");
    reaches(&publisher, &friend);
    plain.0.set_rcvtimeo(i32::try_from(QUIET.as_millis()).unwrap()).unwrap();
    assert_eq!(plain.0.recv_bytes(0), Err(zmq::Error::EAGAIN));
    plain_publisher.0.set_rcvtimeo(0).unwrap();
    assert_eq!(plain_publisher.0.recv_bytes(0), Err(zmq::Error::EAGAIN), "it is asked for nothing");
}

#[test]
fn without_a_list_the_forwarders_key_is_enough() {
    let keys = Keys::make();
    let forwarder = keys.start(&[]);
    let anybody = CurveFlags::default().open().unwrap();
    let publisher = publisher(&forwarder, &anybody, &keys.forwarder);
    let subscriber = subscriber(&forwarder, &anybody, &keys.forwarder);
    publisher.wait_asked(b"a");
    reaches(&publisher, &subscriber);
    let _plain = forwarder.subscriber(&[b"a"]);
    plain_is_refused(&forwarder, "backend");
}

/// CURVE adds bytes to each frame: one at the bound must not cut its sender.
#[test]
fn a_frame_at_its_bound_passes() {
    let keys = Keys::make();
    let forwarder = keys.start(&["--frame-bytes-max", "1KiB"]);
    let anybody = CurveFlags::default().open().unwrap();
    let publisher = publisher(&forwarder, &anybody, &keys.forwarder);
    let subscriber = subscriber(&forwarder, &anybody, &keys.forwarder);
    publisher.wait_asked(b"a");
    publisher.send(&[b"a", &[7; 1024]]);
    assert_eq!(subscriber.next(), frames(&[b"a", &[7; 1024]]));
    publisher.send(&[b"a", &[7; 1025]]);
    forwarder.metric("trestle_forwarder_disconnects_total{port=\"frontend\"}", |n| n == 1);
}

#[test]
fn a_source_must_have_its_key() {
    let (keys, context) = (Keys::make(), zmq::Context::new());
    let server = make(&keys.folder, "source");
    let key = server.make("source").unwrap();
    let mut socket = socket(&context, zmq::XPUB);
    let identity = CurveFlags { curve_secret_key: Some(server.secret) }.open().unwrap();
    identity.listen(&mut socket, "source", None).unwrap();
    socket.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = socket.get_last_endpoint().unwrap().unwrap();
    let source = Publisher(socket);

    let file = server.public.to_str().unwrap();
    let forwarder =
        TestForwarder::start(&["--no-record", "--source", &format!("{endpoint},curve-file={file}")]);
    let subscriber = forwarder.subscriber(&[b"a"]);
    source.wait_asked(b"a");
    reaches(&source, &subscriber);
    drop(forwarder);

    let (_, other) = keys.peer("other");
    assert_ne!(other, key.to_string());
    let forwarder = TestForwarder::start(&["--no-record", "--source", &format!("{endpoint},curve={other}")]);
    let failed = format!("trestle_forwarder_handshakes_failed_total{{port=\"{endpoint}\"}}");
    forwarder.metric(&failed, |n| n > 0);
}
