//! A frame over the limit cuts its sender and nobody else.

use crate::fixture::{Publisher, TestForwarder, frames};

const OVER: [u8; 2048] = [0; 2048];
const LIMIT: [&str; 2] = ["--frame-bytes-max", "1KiB"];

#[test]
fn a_frame_over_the_limit_cuts_only_its_sender() {
    let forwarder = TestForwarder::start(&[&LIMIT[..], &["--no-record"]].concat());
    let subscriber = forwarder.subscriber(&[b"a"]);
    let [careless, other] = [forwarder.publisher(), forwarder.publisher()];
    [&careless, &other].iter().for_each(|publisher| publisher.wait_asked(b"a"));
    careless.send(&[b"a", &OVER]);
    forwarder.metric("trestle_forwarder_disconnects_total{port=\"frontend\"}", |n| n == 1);
    other.send(&[b"a", b"goes on"]);
    assert_eq!(subscriber.next(), frames(&[b"a", b"goes on"]));
    // It connects again by itself, and what is within the limit passes.
    careless.send(&[b"a", &OVER[..1024]]);
    assert_eq!(subscriber.next(), frames(&[b"a", &OVER[..1024]]));
}

/// libzmq gives up an endpoint that it connects to once it has cut it; a source would be gone for good.
#[test]
fn a_source_that_was_cut_is_connected_to_again() {
    let (publisher, endpoint) = Publisher::bound(&zmq::Context::new());
    let forwarder = TestForwarder::start(&[&LIMIT[..], &["--no-record", "--source", &endpoint]].concat());
    let subscriber = forwarder.subscriber(&[b"a"]);
    publisher.wait_asked(b"a");
    for round in 1..=2 {
        publisher.send(&[b"a", &OVER]);
        publisher.wait_asked(b"a");
        publisher.send(&[b"a", b"again"]);
        assert_eq!(subscriber.next(), frames(&[b"a", b"again"]));
        forwarder.metric("trestle_forwarder_sources_cut_total", |n| n == round);
    }
}

#[test]
fn what_comes_up_and_is_no_subscription_is_counted_and_ignored() {
    let forwarder = TestForwarder::start(&["--no-record"]);
    let odd = forwarder.context.socket(zmq::XSUB).unwrap();
    odd.connect(&forwarder.running.backend).unwrap();
    for part in [&b"\x02neither"[..], b"", b"\x01fine"] {
        odd.send(part, 0).unwrap();
    }
    let publisher = forwarder.publisher();
    assert_eq!(publisher.next_asked(), b"\x01fine");
    forwarder.metric("trestle_forwarder_dropped_messages_total{cause=\"not_a_subscription\"}", |n| n == 2);
}

/// One of a megabyte ended the forwarder: libzmq's trie is walked by recursion as deep as that.
#[test]
fn a_subscription_that_is_too_long_cuts_its_peer_and_goes_no_further() {
    let forwarder = TestForwarder::start(&["--no-record"]);
    let publisher = forwarder.publisher();
    for (endpoint, port, letter) in
        [(&forwarder.running.backend, "backend", b'b'), (&forwarder.running.link, "link", b'l')]
    {
        let peer = forwarder.context.socket(zmq::XSUB).unwrap();
        peer.connect(endpoint).unwrap();
        let subscription = |n: usize| [&[1][..], &vec![letter; n]].concat();
        peer.send(subscription(4_000), 0).unwrap();
        assert_eq!(publisher.next_asked(), subscription(4_000));
        peer.send(subscription(5_000), 0).unwrap();
        let cut = format!("trestle_forwarder_disconnects_total{{port=\"{port}\"}}");
        forwarder.metric(&cut, |n| n >= 1);
        // It comes back, says the same, and is cut again: the other goes with it, and its end goes up.
        assert_eq!(publisher.next_asked(), [&[0][..], &vec![letter; 4_000]].concat());
    }
}
