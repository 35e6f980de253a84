from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from errors import MediaError
from media.preview.thumbnail import thumbnail
from media.writer import SegmentWriter
from tests.unit.media.clips import info_of, planes_of


@pytest.mark.parametrize(("width", "height", "expected"), [(640, 480, (320, 240)), (128, 192, (128, 192))])
def test_thumbnail_is_the_first_frame_scaled_down(
    tmp_path: Path, width: int, height: int, expected: tuple[int, int]
) -> None:
    writer = SegmentWriter(info_of(width, height, Fraction(25)), 20, "veryfast")
    planes = planes_of(3, width, height)
    for _ in range(5):
        writer.write(planes)
    path = tmp_path / "segment.mp4"
    path.write_bytes(writer.finish())
    picture = Image.open(io.BytesIO(thumbnail(path)))
    assert (picture.format, picture.size) == ("JPEG", expected)
    shown = np.asarray(picture.convert("L"), np.float64)
    luma = (planes.y.astype(np.float64) - 16) * 255 / 219  # the segment's range is limited, a JPEG's is full
    luma = np.asarray(Image.fromarray(luma.clip(0, 255).astype(np.uint8)).resize(expected), np.float64)
    assert np.abs(shown - luma).mean() < 8


def test_thumbnail_of_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise"
    path.write_bytes(b"no video" * 100)
    with pytest.raises(MediaError):
        thumbnail(path)
