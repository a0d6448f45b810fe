"""permessage-deflate with a WebSocket library that is not ours, in browsers' ways of asking for it and in others."""

import json
import time
import urllib.request

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from peers import Client, Page, Publisher, receive, settle
from processes import DEADLINE_S, LOOK_S, Edge

# An edge compresses for so many clients of a shard, and no fewer.
CLIENTS = 4

OFFERS = {
    "browsers'": ClientPerMessageDeflateFactory(client_max_window_bits=True),
    "a small window": ClientPerMessageDeflateFactory(server_max_window_bits=9),
    "all parameters": ClientPerMessageDeflateFactory(
        server_no_context_takeover=True, client_no_context_takeover=True, server_max_window_bits=15, client_max_window_bits=10
    ),
}


def sent_bytes(edge: Edge) -> int:
    with urllib.request.urlopen(f"http://{edge.private}/metrics") as page:
        lines = page.read().decode().splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith("trestle_edge_sent_bytes_total "))
    return int(value)


@pytest.mark.parametrize("offer", OFFERS)
def test_messages_are_compressed_and_arrive_as_they_were(offer, context, using):
    publisher = using(Publisher(context))
    edge = using(Edge("--source", publisher.endpoint, "--shards", "1"))
    extensions = [OFFERS[offer]]
    pages = [using(Page(edge.address, extensions=extensions)) for _ in range(CLIENTS)]
    clients = [using(Client(edge.address, b"", extensions=extensions)) for _ in range(CLIENTS)]
    plain = using(Page(edge.address, compression=None))
    settle(publisher, plain, *pages, *clients)
    bodies = [json.dumps({"n": n, "words": [f"word {n % 7}"] * 50 * n}) for n in range(1, 100)]
    before = sent_bytes(edge)
    publisher.send(*([b"a", body.encode()] for body in bodies))
    assert receive(plain, len(bodies)) == bodies
    for page in pages:
        assert receive(page, len(bodies)) == bodies
    for client in clients:
        assert [event["data"] for event in receive(client, len(bodies))] == [json.loads(body) for body in bodies]
    uncompressed = sum(map(len, bodies))
    # One takes them as they are; the others take a small part each. The metric follows when a turn's last visit is over.
    deadline = time.monotonic() + DEADLINE_S
    while sent_bytes(edge) - before <= uncompressed:
        assert time.monotonic() < deadline, "less was sent than arrived"
        time.sleep(LOOK_S)
    assert sent_bytes(edge) - before < 2 * uncompressed
