"""A publisher whose messages are numbered by topic."""

import threading
import time

import zmq

# Messages sent between two looks at the clock.
BATCH = 20


class Feed:
    """Publishes `rate` messages a second over `topics`, one after the other, until it is stopped."""

    def __init__(self, endpoint: str, topics: list[str], rate: int):
        self.sent = dict.fromkeys(topics, 0)
        self._socket = zmq.Context.instance().socket(zmq.PUB)
        self._socket.set(zmq.SNDHWM, 0)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.RECONNECT_IVL, 50)
        self._socket.connect(endpoint)
        self._rate = rate
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        topics, nth, start = list(self.sent), 0, time.monotonic()
        while not self._stopping.is_set():
            for _ in range(BATCH):
                self.send(topics[nth % len(topics)])
                nth += 1
            self._stopping.wait(max(0.0, start + nth / self._rate - time.monotonic()))

    def send(self, topic: str) -> None:
        self.sent[topic] += 1
        self._socket.send_multipart([topic.encode(), b'{"n":%d}' % self.sent[topic]])

    @property
    def n_sent(self) -> int:
        return sum(self.sent.values())

    def stop(self) -> None:
        """No more from its thread; `send` still may."""
        self._stopping.set()
        self._thread.join()
