"""The drawn mouth interior."""

from __future__ import annotations

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


def _middle(
    gap: float,
    first: int = 48,
    last: int = 53,
    teeth: tuple[float, float, float] | None = None,
    middle_line: float = 50.0,
    rounding: float = 0.0,
    own_teeth: float = 0.0,
) -> NDArray[np.float32]:
    """(3, rows) mean of some columns; the upper lip stands still at the seam, the lower one goes down by `gap`.

    The mouth reaches from column 20 to 80.
    """
    x = np.linspace(20, 80, 11)
    bow = gap * (1 - ((x - 50) / 30) ** 2)
    upper, lower = np.stack([x, np.full(11, _SEAM)], 1), np.stack([x, _SEAM + bow], 1)
    columns, rows = np.arange(first, last, dtype=np.float32), np.arange(40, 90, dtype=np.float32)
    coords = lip_coords(np, lip_axes(upper[None], lower[None]), columns[None, None], rows[None, :, None])
    eyes, zero, skin, lip = (np.array([value], np.float32) for value in (_EYES, 0.0, _SKIN, _LIP))
    colours = Colours(skin, lip, usual_teeth(skin, _EYE_WHITE) if teeth is None else np.array([teeth], np.float32))
    seam = zero + (np.float32(middle_line) - 50) / 30, zero
    drawn = draw_interior(np, coords, eyes, seam, colours, zero + np.float32(rounding), zero + np.float32(own_teeth))
    return np.asarray(drawn[0].mean(-1), np.float32)


def _row(row: float) -> int:
    return round(row - 40)


def test_interior_teeth_are_fixed_to_skull_and_jaw() -> None:
    """Wide open, the upper teeth end where they ended when the mouth was half open; it is dark only below them."""
    half, wide = (_middle(gap)[0] for gap in (9.0, 16.0))
    for luma in (half, wide):
        assert luma[_row(_SEAM + 3)] > luma[_row(_SEAM + 6)] + 8
    assert wide[_row(_SEAM + 11)] > wide[_row(_SEAM + 6)] + 8


def test_interior_beside_own_teeth_has_none() -> None:
    drawn, beside_own = (_middle(16.0, own_teeth=share)[0] for share in (0.0, 1.0))
    assert drawn[_row(_SEAM + 3)] > beside_own[_row(_SEAM + 3)] + 30
    assert np.ptp(beside_own[_row(_SEAM + 3) : _row(_SEAM + 9)]) < 20


def test_interior_teeth_appear_gradually() -> None:
    luma = np.array([_middle(gap)[0, _row(_SEAM + 1)] for gap in np.arange(2.0, 9.0, 0.5)])
    assert luma[-1] > luma[0] + 10
    assert np.abs(np.diff(luma)).max() < 0.4 * (luma[-1] - luma[0])


def test_interior_rounded_lips_shade_teeth_unless_wide_open() -> None:
    teeth = _row(_SEAM + 2)
    spread, half, rounded = (_middle(4.0, rounding=rounding)[0, teeth] for rounding in (0.0, 0.5, 1.0))
    assert spread > half + 5 > rounded + 10
    assert _middle(16.0, rounding=1.0)[0, teeth] == pytest.approx(_middle(16.0)[0, teeth], abs=1)


def test_interior_is_flat_and_nearly_grey() -> None:
    y, u, v = _middle(12.0)[:, _row(_SEAM + 1) : _row(_SEAM + 8)]
    assert 0.25 * _SKIN[0] < y.min() < y.max() < 0.95 * _SKIN[0]
    assert ((v > 128) & (v < _SKIN[2])).all()
    assert ((u < 128) & (u > _SKIN[1])).all()


def test_interior_lower_rim_has_lip_colour() -> None:
    edge = _middle(12.0)[:, _row(_SEAM + 12)]
    np.testing.assert_allclose(edge[1:], _LIP[1:], atol=1)
    assert abs(edge[0] - _LIP[0]) < 15


def test_interior_corners_are_dark_only_in_wide_mouth() -> None:
    """Beside the teeth; a small opening that is dark up to its corners looks like a bar."""
    small, wide = ((_middle(gap, 24, 28)[0, _row(_SEAM)], _middle(gap)[0, _row(_SEAM)]) for gap in (2.0, 30.0))
    assert small[0] > 0.97 * small[1]
    assert wide[0] < 0.6 * wide[1]


def test_interior_teeth_have_given_colour() -> None:
    usual, white = _middle(12.0), _middle(12.0, teeth=(220.0, 126.0, 131.0))
    tooth = _row(_SEAM + 3)
    assert white[0, tooth] > usual[0, tooth] + 30
    assert abs(white[2, tooth] - 131) < abs(usual[2, tooth] - 131)


def test_interior_teeth_are_separated() -> None:
    """Where two upper ones meet there is a shade and no gap; the lower ones are narrower."""
    tooth, joint = (_middle(12.0, column, column + 1)[0] for column in (54, 58))
    row = _row(_SEAM + 1)
    assert 0.65 * tooth[row] < joint[row] < 0.93 * tooth[row]
    tooth, joint = (_middle(16.0, column, column + 1)[0] for column in (53, 55))
    row = _row(_SEAM + 13)
    assert joint[row] < 0.95 * tooth[row]


def test_interior_teeth_centre_follows_skull() -> None:
    """Of a turned head, it is not half-way between the corners of the mouth."""
    for middle_line in (50, 56):
        between, *teeth = (
            _middle(12.0, column, column + 1, middle_line=middle_line)[0, _row(_SEAM + 1)]
            for column in (middle_line, middle_line - 4, middle_line + 4)
        )
        assert between < 0.9 * min(teeth), "where the two front teeth meet"
        assert abs(teeth[0] - teeth[1]) < 0.1 * teeth[0]


def test_interior_teeth_darken_along_arch() -> None:
    """The incisors are light, the canines half as light, and what follows goes over into the dark beside it."""
    middle, second, canine, next_one, beside = (
        _middle(12.0, column, column + 1)[0, _row(_SEAM + 1)] for column in (54, 61, 67, 71, 75)
    )
    assert second > 0.7 * middle
    assert canine < 0.65 * middle
    assert abs(next_one - beside) < 0.05 * middle


def test_interior_dark_has_hue_of_lips() -> None:
    """However pale the skin is: dark with the skin's hue is olive beside red lips."""
    _, u, v = _middle(16.0)[:, _row(_SEAM + 6)]
    assert 0.7 < (u - 128) / (_LIP[1] - 128) < 0.9
    assert 0.5 < (v - 128) / (_LIP[2] - 128) < 0.65


def test_usual_teeth_brightness_follows_eyes_not_skin() -> None:
    in_light, in_dark = (
        usual_teeth(np.array([[skin, 110, 150]], np.float32), EyeWhite(white, np.zeros(2, np.float32)))
        for skin, white in ((180, 0.5), (90, 1.0))
    )
    assert in_light[0, 0] == in_dark[0, 0]


def test_usual_teeth_hue_lies_between_eyes_and_skin() -> None:
    skin, white = np.array([[150, 112, 152]], np.float32), np.array([118, 138], np.float32)
    _, u, v = usual_teeth(skin, EyeWhite(0.7, white - skin[0, 1:]))[0]
    assert 112 < u < 118 and 138 < v < 152, "between the whites of the eyes and the skin"
    assert (v - 138) / (152 - 138) > (118 - u) / (118 - 112), "redder above all"
