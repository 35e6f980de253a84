"""How far the lips are apart, read from the picture.

The face mesh hardly sees lips that part a little: on the presenters at hand it calls a gap of .06 eye distances closed.
Colour tells more. Along lines from the upper edge of the upper lip to the lower edge of the lower lip, lips are redder
than the skin above them; teeth, tongue shadow and the dark of the mouth are not. What is not red between the edges
is the gap. The closed lips' own line and shine count too, so a talker's most closed frames are taken off, or the line
of usual lips where a source shows none that are closed. The mesh, brought to the same spread, has a say beside it.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from media.planes import Planes
from models.geometry.face_points import ABOUT_MIDDLE, EYE_LEFT, EYE_RIGHT, OUTER_LOWER, OUTER_UPPER
from models.geometry.head_frame import stretch_of
from models.mouth.shape import CLOSED_SHARE

# Upper and lower end of the lines, outer lips: the middle of the mouth and half way to either side of it.
_UPPER_ENDS, _LOWER_ENDS = OUTER_UPPER[ABOUT_MIDDLE], OUTER_LOWER[ABOUT_MIDDLE]
_OVERHANG, _NUM_STEPS = 0.15, 64  # the lines begin and end this share of their length beyond the lips
_NUM_SKIN = 6  # first steps, above the lip
_LIPS = slice(8, 56)  # steps that lie on the lips for certain
_LIP_QUANTILE = 0.8  # of the redness there: lip, whatever stands between
# Where on the line gaps are counted, and how softly that begins and ends. All of a wide gap counts as much as its
# middle: what weighs the middle more takes open mouths for less open than they are.
_FROM, _TO, _SOFT = 0.15, 0.8, 0.03
_MIN_CONTRAST = 3.0  # levels of V between lip and skin; the frames at hand have 7 to 15
# Opening a unit of what is measured: ratio of the standard deviations over six GRID talkers, against the opening that
# an independent landmark network sees: 1.19 to 1.48, median 1.26 (correlation .96 to .98).
_SCALE = 1.26
# Closed lips are those that measure at most so much more than the mean of the most closed ones: twice the noise.
_CLOSED_RANGE = 0.015
# The same talkers' closed lips measure .029 to .063, mean .044, deviation .011. Most closed frames beyond this are
# open: the talker shows no closed mouth.
_MAX_CLOSED = 0.055
_MIN_CLOSED = 3
_MIN_AGREEMENT = 0.6  # correlation with the mesh: less, and the colour follows something else than the lips
# What the mesh shows of the opening of lips whose colour says nothing: ratio of the standard deviations against that
# network on two such talkers, .82 and .83 (under a moustache, in soft light; correlation .86 and .92).
_MESH_GAIN = 0.82
# Of the mesh in an opening that both tell, as it errs in another way: correlation with that network .931 for .910 with
# the colour alone on nine talkers in the wild, .975 for .973 on the six.
_MESH_SHARE = 1 / 3

Floats = NDArray[np.floating]


def measure_gap(planes: Planes, points: Floats, pixel_aspect: float = 1.0) -> tuple[float, float]:
    """Measures one frame.

    Args:
        planes: The picture, or a region of it.
        points: (468, 3) landmarks in its pixels.
        pixel_aspect: Width of a pixel over its height.

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
    weight = _sigmoid((share - _FROM) / _SOFT) * _sigmoid((_TO - share) / _SOFT)
    height = np.linalg.norm(lower[1] - upper[1]) * (1 + 2 * _OVERHANG)
    eyes = np.linalg.norm((points[EYE_LEFT] - points[EYE_RIGHT]) * stretch_of(pixel_aspect))
    return float((not_lip * weight).mean() * height / max(eyes, 1e-6)), contrast


def opening_of(gaps: Floats, contrasts: Floats, mesh_opening: Floats) -> NDArray[np.float32]:
    """Turns the measurements of a talker's frames into the opening of the lips.

    Args:
        gaps: (T,) of `measure_gap`.
        contrasts: (T,) of `measure_gap`.
        mesh_opening: (T,) `open_in` of the mesh, as offset from rest; it stands in where lips have the colour of skin,
            and counts by a third elsewhere.

    Returns:
        (T,) float32 eye distances, 0 where the lips are closed.
    """
    by_mesh = np.asarray(mesh_opening / _MESH_GAIN, np.float32)
    if np.median(contrasts) < _MIN_CONTRAST or len(gaps) < 2 * _MIN_CLOSED:
        return by_mesh
    moves = gaps.std() > 0 and by_mesh.std() > 0
    if not moves or np.corrcoef(gaps, mesh_opening)[0, 1] < _MIN_AGREEMENT:
        return by_mesh
    num_closed = max(_MIN_CLOSED, round(CLOSED_SHARE * len(gaps)))
    lowest = np.sort(gaps)[:num_closed].mean()
    most_closed = float(gaps[gaps <= lowest + _CLOSED_RANGE].mean())
    shut = min(most_closed, _MAX_CLOSED)
    by_colour, as_wide = gaps - most_closed, mesh_opening * (gaps.std() / mesh_opening.std())
    both = by_colour + _MESH_SHARE * (as_wide - by_colour)
    return np.asarray(_SCALE * (most_closed - shut + both * (gaps.std() / both.std())), np.float32)


def _sigmoid(value: Floats) -> Floats:
    """0 far below 0, 1 far above."""
    return np.asarray(1 / (1 + np.exp(-value)))
