//! Server-sent events, as a browser's `EventSource` and `curl` read them.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use crate::client::Client;
use crate::fixture::{Feed, Forwarder, TestEdge};
use crate::http::{Answer, Request, connect, read_more};

/// One event, as a browser takes it apart (HTML Living Standard §9.2.6).
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Event {
    name: String,
    id: Option<String>,
    data: Option<String>,
}

impl Event {
    fn json(&self) -> Value {
        serde_json::from_str(self.data.as_ref().expect("data")).unwrap()
    }
}

/// An open stream.
pub(crate) struct Stream {
    stream: TcpStream,
    head: Answer,
    chunks: Vec<u8>,
    text: String,
    events: VecDeque<Event>,
}

impl Stream {
    pub(crate) fn open(address: SocketAddr, request: &Request) -> Self {
        let mut stream = connect(address);
        stream.write_all(&request.bytes()).unwrap();
        let mut head = Answer::read(&mut stream);
        assert_eq!(head.status, 200, "{}", head.head);
        let chunks = std::mem::take(&mut head.rest);
        Self { stream, head, chunks, text: String::new(), events: VecDeque::new() }
    }

    /// The next event; `None` at the end of the stream.
    fn next(&mut self) -> Option<Event> {
        loop {
            self.unchunk();
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                self.events.push_back(event(block));
                self.text = rest.to_owned();
            }
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if self.chunks.starts_with(b"0\r\n") || !read_more(&mut self.stream, &mut self.chunks) {
                return None;
            }
        }
    }

    /// Takes whole chunks (RFC 9112 §7.1).
    fn unchunk(&mut self) {
        while let Some(at) = self.chunks.windows(2).position(|two| two == b"\r\n") {
            let len = usize::from_str_radix(str::from_utf8(&self.chunks[..at]).unwrap(), 16).unwrap();
            if len == 0 || self.chunks.len() < at + 2 + len + 2 {
                break;
            }
            self.text.push_str(str::from_utf8(&self.chunks[at + 2..at + 2 + len]).unwrap());
            self.chunks.drain(..at + 2 + len + 2);
        }
    }

    /// The next event, which is called `name`; heartbeats before it are skipped.
    pub(crate) fn named(&mut self, name: &str) -> Event {
        loop {
            let event = self.next().expect("an event");
            if event.name == name {
                return event;
            }
            assert!(event.name == "heartbeat" || event.data.is_none(), "no {name}: {event:?}");
        }
    }

    /// The next message's event, and its id.
    pub(crate) fn message(&mut self) -> (Value, Option<String>) {
        let event = self.named("");
        (event.json()["event"].clone(), event.id)
    }
}

fn event(block: &str) -> Event {
    let mut event = Event::default();
    for line in block.lines() {
        let (field, value) = line.split_once(": ").unwrap_or((line, ""));
        match field {
            "event" => event.name = value.to_owned(),
            "id" => event.id = Some(value.to_owned()),
            "data" => {
                let data = event.data.get_or_insert_default();
                *data = if data.is_empty() { value.to_owned() } else { format!("{data}\n{value}") };
            }
            _ => {}
        }
    }
    event
}

#[test]
fn a_stream_resumes_where_it_broke_off() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    let mut stream = Stream::open(edge.address(), &Request::get("/events?topic=jobs/"));
    assert_eq!(stream.head.header("content-type"), Some("text/event-stream"));
    let subscribed = stream.named("reply");
    assert_eq!(subscribed.json()["reply"]["subscribed"]["topics"], json!(["jobs/"]));
    assert_eq!(stream.named("caught_up").json()["caught_up"]["replayed"], 0);
    assert_eq!(edge.metric("connections{protocol=\"sse\"}"), 1);

    feed.send(&["jobs/1", "{\r\n\"a\":\r1,\n\n\"b\":2}"]);
    feed.send(&["other", "x"]);
    feed.send(&["jobs/2", "two"]);
    let (first, id) = stream.message();
    assert_eq!((&first["topic"], &first["data"]), (&json!("jobs/1"), &json!({"a": 1, "b": 2})));
    assert_eq!(id.as_deref(), first["position"].as_str());
    let id = id.expect("it is recorded");
    assert_eq!(stream.message().0["text"], "two");
    drop(stream);
    edge.until_metric("connections{protocol=\"sse\"}", |n| n == 0);

    feed.send(&["jobs/3", "three"]);
    let mut witness = Client::json(&edge, "/ws?topic=jobs/4");
    feed.send(&["jobs/4", "four"]);
    assert_eq!(witness.event()["text"], "four");
    // As a browser comes back, and as a page does that was loaded anew.
    let since = format!("/events?topic=jobs/&since={id}");
    let requests =
        [Request::get("/events?topic=jobs/&since=AAAA").with("Last-Event-ID", &id), Request::get(&since)];
    let mut expected = vec!["two", "three", "four"];
    for request in requests {
        let mut stream = Stream::open(edge.address(), &request);
        let subscribed = stream.named("reply");
        assert_eq!(subscribed.json()["reply"]["subscribed"]["recovered"], true);
        assert_eq!(subscribed.id.as_deref(), Some(&*id));
        for text in &expected {
            assert_eq!(stream.message().0["text"], *text);
        }
        let caught_up = stream.named("caught_up");
        assert_eq!(caught_up.json()["caught_up"]["replayed"], expected.len());
        feed.send(&["jobs/5", "live"]);
        assert_eq!(stream.message().0["text"], "live");
        expected.push("live");
    }
}

