"""What happens to videos on platforms: re-encoding, scaling, cropping, recording from a screen."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray


@contextmanager
def normal_scheduling() -> Iterator[None]:
    """Restores the scheduling policy of the calling thread at the end of the block.

    As root, libsvtav1 moves the thread that opens it to SCHED_FIFO with priority 99 and leaves it there. All threads
    and processes that this thread starts later inherit that, and everything else on the machine starves.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


Picture = NDArray[np.uint8]  # (H, W, 3) RGB

EXCERPT_SECONDS = 3
_TRIM_SECONDS = 4
_RECORDING_FPS = Fraction(30)
_LINES = 360
COLOUR = (0, 177, 64)


@dataclass(frozen=True)
class Clip:
    """Frames of one video."""

    frames: Sequence[Picture]
    fps: Fraction


@dataclass(frozen=True)
class Attack:
    """A change of the frames, and how they are encoded."""

    codec: str
    options: dict[str, str]
    change: Callable[[Clip], Clip] = lambda clip: clip
    is_target: bool = True
    """Whether 95 % have to be detected."""
    is_transparent: bool = False
    """Whether the marked video is a transparent one, put in front of COLOUR."""

    def apply(self, clip: Clip, out: Path) -> None:
        """Writes the attacked video as Matroska."""
        changed = self.change(clip)
        height, width = (side & ~1 for side in changed.frames[0].shape[:2])
        with normal_scheduling(), av.open(str(out), "w", format="matroska") as container:
            stream = container.add_stream(self.codec, rate=changed.fps, options=self.options)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for picture in changed.frames:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def _each(change: Callable[[Picture], Picture]) -> Callable[[Clip], Clip]:
    return lambda clip: Clip([change(frame) for frame in clip.frames], clip.fps)


def _small(frame: Picture) -> Picture:
    height, width = frame.shape[:2]
    size = (round(width * _LINES / height), _LINES)
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def _crop(frame: Picture) -> Picture:
    """Removes a tenth of the width, all on the left, and a tenth of the height, a third of it above."""
    height, width = frame.shape[:2]
    return frame[height // 30 : height // 30 + height * 9 // 10, width // 10 :]


def _brighter(frame: Picture) -> Picture:
    return np.asarray(cv2.convertScaleAbs(frame, alpha=0.85, beta=30), np.uint8)


def _resample(clip: Clip, fps: Fraction) -> Clip:
    num = int(len(clip.frames) / clip.fps * fps)
    return Clip([clip.frames[min(int(index / fps * clip.fps), len(clip.frames) - 1)] for index in range(num)], fps)


def _excerpt(clip: Clip, seconds: int) -> Clip:
    start = len(clip.frames) // 3
    return Clip(clip.frames[start : start + int(seconds * clip.fps)], clip.fps)


def _mirror(frame: Picture) -> Picture:
    return frame[:, ::-1]


def _letterbox(frame: Picture) -> Picture:
    """In the middle of a black frame of 9:16; of 16:9 if the picture is not wider than high."""
    return _paste(frame, np.zeros((*_canvas_size(frame), 3), np.uint8))


def _over_itself(frame: Picture) -> Picture:
    """The same, in front of the picture itself, enlarged and blurred."""
    height, width = _canvas_size(frame)
    enlarged = cv2.resize(frame, None, fx=(scale := max(height / frame.shape[0], width / frame.shape[1])), fy=scale)
    top, left = (enlarged.shape[0] - height) // 2, (enlarged.shape[1] - width) // 2
    blurred = cv2.GaussianBlur(enlarged[top : top + height, left : left + width], (0, 0), width / 40)
    return _paste(frame, np.asarray(blurred, np.uint8))


def _canvas_size(frame: Picture) -> tuple[int, int]:
    height, width = frame.shape[:2]
    return (width * 16 // 9 & ~1, width) if width > height else (height, height * 16 // 9 & ~1)


def _paste(frame: Picture, canvas: Picture) -> Picture:
    top, left = ((outer - inner) // 2 for outer, inner in zip(canvas.shape[:2], frame.shape[:2], strict=True))
    canvas[top : top + frame.shape[0], left : left + frame.shape[1]] = frame
    return canvas


def _shrink_into_frame(frame: Picture) -> Picture:
    """Mirrored, cropped, at 70 % of a frame of another colour."""
    small = cv2.resize(_crop(frame)[:, ::-1], None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    canvas = np.full_like(frame, COLOUR)
    top, left = (canvas.shape[0] - small.shape[0]) // 3, (canvas.shape[1] - small.shape[1]) // 4
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return canvas


def _record_screen(clip: Clip) -> Clip:
    """Shown at 85 % of a grey screen with another gamma, and filmed at 30 fps by a noisy, slightly soft camera."""
    random = np.random.default_rng(0)
    table = (255 * (np.arange(256) / 255) ** 0.9).astype(np.uint8)

    def filmed() -> Iterator[Picture]:
        for frame in _resample(clip, _RECORDING_FPS).frames:
            height, width = frame.shape[:2]
            screen = np.full_like(frame, 70)
            small = cv2.resize(frame, (round(width * 0.85), round(height * 0.85)), interpolation=cv2.INTER_AREA)
            top, left = round(height * 0.1), round(width * 0.05)
            screen[top : top + small.shape[0], left : left + small.shape[1]] = small
            soft = cv2.GaussianBlur(table[screen], (0, 0), 0.8).astype(np.float32)
            yield np.clip(soft + np.asarray(random.normal(0, 3, soft.shape), np.float32), 0, 255).astype(np.uint8)

    return Clip(list(filmed()), _RECORDING_FPS)


_X264 = {"preset": "medium", "crf": "26"}
ATTACKS: dict[str, Attack] = {
    "none": Attack("libx264", {"preset": "veryfast", "crf": "18"}),
    "H.264, crf 28": Attack("libx264", {**_X264, "crf": "28"}),
    "H.264, crf 35": Attack("libx264", {**_X264, "crf": "35"}),
    "HEVC, crf 28": Attack("libx265", {"preset": "fast", "crf": "28", "x265-params": "log-level=none"}),
    "VP9, crf 36": Attack("libvpx-vp9", {"crf": "36", "b": "0", "deadline": "realtime", "cpu-used": "6"}),
    "AV1, crf 40": Attack("libsvtav1", {"preset": "10", "crf": "40"}),
    "360 lines": Attack("libx264", _X264, _each(_small)),
    "10 % cropped": Attack("libx264", _X264, _each(_crop)),
    "30 frames per second": Attack("libx264", _X264, lambda clip: _resample(clip, Fraction(30))),
    "10 frames per second": Attack("libx264", _X264, lambda clip: _resample(clip, Fraction(10))),
    "brighter, less contrast": Attack("libx264", _X264, _each(_brighter)),
    "recorded from a screen": Attack("libx264", {**_X264, "crf": "28"}, _record_screen, is_target=False),
    "mirrored": Attack("libx264", _X264, _each(_mirror)),
    "black bars": Attack("libx264", _X264, _each(_letterbox)),
    "blurred bars": Attack("libx264", _X264, _each(_over_itself)),
    "mirrored, cropped, framed": Attack("libx264", _X264, _each(_shrink_into_frame)),
    "transparent, in front of a colour": Attack("libx264", _X264, is_transparent=True),
    "excerpt of 4 s": Attack("libx264", _X264, partial(_excerpt, seconds=_TRIM_SECONDS)),
    "excerpt of 3 s": Attack("libx264", _X264, partial(_excerpt, seconds=EXCERPT_SECONDS), is_target=False),
}
