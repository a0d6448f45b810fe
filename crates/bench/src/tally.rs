//! What arrived: each message counted once for each client, exactly.
//!
//! Numbers are handed out by one publisher in the order of publishing. A [`Layout`] says which of them are for whom;
//! [`Order`] follows one client, [`Tally`] all of them.

use std::ops::Range;

use hdrhistogram::Histogram;

use crate::marker::Mark;
use crate::report::Latency;

/// Latencies beyond this are recorded as this, ns: ten minutes.
const LATENCY_MAX_NS: u64 = 600_000_000_000;

/// Which messages are for which client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Every message is for every client. Message `n` came through publisher `n` modulo `publishers`; only what one
    /// publisher sends has an order.
    Everyone {
        /// Clients.
        clients: u32,
        /// Publishers, at least one.
        publishers: u32,
    },
    /// Message `n` is for client `n` modulo `clients` alone.
    OneEach {
        /// Clients.
        clients: u32,
    },
}

impl Layout {
    fn clients(self) -> u32 {
        match self {
            Self::Everyone { clients, .. } | Self::OneEach { clients } => clients,
        }
    }

    /// How many clients a message is for.
    pub fn fan(self) -> u32 {
        match self {
            Self::Everyone { clients, .. } => clients,
            Self::OneEach { .. } => 1,
        }
    }

    /// Sequences that one client follows.
    fn streams(self) -> u32 {
        match self {
            Self::Everyone { publishers, .. } => publishers,
            Self::OneEach { .. } => 1,
        }
    }

    /// Where message `seq` stands for `client`: which of its streams, and its number in there; `None` if it is not for
    /// this client.
    fn place(self, client: u32, seq: u32) -> Option<(u32, u32)> {
        match self {
            Self::Everyone { publishers: 1, .. } => Some((0, seq)),
            Self::Everyone { publishers, .. } => Some((seq % publishers, seq / publishers)),
            Self::OneEach { clients } => (seq % clients == client).then(|| (0, seq / clients)),
        }
    }

    /// How many of the first `published` messages belong to stream `stream` of `client`.
    fn length(self, client: u32, stream: u32, published: u32) -> u32 {
        let (nth, of) = match self {
            Self::Everyone { publishers, .. } => (stream, publishers),
            Self::OneEach { clients } => (client, clients),
        };
        published / of + u32::from(published % of > nth)
    }
}

/// One sequence as one client sees it: numbers from 0, each to come once, in order.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// One more than the highest number that came.
    next: u32,
    /// What is missing below it, ascending. As many ranges as there are holes; none in a good run.
    holes: Vec<Range<u32>>,
}

/// How a number came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Behind all that came before.
    InOrder,
    /// For the first time, after a higher one.
    Late,
    /// Once more.
    Again,
}

impl Order {
    /// `number` has come.
    pub fn arrive(&mut self, number: u32) -> Arrival {
        if number == self.next {
            self.next += 1;
            return Arrival::InOrder;
        }
        if number > self.next {
            self.holes.push(self.next..number);
            self.next = number + 1;
            return Arrival::InOrder;
        }
        self.fill(number)
    }

    fn fill(&mut self, number: u32) -> Arrival {
        let nth = self.holes.partition_point(|hole| hole.end <= number);
        let Some(hole) = self.holes.get_mut(nth).filter(|hole| hole.start <= number) else {
            return Arrival::Again;
        };
        let (before, behind) = (hole.start..number, number + 1..hole.end);
        match (before.is_empty(), behind.is_empty()) {
            (true, true) => drop(self.holes.remove(nth)),
            (true, false) => *hole = behind,
            (false, true) => *hole = before,
            (false, false) => {
                *hole = before;
                self.holes.insert(nth + 1, behind);
            }
        }
        Arrival::Late
    }

    /// How many of the first `length` numbers have not come.
    pub fn missing(&self, length: u32) -> u64 {
        let holes: u64 =
            self.holes.iter().map(|hole| u64::from(hole.end.min(length).saturating_sub(hole.start))).sum();
        holes + u64::from(length.saturating_sub(self.next))
    }
}