#[test]
fn a_quiet_stream_hears_how_far_it_is() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "--ping-interval 1s");
    let mut stream = Stream::open(edge.address(), &Request::get("/events?topic=jobs/"));
    let (reply, _) = (stream.named("reply"), stream.named("caught_up"));
    feed.send(&["other", "x"]);
    // An id and a blank line: a browser remembers it, and dispatches nothing.
    loop {
        let heartbeat = stream.named("");
        assert_eq!(heartbeat.data, None);
        if heartbeat.id != reply.id {
            break;
        }
    }
}

#[test]
fn a_silent_upstream_is_heard_of_and_when_it_speaks_again() {
    let mut forwarder = Forwarder::start("");
    let edge = TestEdge::behind(&forwarder, "");
    // The new forwarder's epoch is told of, too.
    let stale = |stream: &mut Stream| {
        let heartbeat = std::iter::from_fn(|| stream.next()).find(|event| event.name == "heartbeat");
        heartbeat.expect("a heartbeat").json()["heartbeat"]["stale"].clone()
    };
    let mut before = Stream::open(edge.address(), &Request::get("/events"));
    before.named("reply");
    before.named("caught_up");
    forwarder.restart(|| {
        assert_eq!(stale(&mut before), true);
        let mut meanwhile = Stream::open(edge.address(), &Request::get("/events"));
        meanwhile.named("reply");
        meanwhile.named("caught_up");
        assert_eq!(stale(&mut meanwhile), true);
    });
    assert_eq!(stale(&mut before), Value::Null);
}

#[test]
fn a_snapshot_has_no_ids() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    let mut witness = Client::json(&edge, "/ws?topic=");
    for text in ["old", "new"] {
        feed.send(&["jobs/1", text]);
        witness.event();
    }
    let mut stream = Stream::open(edge.address(), &Request::get("/events?topic=jobs/&snapshot=true"));
    stream.named("reply");
    let (event, id) = stream.message();
    assert_eq!((&event["text"], &event["snapshot"], id), (&json!("new"), &json!(true), None));
    stream.named("caught_up");
}

#[test]
fn a_stream_takes_what_its_reader_takes() {
    // Far more than the kernel and hyper hold: the rest waits in the log, not in a queue.
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    let mut witness = Client::json(&edge, "/ws?topic=last");
    let mut stream = Stream::open(edge.address(), &Request::get("/events?topic=jobs/"));
    stream.named("reply");
    stream.named("caught_up");
    let body = "x".repeat(10_000);
    for number in 0..300 {
        feed.send(&["jobs/1", &format!("{number} {body}")]);
    }
    feed.send(&["last", "x"]);
    witness.event();
    for number in 0..300 {
        let (event, _) = stream.message();
        assert!(
            event["text"].as_str().is_some_and(|text| text.starts_with(&format!("{number} "))),
            "{number}"
        );
    }
}

#[test]
fn a_stream_has_a_rate_and_a_policy() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "--shards 1 --outbox-bytes-max 256KiB");
    let mut witness = Client::json(&edge, "/ws?topic=");
    // One message of a topic in 1,000 s: the first of each.
    let mut seldom =
        Stream::open(edge.address(), &Request::get("/events?topic=jobs/&topic=last&max_hz=0.001"));
    let mut latest =
        Stream::open(edge.address(), &Request::get("/events?topic=jobs/&topic=last&policy=conflate"));
    for stream in [&mut seldom, &mut latest] {
        assert_eq!(stream.named("reply").json()["reply"]["subscribed"]["topics"], json!(["jobs/", "last"]));
        stream.named("caught_up");
    }
    // Far more than the kernel and hyper hold, and than the bound: of what waits for its reader the newest stays.
    const MESSAGES: usize = 2_000;
    let body = "x".repeat(10_000);
    for n in 0..MESSAGES {
        feed.send(&["jobs/1", &format!("{n} {body}")]);
        witness.event();
    }
    feed.send(&["last", "x"]);
    let number = |event: &Value| -> Option<usize> {
        event["topic"].as_str().filter(|topic| *topic == "jobs/1")?;
        event["text"].as_str()?.split_once(' ')?.0.parse().ok()
    };
    let numbers_until_last =
        |stream: &mut Stream| -> Vec<usize> { std::iter::from_fn(|| number(&stream.message().0)).collect() };
    assert_eq!(numbers_until_last(&mut seldom), [0]);
    let numbers = numbers_until_last(&mut latest);
    assert!(numbers.is_sorted() && numbers.len() < MESSAGES, "{} events", numbers.len());
    assert_eq!(numbers.last(), Some(&(MESSAGES - 1)));
}

#[test]
fn what_is_wrong_with_a_request_is_named() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    for (target, named) in
        [("/events?topics=a", "`topics`"), ("/events?since=!", "`since`"), ("/events?max_hz=x", "`max_hz`")]
    {
        let answer = Request::get(target).to(edge.address());
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains(named), "{}", answer.text());
    }
}

#[test]
fn an_edge_that_is_not_ready_says_so() {
    // Its forwarder is not there.
    let edge = TestEdge::start("--link tcp://127.0.0.1:1");
    assert_eq!(Request::get("/events").to(edge.address()).status, 503);
}

#[test]
fn the_end_of_an_edge_is_the_end_of_its_streams() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "--drain-timeout 1s");
    let mut stream = Stream::open(edge.address(), &Request::get("/events?topic=jobs/"));
    stream.named("reply");
    stream.named("caught_up");
    let reading = std::thread::spawn(move || {
        let goodbye = stream.named("goodbye");
        (goodbye.json()["goodbye"]["reason"].clone(), stream.next())
    });
    edge.shutdown();
    assert_eq!(reading.join().unwrap(), (json!("restarting"), None));
}
