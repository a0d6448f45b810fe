"""Clients of ZWS 2.0 that are not ours, jszmq and libzmq's own ws://, get what a ØMQ subscriber gets, byte for byte."""

import json
import pathlib
import queue
import subprocess
import threading

import pytest

import messages
from peers import PROBE, Publisher, receive, settle
from processes import Edge, Forwarder

HERE = pathlib.Path(__file__).parent / "zws"
LIBRARIES = ["jszmq", "libzmq"]


class ZwsSubscriber:
    """A SUB in Node: gives each message's frames."""

    def __init__(self, library: str, address: str, *prefixes: bytes):
        command = ["node", "subscribe.js", library, f"ws://{address}/ws", *(prefix.hex() for prefix in prefixes)]
        self._process = subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE)
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
