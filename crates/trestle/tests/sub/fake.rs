//! A server that says what a test makes it say.

use std::io::{Read as _, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Message, WebSocket, accept_hdr};
use trestle_messages::Position;

use crate::program::DEADLINE;

pub(crate) struct Fake(TcpListener);

impl Fake {
    pub(crate) fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap())
    }

    pub(crate) fn at(address: SocketAddr) -> Self {
        Self(TcpListener::bind(address).unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address())
    }

    /// The next connection.
    pub(crate) fn tcp(&self) -> TcpStream {
        self.0.set_nonblocking(true).unwrap();
        let deadline = Instant::now() + DEADLINE;
        let stream = loop {
            match self.0.accept() {
                Ok((stream, _)) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "nobody connects: {error}"),
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// The next WebSocket, and its request's path.
    pub(crate) fn accept_at(&self) -> (Client<TcpStream>, String) {
        let (client, request) = self.accept_asked();
        (client, request.uri().to_string())
    }

    /// The next WebSocket, and its request.
    pub(crate) fn accept_asked(&self) -> (Client<TcpStream>, Request) {
        Client::accept(self.tcp())
    }

    pub(crate) fn accept(&self) -> Client<TcpStream> {
        self.accept_at().0
    }

    /// Answers the next request with `response`, which is no WebSocket.
    pub(crate) fn answer(&self, response: &str) {
        answer(self.tcp(), response);
    }
}

pub(crate) fn answer(mut stream: TcpStream, response: &str) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1);
        request.push(byte[0]);
    }
    stream.write_all(response.as_bytes()).unwrap();
    let _ = stream.shutdown(Shutdown::Write);
}

/// The server's side of a connection.
pub(crate) struct Client<S>(WebSocket<S>);

impl<S: std::io::Read + Write> Client<S> {
    pub(crate) fn accept(stream: S) -> (Self, Request) {
        let mut asked = None;
        #[expect(clippy::result_large_err, reason = "tungstenite's own callback")]
        let socket = accept_hdr(stream, |request: &Request, mut response: Response| {
            asked = Some(request.clone());
            let protocol = HeaderValue::from_static("trestle.v1.json");
            assert_eq!(request.headers()["sec-websocket-protocol"], protocol);
            response.headers_mut().insert("sec-websocket-protocol", protocol);
            Ok(response)
        });
        (Self(socket.map_err(|error| error.to_string()).unwrap()), asked.unwrap())
    }

    pub(crate) fn say(&mut self, message: Value) {
        self.say_text(message.to_string());
    }

    pub(crate) fn say_text(&mut self, text: String) {
        self.0.send(Message::text(text)).unwrap();
    }

    /// The next command, a text.
    pub(crate) fn command(&mut self) -> Value {
        match self.0.read().unwrap() {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn welcome(&mut self) {
        self.welcome_with(json!({ "session": "s", "heartbeat_ms": 25_000 }));
    }

    pub(crate) fn welcome_with(&mut self, welcome: Value) {
        self.say(json!({ "welcome": welcome }));
    }

    /// Welcomes, lets every one of the `n` subscriptions stand at `at`, and gives what it was asked for.
    pub(crate) fn serve(&mut self, n: usize, at: u64) -> Vec<Value> {
        self.welcome();
        (0..n).map(|_| self.grant(at)).collect()
    }

    /// Lets the next subscription stand.
    pub(crate) fn grant(&mut self, at: u64) -> Value {
        let command = self.command();
        let mut subscribed =
            json!({ "topics": command["subscribe"]["topics"], "position": position(at), "recorded": "all" });
        if command["subscribe"]["since"].is_string() {
            subscribed["recovered"] = true.into();
        }
        self.say(json!({ "reply": { "id": command["id"], "subscribed": subscribed } }));
        self.say(json!({ "caught_up": { "id": command["id"], "position": position(at), "replayed": 0 } }));
        command
    }

    pub(crate) fn event(&mut self, topic: &str, at: u64) {
        self.say(event(topic, at));
    }

    /// The same, to a client that may have gone.
    pub(crate) fn event_if_there(&mut self, topic: &str, at: u64) {
        let _ = self.0.send(Message::text(event(topic, at).to_string()));
    }

    /// Closes, and waits until the connection has gone.
    pub(crate) fn close(mut self, code: u16, reason: &'static str) {
        self.0.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).unwrap();
        while self.0.read().is_ok() {}
    }

    /// The close that the client says.
    pub(crate) fn closed(mut self) -> Option<CloseFrame> {
        match self.0.read().unwrap() {
            Message::Close(frame) => {
                while self.0.read().is_ok() {}
                frame
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn position(offset: u64) -> String {
    Position { epoch: 7, offset }.to_string()
}

pub(crate) fn event(topic: &str, at: u64) -> Value {
    json!({ "event": { "topic": topic, "position": position(at), "time_ms": 1, "data": { "n": at } } })
}
