//! A publisher that speaks CURVE, to a server and as one.

use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use trestle_process::curve::certificate::Pair;
use trestle_process::curve::{CurveFlags, Identity, ServerKey};
use trestle_publisher::{Attach, Config, Payloads, Running, Task, Tool};

/// Whatever a test waits for comes within this.
const DEADLINE: Duration = Duration::from_secs(60);

/// A pair of keys in `folder`: the public one, and who has the secret one.
fn keys(folder: &Path, name: &str) -> (ServerKey, CurveFlags) {
    let pair = Pair {
        public: folder.join(format!("{name}.key")),
        secret: folder.join(format!("{name}.key_secret")),
    };
    let public = pair.make(name).expect("the folder is ours");
    (ServerKey::Key(public), CurveFlags { curve_secret_key: Some(pair.secret) })
}

fn identity(flags: &CurveFlags) -> Identity {
    flags.open().expect("the file is there")
}

fn publish(attach: Attach, curve: CurveFlags) -> Running {
    let tool = Tool {
        topic: b"a".to_vec(),
        payloads: Payloads::Generated(1),
        raw: true,
        rate: None,
        count: NonZeroU64::new(1),
        wait: DEADLINE,
    };
    trestle_publisher::start(Config { attach, task: Task::Tool(tool), curve }).expect("it starts")
}

fn subscriber(context: &zmq::Context) -> zmq::Socket {
    let socket = context.socket(zmq::SUB).expect("there are files enough");
    socket.set_rcvtimeo(60_000).expect("it is a time");
    socket.set_subscribe(b"a").expect("it is a SUB");
    socket
}

#[test]
fn it_connects_to_a_server_whose_key_it_knows() {
    let (folder, context) = (tempfile::tempdir().expect("a folder"), zmq::Context::new());
    let (server, server_flags) = keys(folder.path(), "server");
    let (_, own) = keys(folder.path(), "publisher");
    let mut socket = subscriber(&context);
    identity(&server_flags).listen(&mut socket, "server", None).expect("libzmq has CURVE");
    socket.bind("tcp://127.0.0.1:*").expect("a port is free");
    let endpoint = socket.get_last_endpoint().expect("it is bound").expect("it is text");

    let running = publish(Attach::Connect(vec![format!("{endpoint},{server}")]), own.clone());
    assert_eq!(running.endpoints(), [&*endpoint], "without the key");
    assert_eq!(socket.recv_multipart(0).expect("it comes"), [&b"a"[..], b"1"]);
    running.wait().expect("it has sent all");

    // A key where all would be plain is a mistake.
    let config = Config { curve: own, ..Config::demo(&endpoint) };
    let refused = trestle_publisher::start(config).expect_err("it is refused").to_string();
    assert!(refused.contains("--curve-secret-key") && refused.contains("plain"), "{refused}");
}

#[test]
fn a_listener_with_a_key_is_a_server() {
    let (folder, context) = (tempfile::tempdir().expect("a folder"), zmq::Context::new());
    let (public, own) = keys(folder.path(), "publisher");
    let running = publish(Attach::Bind("127.0.0.1:0".parse().expect("an address")), own);
    let socket = subscriber(&context);
    let anybody = identity(&CurveFlags::default());
    anybody.dial(&socket, "--connect", Some(&public)).expect("it is a key");
    socket.connect(&running.endpoints()[0]).expect("it is an endpoint");
    assert_eq!(socket.recv_multipart(0).expect("it comes"), [&b"a"[..], b"1"]);
    running.wait().expect("it has sent all");
}
