//! What browsers want, as an attack on publishers: an XPUB counts what it is asked for.

use std::collections::BTreeSet;

use serde_json::json;

use crate::client::Client;
use crate::fixture::{Feed, TestEdge, until};

/// A publisher that keeps account of the prefixes that it is subscribed to.
struct Account {
    feed: Feed,
    held: BTreeSet<Vec<u8>>,
    most: usize,
}

impl Account {
    fn new(feed: Feed) -> Self {
        Self { feed, held: BTreeSet::new(), most: 0 }
    }

    fn look(&mut self) {
        while let Some(asked) = self.feed.asked_now() {
            match asked.split_first() {
                Some((1, prefix)) => assert!(self.held.insert(prefix.to_vec()), "asked for once"),
                Some((_, prefix)) => assert!(self.held.remove(prefix), "ended once"),
                None => panic!("an empty frame"),
            }
            self.most = self.most.max(self.held.len());
        }
    }

    /// A client is answered when its edge wants a topic; its publisher hears of it later, and drops what it sends before.
    fn until_asked_for(&mut self, prefix: &str) {
        until("to be asked for it", || {
            self.look();
            self.held.contains(prefix.as_bytes()).then_some(())
        });
    }
}

/// Numbers that look like chance, the same in each run.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 20
}

#[test]
fn random_prefixes_never_grow_a_publishers_trie_beyond_the_bound() {
    const MAX: usize = 200;
    let feed = Feed::bound();
    let endpoint = feed.endpoint.clone();
    let mut account = Account::new(feed);
    let flags = "--no-record --interest-linger 0s --commands-per-second 0";
    let edge = TestEdge::start(&format!("--source {endpoint} --interest-max {MAX} {flags}"));
    let mut good = Client::json(&edge, "/ws");
    good.subscribe(&["good"]);
    account.until_asked_for("good");
    let (mut seed, mut clients, mut wanted) = (7, Vec::new(), Vec::new());
    for client in 0..8 {
        let mut hostile = Client::json(&edge, "/ws");
        for round in 0..12 {
            let topics: Vec<_> = (0..100).map(|_| format!("{:x}", random(&mut seed))).collect();
            hostile.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>());
            account.look();
            // Some of it is given up again.
            if round % 3 == client % 3 {
                hostile.command(&json!({"id": 2, "unsubscribe": {"topics": topics}}));
            } else {
                wanted.extend(topics.into_iter().map(|topic| (client, topic)));
            }
            account.feed.send(&["good", "x"]);
            assert_eq!(good.event()["text"], "x");
        }
        clients.push(hostile);
    }
    edge.until_metric("upstream_prefixes_joined", |n| n > 0);
    // Everybody has what it wants, one way or the other.
    for (client, topic) in wanted.iter().step_by(101) {
        until("it to be asked for", || {
            account.look();
            (0..=topic.len()).any(|n| account.held.contains(&topic.as_bytes()[..n])).then_some(())
        });
        account.feed.send(&[&topic[..], "for you"]);
        until("the event", || (clients[*client].event()["topic"] == topic[..]).then_some(()));
    }
    drop(clients);
    until("all but one to be given up", || {
        account.look();
        (account.held.len() == 1).then_some(())
    });
    // A shorter one stands before those that it replaces end.
    assert!(account.most > MAX / 2 && account.most <= MAX + 2, "{}", account.most);
}

/// Who subscribes and leaves as fast as the connection takes it is not read while what it wanted waits on its way upward.
#[test]
fn clients_that_come_and_go_for_many_topics_keep_no_message_waiting() {
    let feed = Feed::bound();
    let endpoint = feed.endpoint.clone();
    let mut account = Account::new(feed);
    let flags = "--no-record --interest-linger 0s --commands-per-second 0 --interest-max 1000";
    let edge = TestEdge::start(&format!("--source {endpoint} {flags}"));
    let mut good = Client::json(&edge, "/ws");
    good.subscribe(&["good"]);
    account.until_asked_for("good");
    let address = edge.address();
    let hostile = |nth: u64| {
        std::thread::spawn(move || {
            let mut seed = nth;
            for _ in 0..5 {
                let mut client = Client::at(address, "/ws");
                for id in 0..20 {
                    let topics: Vec<_> = (0..900).map(|_| format!("{:x}", random(&mut seed))).collect();
                    client.say(&json!({"id": id, "subscribe": {"topics": topics}}));
                    client.say(&json!({"id": id, "unsubscribe": {"topics": topics}}));
                }
                client.hang_up();
            }
        })
    };
    let hostile: Vec<_> = (0..4).map(hostile).collect();
    let mut n = 0;
    while !hostile.iter().all(std::thread::JoinHandle::is_finished) || n < 100 {
        n += 1;
        account.look();
        account.feed.send(&["good", "x"]);
        assert_eq!(good.event()["text"], "x");
    }
    hostile.into_iter().for_each(|thread| thread.join().unwrap());
    until("all but one to be given up", || {
        account.look();
        (account.held.len() == 1).then_some(())
    });
    assert!(account.most <= 1_002, "{}", account.most);
}
