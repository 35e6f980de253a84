"""Reads clips of talkers, large enough for the face networks and no larger."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from config import MediaLimits
from media.probe import VideoInfo, probe_video
from media.reader import FrameReader
from media.yuv_frame import to_rgb

_MAX_SIDE: Final = 480  # pixels of the shorter side


def read_talker(path: Path, num_frames: int) -> tuple[list[NDArray[np.uint8]], VideoInfo]:
    """Returns up to `num_frames` (H, W, 3) uint8 RGB pictures from the start of a clip, H and W even, and its info."""
    info = probe_video(path, MediaLimits())
    with FrameReader(path, info, 2**28) as reader:
        pictures = [to_rgb(frame, info.colour) for frame in reader.read(range(min(info.num_frames, num_frames)))]
    shrink = min(1.0, _MAX_SIDE / min(pictures[0].shape[:2]))
    size = [int(side * shrink) // 2 * 2 for side in pictures[0].shape[1::-1]]
    return [np.asarray(cv2.resize(each, size, interpolation=cv2.INTER_AREA), np.uint8) for each in pictures], info
