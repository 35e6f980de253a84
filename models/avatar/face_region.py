"""The square around mouth and jaw that is cut from every frame, rewritten and pasted back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lipwright.media.kept_squares import KeptSquares, Square
from lipwright.media.yuv_frame import YuvFrame
from models.geometry.head_frame import CHIN_TIP, CORNER_LEFT, CORNER_RIGHT, EYE_LEFT, EYE_RIGHT, NOSE_BASE
from models.track.face_track import FaceTrack

# Side of the region in eye distances: the jaw mask of `models.engines.warp.painting.masks` plus a small margin.
REGION_EYE_DISTANCES = 1.62
_STEP = 32  # the side is a multiple of this, so that the cells of the 32 x 32 field grid are whole pixels
ABOVE_NOSE, BELOW_CHIN = 0.10, 0.42  # eye distances: extent of the area that moves with the jaw
# A square that contains eyes and region: its side in eye distances, and its centre as a share of the way from nose to
# chin. 19 clips of people need sides of up to 2.3 (the region has the size that the largest face requires).
_FACE_EYE_DISTANCES, _FACE_CENTRE = 2.5, 0.55
_DEPTH_POINTS = (17, CORNER_LEFT, CORNER_RIGHT, NOSE_BASE)


@dataclass(frozen=True)
class FaceRegion:
    """Position of the region in each source frame."""

    size: int  # side R in pixels, a multiple of 32, the same for all frames
    origins: NDArray[np.int32]  # (N, 2) x, y of the top left pixel in the frame; even, may be negative
    centre: NDArray[np.float64]  # (3,) head-frame point at the centre of the region

    def square(self, frame: int) -> Square:
        """Return the region in a source frame."""
        x, y = self.origins[frame].tolist()
        return Square(x, y, self.size)

    @classmethod
    def of(cls, track: FaceTrack) -> FaceRegion:
        """Compute the region of a track; deterministic."""
        rest = track.rest.astype(np.float64)
        top, bottom = rest[NOSE_BASE, 1] + ABOVE_NOSE, rest[CHIN_TIP, 1] - BELOW_CHIN  # y up
        x = rest[[NOSE_BASE, CHIN_TIP], 0].mean()
        centre = np.array([x, (top + bottom) / 2, rest[list(_DEPTH_POINTS), 2].mean()])
        eyes = float(np.linalg.norm(rest[EYE_LEFT] - rest[EYE_RIGHT]))
        shown = track.driving_weight > 0  # turned and partly covered faces, too, which are not `visible`
        largest = float(track.scale[shown if shown.any() else track.visible].max())
        largest *= eyes * max(1.0, 1 / track.pixel_aspect)
        size = int(np.ceil(largest * REGION_EYE_DISTANCES / _STEP)) * _STEP
        frames = np.arange(len(track.points))
        placed = track.place(frames, np.broadcast_to(centre, (len(frames), 1, 3)))[:, 0]  # (N, 2)
        return cls(size, (np.rint((placed - size / 2) / 2) * 2).astype(np.int32), centre)


def keep_face(kept: KeptSquares, first: int, number: int, frame: YuvFrame, points: NDArray[np.floating]) -> None:
    """Keep the square around the face in frame `first + number`, in which an analysis finds all it needs.

    `points` are its (468, 3) landmarks in pixels. If the face is much larger in another frame, the square may be too
    small; the analysis then decodes this frame again.
    """
    eyes = float(np.linalg.norm(points[EYE_LEFT] - points[EYE_RIGHT]))
    nose, chin = points[NOSE_BASE, :2], points[CHIN_TIP, :2]
    square = even_square(nose + _FACE_CENTRE * (chin - nose), _FACE_EYE_DISTANCES * eyes)
    kept.keep(first + number, frame, square)


def even_square(centre: NDArray[np.floating], size: float) -> Square:
    """Return an even square that contains the one of any centre and size, in pixels."""
    x, y = (int(edge) for edge in np.floor((centre - size / 2) / 2) * 2)
    return Square(x, y, int(np.ceil(size / 2)) * 2 + 2)
