"""The watermark changes the luma by two levels at most, the same way each time, and nothing else."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from media.watermark.embedder import HALF_PERIOD_SECONDS, MAX_LEVELS, InvisibleWatermark, sign_at
from media.yuv_frame import YuvFrame
from tests.unit.media.clips import info_of, planes_of
from tests.unit.media.watermark.marked_clip import IDENTIFIER, marked_lumas, planes_with, unmarked_lumas


def test_invisible_watermark_is_faint_and_repeatable() -> None:
    before, after, again = (np.stack(list(lumas)) for lumas in (unmarked_lumas(60), marked_lumas(), marked_lumas()))
    after, again = after[:60], again[:60]
    change = after.astype(int) - before
    assert np.array_equal(after, again)
    assert np.abs(change).max() <= MAX_LEVELS
    assert 10 * np.log10(255**2 / np.mean(change**2)) > 44
    assert (change[:45] != 0).mean() > 0.5


@pytest.mark.parametrize("size", [(16, 16), (64, 300), (1920, 1080), (722, 406)])
def test_invisible_watermark_marks_luma_of_every_size(size: tuple[int, int]) -> None:
    before = planes_of(3, *size)
    after = YuvFrame(*(plane.copy() for plane in before))
    InvisibleWatermark(info_of(*size), IDENTIFIER).draw(after)
    assert np.array_equal(before.u, after.u) and np.array_equal(before.v, after.v)
    change = after.y.astype(int) - before.y
    assert 0 < np.abs(change).max() <= MAX_LEVELS


def test_invisible_watermark_flat_picture_changes_by_one_level() -> None:
    for level in (0, 90, 255):
        luma = np.full((96, 96), level, np.uint8)
        InvisibleWatermark(info_of(96, 96), IDENTIFIER, first_frame=12).draw(planes_with(luma))
        assert set(np.unique(luma)) == {0: {0, 1}, 90: {89, 90, 91}, 255: {254, 255}}[level]


def test_sign_at_changes_smoothly_with_time() -> None:
    assert sign_at(0) == sign_at(HALF_PERIOD_SECONDS - 0.5) == 1
    assert sign_at(HALF_PERIOD_SECONDS + 0.5) == -1
    assert sign_at(HALF_PERIOD_SECONDS) == 0
    steps = [sign_at(number / 100) for number in range(1000)]
    assert np.abs(np.diff(steps)).max() < 0.2
    slow, fast = (
        [sign_at(float(Fraction(number) / fps)) for number in range(0, 4 * fps, fps // 5)] for fps in (10, 50)
    )
    assert slow == fast
