"""Assigns every tracked frame to a shot and decides whether its mouth is rewritten, or why not."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import FaceNotFoundError
from models.face.appearance import SAME_PERSON
from models.face.occlusion import occluded
from models.geometry.head_frame import fit_head_pose, pose_degrees
from models.track.face_track import EASE_SECONDS
from models.track.raw_landmarks import RawLandmarks, SkipReason
from models.track.shots import shots_of
from models.track.smoothing import fill_gaps
from models.track.tracker import CHECK_EVERY

# Measured degrees up to which a mouth is seen well enough to learn from it, and between which the effect fades out. The
# mesh lags behind a turned head: 45 degrees are measured as 37, 55 as 48, 65 as 54, 75 as 60 (`docs/experiments.md`).
WELL_SEEN_YAW: Final = 43.0
_FADE_YAW, _FADE_PITCH = (54.0, 60.0), (36.0, 40.0)
# A head turned this far with a lower presence is in fact turned farther: the mesh has slipped to the cheek. Meshes that
# fit have at least 8 up to 65 degrees (three synthetic speakers), those that slipped about 3.
_WEAK_YAW, _WEAK_PRESENCE = 28.0, 5.0
_MEDIAN_FRAMES = 5

# Below this distance between the outer eye corners the mouth is six pixels wide: there is nothing to rewrite.
MIN_EYE_DISTANCE: Final = 12.0

_BRIDGED = [SkipReason.NO_FACE, SkipReason.TURNED_AWAY, SkipReason.TOO_SMALL]

_WORDS = {
    SkipReason.TURNED_AWAY: "the head turned away",
    SkipReason.COVERED: "the mouth covered",
    SkipReason.TOO_SMALL: f"a face whose eyes are less than {MIN_EYE_DISTANCE:.0f} pixels apart",
}


class Visibility(NamedTuple):
    """Shots and visibility of N frames."""

    shot: NDArray[np.int32]  # (N,) ascending from 0
    skip_reason: NDArray[np.uint8]  # (N,) SkipReason
    visible: NDArray[np.bool_]  # (N,) whether the mouth is seen well enough to learn from it
    facing: NDArray[np.float32]  # (N,) 1 for heads that face the camera, down to 0 where they are turned away


def assess_visibility(raw: RawLandmarks, fps: float = 25.0, pixel_aspect: float = 1.0) -> Visibility:
    """Find the shots of a whole track, and the frames whose mouth can be rewritten.

    Raises:
        FaceNotFoundError: There are faces, but none can be rewritten in any frame; the message says why.
    """
    num_frames = len(raw.present)
    shot = np.zeros(num_frames, np.int32) if raw.scenes is None else shots_of(raw.scenes)
    found = np.where(raw.present, SkipReason.NONE, SkipReason.NO_FACE)
    reasons = (found if raw.reasons is None else raw.reasons).astype(np.uint8)
    shown = reasons == SkipReason.NONE
    facing, is_well_seen = np.ones(num_frames, np.float32), np.ones(num_frames, np.bool_)
    if shown.any():
        pose = fit_head_pose(fill_gaps(raw.points, shown), pixel_aspect)
        yaw, pitch = np.abs(_steady(pose_degrees(pose.rotation)))[:, :2].T
        facing = np.minimum(_fade(yaw, _FADE_YAW), _fade(pitch, _FADE_PITCH))
        is_well_seen = yaw < WELL_SEEN_YAW
        is_away = facing == 0
        if raw.presence is not None:
            is_away |= (yaw > _WEAK_YAW) & (_steady(raw.presence[:, None])[:, 0] < _WEAK_PRESENCE)
        reasons[shown & is_away] = SkipReason.TURNED_AWAY
        reasons[shown & (_steady(pose.scale[:, None])[:, 0] < MIN_EYE_DISTANCE)] = SkipReason.TOO_SMALL
        _join_turns(reasons, shot)
        _unmask(reasons, shot)
        shown = reasons == SkipReason.NONE
        if raw.chroma is not None:
            reasons[occluded(raw.chroma, raw.points, shown & is_well_seen, shot)] = SkipReason.COVERED
    if not (reasons == SkipReason.NONE).any() and (reasons != SkipReason.NO_FACE).any():
        raise FaceNotFoundError(_nobody(reasons, raw))
    visible = reasons == SkipReason.NONE
    if (visible & is_well_seen).any():
        visible &= is_well_seen
    _bridge(reasons, shot, fps)
    return Visibility(shot, reasons, visible, facing)


def _bridge(reasons: NDArray[np.uint8], shot: NDArray[np.int32], fps: float) -> None:
    """Mark gaps of up to `EASE_SECONDS` between rewritten frames of a shot as rewritten too, in place.

    Otherwise the source's own mouth would show for a few frames between two fades. The landmarks of such a gap are
    known or can be interpolated. Frames that show someone or something else in the face's place are not bridged.
    """
    gap = np.isin(reasons, _BRIDGED)
    for start, stop in np.flatnonzero(np.diff(np.concatenate([[False], gap, [False]]))).reshape(-1, 2).tolist():
        if start == 0 or stop == len(reasons) or stop - start > EASE_SECONDS * fps:
            continue
        is_between = (reasons[[start - 1, stop]] == SkipReason.NONE).all() and shot[start - 1] == shot[stop]
        if is_between:
            reasons[start:stop] = SkipReason.NONE


def _unmask(reasons: NDArray[np.uint8], shot: NDArray[np.int32]) -> None:
    """Mark the frames since the last check, in place, when a check finds another person."""
    other, shown = reasons == SkipReason.OTHER_PERSON, reasons == SkipReason.NONE
    for frame in np.flatnonzero(other[1:] & shown[:-1] & (shot[1:] == shot[:-1])) + 1:
        around = slice(max(0, frame - CHECK_EVERY), frame)
        before = reasons[around]
        before[(before == SkipReason.NONE) & (shot[around] == shot[frame])] = SkipReason.OTHER_PERSON


def _fade(degrees: NDArray[np.float32], between: tuple[float, float]) -> NDArray[np.float32]:
    """Return 1 below the first angle, falling to 0 at the second."""
    first, last = between
    return ((last - degrees) / (last - first)).clip(0, 1)


def _join_turns(reasons: NDArray[np.uint8], shot: NDArray[np.int32]) -> None:
    """Mark unrecognised frames between two turned-away runs of a shot as turned away too, in place."""
    bounds = np.flatnonzero((np.diff(reasons) != 0) | (np.diff(shot) != 0)) + 1
    for start, stop in zip(bounds, bounds[1:], strict=False):
        is_between = (reasons[[start - 1, stop]] == SkipReason.TURNED_AWAY).all() and shot[start - 1] == shot[stop]
        if is_between and reasons[start] == SkipReason.OTHER_PERSON:
            reasons[start:stop] = SkipReason.TURNED_AWAY


def _steady(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Running medians of (N, C) values."""
    half = _MEDIAN_FRAMES // 2
    padded = np.pad(values, ((half, half), (0, 0)), "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, _MEDIAN_FRAMES, axis=0)
    return np.asarray(np.median(windows, -1), np.float32)


def _nobody(reasons: NDArray[np.uint8], raw: RawLandmarks) -> str:
    count = np.bincount(reasons, minlength=len(SkipReason))
    if count[SkipReason.OTHER_PERSON] and not raw.present.any():
        best = -1.0 if raw.likeness is None else float(raw.likeness.max())
        return (
            f"Expected the chosen person (a likeness of at least {SAME_PERSON:.2f}, clearly above "
            f"everybody else's), found other or unclear faces in {count[SkipReason.OTHER_PERSON]} of {len(reasons)} "
            f"frames, the best with a likeness of {best:.2f}."
        )
    found = ", ".join(f"{words} in {count[reason]}" for reason, words in _WORDS.items() if count[reason])
    return f"Expected a mouth that can be rewritten, found {found or 'none'} of {len(reasons)} frames."
