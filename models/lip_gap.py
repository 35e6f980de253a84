"""How far the lips are apart, read from the picture.

The face mesh hardly sees lips that part a little: on the presenters at hand it calls a gap of .06 eye distances closed.
Colour tells more. Along lines from the upper edge of the upper lip to the lower edge of the lower lip, lips are redder
than the skin above them; teeth, tongue shadow and the dark of the mouth are not. What is not red between the edges
is the gap. The closed lips' own line and shine count too, so a talker's most closed frames are taken off.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from media.planes import Planes

# Upper and lower end of the lines, outer lips: the middle of the mouth and half way to either side of it.
_UPPER_ENDS, _LOWER_ENDS = (37, 0, 267), (84, 17, 314)
_EYE_LEFT, _EYE_RIGHT = 33, 263
_OVERHANG, _NUM_STEPS = 0.15, 64  # the lines begin and end this share of their length beyond the lips
_NUM_SKIN = 6  # first steps, above the lip
_LIPS = slice(8, 56)  # steps that lie on the lips for certain
_LIP_QUANTILE = 0.8  # of the redness there: lip, whatever stands between
_MIDDLE, _SPREAD = 0.45, 0.25  # where the gap lies as a share of the line, and how loosely
_MIN_CONTRAST = 3.0  # levels of V between lip and skin; the frames at hand have 7 to 15
# Opening a unit of what is measured. 450 frames of GRID talker s1 with known lips give 1.7 (correlation .97); this is
# set below it, as no other talker with known lips was at hand.
_SCALE = 1.5
_CLOSED_SHARE = 0.1
_MIN_CLOSED = 3
_MIN_AGREEMENT = 0.6  # correlation with the mesh: less, and the colour follows something else than the lips

Floats = NDArray[np.floating]


def measure_gap(planes: Planes, points: Floats) -> tuple[float, float]:
    """Measures one frame.

    Args:
        planes: The picture, or a region of it.
        points: (468, 2 or 3) landmarks in its pixels.

    Returns:
        What is not lip between the lips, in eye distances and not yet comparable between talkers; and the contrast of
        the lips against the skin in levels of V.
    """
    upper, lower = (np.asarray(points[list(ends), :2], np.float64) for ends in (_UPPER_ENDS, _LOWER_ENDS))
    share = np.linspace(-_OVERHANG, 1 + _OVERHANG, _NUM_STEPS)
    places = upper[:, None] + share[:, None] * (lower - upper)[:, None]  # (3, 64, 2)
    place = ((places + 0.5) / 2 - 0.5).astype(np.float32)
    x, y = np.ascontiguousarray(place[..., 0]), np.ascontiguousarray(place[..., 1])
    red = cv2.remap(np.ascontiguousarray(planes.v), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    red = red.astype(np.float64)
    skin = red[:, :_NUM_SKIN].mean()
    contrast = float(np.quantile(red[:, _LIPS], _LIP_QUANTILE) - skin)
    not_lip = (1 - (red - skin) / max(contrast, _MIN_CONTRAST)).clip(0, 1)
    weight = np.exp(-(((share - _MIDDLE) / _SPREAD) ** 2))
    height = np.linalg.norm(lower[1] - upper[1]) * (1 + 2 * _OVERHANG)
    eyes = np.linalg.norm(np.asarray(points[_EYE_LEFT] - points[_EYE_RIGHT], np.float64))
    return float((not_lip * weight).mean() * height / max(eyes, 1e-6)), contrast


def opening_of(gaps: Floats, contrasts: Floats, mesh_opening: Floats, mesh_gain: float) -> NDArray[np.float32]:
    """Turns the measurements of a talker's frames into the opening of the lips.

    Args:
        gaps: (T,) of `measure_gap`.
        contrasts: (T,) of `measure_gap`.
        mesh_opening: (T,) `open_in` of the mesh, as offset from rest.
        mesh_gain: What the mesh shows of an opening; it stands in where lips have the colour of skin.

    Returns:
        (T,) float32 eye distances, 0 where the lips are closed.
    """
    by_mesh = np.asarray(mesh_opening / mesh_gain, np.float32)
    if np.median(contrasts) < _MIN_CONTRAST or len(gaps) < 2 * _MIN_CLOSED:
        return by_mesh
    moves = gaps.std() > 0 and by_mesh.std() > 0
    if not moves or np.corrcoef(gaps, mesh_opening)[0, 1] < _MIN_AGREEMENT:
        return by_mesh
    num_closed = max(_MIN_CLOSED, round(_CLOSED_SHARE * len(gaps)))
    closed = np.sort(gaps)[:num_closed].mean()
    return np.asarray(_SCALE * (gaps - closed), np.float32)
