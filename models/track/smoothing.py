"""Smooths a whole track, each unbroken run of frames separately."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.geometry.head_frame import LIPS, HeadPose
from models.mouth.motion import REFERENCE_FPS

# Savitzky-Golay, quadratic, over five frames at 25 per second: longer windows cost sharpness on moving heads (0.5 to
# 1.4 dB). Higher rates use as many frames as fill the same time; lower ones also use five, because fewer would smooth
# nothing.
_MIN_WINDOW: Final = 5
ORDER: Final = 2
# Share of the smoothing that is undone for moving lips, which are faster than heads. With none, half and all of it,
# nine films in the wild, in which one half speaks the other, have opening r .686, .695 and .695 (mean), a spread within
# .85 to 1.15 of the true one on 8, 8 and 5 of them, and jitter 1.07, 1.02 and 1.05 of the true one (mean). On lips that
# never move, undoing it only adds jitter.
_KEPT_OF_LIPS = 0.5

# A head that jumps this many eye distances between two frames, and much more than in the frames around, marks a cut.
_CUT_STEP = 0.15
_CUT_RATIO = 6.0


def runs(present: NDArray[np.bool_], pose: HeadPose, shot: NDArray[np.int32] | None = None) -> list[slice]:
    """Return the unbroken stretches of a track: between gaps, shots and jumps of the head, in order."""
    new_shot = np.zeros(len(present), np.int32) if shot is None else shot
    edges = np.flatnonzero(np.diff(np.concatenate([[False], present, [False]]).astype(np.int8)))
    stretches = []
    for start, stop in edges.reshape(-1, 2).tolist():
        cuts = np.union1d(
            _cuts(pose.translation[start:stop], pose.scale[start:stop]), np.flatnonzero(np.diff(new_shot[start:stop]))
        )
        bounds = [start, *(start + 1 + cuts).tolist(), stop]
        stretches += [slice(a, b) for a, b in zip(bounds, bounds[1:], strict=False)]
    return stretches


def _cuts(translation: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices i such that the track is cut between frames i and i + 1."""
    steps = np.linalg.norm(np.diff(translation[:, :2], axis=0), axis=1) / scale[1:]  # (T - 1,)
    around = np.array([np.median(steps[max(0, i - 3) : i + 4]) for i in range(len(steps))])
    return np.flatnonzero((steps > _CUT_STEP) & (steps > _CUT_RATIO * around))


def window_frames(fps: float) -> int:
    """Frames of the smoothing window at a frame rate; odd."""
    half = (_MIN_WINDOW - 1) / 2
    return 2 * round(half * max(fps / REFERENCE_FPS, 1.0)) + 1


def smooth(values: NDArray[np.float64], stretches: list[slice], window: int) -> NDArray[np.float64]:
    """Smooth (N, ...) along time within each stretch, with a shorter window where the full one does not fit."""
    from scipy.signal import savgol_filter  # a second to import: only where a track is finished

    result = values.copy()
    for stretch in stretches:
        fitting = min(window, (stretch.stop - stretch.start - 1) // 2 * 2 + 1)
        if fitting >= _MIN_WINDOW:
            result[stretch] = savgol_filter(values[stretch], fitting, ORDER, axis=0, mode="interp")
    return result


def smooth_head(head: NDArray[np.float64], stretches: list[slice], window: int, lips_move: bool) -> NDArray[np.float64]:
    """Smooth (N, 468, 3) points in the head frame; moving lips less than the rest."""
    steady = smooth(head, stretches, window)
    if lips_move:
        lips = list(LIPS)
        steady[:, lips] += _KEPT_OF_LIPS * (head[:, lips] - steady[:, lips])
    return steady


def smooth_pose(pose: HeadPose, stretches: list[slice], window: int) -> HeadPose:
    """Smooth log scale, rotation vector and translation.

    Rotation vectors are relative to the track's mean rotation, so that they stay far from half a turn.
    """
    from scipy.spatial.transform import Rotation

    rotations = Rotation.from_matrix(pose.rotation)
    middle = rotations.mean()
    vectors = smooth((middle.inv() * rotations).as_rotvec(), stretches, window)
    return pose._replace(
        scale=np.exp(smooth(np.log(pose.scale), stretches, window)),
        rotation=(middle * Rotation.from_rotvec(vectors)).as_matrix(),
        translation=smooth(pose.translation, stretches, window),
    )


def fill_gaps(points: NDArray[np.floating], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Interpolate (N, P, 3) points over frames without the face; constant before the first and after the last."""
    known = np.flatnonzero(present)
    frames = np.arange(len(present))
    right = np.clip(np.searchsorted(known, frames), 0, len(known) - 1)
    after = known[right]
    before = np.where(present, frames, known[np.maximum(right - 1, 0)])
    before = np.where(frames < known[0], known[0], np.where(frames > known[-1], known[-1], before))
    share = np.where(after > before, (frames - before) / np.maximum(after - before, 1), 0.0)[:, None, None]
    filled: NDArray[np.float64] = points[before] * (1 - share) + points[np.maximum(after, before)] * share
    return filled
