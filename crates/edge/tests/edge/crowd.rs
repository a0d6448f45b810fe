//! As many clients and subscriptions as a machine holds. Heavy: `scripts/test faults`.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use socket2::SockRef;

use crate::client::{Client, RAW, Said};
use crate::fixture::{DEADLINE, Feed};
use crate::http::{Request, connect};
use crate::program::Program;

/// Clients, unless the process may not open so many files.
const CROWD: usize = 10_000;
const CROWD_MIN: usize = 1_000;
/// Files that a process needs beside its connections, with what the edge keeps back from clients.
const FILES_BESIDE: u64 = 200;
/// Pages of which something small is still in use, and code that ran for the first time. The crowd takes nearly twice as
/// much, and glibc left to itself keeps all of that.
const SLACK_BYTES: u64 = 7 << 20;

/// How many clients this process can be, and its limit raised to that. The edge is given the same.
fn crowd() -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let most = limit.maximum.map_or(CROWD, |most| most.saturating_sub(FILES_BESIDE) as usize);
    assert!(most >= CROWD_MIN, "raise the hard limit of open files (ulimit -Hn): {most} are too few");
    if most < CROWD {
        eprintln!("only {most} of {CROWD} clients: the hard limit of open files (ulimit -Hn) allows no more");
    }
    most.min(CROWD)
}

/// An edge with two shards on `feed`.
fn program(feed: &Feed) -> Program {
    let program =
        Program::start(&[&format!("--source={}", feed.endpoint), "--shards=2", "--interest-linger=0s"]);
    feed.wait_for("+");
    // What comes with the first clients stays.
    let first: Vec<_> = (0..100).map(|_| raw(&program, "/")).collect();
    feed.send(&["a", "warm"]);
    first.into_iter().for_each(|mut client| assert_eq!(client.message(), Said::text("warm")));
    program.until_metric("connections", |n| n == 0);
    program
}

fn raw(program: &Program, target: &str) -> Client {
    Client::upgrade(connect(program.address), &Request::websocket(target, RAW).bytes())
}

