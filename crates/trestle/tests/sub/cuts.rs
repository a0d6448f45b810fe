//! Against edges behind a forwarder: whatever happens to connections, each message is printed once, in order.

use std::cell::Cell;
use std::time::Duration;

use crate::edge::{Cluster, Way};
use crate::program::Sub;

/// Publishes on `a/x`, `b/x` and `c/x` in turn, the number of each in its body.
struct Feed<'a> {
    cluster: &'a Cluster,
    n: Cell<u64>,
}

impl Feed<'_> {
    fn publish(&self) {
        let n = self.n.replace(self.n.get() + 1);
        for topic in ["a/x", "b/x", "c/x"] {
            self.cluster.publish(&[topic, &format!(r#"{{"n": {n}}}"#)]);
        }
        // A rate, not a wait for something.
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// What was printed of `topic`.
fn numbers(lines: &[String], topic: &str) -> Vec<u64> {
    let body = |line: &str| {
        let n = line.strip_prefix(topic)?.strip_prefix(r#" {"n": "#)?.strip_suffix('}')?;
        Some(n.parse().unwrap())
    };
    lines.iter().filter_map(|line| body(line)).collect()
}

#[test]
fn cut_connections_and_another_edge_change_nothing_that_is_printed() {
    let cluster = Cluster::start("");
    let feed = Feed { cluster: &cluster, n: Cell::new(0) };
    let first = cluster.edge("");
    let way = Way::to(first.address());
    let sub = Sub::start(&format!("http://{} a/ b/", way.address));
    sub.says("connected");
    for bytes in [20_000, 1, 30_007] {
        way.cut_after(bytes, || feed.publish());
    }
    // More while it is away, and then another edge in the place of the first.
    (0..200).for_each(|_| feed.publish());
    sub.says("b/: ");
    let second = cluster.edge("");
    way.lead_to(second.address());
    first.shutdown();
    (0..200).for_each(|_| feed.publish());
    sub.says("the edge will close the connection in ");
    sub.says("b/: ");
    let last = feed.n.get() - 1;
    let mut lines = Vec::new();
    while ["a/x", "b/x"].iter().any(|topic| !lines.contains(&format!(r#"{topic} {{"n": {last}}}"#))) {
        lines.push(sub.line());
    }
    sub.signal("TERM");
    let (code, rest, said) = sub.end();
    assert_eq!((code, rest), (0, vec![]), "{said:#?}");
    for topic in ["a/x", "b/x"] {
        let printed = numbers(&lines, topic);
        let expected: Vec<u64> = (printed[0]..=last).collect();
        assert_eq!(printed, expected, "{topic}: {said:#?}");
        assert!(printed[0] < last - 400, "{topic} begins with {}", printed[0]);
    }
    assert_eq!(numbers(&lines, "a/x").len() + numbers(&lines, "b/x").len(), lines.len());
    assert!(!said.iter().any(|line| line.contains("LOST")), "{said:#?}");
    let connected = said.iter().filter(|line| line.contains("connected to")).count();
    // The connection of which one byte came was none.
    assert!(connected >= 4, "{said:#?}");

    // Another run goes on behind the last line of this one.
    (0..5).for_each(|_| feed.publish());
    let since = said.last().unwrap().rsplit_once("--since ").unwrap().1;
    let next = Sub::start(&format!("http://{} a/ b/ --count 10 --since {since}", way.address));
    let (code, lines, said) = next.end();
    assert_eq!(code, 0, "{said:#?}");
    for topic in ["a/x", "b/x"] {
        assert_eq!(numbers(&lines, topic), (last + 1..=last + 5).collect::<Vec<_>>(), "{topic} {lines:#?}");
    }
    second.shutdown();
    cluster.shutdown();
}

/// A terminal that is held, a pager: the edge ends the connection of a reader that is too slow, and later it goes on.
#[test]
fn a_reader_that_pauses_gets_the_rest_when_it_reads_on() {
    const MESSAGES: usize = 30_000;
    let cluster = Cluster::start("");
    let edge = cluster.edge("--outbox-bytes-max 64KiB");
    let mut sub = Sub::start_unread(&format!("ws://{} a", edge.address()));
    sub.says("connected");
    // Far more than all buffers on the way hold.
    let long = "x".repeat(1_000);
    for n in 0..MESSAGES {
        cluster.publish(&["a", &format!("{n} {long}")]);
    }
    sub.read();
    let mut last = None;
    while last != Some(MESSAGES - 1) {
        let line = sub.line();
        let n: usize = line.split(' ').nth(1).unwrap().parse().unwrap();
        // The first ones may have come before the subscription stood.
        assert!(last.is_none_or(|last| n == last + 1), "{n} behind {last:?}");
        last = Some(n);
    }
    sub.signal("INT");
    let (code, rest, said) = sub.end();
    assert_eq!((code, rest), (0, vec![]), "{said:#?}");
    assert!(said.iter().any(|line| line.contains("4008 slow consumer")), "{said:#?}");
    assert!(!said.iter().any(|line| line.contains("LOST")), "{said:#?}");
    edge.shutdown();
    cluster.shutdown();
}

#[test]
fn last_values_first_and_every_kind_of_event() {
    let cluster = Cluster::start("--split one/=\\x20");
    let edge = cluster.edge("");
    let sub = Sub::start(&format!("ws://{}", edge.address()));
    sub.says("connected");
    // The publisher may still be connecting.
    let begin = loop {
        cluster.publish(&["begin", "x"]);
        if let Some(line) = sub.line_within(Duration::from_millis(50)) {
            break line;
        }
    };
    assert_eq!(begin, "begin x");
    cluster.publish(&["jobs/1", "[1,\n 2]"]);
    cluster.publish(&["jobs/1", "two\nlines"]);
    cluster.publish(&["jobs/2", "x", "{}"]);
    cluster.publish(&["one/topic and body"]);
    cluster.publish(&["end", "\u{1b}[2J"]);
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line: &String| !line.starts_with("end")) {
        lines.push(sub.line());
    }
    lines.retain(|line| line != "begin x");
    let end = "end base64:G1sySg==";
    assert_eq!(lines, ["jobs/1 [1,2]", r"jobs/1 two\nlines", "jobs/2 x | {}", "one/topic and body", end]);

    let snapshot = Sub::start(&format!("ws://{} jobs/ one/ --snapshot --count 3", edge.address()));
    let (code, mut lines, _) = snapshot.end();
    lines.sort();
    assert_eq!(code, 0);
    assert_eq!(
        lines,
        [r"jobs/1 (snapshot) two\nlines", "jobs/2 (snapshot) x | {}", "one/topic (snapshot) and body"]
    );
    edge.shutdown();
    cluster.shutdown();
}

#[test]
fn the_edge_names_what_it_refuses() {
    let cluster = Cluster::start("");
    let edge = cluster.edge("");
    for (path, said) in [
        ("/nowhere", "error: refused with HTTP 404: not found; no WebSocket at this path"),
        ("/ws?topics=a", "error: refused with HTTP 400: unknown parameter `topics`"),
    ] {
        let (code, out, err) = Sub::start(&format!("ws://{}{path}", edge.address())).end();
        assert_eq!((code, out), (69, vec![]));
        assert!(err.last().unwrap().starts_with(said), "{err:?}");
    }
    edge.shutdown();
    cluster.shutdown();
}
