"""The same frames in a browser, through the forwarder or from the publisher straight to the edge."""

import json

import pytest

import browser_form
import messages
from peers import Client, Page, Publisher, Subscriber, receive, settle
from processes import Edge, Forwarder


@pytest.fixture(params=["through a forwarder", "through a forwarder's source", "straight"])
def publisher_and_edge(request, context, using):
    """A foreign publisher and an edge that hears it, each way that there is."""
    if request.param == "through a forwarder":
        forwarder = using(Forwarder())
        publisher = using(Publisher(context, forwarder.frontend))
    else:
        publisher = using(Publisher(context))
        if request.param == "straight":
            return publisher, using(Edge("--source", publisher.endpoint))
        forwarder = using(Forwarder("--source", publisher.endpoint))
    return publisher, using(Edge("--link", forwarder.link, "--recorder", f"http://{forwarder.grpc}"))


def bare(event: dict) -> dict:
    """Without what the edge adds."""
    return {key: value for key, value in event.items() if key not in ("position", "time_ms", "frame")}


def test_every_message_in_each_format(publisher_and_edge, using):
    publisher, edge = publisher_and_edge
    client = using(Client(edge.address, b""))
    page = using(Page(edge.address))
    settle(publisher, client, page)
    sent = messages.everything()
    # One after the other, as publishers do, and not 3 MiB at once: a reader here is slower than the outbox is large.
    for frames in sent:
        publisher.send(frames)
        (event,) = receive(client, 1)
        assert bare(event) == browser_form.event(frames)
        assert receive(page, 1) == [browser_form.page(frames)]


def test_json_bodies_are_passed_on_byte_for_byte(publisher_and_edge, using):
    publisher, edge = publisher_and_edge
    client = using(Client(edge.address, b"json"))
    page = using(Page(edge.address, "?topic=json&topic=other"))
    probes = using(Client(edge.address, b"\x01probe"))
    settle(publisher, probes)
    body = ' {"n": 1.0e0, "n": 12345678901234567890, "s": "\\u00e4"} '
    publisher.send([b"rawtx", b"nobody here wants it"], [b"json/1", body.encode()])
    (event,) = receive(client, 1)
    # The sender's numbers and escapes stand in the frame as they came.
    assert body.strip() in event["frame"] and event["topic"] == "json/1"
    assert receive(page, 1) == [body]


def test_topics_of_the_url(publisher_and_edge, using):
    publisher, edge = publisher_and_edge
    page = using(Page(edge.address, "?topic=hash&topic=%01probe"))
    settle(publisher, page)
    publisher.send(*messages.bitcoin())
    wanted = [frames for frames in messages.bitcoin() if frames[0].startswith(b"hash")]
    assert receive(page, len(wanted)) == [browser_form.page(frames) for frames in wanted]


def test_an_alias_gives_a_feed_its_topic(context, using):
    publisher = using(Publisher(context))
    forwarder = using(Forwarder("--source", f"eddn={publisher.endpoint}"))
    edge = using(Edge("--link", forwarder.link, "--recorder", f"http://{forwarder.grpc}"))
    subscriber = using(Subscriber(context, forwarder.backend, b""))
    client = using(Client(edge.address, b"eddn"))
    settle(publisher, subscriber)
    feed = [[b"\x78\x9c\xff one frame"], [b'{"two": 2}']]
    publisher.send(*feed)
    assert receive(subscriber, 2) == feed
    events = []
    while len(events) < 2:
        event = bare(receive(client, 1)[0])
        # Probes have the alias as their topic here.
        if "parts" not in event:
            events.append(event)
    assert events == [browser_form.event(frames, topic=b"eddn") for frames in feed]
    assert json.loads(feed[1][0]) == events[1]["data"]
