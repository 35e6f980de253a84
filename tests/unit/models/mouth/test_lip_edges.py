"""The true edges of open lips, found in drawn mouths whose edges are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from media.planes import Planes
from models.geometry.face_points import (
    INNER_LOWER,
    INNER_UPPER,
    MIDDLE_LOWER,
    MIDDLE_UPPER,
    OUTER_LOWER,
    OUTER_UPPER,
)
from models.mouth.lip_edges import inner_lip_edges, move_inner_lips
from tests.unit.models.mouth.drawn_mouth import CENTRE, SIDE, bow, mouth_points

_SKIN, _LIP, _TEETH, _DARK = (170, 112, 146), (110, 116, 160), (180, 120, 134), (30, 124, 136)


def _picture(up: float, down: float, half_width: float = 44.0, dark_from: float = 30.0) -> Planes:
    """Skin, lips, teeth that reach `up` and `down` from the centre's row, and the dark of the corners beside them."""
    x, y = np.meshgrid(np.arange(float(SIDE)), np.arange(float(SIDE)))
    lips = (y > bow(46, 22, x)) & (y < bow(46, -28, x))
    inside = (y > bow(half_width, up, x)) & (y < bow(half_width, -down, x))
    teeth = inside & (np.abs(x - CENTRE[0]) < dark_from)
    planes = []
    for channel in range(3):
        plane = np.full((SIDE, SIDE), _SKIN[channel], np.uint8)
        plane[lips], plane[inside], plane[teeth] = _LIP[channel], _DARK[channel], _TEETH[channel]
        planes.append(plane if channel == 0 else plane[::2, ::2])
    return Planes(*planes)


def _moved(picture: Planes, points: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(move_inner_lips(points[None], inner_lip_edges(picture, points).shifts)[0])


@pytest.mark.parametrize(("up", "down"), [(13.0, 15.0), (5.0, 9.0), (3.0, 17.0)])
def test_the_edges_are_found_where_they_are(up: float, down: float) -> None:
    moved = _moved(_picture(up, down), mouth_points())
    for ids, height in ((INNER_UPPER, up), (INNER_LOWER, -down)):
        x = moved[list(ids[2:-2]), 0].astype(float)
        np.testing.assert_allclose(moved[list(ids[2:-2]), 1], bow(44, height, x), atol=2.2)


def test_the_corners_lie_where_the_dark_ends() -> None:
    moved = _moved(_picture(13.0, 15.0), mouth_points())
    corners = moved[[INNER_UPPER[0], INNER_UPPER[-1]], 0]
    np.testing.assert_allclose(corners, [CENTRE[0] - 44, CENTRE[0] + 44], atol=2.5)  # the mesh says 38
    np.testing.assert_array_equal(moved[INNER_UPPER[0]], moved[INNER_LOWER[0]])


def test_the_middles_of_the_lips_stay_between_their_edges() -> None:
    moved = _moved(_picture(18.0, 22.0), mouth_points())
    for inner, middle, outer, sign in (
        (INNER_UPPER, MIDDLE_UPPER, OUTER_UPPER, 1),
        (INNER_LOWER, MIDDLE_LOWER, OUTER_LOWER, -1),
    ):
        inner_y, middle_y, outer_y = (moved[list(ids[3:-3]), 1] * sign for ids in (inner, middle, outer))
        assert (outer_y < middle_y).all()
        assert (middle_y < inner_y).all()


def test_an_open_mouth_is_found_that_the_mesh_takes_for_shut() -> None:
    moved = _moved(_picture(7.0, 8.0), mouth_points(inner=1.0))
    gap = moved[list(INNER_LOWER), 1] - moved[list(INNER_UPPER), 1]
    assert gap[3:-3].min() > 10


def test_a_shut_mouth_stays_shut() -> None:
    moved = _moved(_picture(0.0, 0.0), mouth_points(inner=1.0))
    gap = moved[list(INNER_LOWER), 1] - moved[list(INNER_UPPER), 1]
    assert gap.max() < 5


def test_what_the_mesh_alone_says_is_told_from_what_the_picture_shows() -> None:
    shut = inner_lip_edges(_picture(0.0, 0.0), mouth_points()).evidence
    toothy = inner_lip_edges(_picture(13.0, 15.0), mouth_points()).evidence
    assert shut < 0.2
    assert toothy > 0.8


def test_lips_without_colour_stay_within_reach_of_the_mesh() -> None:
    picture = _picture(13.0, 15.0)
    grey = Planes(picture.y, np.full_like(picture.u, 128), np.full_like(picture.v, 128))
    points = mouth_points()
    moved = _moved(grey, points)
    assert np.abs(moved[list(INNER_UPPER + INNER_LOWER), 1] - points[list(INNER_UPPER + INNER_LOWER), 1]).max() < 9


def test_turned_and_larger_faces_are_moved_alike() -> None:
    points = mouth_points()
    shifts = inner_lip_edges(_picture(13.0, 15.0), points).shifts
    turn = 2 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    other = points.copy()
    other[:, :2] = points[:, :2] @ turn.T
    moved = move_inner_lips(np.stack([points, other]), shifts)
    np.testing.assert_allclose(moved[0][:, :2] @ turn.T, moved[1][:, :2], atol=1e-2)
