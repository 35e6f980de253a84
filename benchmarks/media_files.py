"""Reads and writes small sounds and films."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

SOUND_RATE = 16000
"""Samples per second of the sound of films."""


def read_wav(path: Path) -> tuple[NDArray[np.int16], int]:
    """Returns the (N,) samples of a mono WAV file, and how many are a second."""
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16), file.getframerate()


def wav_bytes(samples: NDArray[np.int16], rate: int, num_channels: int = 1) -> bytes:
    """Returns a WAV file of 16-bit samples; those of several channels alternate."""
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setparams((num_channels, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return target.getvalue()


def write_wav(path: Path, samples: NDArray[np.int16], rate: int) -> Path:
    """Writes a mono WAV file, and returns its path."""
    path.write_bytes(wav_bytes(samples, rate))
    return path


def write_film(
    out: Path | BinaryIO,
    pictures: Iterable[av.VideoFrame],
    fps: Fraction | int,
    options: Mapping[str, str],
    sound: NDArray[np.int16] | None = None,
) -> None:
    """Writes an MP4 film in H.264 of pictures of one size, with `options` of x264, and mono sound, if any, in AAC."""
    shown = iter(pictures)
    first = next(shown)
    with av.open(str(out) if isinstance(out, Path) else out, "w", format="mp4") as container:
        video: Any = container.add_stream("libx264", rate=fps, options=dict(options))
        video.width, video.height, video.pix_fmt = first.width, first.height, "yuv420p"
        voice: Any = container.add_stream("aac", rate=SOUND_RATE, layout="mono") if sound is not None else None
        for number, picture in enumerate(chain([first], shown)):
            picture.pts, picture.time_base, picture.pict_type = number, 1 / Fraction(fps), 0
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        if sound is not None:
            block = av.AudioFrame.from_ndarray(sound[None], "s16", "mono")
            block.sample_rate, block.pts = SOUND_RATE, 0
            container.mux(voice.encode(block))
            container.mux(voice.encode(None))
