//! What publishers are asked for.

use std::collections::BTreeSet;

use crate::fixture::{Publisher, TestForwarder};

#[test]
fn a_prefix_that_nobody_wants_never_leaves_its_publisher() {
    let (publisher, endpoint) = Publisher::bound(&zmq::Context::new());
    let forwarder = TestForwarder::start(&["--record", "jobs/", "--source", &endpoint]);
    let edge = forwarder.edge(&[b"jobs/"]);
    assert_eq!(publisher.next_asked(), b"\x01jobs/");
    for topic in [&b"other/1"[..], b"job", b"", b"jobs/1"] {
        publisher.send(&[topic, b"body"]);
    }
    assert_eq!(edge.next().0[0], b"jobs/1");
    forwarder.metric(&format!("trestle_forwarder_messages_in_total{{port=\"{endpoint}\"}}"), |n| n == 1);
    // Nothing else was ever asked for.
    assert_eq!(publisher.0.recv_bytes(zmq::DONTWAIT), Err(zmq::Error::EAGAIN));
}

#[test]
fn interest_goes_up_once_and_is_taken_back_at_the_last() {
    let forwarder = TestForwarder::start(&["--no-record"]);
    let publisher = forwarder.publisher();
    let first = forwarder.subscriber(&[b"chat/"]);
    assert_eq!(publisher.next_asked(), b"\x01chat/");

    // A second want goes no further; the mark behind it does.
    let second = forwarder.subscriber(&[b"chat/", b"mark 1"]);
    assert_eq!(publisher.next_asked(), b"\x01mark 1");
    let edges = [forwarder.edge(&[b"chat/", b"mark 2"]), forwarder.edge(&[b"chat/", b"mark 3"])];
    assert_eq!([publisher.next_asked(), publisher.next_asked()], [b"\x01mark 2", b"\x01mark 3"]);

    first.0.set_unsubscribe(b"chat/").unwrap();
    first.0.set_subscribe(b"mark 4").unwrap();
    assert_eq!(publisher.next_asked(), b"\x01mark 4");
    edges.iter().for_each(|edge| edge.0.0.set_unsubscribe(b"chat/").unwrap());
    edges.iter().for_each(|edge| edge.0.0.set_subscribe(b"mark 5").unwrap());
    assert_eq!(publisher.next_asked(), b"\x01mark 5");

    drop(second);
    let taken_back = BTreeSet::from([publisher.next_asked(), publisher.next_asked()]);
    assert_eq!(taken_back, BTreeSet::from([b"\0chat/".to_vec(), b"\0mark 1".to_vec()]));
    drop((first, edges));
    let taken_back: BTreeSet<_> = (0..4).map(|_| publisher.next_asked()).collect();
    assert_eq!(
        taken_back,
        BTreeSet::from([b"\0mark 2", b"\0mark 3", b"\0mark 4", b"\0mark 5"].map(|p| p.to_vec()))
    );
    for port in ["frontend", "backend", "link"] {
        forwarder.metric(&format!("trestle_forwarder_subscriptions{{port=\"{port}\"}}"), |n| n == 0);
    }
}

#[test]
fn the_reserved_prefix_is_not_asked_for() {
    let forwarder = TestForwarder::start(&["--no-record"]);
    let publisher = forwarder.publisher();
    let _edge = forwarder.edge(&[]);
    let _curious = forwarder.subscriber(&[b"\0trestle", b"\0trestle/deep", b"mark"]);
    assert_eq!(publisher.next_asked(), b"\x01mark");
}

#[test]
fn a_publisher_that_comes_later_is_asked_too() {
    let forwarder = TestForwarder::start(&["--record", "jobs/", "--record", "chat/"]);
    let _subscriber = forwarder.subscriber(&[b"news/"]);
    forwarder.metric("trestle_forwarder_subscriptions{port=\"frontend\"}", |n| n == 3);
    let publisher = forwarder.publisher();
    let asked: BTreeSet<_> = (0..3).map(|_| publisher.next_asked()).collect();
    assert_eq!(asked, BTreeSet::from([b"\x01jobs/", b"\x01chat/", b"\x01news/"].map(|p| p.to_vec())));
}

#[test]
fn an_aliased_source_is_asked_for_everything_while_its_alias_is_wanted() {
    let (publisher, endpoint) = Publisher::bound(&zmq::Context::new());
    let forwarder = TestForwarder::start(&["--no-record", "--source", &format!("eddn={endpoint}")]);
    let edge = forwarder.edge(&[b"other", b"eddn/deeper"]);
    let subscriber = forwarder.subscriber(&[b"raw"]);
    assert_eq!(
        publisher.next_asked(),
        b"\x01raw",
        "the backend's prefix goes up, the link's are not for the alias"
    );
    edge.0.0.set_subscribe(b"ed").unwrap();
    assert_eq!(publisher.next_asked(), b"\x01");
    edge.0.0.set_subscribe(b"eddn").unwrap();
    edge.0.0.set_unsubscribe(b"ed").unwrap();
    drop(subscriber);
    assert_eq!(publisher.next_asked(), b"\0raw", "the alias is still wanted");
    edge.0.0.set_unsubscribe(b"eddn").unwrap();
    assert_eq!(publisher.next_asked(), b"\0");
}

#[test]
fn a_recorded_alias_is_asked_for_from_the_start() {
    let (publisher, endpoint) = Publisher::bound(&zmq::Context::new());
    let _forwarder = TestForwarder::start(&["--record", "ed", "--source", &format!("eddn={endpoint}")]);
    assert_eq!(publisher.next_asked(), b"\x01");
}
