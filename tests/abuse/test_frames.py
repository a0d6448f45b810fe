"""Frames that break the protocol, or keep to it and mean harm."""

import os
import zlib

import wire


def ends(site, *sent: bytes, **headers: str) -> int:
    """The code with which a client that sends this is closed."""
    client = wire.WebSocket(site.address, **headers)
    for piece in sent:
        if not client.send(piece):
            break
    code = client.end()
    client.close()
    return code


def test_frames_that_no_client_sends(site):
    with site.attacked():
        for code, sent in [
            (1002, wire.frame(wire.TEXT, b"{}", masked=False)),
            (1002, wire.frame(wire.TEXT, b"{}", rsv=4)),
            (1002, wire.frame(3, b"{}")),
            (1002, wire.frame(wire.PING, b"x" * 126)),
            (1002, wire.frame(wire.PING, b"x", fin=False)),
            (1002, wire.frame(0, b"x")),
            (1002, wire.frame(wire.CLOSE, b"\x03")),
            (1007, wire.frame(wire.TEXT, b"\xff\xfe")),
            (1009, wire.frame(wire.TEXT, b"", length=1 << 62)),
            (1009, wire.frame(wire.TEXT, b"x" * (1 << 17))),
        ]:
            for _ in range(10):
                assert ends(site, sent) == code, sent[:16]
        # The highest bit of a length must not be set (RFC 6455 §5.2).
        assert ends(site, wire.frame(wire.TEXT, b"", length=1 << 63)) in (1002, 1009)


def test_a_message_in_fragments_without_end(site):
    with site.attacked():
        first, more = wire.frame(wire.TEXT, b"x" * 100, fin=False), wire.frame(0, b"x" * 100, fin=False)
        for _ in range(5):
            assert ends(site, first, *([more] * 2_000)) == 1009
        # Of no bytes at all: nothing grows, and the client may go on as long as it likes.
        client = wire.WebSocket(site.address)
        client.send(wire.frame(wire.TEXT, b'{"id":1,', fin=False))
        for _ in range(50):
            client.send(wire.frame(0, b"", fin=False) * 1_000)
        client.send(wire.frame(0, b'"unsubscribe":{"topics":["a"]}}'))
        assert client.reply()["id"] == 1
        client.close()


def test_a_flood_of_pings(site):
    with site.attacked():
        closed = site.closed(4029)
        for _ in range(5):
            assert ends(site, *([wire.frame(wire.PING, b"x" * 125) * 100] * 50)) in (4029, 1006)
        site.until("each to be closed for it", lambda: site.closed(4029) >= closed + 5)


def test_messages_that_inflate(site):
    with site.attacked():
        press = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = press.compress(b"[" * (32 << 20)) + press.flush(zlib.Z_SYNC_FLUSH)
        bomb = bomb[:-4]
        assert len(bomb) < 64 << 10, "it passes for a small message"
        deflate = {"Sec_WebSocket_Extensions": "permessage-deflate"}
        for _ in range(20):
            assert ends(site, wire.frame(wire.TEXT, bomb, rsv=4), **deflate) == 1009
            assert ends(site, wire.frame(wire.TEXT, os.urandom(1_000), rsv=4), **deflate) in (1007, 1009)


def test_random_bytes_behind_the_handshake(site):
    with site.attacked():
        for _ in range(100):
            assert ends(site, os.urandom(4_096)) in (1002, 1006, 1007, 1009, 4500)
