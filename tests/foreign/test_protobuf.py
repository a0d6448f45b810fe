"""`trestle.v1.proto` by Google's own protobuf library, which has nothing but the definition in `proto/`."""

import importlib
import sys
from pathlib import Path

import pytest
from grpc_tools import protoc

import messages
from peers import PROBE, Page, Publisher, receive, settle
from processes import DEADLINE_S, Edge, Forwarder

PROTO = Path(__file__).resolve().parents[2] / "proto"

# Of a body, in bytes from the beginning of its message.
ALIGNMENT = 8


@pytest.fixture(scope="session")
def definition(tmp_path_factory):
    """The generated module."""
    out = tmp_path_factory.mktemp("generated")
    files = ["trestle/v1/client.proto", "trestle/v1/event.proto"]
    assert protoc.main(["protoc", f"--proto_path={PROTO}", f"--python_out={out}", *files]) == 0
    sys.path.insert(0, str(out))
    return importlib.import_module("trestle.v1.client_pb2")


class Typed(Page):
    """A client of `trestle.v1.proto`: gives each `event`."""

    subprotocol = "trestle.v1.proto"

    def __init__(self, definition, address: str, **options):
        super().__init__(address, **options)
        self.definition = definition
        self.payload = b""
        self.welcome = self.hear("welcome")

    def say(self, **fields) -> None:
        self._socket.send(self.definition.ClientMessage(**fields).SerializeToString())

    def hear(self, *names: str, timeout_s: float = DEADLINE_S):
        """The next message, which must have one of these names; heartbeats are passed over."""
        while (payload := super().next(timeout_s)) is not None:
            assert isinstance(payload, bytes), "a text frame"
            message = self.definition.ServerMessage.FromString(payload)
            name = message.WhichOneof("message")
            if name != "heartbeat":
                assert name in names, message
                self.payload = payload
                return getattr(message, name)
        return None

    def subscribe(self, *topics: bytes, **options) -> tuple:
        """What the reply says, and the events before it has caught up."""
        self.say(id=1, subscribe={"topics": topics, **options})
        reply, events = self.hear("reply"), []
        assert reply.id == 1 and list(reply.subscribed.topics) == list(topics), reply
        while (message := self.hear("event", "caught_up")).DESCRIPTOR.name == "Event":
            events.append(message)
        assert message.replayed == sum(not event.snapshot for event in events)
        return reply.subscribed, events

    def refused(self, payload: bytes | str):
        self._socket.send(payload)
        return self.hear("reply")

    def next(self, timeout_s: float):
        return self.hear("event", timeout_s=timeout_s)

    def is_probe(self, event) -> bool:
        return event.topic == PROBE[0]


@pytest.fixture
def publisher_and_edge(context, using):
    forwarder = using(Forwarder())
    publisher = using(Publisher(context, forwarder.frontend))
    return publisher, using(Edge("--link", forwarder.link, "--recorder", f"http://{forwarder.grpc}"))


def frames(event) -> list[bytes]:
    """The ØMQ frames of an event."""
    topic = [event.topic] if event.HasField("topic") else []
    return topic + (list(event.parts) or [event.bytes])


def test_every_message_comes_untouched_and_aligned(definition, publisher_and_edge, using):
    publisher, edge = publisher_and_edge
    client = using(Typed(definition, edge.address))
    client.subscribe(b"")
    settle(publisher, client)
    for sent in messages.everything():
        publisher.send(sent)
        (event,) = receive(client, 1)
        assert frames(event) == sent
        assert event.position and event.time_ms > 1_700_000_000_000
        # What is long enough to stand there once is where a larger number may.
        for body in frames(event)[event.HasField("topic") :]:
            if len(body) > 16:
                assert client.payload.index(body) % ALIGNMENT == 0


def test_a_client_resumes_where_it_was(definition, publisher_and_edge, using):
    publisher, edge = publisher_and_edge
    client = using(Typed(definition, edge.address))
    client.subscribe(b"jobs/", PROBE[0])
    settle(publisher, client)
    publisher.send([b"jobs/1", b"one"])
    (first,) = receive(client, 1)
    publisher.send([b"jobs/2", b"two"], [b"chat/1", b"no"], [b"jobs/3", b"\x00\xff", b"three"])
    receive(client, 2)
    again = using(Typed(definition, edge.address))
    subscribed, missed = again.subscribe(b"jobs/", since=first.position)
    assert subscribed.recovered and subscribed.position == first.position
    assert [frames(event) for event in missed] == [[b"jobs/2", b"two"], [b"jobs/3", b"\x00\xff", b"three"]]
    snapshot, values = again.subscribe(b"jobs/", snapshot=True, policy="POLICY_CONFLATE")
    assert not snapshot.HasField("recovered")
    assert sorted(frames(event)[0] for event in values) == [b"jobs/1", b"jobs/2", b"jobs/3"]
    assert all(event.snapshot for event in values)


def test_what_is_wrong_is_said(definition, publisher_and_edge, using):
    _, edge = publisher_and_edge
    client = using(Typed(definition, edge.address))
    command = definition.ClientMessage(id=7, subscribe={"topics": [b"a"]}).SerializeToString()
    refused = client.refused(command + b"\x48\x01")
    code = definition.ServerMessage.ErrorCode.Value("ERROR_CODE_UNKNOWN_FIELD")
    assert (refused.id, refused.error.code, refused.error.retry) == (7, code, False)
    assert "9" in refused.error.reason
    refused = client.refused('{"id":1,"subscribe":{"topics":["a"]}}')
    assert "binary" in refused.error.reason and not refused.HasField("id")
    client.subscribe(b"a")