/// All clients' deliveries in one run.
#[derive(Debug)]
pub struct Tally {
    layout: Layout,
    orders: Vec<Order>,
    /// Deliveries of each message.
    counts: Vec<u32>,
    /// Messages that reached everyone they were for.
    pub complete: u64,
    /// Deliveries, each message once a client.
    pub delivered: u64,
    /// Deliveries of what a client had got already.
    pub duplicated: u64,
    /// Deliveries after a later message.
    pub out_of_order: u64,
    /// Deliveries to a client that the message was not for.
    pub misrouted: u64,
    /// Marks with something else than digits, or with a number that was never published.
    pub corrupted: u64,
    /// When the last delivery came, ns.
    pub last_ns: u64,
    latency: Histogram<u64>,
    last_client: Histogram<u64>,
}

impl Tally {
    /// Nothing has arrived; about `messages` will.
    pub fn new(layout: Layout, messages: usize) -> Self {
        let orders = layout.clients() as usize * layout.streams() as usize;
        Self {
            layout,
            orders: vec![Order::default(); orders],
            counts: Vec::with_capacity(messages),
            complete: 0,
            delivered: 0,
            duplicated: 0,
            out_of_order: 0,
            misrouted: 0,
            corrupted: 0,
            last_ns: 0,
            latency: histogram(),
            last_client: histogram(),
        }
    }

    /// A mark has reached `client` at `now_ns`, when `published` messages had been published.
    pub fn deliver(&mut self, client: u32, mark: Mark, now_ns: u64, published: u64) {
        if u64::from(mark.seq) >= published {
            self.corrupted += 1;
            return;
        }
        let Some((stream, number)) = self.layout.place(client, mark.seq) else {
            self.misrouted += 1;
            return;
        };
        let order = &mut self.orders[client as usize * self.layout.streams() as usize + stream as usize];
        match order.arrive(number) {
            Arrival::InOrder => {}
            Arrival::Late => self.out_of_order += 1,
            Arrival::Again => {
                self.duplicated += 1;
                return;
            }
        }
        self.delivered += 1;
        self.last_ns = now_ns;
        let latency_ns = now_ns.saturating_sub(mark.time_ns).clamp(1, LATENCY_MAX_NS);
        self.latency.saturating_record(latency_ns);
        let seq = mark.seq as usize;
        if seq >= self.counts.len() {
            self.counts.resize(seq + 1, 0);
        }
        self.counts[seq] += 1;
        if self.counts[seq] == self.layout.fan() {
            self.complete += 1;
            self.last_client.saturating_record(latency_ns);
        }
    }

    /// Deliveries that `published` messages should have brought.
    pub fn expected(&self, published: u64) -> u64 {
        published * u64::from(self.layout.fan())
    }

    /// Deliveries that did not come, counted client by client.
    pub fn lost(&self, published: u64) -> u64 {
        let published = u32::try_from(published).expect("numbers have 8 digits");
        let streams = self.layout.streams();
        (0..self.layout.clients())
            .flat_map(|client| (0..streams).map(move |stream| (client, stream)))
            .zip(&self.orders)
            .map(|((client, stream), order)| order.missing(self.layout.length(client, stream, published)))
            .sum()
    }

    /// Latency of every delivery.
    pub fn latency(&self) -> Latency {
        quantiles(&self.latency)
    }

    /// Latency of the last delivery of each complete message.
    pub fn last_client(&self) -> Latency {
        quantiles(&self.last_client)
    }
}

/// A histogram of nanoseconds with three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, LATENCY_MAX_NS, 3).expect("1000 and 3 are fine")
}

