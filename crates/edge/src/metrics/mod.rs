//! What `/metrics` shows of the edge.

mod label;
mod page;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use trestle_hub::decode::Decoders;
use trestle_hub::encode::LostCause;
use trestle_hub::ws::CloseCode;
use trestle_hub::{ErrorCode, Protocol};
use trestle_recorder::Log;

use crate::ingest::Upstream;
use crate::publish::Outcomes;
use crate::tally::Tally;
use crate::tokens::{Failures, Known};
pub use label::{DropCause, Label, Refusal, Tallies};
use page::{Labels, Page, by};

/// A shard's numbers. The shard alone writes them, wherever it has them anyway; `/metrics` reads.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    /// WebSockets and event streams open now.
    pub connections: Tallies<Protocol>,
    /// Subscriptions of all sessions now.
    pub subscriptions: Tally,
    /// Bytes that wait in outboxes now.
    pub outbox_bytes: Tally,
    /// Messages from clients.
    pub received_messages: Tally,
    /// Bytes from clients after the upgrade.
    pub received_bytes: Tally,
    /// Messages given to sockets, one for each client that got it.
    pub deliveries: Tally,
    /// Bytes written to sockets after the upgrade.
    pub sent_bytes: Tally,
    /// System calls that wrote them.
    pub writes: Tally,
    /// Messages that sessions wanted and did not get.
    pub drops: Tallies<DropCause>,
    /// Times that a client was told what it has lost.
    pub told_lost: Tallies<LostCause>,
    /// Messages that a newer one of their topic replaced.
    pub conflated: Tally,
    /// Connections and requests that were refused.
    pub refusals: Tallies<Refusal>,
    /// Times that accepting paused for want of open files or memory.
    pub accept_pauses: Tally,
    /// Commands that were refused.
    pub refused: Tallies<ErrorCode>,
    /// Sessions closed because too much waited for all of them together.
    pub outboxes_closed: Tally,
    /// WebSockets that ended, by the close code that the edge sent or answered.
    pub closed: Tallies<Option<CloseCode>>,
}

/// A registry that reads everything anew at each scrape.
pub(crate) fn registry(
    shards: Vec<Arc<ShardMetrics>>,
    upstream: Arc<Upstream>,
    log: Arc<Log>,
    decoders: Arc<Decoders>,
    publications: Arc<Outcomes>,
    (tokens, keys): (Arc<Failures>, Arc<Known>),
    grpc_refused: &Counter,
) -> Registry {
    let mut registry = Registry::with_prefix("trestle_edge");
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The running build", build);
    let help = "gRPC calls refused because the link token was missing or wrong";
    registry.register("grpc_unauthenticated", help, grpc_refused.clone());
    registry.register_collector(Box::new(Edge {
        shards,
        upstream,
        log,
        decoders,
        publications,
        tokens,
        keys,
    }));
    registry
}

#[derive(Debug)]
struct Edge {
    shards: Vec<Arc<ShardMetrics>>,
    upstream: Arc<Upstream>,
    log: Arc<Log>,
    decoders: Arc<Decoders>,
    publications: Arc<Outcomes>,
    tokens: Arc<Failures>,
    keys: Arc<Known>,
}

impl Collector for Edge {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut page = Page(encoder);
        self.sessions(&mut page)?;
        self.tokens(&mut page)?;
        self.deliveries(&mut page)?;
        self.told(&mut page)?;
        self.publications(&mut page)?;
        self.bodies(&mut page)?;
        self.upstream(&mut page)
    }
}

impl Edge {
    fn sum(&self, of: impl Fn(&ShardMetrics) -> &Tally) -> u64 {
        self.shards.iter().map(|shard| of(shard).value()).sum()
    }

    fn sums<L: Label>(&self, name: &str, of: impl Fn(&ShardMetrics) -> &Tallies<L>) -> Vec<(Labels, u64)> {
        let sum = |label: L| self.shards.iter().map(|shard| of(shard).of(label).value()).sum();
        L::ALL.iter().map(|label| (vec![(name.to_owned(), label.text())], sum(*label))).collect()
    }

    fn tokens(&self, page: &mut Page<'_>) -> fmt::Result {
        let help = "Tokens that did not count, and requests that needed one and had none";
        page.counters("auth_failures", help, &by("cause", self.tokens.each()))?;
        page.gauge("auth_keys", "Keys that verify tokens", self.keys.n_keys())?;
        let help = "Times that a file or URL of keys was read again, or could not be";
        page.counters("auth_key_refreshes", help, &by("outcome", self.keys.refreshes()))
    }

