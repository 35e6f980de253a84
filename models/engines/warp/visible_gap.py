"""Measures how far lips are apart by the pixels between them: the landmarks of some smiles look like closed lips."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from media.yuv_frame import YuvFrame
from models.geometry.arrays import sample_plane
from models.geometry.head_frame import EYE_LEFT, EYE_RIGHT, MIDDLE_LOWER, MIDDLE_UPPER

_UPPER, _LOWER = (list(row[3:-3]) for row in (MIDDLE_UPPER, MIDDLE_LOWER))  # the middle half of the mouth
_SAMPLES, _LIP_SAMPLES = (
    33,
    3,
)  # from the middle of one lip to that of the other; at either end, those surely on the lip

_MIN_RED = 8.0  # V levels above grey; paler lips (those of eleven speakers have 24 to 52) do not differ from noise


def visible_gap(planes: YuvFrame, points: NDArray[np.floating]) -> float:
    """Return the height of what shows between the lips, teeth or dark, in eye distances; 0 if nothing does.

    Teeth are less than half as red as the lips, and the dark has less than half of their brightness. Where landmarks
    say closed, this is at most .01 in nine of ten frames of eleven speakers, whose open mouths have up to .12. Small
    or blurred mouths often have 0 although they are open.

    Args:
        planes: A picture of the mouth.
        points: (468, 2+) landmarks in its pixels.
    """
    upper, lower = (np.asarray(points[ids, :2], np.float32) for ids in (_UPPER, _LOWER))
    place = upper + np.linspace(0, 1, _SAMPLES)[:, None, None] * (lower - upper)  # (S, C, 2)
    luma, red = sample_plane(planes.y, place), sample_plane(planes.v, place / 2 - 0.25) - 128
    lips = [np.concatenate([each[:_LIP_SAMPLES], each[-_LIP_SAMPLES:]]).mean(0) for each in (luma, red)]
    shows = (luma < lips[0] / 2) | ((red < lips[1] / 2) & (lips[1] > _MIN_RED))
    heights = shows.mean(0) * np.linalg.norm(lower - upper, axis=1)
    return float(np.median(heights) / np.linalg.norm(points[EYE_LEFT, :2] - points[EYE_RIGHT, :2]))
