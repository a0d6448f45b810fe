//! permessage-deflate between the edge and its clients (RFC 7692).

use serde_json::json;
use trestle_hub::ws::{DeflateWindow, Deflater, Opcode, client_frame};

use crate::client::{Client, JSON, RAW, Said};
use crate::fixture::{Feed, TestEdge};
use crate::http::Request;

const OFFER: &str = "permessage-deflate; client_max_window_bits";

fn request(target: &str, protocol: &str, offer: &str) -> Request {
    Request::websocket(target, protocol).with("Sec-WebSocket-Extensions", offer)
}

/// `payload` as a client sends it compressed.
fn compressed(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let frame = Deflater::new().frame(opcode, payload, DeflateWindow::Full).expect("it repeats itself");
    let header_bytes = if frame[1] < 126 { 2 } else { 4 };
    claimed_compressed(opcode, &frame[header_bytes..])
}

/// A frame that claims to be compressed.
fn claimed_compressed(opcode: Opcode, data: &[u8]) -> Vec<u8> {
    let mut frame = client_frame(opcode, true, [1, 2, 3, 4], data);
    frame[0] |= 0x40;
    frame
}

#[test]
fn what_is_offered_is_answered() {
    const ALWAYS: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let edge = TestEdge::start("--source tcp://127.0.0.1:1");
    for (offer, answer) in [
        (OFFER, ALWAYS.to_owned()),
        ("permessage-deflate; server_max_window_bits=12", format!("{ALWAYS}; server_max_window_bits=9")),
        ("permessage-deflate; server_max_window_bits=15", format!("{ALWAYS}; server_max_window_bits=15")),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", ALWAYS.to_owned()),
    ] {
        for protocol in [RAW, JSON] {
            let said = request("/ws", protocol, offer).to(edge.address());
            assert_eq!(said.header("sec-websocket-extensions"), Some(&*answer), "{offer}");
        }
    }
    for offer in ["permessage-deflate; server_max_window_bits=8", "permessage-deflate; mystery", "bzip2"] {
        let said = request("/ws", JSON, offer).to(edge.address());
        assert_eq!((said.status, said.header("sec-websocket-extensions")), (101, None), "{offer}");
    }
}

/// Compressed for those that agreed to it, each window of its own; as they are for the others.
#[test]
fn a_broadcast_reaches_each_client_as_it_agreed() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "--shards 1");
    let mut clients = Vec::new();
    for offer in [OFFER, "permessage-deflate; server_max_window_bits=10", "none"] {
        for _ in 0..4 {
            clients.push(Client::open(&edge, &request("/?topic=a", RAW, offer)));
            clients.push(Client::open(&edge, &request("/ws?topic=a", JSON, offer)).welcomed());
        }
    }
    let long = json!({"words": vec!["over and over again"; 40]}).to_string();
    let mut random = 1_u32;
    let noise: [u8; 600] = std::array::from_fn(|_| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 24) as u8
    });
    feed.send(&[&b"a"[..], long.as_bytes()]);
    feed.send(&[&b"a"[..], b"short"]);
    feed.send(&[&b"a"[..], &noise]);
    for (nth, client) in clients.iter_mut().enumerate() {
        let is_raw = nth % 2 == 0;
        if is_raw {
            let said = [(); 3].map(|()| client.next());
            assert_eq!(said, [Said::text(&long), Said::text("short"), Said::Binary(noise.to_vec())]);
        } else {
            let [first, second, third] = [(); 3].map(|()| client.event());
            assert_eq!((first["data"].to_string(), &second["text"]), (long.clone(), &json!("short")));
            assert!(third["base64"].is_string(), "{third}");
        }
        // What would not get smaller goes as it is; of Base64 a little may be found twice.
        let expected = if nth >= 16 { 0..=0 } else { 1..=if is_raw { 1 } else { 2 } };
        assert!(expected.contains(&client.n_compressed), "client {nth}: {}", client.n_compressed);
    }
}

#[test]
fn commands_may_come_compressed() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    let mut client = Client::open(&edge, &request("/ws", JSON, OFFER)).welcomed();
    let command = json!({"id": 7, "subscribe": {"topics": ["jobs/", "jobs/", "jobs/"]}}).to_string();
    client.send_bytes(&compressed(Opcode::Text, command.as_bytes()));
    assert_eq!(client.named("reply")["id"], 7);
    client.named("caught_up");
    feed.send(&["jobs/1", "x"]);
    assert_eq!(client.event()["topic"], "jobs/1");
    // A client may always send a message as it is.
    assert_eq!(client.command(&json!({"id": 8, "unsubscribe": {"topics": ["jobs/"]}}))["id"], 8);
}

#[test]
fn what_does_not_inflate_within_the_bound_ends_the_connection() {
    let edge = TestEdge::start("--source tcp://127.0.0.1:1");
    let bomb = compressed(Opcode::Text, &vec![b' '; 4 << 20]);
    assert!(bomb.len() < 64 << 10, "{} bytes would be too many as they come", bomb.len());
    for (frame, code) in [
        (bomb.clone(), 1009),
        (claimed_compressed(Opcode::Text, &[0xff; 16]), 1007),
        (compressed(Opcode::Text, &[0xff; 64]), 1007),
    ] {
        let mut client = Client::open(&edge, &request("/ws", JSON, OFFER)).welcomed();
        client.send_bytes(&frame);
        let Said::Close(Some(said), _) = client.next() else { panic!("no close with {code}") };
        assert_eq!(said, code);
        client.send_bytes(&client_frame(Opcode::Close, true, [1; 4], &code.to_be_bytes()));
        assert_eq!(client.next(), Said::End);
    }
    let mut client = Client::open(&edge, &request("/ws", JSON, OFFER)).welcomed();
    client.send_bytes(&claimed_compressed(Opcode::Ping, b""));
    assert!(matches!(client.next(), Said::Close(Some(1002), _)));
    // Nothing was agreed on with this one.
    let mut client = Client::json(&edge, "/ws");
    client.send_bytes(&compressed(Opcode::Text, &[b' '; 64]));
    assert!(matches!(client.next(), Said::Close(Some(1002), _)));
    // The shard's inflater is as good as new for the next.
    let mut client = Client::open(&edge, &request("/ws", JSON, OFFER)).welcomed();
    let command =
        json!({"id": 1, "subscribe": {"topics": ["a", "a", "a", "a", "a", "a", "a", "a"]}}).to_string();
    client.send_bytes(&bomb);
    client.send_bytes(&compressed(Opcode::Text, command.as_bytes()));
    assert!(matches!(client.next(), Said::Close(Some(1009), _)));
    let mut client = Client::open(&edge, &request("/ws", JSON, OFFER)).welcomed();
    client.send_bytes(&compressed(Opcode::Text, command.as_bytes()));
    assert_eq!(client.named("reply")["id"], 1);
}
