"""What was recorded in all, as an edge replays it from the first message of the epoch on."""

import base64
import json
import ssl
from collections import defaultdict

from websockets.asyncio.client import connect

# Of a position: its format, and the epoch; the offset follows.
EPOCH_END = 9
OFFSET_BYTES = 8


def beginning(position: str) -> str:
    """The position before the first message of that one's epoch."""
    raw = base64.urlsafe_b64decode(position + "=" * (-len(position) % 4))
    return base64.urlsafe_b64encode(raw[:EPOCH_END] + bytes(OFFSET_BYTES)).decode().rstrip("=")


async def recorded(url: str, tls: ssl.SSLContext | None, positions: list[str | None]) -> dict[str, set[int]] | None:
    """The numbers by topic. None where the epoch was not the same all along, or its first messages are gone."""
    beginnings = {beginning(position) for position in positions if position}
    if len(beginnings) != 1:
        return None
    numbers = defaultdict(set)
    async with connect(url, ssl=tls, subprotocols=["trestle.v1.json"], compression=None, max_queue=None) as socket:
        await socket.send(json.dumps({"id": 1, "subscribe": {"topics": ["c/"], "since": beginnings.pop()}}))
        while True:
            message = json.loads(await socket.recv())
            if event := message.get("event"):
                numbers[event["topic"]].add(event["data"]["n"])
            elif "caught_up" in message:
                return numbers
            elif "lost" in message or ("reply" in message and not message["reply"]["subscribed"]["recovered"]):
                return None