/// Quantiles of a histogram of nanoseconds.
pub fn quantiles(histogram: &Histogram<u64>) -> Latency {
    let us = |ns: u64| if histogram.is_empty() { 0.0 } else { ns as f64 / 1_000.0 };
    let at = |quantile: f64| us(histogram.value_at_quantile(quantile));
    Latency {
        count: histogram.len(),
        mean_us: if histogram.is_empty() { 0.0 } else { histogram.mean() / 1_000.0 },
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: us(histogram.max()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_order_agrees_with_a_set(numbers in prop::collection::vec(0..40u32, 0..120), length in 0..50u32) {
            let (mut order, mut seen) = (Order::default(), BTreeSet::new());
            for number in numbers {
                let expected = match (seen.contains(&number), seen.last()) {
                    (true, _) => Arrival::Again,
                    (false, Some(&highest)) if highest > number => Arrival::Late,
                    (false, _) => Arrival::InOrder,
                };
                prop_assert_eq!(order.arrive(number), expected);
                seen.insert(number);
            }
            let missing = (0..length).filter(|number| !seen.contains(number)).count();
            prop_assert_eq!(order.missing(length), missing as u64);
        }

        /// Whatever happens to each delivery, the sums are those of a naive list.
        #[test]
        fn a_tally_agrees_with_a_list(
            publishers in 1..4u32, clients in 1..5u32, own: bool, published in 1..30u32,
            arrivals in prop::collection::vec((0..5u32, 0..40u32), 0..300),
        ) {
            let layout = if own { Layout::OneEach { clients } } else { Layout::Everyone { clients, publishers } };
            let streams = if own { clients } else { publishers };
            let mut tally = Tally::new(layout, 0);
            let mut seen: Vec<(u32, u32)> = Vec::new();
            let (mut again, mut late, mut stray, mut unknown) = (0, 0, 0, 0);
            for (client, seq) in arrivals.into_iter().map(|(client, seq)| (client % clients, seq)) {
                tally.deliver(client, Mark { seq, time_ns: 5 }, 10, published.into());
                if seq >= published { unknown += 1; continue }
                if own && seq % clients != client { stray += 1; continue }
                if seen.contains(&(client, seq)) { again += 1; continue }
                late += u64::from(seen.iter().any(|&(other, before)| other == client && before > seq && before % streams == seq % streams));
                seen.push((client, seq));
            }
            let fan = if own { 1 } else { clients };
            let whole = (0..published).filter(|&seq| seen.iter().filter(|&&(_, other)| other == seq).count() == fan as usize);
            prop_assert_eq!(tally.complete, whole.count() as u64);
            prop_assert_eq!(tally.delivered, seen.len() as u64);
            prop_assert_eq!((tally.duplicated, tally.out_of_order, tally.misrouted, tally.corrupted), (again, late, stray, unknown));
            prop_assert_eq!(tally.lost(published.into()), tally.expected(published.into()) - tally.delivered);
        }

        #[test]
        fn quantiles_are_those_of_the_sorted_list(mut values in prop::collection::vec(1_000..1_000_000_000u64, 1..500)) {
            let mut histogram = histogram();
            values.iter().for_each(|&value| histogram.saturating_record(value));
            values.sort_unstable();
            let exact = |quantile: f64| {
                let rank = (quantile * values.len() as f64).ceil() as usize;
                values[rank.clamp(1, values.len()) - 1] as f64 / 1_000.0
            };
            let found = quantiles(&histogram);
            for (found, quantile) in [(found.p50_us, 0.5), (found.p90_us, 0.9), (found.p99_us, 0.99), (found.p999_us, 0.999), (found.max_us, 1.0)] {
                let exact = exact(quantile);
                prop_assert!((found - exact).abs() <= exact * 0.002, "{quantile}: {found} {exact}");
            }
        }
    }

    #[test]
    fn the_last_client_makes_a_message_complete() {
        let mut tally = Tally::new(Layout::Everyone { clients: 2, publishers: 1 }, 1);
        tally.deliver(0, Mark { seq: 0, time_ns: 1_000_000 }, 3_000_000, 1);
        assert_eq!((tally.complete, tally.last_client().count), (0, 0));
        tally.deliver(1, Mark { seq: 0, time_ns: 1_000_000 }, 9_000_000, 1);
        assert_eq!((tally.complete, tally.last_client().count), (1, 1));
        assert!((tally.last_client().max_us - 8_000.0).abs() < 10.0);
    }
}
