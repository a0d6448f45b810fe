//! `/pub`: PUB and XPUB sockets over WebSockets (ZeroMQ RFC 45), from their handshake to a SUB of ØMQ.

use std::io::{Read as _, Write as _};

use trestle_hub::ws::Opcode;

use crate::client::{Client, Said};
use crate::fixture::{Feed, Forwarder, TestEdge, until};
use crate::http::{Request, connect};

const ALLOW: &str = "--allow-publish chat/ --allow-publish x";
const READY: &[u8] = b"\x02\x05READY\x0bSocket-Type\0\0\0\x03PUB";

/// A socket that knows what it may send.
fn publisher(edge: &TestEdge, protocol: &str) -> Client {
    let (ours, theirs): (&[u8], &[u8]) = match protocol {
        "ZWS2.0" => (b"\0", b"\0"),
        _ => (READY, b"\x02\x05READY\x0bSocket-Type\0\0\0\x04XSUB"),
    };
    let mut client = Client::open(edge, &Request::websocket("/pub", protocol));
    client.send(Opcode::Binary, ours);
    for expected in [theirs, b"\0\x01chat/", b"\0\x01x"] {
        assert_eq!(client.message(), Said::Binary(expected.to_vec()));
    }
    client
}

fn send(client: &mut Client, frames: &[&[u8]]) {
    for (nth, frame) in frames.iter().enumerate() {
        let more = u8::from(nth + 1 < frames.len());
        client.send(Opcode::Binary, &[&[more], *frame].concat());
    }
}

/// What publishing comes to depends on the forwarder's being reached.
fn until_published(edge: &TestEdge, client: &mut Client) {
    until("a forwarder", || {
        send(client, &[b"chat/first", b"?"]);
        (edge.metric("publications_total{outcome=\"published\"}") > 0).then_some(())
    });
}

#[test]
fn a_sub_gets_what_a_pub_sends_frame_by_frame() {
    let forwarder = Forwarder::start("");
    let edge = TestEdge::behind(&forwarder, ALLOW);
    for protocol in ["ZWS2.0", "ZWS2.0/NULL"] {
        let mut client = publisher(&edge, protocol);
        until_published(&edge, &mut client);
        let subscriber = forwarder.subscriber(b"x");
        let messages: [&[&[u8]]; 4] = [
            &[b"x", b"hi"],
            &[b"x/2", b"", b"\0\xff", b"end"],
            &[b"x all in one frame"],
            &[b"x", &[7; 9_000]],
        ];
        messages.iter().for_each(|message| send(&mut client, message));
        for message in messages {
            assert_eq!(subscriber.next(), message, "{protocol}");
        }
    }
}

#[test]
fn what_may_not_be_said_is_counted_and_disturbs_nobody() {
    let forwarder = Forwarder::start("");
    let edge = TestEdge::behind(&forwarder, ALLOW);
    let mut good = publisher(&edge, "ZWS2.0");
    until_published(&edge, &mut good);
    let subscriber = forwarder.subscriber(b"");
    let (too_long, too_many) = (vec![b'x'; 256], vec![&b"x"[..]; 66]);
    let cases = [
        (&[&b"jobs/1"[..], b"no"][..], None, "forbidden"),
        (&[b"\0trestle", b"no"], None, "invalid_topic"),
        (&[&too_long, b"no"], None, "invalid_topic"),
        (&too_many, Some(1009), "too_large"),
    ];
    for (message, closed, code) in cases {
        let counted = format!("commands_refused_total{{code=\"{code}\"}}");
        let before = edge.metric(&counted);
        let mut client = publisher(&edge, "ZWS2.0/NULL");
        send(&mut client, message);
        edge.until_metric(&counted, |n| n == before + 1);
        match closed {
            Some(code) => assert!(matches!(client.message(), Said::Close(Some(said), _) if said == code)),
            None => client.send(Opcode::Close, &1000_u16.to_be_bytes()),
        }
    }
    let mut writer = publisher(&edge, "ZWS2.0");
    writer.send(Opcode::Text, b"{}");
    assert!(matches!(writer.message(), Said::Close(Some(1003), _)));
    // Half of a message goes nowhere.
    let mut half = publisher(&edge, "ZWS2.0");
    half.send(Opcode::Binary, b"\x01x");
    half.hang_up();
    send(&mut good, &[b"x", b"still"]);
    until("the good one's, behind what it tried first", || {
        let frames = subscriber.next();
        assert!(frames[0] == b"x" || frames[0] == b"chat/first", "{frames:?}");
        (frames == [&b"x"[..], b"still"]).then_some(())
    });
}

#[test]
fn where_nothing_may_be_published_the_handshake_says_so() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    let refused = |request: &Request, status: u16, named: &str| {
        let answer = request.to(edge.address());
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(named), "{}", answer.text());
    };
    refused(&Request::websocket("/pub", "ZWS2.0"), 403, "publishing is not allowed here");
    refused(&Request::websocket("/pub", "trestle.v1.json"), 400, "ZWS2.0/NULL, ZWS2.0");
    refused(&Request::websocket("/pub?topic=x", "ZWS2.0"), 400, "a publisher has none");
    assert_eq!(edge.metric("handshake_refusals_total{cause=\"publishing\"}"), 1);
}

#[test]
fn while_the_forwarder_is_away_nothing_waits_for_it() {
    let (mut forwarder, flags) = Forwarder::absent("");
    let edge = TestEdge::start(&format!("{flags} {ALLOW}"));
    forwarder.appear();
    edge.wait_ready();
    let mut client = publisher(&edge, "ZWS2.0");
    until_published(&edge, &mut client);
    let published = || edge.metric("publications_total{outcome=\"published\"}");
    let mut before = 0;
    forwarder.restart(|| {
        until("its end to be noticed", || {
            send(&mut client, &[b"x", b"lost"]);
            (edge.metric("publications_total{outcome=\"unavailable\"}") > 0).then_some(())
        });
        before = published();
    });
    until("the same socket to be heard again", || {
        send(&mut client, &[b"x", b"again"]);
        (published() > before).then_some(())
    });
}

/// libzmq takes any answer but a 101 for the last word; where there is none it comes again.
#[test]
fn whoever_gives_up_when_refused_for_now_is_not_answered() {
    let (_forwarder, flags) = Forwarder::absent("");
    let edge = TestEdge::start(&format!("{flags} {ALLOW}"));
    for target in ["/ws", "/pub"] {
        let mut stream = connect(edge.address());
        stream.write_all(&Request::websocket(target, "ZWS2.0/NULL,ZWS2.0").bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), "");
        assert_eq!(Request::websocket(target, "ZWS2.0").to(edge.address()).status, 503, "jszmq asks again");
    }
    // For good is for good.
    let answer = Request::websocket("/pub?topic=x", "ZWS2.0/NULL").to(edge.address());
    assert_eq!(answer.status, 400, "{}", answer.text());
}
