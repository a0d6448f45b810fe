"""Publishes what stands on standard input: a message a line, its frames in hexadecimal. Says who subscribes.

    publish.py ENDPOINT

It binds, as the programs do that it stands for. An XPUB is a PUB that also tells what is subscribed to.
"""

import sys
import threading

import zmq

context = zmq.Context()
publisher = context.socket(zmq.XPUB)
publisher.bind(sys.argv[1])
lines = context.socket(zmq.PAIR)
lines.bind("inproc://lines")


def read() -> None:
    """A socket belongs to one thread: this one only reads."""
    to_publisher = context.socket(zmq.PAIR)
    to_publisher.connect("inproc://lines")
    for line in sys.stdin:
        to_publisher.send_multipart([bytes.fromhex(frame) for frame in line.rstrip("\n").split(" ")])


threading.Thread(target=read, daemon=True).start()
poller = zmq.Poller()
poller.register(publisher, zmq.POLLIN)
poller.register(lines, zmq.POLLIN)
while True:
    ready = dict(poller.poll())
    if publisher in ready:
        subscription = publisher.recv()
        print("subscribed" if subscription[:1] == b"\x01" else "unsubscribed", subscription[1:], flush=True)
    if lines in ready:
        publisher.send_multipart(lines.recv_multipart())
