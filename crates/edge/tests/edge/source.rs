//! An edge directly on publishers.

use crate::client::{Client, Said};
use crate::fixture::{Feed, TestEdge};

#[test]
fn without_a_record_nothing_leaves_the_publisher_until_a_browser_wants_it() {
    let feed = Feed::bound();
    let flags = "--no-record --interest-linger 100ms";
    let edge = TestEdge::start(&format!("--source {} {flags}", feed.endpoint));
    edge.until_metric("upstream_connections", |n| n == 1);
    let mut first = Client::raw(&edge, "/?topic=jobs/");
    assert_eq!(feed.asked(), "+jobs/");
    let second = Client::json(&edge, "/ws?topic=jobs/&topic=chat/");
    assert_eq!(feed.asked(), "+chat/", "jobs/ is fetched already");
    feed.send(&["jobs/1", "x"]);
    assert_eq!(first.next(), Said::text("x"));
    edge.until_metric("upstream_prefixes", |n| n == 2);

    second.hang_up();
    assert_eq!(feed.asked(), "-chat/");
    first.hang_up();
    assert_eq!(feed.asked(), "-jobs/");
    edge.until_metric("upstream_prefixes", |n| n == 0);
    feed.send(&["jobs/2", "nobody"]);
    let mut third = Client::raw(&edge, "/?topic=x");
    assert_eq!(feed.asked(), "+x");
    feed.send(&["jobs/3", "nobody"]);
    feed.send(&["x", "y"]);
    assert_eq!(third.next(), Said::text("y"));
    assert_eq!(edge.metric("upstream_messages_total"), 2, "what nobody wants never left its publisher");
}

#[test]
fn a_page_that_is_reloaded_churns_nothing_upstream() {
    let feed = Feed::bound();
    let edge = TestEdge::start(&format!("--source {} --no-record --interest-linger 60s", feed.endpoint));
    for n in 0..10 {
        let mut client = Client::raw(&edge, "/?topic=jobs/");
        if n == 0 {
            assert_eq!(feed.asked(), "+jobs/");
        }
        feed.send(&["jobs/1", "x"]);
        assert_eq!(client.next(), Said::text("x"));
    }
    let _other = Client::raw(&edge, "/?topic=chat/");
    assert_eq!(feed.asked(), "+chat/", "and nothing came between");
}

#[test]
fn a_frame_over_the_limit_cuts_its_publisher_and_no_other() {
    let (good, bad) = (Feed::bound(), Feed::bound());
    let flags = format!("--source {} --source {} --frame-bytes-max 64KiB", good.endpoint, bad.endpoint);
    let edge = TestEdge::start(&flags);
    [&good, &bad].into_iter().for_each(|feed| feed.wait_for("+"));
    let mut client = Client::raw(&edge, "/");
    bad.send(&["a", "before"]);
    assert_eq!(client.next(), Said::text("before"));
    bad.send(&["a", &"x".repeat((64 << 10) + 1)]);
    bad.wait_for("-");
    for n in 0..10 {
        good.send(&["a".to_owned(), n.to_string()]);
        assert_eq!(client.next(), Said::Text(n.to_string()));
    }
    edge.until_metric("upstream_cuts_total", |n| n == 1);
    // It is tried anew.
    bad.wait_for("+");
    bad.send(&["a", "after"]);
    assert_eq!(client.next(), Said::text("after"));
    let largest = "x".repeat(64 << 10);
    bad.send(&["a", &largest]);
    assert_eq!(client.next(), Said::Text(largest));
}

#[test]
fn a_publisher_that_is_away_is_stale_and_served_when_it_comes() {
    let feed = Feed::bound();
    let endpoint = feed.endpoint.clone();
    drop(feed);
    let edge = TestEdge::start(&format!("--source {endpoint}"));
    edge.wait_ready();
    let ready = edge.private("/readyz");
    assert_eq!(ready.status, 200);
    assert!(ready.text().contains("stale"), "{}", ready.text());
    let mut client = Client::raw(&edge, "/");
    let feed = Feed::bound_to(&endpoint);
    feed.wait_for("+");
    feed.send(&["a", "at last"]);
    assert_eq!(client.next(), Said::text("at last"));
    edge.until_metric("upstream_stale", |stale| stale == 0);
    assert_eq!(edge.private("/readyz").text(), "ready\n");
}

/// Bitcoin Core numbers the messages of each topic; what its high-water mark drops leaves no other trace.
#[test]
fn a_publishers_own_counter_shows_what_never_came() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "--sequence hash");
    for (topic, counter) in
        [("hashtx", 7_u32), ("hashblock", 1), ("hashtx", 8), ("hashtx", 12), ("rawtx", 90), ("rawtx", 99)]
    {
        feed.send(&[topic.as_bytes(), b"body", &counter.to_le_bytes()]);
    }
    edge.until_metric("upstream_messages_total", |n| n == 6);
    assert_eq!(edge.metric("dropped_messages_total{hop=\"publisher\",cause=\"sequence_gap\"}"), 3);
}
