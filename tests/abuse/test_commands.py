"""Commands that are well-formed and mean harm, and clients that do not listen."""

import json
import time

import wire


def error(site, command: str) -> str:
    client = wire.WebSocket(site.address)
    client.send(wire.frame(wire.TEXT, command.encode()))
    code = client.reply()["error"]["code"]
    client.close()
    return code


def test_ten_thousand_subscriptions_in_a_message(site):
    with site.attacked():
        topics = [str(n) for n in range(8_000)]
        command = json.dumps({"id": 1, "subscribe": {"topics": topics}}, separators=(",", ":"))
        for _ in range(10):
            # More than a client may say in so short a time, and than it may hold.
            assert error(site, command) in ("rate_limited", "too_many_subscriptions")
        client = wire.WebSocket(site.address)
        client.send(wire.frame(wire.TEXT, json.dumps({"id": 1, "subscribe": {"topics": [str(n) for n in range(20_000)]}}).encode()))
        assert client.end() == 1009
        client.close()


def test_nested_json(site):
    with site.attacked():
        for deep in ["[" * 60_000, '{"a":' * 10_000, '{"id":1,"subscribe":' + "[" * 10_000 + "]" * 10_000 + "}"]:
            for _ in range(10):
                assert error(site, deep) == "bad_request"
        # A body of bytes is its readers' matter, who get it as text and not as a part of their JSON; one of JSON is not.
        reader, client = wire.WebSocket(site.address, "/ws?topic=chat/"), wire.WebSocket(site.address)
        body = "[" * 10_000 + "]" * 10_000
        client.send(wire.frame(wire.TEXT, f'{{"id":1,"publish":{{"topic":"chat/1","data":{body}}}}}'.encode()))
        assert client.reply()["error"]["code"] == "bad_request"
        client.say({"id": 2, "publish": {"topic": "chat/1", "text": body}})
        assert "published" in client.reply()
        assert reader.first("event")["text"] == body
        reader.close()
        client.close()


def test_topics_of_a_mebibyte(site):
    with site.attacked():
        client = wire.WebSocket(site.address)
        client.say({"id": 1, "subscribe": {"topics": ["x" * (1 << 20)]}})
        assert client.end() == 1009
        client.close()
        for topic in ["x" * 256, "x" * 60_000, "\0trestle"]:
            assert error(site, json.dumps({"id": 1, "subscribe": {"topics": [topic]}})) == "invalid_topic"
        post = wire.request(f"/publish?topic={'x' * 8_000}", "POST", Upgrade=None, Connection="close", Content_Length="0")
        assert wire.ask(site.address, post) == 400


def test_nonsense_three_times(site):
    with site.attacked():
        for _ in range(20):
            client = wire.WebSocket(site.address)
            for _ in range(3):
                client.send(wire.frame(wire.TEXT, b"nonsense"))
            assert client.end() == 4500
            client.close()


def test_random_prefixes(site):
    """Upstream of an edge there are never more than --interest-max of them."""
    with site.attacked():
        clients = [wire.WebSocket(site.address) for _ in range(5)]
        for nth, client in enumerate(clients):
            topics = [f"{hash((nth, n)) & 0xFFFFFFFF:08x}" for n in range(900)]
            client.say({"id": 1, "subscribe": {"topics": topics}})
            assert "subscribed" in client.reply()
        site.until("them to go up", lambda: site.metric("upstream_prefixes_joined") > 0)
        assert site.metric("upstream_prefixes") <= 1_000 + 3
        for client in clients:
            client.close()
        site.until("them to be given up", lambda: site.metric("upstream_prefixes") <= 3)


def test_readers_that_do_not_read(site):
    """Recorded messages cost no queue of theirs, others no more than their bound."""
    with site.attacked():
        flooded = ["/ws?topic=flood/", "/ws?topic=loose/", "/events?topic=flood/"]
        stalled = []
        for nth in range(60):
            stream = wire.dial(site.address, receive_bytes=4_096)
            headers = {"Upgrade": None, "Connection": None} if nth % 3 == 2 else {}
            stream.sendall(wire.request(flooded[nth % 3], **headers))
            stalled.append(stream)
        reader = wire.WebSocket(site.address, "/ws?topic=loose/")
        site.until("its subscription", lambda: (site.publisher.send_multipart([b"loose/", b"first"]), site.metric("upstream_messages_total"))[1] > 0)
        body = b"x" * 10_000
        # As fast as the edge of a busy machine reads: what a publisher sends beyond that is lost to everybody, and told.
        for _ in range(1_000):
            site.publisher.send_multipart([b"flood/", body])
            site.publisher.send_multipart([b"loose/", body])
            time.sleep(0.004)
        assert site.metric("outbox_bytes") <= 64 << 20, "60 clients of 1 MiB each at most"
        for stream in stalled:
            stream.close()
        reader.close()


def test_peers_that_are_half_open(site):
    with site.attacked():
        cut = site.closed(1006)
        silent = [wire.WebSocket(site.address, "/ws?topic=good/") for _ in range(100)]
        # No pong and nothing read; after --half-open-timeout each is cut.
        site.until("all to be cut", lambda: site.closed(1006) >= cut + 100)
        for client in silent:
            client.close()
