"""The square around the mouth and jaw that is cut from every frame, rewritten, and pasted back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.geometry.face_points import CHIN_TIP, CORNER_LEFT, CORNER_RIGHT, EYE_LEFT, EYE_RIGHT, NOSE_BASE
from models.track.face_track import FaceTrack

# The region's side in eye distances: it holds the jaw mask of `models.engines.warp.painting.masks` with a little air.
REGION_EYE_DISTANCES = 1.62
_STEP = 32  # the side is a multiple of this, so that the 32 x 32 field grid has whole cells
ABOVE_NOSE, BELOW_CHIN = 0.10, 0.42  # eye distances: where what goes with the jaw ends
_DEPTH_POINTS = (17, CORNER_LEFT, CORNER_RIGHT, NOSE_BASE)


@dataclass(frozen=True)
class FaceRegion:
    """Where the region lies in each source frame.

    Attributes:
        size: Side R in pixels, the same for all frames, a multiple of 32.
        origins: (N, 2) int32 x, y of the upper left pixel in the frame; even, may be negative.
        centre: (3,) float64 head-frame point at the region's centre.
    """

    size: int
    origins: NDArray[np.int32]
    centre: NDArray[np.float64]

    @classmethod
    def of(cls, track: FaceTrack) -> FaceRegion:
        """Computes the region of a track; the same track gives the same region."""
        rest = track.rest.astype(np.float64)
        top, bottom = rest[NOSE_BASE, 1] + ABOVE_NOSE, rest[CHIN_TIP, 1] - BELOW_CHIN  # y up
        x = rest[[NOSE_BASE, CHIN_TIP], 0].mean()
        centre = np.array([x, (top + bottom) / 2, rest[list(_DEPTH_POINTS), 2].mean()])
        eyes = float(np.linalg.norm(rest[EYE_LEFT] - rest[EYE_RIGHT]))
        largest = float(track.scale[track.present].max()) * eyes * max(1.0, 1 / track.pixel_aspect)
        size = int(np.ceil(largest * REGION_EYE_DISTANCES / _STEP)) * _STEP
        frames = np.arange(len(track.points))
        placed = track.place(frames, np.broadcast_to(centre, (len(frames), 1, 3)))[:, 0]  # (N, 2)
        return cls(size, (np.rint((placed - size / 2) / 2) * 2).astype(np.int32), centre)
