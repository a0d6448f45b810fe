//! Latency counts from the schedule: whatever holds the publisher up shows in full.

use std::time::Duration;

use crate::server::Server;
use crate::{delivery, measure};

/// How long the server does nothing at all.
const PAUSE: Duration = Duration::from_millis(500);

/// A server that stops reading holds up a publisher whose messages are too large for the buffers between. A publisher that
/// stamped what it sends when it gets round to it would show one slow message; 25 were due meanwhile.
#[test]
fn a_server_that_holds_the_publisher_up_hides_nothing() {
    let mut is_rested = false;
    let server = Server::start(move |client, message| {
        if message.seq == 10 && !is_rested {
            is_rested = true;
            std::thread::sleep(PAUSE);
        }
        client.send(message.frame);
    });
    let line = "latency --clients 1 --rate 50 --messages 50 --size 2000000 --warm-up 1";
    let report = measure(&format!("{line} {}", server.flags().replace("--give-up 0.3", "--give-up 5")));
    let delivery = delivery(&report);
    assert_eq!((delivery.lost, delivery.latency.count), (0, 50));
    assert!(delivery.publisher_late_max_us > 100_000.0, "the publisher was held up: {delivery:?}");
    // Half a second is 25 of 50 messages: a fifth of them waited for more than 200 ms.
    assert!(delivery.latency.p90_us > 200_000.0, "{delivery:?}");
    assert!(delivery.latency.max_us > 400_000.0, "{delivery:?}");
}

/// The same pause where buffers take everything: the messages wait in them, and that is seen as well.
#[test]
fn messages_that_wait_in_buffers_are_as_late_as_they_are() {
    let mut is_rested = false;
    let server = Server::start(move |client, message| {
        if message.seq == 10 && !is_rested {
            is_rested = true;
            std::thread::sleep(PAUSE);
        }
        client.send(message.frame);
    });
    let line = "latency --clients 1 --rate 50 --messages 50 --warm-up 1";
    let report = measure(&format!("{line} {}", server.flags().replace("--give-up 0.3", "--give-up 5")));
    let delivery = delivery(&report);
    assert!(delivery.latency.p90_us > 200_000.0 && delivery.latency.max_us > 400_000.0, "{delivery:?}");
}
