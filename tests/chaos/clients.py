"""Clients that come and go as browsers in a train do, and resume where they were."""

import asyncio
import json
import random
import ssl

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from record import Record

# How long a client stays, and stays away, seconds.
STAY_S = (0.5, 6.0)
AWAY_S = (0.0, 0.5)
# An edge that has just been killed is tried again after this, seconds.
REFUSED_S = 0.2


class Client:
    """One of them: an own resume point, an own record."""

    def __init__(self, name: str, prefix: str, urls: list[str], tls: ssl.SSLContext | None, seed: int):
        self.record = Record(name)
        self.n_connections = 0
        self.n_refused = 0
        self.prefix = prefix
        # Whether the last change concerns everybody: then it stays connected.
        self.stays = False
        self._urls = urls
        self._tls = tls
        self._random = random.Random(seed)
        self._position: str | None = None
        self._caught_up = False

    @property
    def position(self) -> str | None:
        return self._position

    async def run(self) -> None:
        while True:
            url = self._random.choice(self._urls)
            try:
                async with connect(url, ssl=self._tls, subprotocols=["trestle.v1.json"], compression=None, open_timeout=10,
                                   close_timeout=0.1, max_queue=None, ping_interval=None) as socket:
                    self.n_connections += 1
                    await self._listen(socket)
                    if self._random.random() < 0.5:
                        socket.transport.abort()
            except (OSError, TimeoutError, EOFError, InvalidStatus, WebSocketException):
                self.n_refused += 1
                await asyncio.sleep(REFUSED_S)
            await asyncio.sleep(self._random.uniform(*AWAY_S))

    async def _listen(self, socket) -> None:
        subscribe = {"topics": [self.prefix]} | ({"since": self._position} if self._position else {})
        self._caught_up = False
        await socket.send(json.dumps({"id": 1, "subscribe": subscribe}))
        stay = self._random.uniform(*STAY_S)
        while True:
            try:
                async with asyncio.timeout(stay):
                    while True:
                        self._take(json.loads(await socket.recv()))
            except TimeoutError:
                if not self.stays:
                    return

    def _take(self, message: dict) -> None:
        """As every client must: an event moves the resume point, a heartbeat or a loss only once it has caught up."""
        if event := message.get("event"):
            self.record.event(event["topic"], event["data"]["n"])
            self._position = event["position"]
        elif caught_up := message.get("caught_up"):
            self._caught_up = True
            self._position = caught_up.get("position", self._position)
            self.record.verdict.replayed += caught_up["replayed"]
        elif heartbeat := message.get("heartbeat"):
            if self._caught_up:
                self._position = heartbeat.get("position", self._position)
        elif lost := message.get("lost"):
            self.record.lost(lost["cause"])
            if self._caught_up:
                self._position = lost.get("position", self._position)
        elif reply := message.get("reply"):
            subscribed = reply["subscribed"]
            if subscribed.get("recovered") is False:
                self.record.lost(subscribed["reason"])
            self._position = subscribed.get("position", self._position)
        else:
            assert "welcome" in message or "goodbye" in message, message
