"""Live speech: a buffer that yields windows of audio around the frames that are due, with 240 ms of look-ahead.

The stream runs no network. It keeps the last seconds of audio and the running level and returns small windows of both,
which `SpeechFeatures.extract_window` can process in any process.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from math import ceil, floor, inf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lipwright.media.audio import SPEECH_SAMPLE_RATE
from lipwright.media.phones import Closures
from models.mouth.closures import closures_near
from models.speech.level import ROWS_PER_SECOND, RunningLevel, SpeechLevel

LOOK_AHEAD_SECONDS: Final = 0.24
"""How far after a frame the audio still affects its mouth."""

_ROW_SAMPLES: Final = SPEECH_SAMPLE_RATE // ROWS_PER_SECOND
# Context before the frames, of which a still's motion uses all (`models.speech.prosody`).
_BEFORE_ROWS: Final = 75
# After an interruption the mouth closes within this many rows.
_SHUT_ROWS: Final = 4
_OPEN_ROWS: Final = 4  # in which it opens again or for the first time, like the gate of a whole file
_QUIET_ROWS: Final = 16  # after this much silence that gate is closed
_QUIET: Final = 184  # -45 dBFS
_MAX_SHUT_ROWS: Final = 40  # after this the gate has closed on its own


@dataclass(frozen=True)
class SpeechWindow:
    """Speech around a range of frames. Small, so it can be sent instead of the stream.

    Attributes:
        start_seconds: Time of the first frame.
        stop_seconds: Time of the frame after the last one.
        first_row: Number of the window's first feature row in the whole stream, 20 ms per row.
        samples: (N,) int16 from `first_row` on, at 16 kHz.
        level: Running level of the voice, for these N samples.
        open_share: (R,) float32 factor of the mouth opening in each row of the window: normally 1, and 0 after an
            interruption until the next speech starts.
        closures: When the lips are known to close, in seconds of the stream.
    """

    start_seconds: float
    stop_seconds: float
    first_row: int
    samples: NDArray[np.int16]
    level: SpeechLevel
    open_share: NDArray[np.float32]
    closures: Closures = ()

    @property
    def is_silent(self) -> bool:
        """Whether all samples are zero."""
        return not self.samples.any()

    def audible(self) -> NDArray[np.int16]:
        """Return the (N,) samples times `open_share`, for engines that cannot close the mouth in another way."""
        if self.open_share.all() and self.open_share.min(initial=1) == 1:
            return self.samples
        share = np.repeat(self.open_share, _ROW_SAMPLES)[: len(self.samples)]
        share = np.pad(share, (0, len(self.samples) - len(share)), "edge")
        return (self.samples * share).astype(np.int16)


class SpeechStream:
    """The speech of one live session at 16 kHz, from its first frame. Pauses are pushed as zeros."""

    def __init__(self) -> None:
        self._level = RunningLevel()
        self._held = np.zeros(0, np.int16)  # the last seconds
        self._first = 0  # number of its first sample
        self._closures: Closures = ()
        self._shut_row: int | None = None
        self._open_row: int | None = None
        self._begin_row: int | None = None

    @property
    def num_samples(self) -> int:
        """Number of samples pushed so far."""
        return self._first + len(self._held)

    def push(self, samples: NDArray[np.int16]) -> None:
        """Append (N,) int16 samples at 16 kHz. The result does not depend on how they are split into calls."""
        self._level.add(samples)
        self._held = np.concatenate([self._held, samples])

    def add_closures(self, closures: Closures) -> None:
        """Append closures of the lips, in seconds of the stream, in order."""
        self._closures += closures

    def forget_after(self, num_samples: int) -> None:
        """Discard everything after the first `num_samples` samples: it will not be spoken."""
        self._held = self._held[: max(0, num_samples - self._first)]
        self._closures = self._closures[: bisect_left(self._closures, (num_samples / SPEECH_SAMPLE_RATE,))]

    def shut(self, seconds: float) -> None:
        """Close the mouth from this time until `begin` is called, even in the middle of a word."""
        self._shut_row, self._open_row = round(seconds * ROWS_PER_SECOND), None

    def begin(self) -> None:
        """Open a closed mouth gradually with the samples pushed next, which could not be anticipated.

        A mouth that is still speaking continues unchanged.
        """
        row = self.num_samples // _ROW_SAMPLES
        if self._shut_row is not None and self._open_row is None:
            self._open_row = self._begin_row = row
            return
        before = self._held[-_QUIET_ROWS * _ROW_SAMPLES :]
        is_quiet = not len(before) or int(np.abs(before.astype(np.int32)).max()) < _QUIET
        self._begin_row = row if is_quiet else None

    def window(self, start_seconds: float, stop_seconds: float) -> SpeechWindow:
        """Return the speech around the frames in [start_seconds, stop_seconds).

        Audio more than `LOOK_AHEAD_SECONDS` after the frames is left out, so the result is the same whether speech
        arrives in real time or all at once. Audio that has not been pushed yet counts as silence. Audio before the
        window is discarded, so windows must be requested in order.
        """
        first_row = max(0, floor(start_seconds * ROWS_PER_SECOND) - _BEFORE_ROWS)
        stop = ceil((stop_seconds + LOOK_AHEAD_SECONDS) * SPEECH_SAMPLE_RATE)
        self._forget(first_row * _ROW_SAMPLES)
        samples = self._held[first_row * _ROW_SAMPLES - self._first : stop - self._first]
        samples = np.pad(samples, (0, stop - first_row * _ROW_SAMPLES - len(samples)))
        level = self._level.level(len(samples))
        share = self._open_share(first_row, level.num_rows)
        self._closures = closures_near(self._closures, start_seconds, inf)
        closures = closures_near(self._closures, start_seconds, stop_seconds)
        return SpeechWindow(start_seconds, stop_seconds, first_row, samples, level, share, closures)

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
