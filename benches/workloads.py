"""The workloads, as calls of `trestle bench`, and which of its figures are kept."""

from dataclasses import dataclass

# A figure's name in the results, and where it stands in a run of `trestle bench --json` (crates/bench/src/report.rs).
FIGURES = {
    "deliveries_per_s": "delivery.deliveries_per_s",
    "cpu_us": "delivery.server_cpu_us_per_delivery",
    "user_us": "delivery.server_user_us_per_delivery",
    "server_cores": "delivery.server_cpu.cores",
    "p50_us": "delivery.latency.p50_us",
    "p99_us": "delivery.latency.p99_us",
    "p999_us": "delivery.latency.p999_us",
    "last_p50_us": "delivery.last_client.p50_us",
    "last_p99_us": "delivery.last_client.p99_us",
    "published": "delivery.published",
    "lost": "delivery.lost",
    "disconnected": "delivery.disconnected",
    "wire_bytes": "delivery.wire_bytes_per_delivery",
    "segments": "delivery.tcp_segments_per_delivery",
    "frames_per_read": "delivery.frames_per_read",
    "clients": "connect.ready",
    "failed": "connect.failed",
    "handshakes_per_s": "connect.handshakes_per_s",
    "handshake_cpu_us": "connect.server_cpu_us_per_handshake",
    "handshake_p99_us": "connect.handshake.p99_us",
    "rss_kib": "memory.rss_kib_per_connection",
    "rss_before_kib": "memory.rss_before_kib",
    "rss_end_kib": "memory.rss_end_kib",
    "rss_peak_kib": "memory.rss_peak_kib",
    "client_cpu_us": "client.cpu_us_per_delivery",
    "client_share": "client.core_share",
    "client_limited": "client.limited",
    "steal": "steal_share",
}


@dataclass
class Workload:
    """One call; `quick` is what a smoke run calls instead."""

    title: str
    call: list[str]
    quick: list[str]
    publishes: bool = True

    @property
    def clients(self) -> int:
        return int(self.call[self.call.index("--clients") + 1])


WORKLOADS = {
    "fanout": Workload(
        "1,000 clients, one topic, as fast as they receive: 64 messages in flight, none lost",
        ["fanout", "--clients", "1000", "--in-flight", "64", "--seconds", "2", "--settle", "0.5"],
        ["fanout", "--clients", "200", "--in-flight", "64", "--seconds", "0.5", "--settle", "0.2"],
    ),
    "latency": Workload(
        "1,000 clients, one topic, 50 messages a second",
        ["latency", "--clients", "1000", "--rate", "50", "--seconds", "3", "--settle", "0.5", "--spin"],
        ["latency", "--clients", "200", "--rate", "50", "--seconds", "0.5", "--settle", "0.2", "--spin"],
    ),
    "large": Workload(
        "10,000 clients, one topic, 10 messages a second",
        ["latency", "--clients", "10000", "--rate", "10", "--seconds", "3", "--warm-up", "3", "--spin"],
        ["latency", "--clients", "2000", "--rate", "10", "--seconds", "0.5", "--warm-up", "3", "--settle", "0.2", "--spin"],
    ),
    "topics": Workload(
        "1,000 clients, a topic each, as fast as they receive: 1,000 messages in flight, none lost",
        ["topics", "--clients", "1000", "--in-flight", "1000", "--seconds", "2", "--settle", "0.5"],
        ["topics", "--clients", "200", "--in-flight", "200", "--seconds", "0.5", "--settle", "0.2"],
    ),
    "idle": Workload(
        "10,000 clients that get nothing",
        ["idle", "--clients", "10000", "--seconds", "1"],
        ["idle", "--clients", "1000", "--seconds", "0.3", "--settle", "0.2"],
        publishes=False,
    ),
    "storm": Workload(
        "10,000 clients come at once and leave at once, twice",
        ["storm", "--clients", "10000", "--rounds", "2"],
        ["storm", "--clients", "1000", "--rounds", "2", "--settle", "0.2"],
        publishes=False,
    ),
}


def kept(run: dict) -> dict:
    """A run's figures by our names; without those it did not measure."""
    figures = {}
    for name, path in FIGURES.items():
        value = run
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            figures[name] = value
    rounds = run.get("rounds") or []
    if rounds and rounds[-1]["rss_after_kib"] is not None:
        figures["rss_after_kib"] = rounds[-1]["rss_after_kib"]
        # Whether memory grows with each storm.
        figures["rss_after_first_kib"] = rounds[0]["rss_after_kib"]
    left = [one["left_s"] for one in rounds if one["left_s"] is not None]
    if left:
        figures["left_s"] = max(left)
    return figures
