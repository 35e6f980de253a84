"""Detects frames in which something covers the mouth: a hand, a microphone, a cup.

The evidence is the colour pattern of skin and lips around the mouth, at points of the face mesh. They lie on skin and
on the red of the lips, never inside the mouth, and follow the jaw, so their colours stay the same while the mouth
moves: however far it opens, lips stay redder than the chin. Points near the outline of the mesh are left out: the mesh
lags behind a turned head, so that they show the background. A frame is occluded if no change of light strength turns
its pattern into the usual one. Undecided frames count as clear, because rewriting a frame without need costs less than
leaving one out.
"""

from __future__ import annotations

import itertools
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.yuv_frame import YuvFrame
from models.face.surface import sample_plane
from models.geometry.head_frame import (
    ABOVE_LIP,
    CHEEK,
    CHEEK_FRONT,
    CHIN,
    EYE_LEFT,
    EYE_RIGHT,
    EYES,
    MIDDLE_LOWER,
    MIDDLE_UPPER,
    OUTER_LOWER,
    OUTER_UPPER,
    RIGID,
)

# Without the points next to the corners of the mouth, where lips fold, and without those at the outer edge of the lips.
_NEXT_TO_LIPS = frozenset((*OUTER_UPPER, *OUTER_LOWER, 57, 287, 43, 273, 18, 83, 313))
_UPPER_CHEEKS = frozenset((50, 280))
AROUND_MOUTH: Final = tuple(
    sorted({*ABOVE_LIP, *CHEEK, *CHIN, *MIDDLE_UPPER[2:-2], *MIDDLE_LOWER[2:-2]} - _NEXT_TO_LIPS - _UPPER_CHEEKS)
)
_EYES = frozenset(itertools.chain.from_iterable(itertools.chain.from_iterable(EYES)))
UPPER_FACE: Final = tuple(sorted({*RIGID, *CHEEK_FRONT} - _EYES))
NUM_AROUND_MOUTH: Final = len(AROUND_MOUTH)
NUM_CHROMA_POINTS: Final = NUM_AROUND_MOUTH + len(UPPER_FACE)

_POINTS = [*AROUND_MOUTH, *UPPER_FACE]
_CELL = 0.07  # eye distances over which a colour is averaged: less than the height of a lip
# Eye distances from the outline of the mesh within which a point may show the background. Measured on a head that turns
# by 20 degrees in front of a grey wall: colours differ from the usual ones by up to 19 levels nearer, 5 farther inside.
_OUTLINE = 0.12


