"""Clients of ZWS 2.0 that are not ours, jszmq and libzmq's own ws://: they get what a ØMQ subscriber gets, and a ØMQ
subscriber gets what they send, byte for byte."""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import queue
import subprocess
import threading
import time
import urllib.request

import pytest

import messages
from peers import PROBE, Publisher, Subscriber, receive, settle
from processes import DEADLINE_S, LOOK_S, Edge, Forwarder

HERE = pathlib.Path(__file__).parent / "zws"
LIBRARIES = ["jszmq", "libzmq"]


class ZwsSubscriber:
    """A SUB in Node: gives each message's frames."""

    def __init__(self, library: str, address: str, *prefixes: bytes, token: str = ""):
        command = ["node", "subscribe.js", library, f"ws://{address}/ws", *(prefix.hex() for prefix in prefixes)]
        env = os.environ | {"TOKEN": token}
        self._process = subprocess.Popen(command, cwd=HERE, env=env, stdout=subprocess.PIPE)
        self._messages = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._messages.put([bytes.fromhex(frame) for frame in json.loads(line)])

    def next(self, timeout_s: float) -> list[bytes] | None:
        try:
            return self._messages.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def is_probe(self, frames: list[bytes]) -> bool:
        return frames == PROBE

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


class ZwsPublisher:
    """A PUB in Node."""

    def __init__(self, library: str, address: str, token: str = ""):
        command = ["node", "publish.js", library, f"ws://{address}/pub"]
        env = os.environ | {"TOKEN": token}
        self._process = subprocess.Popen(command, cwd=HERE, env=env, stdin=subprocess.PIPE)

    def send(self, *sent: list[bytes]) -> None:
        for frames in sent:
            line = json.dumps([frame.hex() for frame in frames])
            self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_frame_arrives(context, using, library):
    forwarder = using(Forwarder())
    edge = using(Edge("--link", forwarder.link, "--recorder", f"http://{forwarder.grpc}"))
    publisher = using(Publisher(context, forwarder.frontend))
    subscriber = using(ZwsSubscriber(library, edge.address, b""))
    settle(publisher, subscriber)
    sent = messages.everything()
    publisher.send(*sent)
    assert receive(subscriber, len(sent)) == sent


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_alias_is_undone(context, using, library):
    publisher = using(Publisher(context))
    forwarder = using(Forwarder("--source", f"eddn={publisher.endpoint}"))
    edge = using(Edge("--link", forwarder.link, "--recorder", f"http://{forwarder.grpc}"))
    # The edge matches the alias; a SUB looks again, at the first frame that it gets.
    subscriber = using(ZwsSubscriber(library, edge.address, b"eddn", b"\x78", b"two", PROBE[0]))
    settle(publisher, subscriber)
    sent = [[b"\x78\x9c one frame, zlib perhaps"], [b"two", b"\xff\x00", b""]]
    publisher.send(*sent)
    assert receive(subscriber, 2) == sent


@pytest.mark.parametrize("library", LIBRARIES)
def test_prefixes_are_bytes(context, using, library):
    forwarder = using(Forwarder())
    edge = using(Edge("--link", forwarder.link, "--recorder", f"http://{forwarder.grpc}"))
    publisher = using(Publisher(context, forwarder.frontend))
    subscriber = using(ZwsSubscriber(library, edge.address, b"\xff\xfe\x00", b"\x01probe"))
    settle(publisher, subscriber)
    sent = messages.everything()
    publisher.send(*sent)
    wanted = [frames for frames in sent if frames[0].startswith(b"\xff\xfe\x00")]
    assert receive(subscriber, len(wanted)) == wanted


def publishing(forwarder: Forwarder, *flags: str, **where: str) -> Edge:
    return Edge("--link", forwarder.link, "--recorder", f"http://{forwarder.grpc}", *flags, **where)


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_frame_is_published(context, using, library):
    forwarder = using(Forwarder())
    edge = using(publishing(forwarder, "--allow-publish="))
    subscriber = using(Subscriber(context, forwarder.backend, b""))
    publisher = using(ZwsPublisher(library, edge.address))
    settle(publisher, subscriber)
    # A publication has its bounds: 64 KiB, 64 frames behind its topic, which has 255 bytes if any are.
    sent = [
        frames
        for frames in messages.everything()
        if sum(map(len, frames)) <= 64 << 10 and len(frames) <= 65 and (len(frames) == 1 or len(frames[0]) <= 255)
    ]
    assert len(sent) > 15 and any(len(frames) > 2 for frames in sent)
    publisher.send(*sent)
    assert receive(subscriber, len(sent)) == sent


@pytest.mark.parametrize("library", LIBRARIES)
def test_only_what_is_allowed_leaves_the_publisher(context, using, library):
    forwarder = using(Forwarder())
    edge = using(publishing(forwarder, "--allow-publish=chat/", "--allow-publish=" + PROBE[0].decode()))
    subscriber = using(Subscriber(context, forwarder.backend, b""))
    publisher = using(ZwsPublisher(library, edge.address))
    settle(publisher, subscriber)
    # Its socket knows what is wanted, and drops the others; but jszmq 0.1.2, once one was wanted, sends all that follow, and
    # the edge drops them.
    for n in range(20):
        publisher.send([b"jobs/1", b"no"], [b"chat/1", b"%d" % n])
    assert receive(subscriber, 20) == [[b"chat/1", b"%d" % n] for n in range(20)]


