"""Person re-identification by the appearance of the face, without a recognition network.

The face is sampled on a grid in the head frame, at the depth of the mean face, which removes head pose, size and
position. The descriptor is a histogram of oriented gradients (Dalal and Triggs, CVPR 2005) from the brows to the upper
lip, with each cell normalised separately to remove lighting. Hair and chin are left out because they change from day to
day and from sound to sound. The descriptor of the mean face is subtracted, so that what all faces share does not count.

It matches a face up to about 30 degrees of rotation, in other light, at other sizes and on another day. This is not
face recognition: new glasses, a beard or ten years can break a match, and relatives may match.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.array_files import load_array
from lipwright.media.yuv_frame import YuvFrame
from models.face.surface import Window, surface
from models.geometry.head_frame import fit_head_pose
from models.weights import weights_path

# Similarity from which two faces are the same person. Among seven people, each pair left out of the mean, other frames
# of one recording scored .53 to 1 (with other light, blur, size, 30 degrees of rotation), another recording .50 to 1,
# and different people .46 or less in 99 of 100 pairs, .54 at most.
SAME_PERSON: Final = 0.5
_MOSTLY_SAME: Final = 0.65  # median over several frames of a video
CLEAR_LEAD: Final = 0.12  # margin by which the best of several faces must lead

_SIDE = 64
_WINDOW = Window(-0.85, 0.85, 0.75, -1.0, _SIDE, _SIDE)
_CELL, _NUM_BINS = 8, 8
_FIRST_ROW, _NUM_ROWS = 2, 5  # of eight rows of cells: brows to upper lip
_BLUR, _FLOOR = 0.8, 8.0  # pixels; gradient per pixel below which a cell counts as flat
APPEARANCE_SIZE: Final = _NUM_ROWS * (_SIDE // _CELL - 2) * _NUM_BINS


def appearance_of(frame: YuvFrame, points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the appearance of a face, (240,) float32 of norm 1, given its (468, 3) landmarks in pixels."""
    raw = raw_appearance(frame, points) - _mean_appearance()
    return np.asarray(raw / max(float(np.linalg.norm(raw)), 1e-6), np.float32)


def likeness(appearance: NDArray[np.floating], known: NDArray[np.floating]) -> float:
    """Return the highest cosine similarity to (K, 240) known appearances, -1..1; -1 if K is 0."""
    if not len(known):
        return -1.0
    return float((np.asarray(known, np.float32) @ appearance).max())


def is_same_person(seen: NDArray[np.floating], known: NDArray[np.floating]) -> bool:
    """Return whether (N, 240) appearances in a video are mostly those of the person with (K, 240) known ones.

    With six frames of each, the median is at most .63 in 388 pairs of videos of different people, and at least .75 in
    139 of 140 pairs of recordings or parts of recordings of the same person (.47 in the other one).
    """
    return float(np.median([likeness(each, known) for each in seen])) >= _MOSTLY_SAME


def raw_appearance(frame: YuvFrame, points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the (240,) descriptor before the mean is subtracted."""
    pose = fit_head_pose(np.asarray(points)[None])
    luma = np.asarray(cv2.GaussianBlur(surface(_WINDOW).sample(frame.y, pose), (0, 0), _BLUR), np.float32)
    rows = slice(_FIRST_ROW, _FIRST_ROW + _NUM_ROWS)
    histograms = _gradient_histograms(luma)[rows, 1:-1]  # without the outer columns, which are hair and background
    norm = np.sqrt((histograms**2).sum(-1, keepdims=True)) + _FLOOR
    appearance = np.sqrt(histograms / norm).ravel()
    return np.asarray(appearance / max(float(np.linalg.norm(appearance)), 1e-6), np.float32)


def _gradient_histograms(luma: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return (8, 8, 8) mean gradient magnitudes per cell and direction, 180 degrees in eight soft bins."""
    across, down = (cv2.Sobel(np.asarray(luma, np.float32), cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    size = np.hypot(across, down)
    place = (np.arctan2(down, across) % np.pi) * (_NUM_BINS / np.pi)
    lower = np.floor(place)
    share = place - lower
    first = lower.astype(np.intp) % _NUM_BINS  # the angle may round up to pi
    cells = _SIDE // _CELL
    number = np.arange(_SIDE) // _CELL
    offset = (number[:, None] * cells + number) * _NUM_BINS  # of the cell of each pixel
    at = np.concatenate([(offset + first).ravel(), (offset + (first + 1) % _NUM_BINS).ravel()])
    weights = np.concatenate([(size * (1 - share)).ravel(), (size * share).ravel()])
    histograms = np.bincount(at, weights, cells * cells * _NUM_BINS) / _CELL**2
    return histograms.reshape(cells, cells, _NUM_BINS).astype(np.float32)


@cache
def _mean_appearance() -> NDArray[np.float32]:
    appearance: NDArray[np.float32] = load_array(weights_path("mean_face_look.npy"))
    return appearance


# The tracked person: appearances of their face, and of other faces seen next to it.


_MAX_APPEARANCES = 6
_MAX_OTHERS = 3
_NEW_VIEW = 0.8  # an appearance less similar than this to all known ones is kept

# Within an unbroken run of frames the face counts as the same person down to this similarity.
STILL_SAME: Final = 0.25


@dataclass(frozen=True)
class Person:
    """Appearances in half precision, because they are sent with every chunk."""

    appearances: NDArray[np.float16]  # (K, 240) appearances of the person
    others: NDArray[np.float16]  # (M, 240) appearances of people seen next to the person

    @classmethod
    def of(cls, appearance: NDArray[np.floating], others: Sequence[NDArray[np.floating]] = ()) -> Person:
        """Return a person seen once, with the other faces in the frame."""
        beside = np.array(others[:_MAX_OTHERS], np.float16).reshape(-1, APPEARANCE_SIZE)
        return cls(np.asarray(appearance, np.float16)[None], beside)

    def likeness(self, appearance: NDArray[np.floating]) -> float:
        """Return the similarity of an appearance to the person, -1..1."""
        return likeness(appearance, self.appearances)

    def learn(self, appearance: NDArray[np.floating]) -> Person:
        """Add an appearance that is known to be the person's, if it is new and there is room."""
        if len(self.appearances) >= _MAX_APPEARANCES or not SAME_PERSON <= self.likeness(appearance) < _NEW_VIEW:
            return self
        return replace(self, appearances=np.concatenate([self.appearances, np.asarray(appearance, np.float16)[None]]))

    def recognise(self, appearances: Sequence[NDArray[np.floating]]) -> tuple[list[int], bool]:
        """Return the indices of the appearances that may be the person, best first, and whether the match is certain.

        It is certain if there is a single candidate that is clearly more similar to the person than to the others.
        """
        scores = [self.likeness(appearance) for appearance in appearances]
        alike = sorted((i for i in range(len(appearances)) if scores[i] >= SAME_PERSON), key=lambda i: -scores[i])
        able = [i for i in alike if scores[alike[0]] - scores[i] < CLEAR_LEAD]
        is_sure = len(able) == 1 and scores[able[0]] > likeness(appearances[able[0]], self.others) + CLEAR_LEAD
        return able, is_sure