    fn sessions(&self, page: &mut Page<'_>) -> fmt::Result {
        let connections = self.sums("protocol", |shard| &shard.connections);
        page.gauges("connections", "WebSockets and event streams open now", &connections)?;
        let subscriptions = self.sum(|shard| &shard.subscriptions);
        page.gauge("subscriptions", "Subscriptions of all sessions now", subscriptions)?;
        let refusals = self.sums("cause", |shard| &shard.refusals);
        page.counters(
            "handshake_refusals",
            "Connections, and requests for a WebSocket or an event stream, that were refused",
            &refusals,
        )?;
        let pauses = self.sum(|shard| &shard.accept_pauses);
        page.counter(
            "accept_pauses",
            "Times that accepting paused for want of open files or memory",
            pauses,
        )?;
        let refused = self.sums("code", |shard| &shard.refused);
        page.counters(
            "commands_refused",
            "What clients said and were refused, by the error's code",
            &refused,
        )?;
        let full = self.sum(|shard| &shard.outboxes_closed);
        let help = "WebSockets closed because too much waited for all clients together";
        page.counter("outboxes_closed", help, full)?;
        let closed = self.sums("code", |shard| &shard.closed);
        page.counters("sessions_closed", "WebSockets that ended; 1006 is a connection that broke", &closed)
    }

    fn deliveries(&self, page: &mut Page<'_>) -> fmt::Result {
        let received = self.sum(|shard| &shard.received_messages);
        page.counter("received_messages", "Messages from clients", received)?;
        let bytes = self.sum(|shard| &shard.received_bytes);
        page.counter("received_bytes", "Bytes from clients after the upgrade", bytes)?;
        let deliveries = self.sum(|shard| &shard.deliveries);
        page.counter("deliveries", "Messages given to clients' sockets, once for each client", deliveries)?;
        let bytes = self.sum(|shard| &shard.sent_bytes);
        page.counter("sent_bytes", "Bytes written to clients after the upgrade", bytes)?;
        page.counter("socket_writes", "System calls that wrote them", self.sum(|shard| &shard.writes))?;
        let waiting = self.sum(|shard| &shard.outbox_bytes);
        page.gauge("outbox_bytes", "Bytes that wait for clients now", waiting)?;
        page.gauge("log_bytes", "Memory that the newest messages take", self.log.bytes() as u64)?;
        let conflated = self.sum(|shard| &shard.conflated);
        page.counter(
            "conflated_messages",
            "Messages replaced by a newer one before they were sent",
            conflated,
        )?;
        page.counters(
            "dropped_messages",
            "Messages that were wanted and not delivered, by where and why: on the link once for all clients, at the \
             session once for each",
            &self.drops(),
        )
    }

    fn publications(&self, page: &mut Page<'_>) -> fmt::Result {
        let help = "What clients published, by outcome: published, or the error";
        page.counters("publications", help, &by("outcome", self.publications.each()))
    }

    fn bodies(&self, page: &mut Page<'_>) -> fmt::Result {
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let decoded: Vec<_> =
            self.decoders.decoded().map(|(body, n)| (vec![label("body", body)], n)).collect();
        page.counters("decoded_bodies", "Bodies decoded, once for all clients, by what they are", &decoded)?;
        let undecoded: Vec<_> = self
            .decoders
            .undecoded()
            .map(|(body, cause, n)| (vec![label("body", body), label("cause", cause.name())], n))
            .collect();
        let help = "Bodies that did not decode and went out as they came, by what they should be and why";
        page.counters("undecoded_bodies", help, &undecoded)
    }

    fn told(&self, page: &mut Page<'_>) -> fmt::Result {
        let told = self.sums("cause", |shard| &shard.told_lost);
        page.counters("lost_notices", "Times that a client was told what it has lost, by why", &told)
    }

    fn drops(&self) -> Vec<(Labels, u64)> {
        let upstream = &self.upstream;
        let at = |hop: &str, cause: &str| vec![("hop".into(), hop.into()), ("cause".into(), cause.into())];
        let mut drops = vec![
            (at("publisher", "sequence_gap"), upstream.unsent.value()),
            (at("link", "hole"), upstream.missing.value()),
            (at("ingest", "malformed"), upstream.malformed.value()),
            (at("ingest", "too_large"), upstream.too_large.value()),
            (at("ingest", "reserved"), upstream.reserved.value()),
        ];
        for cause in DropCause::ALL {
            let sum = self.shards.iter().map(|shard| shard.drops.of(*cause).value()).sum();
            drops.push((at("session", &cause.text()), sum));
        }
        drops
    }

