"""Eyelids that close over the eyes of a picture."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from media.yuv_frame import YuvFrame
from models.avatar.eyelids import Eyelids
from tests.unit.models.still import Still

_UPPER, _LOWER = (159, 386), (145, 374)
_BROWS = (105, 334)


def _copy(planes: YuvFrame) -> YuvFrame:
    return YuvFrame(*(plane.copy() for plane in planes))


def _drawn(still: Still, closing: float, points: NDArray[np.float32] | None = None) -> YuvFrame:
    target = _copy(still.planes)
    Eyelids(still.planes, still.track.points[0] if points is None else points, _unit(still)).draw(target, closing)
    return target


def _unit(still: Still) -> float:
    return float(still.track.scale[0])


def _eye(still: Still, planes: YuvFrame, eye: int) -> NDArray[np.uint8]:
    """Luma of the iris: a square as high as half of the opening."""
    upper, lower = (still.track.points[0, ids[eye], :2] for ids in (_UPPER, _LOWER))
    (x, y), reach = (upper + lower) / 2, (lower - upper)[1] / 4
    return planes.y[round(y - reach) : round(y + reach) + 1, round(x - reach) : round(x + reach) + 1]


@pytest.mark.parametrize("eye", [0, 1])
def test_skin_covers_the_iris(still: Still, eye: int) -> None:
    opened, closed = _eye(still, still.planes, eye), _eye(still, _drawn(still, 1.0), eye)
    assert opened.min() < 40  # the pupil
    assert closed.min() > 85
    assert np.abs(np.diff(closed.astype(int), axis=1)).max() < 0.4 * np.abs(np.diff(opened.astype(int), axis=1)).max()


def test_the_lid_comes_down_from_above(still: Still) -> None:
    half, whole = _drawn(still, 0.5), _drawn(still, 1.0)
    for eye in (0, 1):
        upper, lower = (still.track.points[0, ids[eye], :2] for ids in (_UPPER, _LOWER))
        column = round(float(upper[0]))
        rows = slice(round(float(upper[1])), round(float(lower[1])))
        changed = np.abs(half.y[rows, column].astype(int) - still.planes.y[rows, column]) > 3
        third = (rows.stop - rows.start) // 3
        assert changed[:third].mean() > changed[-third:].mean()
        assert (whole.y[rows, column] != half.y[rows, column]).any()


def test_nothing_beyond_the_eyes_changes(still: Still) -> None:
    closed = _drawn(still, 1.0)
    changed = np.flatnonzero((closed.y != still.planes.y).any(1))
    brow = still.track.points[0, list(_BROWS), 1].min()
    cheek = still.track.points[0, list(_LOWER), 1].max() + 0.25 * _unit(still)
    assert brow < changed[0] and changed[-1] < cheek


def test_open_again_is_the_picture_itself(still: Still) -> None:
    target = _copy(still.planes)
    lids = Eyelids(still.planes, still.track.points[0], _unit(still))
    for closing in (0.4, 1.0, 0.0):
        lids.draw(target, closing)
    for plane, own in zip(target, still.planes, strict=True):
        np.testing.assert_array_equal(plane, own)


def test_a_shut_eye_does_not_blink(still: Still) -> None:
    points = still.track.points[0].copy()
    upper, lower = (246, 161, 160, 159, 158, 157, 173), (7, 163, 144, 145, 153, 154, 155)
    points[list(upper)] = points[list(lower)]
    drawn = _drawn(still, 1.0, points)
    np.testing.assert_array_equal(_eye(still, drawn, 0), _eye(still, still.planes, 0))
    assert (_eye(still, drawn, 1) != _eye(still, still.planes, 1)).mean() > 0.9


def test_the_corners_of_the_eye_stay(still: Still) -> None:
    closed = _drawn(still, 1.0)
    for corner in (33, 133, 362, 263):
        x, y = (round(float(value)) for value in still.track.points[0, corner, :2])
        side = -2 if corner in (33, 362) else 2
        near = closed.y[y - 12 : y + 12, x + side].astype(int) - still.planes.y[y - 12 : y + 12, x + side]
        assert np.abs(near).max() < 12


def test_an_eye_outside_the_picture_is_left_out(still: Still) -> None:
    outside = still.track.points[0] - [still.track.points[0, 133, 0] + 60, 0, 0]
    drawn = _drawn(still, 1.0, outside)
    x = round(float(outside[[33, 133, 362, 263], 0].max())) + 1
    np.testing.assert_array_equal(drawn.y[:, x:], still.planes.y[:, x:])


def _shaded_and_rough(still: Still) -> YuvFrame:
    """The picture with shade between brows and eyes, and grain all over."""
    luma = still.planes.y + np.random.default_rng(3).normal(0, 4, still.planes.y.shape)
    for eye in (0, 1):
        x, y = still.track.points[0, _UPPER[eye], :2]
        reach = 0.3 * _unit(still)
        luma[round(y - reach * 0.6) : round(y), round(x - reach) : round(x + reach)] -= 40
    return still.planes._replace(y=luma.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("eye", [0, 1])
def test_a_shut_lid_is_lit_and_rough_like_the_skin_below_it(still: Still, eye: int) -> None:
    picture = _shaded_and_rough(still)
    target = _copy(picture)
    Eyelids(picture, still.track.points[0], _unit(still)).draw(target, 1.0)
    lid = _eye(still, target, eye).astype(float)
    lid = lid[: len(lid) // 2]  # above the lashes
    x, y = still.track.points[0, _LOWER[eye], :2]
    side = len(lid)
    below = round(float(y) + 0.08 * _unit(still))
    skin = picture.y[below - side : below + side, round(x) - side : round(x) + side].astype(float)
    assert lid.mean() > skin.mean() - 40  # stretched down as it is, the shaded skin is 70 levels darker
    assert np.diff(lid, axis=1).std() > 0.4 * np.diff(skin, axis=1).std()
