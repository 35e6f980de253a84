"""Makes the frames between two clips: the face moves by its landmarks, everything else by optical flow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.yuv_frame import YuvFrame
from models.geometry.arrays import remap

_FLOW_SIDE: Final = 270
"""Longest side, in pixels, at which motion is estimated."""
_SPREAD: Final = 0.12
"""Standard deviation, in eye distances, with which the motion of landmarks spreads."""
_OUTLINE: Final = 0.35
"""Eye distances around the landmarks within which the head moves with the face."""
_FACE_SIDE: Final = 1.9
"""Width and height of a face in eye distances, about."""

_Field = NDArray[np.float32]  # (h, w, 2) pixels


def bridge_frames(
    before: Iterable[YuvFrame],
    after: Iterable[YuvFrame],
    points_before: NDArray[np.float32],
    points_after: NDArray[np.float32],
    jump: float,
) -> Iterator[YuvFrame]:
    """Yield T frames that start as `before` and end as `after`, and change evenly.

    Args:
        before: T frames of the clip that is left.
        after: T frames of the clip that is entered, of the same size.
        points_before: (T, 468, 2) landmarks in pixels.
        points_after: The same of `after`.
        jump: How much the two clips differ, in usual changes between neighbouring frames.
    """
    pairs = zip(before, after, points_before, points_after, _shares(len(points_before), jump), strict=True)
    for one, other, here, there, share in pairs:
        yield morph(one, other, here, there, share)


def _shares(num: int, jump: float) -> list[float]:
    """Return the shares of the second clip in `num` frames.

    The mean of two clips that move independently moves less than each. So the first and the last of the steps, in which
    one clip is seen with all its motion, are the shortest.
    """
    mean = jump / (num + 1)
    shares = np.linspace(0, 1, num + 2)
    for _ in range(4):
        middle = (shares[1:] + shares[:-1]) / 2
        moves = (1 - middle) ** 2 + middle**2
        steps = np.sqrt(np.maximum(moves.mean() - moves + mean**2, (mean / 3) ** 2))
        shares = np.concatenate([[0], np.cumsum(steps) / steps.sum()])
    return [float(share) for share in shares[1:-1]]


def morph(
    one: YuvFrame, other: YuvFrame, here: NDArray[np.float32], there: NDArray[np.float32], share: float
) -> YuvFrame:
    """Return a frame that is `share` of the way from one frame to another, 0 to 1.

    Args:
        one: The first frame.
        other: The second frame, of the same size.
        here: (468, 2) landmarks of the first frame, in pixels.
        there: (468, 2) landmarks of the second frame.
        share: 0 is the first frame.
    """
    field = _motion(one, other, here, there, share)
    planes = []
    for plane, target in zip(one, other, strict=True):
        moved = _moved(plane, field, -share), _moved(target, field, 1 - share)
        planes.append(np.asarray(cv2.addWeighted(moved[0], 1 - share, moved[1], share, 0), np.uint8))
    return YuvFrame(*planes)


def _motion(
    one: YuvFrame, other: YuvFrame, here: NDArray[np.float32], there: NDArray[np.float32], share: float
) -> _Field:
    """Return (h, w, 2) how far what is shown at each place moves from one frame to the other, in shares of a side.

    Places are those of the frame between the two.
    """
    height, width = one.y.shape
    factor = min(1.0, _FLOW_SIDE / max(height, width))
    size = max(16, round(width * factor)), max(16, round(height * factor))
    scale = np.array([size[0] / width, size[1] / height], np.float32)
    small = [np.asarray(cv2.resize(frame.y, size, interpolation=cv2.INTER_AREA), np.uint8) for frame in (one, other)]
    face, weight = _face_motion(here * scale, there * scale, share, size)
    flow = _flow(small[0], small[1], share)
    return np.asarray((flow + weight[..., None] * (face - flow)) / np.array(size, np.float32), np.float32)


def _face_motion(
    here: NDArray[np.float32], there: NDArray[np.float32], share: float, size: tuple[int, int]
) -> tuple[_Field, NDArray[np.float32]]:
    """Return the motion of the head, and (h, w) 0 to 1 where it is the head that moves."""
    at, moves = here + share * (there - here), there - here
    affine, *_ = np.linalg.lstsq(np.c_[at, np.ones(len(at))], moves, rcond=None)  # (3, 2)
    fit = np.c_[at, np.ones(len(at))] @ affine
    head = _grid(size[1], size[0]) @ affine[:2] + affine[2]
    eyes = float(np.sqrt(np.ptp(at[:, 0]) * np.ptp(at[:, 1]))) / _FACE_SIDE
    splat = np.zeros((size[1], size[0], 3), np.float32)
    column, row = np.rint(at).astype(int).T
    inside = (column >= 0) & (column < size[0]) & (row >= 0) & (row < size[1])
    np.add.at(splat, (row[inside], column[inside]), np.c_[moves - fit, np.ones(len(at))][inside])
    spread = cv2.GaussianBlur(splat, (0, 0), max(0.7, _SPREAD * eyes))
    head += spread[..., :2] / (spread[..., 2:] + 1e-3 * spread[..., 2].max() + 1e-9)
    hull = cv2.convexHull(at.astype(np.float32))[:, 0]
    hull += (hull - hull.mean(0)) * (_OUTLINE * 2 / _FACE_SIDE)
    mask = cv2.fillConvexPoly(np.zeros(size[::-1], np.float32), np.rint(hull).astype(np.int32), 1)
    weight = cv2.GaussianBlur(mask, (0, 0), max(0.7, _OUTLINE / 2 * eyes))
    return np.asarray(head, np.float32), np.asarray(weight, np.float32)


def _flow(one: NDArray[np.uint8], other: NDArray[np.uint8], share: float) -> _Field:
    """Return the optical flow at the places of the frame between two, about 0 where the two directions disagree."""
    estimate = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    there = np.asarray(estimate.calc(one, other, None), np.float32)  # type: ignore[call-overload]
    back = np.asarray(estimate.calc(other, one, None), np.float32)  # type: ignore[call-overload]
    there, back = there * _agreement(there, back), -back * _agreement(back, there)
    there = _sampled(there, -share * there)
    back = _sampled(back, (1 - share) * back)
    return np.asarray((1 - share) * there + share * back, np.float32)


def _agreement(flow: _Field, reverse: _Field) -> NDArray[np.float32]:
    """Return (h, w, 1) 1 where the reverse flow leads back, and 0 where it does not."""
    apart = flow + _sampled(reverse, flow)
    return np.asarray(np.exp(-(apart**2).sum(2, keepdims=True)), np.float32)


def _sampled(picture: NDArray[np.float32], move: _Field) -> NDArray[np.float32]:
    places = _grid(*move.shape[:2]) + move
    return remap(picture, places, cv2.INTER_LINEAR)


def _moved(plane: NDArray[np.uint8], field: _Field, share: float) -> NDArray[np.uint8]:
    """Return a plane that has moved by a share of the field."""
    places = np.asarray(cv2.resize(field, plane.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
    places *= share * np.array(plane.shape[::-1], np.float32)
    places += _grid(*plane.shape)
    return remap(plane, places, cv2.INTER_CUBIC)


@lru_cache(maxsize=4)
def _grid(height: int, width: int) -> _Field:
    """Return (h, w, 2) x and y of each pixel; not to be written to."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
