"""Finds which pixels of a covered lower face show something else, by comparison with the uncovered face.

All pictures are (96, 96, 3) views of `models.face.lower_face`. A pixel belongs to an occluder if no uncovered view of
the same person has its colour there or next to there. What counts as the same colour is measured on the uncovered views
themselves, each compared with the others. An occluder is held by a person, so it reaches the border of the grid.
Differences that do not, such as a mouth that opens wider than in any uncovered view, are not occluders.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from models.face.lower_face import CELLS, CELLS_PER_EYE_DISTANCE

_NEUTRAL = np.array([0, 128, 128], np.float32)
_LUMA_WEIGHT = np.array([0.5, 1, 1], np.float32)  # light changes more often than colour
_MAX_LIGHT_CHANGE = 0.04  # of the light on one pixel
_CLEARLY = 3.0  # an occluder differs by this factor of the median difference of the uncovered views
_FLOOR = 1.5  # levels: rounding of 8-bit pictures
_SPREAD = 2.0  # cells over which the usual difference is smoothed
_CLOSED, _OPENED = 0.06, 0.03  # eye distances: wider gaps stay open, narrower objects are noise
_WHOLE_SIDE = 0.6  # an object that spans more of one side of the grid is the background


class UncoveredFace:
    """The uncovered lower face: K views."""

    def __init__(self, views: NDArray[np.float32]) -> None:
        """Take (K, 96, 96, 3) views, K > 1."""
        if len(views) < 2 or views.shape[1:] != (CELLS, CELLS, 3):
            raise ValueError(f"Expected (K, {CELLS}, {CELLS}, 3) views, K > 1, got {views.shape}.")
        self._views = views
        usual = [difference(view, np.delete(views, k, 0)) for k, view in enumerate(views)]
        spread = cv2.GaussianBlur(np.median(usual, axis=0).astype(np.float32), (0, 0), _SPREAD)
        self._bound = _CLEARLY * np.asarray(spread, np.float32) + _FLOOR

    def occluder(self, view: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return (96, 96) bool: which cells of a view show something in front of the face."""
        return _objects(difference(view, self._views) > self._bound)


def difference(view: NDArray[np.float32], views: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (96, 96) the smallest difference of each cell from the same and the adjacent cells of (K, ...) views."""
    # Channels first: with sums over a last axis of three, this takes six times as long.
    own = _channels_first(view - _NEUTRAL)[:, None]  # (3, 1, 96, 96)
    best = np.full(view.shape[:2], np.inf, np.float32)
    for near in _shift(_channels_first(views - _NEUTRAL)):
        light = (own * near).sum(0) / np.maximum((near * near).sum(0), 1.0)
        light = light.clip(1 - _MAX_LIGHT_CHANGE, 1 + _MAX_LIGHT_CHANGE)
        left = (own - light * near) * _LUMA_WEIGHT[:, None, None, None]
        best = np.minimum(best, (left * left).sum(0).min(0))
    return np.sqrt(best)


def _channels_first(views: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(np.moveaxis(views, -1, 0))


def _shift(views: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yield (3, K, 96, 96) views shifted by up to one cell in each direction."""
    padded = np.pad(views, ((0, 0), (0, 0), (1, 1), (1, 1)), "edge")
    height, width = views.shape[2:]
    for y in range(3):
        for x in range(3):
            yield padded[:, :, y : y + height, x : x + width]


def disc(radius: float) -> NDArray[np.uint8]:
    """Return a disc for morphology on the grid, of a radius in eye distances, at least one cell; 0 and 1."""
    side = 2 * max(1, round(radius * CELLS_PER_EYE_DISTANCE)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


_PAD: Final = 12  # cells around the grid, so that its border does not count as one of an object


def _objects(differs: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Join the cells that differ to objects with filled insides, of which those at the border of the grid are kept.

    A hand may have the colour of the chin behind it: then its outline differs, and its inside is filled.
    """
    seen = np.asarray(cv2.medianBlur(differs.astype(np.uint8), 3), np.uint8)
    closed = _within(cv2.morphologyEx(_around(seen), cv2.MORPH_CLOSE, disc(_CLOSED)))
    whole = _fill_holes(closed)
    for side in range(4):
        whole |= np.rot90(_fill_holes(_join_parts(np.rot90(closed, side).copy())), -side)
    opened = _within(cv2.morphologyEx(_around(whole), cv2.MORPH_OPEN, disc(_OPENED)))
    _, label = cv2.connectedComponents(opened, connectivity=8)
    at_border = np.unique(np.concatenate([label[0], label[-1], label[:, 0], label[:, -1]]))
    return np.asarray(np.isin(label, at_border[at_border > 0]))


def _around(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(mask, _PAD, "edge")


def _within(mask: NDArray[np.uint8] | cv2.typing.MatLike) -> NDArray[np.uint8]:
    return np.asarray(mask[_PAD:-_PAD, _PAD:-_PAD], np.uint8)


def _fill_holes(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fill the holes of a mask of 0 and 1."""
    _, label = cv2.connectedComponents(np.pad(1 - mask, 1, constant_values=1), connectivity=4)
    return np.asarray(label != label[0, 0], np.uint8)[1:-1, 1:-1]


def _join_parts(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Join, in place, the parts of each object along the upper side: the two outlines of an arm close its inside."""
    _, label = cv2.connectedComponents(mask, connectivity=8)
    for number in np.unique(label[0][label[0] > 0]):
        first, last = np.flatnonzero(label[0] == number)[[0, -1]]
        if last - first < _WHOLE_SIDE * len(mask):
            mask[0, first : last + 1] = 1
    return mask
