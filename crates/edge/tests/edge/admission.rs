//! A storm of handshakes.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::client::{Client, JSON, RAW, Said};
use crate::fixture::{Feed, TestEdge, until};
use crate::http::{Answer, Request};

fn ask(edge: &TestEdge, protocol: &str) -> Answer {
    Request::websocket("/ws?topic=a", protocol).to(edge.address())
}

fn retry_after(answer: &Answer) -> u64 {
    answer.header("retry-after").expect("a time to come back").parse().unwrap()
}

#[test]
fn a_storm_is_sent_away_and_harms_nobody_who_is_served() {
    const STORM: u32 = 200;
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "--connection-rate 10 --connection-burst 20");
    let mut served: Vec<_> = (0..10).map(|_| Client::raw(&edge, "/?topic=a")).collect();
    let start = Instant::now();
    let (mut admitted, mut away) = (10, BTreeMap::<u64, u32>::new());
    for n in 0..STORM {
        let answer = ask(&edge, if n % 2 == 0 { JSON } else { RAW });
        match answer.status {
            101 => admitted += 1,
            503 => *away.entry(retry_after(&answer)).or_default() += 1,
            other => panic!("{other}: {}", answer.head),
        }
        feed.send(&["a".to_owned(), n.to_string()]);
        for client in &mut served {
            assert_eq!(client.message(), Said::Text(n.to_string()));
        }
    }
    let brought = start.elapsed().as_millis() as u32 / 100 + 1;
    assert!((20..=20 + brought).contains(&admitted), "{admitted} in {:?}", start.elapsed());
    let refused = u64::from(STORM + 10 - admitted);
    assert_eq!(edge.metric("handshake_refusals_total{cause=\"connection_rate\"}"), refused);
    // Ten a second come back.
    let seconds = away.len() as u32;
    assert!(seconds >= refused as u32 / (10 + brought) && *away.keys().max().unwrap() <= 61, "{away:?}");
    // The page itself, and whoever asks for what never was, take no place.
    assert_eq!(Request::get("/client.js").to(edge.address()).status, 200);
    assert_eq!(ask(&edge, "unheard-of").status, 400);
}

#[test]
fn whoever_comes_back_when_told_is_admitted() {
    let edge = TestEdge::start("--source tcp://127.0.0.1:1 --connection-rate 50 --connection-burst 1");
    let first = ask(&edge, JSON);
    assert_eq!(first.status, 101);
    let again = until("a refusal", || Some(ask(&edge, JSON)).filter(|answer| answer.status == 503));
    let after = Instant::now() + std::time::Duration::from_secs(retry_after(&again));
    // Nobody else comes, so it may be sooner.
    until("admission", || (ask(&edge, JSON).status == 101).then_some(()));
    assert!(Instant::now() < after);
}
