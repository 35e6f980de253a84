"""Follows the head through frames in which something covers the mouth, and looks at the lower face in a fixed grid.

Landmarks of a covered face are wrong by up to a tenth of the eye distance, because the network guesses what it does not
see. The upper face is not covered: its texture gives the position, size and roll of the head to about .02.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.yuv_frame import YuvFrame, cut
from models.geometry.head_frame import CHIN_TIP, EYE_LEFT, EYE_RIGHT, NOSE_BASE, RIGID

CELLS: Final = 96  # side of the grid
CELLS_PER_EYE_DISTANCE: Final = 56.0  # the grid spans 1.71 eye distances, all that is rewritten
_EYE_PIXELS = 60  # pictures are reduced until the eyes are about this far apart: about one pixel a cell

# Outline of what is tracked: forehead, temples, lower lids, wings of the nose.
_UPPER_FACE = (10, 67, 297, 54, 284, 103, 332, 127, 356, 119, 348, 129, 358)
_MAX_FEATURES, _FEATURE_QUALITY, _FEATURE_STEP = 120, 0.005, 0.04  # of `cv2.goodFeaturesToTrack`; eye distances
_SEARCH = 0.16  # eye distances: side of the window that is compared
_MAX_LOOP = 0.015  # eye distances between a feature and where tracking there and back leads
_MAX_ERROR = 0.05  # eye distances between a feature and where the motion of the whole head leads
_MIN_FEATURES = 8

Affine = NDArray[np.float64]  # (2, 3), maps (x, y, 1)


def then(first: Affine, second: Affine) -> Affine:
    """Return the map that applies `first`, then `second`."""
    return np.asarray(second[:, :2] @ first + np.hstack([np.zeros((2, 2)), second[:, 2:]]))


def inverse(affine: Affine) -> Affine:
    """Return the inverse map."""
    return np.asarray(cv2.invertAffineTransform(affine), np.float64)


def transformed(points: NDArray[np.floating], affine: Affine) -> NDArray[np.float64]:
    """Map (P, 2+) points by a similarity; a third coordinate is scaled with it."""
    scale = float(np.sqrt(abs(np.linalg.det(affine[:, :2]))))
    return np.hstack([points[:, :2] @ affine[:, :2].T + affine[:, 2], points[:, 2:] * scale])


def eye_distance(points: NDArray[np.floating]) -> float:
    """Return the distance of the outer eye corners of (468, 2+) landmarks."""
    return float(np.linalg.norm(points[EYE_LEFT, :2] - points[EYE_RIGHT, :2]))


def grid_of(points: NDArray[np.floating]) -> Affine:
    """Return the map from grid cells to pixels for the (468, 2+) landmarks of an uncovered face.

    The grid is parallel to the line of the eyes; its middle lies between the base of the nose and the chin.
    """
    along = (points[EYE_RIGHT, :2] - points[EYE_LEFT, :2]) / CELLS_PER_EYE_DISTANCE
    turn = np.array([[along[0], -along[1]], [along[1], along[0]]])
    middle = (points[NOSE_BASE, :2] + points[CHIN_TIP, :2]) / 2
    return np.hstack([turn, (middle - turn @ np.full(2, (CELLS - 1) / 2))[:, None]]).astype(np.float64)


def between_faces(first: NDArray[np.floating], second: NDArray[np.floating]) -> Affine:
    """Return the similarity that maps the rigid points of one uncovered face to those of another."""
    a, b = (np.ascontiguousarray(points[list(RIGID), :2], np.float32) for points in (first, second))
    found, _ = cv2.estimateAffinePartial2D(a, b, method=cv2.LMEDS)
    if found is None:
        raise ValueError("Expected landmarks of two faces, found no similarity between them.")
    return np.asarray(found, np.float64)


@dataclass(frozen=True)
class Picture:
    """A reduced part of a frame."""

    yuv: NDArray[np.uint8]  # (h, w, 3)
    to_frame: Affine  # from its pixels to those of the frame

    @classmethod
    def of(cls, frame: YuvFrame, points: NDArray[np.floating], like: NDArray[np.floating]) -> Picture:
        """Cut out the face of (P, 2+) landmarks with a margin; of the same size as that of other landmarks, `like`."""
        eyes = eye_distance(like)
        factor = max(1, round(eyes / _EYE_PIXELS))
        side = int(np.ceil(np.ptp(like[:, :2], axis=0).max() + 2 * eyes)) // (2 * factor) * 2
        middle = (points[:, :2].min(0) + points[:, :2].max(0)) / 2
        x, y = (int(value) for value in np.rint((middle - side * factor / 2) / 2) * 2)
        planes = cut(frame, x, y, side * factor)
        how = cv2.INTER_LINEAR if factor == 1 else cv2.INTER_AREA
        yuv = np.dstack([np.asarray(cv2.resize(plane, (side, side), interpolation=how), np.uint8) for plane in planes])
        offset = (factor - 1) / 2
        return cls(yuv, np.array([[factor, 0, x + offset], [0, factor, y + offset]], np.float64))

    def view(self, grid: Affine) -> NDArray[np.float32]:
        """Return (96, 96, 3) float32 Y, U, V at the cells of a grid, given as its map to frame pixels."""
        place = then(grid, inverse(self.to_frame))
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        seen = cv2.warpAffine(self.yuv, place, (CELLS, CELLS), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(seen, np.float32)


class Followed(NamedTuple):
    """Where the head of the reference is in another frame."""

    motion: Affine  # from pixels of the reference's frame to those of the frame
    share: float  # share of the features that were found again, 0 to 1


class HeadFollower:
    """Finds the upper face of one picture in others."""

    def __init__(self, reference: Picture, points: NDArray[np.floating]) -> None:
        """Take the (468, 2+) landmarks of the uncovered face in the reference, in frame pixels."""
        self._reference = reference
        small = transformed(points[:, :2], inverse(reference.to_frame)).astype(np.float32)
        self._eyes = eye_distance(small)
        area = np.zeros(reference.yuv.shape[:2], np.uint8)
        cv2.fillConvexPoly(area, cv2.convexHull(small[list(_UPPER_FACE)]).astype(np.int32), 255)
        luma = np.ascontiguousarray(reference.yuv[..., 0])
        step = max(2.0, _FEATURE_STEP * self._eyes)
        found = cv2.goodFeaturesToTrack(luma, _MAX_FEATURES, _FEATURE_QUALITY, step, mask=area, blockSize=5)
        self._features = np.zeros((0, 1, 2), np.float32) if found is None else np.asarray(found, np.float32)

    def find(self, picture: Picture, guess: Affine) -> Followed:
        """Find the head in a picture near a guess, which is returned if too little is found."""
        features = self._features
        if len(features) < _MIN_FEATURES:
            return Followed(guess, 0.0)
        small = then(then(self._reference.to_frame, guess), inverse(picture.to_frame))
        start = cv2.transform(features, small).astype(np.float32)
        there, seen = self._flow(self._reference, picture, features, start)
        back, seen_back = self._flow(picture, self._reference, there, features)
        loop = np.linalg.norm(back - features, axis=-1)[:, 0]
        good = (seen[:, 0] > 0) & (seen_back[:, 0] > 0) & (loop < max(0.3, _MAX_LOOP * self._eyes))
        if good.sum() < _MIN_FEATURES:
            return Followed(guess, 0.0)
        found, _ = cv2.estimateAffinePartial2D(features[good], there[good], method=cv2.LMEDS)
        if found is None:
            return Followed(guess, 0.0)
        moved = np.asarray(found, np.float64)
        error = np.linalg.norm(cv2.transform(features, moved) - there, axis=-1)[:, 0]
        share = float((good & (error < _MAX_ERROR * self._eyes)).mean())
        return Followed(then(then(inverse(self._reference.to_frame), moved), picture.to_frame), share)

    def _flow(
        self, source: Picture, target: Picture, features: NDArray[np.float32], start: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        side = max(9, int(_SEARCH * self._eyes)) | 1
        before, after = (np.ascontiguousarray(each.yuv[..., 0]) for each in (source, target))
        flags = cv2.OPTFLOW_USE_INITIAL_FLOW
        places, seen, _ = cv2.calcOpticalFlowPyrLK(
            before, after, features, start.copy(), winSize=(side, side), maxLevel=2, flags=flags
        )
        return np.asarray(places, np.float32), np.asarray(seen, np.uint8)