def test_a_publisher_goes_on_when_its_edge_comes_back(context, using):
    """libzmq's. In Node jszmq 0.1.2 ends its process where nobody answers; a browser's is tested with the page."""
    forwarder = using(Forwarder())
    subscriber = using(Subscriber(context, forwarder.backend, b""))
    edge = publishing(forwarder, "--allow-publish=")
    address = edge.address
    publisher = using(ZwsPublisher("libzmq", address))
    settle(publisher, subscriber)
    edge.stop()
    using(publishing(forwarder, "--allow-publish=", listen=address))
    while subscriber.next(0) is not None:
        pass
    settle(publisher, subscriber)
    publisher.send([b"again", b"\x00\xff"])
    assert receive(subscriber, 1) == [[b"again", b"\x00\xff"]]


def test_a_subscriber_goes_on_when_its_edge_comes_back(context, using):
    forwarder = using(Forwarder())
    publisher = using(Publisher(context, forwarder.frontend))
    edge = publishing(forwarder)
    address = edge.address
    subscriber = using(ZwsSubscriber("libzmq", address, b""))
    settle(publisher, subscriber)
    edge.stop()
    using(publishing(forwarder, listen=address))
    while subscriber.next(0) is not None:
        pass
    settle(publisher, subscriber)


def test_from_a_browsers_side_to_the_other(context, using):
    """A PUB of jszmq, a SUB of libzmq: all of the way over WebSockets."""
    forwarder = using(Forwarder())
    edge = using(publishing(forwarder, "--allow-publish="))
    publisher = using(ZwsPublisher("jszmq", edge.address))
    subscriber = using(ZwsSubscriber("libzmq", edge.address, b""))
    settle(publisher, subscriber)
    sent = [[b"a", b"", b"\x00\xff" * 500], [b"b only one"]]
    publisher.send(*sent)
    assert receive(subscriber, 2) == sent


SECRET = b"a secret for tests, of more than 32 bytes"


def token(secret: bytes, subject: str = "ann", **allowed: list[str]) -> str:
    """A JSON Web Token (RFC 7519) for a minute."""

    def part(thing: bytes) -> str:
        return base64.urlsafe_b64encode(thing).rstrip(b"=").decode()

    claims = {"sub": subject, "exp": int(time.time()) + 60, "trestle": allowed}
    signed = ".".join(part(json.dumps(each).encode()) for each in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"{signed}.{part(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


@pytest.fixture
def asking(using, tmp_path):
    """A forwarder, and an edge that asks for tokens."""
    (tmp_path / "key").write_bytes(SECRET)
    forwarder = using(Forwarder())
    return forwarder, using(publishing(forwarder, "--auth", "jwt", "--auth-key-file", str(tmp_path / "key")))


def failures(edge: Edge) -> int:
    """Tokens that did not count."""
    with urllib.request.urlopen(f"http://{edge.private}/metrics", timeout=DEADLINE_S) as page:
        lines = page.read().decode().splitlines()
    return sum(int(line.split()[-1]) for line in lines if line.startswith("trestle_edge_auth_failures_total{"))


def test_libzmq_shows_a_token_as_its_password(context, using, asking):
    forwarder, edge = asking
    both = token(SECRET, subscribe=["chat/", PROBE[0].decode()], publish=["chat/", PROBE[0].decode()])
    assert len(both) <= 255, "a password has no more"
    publisher = using(ZwsPublisher("libzmq", edge.address, both))
    subscriber = using(ZwsSubscriber("libzmq", edge.address, b"chat/", PROBE[0], token=both))
    settle(publisher, subscriber)
    outside = using(Subscriber(context, forwarder.backend, b""))
    settle(publisher, outside)
    sent = [[b"chat/1", b"", b"\x00\xff" * 500], [b"chat/2 in one frame"]]
    publisher.send([b"jobs/1", b"not allowed"], *sent)
    assert receive(outside, 2) == sent
    assert receive(subscriber, 2) == sent
    assert failures(edge) == 0


def test_libzmq_hears_that_its_token_does_not_count(context, using, asking):
    forwarder, edge = asking
    allowed = {"subscribe": [PROBE[0].decode()], "publish": [PROBE[0].decode()]}
    using(ZwsSubscriber("libzmq", edge.address, PROBE[0], token=token(b"a secret of somebody else, as long", **allowed)))
    deadline = time.monotonic() + DEADLINE_S
    while failures(edge) == 0:
        assert time.monotonic() < deadline, "it never showed its token"
        threading.Event().wait(LOOK_S)
    # It does not try again; in the time that others need, it would have.
    publisher = using(Publisher(context, forwarder.frontend))
    settle(publisher, using(ZwsSubscriber("libzmq", edge.address, PROBE[0], token=token(SECRET, **allowed))))
    assert failures(edge) == 1