    fn upstream(&self, page: &mut Page<'_>) -> fmt::Result {
        let upstream = &self.upstream;
        page.gauge("upstream_ready", "1 once what upstream keeps is here", upstream.is_ready().into())?;
        page.gauge("upstream_stale", "1 while the upstream is silent", upstream.is_stale().into())?;
        page.gauge("upstream_connections", "Upstream connections now", upstream.standing.value())?;
        page.gauge("upstream_prefixes", "Prefixes subscribed upward now", upstream.prefixes.value())?;
        let help = "Prefixes wanted now that come by a shorter one, because there are too many";
        page.gauge("upstream_prefixes_joined", help, upstream.prefixes_joined.value())?;
        page.gauge("upstream_head", "The newest offset followed", upstream.head.value())?;
        page.counter("upstream_messages", "Messages taken in", upstream.messages.value())?;
        page.counter("upstream_bytes", "Bytes of their frames", upstream.bytes.value())?;
        page.counter(
            "upstream_holes",
            "Places where messages were missing on the link",
            upstream.holes.value(),
        )?;
        let help =
            "Parts of the sequence that never came, on the link or by a replay; clients are told of each";
        page.counter("upstream_gaps", help, upstream.gaps.value())?;
        let repaired = upstream.repaired.value();
        page.counter(
            "upstream_repaired_messages",
            "Messages that the link lost and a replay brought",
            repaired,
        )?;
        let cloned = upstream.cloned.value();
        page.counter(
            "upstream_cloned_messages",
            "Messages from before this edge that a replay brought",
            cloned,
        )?;
        page.counter("upstream_replays", "Replays asked of the recorder", upstream.replays.value())?;
        let foreign = upstream.foreign.value();
        page.counter("upstream_foreign_messages", "Messages of a second forwarder, not heard", foreign)?;
        page.counter("upstream_epoch_changes", "Changes of epoch", upstream.epoch_changes.value())?;
        page.counter("upstream_connects", "Upstream connections made", upstream.connects.value())?;
        page.counter("upstream_disconnects", "Upstream connections lost", upstream.disconnects.value())?;
        page.counter("upstream_cuts", "Upstream connections cut for what they sent", upstream.cuts.value())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use trestle_messages::v1::Stamp;
    use trestle_recorder::SegmentBuilder;

    use super::*;

    pub(crate) fn page() -> String {
        let shards: [Arc<ShardMetrics>; 2] = Default::default();
        let (upstream, log) = (Arc::new(Upstream::default()), Arc::new(Log::new(1_000)));
        for (n, shard) in (1..).zip(&shards) {
            shard.connections.of(Protocol::Json).add(n);
            shard.drops.of(DropCause::SlowConsumer).add(10 * n);
            shard.closed.of(None).add(1);
            shard.closed.of(Some(CloseCode::SlowConsumer)).add(n);
            shard.refusals.of(Refusal::Subprotocol).add(n);
            shard.deliveries.add(100 * n);
        }
        upstream.missing.add(7);
        let mut batch = SegmentBuilder::default();
        batch.push([&b"topic"[..]], Stamp::default());
        log.append(&mut batch);
        let mut page = String::new();
        let tokens = (Arc::default(), Arc::new(Known::new(true)));
        let registry = registry(
            shards.to_vec(),
            upstream,
            log,
            Arc::default(),
            Arc::default(),
            tokens,
            &Counter::default(),
        );
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        page
    }

    #[test]
    fn shards_are_summed() {
        let page = page();
        for line in [
            "trestle_edge_connections{protocol=\"trestle.v1.json\"} 3",
            "trestle_edge_connections{protocol=\"rust-websocket\"} 0",
            "trestle_edge_dropped_messages_total{hop=\"session\",cause=\"slow_consumer\"} 30",
            "trestle_edge_dropped_messages_total{hop=\"link\",cause=\"hole\"} 7",
            "trestle_edge_sessions_closed_total{code=\"1006\"} 2",
            "trestle_edge_sessions_closed_total{code=\"4008\"} 3",
            "trestle_edge_handshake_refusals_total{cause=\"subprotocol\"} 3",
            "trestle_edge_deliveries_total 300",
            "trestle_edge_decoded_bodies_total{body=\"json\"} 0",
            "trestle_edge_undecoded_bodies_total{body=\"event\",cause=\"malformed\"} 0",
            "trestle_edge_upstream_ready 0",
            concat!("trestle_edge_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(page.lines().any(|other| other == line), "{line} is not in\n{page}");
        }
        let log = page.lines().find_map(|line| line.strip_prefix("trestle_edge_log_bytes ")).unwrap();
        assert!(log.parse::<u64>().unwrap() > 5);
    }

    #[test]
    fn every_metric_has_a_help_and_the_prefix() {
        let page = page();
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        let helped = page.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next());
        let helped: Vec<_> = helped.collect();
        for sample in samples {
            let name = sample.split(['{', ' ']).next().unwrap();
            let family = name.strip_suffix("_total").or(name.strip_suffix("_info")).unwrap_or(name);
            assert!(name.starts_with("trestle_edge_") && helped.contains(&family), "{name}");
        }
    }
}
