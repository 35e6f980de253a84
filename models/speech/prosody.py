"""Prosody: stressed syllables, pitch accents, and where phrases start and end. It moves a still's head.

The values of a frame depend on the audio from 1.5 s before it to 0.24 s after it and on the speech level of the file,
so they do not depend on how the file is split into blocks. A live stream has the same audio but only the level so far.
"""

from __future__ import annotations

from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.speech.activity import is_speech
from models.speech.level import ROWS_PER_SECOND, SpeechLevel, open_speech
from models.speech.stress import stressed_syllables

if TYPE_CHECKING:
    from models.speech.stream import SpeechWindow

REACH_SECONDS: Final = 1.2
"""How long after its start or end a phrase still affects a frame."""

AHEAD_SECONDS: Final = 0.2
"""How long before its start a phrase affects a frame."""

_PAUSE_ROWS: Final = 12  # silence this long ends a phrase: 240 ms, the look-ahead of live speech
_REACH_ROWS: Final = round(REACH_SECONDS * ROWS_PER_SECOND)
# Rows before and after a frame over which speech counts: the head is calm again about a second after a phrase.
_BEFORE_ROWS, _AFTER_ROWS = _REACH_ROWS, 10


class Prosody(NamedTuple):
    """The prosody of the speech in T frames.

    Attributes:
        stress: (T,) 0 to 1, how stressed a syllable is.
        accent: (T,) 0 to 1, how far the pitch of a stressed syllable is above that of the speech around it.
        speaking: (T,) 0 to 1, the share of speech around a frame.
        starts: (P,) ascending rows of 20 ms in which phrases start, from `REACH_SECONDS` before the first frame on; a
            start is known `AHEAD_SECONDS` before it.
        ends: (Q,) last rows of phrases; an end is not known before it.
    """

    stress: NDArray[np.float32]
    accent: NDArray[np.float32]
    speaking: NDArray[np.float32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def silence(cls, num_frames: int) -> Prosody:
        """Return the prosody of silence."""
        none, never = np.zeros(num_frames, np.float32), np.zeros(0, np.int64)
        return cls(none, none, none, never, never)


def file_prosody(speech: Path, level: SpeechLevel, seconds: NDArray[np.float64]) -> Prosody:
    """Return the prosody of a file at the given times.

    Args:
        speech: .npy file of 16 kHz mono int16.
        level: Result of `measure_level` for this file.
        seconds: (T,) ascending; past the end of the file there is silence.

    Raises:
        MediaError: The file is not such an array, or is empty.
    """
    return _prosody(open_speech(speech), level, seconds)


def window_prosody(window: SpeechWindow, seconds: NDArray[np.float64]) -> Prosody:
    """Return the prosody of live speech at the given times within its window.

    Args:
        window: From `SpeechStream.window`.
        seconds: (T,) ascending, from the start of the stream.
    """
    first = window.first_row
    here = _prosody(window.samples, window.level, seconds - first / ROWS_PER_SECOND)
    return here._replace(starts=here.starts + first, ends=here.ends + first)


def _prosody(samples: NDArray[np.int16], level: SpeechLevel, seconds: NDArray[np.float64]) -> Prosody:
    syllables = stressed_syllables(samples, level, seconds)
    first = floor(seconds[0] * ROWS_PER_SECOND) - _REACH_ROWS - _PAUSE_ROWS
    stop = ceil(seconds[-1] * ROWS_PER_SECOND) + _PAUSE_ROWS + 1
    speaks = is_speech(samples, level, first, stop)
    starts, ends = _phrases(speaks)
    weights = np.concatenate([np.linspace(0, 1, _BEFORE_ROWS + 1), np.linspace(1, 0, _AFTER_ROWS + 1)[1:]]) ** 2
    around = np.lib.stride_tricks.sliding_window_view(np.pad(speaks, _BEFORE_ROWS).astype(np.float64), len(weights))
    share = around @ weights / weights.sum()
    return Prosody(
        syllables.curve(),
        syllables.curve(syllables.accents(samples)),
        np.asarray(_interpolate(share, seconds * ROWS_PER_SECOND - first), np.float32),
        starts + first,
        ends + first,
    )


def _phrases(speaks: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and the last rows of phrases, between pauses that are seen completely."""
    rows = np.flatnonzero(speaks)
    is_break = np.diff(rows) > _PAUSE_ROWS
    starts, ends = rows[1:][is_break], rows[:-1][is_break]
    if len(rows) and rows[0] >= _PAUSE_ROWS:
        starts = np.concatenate([rows[:1], starts])
    if len(rows) and len(speaks) - 1 - rows[-1] >= _PAUSE_ROWS:
        ends = np.concatenate([ends, rows[-1:]])
    return starts.astype(np.int64), ends.astype(np.int64)


def _interpolate(values: NDArray[np.float64], position: NDArray[np.float64]) -> NDArray[np.float64]:
    # Value k of the sliding windows is centred on row k, because both sides are padded by the longer of the two.
    return np.interp(position, np.arange(len(values)), values)
