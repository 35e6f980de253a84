"""An avatar whose head moves and whose mouth opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from media.probe import ColourTags
from media.yuv_frame import YuvFrame, from_rgb
from models.avatar.avatar import Avatar
from models.geometry.head_frame import HeadPose
from models.mouth.lip_model import LipModel
from models.track.face_track import FaceTrack, finish_track
from models.weights import weights_path
from tests.unit.media.clips import info_of

COLOUR = ColourTags(1, False, 1, 1)
WIDTH, HEIGHT, NUM_FRAMES = 320, 240, 24


def talking_track(
    middle: tuple[float, float] = (WIDTH / 2, HEIGHT * 0.4), eyes: float = 60.0, absent: tuple[int, ...] = ()
) -> FaceTrack:
    """N frames of the mean face: its head drifts to the right, its mouth opens wide twice."""
    time = np.arange(NUM_FRAMES)
    shapes = np.zeros((NUM_FRAMES, 8), np.float32)
    shapes[:, :6] = (np.sin(time / 4) ** 2)[:, None] * np.array([0.25, 0.24, -0.05, 0.02, 0.2, 0.2])
    mean = np.load(weights_path("mean_face_468.npy"))
    head = LipModel.load().deform(np.asarray(mean, np.float32), shapes)
    place = np.stack([middle[0] + 0.4 * time, middle[1] + 0 * time, 0 * time], 1)
    rotation = np.repeat(np.diag([1.0, -1.0, -1.0])[None], NUM_FRAMES, 0)
    points = HeadPose(np.full(NUM_FRAMES, eyes), rotation, place).to_image(head)
    return finish_track(points, ~np.isin(time, absent))


def make_avatar(folder: Path, track: FaceTrack) -> Avatar:
    """A video of 25 frames a second."""
    return Avatar(folder, info_of(WIDTH, HEIGHT, num_frames=NUM_FRAMES, colour=COLOUR), track)


def frame(index: int) -> YuvFrame:
    """A source frame: colours that change slowly over it and from frame to frame."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    rgb: NDArray[np.float64] = 128 + 50 * np.stack(
        [np.sin((x + 5 * index) / (20 + 7 * c)) * np.cos(y / 30 + c) for c in range(3)], -1
    )
    return from_rgb(rgb.astype(np.uint8), COLOUR)
