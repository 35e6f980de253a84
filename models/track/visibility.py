"""Assigns every tracked frame to a shot and decides whether its mouth is rewritten, or why not."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from errors import FaceNotFoundError
from models.face.appearance import SAME_PERSON
from models.face.occlusion import occluded
from models.geometry.head_frame import fit_head_pose, pose_degrees
from models.track.driving_weight import EASE_SECONDS
from models.track.raw_landmarks import RawLandmarks
from models.track.shots import shots_of
from models.track.skip_reason import SkipReason
from models.track.smoothing import fill_gaps
from models.track.tracker import CHECK_EVERY

# The mesh lags behind a turned head: 45 degrees are measured as 37, 55 as 45, and from 60 on it leaves the face.
_MAX_YAW, _BACK_YAW = 43.0, 39.0  # measured degrees from which a head counts as turned away, and below which as back
_MAX_PITCH, _BACK_PITCH = 40.0, 36.0
_WEAK_YAW, _WEAK_PRESENCE = 28.0, 11.0  # a head turned this far with a lower presence is in fact turned farther
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
    visible: NDArray[np.bool_]  # (N,) the mouth is visible; short gaps without it are still rewritten


def assess_visibility(raw: RawLandmarks, fps: float = 25.0, pixel_aspect: float = 1.0) -> Visibility:
    """Finds the shots of a whole track, and the frames whose mouth can be rewritten.

    Raises:
        FaceNotFoundError: There are faces, but none can be rewritten in any frame; the message says why.
    """
    num_frames = len(raw.present)
    shot = np.zeros(num_frames, np.int32) if raw.scenes is None else shots_of(raw.scenes)
    found = np.where(raw.present, SkipReason.SHOWN, SkipReason.NO_FACE)
    reasons = (found if raw.reasons is None else raw.reasons).astype(np.uint8)
    shown = reasons == SkipReason.SHOWN
    if shown.any():
        pose = fit_head_pose(fill_gaps(raw.points, shown), pixel_aspect)
        degrees = _steady(pose_degrees(pose.rotation))
        reasons[shown & _turned_away(degrees, raw.presence, shown)] = SkipReason.TURNED_AWAY
        reasons[shown & (_steady(pose.scale[:, None])[:, 0] < MIN_EYE_DISTANCE)] = SkipReason.TOO_SMALL
        _join_turns(reasons, shot)
        _unmask(reasons, shot)
        shown = reasons == SkipReason.SHOWN
        if raw.chroma is not None:
            reasons[occluded(raw.chroma, shown, shot)] = SkipReason.COVERED
    if not (reasons == SkipReason.SHOWN).any() and (reasons != SkipReason.NO_FACE).any():
        raise FaceNotFoundError(_nobody(reasons, raw))
    visible = reasons == SkipReason.SHOWN
    _bridge(reasons, shot, fps)
    return Visibility(shot, reasons, visible)


def _bridge(reasons: NDArray[np.uint8], shot: NDArray[np.int32], fps: float) -> None:
    """Marks gaps of up to `EASE_SECONDS` between rewritten frames of a shot as rewritten too, in place.

    Otherwise the source's own mouth would show for a few frames between two fades. The landmarks of such a gap are
    known or can be interpolated. Frames that show someone or something else in the face's place are not bridged.
    """
    gap = np.isin(reasons, _BRIDGED)
    for start, stop in np.flatnonzero(np.diff(np.concatenate([[False], gap, [False]]))).reshape(-1, 2).tolist():
        if start == 0 or stop == len(reasons) or stop - start > EASE_SECONDS * fps:
            continue
        is_between = (reasons[[start - 1, stop]] == SkipReason.SHOWN).all() and shot[start - 1] == shot[stop]
        if is_between:
            reasons[start:stop] = SkipReason.SHOWN


def _unmask(reasons: NDArray[np.uint8], shot: NDArray[np.int32]) -> None:
    """Marks the frames since the last check, in place, when a check finds another person."""
    other, shown = reasons == SkipReason.OTHER_PERSON, reasons == SkipReason.SHOWN
    for frame in np.flatnonzero(other[1:] & shown[:-1] & (shot[1:] == shot[:-1])) + 1:
        before = reasons[max(0, frame - CHECK_EVERY) : frame]
        before[before == SkipReason.SHOWN] = SkipReason.OTHER_PERSON


def _turned_away(
    degrees: NDArray[np.float32], presence: NDArray[np.float32] | None, shown: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    yaw, pitch = np.abs(degrees[:, 0]), np.abs(degrees[:, 1])
    far = (yaw > _MAX_YAW) | (pitch > _MAX_PITCH)
    if presence is not None:
        far |= (yaw > _WEAK_YAW) & (_steady(presence[:, None])[:, 0] < _WEAK_PRESENCE)
    near = (yaw < _BACK_YAW) & (pitch < _BACK_PITCH) & ~far
    away = np.zeros(len(far), bool)
    is_away = False
    for i in range(len(far)):
        is_away = shown[i] and (far[i] or (is_away and not near[i]))
        away[i] = is_away
    return away


def _join_turns(reasons: NDArray[np.uint8], shot: NDArray[np.int32]) -> None:
    """Marks unrecognised frames between two turned-away runs of a shot as turned away too, in place."""
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
