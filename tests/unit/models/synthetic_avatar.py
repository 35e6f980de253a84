"""An avatar made of arithmetic: landmarks from the lip model, pictures from noise, one real video file."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.config import MediaLimits
from lipwright.media.kept_squares import SquareReader
from lipwright.media.probe import ColourTags, VideoInfo, probe_video
from lipwright.media.reader import FrameReader
from lipwright.media.writer import SegmentWriter
from lipwright.media.yuv_frame import YuvFrame, from_rgb
from models.avatar.avatar import Avatar
from models.engines.warp.avatar import WarpAvatar
from models.engines.warp.painting.lip_coordinates import inside_alpha, lip_axes, lip_coords
from models.geometry.head_frame import INNER_LOWER, INNER_UPPER, mean_face
from models.mouth.lip_model import LipModel
from models.track.raw_landmarks import RawLandmarks
from tests.unit.models.films import head_pose

SIDE, NUM_FRAMES, EYES = 224, 40, 96.0  # pixels, frames, pixels between the eyes
ABSENT = tuple(range(17, 23))  # frames without the face: a gap too long to be bridged
_TAGS = ColourTags(matrix=6, full_range=False, primaries=2, transfer=2)


@dataclass(frozen=True)
class FilmedAvatar:
    """A video file and what the tracker would say of it."""

    path: Path
    info: VideoInfo
    raw: RawLandmarks

    def reader(self) -> FrameReader:
        return FrameReader(self.path, self.info, 2**24)

    def avatar(self, folder: Path) -> Avatar:
        with self.reader() as reader:
            return Avatar.build(folder, self.info, self.raw, reader)

    def build(self, folder: Path, max_bank_frames: int = 100) -> WarpAvatar:
        """Analyses it for the warp engine; that folder lies in `folder / "warp"`."""
        avatar = self.avatar(folder)
        with self.reader() as reader:
            return WarpAvatar.analyse(avatar, folder / "warp", SquareReader(avatar.frames(reader)), max_bank_frames)


def mouth_shapes(num_frames: int, opening: float) -> NDArray[np.float32]:
    """(T, 8) a mouth that opens and closes a few times."""
    wave = np.sin(np.arange(num_frames) * 0.5) ** 2
    wave[:6] = 0
    return np.asarray(wave[:, None] * opening * [1, 0.95, -0.2, 0.1, 0.87, 0.7, 0, -0.2], np.float32)


def make_avatar(folder: Path, opening: float, darkness: float = 0.8) -> FilmedAvatar:
    """Draws and encodes an avatar whose mouth opens by up to `opening` eye distances.

    The inside of the mouth is darker than the skin by `darkness`, 0 to 1.
    """
    head = LipModel.load().deform(mean_face().astype(np.float32), mouth_shapes(NUM_FRAMES, opening))
    time = np.arange(NUM_FRAMES)
    pose = head_pose(SIDE / 2 + 3 * np.sin(time / 7), SIDE * 0.35 + 2 * np.cos(time / 9), EYES)
    points, place = pose.to_image(head).astype(np.float32), pose.translation
    present = ~np.isin(time, ABSENT)
    path = folder / "presenter.mp4"
    rng = np.random.default_rng(5)
    noise = np.asarray(cv2.GaussianBlur(rng.normal(0, 1, (2 * SIDE, 2 * SIDE)), (0, 0), 2.0), np.float32)
    noise *= 14 / noise.std()
    frames = [_draw(noise, points[t, :, :2], place[t], darkness) for t in time]
    first = folder / "first.png"
    cv2.imwrite(str(first), np.full((SIDE, SIDE, 3), 128, np.uint8))
    _encode(frames, path, first)
    return FilmedAvatar(path, probe_video(path, MediaLimits()), RawLandmarks(points, present))


def _draw(
    noise: NDArray[np.float32], points: NDArray[np.float32], place: NDArray[np.float64], darkness: float
) -> YuvFrame:
    """Skin that moves with the head, and a dark opening between the lips."""
    left, top = (int(round(value)) for value in SIDE - place[:2])
    skin = noise[top : top + SIDE, left : left + SIDE]
    axes = lip_axes(points[None, list(INNER_UPPER)], points[None, list(INNER_LOWER)])
    pixels = np.arange(SIDE, dtype=np.float32)
    inside = inside_alpha(lip_coords(np, axes, pixels[None, None], pixels[None, :, None]))[0]
    luma = (160 + skin) * (1 - darkness * inside)
    rgb = luma[..., None] * [1.0, 0.8, 0.7]
    return from_rgb(rgb.clip(0, 255).astype(np.uint8), _TAGS)


def _encode(frames: list[YuvFrame], path: Path, picture: Path) -> None:
    writer = SegmentWriter(probe_video(picture, MediaLimits()), 10, "ultrafast")
    for frame in frames:
        writer.write(frame)
    path.write_bytes(writer.finish())
