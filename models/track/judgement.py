"""Decides for every tracked frame which shot it belongs to, and whether its mouth is rewritten or why not."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from errors import FaceNotFoundError
from models.face.appearance import SAME_PERSON
from models.face.occlusion import occluded
from models.geometry.head_frame import fit_head_pose, pose_degrees
from models.track.pass_reason import PassReason
from models.track.raw_landmarks import RawLandmarks
from models.track.shots import shots_of
from models.track.smoothing import fill_gaps
from models.track.tracker import CHECK_EVERY
from models.track.trust import EASE_SECONDS

# The mesh of a turned head falls behind: 45 degrees are measured as 37, 55 as 45, and from 60 on it comes off the face.
_MAX_YAW, _BACK_YAW = 43.0, 39.0  # measured degrees at which a head has turned away, and is back
_MAX_PITCH, _BACK_PITCH = 40.0, 36.0
_WEAK_YAW, _WEAK_PRESENCE = 28.0, 11.0  # a turned head that the network is less sure of than this is farther round
_MEDIAN_FRAMES = 5

# Below this distance between the outer eye corners the mouth is six pixels wide: there is nothing to rewrite.
MIN_EYE_DISTANCE: Final = 12.0

_BRIDGED = [PassReason.NO_FACE, PassReason.TURNED_AWAY, PassReason.TOO_SMALL]

_WORDS = {
    PassReason.TURNED_AWAY: "the head turned away",
    PassReason.COVERED: "the mouth covered",
    PassReason.TOO_SMALL: f"a face whose eyes are less than {MIN_EYE_DISTANCE:.0f} pixels apart",
}


class Judgement(NamedTuple):
    """What is known of N frames."""

    shot: NDArray[np.int32]  # (N,) ascending from 0
    passed: NDArray[np.uint8]  # (N,) PassReason
    visible: NDArray[np.bool_]  # (N,) the mouth is seen; some short gaps are rewritten although it is not


def judge(raw: RawLandmarks, fps: float = 25.0, pixel_aspect: float = 1.0) -> Judgement:
    """Judges a whole track of `fps` frames per second, of pixels `pixel_aspect` times as wide as high.

    Raises:
        FaceNotFoundError: There are faces, but in no frame one that can be rewritten; says why.
    """
    num_frames = len(raw.present)
    shot = np.zeros(num_frames, np.int32) if raw.scenes is None else shots_of(raw.scenes)
    found = np.where(raw.present, PassReason.SHOWN, PassReason.NO_FACE)
    reasons = (found if raw.reasons is None else raw.reasons).astype(np.uint8)
    shown = reasons == PassReason.SHOWN
    if shown.any():
        pose = fit_head_pose(fill_gaps(raw.points, shown), pixel_aspect)
        degrees = _steady(pose_degrees(pose.rotation))
        reasons[shown & _turned_away(degrees, raw.presence, shown)] = PassReason.TURNED_AWAY
        reasons[shown & (_steady(pose.scale[:, None])[:, 0] < MIN_EYE_DISTANCE)] = PassReason.TOO_SMALL
        _join_turns(reasons, shot)
        _unmask(reasons, shot)
        shown = reasons == PassReason.SHOWN
        if raw.chroma is not None:
            reasons[occluded(raw.chroma, shown, shot)] = PassReason.COVERED
    if not (reasons == PassReason.SHOWN).any() and (reasons != PassReason.NO_FACE).any():
        raise FaceNotFoundError(_nobody(reasons, raw))
    visible = reasons == PassReason.SHOWN
    _bridge(reasons, shot, fps)
    return Judgement(shot, reasons, visible)


def _bridge(reasons: NDArray[np.uint8], shot: NDArray[np.int32], fps: float) -> None:
    """Marks gaps of up to `EASE_SECONDS` between rewritten frames of a shot as rewritten too, in place.

    The source's own mouth would show for a few frames between two fades. Landmarks are known there, or interpolated
    over so short a time. Frames with something else in the face's place stay as they are.
    """
    gap = np.isin(reasons, _BRIDGED)
    for start, stop in np.flatnonzero(np.diff(np.concatenate([[False], gap, [False]]))).reshape(-1, 2).tolist():
        if start == 0 or stop == len(reasons) or stop - start > EASE_SECONDS * fps:
            continue
        is_between = (reasons[[start - 1, stop]] == PassReason.SHOWN).all() and shot[start - 1] == shot[stop]
        if is_between:
            reasons[start:stop] = PassReason.SHOWN


def _unmask(reasons: NDArray[np.uint8], shot: NDArray[np.int32]) -> None:
    """A look that turned out to be another's had been that since the last check; marks those frames, in place."""
    other, shown = reasons == PassReason.OTHER_PERSON, reasons == PassReason.SHOWN
    for frame in np.flatnonzero(other[1:] & shown[:-1] & (shot[1:] == shot[:-1])) + 1:
        before = reasons[max(0, frame - CHECK_EVERY) : frame]
        before[before == PassReason.SHOWN] = PassReason.OTHER_PERSON


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
    """Profiles look like nobody: who was away before and is still turned after has been away between, in place."""
    bounds = np.flatnonzero((np.diff(reasons) != 0) | (np.diff(shot) != 0)) + 1
    for start, stop in zip(bounds, bounds[1:], strict=False):
        is_between = (reasons[[start - 1, stop]] == PassReason.TURNED_AWAY).all() and shot[start - 1] == shot[stop]
        if is_between and reasons[start] == PassReason.OTHER_PERSON:
            reasons[start:stop] = PassReason.TURNED_AWAY


def _steady(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Running medians of (N, C) values."""
    half = _MEDIAN_FRAMES // 2
    padded = np.pad(values, ((half, half), (0, 0)), "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, _MEDIAN_FRAMES, axis=0)
    return np.asarray(np.median(windows, -1), np.float32)


def _nobody(reasons: NDArray[np.uint8], raw: RawLandmarks) -> str:
    count = np.bincount(reasons, minlength=len(PassReason))
    if count[PassReason.OTHER_PERSON] and not raw.present.any():
        best = -1.0 if raw.likeness is None else float(raw.likeness.max())
        return (
            f"Expected the person of the reference picture (a likeness of at least {SAME_PERSON:.2f}, clearly above "
            f"everybody else's), found other or unclear faces in {count[PassReason.OTHER_PERSON]} of {len(reasons)} "
            f"frames, the best with a likeness of {best:.2f}."
        )
    found = ", ".join(f"{words} in {count[reason]}" for reason, words in _WORDS.items() if count[reason])
    return f"Expected a mouth that can be rewritten, found {found or 'none'} of {len(reasons)} frames."
