"""The visible mark: it can be read at every size, and nothing but its box is touched."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from media.labels.watermark import TEXTS, Corner, Watermark, WatermarkStyle, _draw_texts
from media.probe import ColourTags
from media.yuv_frame import YuvFrame
from tests.unit.media.clips import info_of, planes_of

SIZES = [(1920, 1080), (640, 360), (360, 640), (512, 512), (64, 64), (16, 16), (16, 64), (640, 16)]


def _marked(width: int, height: int, corners: tuple[Corner, ...], language: str = "en") -> tuple[YuvFrame, YuvFrame]:
    before = planes_of(3, width, height)
    after = YuvFrame(*(plane.copy() for plane in before))
    Watermark(info_of(width, height), WatermarkStyle(language, 0.05), corners).draw(after)
    return before, after


def _box(before: YuvFrame, after: YuvFrame) -> tuple[int, int, int, int]:
    """The smallest one in luma pixels that holds every change: x0, y0, x1, y1."""
    changed = before.y != after.y
    for small, was in ((after.u, before.u), (after.v, before.v)):
        changed |= np.repeat(np.repeat(small != was, 2, axis=0), 2, axis=1)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_watermark_is_in_its_corner_at_every_size(width: int, height: int, language: str) -> None:
    x0, y0, x1, y1 = _box(*_marked(width, height, ("bottom_right",), language))
    assert x1 > width / 2 and y1 > height / 2
    assert 0 < (x1 - x0) * (y1 - y0) <= width * height
    if min(width, height) >= 360:
        assert (x1 - x0) * (y1 - y0) < 0.12 * width * height
        assert x0 > width * 0.3 and y0 > height * 0.8


@pytest.mark.parametrize("language", TEXTS)
def test_watermark_letters_have_the_required_height(language: str) -> None:
    text, cap_rows = _draw_texts()[0][language], _draw_texts()[1]
    assert text.shape[0] >= cap_rows, "no letter is lower than a capital one"
    flat = np.full((1080, 1920), 90, np.uint8)
    planes = YuvFrame(flat, np.full((540, 960), 128, np.uint8), np.full((540, 960), 128, np.uint8))
    Watermark(info_of(1920, 1080), WatermarkStyle(language, 0.05), ("bottom_right",)).draw(planes)
    white = np.flatnonzero((planes.y > 200).any(axis=1))
    assert white[-1] - white[0] + 1 >= 0.05 * 1080 - 1
    assert planes.y.max() <= 235 and planes.y.min() >= 16, "within the limited range"


def test_watermark_two_corners_and_full_range(width: int = 640, height: int = 360) -> None:
    before, after = _marked(width, height, ("bottom_right", "top_right"))
    assert _box(before, after)[1] < height / 10
    middle = slice(height // 4, height * 3 // 4)
    assert np.array_equal(before.y[middle], after.y[middle])
    info = dataclasses.replace(info_of(width, height), colour=ColourTags(1, True, 1, 1))
    black = YuvFrame(*(np.zeros_like(plane) for plane in before))
    Watermark(info, WatermarkStyle("en", 0.05), ("top_right",)).draw(black)
    assert black.y.max() == 255


def test_watermark_pixel_aspect_keeps_letter_width() -> None:
    widths = []
    for aspect in (Fraction(1), Fraction(2)):
        planes = YuvFrame(*(np.full(shape, 90, np.uint8) for shape in ((512, 512), (256, 256), (256, 256))))
        was = YuvFrame(*(plane.copy() for plane in planes))
        info = dataclasses.replace(info_of(512, 512), sample_aspect_ratio=aspect)
        Watermark(info, WatermarkStyle("en", 0.05), ("bottom_right",)).draw(planes)
        x0, _, x1, _ = _box(was, planes)
        widths.append((x1 - x0) * aspect)
    assert float(widths[1] / widths[0]) == pytest.approx(1, abs=0.1)
