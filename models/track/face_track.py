"""One face over a whole source: landmarks, head pose, mouth shape, skipped frames, and how far mouths are driven.

`FaceTrack.skip_reason` is (N,) uint8, one `models.track.raw_landmarks.SkipReason` per source frame; 0 (`NONE`) means
that the mouth is rewritten. `FaceTrack.driving_weight` is (N,) float32: 0 where a frame is left unchanged, 1 where the
mouth is fully driven, with ramps between. `FaceTrack.shot` is (N,) int32, the number of the shot of each frame.

A mouth that is rewritten in one frame and left alone in the next would jump, so the effect fades out before a gap and
in after it. The ramps are defined in source time, so they work whether it is played forwards or backwards. A hard
cut hides the change and needs no ramp. While a head turns away, the effect fades out with the angle.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import FaceNotFoundError
from lipwright.media.array_files import load_arrays, save_arrays
from models.face.finder import what_was_searched
from models.geometry.arrays import smooth_step
from models.geometry.head_frame import NUM_POINTS, HeadPose, fit_head_pose
from models.geometry.head_frame import pose_degrees as degrees
from models.mouth.lip_model import LipModel, meeting_lips
from models.mouth.shape import CLOSED_SHARE, OPEN_MOUTH, measure
from models.track.raw_landmarks import SkipReason
from models.track.smoothing import fill_gaps, runs, smooth_head, smooth_pose, window_frames

EASE_SECONDS: Final = 0.2

# From 0 to 1, the patch fades in first, still showing the frame's own mouth shape; then the mouth moves to the wanted
# shape. Two different mouths are blended in silence only, where the mouth is held until the patch is gone.
_PATCH_SHARE = 0.45
_MOUTH_START = 0.25


def driving_weights(
    skip_reason: NDArray[np.uint8], shot: NDArray[np.int32], fps: float, facing: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return (N,) float32: 0 in skipped frames, rising to 1 over `EASE_SECONDS` on either side within a shot.

    It is at most (N,) `facing`, 0 to 1; None: 1.
    """
    shown = skip_reason == SkipReason.NONE
    num_ramp = max(1.0, EASE_SECONDS * fps)
    distance = np.minimum(_since_gap(shown, shot), _since_gap(shown[::-1], shot[::-1])[::-1])
    weight = (distance / num_ramp).clip(0, 1).astype(np.float32)
    return weight if facing is None else np.minimum(weight, facing)


def mouth_share(weight: NDArray[np.floating]) -> NDArray[np.float32]:
    """Blend from the frame's own mouth shape (0) to the target (1)."""
    return smooth_step((np.asarray(weight, np.float32) - _MOUTH_START) / (1 - _MOUTH_START))


def patch_share(weight: NDArray[np.floating]) -> NDArray[np.float32]:
    """Opacity of the patch over the frame, 0 to 1."""
    return smooth_step(np.asarray(weight, np.float32) / _PATCH_SHARE)


def _since_gap(shown: NDArray[np.bool_], shot: NDArray[np.int32]) -> NDArray[np.float64]:
    """(N,) frames since the last skipped one of the same shot, minus one half; infinite where there is none."""
    distance = np.empty(len(shown))
    since = np.inf
    for i in range(len(shown)):
        if i and shot[i] != shot[i - 1]:
            since = np.inf
        since = since + 1 if shown[i] else 0.0
        distance[i] = max(since - 0.5, 0.0)
    return distance


_MIN_REST_FRAMES = 3


@dataclass(frozen=True)
class FaceTrack:
    """The face of one avatar in N frames.

    Image frame: pixels, x right, y down, z away from the camera. Head frame: see `models.geometry.head_frame`.
    `image = scale * head @ rotation.T + translation`, the change of axes is inside `rotation`; see
    `models.geometry.head_frame.HeadPose` for pixels that are not square.
    Frames without the face hold interpolated values.
    """

    points: NDArray[np.float32]  # (N, 468, 3) image pixels, smoothed over the whole track
    visible: NDArray[np.bool_]  # (N,) whether the mouth is seen well enough to learn from it
    scale: NDArray[np.float64]  # (N,) pixels per eye distance
    rotation: NDArray[np.float64]  # (N, 3, 3)
    translation: NDArray[np.float64]  # (N, 3) pixels
    head_points: NDArray[np.float32]  # (N, 468, 3) head frame
    rest: NDArray[np.float32]  # (468, 3) head frame, this talker's closed mouth
    shape: NDArray[np.float32]  # (N, 8) measure(head_points) - measure(rest)
    is_rest_closed_by_model: bool  # whether the source shows no closed mouth, so that `rest` is a guess
    skip_reason: NDArray[np.uint8]  # (N,) SkipReason; 0 = shown
    driving_weight: NDArray[np.float32]  # (N,) 0..1, how far the mouth is driven
    shot: NDArray[np.int32]  # (N,) ascending from 0; a hard cut lies between frames of different shots
    pixel_aspect: float = 1.0  # width of a pixel over its height

    @property
    def num_frames(self) -> int:
        """N."""
        return len(self.visible)

    @cached_property
    def pose_degrees(self) -> NDArray[np.float32]:
        """(N, 3) yaw, pitch and roll; see `models.geometry.head_frame.pose_degrees`."""
        return degrees(self.rotation)

    def pose(self, frame: NDArray[np.integer]) -> HeadPose:
        """Return the head pose in (T,) source frames."""
        return HeadPose(self.scale[frame], self.rotation[frame], self.translation[frame], self.pixel_aspect)

    def place(self, frame: NDArray[np.integer], head: NDArray[np.floating]) -> NDArray[np.float32]:
        """Project (T, P, 3) head-frame points into (T,) source frames: (T, P, 2) float32 image pixels."""
        return self.pose(frame).to_image(head)[..., :2].astype(np.float32)

    def save(self, path: Path) -> None:
        """Write the track as an uncompressed .npz."""
        save_arrays(path, self)

    @classmethod
    def load(cls, path: Path) -> FaceTrack:
        """Read what `save` wrote."""
        arrays = load_arrays(path)
        flag, aspect = bool(arrays.pop("is_rest_closed_by_model")), float(arrays.pop("pixel_aspect"))
        return cls(**arrays, is_rest_closed_by_model=flag, pixel_aspect=aspect)


