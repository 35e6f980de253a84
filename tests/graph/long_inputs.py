"""Inputs that keep one stage busy long enough to be caught there, made from the samples."""

from __future__ import annotations

import io
import wave
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

SPEECH_RATE = 16000


def speech_samples(speech: Path, num_samples: int) -> NDArray[np.int16]:
    """The speech of a 16 kHz WAV file, over and over: (num_samples,) int16."""
    with wave.open(str(speech)) as source:
        samples = np.frombuffer(source.readframes(source.getnframes()), np.int16)
    return np.resize(samples, num_samples)


def long_wav(speech: Path, seconds: float, sample_rate: int = SPEECH_RATE, num_channels: int = 1) -> bytes:
    """A WAV file of 8-bit samples; at another rate than 16 kHz the voice is another, too."""
    samples = speech_samples(speech, round(seconds * sample_rate) * num_channels)
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setparams((num_channels, 1, sample_rate, 0, "NONE", "not compressed"))
        file.writeframes(((samples >> 8) + 128).astype(np.uint8).tobytes())
    return target.getvalue()


def long_video(sample_video: Path, num_frames: int, fps: int = 25, sound: Path | None = None) -> bytes:
    """The sample avatar, over and over, with the speech `sound` as its own voice."""
    target = io.BytesIO()
    with av.open(str(sample_video)) as source:
        pictures = list(source.decode(video=0))
    with av.open(target, "w", format="mp4") as out:
        video: Any = out.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = pictures[0].width, pictures[0].height, "yuv420p"
        voice: Any = out.add_stream("aac", rate=SPEECH_RATE, layout="mono") if sound is not None else None
        for number, picture in enumerate(islice(cycle(pictures), num_frames)):
            picture.pts, picture.time_base, picture.pict_type = number, Fraction(1, fps), 0
            out.mux(video.encode(picture))
        out.mux(video.encode())
        if sound is not None:
            samples = speech_samples(sound, num_frames * SPEECH_RATE // fps)
            block = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
            block.sample_rate, block.pts = SPEECH_RATE, 0
            out.mux(voice.encode(block))
            out.mux(voice.encode())
    return target.getvalue()
