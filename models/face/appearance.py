"""Tells people apart by the look of their faces, without a recognition network.

The face is sampled on a grid in the head frame, at the depth of the mean face, so that head pose, size and position
drop out. What is compared are histograms of oriented gradients (Dalal and Triggs, CVPR 2005) from the brows to the
upper lip, each cell normalised by itself, which takes the light out; hair and chin are left out, they change from day
to day and from sound to sound. The look of the mean face is subtracted, so that what all faces share does not count.

It knows a face again up to about 30 degrees of turn, in other light, at other sizes, on another day. It is no proof of
identity: new glasses, a beard or another decade can make two of one person, and relatives can be one to it.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from media.array_files import load_array
from media.yuv_frame import YuvFrame
from models.face.surface import Window, surface
from models.geometry.head_frame import fit_head_pose
from models.weights import weights_path

# Likeness from which on two looks are of one person. Among seven people, each pair left out of the mean look, other
# frames of one recording scored .53 to 1 (with other light, blur, size, 30 degrees of turn), of another recording .50
# to 1, and different people .46 and less in 99 of 100 pairs, .54 at most.
SAME_PERSON: Final = 0.5
CLEAR_LEAD: Final = 0.12  # by which the best of several faces has to lead

_SIDE = 64
_WINDOW = Window(-0.85, 0.85, 0.75, -1.0, _SIDE, _SIDE)
_CELL, _NUM_BINS = 8, 8
_FIRST_ROW, _NUM_ROWS = 2, 5  # of the eight rows of cells: brows to upper lip
_BLUR, _FLOOR = 0.8, 8.0  # pixels; gradients per pixel below which a cell counts as flat
APPEARANCE_SIZE: Final = _NUM_ROWS * (_SIDE // _CELL - 2) * _NUM_BINS


def look_of(frame: YuvFrame, points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Returns the look of a face, (240,) float32 of norm 1.

    Args:
        frame: The picture.
        points: (468, 3) its landmarks in pixels.
    """
    raw = raw_look(frame, points) - _mean_look()
    return np.asarray(raw / max(float(np.linalg.norm(raw)), 1e-6), np.float32)


def likeness(look: NDArray[np.floating], known: NDArray[np.floating]) -> float:
    """How much a look is like the one of (K, 240) known looks that it is most like, -1..1; -1 where K is 0."""
    if not len(known):
        return -1.0
    return float((np.asarray(known, np.float32) @ look).max())


def raw_look(frame: YuvFrame, points: NDArray[np.floating]) -> NDArray[np.float32]:
    """The (240,) look before the mean look is subtracted."""
    pose = fit_head_pose(np.asarray(points)[None])
    luma = np.asarray(cv2.GaussianBlur(surface(_WINDOW).sample(frame.y, pose), (0, 0), _BLUR), np.float32)
    rows = slice(_FIRST_ROW, _FIRST_ROW + _NUM_ROWS)
    histograms = _gradient_histograms(luma)[rows, 1:-1]  # the outer columns are hair and background
    norm = np.sqrt((histograms**2).sum(-1, keepdims=True)) + _FLOOR
    look = np.sqrt(histograms / norm).ravel()
    return np.asarray(look / max(float(np.linalg.norm(look)), 1e-6), np.float32)


def _gradient_histograms(luma: NDArray[np.floating]) -> NDArray[np.float32]:
    """(8, 8, 8) sums of gradient size by cell and direction, half a turn in eight soft bins."""
    across, down = (cv2.Sobel(np.asarray(luma, np.float32), cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    size = np.hypot(across, down)
    place = (np.arctan2(down, across) % np.pi) * (_NUM_BINS / np.pi)
    lower = np.floor(place)
    share = place - lower
    cells = _SIDE // _CELL
    histograms = np.empty((cells, cells, _NUM_BINS), np.float32)
    for number in range(_NUM_BINS):
        weight = (lower % _NUM_BINS == number) * (1 - share) + ((lower + 1) % _NUM_BINS == number) * share
        histograms[..., number] = (size * weight).reshape(cells, _CELL, cells, _CELL).mean((1, 3))
    return histograms


@cache
def _mean_look() -> NDArray[np.float32]:
    look: NDArray[np.float32] = load_array(weights_path("mean_face_look.npy"))
    return look
