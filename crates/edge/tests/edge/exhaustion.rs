//! An edge that may open few files, and more clients than that.

use std::process::Command;

use serde_json::json;

use crate::client::{Client, RAW, Said};
use crate::fixture::{Feed, until};
use crate::http::{Request, connect};
use crate::program::Program;

const FILES_MAX: usize = 120;

/// An edge with one shard on `feed` and a bound of open files that it cannot raise.
fn limited(feed: &Feed) -> Program {
    with_limit(feed, "-n")
}

fn with_limit(feed: &Feed, kind: &str) -> Program {
    let mut shell = Command::new("sh");
    let line = format!("ulimit {kind} {FILES_MAX}; exec \"$0\" \"$@\"");
    shell.env_clear().args(["-c", &line, env!("CARGO_BIN_EXE_trestle-edge"), "--shards=1"]);
    let program = Program::spawn(shell.arg(format!("--source={}", feed.endpoint)));
    feed.wait_for("+");
    program
}

fn raw(program: &Program) -> Client {
    Client::upgrade(connect(program.address), &Request::websocket("/", RAW).bytes())
}

#[test]
fn without_files_accepting_pauses_and_all_else_goes_on() {
    let feed = Feed::bound();
    let mut program = limited(&feed);
    let (mut json, mut raw_client) = (program.client("/ws?topic=a"), raw(&program));
    let crowd: Vec<_> = (0..2 * FILES_MAX).map(|_| connect(program.address)).collect();
    let line = program.says("accepting pauses");
    assert!(line.contains("ERROR") && line.contains("limit=120") && line.contains("LimitNOFILE="), "{line}");
    assert!(program.metric("accept_pauses_total") > 0, "metrics are read while it lasts");
    for n in 0..20 {
        feed.send(&["a".to_owned(), n.to_string()]);
        assert_eq!(json.event()["text"], n.to_string(), "who is there is served");
        assert_eq!(raw_client.message(), Said::Text(n.to_string()));
    }
    let command = json!({"id": 1, "subscribe": {"topics": ["b"]}});
    assert_eq!(json.command(&command)["subscribed"]["recorded"], "all");
    drop(crowd);
    let mut new = program.client("/ws?topic=a");
    feed.send(&["a", "and on"]);
    assert_eq!(new.event()["text"], "and on", "who comes when others have left gets in");
}

/// What waits in the kernel is served in its turn, and the pauses that come with each turn are not said again.
#[test]
fn those_who_wait_are_let_in_as_others_leave() {
    let feed = Feed::bound();
    let mut program = limited(&feed);
    let request = Request::websocket("/", RAW).bytes();
    // Connected as far as the kernel is concerned; each asks at once and hears when it is let in.
    let mut waiting: Vec<_> = (0..3 * FILES_MAX)
        .map(|_| {
            let mut stream = connect(program.address);
            std::io::Write::write_all(&mut stream, &request).unwrap();
            stream
        })
        .collect();
    let said = program.says("accepting pauses");
    assert!(!said.is_empty());
    while !waiting.is_empty() {
        let rest = waiting.split_off(waiting.len().min(10));
        let admitted: Vec<_> = waiting.into_iter().map(|stream| Client::upgrade(stream, b"")).collect();
        drop(admitted);
        waiting = rest;
    }
    program.until_metric("connections", |n| n == 0);
    assert!(program.metric("accept_pauses_total") > 1);
    program.signal("TERM");
    let (rest, code) = program.end();
    assert_eq!(code, Some(0));
    assert!(!rest.iter().any(|line| line.contains("accepting pauses")), "it was said once: {rest:?}");
}

/// A crowd that takes every file that becomes free must not keep the edge from its publisher.
#[test]
fn a_publisher_that_was_away_is_followed_again_without_files_for_clients() {
    let feed = Feed::bound();
    let mut program = limited(&feed);
    let mut client = raw(&program);
    let _crowd: Vec<_> = (0..2 * FILES_MAX).map(|_| connect(program.address)).collect();
    program.says("accepting pauses");
    let endpoint = feed.endpoint.clone();
    drop(feed);
    program.until_metric("upstream_connections", |n| n == 0);
    let before = program.metric("accept_pauses_total");
    assert!(before > 0);
    let feed = Feed::bound_to(&endpoint);
    feed.wait_for("+");
    let message = until("a message", || {
        feed.send(&["a", "back"]);
        (program.metric("deliveries_total") > 0).then(|| client.message())
    });
    assert_eq!(message, Said::text("back"));
}

#[test]
fn a_limit_that_the_process_may_raise_is_none() {
    let feed = Feed::bound();
    let program = with_limit(&feed, "-S -n");
    let mut clients: Vec<_> = (0..2 * FILES_MAX).map(|_| raw(&program)).collect();
    feed.send(&["a", "to all"]);
    clients.iter_mut().for_each(|client| assert_eq!(client.message(), Said::text("to all")));
    assert_eq!(program.metric("accept_pauses_total"), 0);
}
