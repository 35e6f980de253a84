"""Speech that is still coming: what is known of it around the frames that are due, at most 240 ms ahead of them.

The stream knows no network: it keeps the last seconds of sound and how loud the voice is, and gives windows of both,
which are small and travel. `SpeechFeatures.extract_window` hears them, anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.audio import SPEECH_SAMPLE_RATE
from models.speech.level import ROWS_PER_SECOND, SpeechLevel
from models.speech.running_level import RunningLevel

LOOK_AHEAD_SECONDS: Final = 0.24
"""How far behind a frame its mouth depends on the sound."""

_ROW_SAMPLES: Final = SPEECH_SAMPLE_RATE // ROWS_PER_SECOND
# Surroundings before the frames: the encoder attends to all of them.
_BEFORE_ROWS: Final = 75
# From an interruption on the mouth shuts within so many rows, whatever was said before.
_SHUT_ROWS: Final = 4
_OPEN_ROWS: Final = 4  # in which it opens again, or for the first time, as the gate of a whole file does
_QUIET_ROWS: Final = 16  # behind which that gate is closed
_QUIET: Final = 184  # -45 dBFS
_MAX_SHUT_ROWS: Final = 40  # behind it the gate has closed by itself


@dataclass(frozen=True)
class SpeechWindow:
    """What is known of the speech around some frames. Small: it travels in place of the stream.

    Attributes:
        start_seconds: When the first of the frames stands.
        stop_seconds: When the frame after the last one stands.
        first_row: Number of the window's first feature row in the whole stream, 20 ms a row.
        samples: (N,) int16 from `first_row` on, at 16 kHz.
        level: How loud the voice is, of these N samples.
        open_share: (R,) float32 by which the mouth is held back in each of the window's rows: 1 as a rule, 0 after an
            interruption until somebody speaks again.
    """

    start_seconds: float
    stop_seconds: float
    first_row: int
    samples: NDArray[np.int16]
    level: SpeechLevel
    open_share: NDArray[np.float32]

    @property
    def is_silent(self) -> bool:
        """Whether there is no sound in it at all."""
        return not self.samples.any()


class SpeechStream:
    """The speech of one live session, at 16 kHz, from its first frame on. Pauses are pushed as zeros."""

    def __init__(self) -> None:
        self._level = RunningLevel()
        self._held = np.zeros(0, np.int16)  # the last seconds
        self._first = 0  # number of its first sample
        self._shut_row: int | None = None
        self._open_row: int | None = None
        self._begin_row: int | None = None

    @property
    def num_samples(self) -> int:
        """Samples that were pushed."""
        return self._first + len(self._held)

    def push(self, samples: NDArray[np.int16]) -> None:
        """Hear more: (N,) int16 at 16 kHz; how they are divided into calls changes nothing."""
        self._level.add(samples)
        self._held = np.concatenate([self._held, samples])

    def forget_after(self, num_samples: int) -> None:
        """Take back what was pushed behind the first `num_samples` samples: it will not be spoken."""
        self._held = self._held[: max(0, num_samples - self._first)]

    def shut(self, seconds: float) -> None:
        """Have the mouth shut from a time on, until somebody begins to speak: the rest of a word is not waited for."""
        self._shut_row, self._open_row = round(seconds * ROWS_PER_SECOND), None

    def begin(self) -> None:
        """Have a mouth that is shut open softly with what is pushed next: nobody knew of it before.

        A mouth that just spoke goes on as it was.
        """
        row = self.num_samples // _ROW_SAMPLES
        if self._shut_row is not None and self._open_row is None:
            self._open_row = self._begin_row = row
            return
        before = self._held[-_QUIET_ROWS * _ROW_SAMPLES :]
        is_quiet = not len(before) or int(np.abs(before.astype(np.int32)).max()) < _QUIET
        self._begin_row = row if is_quiet else None

    def window(self, start_seconds: float, stop_seconds: float) -> SpeechWindow:
        """Return what is known of the speech around frames in [start_seconds, stop_seconds).

        What lies more than `LOOK_AHEAD_SECONDS` behind them is left out, so that it makes no difference whether speech
        comes as it is spoken or all at once; what was not pushed yet is taken for silence. What lies before the window
        is forgotten: windows are asked for in order.
        """
        first_row = max(0, floor(start_seconds * ROWS_PER_SECOND) - _BEFORE_ROWS)
        stop = ceil((stop_seconds + LOOK_AHEAD_SECONDS) * SPEECH_SAMPLE_RATE)
        self._forget(first_row * _ROW_SAMPLES)
        samples = self._held[first_row * _ROW_SAMPLES - self._first : stop - self._first]
        samples = np.pad(samples, (0, stop - first_row * _ROW_SAMPLES - len(samples)))
        level = self._level.level(len(samples))
        share = self._open_share(first_row, level.num_rows)
        return SpeechWindow(start_seconds, stop_seconds, first_row, samples, level, share)

    def _open_share(self, first_row: int, num_rows: int) -> NDArray[np.float32]:
        rows = first_row + np.arange(num_rows)
        share = np.ones(num_rows)
        if self._begin_row is not None:
            share = ((rows - self._begin_row) / _OPEN_ROWS).clip(0, 1)
        if self._shut_row is not None:
            until = self._shut_row + _MAX_SHUT_ROWS if self._open_row is None else self._open_row
            shut = (1 - (rows - self._shut_row) / _SHUT_ROWS).clip(0, 1)
            share = np.where(rows >= until, share, shut)
        return share.astype(np.float32)

    def _forget(self, before: int) -> None:
        num = max(0, before - self._first)
        self._held, self._first = self._held[num:], self._first + num
