"""Before there is a WebSocket."""

import os
import time

import wire


def test_hundreds_of_requests_that_never_end(site):
    """Each says a byte now and then, which is what keeps a timeout from seeing that nothing comes."""
    with site.attacked():
        before = site.refused("handshake_timeout")
        streams = [wire.dial(site.address) for _ in range(400)]
        begun = wire.request()[:-2]
        until = time.monotonic() + 2
        for nth in range(20):
            for stream in streams:
                stream.sendall(begun[nth : nth + 1])
            time.sleep(max(0.0, until - time.monotonic()) / (20 - nth))
        # Others come in meanwhile.
        wire.WebSocket(site.address).close()
        site.until("all of them to be cut", lambda: site.refused("handshake_timeout") >= before + len(streams))
        for stream in streams:
            stream.close()


def test_more_connections_than_there_may_be(site):
    with site.attacked():
        before = site.refused("connections")
        streams = [wire.dial(site.address) for _ in range(1600)]
        site.until("some to be refused", lambda: site.refused("connections") >= before + 100)
        for stream in streams:
            stream.close()
        site.until("room", lambda: wire.ask(site.address, wire.request()) == 101)


def test_heads_without_end(site):
    with site.attacked():
        for _ in range(50):
            assert wire.ask(site.address, wire.request(X_Padding="x" * (1 << 20))) in (431, 0)
            assert wire.ask(site.address, wire.request(**{f"X_{n}": "y" for n in range(500)})) in (431, 0)
        assert wire.ask(site.address, wire.request("/ws?topic=" + "x" * (1 << 20))) in (414, 431, 0)
        assert wire.ask(site.address, wire.request("/ws?topic=" + "x" * 300)) == 400


def test_upgrades_that_are_none(site):
    with site.attacked():
        for status, headers in [
            (426, {"Sec_WebSocket_Version": "8"}),
            (426, {"Upgrade": "h2c"}),
            (400, {"Sec_WebSocket_Key": "short"}),
            (400, {"Sec_WebSocket_Protocol": "mqtt"}),
            (400, {"Sec_WebSocket_Protocol": None}),
            (400, {"Host": None}),
            (400, {"Content_Length": "5"}),
            (400, {"Sec_WebSocket_Extensions": "permessage-deflate;"}),
        ]:
            for _ in range(25):
                assert wire.ask(site.address, wire.request(**headers)) == status, headers
        for _ in range(100):
            assert wire.ask(site.address, os.urandom(512) + b"\r\n\r\n") in (400, 431, 0)


def test_pages_from_elsewhere(site):
    with site.attacked():
        before = site.refused("origin")
        for origin in ["https://evil.example", "null", "https://edge.evil.example", "nonsense", "https://a b"]:
            for path in ["/ws", "/events?topic=a"]:
                assert wire.ask(site.address, wire.request(path, Origin=origin)) == 403, origin
        assert site.refused("origin") == before + 10


def test_a_handshake_that_was_recorded_is_said_again(site):
    """It is nothing by itself: each connection has its own session, with what its own request says."""
    with site.attacked():
        recorded = wire.request() + wire.frame(wire.TEXT, b'{"id":1,"subscribe":{"topics":["good/"]}}')
        for _ in range(100):
            assert wire.ask(site.address, recorded) == 101


def test_many_that_come_and_go_at_once(site):
    with site.attacked():
        for _ in range(10):
            clients = [wire.WebSocket(site.address, "/ws?topic=good/") for _ in range(50)]
            for client in clients:
                client.close()
