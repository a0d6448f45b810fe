"""The ports that are not for browsers, where somebody reaches them all the same."""

import os
import struct
import time

import pytest
import zmq

import wire


def addresses(site) -> dict[str, str]:
    zmtp = {name: getattr(site.forwarder, name).removeprefix("tcp://") for name in ("frontend", "backend", "link")}
    return zmtp | {"grpc": site.forwarder.grpc, "private": site.edge.private}


@pytest.mark.parametrize("port", ["frontend", "backend", "link", "grpc", "private"])
def test_random_bytes(site, port):
    with site.attacked():
        address = addresses(site)[port]
        for _ in range(50):
            with wire.dial(address) as stream:
                try:
                    stream.sendall(os.urandom(2_048))
                    stream.shutdown(1)
                    while stream.recv(65536):
                        pass
                except OSError:
                    pass


def shake(address: str, kind: bytes):
    """A ØMQ peer whose handshake (ZMTP 3, RFC 23) is done, step by step as libzmq wants it."""
    stream = wire.dial(address)
    stream.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + bytes(32))
    exactly(stream, 64)
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
    stream.sendall(b"\x04" + bytes([len(ready)]) + ready)
    exactly(stream, exactly(stream, 2)[1])
    return stream


def exactly(stream, n: int) -> bytes:
    received = b""
    while len(received) < n:
        more = stream.recv(n - len(received))
        assert more, "the connection ended"
        received += more
    return received


def until_end(stream) -> None:
    try:
        while stream.recv(65536):
            pass
    except OSError:
        pass


@pytest.mark.parametrize("port", ["frontend", "backend", "link"])
def test_frames_of_terabytes(site, port):
    """A peer that shakes hands as it should, and then claims to send more than there is."""
    with site.attacked():
        for _ in range(20):
            with shake(addresses(site)[port], b"PUB" if port == "frontend" else b"SUB") as stream:
                try:
                    stream.sendall(b"\x02" + struct.pack(">Q", 1 << 40) + b"x" * 65_536)
                except OSError:
                    continue
                until_end(stream)


@pytest.mark.parametrize("port", ["backend", "link"])
def test_subscriptions_of_a_mebibyte(site, port):
    """A trie that is walked by recursion is as deep as that, also when another publisher comes and is told of it."""
    with site.attacked():
        streams = [shake(addresses(site)[port], b"SUB") for _ in range(5)]
        for nth, stream in enumerate(streams):
            prefix = b"\x01" + bytes([nth]) * (1 << 20)
            try:
                stream.sendall(b"\x02" + struct.pack(">Q", len(prefix)) + prefix)
            except OSError:
                continue
        time.sleep(0.5)
        with zmq.Context() as context:
            publisher = context.socket(zmq.XPUB)
            publisher.linger = 0
            publisher.connect(site.forwarder.frontend)
            publisher.poll(2_000)
            publisher.close()
        for stream in streams:
            stream.close()


def test_messages_of_more_than_a_frame_may_have(site):
    with site.attacked():
        with zmq.Context() as context:
            publisher = context.socket(zmq.PUB)
            publisher.linger = 0
            publisher.connect(site.forwarder.frontend)
            for _ in range(20):
                publisher.send_multipart([b"good", b"x" * (8 << 20)])
                time.sleep(0.02)
            publisher.close()


def test_a_publisher_of_reserved_topics(site):
    with site.attacked():
        for _ in range(1_000):
            site.publisher.send_multipart([b"\0trestle", b"trestle.v1.Beat", os.urandom(40)])
