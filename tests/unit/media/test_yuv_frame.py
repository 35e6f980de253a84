from __future__ import annotations

import numpy as np
import pytest

from media.probe import ColourTags
from media.yuv_frame import Patch, YuvFrame, cut, from_rgb, paste_back, to_rgb
from tests.unit.media.clips import planes_of


def _random(height: int, width: int, seed: int = 0) -> YuvFrame:
    rng = np.random.default_rng(seed)
    shapes = ((height, width), (height // 2, width // 2), (height // 2, width // 2))
    return YuvFrame(*(rng.integers(0, 256, shape, np.uint8) for shape in shapes))


def test_cut_copies_and_repeats_the_edge_outside_the_frame() -> None:
    frame = _random(32, 48)
    region = cut(frame, -8, 20, 24)
    expected = np.pad(frame.y, 24, mode="edge")[24 + 20 : 24 + 44, 24 - 8 : 24 + 16]
    assert np.array_equal(region.y, expected)
    assert region.u.shape == region.v.shape == (12, 12)
    cut(frame, 0, 0, 16).y[:] = 0
    assert frame.y.any()


@pytest.mark.parametrize(("x", "y"), [(8, 4), (-10, -6), (40, 20), (200, 200), (-100, 0)])
def test_paste_back_changes_only_the_patch(x: int, y: int) -> None:
    frame, before, patch = _random(32, 48), _random(32, 48), _random(16, 16, seed=1)
    paste_back(frame, Patch(x, y, patch))
    for plane, old, new, half in zip(frame, before, patch, (1, 2, 2), strict=True):
        left, top, side = x // half, y // half, 16 // half
        rows, columns = np.mgrid[: plane.shape[0], : plane.shape[1]]
        inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
        assert np.array_equal(plane[~inside], old[~inside])
        assert np.array_equal(plane[inside], new[rows[inside] - top, columns[inside] - left])


def test_paste_back_of_a_cut_changes_nothing() -> None:
    frame, before = _random(32, 48), _random(32, 48)
    paste_back(frame, Patch(-6, 10, cut(frame, -6, 10, 32)))
    assert all(np.array_equal(a, b) for a, b in zip(frame, before, strict=True))


def test_cut_and_paste_back_odd_position_is_refused() -> None:
    with pytest.raises(ValueError, match="x = 3"):
        cut(_random(32, 48), 3, 0, 16)
    with pytest.raises(ValueError, match=r"patch\.y = 1"):
        paste_back(_random(32, 48), Patch(0, 1, _random(16, 16)))


@pytest.mark.parametrize(
    ("matrix", "full_range", "red_luma"),
    [(1, False, 63), (6, False, 81), (2, False, 81), (9, False, 74), (1, True, 54), (5, True, 76)],
)
def test_from_rgb_red_has_the_luma_of_its_matrix(matrix: int, full_range: bool, red_luma: int) -> None:
    # Kr x 219 + 16 in limited range, Kr x 255 in full range; Kr: H.273, table 4.
    colour = ColourTags(matrix, full_range, 2, 2)
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    planes = from_rgb(red, colour)
    assert abs(int(planes.y[16, 16]) - red_luma) <= 1
    assert np.abs(to_rgb(planes, colour).astype(int) - red).max() <= 4


def test_to_rgb_and_back_keeps_the_picture() -> None:
    colour = ColourTags(1, False, 1, 1)
    planes = planes_of(5, 192, 128)
    back = from_rgb(to_rgb(planes, colour), colour)
    assert np.abs(back.y.astype(int) - planes.y).mean() < 0.6
    assert abs(float(back.y.mean()) - float(planes.y.mean())) < 0.3