def finish_track(
    points: NDArray[np.floating],
    present: NDArray[np.bool_],
    *,
    shot: NDArray[np.int32] | None = None,
    skip_reason: NDArray[np.uint8] | None = None,
    visible: NDArray[np.bool_] | None = None,
    facing: NDArray[np.float32] | None = None,
    fps: float = 25.0,
    pixel_aspect: float = 1.0,
    lips_move: bool = False,
) -> FaceTrack:
    """Turn raw landmarks of a whole source into its track: pose, smoothing, rest and mouth shape.

    Args:
        points: (N, 468, 3) landmarks in image pixels; rows of absent frames are ignored.
        present: (N,) whether the points are known.
        shot: (N,) number of the shot that each frame belongs to; None: all are one.
        skip_reason: (N,) `SkipReason` of each frame; None: `NONE` where present, else `NO_FACE`.
        visible: (N,) whether the mouth is seen well; None: where it is `NONE`.
        facing: (N,) 0 to 1, how far the head faces the camera, which limits the driving weight; None: 1.
        fps: Frames a second.
        pixel_aspect: Width of a pixel over its height.
        lips_move: Whether the lips move more than the tracker's noise.

    Raises:
        FaceNotFoundError: The face is in no frame.
    """
    if points.shape != (len(present), NUM_POINTS, 3):
        raise ValueError(f"Expected (N, {NUM_POINTS}, 3) points and (N,) present, got {points.shape}, {present.shape}.")
    if not present.any():
        hint = " In a still picture, mark the face with `face_points`." if len(present) == 1 else ""
        raise FaceNotFoundError(f"Found no face: {what_was_searched(len(present))}{hint}")
    shot = np.zeros(len(present), np.int32) if shot is None else shot
    if skip_reason is None:
        skip_reason = np.where(present, SkipReason.NONE, SkipReason.NO_FACE).astype(np.uint8)
    shown = skip_reason == SkipReason.NONE if visible is None else visible
    head, pose = stabilise(points, present, shot, fps, pixel_aspect, lips_move)
    rest, is_closed_by_model = resting_face(head[shown])
    return FaceTrack(
        points=pose.to_image(head).astype(np.float32),
        visible=shown,
        scale=pose.scale,
        rotation=pose.rotation,
        translation=pose.translation,
        head_points=head.astype(np.float32),
        rest=rest,
        shape=measure(head) - measure(rest[None]),
        is_rest_closed_by_model=is_closed_by_model,
        skip_reason=skip_reason,
        driving_weight=driving_weights(skip_reason, shot, fps, facing),
        shot=shot,
        pixel_aspect=pixel_aspect,
    )


def stabilise(
    points: NDArray[np.floating],
    present: NDArray[np.bool_],
    shot: NDArray[np.int32] | None = None,
    fps: float = 25.0,
    pixel_aspect: float = 1.0,
    lips_move: bool = False,
) -> tuple[NDArray[np.float64], HeadPose]:
    """Separate (N, 468, 3) landmarks into (N, 468, 3) head points and the head pose, and smooth both.

    Smoothing does not cross gaps or the shots of (N,) `shot`; None: all frames are one shot.
    """
    filled = fill_gaps(points, present)
    pose = fit_head_pose(filled, pixel_aspect)
    stretches = runs(present, pose, shot)
    window = window_frames(fps)
    head = smooth_head(pose.to_head(filled), stretches, window, lips_move)
    return head, smooth_pose(pose, stretches, window)


def resting_face(head: NDArray[np.floating]) -> tuple[NDArray[np.float32], bool]:
    """Return a talker's closed-mouth face and whether the lip model had to close it.

    Args:
        head: (T, 468, 3) head-frame points of all frames with the face, T > 0.

    Returns:
        (468, 3) float32 mean of the most closed tenth of the frames, with closed lips, and a flag: the mouth
        is open in all frames, so the shape of the closed mouth is a guess.
    """
    opening = measure(head)[:, 0]
    num_closed = min(len(head), max(_MIN_REST_FRAMES, round(len(head) * CLOSED_SHARE)))
    rest = head[np.argsort(opening, kind="stable")[:num_closed]].mean(0).astype(np.float32)
    is_open = float(measure(rest[None])[0, 0]) > OPEN_MOUTH
    return LipModel.load().close(rest) if is_open else meeting_lips(rest), is_open
