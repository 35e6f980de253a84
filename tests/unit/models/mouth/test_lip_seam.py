import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.media.yuv_frame import YuvFrame
from models.geometry.head_frame import INNER_LOWER, INNER_UPPER, LIP_ROWS
from models.mouth.lip_seam import move_inner_lips, seam_shifts
from tests.unit.models.mouth.drawn_mouth import CENTRE, SIDE, bow, mouth_points

_LIGHT, _SHADE, _DARK = 150.0, 100.0, 55.0
_NUM_FRAMES = 5


def _pictures(seam: float | None) -> list[YuvFrame]:
    """Noisy frames of lips with a dark line that bows to `seam` pixels over the centre, under a shade, as of hair."""
    x, y = np.meshgrid(np.arange(float(SIDE)), np.arange(float(SIDE)))
    luma = np.full((SIDE, SIDE), _LIGHT)
    luma[y < CENTRE[1] - 20] = _SHADE
    if seam is not None:
        luma -= (_LIGHT - _DARK) * np.exp(-(((y - bow(46, seam, x)) / 1.5) ** 2))
    grey = np.full((SIDE // 2, SIDE // 2), 128, np.uint8)
    noise = np.random.default_rng(3)
    frames = [(luma + noise.normal(0, 4, luma.shape)).clip(0, 255).astype(np.uint8) for _ in range(_NUM_FRAMES)]
    return [YuvFrame(frame, grey, grey) for frame in frames]


POINTS = mouth_points(inner=1.0)


def _shifts(pictures: list[YuvFrame]) -> NDArray[np.float32]:
    return seam_shifts(pictures, np.stack([POINTS] * _NUM_FRAMES))


def _met(pictures: list[YuvFrame]) -> NDArray[np.float32]:
    moved: NDArray[np.float32] = move_inner_lips(POINTS[None], _shifts(pictures))[0]
    np.testing.assert_allclose(moved[list(INNER_UPPER)], moved[list(INNER_LOWER)], atol=1e-3)
    return moved[list(INNER_UPPER)]


@pytest.mark.parametrize("seam", [-7.0, -3.0, 0.0, 4.0, 7.0])
def test_seam_shifts_lips_meet_at_the_dark_line(seam: float) -> None:
    pictures = _pictures(seam)
    pictures[2].y[:, :50] = 30  # something in front of them
    met = _met(pictures)
    np.testing.assert_allclose(met[1:-1, 1], bow(46, seam, met[1:-1, 0].astype(float)), atol=1.5)


def test_seam_shifts_reach_the_corners_and_need_a_dark_line() -> None:
    corners = [CENTRE[0] - 44, CENTRE[0] + 44]  # the landmarks say 38, of 46
    np.testing.assert_allclose(_met(_pictures(0.0))[[0, -1], 0], corners, atol=0.5)
    np.testing.assert_allclose(_met(_pictures(None))[:, 1], CENTRE[1], atol=1.5)


def test_move_inner_lips_follows_turn_and_moves_the_middles() -> None:
    turn = 2 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    other = POINTS.copy()
    other[:, :2] = POINTS[:, :2] @ turn.T
    moved, turned = move_inner_lips(np.stack([POINTS, other]), _shifts(_pictures(7.0)))
    np.testing.assert_allclose(moved[:, :2] @ turn.T, turned[:, :2], atol=1e-2)
    for outer, middle, inner, sign in zip(LIP_ROWS[:2], LIP_ROWS[2:4], LIP_ROWS[4:], (1, -1), strict=True):
        inner_y, middle_y, outer_y = (moved[list(ids[3:-3]), 1] * sign for ids in (inner, middle, outer))
        assert (outer_y < middle_y).all() and (middle_y < inner_y).all()
        assert np.abs(moved[list(middle[3:-3]), 1] - POINTS[list(middle[3:-3]), 1]).min() > 0.5
