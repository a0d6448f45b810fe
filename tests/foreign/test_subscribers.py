"""Frames of foreign publishers reach a foreign subscriber on 5556 byte for byte."""

import messages
from messages import bitcoin_hash
from peers import Publisher, Subscriber, receive, settle
from processes import Forwarder


def test_the_bitcoin_frames_are_real():
    assert bitcoin_hash(messages.GENESIS_HEADER) == messages.GENESIS_BLOCK_HASH
    assert bitcoin_hash(messages.GENESIS_TRANSACTION) == messages.GENESIS_TRANSACTION_HASH


def test_a_publisher_that_connects(context, using):
    forwarder = using(Forwarder())
    publisher = using(Publisher(context, forwarder.frontend))
    subscriber = using(Subscriber(context, forwarder.backend, b""))
    settle(publisher, subscriber)
    publisher.send(*messages.everything())
    sent = messages.everything()
    assert receive(subscriber, len(sent)) == sent


def test_a_publisher_that_listens_is_a_source(context, using):
    publisher = using(Publisher(context))
    forwarder = using(Forwarder("--source", publisher.endpoint))
    subscriber = using(Subscriber(context, forwarder.backend, b""))
    settle(publisher, subscriber)
    sent = messages.everything()
    publisher.send(*sent)
    assert receive(subscriber, len(sent)) == sent


def test_a_feed_without_topics_is_untouched_by_its_alias(context, using):
    publisher = using(Publisher(context))
    forwarder = using(Forwarder("--source", f"eddn={publisher.endpoint}"))
    subscriber = using(Subscriber(context, forwarder.backend, b""))
    settle(publisher, subscriber)
    publisher.send([b"\x78\x9c one frame, zlib perhaps"], [b"two", b"frames"])
    assert receive(subscriber, 2) == [[b"\x78\x9c one frame, zlib perhaps"], [b"two", b"frames"]]


def test_prefixes_are_bytes(context, using):
    forwarder = using(Forwarder())
    publisher = using(Publisher(context, forwarder.frontend))
    hashes = using(Subscriber(context, forwarder.backend, b"hash", b"\x01probe"))
    binary = using(Subscriber(context, forwarder.backend, b"\xff\xfe\x00", b"\x01probe"))
    settle(publisher, hashes, binary)
    publisher.send(*messages.everything())
    sent = messages.everything()
    assert receive(hashes, 4) == [frames for frames in sent if frames[0].startswith(b"hash")]
    assert receive(binary, 1) == [frames for frames in sent if frames[0].startswith(b"\xff\xfe\x00")]


def test_reserved_topics_stay_out(context, using):
    forwarder = using(Forwarder())
    publisher = using(Publisher(context, forwarder.frontend))
    subscriber = using(Subscriber(context, forwarder.backend, b""))
    settle(publisher, subscriber)
    publisher.send([b"\0trestle", b"trestle.v1.Beat", b""], [b"\0trestle/mine", b"x"], [b"\0tres", b"this may pass"])
    assert receive(subscriber, 1) == [[b"\0tres", b"this may pass"]]
