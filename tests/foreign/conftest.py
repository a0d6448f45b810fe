"""Processes and peers that end with their test."""

import contextlib

import pytest
import zmq


@pytest.fixture
def context():
    with zmq.Context() as context:
        yield context


@pytest.fixture
def using(context):
    """`using(thing)` gives the thing and stops or closes it after the test, the last first."""
    with contextlib.ExitStack() as stack:

        def use(thing):
            stack.callback(thing.stop if hasattr(thing, "stop") else thing.close)
            return thing

        yield use
