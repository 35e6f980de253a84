from __future__ import annotations

from collections.abc import Iterator

import pytest

from config import DecoderConfig
from media.decoding.decoder import Decoders


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with Decoders(DecoderConfig()) as decoders:
        decoders.warm()
        yield decoders
