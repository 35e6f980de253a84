"""The drawn mouth interior."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.avatar.eye_white import EyeWhite
from models.engines.warp.painting.interior import Colours, draw_interior, usual_teeth
from models.engines.warp.painting.lip_coordinates import lip_axes, lip_coords

_EYES = 100.0  # pixels
_SEAM = 50.0  # row
_SKIN, _LIP = (150.0, 110.0, 150.0), (110.0, 115.0, 165.0)
_EYE_WHITE = EyeWhite(0.71, np.array([8.0, -12.0], np.float32))


def _middle(gap: float, teeth: tuple[float, float, float] | None = None, rounding: float = 0.0) -> NDArray[np.float32]:
    """(3, rows) mean of the middle columns; the upper lip stays at the seam, the lower one goes down by `gap`."""
    x = np.linspace(20, 80, 11)
    bow = gap * (1 - ((x - 50) / 30) ** 2)
    upper, lower = np.stack([x, np.full(11, _SEAM)], 1), np.stack([x, _SEAM + bow], 1)
    columns, rows = np.arange(48, 53, dtype=np.float32), np.arange(40, 90, dtype=np.float32)
    coords = lip_coords(np, lip_axes(upper[None], lower[None]), columns[None, None], rows[None, :, None])
    eyes, zero, skin, lip = (np.array([value], np.float32) for value in (_EYES, 0.0, _SKIN, _LIP))
    colours = Colours(skin, lip, usual_teeth(skin, _EYE_WHITE) if teeth is None else np.array([teeth], np.float32))
    drawn = draw_interior(np, coords, eyes, (zero, zero), colours, zero + np.float32(rounding))
    return np.asarray(drawn[0].mean(-1), np.float32)


def _row(row: float) -> int:
    return round(row - 40)


def test_interior_teeth_are_fixed_to_skull_and_jaw() -> None:
    """Wide open, the upper teeth end where they ended when the mouth was half open; it is dark only below them."""
    half, wide = (_middle(gap)[0] for gap in (9.0, 16.0))
    for luma in (half, wide):
        assert luma[_row(_SEAM + 3)] > luma[_row(_SEAM + 6)] + 8
    assert wide[_row(_SEAM + 11)] > wide[_row(_SEAM + 6)] + 8


def test_interior_rounded_lips_shade_teeth_unless_wide_open() -> None:
    teeth = _row(_SEAM + 2)
    spread, half, rounded = (_middle(4.0, rounding=rounding)[0, teeth] for rounding in (0.0, 0.5, 1.0))
    assert spread > half + 5 > rounded + 10
    assert _middle(16.0, rounding=1.0)[0, teeth] == pytest.approx(_middle(16.0)[0, teeth], abs=1)


def test_interior_colours_lie_between_grey_skin_and_lips() -> None:
    y, u, v = _middle(12.0)[:, _row(_SEAM + 1) : _row(_SEAM + 8)]
    assert 0.25 * _SKIN[0] < y.min() < y.max() < 0.95 * _SKIN[0]
    assert ((v > 128) & (v < _SKIN[2])).all()
    assert ((u < 128) & (u > _SKIN[1])).all()
    rim = _middle(12.0)[:, _row(_SEAM + 12)]
    np.testing.assert_allclose(rim[1:], _LIP[1:], atol=1)
    assert abs(rim[0] - _LIP[0]) < 15
    _, u, v = _middle(16.0)[:, _row(_SEAM + 6)]
    # However pale the skin is: dark with the skin's hue is olive beside red lips.
    assert 0.7 < (u - 128) / (_LIP[1] - 128) < 0.9
    assert 0.5 < (v - 128) / (_LIP[2] - 128) < 0.65


def test_interior_teeth_have_given_colour() -> None:
    usual, white = _middle(12.0), _middle(12.0, teeth=(220.0, 126.0, 131.0))
    tooth = _row(_SEAM + 3)
    assert white[0, tooth] > usual[0, tooth] + 30
    assert abs(white[2, tooth] - 131) < abs(usual[2, tooth] - 131)


def test_usual_teeth_are_as_bright_as_eyes_in_hue_between() -> None:
    skin, white = np.array([[150, 112, 152]], np.float32), np.array([118, 138], np.float32)
    ((y, u, v),) = usual_teeth(skin, EyeWhite(0.7, white - skin[0, 1:]))
    assert 112 < u < 118 and 138 < v < 152, "between the whites of the eyes and the skin"
    assert (v - 138) / (152 - 138) > (118 - u) / (118 - 112), "redder above all"
    darker = skin * [0.5, 1, 1]
    assert usual_teeth(darker, EyeWhite(1.4, white - skin[0, 1:]))[0, 0] == pytest.approx(y)
