"""Fifty well-behaved clients that hear everything, or say what they did not."""

import json
import selectors
import threading
import time

import wire

CLIENTS = 50
TOPIC = b"good/"
# Between two messages that each of them is to hear.
PERIOD_S = 0.02


class Crowd:
    """Clients of one edge, and the publisher whose numbers they count."""

    def __init__(self, address: str, publisher, **headers: str):
        self._publisher = publisher
        self._over = threading.Event()
        self._sent: list[float] = []
        self._heard = [0] * CLIENTS
        self.faults: list[str] = []
        self.slowest_s = 0.0
        self._selector = selectors.DefaultSelector()
        for nth in range(CLIENTS):
            client = wire.WebSocket(address, path="/ws?topic=good/", **headers)
            client.stream.setblocking(False)
            self._selector.register(client.stream, selectors.EVENT_READ, (nth, client))
        self._threads = [threading.Thread(target=run) for run in (self._publish, self._read)]
        for thread in self._threads:
            thread.start()

    def _publish(self) -> None:
        while not self._over.wait(PERIOD_S):
            self._sent.append(time.monotonic())
            self._publisher.send_multipart([TOPIC, str(len(self._sent)).encode()])

    def _read(self) -> None:
        while not self._over.is_set():
            for key, _ in self._selector.select(0.1):
                nth, client = key.data
                received = client.stream.recv(65536)
                if not received:
                    self.faults.append(f"client {nth}: cut")
                    self._selector.unregister(client.stream)
                    continue
                client._frames.feed(received)
                while (taken := client._frames.take()) is not None:
                    self._hear(nth, client, *taken)

    def _hear(self, nth: int, client: wire.WebSocket, opcode: int, payload: bytes) -> None:
        if opcode == wire.PING:
            client.send(wire.frame(wire.PONG, payload))
        elif opcode == wire.CLOSE:
            self.faults.append(f"client {nth}: closed with {int.from_bytes(payload[:2])}")
        elif "event" in (message := json.loads(payload)):
            number = int(message["event"]["text"])
            # The first one heard is where it begins.
            if self._heard[nth] not in (0, number - 1):
                self.faults.append(f"client {nth}: {number} after {self._heard[nth]}")
            self._heard[nth] = number
            self.slowest_s = max(self.slowest_s, time.monotonic() - self._sent[number - 1])
        elif "lost" in message:
            self.faults.append(f"client {nth}: {message}")

    def has_all(self) -> bool:
        """Everybody has what was published until now, soon."""
        published = len(self._sent)
        deadline = time.monotonic() + wire.DEADLINE_S
        while min(self._heard) < published and not self.faults:
            if time.monotonic() > deadline:
                return False
            time.sleep(PERIOD_S)
        return True

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
