"""CURVE with keys of our own making and of pyzmq's: who has them gets through, who does not is refused and counted."""

import os
import re
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import zmq
import zmq.auth

from peers import PROBE, PROBE_LOOK_S, Client, Publisher, Subscriber, receive, settle
from processes import DEADLINE_S, LOOK_S, Edge, Forwarder

# A refused peer comes again when its handshake has lasted ten seconds.
COMES_AGAIN_S = 60.0


@pytest.fixture
def keys(tmp_path):
    """The folder of keys that `trestle keys` and pyzmq have made: forwarder and edge by the one, publisher by the other."""
    trestle = Path(os.environ["TRESTLE_BIN_DIR"]) / "trestle"
    subprocess.run([trestle, "keys", "--dir", tmp_path, "forwarder", "edge"], check=True, capture_output=True)
    zmq.auth.create_certificates(tmp_path, "publisher")
    (tmp_path / "publisher.key_secret").chmod(0o600)
    (tmp_path / "allowed").mkdir()
    return tmp_path


def allow(keys: Path, *names: str) -> None:
    for name in names:
        (keys / "allowed" / f"{name}.key").write_bytes((keys / f"{name}.key").read_bytes())


def start(keys: Path) -> Forwarder:
    return Forwarder("--curve-secret-key", str(keys / "forwarder.key_secret"), "--curve-allow", str(keys / "allowed"))


class CurveContext:
    """Sockets of a foreign program with its keys, which knows the server's."""

    def __init__(self, context: zmq.Context, keys: Path, name: str, server: str = "forwarder"):
        self._context = context
        self._own = zmq.auth.load_certificate(keys / f"{name}.key_secret")
        self._server, _ = zmq.auth.load_certificate(keys / f"{server}.key")

    def socket(self, kind: int) -> zmq.Socket:
        socket = self._context.socket(kind)
        socket.curve_publickey, socket.curve_secretkey = self._own
        socket.curve_serverkey = self._server
        return socket


# A plain peer is refused for what it says, or goes when it reads that CURVE is spoken here, whichever comes first.
PLAIN = "(not_curve|hung_up)"


def refused(forwarder: Forwarder, port: str, cause: str) -> None:
    """Waits until at least one is counted."""
    address = forwarder.logged(r"/metrics, /healthz and /readyz on http://(\S+)")
    wanted = re.compile(rf'^trestle_forwarder_curve_refused_total{{port="{port}",cause="{cause}"}} [1-9]', re.MULTILINE)
    deadline = time.monotonic() + DEADLINE_S
    while True:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=DEADLINE_S) as answer:
            page = answer.read().decode()
        if wanted.search(page):
            return
        assert time.monotonic() < deadline, page
        time.sleep(LOOK_S)


def test_a_foreign_publisher_reaches_a_browser_over_encrypted_links(context, using, keys):
    allow(keys, "edge", "publisher")
    forwarder = using(start(keys))
    link = f"{forwarder.link},curve-file={keys / 'forwarder.key'}"
    edge = using(Edge("--link", link, "--recorder", f"http://{forwarder.grpc}", "--curve-secret-key", str(keys / "edge.key_secret")))
    publisher = using(Publisher(CurveContext(context, keys, "publisher"), forwarder.frontend))
    browser = using(Client(edge.address, b"jobs/", PROBE[0]))
    subscriber = using(Subscriber(CurveContext(context, keys, "publisher"), forwarder.backend, b""))
    settle(publisher, browser, subscriber)
    publisher.send([b"jobs/1", b'{"encrypted":true}'])
    assert receive(browser, 1)[0]["data"] == {"encrypted": True}
    assert receive(subscriber, 1) == [[b"jobs/1", b'{"encrypted":true}']]


def test_an_unknown_key_is_let_in_when_it_comes_onto_the_list(context, using, keys):
    forwarder = using(start(keys))
    publisher = using(Publisher(CurveContext(context, keys, "publisher"), forwarder.frontend))
    refused(forwarder, "frontend", "key_not_allowed")
    public, _ = zmq.auth.load_certificate(keys / "publisher.key")
    forwarder.logged(rf"(refused 127\.0\.0\.1 with the public key {re.escape(public.decode())})")
    allow(keys, "edge", "publisher")
    subscriber = using(Subscriber(CurveContext(context, keys, "edge"), forwarder.backend, b""))
    deadline = time.monotonic() + COMES_AGAIN_S
    while (message := subscriber.next(PROBE_LOOK_S)) is None:
        assert time.monotonic() < deadline, "it does not come again"
        publisher.send(PROBE)
    assert message == PROBE


def test_plain_peers_and_such_as_know_another_server_are_refused(context, using, keys):
    allow(keys, "edge", "publisher")
    forwarder = using(start(keys))
    using(Publisher(context, forwarder.frontend))
    using(Subscriber(context, forwarder.backend, b""))
    using(Publisher(CurveContext(context, keys, "publisher", server="edge"), forwarder.frontend))
    for port, cause in (("frontend", PLAIN), ("backend", PLAIN), ("frontend", "wrong_server_key")):
        refused(forwarder, port, cause)


def test_an_edge_takes_a_source_by_its_key_alone(context, using, keys):
    publisher = context.socket(zmq.XPUB)
    publisher.set(zmq.LINGER, 0)
    using(publisher)
    publisher.curve_server = True
    _, publisher.curve_secretkey = zmq.auth.load_certificate(keys / "publisher.key_secret")
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    public, _ = zmq.auth.load_certificate(keys / "publisher.key")
    edge = using(Edge("--source", f"tcp://127.0.0.1:{port},curve={public.decode()}"))
    browser = using(Client(edge.address, b"jobs/"))
    assert publisher.poll(DEADLINE_S * 1000) and publisher.recv() == b"\x01"
    publisher.send_multipart([b"jobs/1", b"[1]"])
    assert receive(browser, 1)[0]["data"] == [1]

    misled = using(Edge("--source", f"tcp://127.0.0.1:{port},curve-file={keys / 'edge.key'}"))
    misled.logged(r"(not connected: it ended the connection during the ØMQ handshake)")
