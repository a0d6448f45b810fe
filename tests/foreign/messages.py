"""Messages as real programs send them, each a list of ØMQ frames."""

import hashlib
import random
import struct

# Bitcoin's first block: its header, the one transaction in it, and their hashes as people write them.
GENESIS_HEADER = bytes.fromhex(
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f61"
    "7fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
)
GENESIS_TRANSACTION = bytes.fromhex(
    "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d04ffff001d0104455468"
    "652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e6b206f66207365636f6e64206261"
    "696c6f757420666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0fe5548271967f1a67130b7105cd6a828e0"
    "3909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000"
)
GENESIS_BLOCK_HASH = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
GENESIS_TRANSACTION_HASH = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"


def bitcoin_hash(data: bytes) -> str:
    """Bitcoin's hash of `data` in the order in which people write it."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()[::-1].hex()


def bitcoin(sequence: int = 0) -> list[list[bytes]]:
    """The notifications of a node that connects one block: [topic][body][u32 little-endian], as Bitcoin Core's
    doc/zmq.md lays them out. Each topic counts for itself; the hashes go out in the written order."""
    block_hash, transaction_hash = bytes.fromhex(GENESIS_BLOCK_HASH), bytes.fromhex(GENESIS_TRANSACTION_HASH)
    bodies = {
        b"hashtx": transaction_hash,
        b"rawtx": GENESIS_TRANSACTION,
        b"hashblock": block_hash,
        b"rawblock": GENESIS_HEADER + b"\x01" + GENESIS_TRANSACTION,
        # A label follows the hash: C for a block connected, A for a transaction that enters the pool, with its number.
        b"sequence": block_hash + b"C",
    }
    messages = [[topic, body, struct.pack("<I", sequence)] for topic, body in bodies.items()]
    added = transaction_hash + b"A" + struct.pack("<Q", 7)
    return [*messages, [b"sequence", added, struct.pack("<I", sequence + 1)]]


def odd() -> list[list[bytes]]:
    """What ØMQ allows and few programs send."""
    noise = random.Random(5)
    return [
        [b"sixteen", *(f"frame {n}".encode() for n in range(1, 16))],
        [b"empty body", b""],
        [b"empty frames", b"", b"", b""],
        [b"", b"an empty topic"],
        [b""],
        [b"a single frame"],
        [b"\xff\xfe\x00topic", b"its topic is not UTF-8"],
        [b"\xc3", b"half a character"],
        [b"caf\xc3\xa9", "der Körper".encode()],
        [b"json", b' {"a": [1, 2.50, "\xc3\xa4"], "a": 1e400}\n'],
        [b"json", b"[1, 2"],
        [b"json", b"17"],
        [b"text", b"tab\tline\r\nand no other control"],
        [b"text", b"a bell\x07"],
        [b"mixed", b'{"one": 1}', b"two", b"\x00\x03"],
        [b"mebibyte", noise.randbytes(1 << 20)],
        [b"mebibyte", b"x" * (1 << 20)],
    ]


def everything() -> list[list[bytes]]:
    """All of them, in the order in which they are sent."""
    return bitcoin() + bitcoin(sequence=0xFFFF_FFFE) + odd()
