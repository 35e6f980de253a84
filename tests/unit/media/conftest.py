from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from config import DecoderConfig
from media.decoding.decoder import Decoders
from tests.unit.media.clips import write_video


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="session")
def h264(clips: Path) -> Path:
    """60 frames at 25 fps, B-frames, a key frame every 12, with sound."""
    return write_video(clips / "h264.mp4", 60, audio_seconds=2.4)


@pytest.fixture(scope="session")
def long_gop(clips: Path) -> Path:
    """120 frames with one key frame, B-frames between."""
    return write_video(clips / "long_gop.mp4", 120, gop=250)


@pytest.fixture(scope="session")
def variable(clips: Path) -> Path:
    """40 frames: 20 at 25 fps, then 20 at 12.5 fps, in milliseconds."""
    pts = [40 * k for k in range(20)] + [800 + 80 * k for k in range(20)]
    return write_video(clips / "variable.mp4", 40, pts=pts, time_base=Fraction(1, 1000))


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with Decoders(DecoderConfig()) as decoders:
        decoders.warm()
        yield decoders
