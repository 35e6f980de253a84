"""Test material: clips of speakers in folders, and a talking face and speech made from samples/."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.media_files import read_wav, write_film, write_wav
from lipwright.config import MediaLimits
from lipwright.media.probe import VideoInfo, probe_video
from lipwright.media.reader import FrameReader
from lipwright.media.yuv_frame import YuvFrame, to_rgb

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
FPS = 25
_MAX_SIDE = 480  # pixels of the shorter side: enough for the face networks
_SWAY = 0.02  # of the frame height: avatars move, unlike photographs
_PERIOD_S = 5.0


@dataclass(frozen=True)
class Clip:
    """A clip of one speaker.

    Attributes:
        path: The file, with audio.
        name: Its path below the folder of all clips, without the extension.
        group: Name of its folder; tables group clips by folder.
    """

    path: Path
    name: str
    group: str


def find_clips(*folders: Path) -> list[Clip]:
    """Returns the .mp4 files of folders and their subfolders."""
    return [
        Clip(path, path.relative_to(root).with_suffix("").as_posix(), path.parent.name)
        for root in (folder.resolve() for folder in folders)
        for path in sorted(root.rglob("*.mp4"), key=lambda path: (len(path.parts), path))
    ]


def read_talkers(folders: list[Path], num_frames: int) -> Iterator[tuple[list[NDArray[np.uint8]], VideoInfo]]:
    """Yields of each clip up to `num_frames` (H, W, 3) uint8 RGB pictures, H and W even, and its info."""
    for clip in find_clips(*folders):
        info = probe_video(clip.path, MediaLimits())
        with FrameReader(clip.path, info, 2**28) as reader:
            pictures = [to_rgb(frame, info.colour) for frame in reader.read(range(min(info.num_frames, num_frames)))]
        shrink = min(1.0, _MAX_SIDE / min(pictures[0].shape[:2]))
        size = [int(side * shrink) // 2 * 2 for side in pictures[0].shape[1::-1]]
        yield [np.asarray(cv2.resize(each, size, interpolation=cv2.INTER_AREA), np.uint8) for each in pictures], info


@dataclass(frozen=True)
class FramesInMemory:
    """Implements `lipwright.media.frame_source.FrameSource`."""

    frames: Sequence[YuvFrame]

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        return (self.frames[index] for index in indices)

    def close(self) -> None:
        pass


def make_avatar(width: int, height: int, seconds: float, folder: Path) -> Path:
    """Writes samples/presenter.mp4, played back and forth, as `width` x `height` video at 25 fps, slowly swaying.

    H.264 4:2:0, BT.709, limited range, CRF 18; keyframe interval is x264's default.
    """
    path = folder / f"presenter_{width}x{height}_{seconds:g}s.mp4"
    if path.exists():
        return path
    frames = _avatar_frames()
    num_frames = round(seconds * FPS)

    def pictures() -> Iterator[av.VideoFrame]:
        for index in range(num_frames):
            step = index % max(2 * len(frames) - 2, 1)
            rgb = frames[min(step, 2 * len(frames) - 2 - step)] if len(frames) > 1 else frames[0]
            yield av.VideoFrame.from_ndarray(_place_picture(rgb, width, height, index / FPS), format="rgb24")

    partial = path.with_suffix(".part.mp4")
    write_film(partial, pictures(), FPS, {"crf": "18", "preset": "veryfast"})
    partial.replace(path)
    return path


def make_speech(seconds: float, folder: Path) -> Path:
    """Writes samples/speech.wav, repeated to exactly `seconds`, as a 16-bit WAV file."""
    samples, rate = read_wav(SAMPLES / "speech.wav")
    return write_wav(folder / f"speech_{seconds:g}s.wav", np.resize(samples, round(seconds * rate)), rate)


def num_frames_of(seconds: float) -> int:
    """Returns the number of output frames for speech of that length."""
    return math.ceil(Fraction(seconds).limit_denominator(1000) * FPS)


def _avatar_frames() -> list[NDArray[np.uint8]]:
    """Yields (H, W, 3) RGB frames."""
    with av.open(str(SAMPLES / "presenter.mp4")) as container:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]


def _place_picture(rgb: NDArray[np.uint8], width: int, height: int, seconds: float) -> NDArray[np.uint8]:
    """Returns the picture, scaled to leave room to sway, on a blurred copy of itself; (height, width, 3) RGB."""
    source_height, source_width = rgb.shape[:2]
    small = cv2.resize(rgb, (32, 32), interpolation=cv2.INTER_AREA)
    canvas = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    scale = min(width / source_width, height / source_height)
    phase = 2 * math.pi * seconds / _PERIOD_S
    x = (width - scale * source_width) / 2 + _SWAY * height * math.sin(phase)
    y = (height - scale * source_height) / 2 + _SWAY * height / 2 * math.sin(2 * phase)
    move = np.array([[scale, 0, x], [0, scale, y]])
    placed = cv2.warpAffine(
        rgb, move, (width, height), dst=canvas, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_TRANSPARENT
    )
    return np.asarray(placed, np.uint8)
