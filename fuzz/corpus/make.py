#!/usr/bin/env python3
"""Writes the corpora of `zws`, `link`, `body`, `multipart`, `query` and `follower` anew: small messages as real clients,
forwarders and publishers send them."""

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


def multipart(mode, *frames):
    return bytes([mode]) + b"".join(bytes([len(frame)]) + frame for frame in frames)


STAMPED, BEAT, REPLAY, END, FAILED, TICK = 0, 3, 4, 6, 14, 7
RECORDS, ONE, TWO, START, THROUGH = 8, 8, 16, 32, 64


def step(what, offset, epoch=1, milliseconds=0):
    return bytes([what, epoch - 1 + milliseconds // 20 * 3, offset])


NULL = 0x80
write("zws", "subscribe", zws(3, b"\0", b"\0\1jobs/", b"\0\1chat", b"\0\0jobs/"))
write("zws", "null_subscribe", zws(NULL | 7, ready(b"SUB"), b"\0\1jobs/"))
write("zws", "null_of_a_publisher", zws(NULL, ready(b"PUB"), b"\0\1jobs/"))
write("zws", "too_many", zws(1, b"\0", *(b"\0\1" + bytes([c]) for c in b"abcde")))
write("zws", "no_wish", zws(1, b"\0", b"\1\1jobs/"))
PUB = 0x40
write("zws", "publish", zws(PUB | 2, b"\0", b"\1chat/7", b"\1head", b"\0body", b"\0one frame"))
write("zws", "null_publish", zws(NULL | PUB, ready(b"PUB"), b"\1chat/7", b"\0hello"))
write("zws", "publish_of_a_subscriber", zws(PUB, b"\0", b"\2\5READY"))
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

write("multipart", "topic_and_body", multipart(0, b"jobs/42", b'{"step": 3}'))
write("multipart", "one_frame", multipart(0, b"hello"))
write("multipart", "no_bytes", multipart(0, b"", b""))
write("multipart", "weather", multipart(0, b"10001 -23 45"))
write("multipart", "salt", multipart(0, b"salt/job\n\n\x81\xa1a\1"))
write("multipart", "alias", multipart(1, b"\x78\x9c", b"second"))
write("multipart", "sixteen", multipart(0, *(bytes([c]) for c in range(16))))
write("multipart", "reserved", multipart(0, b"\0trestle", b"trestle.v1.Beat", b"\x09"))
write("multipart", "typed_event", multipart(0, b"t", b"trestle.v1.Event", b"\x0a\x017\x22\x03[1]"))
write("multipart", "typed_event_cut", multipart(0, b"t", b"trestle.v1.Event", b"\x0a\x7f7"))
write("multipart", "not_utf8", multipart(0, b"\xff\0", b"\xc3\x28"))

POSITION = b"AQAAAAAAAAAHAAAAAAAAACo"
write("query", "topics", b"topic=jobs%2F&topic=chat+7&exact=true&snapshot")
write("query", "since", b"topic=a&since=" + POSITION + b"&policy=conflate&max_hz=2.5\n" + POSITION)
write("query", "no_position", b"since=!\n!")
write("query", "not_utf8", b"topic=%ff%fe%0")
write("query", "too_many", b"topic=a&topic=b&topic=c&topic=d&topic=e")
write("query", "too_long", b"topic=" + b"x" * 17)
write("query", "reserved", b"topic=%00trestle")
write("query", "unknown", b"topic=a&tpoic=b")
write("query", "infinity", b"max_hz=inf&policy=drop_oldest")

BEGUN = step(BEAT | RECORDS, 5) + step(REPLAY | TWO | START | THROUGH, 4) + step(END, 0)
write("follower", "clone_then_live", b"\1" + BEGUN + step(STAMPED, 6) + step(STAMPED, 7))
write("follower", "hole_repaired", b"\1" + BEGUN + step(STAMPED, 8) + step(REPLAY | TWO, 6) + step(END, 0))
write("follower", "hole_given_up", b"\1" + BEGUN + step(STAMPED, 8) + step(FAILED, 0, 1, 1600) * 2 + step(TICK, 0))
write("follower", "another_epoch", b"\1" + BEGUN + step(TICK, 0, 1, 1600) + step(STAMPED, 3, 2) + step(BEAT | RECORDS, 3, 2))
write("follower", "without_replays", b"\0" + step(BEAT | RECORDS, 5) + step(STAMPED, 6) + step(STAMPED, 9))
# Overflowed: another epoch is joined at the last offset that there is.
write("follower", "last_offset_joined", b"\0" + step(BEAT, 0) + step(STAMPED, 0xFF, 3))
# Overflowed: what is missing is counted over two epochs that leap to the end of all offsets.
LEAP = step(STAMPED, 1), step(STAMPED, 0xFF, 1, 1680)
write("follower", "two_leaps", b"\0" + b"".join(LEAP) + step(STAMPED, 1, 2) + step(STAMPED, 0xFF, 2))
write("follower", "last_offset_there_is", b"\1" + step(BEAT, 0) + step(STAMPED, 0xFF) + step(BEAT, 0xFF))
write("follower", "last_offset_without_replays", b"\0" + step(BEAT, 0) + step(STAMPED, 0xFF) + step(BEAT, 0xFF))
