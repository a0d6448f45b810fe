//! How an edge sends everybody elsewhere before it ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trestle_hub::ws::Opcode;
use trestle_messages::v1::control_client::ControlClient;
use trestle_messages::v1::{DrainRequest, DrainResponse};

use crate::client::{Client, JSON, RAW, Said};
use crate::fixture::{DEADLINE, Feed, Forwarder, TestEdge, until};
use crate::http::{Request, connect};
use crate::program::{NOBODY, Program};

/// 1012 as a client would answer it.
const RESTART: &[u8] = b"\x03\xf4";
/// The hub's: closes come within one of their place in the row.
const TICK: Duration = Duration::from_millis(250);

/// What a client saw of a drain.
struct Left {
    /// What goodbye said.
    after: Option<Duration>,
    /// Counted from the signal.
    closed_at: Duration,
    /// Messages published when goodbye came, and the last one received.
    at_goodbye: u64,
    last: u64,
}

/// Reads to the end. Messages are numbers, and none may be missing.
fn leave(mut client: Client, first: u64, sent: &AtomicU64, signalled: Instant) -> Left {
    let mut left = Left { after: None, closed_at: Duration::ZERO, at_goodbye: 0, last: first };
    let hear = |number: &str, left: &mut Left| {
        let number: u64 = number.parse().unwrap();
        assert_eq!(number, left.last + 1, "a message is missing, or came twice");
        left.last = number;
    };
    loop {
        match client.message() {
            Said::Text(text) if text.starts_with('{') => {
                let message: Value = serde_json::from_str(&text).unwrap();
                if let Some(goodbye) = message.get("goodbye") {
                    assert_eq!(goodbye["reason"], "restarting");
                    let after_ms = goodbye["reconnect_after_ms"].as_u64().unwrap();
                    assert_eq!(left.after.replace(Duration::from_millis(after_ms)), None, "told once");
                    left.at_goodbye = sent.load(Ordering::Relaxed);
                } else if let Some(text) = message["event"]["text"].as_str() {
                    hear(text, &mut left);
                }
            }
            Said::Text(number) => hear(&number, &mut left),
            Said::Close(code, _) => {
                assert_eq!(code, Some(1012));
                left.closed_at = signalled.elapsed();
                client.send(Opcode::Close, RESTART);
                assert_eq!(client.next(), Said::End);
                return left;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn three_hundred_leave_one_after_the_other_and_miss_nothing_before() {
    const CLIENTS: usize = 300;
    let feed = Feed::bound();
    let mut program = Program::start(&[&format!("--source={}", feed.endpoint), "--shards=2"]);
    feed.wait_for("+");
    let open = |n: usize| match n % 10 {
        0 => Client::upgrade(connect(program.address), &Request::websocket("/", RAW).bytes()),
        _ => program.client("/ws?topic="),
    };
    let clients: Vec<_> = (0..CLIENTS).map(open).collect();
    let (sent, all_left) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let (sent, all_left) = (&sent, &all_left);
        scope.spawn(move || {
            while !all_left.load(Ordering::Relaxed) {
                let number = sent.fetch_add(1, Ordering::Relaxed) + 1;
                feed.send(&["n".to_owned(), number.to_string()]);
                thread::sleep(Duration::from_millis(2));
            }
        });
        let signalled = Instant::now();
        program.signal("TERM");
        let program = &program;
        let leaving =
            clients.into_iter().map(|client| scope.spawn(move || leave(client, 0, sent, signalled)));
        let leaving: Vec<_> = leaving.collect();

        let ready = until("the end of readiness", || {
            let answer = Request::get("/readyz").with("Connection", "close").to(program.metrics);
            (answer.status == 503).then_some(answer)
        });
        assert_eq!(ready.text(), "draining\n");
        for request in [Request::websocket("/ws", JSON), Request::get("/"), Request::get("/client.js")] {
            let answer = request.to(program.address);
            assert_eq!((answer.status, answer.text()), (503, "this edge is draining\n"));
            let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=4).contains(&after), "{after}");
            assert_eq!(answer.header("connection"), Some("close"));
        }

        let left: Vec<_> = leaving.into_iter().map(|client| client.join().unwrap()).collect();
        all_left.store(true, Ordering::Relaxed);
        let mut told: Vec<_> = left.iter().filter_map(|left| left.after).collect();
        assert_eq!(told.len(), CLIENTS * 9 / 10, "whoever can be told is");
        told.sort_unstable();
        // A hundred a second.
        assert!(
            told[0] < Duration::from_secs(1) && *told.last().unwrap() > Duration::from_secs(2),
            "{told:?}"
        );
        let in_a_second =
            told.iter().map(|from| told.iter().filter(|at| *at >= from && **at < *from + 4 * TICK).count());
        assert!(in_a_second.max() <= Some(110), "{told:?}");
        for left in &left {
            assert!(left.after.is_none_or(|after| left.closed_at + TICK >= after), "closed before its time");
            // Whoever stays for long hears what is published meanwhile.
            let stays = left.after.is_some_and(|after| after > 4 * TICK);
            assert!(!stays || left.last > left.at_goodbye, "nothing came after goodbye");
        }
    });
    let (said, code) = program.end();
    assert_eq!(code, Some(0), "{said:?}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut program = Program::start(&[NOBODY]);
    // Never answers the close, for which it would have five seconds.
    let mut client = program.client("/ws");
    program.signal("TERM");
    client.named("goodbye");
    let start = Instant::now();
    program.signal("TERM");
    assert_eq!(program.end().1, Some(130));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

fn drain(program: &Program) -> DrainResponse {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut control = ControlClient::connect(format!("http://{}", program.control)).await.unwrap();
        control.drain(DrainRequest { period_ms: Some(20_000) }).await.unwrap().into_inner()
    })
}

