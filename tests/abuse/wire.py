"""Requests and frames as bytes, so that a test can break any of them."""

import json
import os
import socket
import struct

# Whatever a test waits for comes within this many seconds, or it fails.
DEADLINE_S = 30.0

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def dial(address: str, receive_bytes: int | None = None) -> socket.socket:
    """A connection; one with little room in its kernel leaves what it does not read at the edge."""
    host, port = address.rsplit(":", 1)
    stream = socket.socket()
    if receive_bytes:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    stream.settimeout(DEADLINE_S)
    stream.connect((host, int(port)))
    return stream


def request(path: str = "/ws", method: str = "GET", **headers: str) -> bytes:
    """A request for a WebSocket; a header that is None is left out."""
    lines = {
        "Host": "edge",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Protocol": "trestle.v1.json",
    }
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode()


def answer(stream: socket.socket) -> tuple[int, bytes]:
    """The status of an answer, and what came behind its head; 0 if the connection ended instead."""
    received = b""
    while b"\r\n\r\n" not in received:
        try:
            more = stream.recv(65536)
        except ConnectionResetError:
            more = b""
        if not more:
            return 0, received
        received += more
    head, rest = received.split(b"\r\n\r\n", 1)
    return int(head.split(b" ")[1]), rest


def ask(address: str, sent: bytes) -> int:
    """The status that `sent` gets on a connection of its own."""
    with dial(address) as stream:
        try:
            stream.sendall(sent)
        except OSError:
            pass
        return answer(stream)[0]


def frame(opcode: int, payload: bytes = b"", fin: bool = True, masked: bool = True, rsv: int = 0, length: int | None = None) -> bytes:
    """A frame; `length` is what it claims to have."""
    n = len(payload) if length is None else length
    short = n if n < 126 else 126 if n < 1 << 16 else 127
    head = bytes([(fin << 7) | (rsv << 4) | opcode, (masked << 7) | short])
    head += struct.pack(">H", n) if short == 126 else struct.pack(">Q", n) if short == 127 else b""
    if not masked:
        return head + payload
    mask = os.urandom(4)
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    masked_payload = (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(len(payload)) if payload else b""
    return head + mask + masked_payload


class Frames:
    """What comes from a server, frame by frame."""

    def __init__(self, received: bytes = b""):
        self._bytes = bytearray(received)

    def feed(self, received: bytes) -> None:
        self._bytes += received

    def take(self) -> tuple[int, bytes] | None:
        """The next whole frame."""
        if len(self._bytes) < 2:
            return None
        short, at = self._bytes[1] & 127, 2
        if short >= 126:
            at = 4 if short == 126 else 10
            if len(self._bytes) < at:
                return None
            short = int.from_bytes(self._bytes[2:at])
        if len(self._bytes) < at + short:
            return None
        taken = self._bytes[0] & 15, bytes(self._bytes[at : at + short])
        del self._bytes[: at + short]
        return taken


class WebSocket:
    """A client that does nothing by itself."""

    def __init__(self, address: str, path: str = "/ws", receive_bytes: int | None = None, **headers: str):
        self.stream = dial(address, receive_bytes)
        self.stream.sendall(request(path, **headers))
        status, rest = answer(self.stream)
        assert status == 101, status
        self._frames = Frames(rest)

    def send(self, sent: bytes) -> bool:
        """Whether the connection took it."""
        try:
            self.stream.sendall(sent)
            return True
        except OSError:
            return False

    def say(self, command: dict) -> bool:
        return self.send(frame(TEXT, json.dumps(command).encode()))

    def next(self) -> tuple[int, bytes] | None:
        """The next frame, or None at the connection's end."""
        while (taken := self._frames.take()) is None:
            try:
                received = self.stream.recv(65536)
            except ConnectionResetError:
                return None
            if not received:
                return None
            self._frames.feed(received)
        return taken

    def first(self, kind: str) -> dict:
        """The next message of a kind, such as `reply` or `event`; what comes before it, pings too, is dropped."""
        while (taken := self.next()) is not None:
            opcode, payload = taken
            if opcode == TEXT and kind in (message := json.loads(payload)):
                return message[kind]
        raise AssertionError("the connection ended")

    def reply(self) -> dict:
        return self.first("reply")

    def end(self) -> int:
        """The code of the server's Close frame; 1006 where the connection ends without one."""
        while (taken := self.next()) is not None:
            opcode, payload = taken
            if opcode == CLOSE:
                return int.from_bytes(payload[:2])
        return 1006

    def close(self) -> None:
        self.stream.close()