def chroma_of(frame: YuvFrame, points: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return (M, 2) uint8 U and V at `AROUND_MOUTH`, then at `UPPER_FACE`, given (468, 3) landmarks in pixels."""
    cell = _CELL * float(np.linalg.norm(points[EYE_LEFT] - points[EYE_RIGHT]))
    place = np.asarray(points[_POINTS, :2], np.float64)
    planes = [sample_plane(plane, place, cell, shrink=2) for plane in (frame.u, frame.v)]
    return np.asarray(np.rint(np.stack(planes, -1)), np.uint8)


# Distance of a frame's colour pattern from the usual one, relative to the usual one's size: 1 where a hand hides the
# lips, more behind a cup. 27,000 clear frames of 28 talkers have at most .88 (docs/quality.md).
OCCLUDED: Final = 0.95
_STILL_OCCLUDED = 0.9  # of that, next to an occluded frame
_MAX_USUAL = 0.6  # median distance of a shot; above it noise hides the pattern, and all frames count as clear
_MAX_LIGHT_CHANGE = 2.0  # factor
_MIN_SEEN = 0.5  # share of the points; a frame that shows fewer is undecided

MIN_FRAMES: Final = 25  # fewer do not determine the usual pattern
_MAX_FRAMES = 1500  # the usual pattern is computed over at most this many, because light changes over a day
_MIN_RUN = 2  # frames; a single one is noise
_MARGIN = 1  # frames around an occluded run, in which the object moves in or out


def occluded(
    chroma: NDArray[np.uint8],
    points: NDArray[np.floating],
    present: NDArray[np.bool_],
    shot: NDArray[np.int32],
    bound: float = OCCLUDED,
) -> NDArray[np.bool_]:
    """Return (N,) bool: whether something is in front of the mouth.

    Args:
        chroma: (N, M, 2) `chroma_of` every frame.
        points: (N, 468, 3) landmarks of every frame.
        present: (N,) whether the frame shows the face; other frames are never occluded.
        shot: (N,) number of the shot; each is compared with its own usual colours.
        bound: Distance beyond which a frame is occluded.
    """
    result = np.zeros(len(present), bool)
    for number in np.unique(shot):
        frames = np.flatnonzero(present & (shot == number))
        for part in np.array_split(frames, -(-len(frames) // _MAX_FRAMES) or 1):
            if len(part) >= MIN_FRAMES:
                _mark(result, part, pattern_distance(chroma[part], points[part]), bound)
    return np.asarray(result & present)


def pattern_distance(chroma: NDArray[np.uint8], points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return (N,) float32 distance of each frame's colour pattern from the usual one of all N, relative to its size.

    `chroma` and `points` are those of `occluded`. Changes in the strength or tint of the light are ignored. All are 0
    if the usual pattern cannot be determined.
    """
    seen = np.stack([_inside_outline(each) for each in points])
    known = seen.any(0)
    if not known.any():
        return np.zeros(len(chroma), np.float32)
    seen, colours = seen[:, known], chroma[:, :NUM_AROUND_MOUTH][:, known].astype(np.float32)
    # Usual colours relative to those of the upper face, which has the same light.
    upper = np.median(chroma[:, NUM_AROUND_MOUTH:], 1).astype(np.float32)
    usual = np.nanmedian(np.where(seen[..., None], colours - upper[:, None], np.nan), 0)
    usual, pattern = (_centre(each, seen) for each in (usual, colours))
    size = (usual**2).sum((1, 2)).clip(1.0)
    light = (pattern * usual).sum((1, 2)) / (pattern**2).sum((1, 2)).clip(1e-3)
    light = light.clip(1 / _MAX_LIGHT_CHANGE, _MAX_LIGHT_CHANGE)[:, None, None]
    distance = np.sqrt(((light * pattern - usual) ** 2).sum((1, 2)) / size)
    distance[seen.sum(1) < _MIN_SEEN * NUM_AROUND_MOUTH] = 0
    return np.asarray(distance if np.median(distance) <= _MAX_USUAL else np.zeros_like(distance), np.float32)


def _inside_outline(points: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return (M,) bool: which of `AROUND_MOUTH` surely lie on the face, given its (468, 3) landmarks."""
    margin = _OUTLINE * float(np.linalg.norm(points[EYE_LEFT] - points[EYE_RIGHT]))
    outline = cv2.convexHull(np.ascontiguousarray(points[:, :2], np.float32))
    places = points[list(AROUND_MOUTH), :2].tolist()
    return np.array([cv2.pointPolygonTest(outline, place, True) > margin for place in places])


def _centre(colours: NDArray[np.floating], seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return (N, M, 2) colours without the mean of the `seen` ones of each frame, 0 where not seen."""
    weight = seen[..., None].astype(np.float32)
    mean = (colours * weight).sum(1, keepdims=True) / weight.sum(1, keepdims=True).clip(1)
    return np.asarray((colours - mean) * weight, np.float32)


def _mark(result: NDArray[np.bool_], frames: NDArray[np.intp], distance: NDArray[np.float32], bound: float) -> None:
    """Mark occluded runs of the ascending `frames` in `result`, in place."""
    candidates = np.flatnonzero(distance > bound * _STILL_OCCLUDED)
    for run in np.split(candidates, np.flatnonzero(np.diff(frames[candidates]) > 1) + 1):
        if len(run) >= _MIN_RUN and distance[run].max() > bound:
            first, last = frames[run[0]], frames[run[-1]]
            result[max(0, first - _MARGIN) : last + 1 + _MARGIN] = True
