from __future__ import annotations

import cv2
import numpy as np
import pytest

from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame, from_rgb
from models.engines.warp.visible_gap import visible_gap
from models.geometry.head_frame import EYE_LEFT, EYE_RIGHT
from tests.unit.models.mouth.drawn_mouth import CENTRE, SIDE, mouth_points

EYES = 120.0
SKIN, LIP = (205, 160, 140), (170, 70, 80)


def mouth(inside: tuple[int, int, int], height: int) -> tuple[YuvFrame, np.ndarray]:
    """Lips with `height` rows of a colour between them, and landmarks that say closed."""
    points = mouth_points(inner=0.0)
    points[EYE_LEFT, 0], points[EYE_RIGHT, 0] = CENTRE[0] - EYES / 2, CENTRE[0] + EYES / 2
    rgb = np.full((SIDE, SIDE, 3), SKIN, np.uint8)
    x, y = (int(value) for value in CENTRE)
    cv2.ellipse(rgb, (x, y), (46, 26), 0, 0, 360, LIP, -1)
    cv2.rectangle(rgb, (x - 36, y - height // 2), (x + 36, y + (height + 1) // 2 - 1), inside, -1)
    return from_rgb(rgb, ColourTags(matrix=6, full_range=False, primaries=2, transfer=2)), points


@pytest.mark.parametrize("colour", [(215, 210, 195), (225, 165, 150), (35, 12, 15)])
def test_visible_gap_teeth_or_dark_returns_their_height(colour: tuple[int, int, int]) -> None:
    assert visible_gap(*mouth(colour, 12)) == pytest.approx(12 / EYES, abs=0.02)


def test_visible_gap_closed_lips_returns_zero() -> None:
    assert visible_gap(*mouth(LIP, 2)) == 0
    assert visible_gap(*mouth((110, 40, 48), 2)) == 0  # the line where lips meet
    assert visible_gap(*mouth((235, 135, 145), 12)) == 0  # a highlight on moist lips
