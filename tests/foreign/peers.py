"""Programs that are not ours: pyzmq publishers and subscribers, and browsers' WebSockets."""

import base64
import contextlib
import json
import time

import zmq
from websockets.sync.client import connect

from processes import DEADLINE_S

# Sent until everybody has one, before what a test is about.
PROBE = [b"\x01probe", b"is it there?"]

# One look whether a probe has come, seconds.
PROBE_LOOK_S = 0.02


class Publisher:
    """A pyzmq PUB, connected to a forwarder or bound to a free port."""

    def __init__(self, context: zmq.Context, connect_to: str | None = None):
        self._socket = context.socket(zmq.PUB)
        self._socket.set(zmq.SNDHWM, 0)
        self._socket.set(zmq.LINGER, 0)
        if connect_to is None:
            port = self._socket.bind_to_random_port("tcp://127.0.0.1")
            self.endpoint = f"tcp://127.0.0.1:{port}"
        else:
            self._socket.connect(connect_to)
            self.endpoint = connect_to

    def send(self, *messages: list[bytes]) -> None:
        for frames in messages:
            self._socket.send_multipart(frames)

    def close(self) -> None:
        self._socket.close()


class Subscriber:
    """A pyzmq SUB: gives each message's frames."""

    def __init__(self, context: zmq.Context, endpoint: str, *prefixes: bytes):
        self._socket = context.socket(zmq.SUB)
        self._socket.set(zmq.LINGER, 0)
        for prefix in prefixes:
            self._socket.subscribe(prefix)
        self._socket.connect(endpoint)

    def next(self, timeout_s: float) -> list[bytes] | None:
        return self._socket.recv_multipart() if self._socket.poll(timeout_s * 1000) else None

    def is_probe(self, frames: list[bytes]) -> bool:
        return frames == PROBE

    def close(self) -> None:
        self._socket.close()


class Page:
    """A browser that speaks `rust-websocket`: gives each message's body, text or binary.

    It offers compression as browsers do, unless `options` of the WebSocket library say otherwise.
    """

    subprotocol = "rust-websocket"

    def __init__(self, address: str, query: str = "", **options):
        url = f"ws://{address}/ws{query}"
        self._until_close = contextlib.ExitStack()
        connection = connect(url, subprotocols=[self.subprotocol], max_size=None, proxy=None, **options)
        self._socket = self._until_close.enter_context(connection)
        assert self._socket.subprotocol == self.subprotocol

    def next(self, timeout_s: float) -> str | bytes | None:
        try:
            return self._socket.recv(timeout_s)
        except TimeoutError:
            return None

    def is_probe(self, body: str | bytes) -> bool:
        return body == PROBE[-1].decode()

    def close(self) -> None:
        self._until_close.close()


class Client(Page):
    """A browser that speaks `trestle.v1.json`: gives each `event`."""

    subprotocol = "trestle.v1.json"

    def __init__(self, address: str, *prefixes: bytes, **options):
        super().__init__(address, **options)
        subscribe = {"topics_base64": [base64.b64encode(prefix).decode() for prefix in prefixes]}
        self._socket.send(json.dumps({"id": 1, "subscribe": subscribe}))
        # Events may come before the reply only if they were subscribed to: they are not.
        while "reply" not in (message := json.loads(self._socket.recv(DEADLINE_S))):
            assert "event" not in message, message
        assert message["reply"]["id"] == 1 and "subscribed" in message["reply"], message

    def next(self, timeout_s: float) -> dict | None:
        deadline = time.monotonic() + timeout_s
        while (text := super().next(max(0.0, deadline - time.monotonic()))) is not None:
            assert isinstance(text, str), "a binary frame"
            message = json.loads(text)
            if "event" in message:
                return message["event"] | {"frame": text}
            assert message.keys() <= {"heartbeat", "caught_up", "welcome"}, message
        return None

    def is_probe(self, event: dict) -> bool:
        return event.get("topic") == PROBE[0].decode()


def settle(publisher: Publisher, *receivers: Subscriber | Page) -> None:
    """Sends probes until each receiver has one: then all that is sent after arrives."""
    waiting, deadline = list(receivers), time.monotonic() + DEADLINE_S
    while waiting:
        assert time.monotonic() < deadline, f"nothing reaches {waiting}"
        publisher.send(PROBE)
        if (message := waiting[0].next(PROBE_LOOK_S)) is not None:
            assert waiting[0].is_probe(message), message
            waiting.pop(0)


def receive(receiver: Subscriber | Page, n: int) -> list:
    """The next `n` messages that are no probes."""
    messages = []
    while len(messages) < n:
        message = receiver.next(DEADLINE_S)
        assert message is not None, f"only {len(messages)} of {n} came: {messages!r:.2000}"
        if not receiver.is_probe(message):
            messages.append(message)
    return messages
