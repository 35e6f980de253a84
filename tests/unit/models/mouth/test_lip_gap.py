from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from media.planes import Planes
from models.mouth.lip_gap import measure_gap, opening_of

_SIZE = 200
_EYES = 100.0  # pixels between the outer eye corners
_TOP, _BOTTOM, _MIDDLE = 110, 150, 128  # of the lips
_SKIN_V, _LIP_V, _INSIDE_V = 150, 162, 132


def _mouth(gap: int, lip_v: int = _LIP_V) -> tuple[Planes, NDArray[np.float32]]:
    """A face with a mouth that is open by `gap` pixels, and its landmarks, which stay where they are."""
    v = np.full((_SIZE, _SIZE), _SKIN_V, np.uint8)
    v[_TOP:_BOTTOM, 60:140] = lip_v
    v[_MIDDLE - gap // 2 : _MIDDLE + (gap + 1) // 2, 65:135] = _INSIDE_V
    points = np.zeros((468, 3), np.float32)
    points[33, :2], points[263, :2] = (50, 50), (150, 50)
    for upper, lower, x in ((37, 84, 85), (0, 17, 100), (267, 314, 115)):
        points[upper, :2], points[lower, :2] = (x, _TOP), (x, _BOTTOM)
    half = v[::2, ::2].copy()
    return Planes(np.full((_SIZE, _SIZE), 120, np.uint8), np.full_like(half, 120), half), points


def test_gap_grows_with_the_opening() -> None:
    found = [measure_gap(*_mouth(gap))[0] for gap in (0, 4, 8, 12)]
    steps = np.diff(found)
    assert found[0] < 0.05
    assert (steps > 0.02).all()
    assert steps.max() < 2 * steps.min()


def test_the_gap_is_as_wide_in_pixels_that_are_not_square() -> None:
    planes, points = _mouth(8)
    eyes_apart = points.copy()
    eyes_apart[[33, 263], 0] = 75, 125  # as pixels twice as wide show them
    assert measure_gap(planes, eyes_apart, 2.0)[0] == pytest.approx(measure_gap(planes, points)[0])


def test_contrast_is_that_of_lip_and_skin() -> None:
    assert measure_gap(*_mouth(0))[1] == pytest.approx(_LIP_V - _SKIN_V, abs=1)


def test_opening_is_that_of_the_picture_where_the_mesh_hardly_moves() -> None:
    true = np.array([0, 0, 0, 2, 4, 6, 8, 10, 12, 8, 4, 0], float)
    gaps, contrasts = np.array([measure_gap(*_mouth(int(gap))) for gap in true]).T
    mesh = np.maximum(true - 5, 0) / _EYES  # blind to what is below 5 pixels
    opening = opening_of(gaps, contrasts, mesh)
    assert np.corrcoef(opening, true)[0, 1] > 0.98
    assert opening[[0, 1, 2, 11]] == pytest.approx(0, abs=0.005)
    assert opening[4] > 0.5 * true[4] / _EYES > mesh[4]


def test_the_mesh_has_a_say_in_an_opening_that_both_see() -> None:
    """Their errors have nothing to do with each other: together they err less than the picture alone, and as far."""
    rng = np.random.default_rng(0)
    true = 0.08 * np.sin(np.arange(100) / 3) ** 2
    gaps, mesh = (0.03 + true + rng.normal(0, 0.012, 100) for _ in range(2))
    opening = opening_of(gaps, np.full(100, 10.0), 0.5 * (mesh - mesh[true < 0.005].mean()))
    assert np.corrcoef(opening, true)[0, 1] > np.corrcoef(gaps, true)[0, 1] + 0.01
    assert opening.std() == pytest.approx(1.26 * gaps.std())


def test_lips_in_the_colour_of_skin_are_left_to_the_mesh() -> None:
    true = np.arange(12) % 6
    gaps, contrasts = np.array([measure_gap(*_mouth(int(gap), _SKIN_V)) for gap in true]).T
    mesh = true / _EYES
    assert opening_of(gaps, contrasts, mesh) == pytest.approx(mesh / 0.82)


def test_colour_that_does_not_follow_the_lips_is_not_believed() -> None:
    random = np.random.default_rng(1)
    mesh = np.arange(30) / 300
    gaps = random.permutation(mesh)
    assert abs(np.corrcoef(gaps, mesh)[0, 1]) < 0.5
    assert opening_of(gaps, np.full(30, 10.0), mesh) == pytest.approx(mesh / 0.82)


def test_a_mouth_that_never_closes_is_open_in_its_most_closed_frames() -> None:
    true = np.array([12, 13, 14, 15, 16, 18, 20, 18, 16, 14, 13, 12], float)
    gaps, contrasts = np.array([measure_gap(*_mouth(int(gap))) for gap in true]).T
    assert opening_of(gaps, contrasts, true / _EYES).min() > 0.06
    # One that closes: its own closed lips count, more than the single lowest frames.
    closed = np.array([0.02, 0.025, 0.03, 0.03, 0.035, 0.03, 0.1, 0.12, 0.1, 0.12])
    opening = opening_of(closed, np.full(10, 10.0), closed - closed[:6].mean())
    assert opening[:6].mean() == pytest.approx(0, abs=1e-6)


def test_a_wide_gap_counts_as_much_a_pixel_as_a_narrow_one() -> None:
    found = [measure_gap(*_mouth(gap))[0] for gap in (4, 12, 20)]
    assert found[2] - found[1] > 0.75 * (found[1] - found[0])
