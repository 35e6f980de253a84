"""A face that exists as landmarks and noise: frames, a track and an avatar for the tests of engines."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.material import FramesInMemory
from lipwright.media.kept_squares import SquareReader
from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame, from_rgb
from models.avatar.avatar import Avatar
from models.engines.paste.crop import BoxChunk
from models.engines.patches import FacePatches
from models.engines.protocol import Engine
from models.geometry.head_frame import HeadPose, mean_face
from models.mouth.lip_model import LipModel
from models.track.face_track import FaceTrack, finish_track
from tests.unit.media.clips import info_of

SIDE, NUM_FRAMES, EYES = 320, 12, 72.0  # pixels, frames, pixels between the outer eye corners
ABSENT = 5  # the frame without a face
COLOUR = ColourTags(1, False, 1, 1)
SOURCE = [3, 4, ABSENT, 8, 9, 9]  # frames that a chunk of six shows


def make_track(degrees: float = 0.0, opening: float = 0.0, fps: float = 25.0) -> FaceTrack:
    """A head that sways, turned in the picture's plane, whose mouth opens up to so many eye distances."""
    time, angle = np.arange(NUM_FRAMES), np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    rotation = np.repeat((turn @ np.diag([1.0, -1.0, -1.0]))[None], NUM_FRAMES, 0)
    place = np.stack([SIDE / 2 + 5 * np.sin(time / 3), SIDE * 0.42 + 3 * np.cos(time / 4), 0 * time], 1)
    shapes = opening * np.sin(time)[:, None] ** 2 * np.array([1, 0.95, -0.2, 0.1, 0.87, 0.7, 0, -0.2])
    head = LipModel.load().deform(mean_face().astype(np.float32), shapes.astype(np.float32))
    points = HeadPose(np.full(NUM_FRAMES, EYES), rotation, place).to_image(head)
    return finish_track(points, np.arange(NUM_FRAMES) != ABSENT, fps=fps)


def make_frames() -> list[YuvFrame]:
    rng = np.random.default_rng(0)
    noise = rng.uniform(40, 215, (NUM_FRAMES, SIDE, SIDE, 3)).astype(np.float32)
    blurred = [cv2.GaussianBlur(picture, (0, 0), 3.0) for picture in noise]
    stretched = [((picture - 128) * 6 + 128).clip(16, 235) for picture in blurred]
    return [from_rgb(np.asarray(picture, np.float32).astype(np.uint8), COLOUR) for picture in stretched]


def make_avatar(folder: Path, track: FaceTrack | None = None) -> Avatar:
    info = info_of(SIDE, SIDE, num_frames=NUM_FRAMES, colour=COLOUR)
    return Avatar(folder, info, make_track() if track is None else track)


def analyse(engine: Engine, avatar: Avatar) -> None:
    """Let an engine write what it keeps of an avatar, in a folder that is there."""
    avatar.folder_of(engine).mkdir(parents=True, exist_ok=True)
    engine.analyse(avatar, SquareReader(FramesInMemory(make_frames())), None, lambda: False)


def crop(engine: Engine, avatar: Avatar, plan: Any, frames: list[YuvFrame]) -> BoxChunk:
    """The faces of a plan, after the engine has analysed the avatar."""
    analyse(engine, avatar)
    chunk = engine.crop(avatar, plan, [frames[i] for i in plan.source_index])
    assert isinstance(chunk, BoxChunk)
    return chunk


def patch_bytes(patches: FacePatches) -> list[bytes | None]:
    """The bytes of every frame's patch."""
    return [None if row < 0 else patches.y[row].tobytes() + patches.uv[row].tobytes() for row in patches.row]
