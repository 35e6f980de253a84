"""Frames of video files for tests, and the mean face in them."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from lipwright.config import MediaLimits
from lipwright.media.probe import VideoInfo, probe_video
from lipwright.media.reader import FrameReader
from lipwright.media.yuv_frame import YuvFrame
from models.geometry.head_frame import HeadPose, mean_face


class Film(NamedTuple):
    info: VideoInfo
    frames: list[YuvFrame]


def read_film(path: Path, indices: Iterable[int] | None = None) -> Film:
    """Decodes some frames of a video, or all."""
    info = probe_video(path, MediaLimits())
    with FrameReader(path, info, 2**26) as reader:
        return Film(info, list(reader.read(range(info.num_frames) if indices is None else indices)))


def head_pose(x: ArrayLike, y: ArrayLike, eyes: ArrayLike, yaw: ArrayLike = 0.0) -> HeadPose:
    """Upright heads at some pixels, `eyes` pixels between their eyes, turned to the side by `yaw` degrees."""
    column, row, scale, degrees = np.broadcast_arrays(*np.atleast_1d(x, y, eyes, yaw))
    turn = Rotation.from_euler("Y", degrees[:, None], degrees=True).as_matrix() @ np.diag([1.0, -1.0, -1.0])
    return HeadPose(scale.astype(np.float64), turn, np.stack([column, row, 0.0 * row], 1))


def mean_faces(x: ArrayLike, y: ArrayLike, eyes: ArrayLike, yaw: ArrayLike = 0.0) -> NDArray[np.float32]:
    """(T, 468, 3) landmarks of the mean face in these poses."""
    return head_pose(x, y, eyes, yaw).same_to_image(mean_face()).astype(np.float32)
