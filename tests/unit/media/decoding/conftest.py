"""Decoders in processes of their own, and waits for what they do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from config import DecoderConfig
from media.decoding.decoder import Decoders


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with Decoders(DecoderConfig()) as decoders:
        decoders.warm()
        yield decoders


def wait_until(is_so: Callable[[], bool], timeout_s: float = 60) -> None:
    """Wait for a condition; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
