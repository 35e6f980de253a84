"""Where the lips of a shut mouth meet, found in drawn mouths."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from media.planes import Planes
from models.geometry.face_points import INNER_LOWER, INNER_UPPER
from models.mouth.lip_edges import move_inner_lips
from models.mouth.lip_seam import seam_shifts
from tests.unit.models.mouth.drawn_mouth import CENTRE, SIDE, bow, mouth_points

_LIGHT, _SHADE, _DARK = 150.0, 100.0, 55.0
_NUM_FRAMES = 5


def _pictures(seam: float | None, shade_from: float) -> list[Planes]:
    """Noisy frames of lips with a dark line that bows to `seam` pixels over the centre, under a shade, as of hair."""
    x, y = np.meshgrid(np.arange(float(SIDE)), np.arange(float(SIDE)))
    luma = np.full((SIDE, SIDE), _LIGHT)
    luma[y < CENTRE[1] - shade_from] = _SHADE
    if seam is not None:
        luma -= (_LIGHT - _DARK) * np.exp(-(((y - bow(46, seam, x)) / 1.5) ** 2))
    grey = np.full((SIDE // 2, SIDE // 2), 128, np.uint8)
    noise = np.random.default_rng(3)
    frames = [(luma + noise.normal(0, 4, luma.shape)).clip(0, 255).astype(np.uint8) for _ in range(_NUM_FRAMES)]
    return [Planes(frame, grey, grey) for frame in frames]


def _met(pictures: list[Planes], points: NDArray[np.float32]) -> NDArray[np.float32]:
    shifts = seam_shifts(pictures, np.stack([points] * len(pictures)))
    moved: NDArray[np.float32] = move_inner_lips(points[None], shifts)[0]
    np.testing.assert_allclose(moved[list(INNER_UPPER)], moved[list(INNER_LOWER)], atol=1e-3)
    return moved[list(INNER_UPPER)]


@pytest.mark.parametrize("seam", [-7.0, -3.0, 0.0, 4.0, 7.0])
def test_lips_meet_where_the_picture_is_dark_between_them(seam: float) -> None:
    met = _met(_pictures(seam, shade_from=20.0), mouth_points(inner=1.0))
    np.testing.assert_allclose(met[1:-1, 1], bow(46, seam, met[1:-1, 0].astype(float)), atol=1.5)


def test_a_hand_in_one_of_the_frames_is_nothing() -> None:
    pictures = _pictures(4.0, shade_from=20.0)
    pictures[2].y[:, :50] = 30
    met = _met(pictures, mouth_points(inner=1.0))
    np.testing.assert_allclose(met[1:-1, 1], bow(46, 4.0, met[1:-1, 0].astype(float)), atol=1.5)


def test_they_part_almost_from_corner_to_corner() -> None:
    met = _met(_pictures(0.0, shade_from=20.0), mouth_points(inner=1.0))
    np.testing.assert_allclose(met[[0, -1], 0], [CENTRE[0] - 44, CENTRE[0] + 44], atol=0.5)  # the mesh says 38, of 46


def test_where_nothing_is_dark_the_mesh_is_believed() -> None:
    met = _met(_pictures(None, shade_from=20.0), mouth_points(inner=1.0))
    np.testing.assert_allclose(met[:, 1], CENTRE[1], atol=1.5)
