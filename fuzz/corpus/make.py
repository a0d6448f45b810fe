#!/usr/bin/env python3
"""Writes the corpora of `zws`, `link` and `body` anew: small messages as real clients, forwarders and publishers send them."""

import gzip
import struct
import zlib
from pathlib import Path

HERE = Path(__file__).parent
KINDS = ["json", "text", "binary", "event", "msgpack", "cbor", "protobuf"]
PLAIN, ZLIB, GZIP = 0, 8, 16


def write(target, name, data):
    folder = HERE / target
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)


def zws(mode, *messages):
    return bytes([mode]) + b"".join(bytes([len(message)]) + message for message in messages)


def property_of(name, value):
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


def ready(kind):
    return b"\x02\x05READY" + property_of(b"Socket-Type", kind) + property_of(b"Identity", b"")


def body(kind, compression, data):
    return bytes([KINDS.index(kind) + compression]) + data


def fixed64(number, value):
    return bytes([number << 3 | 1]) + struct.pack("<Q", value)


NULL = 0x80
write("zws", "subscribe", zws(3, b"\0", b"\0\1jobs/", b"\0\1chat", b"\0\0jobs/"))
write("zws", "null_subscribe", zws(NULL | 7, ready(b"SUB"), b"\0\1jobs/"))
write("zws", "null_of_a_publisher", zws(NULL, ready(b"PUB"), b"\0\1jobs/"))
write("zws", "too_many", zws(1, b"\0", *(b"\0\1" + bytes([c]) for c in b"abcde")))
write("zws", "no_wish", zws(1, b"\0", b"\1\1jobs/"))
write("zws", "reserved", zws(1, b"\0", b"\0\1\0trestle"))

STAMP = fixed64(1, 7) + fixed64(2, 42) + fixed64(3, 1_790_000_000_123_000_000)
write("link", "stamp", b"\1" + STAMP)
write("link", "split", b"\1" + STAMP + b"\x20\1\x28\5")
write("link", "lie_about_frames", b"\0" + STAMP + b"\x20\1\x28\xff\xff\xff\xff\x0f")
write("link", "cut", b"\3" + STAMP[:-3])

for text in ['{"a": [1, 2.5e300, "\\u00e9"]}', "42", "[" * 129 + "]" * 129]:
    raw = text.encode()
    name = "deep" if len(raw) > 200 else "object" if raw[0] == 0x7B else "number"
    write("body", f"json_{name}", body("json", PLAIN, raw))
write("body", "json_zlib", body("json", ZLIB, zlib.compress(b"[1]")))
write("body", "json_gzip", body("json", GZIP, gzip.compress(b"[1]", mtime=0)))
write("body", "zlib_bomb", body("text", ZLIB, zlib.compress(bytes(100_000))))
write("body", "text_not_utf8", body("text", PLAIN, b"ab\xff"))
write("body", "binary", body("binary", PLAIN, bytes(range(16))))
write("body", "event_text", body("event", PLAIN, b"\x0a\x017\x2a\x01x"))
write("body", "msgpack_map", body("msgpack", PLAIN, b"\x82\xa1a\x93\1\xcb" + struct.pack(">d", 2.5) + b"\xc0\xa1b\xc4\2\0\1"))
write("body", "msgpack_length_lie", body("msgpack", PLAIN, b"\xdd\xff\xff\xff\xff"))
write("body", "cbor_map", body("cbor", PLAIN, b"\xa2\x61a\x83\1\xfb" + struct.pack(">d", 2.5) + b"\xf6\x61b\x42\0\1"))
write("body", "cbor_endless", body("cbor", PLAIN, b"\x9f\1\x5f\x41a\xff\xff"))
write("body", "cbor_length_lie", body("cbor", PLAIN, b"\x9b" + b"\xff" * 8))
write("body", "protobuf_event", body("protobuf", PLAIN, b"\x0a\x017"))
