"""A forwarder and an edge as processes, fifty clients that are served all the time, and a look at both after each attack."""

import contextlib
import os
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import zmq

sys.path.insert(0, str(Path(__file__).parent.parent / "foreign"))

from crowd import Crowd  # noqa: E402
from processes import Edge, Forwarder  # noqa: E402
from wire import DEADLINE_S  # noqa: E402

# What may stay of an attack: the allocator's slack of an unoptimised build.
MEMORY_SLACK_BYTES = 32 << 20
FILES_SLACK = 4
# Of the well-behaved, on a machine that does other things as well.
SLOWEST_S = 10.0

EDGE = [
    *("--ping-interval", "1s", "--half-open-timeout", "4s", "--handshake-timeout", "3s"),
    *("--outbox-bytes-max", "1MiB", "--outboxes-bytes-max", "16MiB"),
    *("--connections-max", "1500", "--interest-max", "1000"),
]


class Site:
    """What is attacked: an edge with these flags more, whose well-behaved clients send these headers."""

    def __init__(self, *flags: str, **headers: str):
        self.forwarder = Forwarder("--record", "good/=4MiB", "--record", "flood/=8MiB")
        self.edge = Edge("--link", self.forwarder.link, "--recorder", f"http://{self.forwarder.grpc}", *EDGE, *flags)
        self.context = zmq.Context()
        self.publisher = self.context.socket(zmq.PUB)
        self.publisher.linger = 0
        self.publisher.connect(self.forwarder.frontend)
        self.address = self.edge.address
        own = self.context.socket(zmq.PUB)
        own.linger = 0
        own.connect(self.forwarder.frontend)
        self.crowd = Crowd(self.address, own, **headers)

    def metric(self, sample: str) -> int:
        with urllib.request.urlopen(f"http://{self.edge.private}/metrics", timeout=DEADLINE_S) as page:
            lines = page.read().decode().splitlines()
        return next(int(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"trestle_edge_{sample} "))

    def refused(self, cause: str) -> int:
        return self.metric(f'handshake_refusals_total{{cause="{cause}"}}')

    def closed(self, code: int) -> int:
        return self.metric(f'sessions_closed_total{{code="{code}"}}')

    def until(self, what: str, condition) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(0.05)

    def holds(self) -> list[tuple[str, int, int]]:
        """Each process, with its memory and its open files."""
        held = []
        for process in (self.forwarder, self.edge):
            proc = Path(f"/proc/{process._child.pid}")
            rss = next(line for line in (proc / "status").read_text().splitlines() if line.startswith("VmRSS:"))
            held.append((process.name, int(rss.split()[1]) << 10, len(os.listdir(proc / "fd"))))
        return held

    @contextlib.contextmanager
    def attacked(self):
        """What happens inside harms nobody, and nothing of it stays."""
        assert self.crowd.has_all() and not self.crowd.faults, self.crowd.faults[:5]
        self.crowd.slowest_s = 0.0
        before = self.holds()
        yield
        assert self.crowd.has_all() and not self.crowd.faults, self.crowd.faults[:5]
        assert self.crowd.slowest_s < SLOWEST_S, f"{self.crowd.slowest_s:.1f} s"

        def is_over() -> bool:
            limits = [(name, rss + MEMORY_SLACK_BYTES, files + FILES_SLACK) for name, rss, files in before]
            return all(now[1] <= most[1] and now[2] <= most[2] for now, most in zip(self.holds(), limits, strict=True))

        deadline = time.monotonic() + DEADLINE_S
        while not is_over():
            assert time.monotonic() < deadline, f"before: {before}, after: {self.holds()}"
            time.sleep(0.1)
        print(f"slowest {self.crowd.slowest_s * 1000:.0f} ms; before {before}, after {self.holds()}")

    def stop(self) -> None:
        self.crowd.stop()
        self.context.destroy(linger=0)
        self.edge.stop()
        self.forwarder.stop()


@pytest.fixture(scope="session")
def site():
    site = Site("--allow-publish", "chat/")
    yield site
    site.stop()
