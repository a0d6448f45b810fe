//! A WebSocket server that does to each delivery what a test says.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use trestle_bench::marker::WARM_UP;
use trestle_bench::target::ACCEPT;

/// One browser, as the server sees it.
pub(crate) struct Client {
    /// In the order of their numbers: the `i` of the path.
    pub(crate) nth: usize,
    stream: TcpStream,
    /// Kept for later by whoever wants to.
    pub(crate) held: Vec<u8>,
}

impl Client {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // It may have gone.
        let _ = self.stream.write_all(bytes);
    }

    pub(crate) fn close(&mut self, code: u16) {
        self.send(&[&[0x88, 2][..], &code.to_be_bytes()].concat());
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// A message on its way to one client.
pub(crate) struct Message<'a> {
    pub(crate) seq: u32,
    /// The number at the end of its topic, if it has one.
    pub(crate) topic: Option<usize>,
    /// As a server's text frame.
    pub(crate) frame: &'a [u8],
}

/// Where to publish (lines) and where browsers connect.
pub(crate) struct Server {
    pub(crate) lines: SocketAddr,
    pub(crate) web: SocketAddr,
}

impl Server {
    /// Delivers each message by calling `deliver` for each client; warm-up messages go to everybody untouched.
    pub(crate) fn start(deliver: impl FnMut(&mut Client, &Message<'_>) + Send + 'static) -> Self {
        let (lines, web) = (listen(), listen());
        let addresses = Self { lines: lines.local_addr().unwrap(), web: web.local_addr().unwrap() };
        let clients = Arc::new(Mutex::new(Vec::new()));
        let joining = Arc::clone(&clients);
        thread::spawn(move || web.incoming().for_each(|stream| join(stream.unwrap(), &joining)));
        thread::spawn(move || take_lines(&lines, &clients, deliver));
        addresses
    }

    /// Flags that aim at it.
    pub(crate) fn flags(&self) -> String {
        format!(
            "--url ws://{}/{{i}} --format raw --publish line://{} --settle 0.01 --give-up 0.3",
            self.web, self.lines
        )
    }
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Shakes hands; the path is the client's number.
fn join(mut stream: TcpStream, clients: &Mutex<Vec<Client>>) {
    stream.set_nodelay(true).unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut bytes = [0; 1024];
        let length = stream.read(&mut bytes).unwrap();
        assert!(length > 0, "a client that leaves in its handshake");
        request.extend_from_slice(&bytes[..length]);
    }
    let request = String::from_utf8(request).unwrap();
    let nth = request.strip_prefix("GET /").unwrap().split(' ').next().unwrap().parse().unwrap();
    let answer = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n");
    // In pieces, as a network may.
    for piece in answer.as_bytes().chunks(50) {
        stream.write_all(piece).unwrap();
    }
    clients.lock().unwrap().push(Client { nth, stream, held: Vec::new() });
}

fn take_lines(
    lines: &TcpListener,
    clients: &Mutex<Vec<Client>>,
    mut deliver: impl FnMut(&mut Client, &Message<'_>),
) {
    let (stream, _) = lines.accept().unwrap();
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let (topic, body) = line.split_once(' ').unwrap();
        // {"t":"@@abcd:12345678…
        let seq: u32 = body[13..21].parse().unwrap();
        let frame = text_frame(body.as_bytes());
        let message =
            Message { seq, topic: topic.rsplit('/').next().and_then(|nth| nth.parse().ok()), frame: &frame };
        for client in clients.lock().unwrap().iter_mut() {
            match message.topic {
                _ if seq < WARM_UP => deliver(client, &message),
                Some(nth) if nth != client.nth => {}
                _ => client.send(&frame),
            }
        }
    }
}

/// RFC 6455 §5.2, as a server sends it.
pub(crate) fn text_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = match payload.len() {
        short @ 0..126 => vec![0x81, u8::try_from(short).unwrap()],
        long @ 126..65_536 => [&[0x81, 126][..], &u16::try_from(long).unwrap().to_be_bytes()].concat(),
        long => [&[0x81, 127][..], &(long as u64).to_be_bytes()].concat(),
    };
    frame.extend_from_slice(payload);
    frame
}
