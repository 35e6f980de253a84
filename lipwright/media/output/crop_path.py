"""Plans the position of the crop in each frame: it follows a face smoothly, and jumps only at cuts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

PAN_SECONDS: Final = 0.8
"""Length of a pan from one face to another. Faces that speak for a shorter time are not followed."""
_SMOOTH_SECONDS: Final = 1.0
"""Half the time over which the path is averaged; it also looks ahead for so long."""
_FREE: Final = 0.12
"""How far a face may move before the crop follows, as a share of the crop."""
_PLACE: Final = (0.5, 0.42)
"""Where in the crop the middle of the face belongs: in the middle, and a little above it (rule of thirds: the eyes)."""
_MARGIN: Final = (0.15, 0.35, 0.15, 0.15)
"""Space that is kept left of, above, right of and below the landmarks, as a share of the face's size: hair and ears."""


class FaceBoxes(NamedTuple):
    """The box of the face that speaks in each of T frames, in pixels, and where a new camera path begins.

    Attributes:
        low: (T, 2) left and upper edges.
        high: (T, 2) right and lower edges.
        is_cut: (T,) whether the picture is cut before the frame.
        is_new_face: (T,) whether another face than in the frame before speaks; the crop then pans.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    is_cut: NDArray[np.bool_]
    is_new_face: NDArray[np.bool_]


def crop_path(faces: FaceBoxes, frame: tuple[int, int], crop: tuple[int, int], fps: float) -> NDArray[np.float32]:
    """Return the (T, 2) left and upper edges of the crop, in pixels; even numbers wherever it does not move.

    Between cuts the path is smooth. The face with its margin stays inside, except while the crop pans to another face,
    or if it is larger than the crop or moves too fast for a smooth path; then it is as far inside as possible.

    Args:
        faces: The face in each frame.
        frame: (width, height) of the frames.
        crop: (width, height) of the crop, at most those of the frames.
        fps: Frames per second.
    """
    path = np.zeros((len(faces.low), 2), np.float32)
    reach = max(1, round(_SMOOTH_SECONDS * fps))
    starts = np.flatnonzero(faces.is_cut[1:]) + 1
    shots = np.split(np.arange(len(path)), starts)
    for axis in range(2):
        room = frame[axis] - crop[axis]
        if room <= 0:
            continue
        size = faces.high[:, axis] - faces.low[:, axis]
        before, after = _MARGIN[axis] * size, _MARGIN[axis + 2] * size
        least = faces.high[:, axis] + after - crop[axis]  # the crop may not begin before this
        most = faces.low[:, axis] - before  # nor after this
        wanted = (faces.low[:, axis] + faces.high[:, axis]) / 2 - _PLACE[axis] * crop[axis]
        middle = (least + most) / 2
        least, most = np.where(least > most, middle, least), np.where(least > most, middle, most)
        bounds = np.stack([np.clip(each, 0, room) for each in (least, most, wanted)]).astype(np.float32)
        for shot in shots:
            turns = np.split(shot, np.flatnonzero(faces.is_new_face[shot[1:]]) + 1)
            paths = [_smooth(bounds[:, turn], _FREE * crop[axis], reach) for turn in turns]
            path[shot, axis] = _join(paths, round(PAN_SECONDS * fps / 2))
    return path


def _join(paths: Sequence[NDArray[np.float32]], reach: int) -> NDArray[np.float32]:
    """Return paths one after another; pans from one to the next take `reach` frames of both."""
    path, end = np.concatenate(paths), 0
    for before, after in pairwise(paths):
        end += len(before)
        num = min(reach, len(before) // 2, len(after) // 2)
        if num:
            share = (1 - np.cos(np.pi * (np.arange(2 * num) + 0.5) / (2 * num))) / 2
            leaving = np.append(before[-num:], np.full(num, before[-1]))
            arriving = np.append(np.full(num, after[0]), after[:num])
            path[end - num : end + num] = np.round((1 - share) * leaving + share * arriving, 3)
    return path


def _smooth(
    bounds: NDArray[np.float32],
    free: float,
    reach: int,
) -> NDArray[np.float32]:
    """Return the (T,) path of one axis in one shot, while one face speaks.

    Any path that is averaged over `reach` frames to both sides stays within bounds if, before, each of its values was
    within the bounds of all frames that it is averaged into.
    """
    least, most, wanted = bounds  # (T,) each
    num = len(wanted)
    reach = min(reach, max(1, num // 2))
    low, high = _spread(least, reach, cv2.MORPH_DILATE), _spread(most, reach, cv2.MORPH_ERODE)
    crossed = low > high
    low, high = np.where(crossed, wanted, low), np.where(crossed, wanted, high)
    mean = cv2.blur(np.ascontiguousarray(wanted, np.float32)[None], (2 * reach + 1, 1), borderType=cv2.BORDER_REPLICATE)
    target = np.asarray(mean, np.float32)[0]
    lazy = np.empty(num, np.float32)
    # The first place is the mean, so that a face that moves around it needs no movement of the crop.
    place = float(np.mean(target[: 2 * reach]))
    for index in range(num):
        place = min(max(place, float(target[index]) - free), float(target[index]) + free)
        place = min(max(place, float(low[index])), float(high[index]))
        lazy[index] = round(place / 2) * 2  # so that frames at rest are copied without interpolation
    window = np.hanning(2 * reach + 3)[1:-1]
    padded = np.pad(lazy, reach, mode="edge")
    smooth = np.round(np.convolve(padded, window / window.sum(), mode="valid"), 3).astype(np.float32)
    path: NDArray[np.float32] = np.clip(smooth, least, most).astype(np.float32)
    return path


def _spread(values: NDArray[np.float32], reach: int, operation: int) -> NDArray[np.float32]:
    """Return the largest (MORPH_DILATE) or smallest (MORPH_ERODE) value within `reach` frames of each frame."""
    row, kernel = np.ascontiguousarray(values, np.float32)[None], np.ones((1, 2 * reach + 1), np.uint8)
    (spread,) = cv2.morphologyEx(row, operation, kernel, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(spread, np.float32)
