from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from lipwright.config import DecoderConfig
from lipwright.media.decoding.decoder import Decoders
from tests.unit.media.clips import write_video


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="session")
def h264(clips: Path) -> Path:
    return write_video(clips / "h264.mp4", 60, audio_seconds=2.4)


@pytest.fixture(scope="session")
def long_gop(clips: Path) -> Path:
    return write_video(clips / "long_gop.mp4", 120, gop=250)


@pytest.fixture(scope="session")
def variable(clips: Path) -> Path:
    pts = [40 * k for k in range(20)] + [800 + 80 * k for k in range(20)]
    return write_video(clips / "variable.mp4", 40, pts=pts, time_base=Fraction(1, 1000))


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with Decoders(DecoderConfig()) as decoders:
        decoders.warm()
        yield decoders
