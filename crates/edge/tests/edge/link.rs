//! An edge behind a forwarder.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::{Client, JSON, Said};
use crate::fixture::{Feed, Forwarder, LossyLink, TestEdge, until};
use crate::http::Request;

#[test]
fn until_the_first_beat_nobody_is_served() {
    let nobody = Feed::bound();
    let edge = TestEdge::start(&format!("--link {}", nobody.endpoint));
    nobody.wait_for("+\0trestle");
    for path in ["/ws", "/"] {
        let answer = Request::websocket(path, JSON).to(edge.address());
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        assert!(answer.text().contains("upstream"), "{}", answer.text());
    }
    let ready = edge.private("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("not ready") && ready.text().contains("upstream"), "{}", ready.text());
    assert_eq!(edge.private("/healthz").status, 200);
    assert_eq!(Request::get("/").to(edge.address()).status, 200, "the page comes, and says so");
    assert_eq!(edge.metric("handshake_refusals_total{cause=\"not_ready\"}"), 2);
    assert_eq!((edge.metric("upstream_ready"), edge.metric("upstream_messages_total")), (0, 0));
}

#[test]
fn what_a_forwarder_passes_arrives_with_its_positions() {
    let forwarder = Forwarder::start("");
    let edge = TestEdge::behind(&forwarder, "");
    assert_eq!(edge.private("/readyz").text(), "ready\n");
    let feed = Feed::connected(&forwarder);
    feed.wait_for("+");
    let (mut json, mut raw) = (Client::json(&edge, "/ws?topic=jobs/"), Client::raw(&edge, "/"));
    feed.send(&["jobs/1", "a"]);
    feed.send(&["other", "b", "c"]);
    feed.send(&["single"]);
    feed.send(&["jobs/2", "d"]);
    let (first, second) = (json.event(), json.event());
    assert_eq!((&first["topic"], &second["topic"]), (&"jobs/1".into(), &"jobs/2".into()));
    assert_ne!(first["position"], second["position"]);
    assert_eq!(raw.texts(4), ["a", "c", "single", "d"]);
    edge.until_metric("upstream_head", |head| head == 4);
    assert_eq!(edge.metric("upstream_holes_total"), 0);
    assert_eq!(json.subscribe(&["x"])["recorded"], "all");
}

#[test]
fn what_a_forwarder_does_not_record_is_fetched_on_demand() {
    let forwarder = Forwarder::start("--record jobs/");
    let edge = TestEdge::behind(&forwarder, "--interest-linger 100ms");
    let feed = Feed::connected(&forwarder);
    feed.wait_for("+jobs/");
    let mut client = Client::json(&edge, "/ws");
    assert_eq!(client.subscribe(&["chat/"])["recorded"], "none");
    feed.wait_for("+chat/");
    assert_eq!(client.subscribe(&["jobs/7"])["recorded"], "all");
    assert_eq!(client.subscribe(&["chat/", "jobs/"])["recorded"], "some");
    feed.send(&["chat/1", "hi"]);
    let event = client.event();
    assert_eq!((&event["text"], event.get("position")), (&"hi".into(), None));
    client.hang_up();
    feed.wait_for("-chat/");
}

#[test]
fn a_forwarder_that_goes_and_comes_back_is_followed_again() {
    let mut forwarder = Forwarder::start("");
    let edge = TestEdge::behind(&forwarder, "");
    let feed = Feed::connected(&forwarder);
    feed.wait_for("+");
    let mut client = Client::raw(&edge, "/");
    feed.send(&["a", "before"]);
    assert_eq!(client.next(), Said::text("before"));
    forwarder.restart(|| {
        edge.until_metric("upstream_stale", |stale| stale == 1);
        let ready = edge.private("/readyz");
        assert_eq!(ready.status, 200, "what there is is served on");
        assert!(ready.text().contains("stale"), "{}", ready.text());
        let mut meanwhile = Client::json(&edge, "/ws");
        assert_eq!(meanwhile.subscribe(&["a"])["recorded"], "all");
    });
    edge.until_metric("upstream_stale", |stale| stale == 0);
    // Until its subscriptions stand again, what passes by is not the edge's.
    until("a message", || {
        feed.send(&["a", "after"]);
        (edge.metric("upstream_messages_total") > 1).then_some(())
    });
    assert_eq!(client.next(), Said::text("after"), "on the connection that it had");
    assert_eq!(edge.metric("upstream_epoch_changes_total"), 1);
}

/// Subscribes to jobs/ from `since` on and gives the reply.
fn resume(client: &mut Client, since: &Value) -> Value {
    client.command(&json!({"id": 1, "subscribe": {"topics": ["jobs/"], "since": since}}))["subscribed"].take()
}

/// The position and text of the next `n` events.
fn events(client: &mut Client, n: usize) -> Vec<(Value, Value)> {
    (0..n).map(|_| client.event()).map(|mut event| (event["position"].take(), event["text"].take())).collect()
}

#[test]
fn an_edge_that_starts_late_has_the_same_history() {
    let forwarder = Forwarder::start("--record jobs/");
    let early = TestEdge::behind(&forwarder, "");
    let feed = Feed::connected(&forwarder);
    feed.wait_for("+jobs/");
    let mut client = Client::json(&early, "/ws?topic=jobs/");
    (0..100).for_each(|n| feed.send(&["jobs/1", &n.to_string()]));
    let seen = events(&mut client, 100);

    let late = TestEdge::behind(&forwarder, "");
    assert_eq!(late.metric("upstream_cloned_messages_total"), 100);
    assert_eq!(late.metric("upstream_head"), 100);
    for edge in [&early, &late] {
        let mut again = Client::json(edge, "/ws");
        assert_eq!(resume(&mut again, &seen[9].0)["recovered"], true);
        assert_eq!(events(&mut again, 90), seen[10..]);
        assert_eq!(again.named("caught_up")["replayed"], 90);
    }
    feed.send(&["jobs/1", "live"]);
    assert_eq!(events(&mut client, 1)[0].1, "live");
    late.until_metric("upstream_head", |head| head == 101);
    assert_eq!(late.metric("upstream_holes_total"), 0);
}

#[test]
fn what_the_link_loses_is_repaired() {
    let forwarder = Forwarder::start("");
    let link = LossyLink::start(&forwarder.link());
    let edge = TestEdge::start(&format!("--link {} --recorder {}", link.endpoint, forwarder.recorder()));
    edge.wait_ready();
    let feed = Feed::connected(&forwarder);
    feed.wait_for("+");
    let mut client = Client::raw(&edge, "/");
    for n in 0..300 {
        feed.send(&["jobs/1", &n.to_string()]);
    }
    let expected: Vec<_> = (0..300).map(|n| n.to_string()).collect();
    assert_eq!(client.texts(300), expected);
    let lost = edge.until_metric("upstream_repaired_messages_total", |repaired| repaired == link.lost());
    assert!(lost >= 90, "{lost}");
    assert!(edge.metric("upstream_holes_total") > 0);
    assert_eq!(edge.metric("dropped_messages_total{hop=\"link\",cause=\"hole\"}"), 0);
}

#[test]
fn an_edge_waits_for_its_forwarder() {
    let (mut forwarder, flags) = Forwarder::absent("");
    let edge = TestEdge::start(&flags);
    let ready = edge.private("/readyz");
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert_eq!(Request::websocket("/ws", JSON).to(edge.address()).status, 503);
    forwarder.appear();
    edge.wait_ready();
    assert_eq!(edge.private("/readyz").text(), "ready\n");
    Client::json(&edge, "/ws").hang_up();
}

#[test]
fn an_edge_whose_recorder_is_not_reached_says_so() {
    let (forwarder, (_, elsewhere)) = (Forwarder::start(""), Forwarder::absent(""));
    let recorder = elsewhere.split_once("--recorder").unwrap().1;
    let edge = TestEdge::start(&format!("--link {} --recorder {recorder}", forwarder.link()));
    until("its reason", || edge.private("/readyz").text().contains("--recorder").then_some(()));
    assert_eq!(edge.private("/readyz").status, 503);
}

#[test]
fn a_forwarder_that_begins_anew_is_told_in_its_place() {
    let mut forwarder = Forwarder::start("");
    let edge = TestEdge::behind(&forwarder, "");
    let feed = Feed::connected(&forwarder);
    feed.wait_for("+");
    let mut client = Client::json(&edge, "/ws?topic=jobs/");
    feed.send(&["jobs/1", "before"]);
    let before = client.event();
    forwarder.restart(|| {
        // From memory, though the forwarder is away.
        let mut meanwhile = Client::json(&edge, "/ws");
        assert_eq!(resume(&mut meanwhile, &client.welcome["position"])["recovered"], true);
        assert_eq!(events(&mut meanwhile, 1)[0].0, before["position"]);
    });
    until("a message", || {
        feed.send(&["jobs/1", "after"]);
        (edge.metric("upstream_messages_total") > 1).then_some(())
    });
    let lost = client.named("lost");
    assert_eq!((&lost["cause"], lost.get("count")), (&"epoch_changed".into(), None));
    assert_eq!(client.event()["text"], "after");
    assert_eq!(edge.metric("upstream_epoch_changes_total"), 1);
    edge.until_metric("lost_notices_total{cause=\"epoch_changed\"}", |told| told == 1);
    assert_eq!(edge.metric("lost_notices_total{cause=\"link_hole\"}"), 0);

    let late = TestEdge::behind(&forwarder, "");
    let reply = resume(&mut Client::json(&late, "/ws"), &before["position"]);
    assert_eq!((&reply["recovered"], &reply["reason"]), (&false.into(), &"epoch_changed".into()), "{reply}");
}

/// A client that was ahead of this edge, as one is that comes from another edge, and one from nowhere.
#[test]
fn a_position_that_the_edge_has_not_seen_is_asked_for() {
    let forwarder = Forwarder::start("");
    let (feed, link) = (Feed::connected(&forwarder), LossyLink::start(&forwarder.link()));
    let ahead = TestEdge::behind(&forwarder, "");
    let behind = TestEdge::start(&format!("--link {} --recorder {}", link.endpoint, forwarder.recorder()));
    behind.wait_ready();
    feed.wait_for("+");
    let mut client = Client::json(&ahead, "/ws?topic=jobs/");
    link.cut();
    feed.send(&["jobs/1", "seen elsewhere"]);
    let seen = client.event()["position"].take();

    let mut moved = Client::json(&behind, "/ws");
    moved.say(&json!({"id": 1, "subscribe": {"topics": ["jobs/"], "since": seen}}));
    feed.send(&["jobs/1", "missed"]);
    assert_eq!(client.event()["text"], "missed");
    link.mend();
    let reply = moved.named("reply");
    assert_eq!(reply["subscribed"]["recovered"], true, "{reply}");
    // It may have caught up before that came over the mended link, or by it.
    let said: Vec<_> = std::iter::repeat_with(|| moved.json_message())
        .filter(|said| said.get("heartbeat").is_none())
        .take(2)
        .collect();
    let missed = said.iter().find_map(|said| said.get("event")).expect("one of the two");
    assert!(said.iter().any(|said| said.get("caught_up").is_some()), "{said:?}");
    assert_eq!(missed["text"], "missed");

    let other = Forwarder::start("");
    let foreign = Client::json(&TestEdge::behind(&other, ""), "/ws").welcome["position"].take();
    let reply = resume(&mut Client::json(&behind, "/ws"), &foreign);
    assert_eq!((&reply["recovered"], &reply["reason"]), (&false.into(), &"epoch_changed".into()), "{reply}");
}

/// With nothing recorded each prefix goes up on its own: twelve thousand are more than an edge sends.
#[test]
fn no_want_of_thousands_is_lost_when_the_forwarder_comes_back() {
    const CLIENTS: usize = 12;
    const TOPICS: usize = 1_000;
    const PREFIXES_MAX: u64 = 10_000;
    let mut forwarder = Forwarder::start("--no-record");
    let edge = TestEdge::behind(&forwarder, "");
    let feed = Feed::connected(&forwarder);
    let topic = |client: usize, n: usize| format!("room/{client:02}/{n:03}/");
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::json(&edge, "/ws")).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        let topics: Vec<_> = (0..TOPICS).map(|i| topic(n, i)).collect();
        let reply = client.command(&json!({"id": 1, "subscribe": {"topics": topics}}));
        assert_eq!(reply["subscribed"]["recorded"], "none", "{reply}");
        client.named("caught_up");
    }
    edge.until_metric("upstream_prefixes_joined", |n| n > 0);
    assert!(edge.metric("upstream_prefixes") <= PREFIXES_MAX);

    let mut asked = BTreeSet::new();
    for topic in (0..CLIENTS * TOPICS).map(|n| topic(n / TOPICS, n % TOPICS)) {
        while !(0..=topic.len()).any(|n| asked.contains(&topic[..n])) {
            assert!(asked.insert(feed.asked().trim_start_matches('+').to_owned()), "asked for once");
        }
    }
    let mut hear_all = || {
        for (n, client) in clients.iter_mut().enumerate() {
            feed.send(&["room/of nobody", "here"]);
            (0..TOPICS).for_each(|i| feed.send(&[&topic(n, i)[..], "here"]));
            (0..TOPICS).for_each(|i| assert_eq!(client.event()["topic"], topic(n, i)));
        }
    };
    hear_all();
    forwarder.restart(|| ());
    let wanted = edge.metric("upstream_prefixes");
    until("all that is wanted", || (forwarder.wanted() == wanted).then_some(()));
    hear_all();
}
