"""A live stream that flashes and beeps at every whole second, and how far apart the two are where it is received."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from lipwright.media.live.encoder import LiveEncoder, LiveFragment, StreamWriter
from lipwright.media.live.mp4_boxes import AUDIO_RATE
from lipwright.media.yuv_frame import YuvFrame
from tests.unit.api.live.live_parts import INFO, SIDE

NUM_FRAMES = 2  # of a fragment
_KEY_FRAGMENTS = 8
_DARK, _BRIGHT = 30, 220
_FLASH_FRAMES, _BEEP_SECONDS = 3, 0.12
_LOUD = 0.15


class FlashingStream:
    """Yields fragments of 80 ms, without end; every eighth begins with a keyframe."""

    def __init__(self, fps: Fraction = Fraction(25)) -> None:
        self._info = replace(INFO, fps=fps)

    def __iter__(self) -> Iterator[LiveFragment]:
        writer, left, first = StreamWriter(self._info), 0, 0
        encoder = LiveEncoder(self._info, 30, "ultrafast")
        while True:
            if first % (NUM_FRAMES * _KEY_FRAGMENTS) == 0:
                encoder.begin_with_key()
            chroma = np.full((SIDE // 2, SIDE // 2), 128, np.uint8)
            for number in range(first, first + NUM_FRAMES):
                encoder.write(YuvFrame(np.full((SIDE, SIDE), self._luma(number), np.uint8), chroma, chroma))
            stop = writer.num_audio_samples(first + NUM_FRAMES)
            yield writer.fragment(first, encoder.finish(), _sound(left, stop))
            first, left = first + NUM_FRAMES, stop

    def _luma(self, number: int) -> int:
        after = number % self._info.fps
        return _BRIGHT if number >= self._info.fps and after < _FLASH_FRAMES else _DARK


def _sound(start: int, stop: int) -> NDArray[np.int16]:
    at = np.arange(start, stop)
    is_on = (at >= AUDIO_RATE) & (at % AUDIO_RATE < _BEEP_SECONDS * AUDIO_RATE)
    tone: NDArray[np.int16] = (16000 * np.sin(2 * np.pi * 1000 * at / AUDIO_RATE) * is_on).astype(np.int16)
    return tone


def skews(frames: Sequence[tuple[float, float]], sounds: Sequence[tuple[float, NDArray[np.float32]]]) -> list[float]:
    """Return for every flash by how many seconds its beep is later.

    Args:
        frames: Time and mean luma of each frame.
        sounds: Time and samples at 48 kHz, within -1 to 1, of each piece of sound.
    """
    flashes = [time for (_, before), (time, luma) in zip(frames, frames[1:], strict=False) if before < 128 <= luma]
    beeps: list[float] = []
    for start, samples in sounds:
        for place in np.flatnonzero(np.abs(samples) > _LOUD):
            time = start + float(place) / AUDIO_RATE
            if not beeps or time - beeps[-1] > 0.5:
                beeps.append(time)
    return [min((beep - flash for beep in beeps), key=abs) for flash in flashes if beeps]


def file_skews(path: Path) -> list[float]:
    """Return the skews of a recorded file."""
    frames: list[tuple[float, float]] = []
    sounds: list[tuple[float, NDArray[np.float32]]] = []
    with av.open(str(path)) as container:
        for frame in container.decode():
            assert frame.pts is not None and frame.time_base is not None
            time = float(frame.pts * frame.time_base)
            if isinstance(frame, av.VideoFrame):
                frames.append((time, float(frame.to_ndarray(format="gray").mean())))
            elif isinstance(frame, av.AudioFrame):
                sounds.append((time, frame.to_ndarray()[0].astype(np.float32)))
    return skews(frames, sounds)
