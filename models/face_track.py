"""One face over a whole source: smoothed landmarks, head pose and mouth shape."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.face_tracker import FaceTracker, RawLandmarks, TrackState
from models.head_frame import HeadPose
from models.head_frame import pose_degrees as degrees


@dataclass(frozen=True)
class FaceTrack:
    """The face of one presenter in N frames.

    Image frame: pixels, x right, y down, z away from the camera. Head frame: see `models.head_frame`.
    `image = scale * head @ rotation.T + translation`, the change of axes is inside `rotation`.
    Frames without the face hold interpolated values; `present` says which.
    """

    points: NDArray[np.float32]  # (N, 468, 3) image pixels, smoothed over the whole track
    present: NDArray[np.bool_]  # (N,)
    scale: NDArray[np.float64]  # (N,) pixels per eye distance
    rotation: NDArray[np.float64]  # (N, 3, 3)
    translation: NDArray[np.float64]  # (N, 3) pixels
    head_points: NDArray[np.float32]  # (N, 468, 3) head frame
    rest: NDArray[np.float32]  # (468, 3) head frame, this talker's closed mouth
    shape: NDArray[np.float32]  # (N, 8) measure(head_points) - measure(rest)
    is_rest_closed_by_model: bool  # the source shows no closed mouth: `rest` is a guess

    @property
    def num_frames(self) -> int:
        """N."""
        return len(self.present)

    @property
    def pose_degrees(self) -> NDArray[np.float32]:
        """(N, 3) yaw, pitch and roll; see `models.head_frame.pose_degrees`."""
        return degrees(self.rotation)

    def pose(self, frame: NDArray[np.integer]) -> HeadPose:
        """Returns the head pose in (T,) source frames."""
        return HeadPose(self.scale[frame], self.rotation[frame], self.translation[frame])

    def place(self, frame: NDArray[np.integer], head: NDArray[np.floating]) -> NDArray[np.float32]:
        """Projects head-frame points into source frames.

        Args:
            frame: (T,) source frame indices in [0, N).
            head: (T, P, 3) points in the head frame, one set per entry of `frame`.

        Returns:
            (T, P, 2) float32 image pixels.
        """
        return self.pose(frame).to_image(head)[..., :2].astype(np.float32)

    def save(self, path: Path) -> None:
        """Writes the track as an uncompressed .npz."""
        with path.open("wb") as file:
            np.savez(file, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> FaceTrack:
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            arrays = {field.name: stored[field.name] for field in fields(cls)}
        flag = bool(arrays.pop("is_rest_closed_by_model"))
        return cls(**arrays, is_rest_closed_by_model=flag)


__all__ = ["FaceTrack", "FaceTracker", "RawLandmarks", "TrackState", "finish_track"]