/// It gives back what a storm took, by and by.
fn wait_for_memory(program: &Program, before: u64) -> u64 {
    let (bound, mut now) = (before + before / 10 + SLACK_BYTES, 0);
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        now = program.rss_bytes();
        if now <= bound {
            return now;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("{now} bytes, {before} before");
}

#[test]
#[ignore = "heavy: scripts/test faults"]
fn a_crowd_that_goes_at_once_stalls_nobody_and_leaves_no_memory() {
    let n_clients = crowd();
    let feed = Feed::bound();
    let program = program(&feed);
    let before = program.rss_bytes();
    let start = Instant::now();
    let mut stays = raw(&program, "/?topic=tick");
    let crowd: Vec<_> =
        (0..n_clients).map(|n| raw(&program, &format!("/?topic=all&topic=own/{n}"))).collect();
    program.until_metric("connections", |n| n == n_clients as u64 + 1);
    let connected = start.elapsed();
    let held = program.rss_bytes();
    feed.send(&["all", "here"]);
    program.until_metric("deliveries_total", |n| n >= n_clients as u64);

    // By a reset, so that the ports last and nobody waits for the kernel.
    let going = thread::spawn(move || {
        let none = Some(Duration::ZERO);
        crowd.into_iter().for_each(|client| SockRef::from(client.stream()).set_linger(none).unwrap());
    });
    let (mut sent, mut longest) = (0u64, Duration::ZERO);
    let is_left = |program: &Program| program.metric("connections") == 1;
    while !going.is_finished() || sent % 20 != 0 || !is_left(&program) {
        let at = Instant::now();
        feed.send(&["tick".to_owned(), sent.to_string()]);
        assert_eq!(stays.message(), Said::Text(sent.to_string()));
        longest = longest.max(at.elapsed());
        sent += 1;
    }
    going.join().unwrap();
    program.until_metric("subscriptions", |n| n == 1);
    program.until_metric("outbox_bytes", |n| n == 0);
    let after = wait_for_memory(&program, before);
    eprintln!(
        "{n_clients} clients in {connected:.1?}, {} bytes each; {sent} messages while they went, the slowest in \
         {longest:.1?}; {before} bytes before, {held} with them, {after} after",
        held.saturating_sub(before) / n_clients as u64
    );
}

#[test]
#[ignore = "heavy: scripts/test faults"]
fn a_hundred_thousand_subscriptions_come_and_go() {
    const CLIENTS: usize = 100;
    const TOPICS: usize = 999;
    let feed = Feed::bound();
    let program = program(&feed);
    let before = program.rss_bytes();
    let topics = |client: usize, n: std::ops::Range<usize>| -> Vec<_> {
        n.map(|n| format!("client/{client:03}/topic/{n:03}")).collect()
    };
    let command = |client: &mut Client, verb: &str, topics: Vec<String>| {
        // A message of a client has its bound.
        for some in topics.chunks(500) {
            let reply = client.command(&json!({"id": 1, verb: {"topics": some}}));
            assert!(reply.get("error").is_none(), "{reply}");
            if verb == "subscribe" {
                client.named("caught_up");
            }
        }
    };
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| program.client("/ws?topic=shared")).collect();
    let mut took = Vec::new();
    let mut timed = |what: &str, work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        took.push(format!("{what} {:.2?}", start.elapsed()));
    };
    let all = (CLIENTS * (TOPICS + 1)) as u64;
    let subscribe = |clients: &mut [Client]| {
        for (n, client) in clients.iter_mut().enumerate() {
            command(client, "subscribe", topics(n, 0..TOPICS));
        }
        program.until_metric("subscriptions", |n| n == all);
    };
    timed("subscribe", &mut || subscribe(&mut clients));
    let held = program.rss_bytes();
    for n in [0, CLIENTS - 1] {
        feed.send(&[&topics(n, TOPICS - 1..TOPICS)[0], "own"]);
        assert_eq!(clients[n].event()["text"], "own");
    }
    feed.send(&["shared", "all"]);
    clients.iter_mut().for_each(|client| assert_eq!(client.event()["text"], "all"));
    timed("unsubscribe", &mut || {
        for (n, client) in clients.iter_mut().enumerate() {
            command(client, "unsubscribe", topics(n, 0..TOPICS));
        }
        program.until_metric("subscriptions", |n| n == CLIENTS as u64);
    });
    timed("subscribe again", &mut || subscribe(&mut clients));
    timed("disconnect", &mut || {
        clients.drain(..).for_each(Client::hang_up);
        program.until_metric("subscriptions", |n| n == 0);
    });
    let after = wait_for_memory(&program, before);
    eprintln!(
        "{all} subscriptions: {}; {before} bytes before, {held} with them, {after} after",
        took.join(", ")
    );
}

/// Upward, too: each of them is asked for, and given up.
#[test]
#[ignore = "heavy: scripts/test faults"]
fn interest_of_many_topics_goes_upward_and_comes_back() {
    const CLIENTS: usize = 10;
    const TOPICS: usize = 900;
    let feed = Feed::bound();
    let source = format!("--source={}", feed.endpoint);
    let program = Program::start(&[&source, "--no-record", "--interest-linger=0s"]);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| program.client("/ws")).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        let topics: Vec<_> = (0..TOPICS).map(|topic| format!("{n}/{topic}")).collect();
        client.command(&json!({"id": 1, "subscribe": {"topics": topics}}));
        client.named("caught_up");
    }
    let asked = |sign: char| {
        let all: std::collections::BTreeSet<_> = (0..CLIENTS * TOPICS).map(|_| feed.asked()).collect();
        assert!(all.len() == CLIENTS * TOPICS && all.iter().all(|asked| asked.starts_with(sign)));
    };
    asked('+');
    program.until_metric("upstream_prefixes", |n| n >= (CLIENTS * TOPICS) as u64);
    drop(clients);
    asked('-');
    program.until_metric("upstream_prefixes", |n| n <= 1);
}
