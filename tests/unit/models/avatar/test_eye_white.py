"""The whites of the eyes, measured on the sample portrait and on what is painted over it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.material import FramesInMemory
from media.yuv_frame import YuvFrame
from models.avatar.eye_white import eye_white, measure_eye_white
from models.avatar.eyelids import Eyelids, EyeState
from models.geometry.head_frame import EYES
from tests.unit.models.still import Still


def _copy(planes: YuvFrame) -> YuvFrame:
    return YuvFrame(*(plane.copy() for plane in planes))


def _painted(still: Still, *colours: tuple[int, int, int]) -> YuvFrame:
    """Both eyes filled with one (Y, U, V) each, a dark iris in the middle."""
    planes, points = _copy(still.planes), still.track.points[0, :, :2]
    for (upper, lower), colour in zip(EYES, colours, strict=True):
        outline = points[[*upper, *lower[::-1]]]
        for plane, value, step in zip(planes, colour, (1, 2, 2), strict=True):
            place = np.rint((outline + 0.5) / step - 0.5).astype(np.int32)
            cv2.fillPoly(plane, [place], value)
            cv2.polylines(plane, [place], True, value, thickness=5 - step)
        middle = np.rint(outline.mean(0)).astype(int)
        height = np.ptp(points[list(upper[2:-2]) + list(lower[2:-2]), 1])
        cv2.circle(planes.y, [int(v) for v in middle], round(0.4 * height), 20, -1)
    return planes


def _skin(still: Still) -> NDArray[np.float64]:
    """Y, U, V around the cheeks."""
    points = np.rint(still.track.points[0, [205, 425, 50, 280], :2]).astype(int)
    luma = np.median([still.planes.y[y, x] for x, y in points])
    chroma = [np.median([plane[y // 2, x // 2] for x, y in points]) for plane in still.planes[1:]]
    return np.array([luma, *chroma])


def test_eye_white_measures_the_whites_only(still: Still) -> None:
    white = eye_white(_painted(still, (140, 120, 135), (140, 120, 135)), still.track.points[0])
    skin = _skin(still)
    assert white.light == pytest.approx(140 / skin[0], rel=0.05)
    assert white.chroma == pytest.approx([120 - skin[1], 135 - skin[2]], abs=3)


def test_eye_white_is_that_of_the_darker_eye(still: Still) -> None:
    for colours in ([(170, 125, 132), (110, 120, 135)], [(110, 120, 135), (170, 125, 132)]):
        white = eye_white(_painted(still, *colours), still.track.points[0])
        assert white.light == pytest.approx(110 / _skin(still)[0], rel=0.05)


def test_eye_white_of_closed_eyes_is_the_default(still: Still) -> None:
    shut = _copy(still.planes)
    Eyelids(still.planes, still.track.points[0], float(still.track.scale[0])).draw(shut, EyeState(1.0))
    points = still.track.points[0].copy()
    for upper, lower in EYES:
        points[list(upper)] = points[list(lower)]
    usual, own = eye_white(shut, points), eye_white(still.planes, still.track.points[0])
    assert 0.6 < usual.light < 0.8
    assert usual.light != own.light
    # Whiter than skin: nearer to grey.
    assert (np.abs(_skin(still)[1:] + usual.chroma - 128) < np.abs(_skin(still)[1:] - 128)).all()


@pytest.mark.parametrize(("luma", "light"), [(5, 0.71), (255, 1.1)])
def test_measure_eye_white_dark_or_glaring_eyes_are_bounded(still: Still, luma: int, light: float) -> None:
    planes = _painted(still, (luma, 128, 128), (luma, 128, 128))
    planes.y[:] = np.where(planes.y == luma, luma, planes.y // 2)
    assert measure_eye_white(still.track, 25.0, FramesInMemory([planes])).light == pytest.approx(light, abs=0.01)
