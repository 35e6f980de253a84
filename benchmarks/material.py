"""Test material made from samples/: a moving, talking face at a given size, and speech of a given length."""

from __future__ import annotations

import math
import wave
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
FPS = 25
_SWAY = 0.02  # of the frame height: avatars move, unlike photographs
_PERIOD_S = 5.0


def make_avatar(width: int, height: int, seconds: float, folder: Path) -> Path:
    """Writes samples/presenter.mp4, played back and forth, as `width` x `height` video at 25 fps, slowly swaying.

    H.264 4:2:0, BT.709, limited range, CRF 18; keyframe interval is x264's default.
    """
    path = folder / f"presenter_{width}x{height}_{seconds:g}s.mp4"
    if path.exists():
        return path
    frames = _avatar_frames()
    num_frames = round(seconds * FPS)
    partial = path.with_suffix(".part.mp4")
    with av.open(str(partial), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(num_frames):
            step = index % max(2 * len(frames) - 2, 1)
            rgb = frames[min(step, 2 * len(frames) - 2 - step)] if len(frames) > 1 else frames[0]
            picture = av.VideoFrame.from_ndarray(_placed(rgb, width, height, index / FPS), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    partial.replace(path)
    return path


def make_speech(seconds: float, folder: Path) -> Path:
    """Writes samples/speech.wav, repeated to exactly `seconds`, as a 16-bit WAV file."""
    path = folder / f"speech_{seconds:g}s.wav"
    with wave.open(str(SAMPLES / "speech.wav")) as source:
        settings, once = source.getparams(), source.readframes(source.getnframes())
    num_bytes = round(seconds * settings.framerate) * settings.sampwidth * settings.nchannels
    with wave.open(str(path), "wb") as target:
        target.setparams(settings)
        target.writeframes((once * math.ceil(num_bytes / len(once)))[:num_bytes])
    return path


def num_frames_of(seconds: float) -> int:
    """Returns the number of output frames for speech of that length."""
    return math.ceil(Fraction(seconds).limit_denominator(1000) * FPS)


def _avatar_frames() -> list[NDArray[np.uint8]]:
    """Yields (H, W, 3) RGB frames."""
    with av.open(str(SAMPLES / "presenter.mp4")) as container:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]


def _placed(rgb: NDArray[np.uint8], width: int, height: int, seconds: float) -> NDArray[np.uint8]:
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
