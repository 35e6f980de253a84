"""Burnt subtitles: where they are drawn, in which levels, and with which fonts."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from errors import OptionError
from media.subtitles.burnt import check_fonts, font_of, subtitle_overlay
from media.yuv_frame import YuvFrame
from tests.unit.media.clips import info_of

pytestmark = pytest.mark.skipif(shutil.which("fc-list") is None, reason="needs fontconfig and a font")
LONG = "A subtitle that is far too long for a single line, and that is broken into several ones at its spaces"


def _drawn(width: int, height: int, text: str) -> YuvFrame:
    """A grey frame with the text."""
    half = (height // 2, width // 2)
    planes = YuvFrame(np.full((height, width), 120, np.uint8), np.full(half, 90, np.uint8), np.full(half, 90, np.uint8))
    subtitle_overlay(info_of(width, height), text).draw(planes)
    return planes


def _box(planes: YuvFrame) -> tuple[int, int, int, int]:
    rows, columns = (np.flatnonzero((planes.y != 120).any(axis=axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (640, 360), (360, 640), (64, 64), (16, 16), (640, 16)])
@pytest.mark.parametrize("text", ["Hello", LONG, "two\nlines", "W" * 300])
def test_subtitle_overlay_is_at_the_bottom_centre(width: int, height: int, text: str) -> None:
    planes = _drawn(width, height, text)
    x0, _, x1, y1 = _box(planes)
    assert planes.y.min() >= 16 and planes.y.max() <= 235
    if min(width, height) >= 360:
        assert 0.88 * height < y1 <= height
        assert abs((x0 + x1) / 2 - width / 2) <= 3
        assert x1 - x0 <= 0.84 * width


def test_subtitle_overlay_is_white_with_a_black_outline() -> None:
    planes = _drawn(640, 360, "HHHH")
    x0, y0, x1, y1 = _box(planes)
    assert (planes.y.max(), planes.y.min()) == (235, 16)
    row = planes.y[(y0 + y1) // 2, x0 : x1 + 1].astype(int)
    assert row[np.flatnonzero(row != 120)[0]] < 120  # the outline comes first
    inside = planes.u[(y0 + y1) // 4, x0 // 2 : x1 // 2]
    assert (np.abs(inside.astype(int) - 128) <= 1).any()
    assert (planes.u[: y0 // 2 - 1] == 90).all()
    info = info_of(640, 360)
    info = dataclasses.replace(info, colour=dataclasses.replace(info.colour, full_range=True))
    subtitle_overlay(info, "HHH").draw(planes)
    assert (planes.y.max(), planes.y.min()) == (255, 0)


def test_subtitle_overlay_breaks_long_lines() -> None:
    one, broken = _box(_drawn(1280, 720, "A subtitle")), _box(_drawn(1280, 720, LONG))
    assert broken[3] - broken[1] > 1.8 * (one[3] - one[1])


def test_font_of_letter_without_a_font_is_named() -> None:
    with pytest.raises(OptionError, match="no installed font has all letters of 'b"):
        font_of("b\U00016fe4\U00018d00")
    check_fonts(["Hello", "Grüße 123 ☃"])
    assert font_of("Hello \U0001f984 →").path == font_of("Hello").path
