//! Whatever a client may do wrong, one row each: what answers it, what counts it, the line that names its address, and a
//! neighbour on the same shard who gets everything all the same. `docs/protocol.md` has the same rows.

mod rows;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use trestle_hub::ws::Opcode;
use trestle_messages::v1::ServerMessage;
use trestle_messages::v1::server_message::reply::Outcome;
use trestle_messages::v1::server_message::{ErrorCode, Message, Reply};

use crate::client::{Client, Said};
use crate::fixture::{DEADLINE, Feed, until};
use crate::http::{self, Request};
use crate::program::Program;
use rows::{Answer, Input, ROWS, Row, Where, table};

/// Where the clients of the rows come from: an address that nobody else has.
const ADDRESS: &str = "127.0.0.9";

#[test]
fn each_is_answered_counted_logged_and_disturbs_nobody() {
    let feed = Feed::bound();
    let source = format!("--source={}", feed.endpoint);
    let bounds = ["--subscriptions-max=8", "--message-bytes-max=4KiB", "--head-bytes-max=8KiB"];
    let publish = ["--allow-publish=chat/", "--publish-to=tcp://127.0.0.1:1"];
    let flags = [&[&source[..], "--shards=1", "--log=info,trestle_edge=debug"][..], &bounds, &publish];
    let mut edge = Program::start(&flags.concat());
    feed.wait_for("+");
    let mut neighbour = edge.client("/ws");
    neighbour.subscribe(&[""]);
    for (n, row) in ROWS.iter().enumerate() {
        check(row, &mut edge);
        feed.send(&["tick", &n.to_string()]);
        let event = neighbour.event();
        assert_eq!(
            (&event["topic"], &event["text"]),
            (&json!("tick"), &json!(n.to_string())),
            "{}",
            row.what
        );
    }
}

#[test]
fn the_page_has_these_rows() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md");
    let page = std::fs::read_to_string(path).unwrap();
    let table = table();
    assert!(page.contains(&table), "docs/protocol.md is to hold these rows:\n{table}");
}

/// Does what the row says and looks at all that follows from it.
fn check(row: &Row, edge: &mut Program) {
    let before = Refusals::of(edge);
    let stays = commit(row, edge.address);
    let sample = row.counted();
    let after = until(row.what, || {
        let after = Refusals::of(edge);
        (after.of_sample(&sample) >= before.of_sample(&sample) + row.times()).then_some(after)
    });
    assert_eq!(after.of_sample(&sample), before.of_sample(&sample) + row.times(), "{}: {sample}", row.what);
    assert_eq!(after.total, before.total + row.times(), "{}: and nothing else", row.what);
    for _ in 0..row.times() {
        let line = edge.says("refused address=");
        assert!(line.contains("DEBUG") && line.contains(&format!("address={ADDRESS} ")), "{line}");
        assert!(line.contains(&row.logged()), "{}: {} is not in {line}", row.what, row.logged());
        assert!(line.contains(" why="), "{line}");
    }
    // The next row finds a quiet edge.
    drop(stays);
    if row.by.is_websocket() {
        let ends_by = match row.answer {
            Answer::Close(code) => code,
            _ => 1006,
        };
        let sample = format!("sessions_closed_total{{code=\"{ends_by}\"}}");
        let n = before.of_sample(&sample) + 1;
        until("the end of the session", || (Refusals::of(edge).of_sample(&sample) == n).then_some(()));
    }
}

/// Sends what the row has to whom it concerns and compares the answer. Returns the connection if it goes on.
fn commit(row: &Row, address: SocketAddr) -> Option<Client> {
    let mut stream = connect(address);
    match row.by {
        Where::Http => {
            let Input::Request(request) = (row.input)() else { panic!("{}: a request is wanted", row.what) };
            stream.write_all(&request).unwrap();
            let answer = http::Answer::read(&mut stream);
            assert_eq!(Answer::Status(answer.status), row.answer, "{}: {}", row.what, answer.head);
            None
        }
        by => {
            let (target, offer) = by.handshake();
            let request =
                Request::websocket(target, offer).with("Sec-WebSocket-Extensions", "permessage-deflate");
            let mut client = Client::upgrade(stream, &request.bytes());
            greet(by, &mut client);
            let Input::Frames(frames) = (row.input)() else { panic!("{}: frames are wanted", row.what) };
            client.send_bytes(&frames.concat());
            if row.answer == Answer::Silence {
                return Some(client);
            }
            let mut replies = 0;
            loop {
                match (client.message(), row.answer) {
                    (Said::Close(code, _), Answer::Close(expected)) => {
                        assert_eq!(code, Some(expected), "{}", row.what);
                        return None;
                    }
                    (said @ (Said::Text(_) | Said::Binary(_)), answer) => {
                        let Some(code) = error_in(by, &said) else { continue };
                        replies += 1;
                        match answer {
                            Answer::Reply(expected) => {
                                assert_eq!(code, expected, "{}: {said:?}", row.what);
                                return Some(client);
                            }
                            // What comes before the last straw is answered.
                            _ => assert!(replies <= row.times(), "{}: {said:?}", row.what),
                        }
                    }
                    (said, _) => panic!("{}: {said:?}", row.what),
                }
            }
        }
    }
}

/// What both sides say before anything else.
fn greet(by: Where, client: &mut Client) {
    if by != Where::Raw {
        assert!(matches!(client.message(), Said::Text(_) | Said::Binary(_)), "a greeting comes first");
    }
    if matches!(by, Where::Zws | Where::Pub) {
        client.send(Opcode::Binary, b"\0");
    }
}

/// The code of a reply that is an error; `None` for what else the server says.
fn error_in(by: Where, said: &Said) -> Option<String> {
    match said {
        Said::Text(text) => {
            let message: Value = serde_json::from_str(text).unwrap();
            Some(message["reply"]["error"]["code"].as_str()?.to_owned())
        }
        // ZWS has no errors.
        Said::Binary(bytes) if by == Where::Proto => {
            let message = ServerMessage::decode(Bytes::copy_from_slice(bytes)).unwrap().message?;
            let Message::Reply(Reply { outcome: Some(Outcome::Error(error)), .. }) = message else {
                return None;
            };
            let name = ErrorCode::try_from(error.code).unwrap().as_str_name();
            Some(name.trim_start_matches("ERROR_CODE_").to_lowercase())
        }
        _ => None,
    }
}

/// A connection from [`ADDRESS`].
fn connect(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(ADDRESS.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// What the edge has counted of refusals and of sessions that ended.
struct Refusals {
    samples: Vec<(String, u64)>,
    /// Of all refusals.
    total: u64,
}

impl Refusals {
    fn of(edge: &Program) -> Self {
        let page = Request::get("/metrics").with("Connection", "close").to(edge.metrics);
        let samples = page.text().lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("trestle_edge_")?.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        let samples: Vec<(String, u64)> = samples.collect();
        let is_refusal = |name: &str| {
            name.starts_with("commands_refused_total{") || name.starts_with("handshake_refusals_total{")
        };
        let total = samples.iter().filter(|(name, _)| is_refusal(name)).map(|(_, n)| n).sum();
        Self { samples, total }
    }

    fn of_sample(&self, sample: &str) -> u64 {
        let found = self.samples.iter().find(|(name, _)| name == sample);
        found.unwrap_or_else(|| panic!("{sample} is no metric")).1
    }
}
