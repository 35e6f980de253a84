"""Test material: a talking face and speech made from samples/."""

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
from lipwright.media.yuv_frame import YuvFrame

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
FPS = 25
_SWAY = 0.02  # of the frame height: avatars move, unlike photographs
_PERIOD_S = 5.0


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