#[test]
fn an_operator_may_drain_it() {
    let mut program = Program::start(&[NOBODY]);
    let mut clients = [(); 3].map(|()| program.client("/ws?topic=a"));
    let start = Instant::now();
    let answer = drain(&program);
    assert!(answer.connections == 3 && answer.closes_over_ms <= 30, "{answer:?}");
    for client in &mut clients {
        assert_eq!(client.named("goodbye")["reason"], "draining");
        assert_eq!(client.message(), Said::Close(Some(1012), "service restart".to_owned()));
        client.send(Opcode::Close, RESTART);
    }
    let (said, code) = program.end();
    assert_eq!(code, Some(0), "{said:?}");
    assert!(said.iter().any(|line| line.contains("Control.Drain")), "{said:?}");
    assert!(
        start.elapsed() < DEADLINE / 2,
        "few clients do not take the whole period: {:?}",
        start.elapsed()
    );
}

/// Reads numbers and checks that none is missing or comes twice; to the close, or to `until`.
fn follow(client: &mut Client, last: &mut u64, position: &mut String, until: u64) {
    while *last < until {
        match client.message() {
            Said::Text(text) => {
                let message: Value = serde_json::from_str(&text).unwrap();
                if let Some(event) = message.get("event") {
                    let number: u64 = event["text"].as_str().unwrap().parse().unwrap();
                    assert_eq!(number, *last + 1, "a message is missing, or came twice");
                    *last = number;
                    event["position"].as_str().unwrap().clone_into(position);
                }
                if let Some(reply) = message.get("reply") {
                    assert_ne!(reply["subscribed"]["recovered"], false, "{reply}");
                }
            }
            Said::Close(code, _) => {
                assert_eq!(code, Some(1012));
                client.send(Opcode::Close, RESTART);
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn whoever_resumes_on_another_edge_misses_nothing() {
    const CLIENTS: u64 = 60;
    let forwarder = Forwarder::start("");
    let (here, there) = (TestEdge::behind(&forwarder, ""), TestEdge::behind(&forwarder, ""));
    let feed = Feed::connected(&forwarder);
    feed.wait_for("+");
    let clients: Vec<_> = (0..CLIENTS).map(|_| Client::json(&here, "/ws?topic=n")).collect();
    feed.send(&["n", "1"]);
    here.until_metric("deliveries_total", |n| n == CLIENTS);
    let (sent, all_left, other) = (AtomicU64::new(1), AtomicBool::new(false), there.address());
    thread::scope(|scope| {
        let (sent, all_left) = (&sent, &all_left);
        let publishing = scope.spawn(move || {
            while !all_left.load(Ordering::Relaxed) {
                let number = sent.fetch_add(1, Ordering::Relaxed) + 1;
                feed.send(&["n".to_owned(), number.to_string()]);
                thread::sleep(Duration::from_millis(2));
            }
        });
        let moving = clients.into_iter().map(|mut client| {
            scope.spawn(move || {
                let (mut last, mut position) = (0, String::new());
                follow(&mut client, &mut last, &mut position, u64::MAX);
                let request = Request::websocket("/ws", JSON);
                let mut client = Client::upgrade(connect(other), &request.bytes()).welcomed();
                client.say(&json!({"id": 1, "subscribe": {"topics": ["n"], "since": position}}));
                let until = sent.load(Ordering::Relaxed) + 50;
                follow(&mut client, &mut last, &mut position, until);
            })
        });
        let moving: Vec<_> = moving.collect();
        here.shutdown();
        for client in moving {
            client.join().unwrap();
        }
        all_left.store(true, Ordering::Relaxed);
        publishing.join().unwrap();
    });
}
