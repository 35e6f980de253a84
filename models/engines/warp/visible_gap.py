"""Measures how far lips are apart by the pixels between them: the landmarks of some smiles look like closed lips."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lipwright.media.yuv_frame import YuvFrame
from models.geometry.arrays import sample_plane
from models.geometry.head_frame import EYE_LEFT, EYE_RIGHT, MIDDLE_LOWER, MIDDLE_UPPER

_UPPER, _LOWER = (list(row[3:-3]) for row in (MIDDLE_UPPER, MIDDLE_LOWER))  # the middle half of the mouth
_SAMPLES, _LIP_SAMPLES = (
    33,
    3,
)  # from the middle of one lip to that of the other; at either end, those surely on the lip

_MIN_RED = 8.0  # V levels above grey; paler lips (those of 28 speakers have 14 to 52) do not differ from noise
# Teeth have less than this share of the lips' red ...
_TEETH_RED = 0.5
# ... or are brighter than the lips and have less than these shares of their red and of their saturation (red / luma):
# between red lips, chroma at half resolution tints them, and yellow ones are red themselves. Highlights on lips keep
# their red.
_TINTED_RED, _TINTED_SATURATION = 0.8, 0.7


def visible_gap(planes: YuvFrame, points: NDArray[np.floating]) -> float:
    """Return the height of what shows between the lips, teeth or dark, in eye distances; 0 if nothing does.

    Teeth are less red than the lips, and the dark has less than half of their brightness. Of the frames of 28 speakers
    whose landmarks say open (.08), 76 % have more than `OPEN_MOUTH` (35 % without `_TINTED_RED`); of those whose
    landmarks say closed (.01), .6 %.

    Args:
        planes: A picture of the mouth.
        points: (468, 2+) landmarks in its pixels.
    """
    upper, lower = (np.asarray(points[ids, :2], np.float32) for ids in (_UPPER, _LOWER))
    place = upper + np.linspace(0, 1, _SAMPLES)[:, None, None] * (lower - upper)  # (S, C, 2)
    luma, red = sample_plane(planes.y, place), sample_plane(planes.v, place / 2 - 0.25) - 128
    lips = [np.concatenate([each[:_LIP_SAMPLES], each[-_LIP_SAMPLES:]]).mean(0) for each in (luma, red)]
    is_tinted = (luma > lips[0]) & (red * lips[0] < _TINTED_SATURATION * lips[1] * luma) & (red < _TINTED_RED * lips[1])
    is_tooth = (is_tinted | (red < _TEETH_RED * lips[1])) & (lips[1] > _MIN_RED)
    shows = is_tooth | (luma < lips[0] / 2)
    heights = shows.mean(0) * np.linalg.norm(lower - upper, axis=1)
    return float(np.median(heights) / np.linalg.norm(points[EYE_LEFT, :2] - points[EYE_RIGHT, :2]))
