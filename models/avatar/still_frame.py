"""Packs the state of a moving still in a frame into one number, so that a still is read by index like a video.

`index = row + NUM_ROWS * detail`. The row is the nearest of a coarse grid of head poses, for which landmarks are
computed once (`turned_track`); engines treat rows like the frames of a video. The detail is the rest: how far the exact
pose is from that of the row, lids, gaze, brows, breath and smile. Frames are drawn with the exact pose, so the head
moves smoothly; landmarks are at most .005 eye distances away, half a pixel in a face with 100 pixels between the eyes.
Row 0 without detail is the still itself.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from models.track.face_track import FaceTrack

# Head frame, eye distances: the pivot is in the neck, below the chin and behind the face. The outline of the head is at
# the same depth and therefore stays in place when the head turns or nods.
PIVOT: Final = (0.0, -1.5, -0.7)

# Pitch, yaw and roll: radians between rows, and numbers of rows. Even a mouth at the chin's distance from the pivot
# moves by .005 eye distances within half a step.
_ROW_STEPS: Final = np.radians([0.4, 0.4, 0.8])
_ROW_COUNTS: Final = (25, 25, 9)
_FINE: Final = 17  # steps around a row
_FINE_STEPS: Final = _ROW_STEPS / (_FINE - 1)
# Detail: size of a step, and first and last step. Together with the rows they use 62.9 of 63 bits.
_DETAILS: Final = {
    "closing": (1 / 31, -8, 31),
    "right": (0.001, -27, 27),
    "down": (0.001, -27, 27),
    "brows": (0.0015, -40, 42),
    "inner_brows": (0.004, -14, 14),
    "breath": (0.0008, 0, 18),
    "smile": (1 / 24, -24, 24),
}
_STEPS: Final = np.array([step for step, _, _ in _DETAILS.values()])
_FIRST, _LAST = (np.array([limits[end] for limits in _DETAILS.values()]) for end in (1, 2))
_SIGNED: Final = (*_ROW_COUNTS, _FINE, _FINE, _FINE)
_COUNTS: Final = (*_SIGNED, *(_LAST - _FIRST + 1).tolist())

NUM_ROWS: Final = int(np.prod(_ROW_COUNTS))
"""Number of head poses with landmarks."""

NUM_FRAMES: Final = int(np.prod(_COUNTS, dtype=np.int64))
"""Number of different frames."""

MAX_TURN: Final = (np.array(_ROW_COUNTS) // 2 + 0.4) * _ROW_STEPS
"""Largest pitch, yaw and roll, in radians."""

# Eye distances by which the head moves to the right and down, per radian of yaw and pitch: .006 per degree.
_SHIFT: Final = (0.35, 0.35)


@dataclass(frozen=True)
class StillFrames:
    """What T frames of a moving still show, relative to the still."""

    turn: NDArray[np.float64]  # (T, 3) radians: pitch (positive: down), yaw (to the right), roll (counter-clockwise)
    closing: NDArray[np.float64]  # (T,) closure of the lids, 0 to 1; below 0, down to -.25, they are raised
    gaze: NDArray[np.float64]  # (T, 2) shift of the irises in eye distances, right and down
    brows: NDArray[np.float64]  # (T,) rise of the brows in eye distances
    inner_brows: NDArray[np.float64]  # (T,) rise of their inner ends besides; below 0 they also come together
    breath: NDArray[np.float64]  # (T,) rise of the shoulders in eye distances
    smile: NDArray[np.float64]  # (T,) height of the corners of the mouth, -1 to 1, see `models.mouth.motion`

    @classmethod
    def of(cls, index: NDArray[np.int64]) -> StillFrames:
        """Return what (T,) frames show."""
        # The row is the last digit; within it, pitch changes fastest.
        digits = np.stack(np.unravel_index(index, _COUNTS[::-1])[::-1], -1)  # (T, 13)
        turned, details = digits[:, : len(_SIGNED)], digits[:, len(_SIGNED) :]
        turned = np.where(turned > np.array(_SIGNED) // 2, turned - _SIGNED, turned)
        # Modulo, so that the still itself is number 0.
        steps = (details - _FIRST) % (_LAST - _FIRST + 1) + _FIRST
        closing, right, down, *rest = (steps * _STEPS).T
        turn = turned[:, :3] * _ROW_STEPS + turned[:, 3:] * _FINE_STEPS
        return cls(turn, closing, np.stack([right, down], -1), *rest)

    def index(self) -> NDArray[np.int64]:
        """Return the (T,) numbers of the nearest frames; what is beyond the limits is clipped."""
        half = np.array(_ROW_COUNTS) // 2
        turn = self.turn.clip(-MAX_TURN, MAX_TURN)
        coarse = np.rint(turn / _ROW_STEPS).clip(-half, half)
        fine = np.rint((turn - coarse * _ROW_STEPS) / _FINE_STEPS)
        details = np.stack([self.closing, *self.gaze.T, *(getattr(self, name) for name in list(_DETAILS)[3:])], -1)
        steps = np.rint(details / _STEPS).clip(_FIRST, _LAST)
        fine = fine.clip(-(_FINE // 2), _FINE // 2)
        digits = np.concatenate([coarse, fine, steps], -1).astype(np.int64) % _COUNTS
        return np.asarray(np.ravel_multi_index(tuple(digits.T[::-1]), _COUNTS[::-1]), np.int64)


def rotation(turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (3, 3) rotation in the head frame of a (3,) rotation vector."""
    matrix, _ = cv2.Rodrigues(np.ascontiguousarray(turn, np.float64))
    return np.asarray(matrix, np.float64)


def head_shift(turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (..., 2) shift of the head, in eye distances right and down, that goes with (..., 3) turns."""
    return np.asarray(turn[..., [1, 0]] * np.array(_SHIFT), np.float64)


def turned_track(track: FaceTrack) -> FaceTrack:
    """Return the track of the `NUM_ROWS` head poses of a still, given its one-frame track.

    Arrays that are the same in all rows are read-only broadcasts. The points take 32 MB.
    """
    if track.num_frames != 1:
        raise ValueError(f"Expected a track of one frame, got {track.num_frames = }.")
    held = {
        field.name: np.broadcast_to(value, (NUM_ROWS, *value.shape[1:]))
        for field in fields(track)
        if field.name != "rest" and isinstance(value := getattr(track, field.name), np.ndarray)
    }
    turn = StillFrames.of(np.arange(NUM_ROWS)).turn
    turns, pivot = np.stack([rotation(each) for each in turn]), np.array(PIVOT)
    scale, still = float(track.scale[0]), track.rotation[0]
    offset = scale * (pivot - turns @ pivot) @ still.T  # (K, 3) of the origin, pixels
    offset[:, :2] += scale * head_shift(turn)
    moved = replace(track, **{**held, "rotation": still @ turns, "translation": track.translation + offset})
    points = np.empty(moved.points.shape, np.float32)
    for rows in np.array_split(np.arange(NUM_ROWS), _ROW_COUNTS[2]):  # in parts, because poses are float64
        points[rows] = moved.pose(rows).same_to_image(track.head_points[0])
    return replace(moved, points=points)
