//! How the edge leaves: whether it drains, why, how fast, and until when.
//!
//! Its listeners stay open until the end and answer 503. Closed ones would lose more: the kernel resets connections that
//! wait to be accepted, while a proxy tries another replica after a 503 as it does after a refused connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use trestle_hub::encode::GoodbyeReason;

use crate::metrics::ShardMetrics;

/// Few clients are not kept for the whole period: at least so many a second are closed. A replica that has room for them
/// does not notice so few.
const CLOSES_A_SECOND_MIN: f64 = 100.0;
/// Of the period this is kept for the last ones to answer their Close frame.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Of a short period no more than this part.
const LAST_WORDS_PART: u32 = 4;
/// The last to be closed come back a tick of the hub's wheel later, and a proxy that still lists this edge may lead them
/// here: they hear 503 at once where a host that has gone would keep them waiting.
pub(crate) const LINGER: Duration = Duration::from_millis(500);

/// What all shards are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) reason: GoodbyeReason,
    /// So many were connected when it came.
    pub(crate) clients: u64,
    /// Until then clients are closed, evenly.
    pub(crate) closed: Instant,
    /// Who is still here then is cut.
    pub(crate) until: Instant,
}

impl Order {
    fn new(reason: GoodbyeReason, clients: u64, period: Duration, now: Instant) -> Self {
        Self { reason, clients, closed: now + closes_over(clients, period), until: now + period }
    }
}

fn closes_over(clients: u64, period: Duration) -> Duration {
    let at_least = Duration::from_secs_f64(clients as f64 / CLOSES_A_SECOND_MIN);
    at_least.min(period - LAST_WORDS.min(period / LAST_WORDS_PART))
}

/// Begins the drain. Whoever has one may; the edge then ends by itself.
#[derive(Debug, Clone)]
pub(crate) struct Drain {
    order: watch::Sender<Option<Order>>,
    shards: Vec<Arc<ShardMetrics>>,
}

impl Drain {
    pub(crate) fn new(shards: Vec<Arc<ShardMetrics>>) -> Self {
        Self { order: watch::Sender::new(None), shards }
    }

    /// Says goodbye to everybody now; all are gone after `period` at most. A drain that is under way goes on, unless this
    /// one ends earlier. Returns what holds now.
    pub(crate) fn begin(&self, reason: GoodbyeReason, period: Duration) -> Order {
        let clients = self.shards.iter().map(|shard| shard.connections.sum()).sum();
        let order = Order::new(reason, clients, period, Instant::now());
        self.order.send_if_modified(|held| {
            let is_news = held.is_none_or(|held| order.until < held.until);
            if is_news {
                *held = Some(order);
            }
            is_news
        });
        let held = self.order.borrow();
        held.expect("there is one now")
    }

    /// The watch on it.
    pub(crate) fn draining(&self) -> Draining {
        Draining(self.order.subscribe())
    }
}

/// Whether the edge drains.
#[derive(Debug, Clone)]
pub(crate) struct Draining(watch::Receiver<Option<Order>>);

impl Draining {
    /// The order, if it drains.
    pub(crate) fn order(&self) -> Option<Order> {
        *self.0.borrow()
    }

    /// The next order that this watch has not seen. Cancel safe.
    pub(crate) async fn next(&mut self) -> Order {
        loop {
            if self.0.changed().await.is_err() {
                // Whoever could begin one is gone.
                return std::future::pending().await;
            }
            if let Some(order) = *self.0.borrow_and_update() {
                return order;
            }
        }
    }

    /// Resolves once it drains.
    pub(crate) async fn begun(&mut self) -> Order {
        match self.order() {
            Some(order) => order,
            None => self.next().await,
        }
    }
}

/// Held by each shard while it has clients. All of them end together, so that a port that they share goes on answering.
pub(crate) type Occupied = mpsc::Sender<Infallible>;

/// Resolves when no shard has clients any more.
#[derive(Debug)]
pub(crate) struct Emptied(mpsc::Receiver<Infallible>);

impl Emptied {
    pub(crate) fn new() -> (Occupied, Self) {
        let (occupied, emptied) = mpsc::channel(1);
        (occupied, Self(emptied))
    }

    pub(crate) async fn wait(&mut self) {
        match self.0.recv().await {
            None => {}
            Some(never) => match never {},
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trestle_hub::Protocol;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    proptest! {
        #[test]
        fn few_go_fast_and_all_have_gone_before_the_period_ends(clients in 0u64..1_000_000, period_ms in 1u64..600_000) {
            let period = Duration::from_millis(period_ms);
            let over = closes_over(clients, period);
            prop_assert!(over <= period && period - over >= (5 * SECOND).min(period / 4), "{over:?} of {period:?}");
            prop_assert!(over.as_secs_f64() <= clients as f64 / 100.0 + 1e-6);
            // No faster than that unless the period asks for it.
            let rate = clients as f64 / over.as_secs_f64();
            let is_pressed = period - over <= (5 * SECOND).min(period / 4);
            prop_assert!(clients == 0 || is_pressed || rate <= 100.1, "{rate}");
        }
    }

    #[test]
    fn a_second_order_holds_only_if_it_ends_earlier() {
        let shard = Arc::new(ShardMetrics::default());
        shard.connections.of(Protocol::Json).add(200);
        let drain = Drain::new(vec![Arc::default(), shard]);
        let draining = drain.draining();
        assert_eq!(draining.order(), None);
        let first = drain.begin(GoodbyeReason::Draining, 600 * SECOND);
        assert_eq!((first.clients, first.reason), (200, GoodbyeReason::Draining));
        assert_eq!(first.until - first.closed, 598 * SECOND);
        let held = drain.begin(GoodbyeReason::Restarting, 700 * SECOND);
        assert_eq!(held, first);
        let held = drain.begin(GoodbyeReason::Restarting, SECOND);
        assert_eq!((held.reason, held.until - held.closed), (GoodbyeReason::Restarting, SECOND / 4));
        assert_eq!(draining.order(), Some(held));
    }

    #[tokio::test]
    async fn it_is_empty_when_the_last_shard_is() {
        let (occupied, mut emptied) = Emptied::new();
        let other = occupied.clone();
        drop(occupied);
        let early = tokio::time::timeout(Duration::ZERO, emptied.wait()).await;
        assert!(early.is_err(), "one is left");
        drop(other);
        emptied.wait().await;
    }
}
