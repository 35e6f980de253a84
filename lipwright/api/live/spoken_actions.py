"""When the actions of a text are due, while its speech arrives."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lipwright.media.audio import SPEECH_SAMPLE_RATE
from lipwright.media.subtitles.actions import ActedText
from models.speech.activity import is_speech
from models.speech.level import ROWS_PER_SECOND, SPEECH_QUANTILE, SpeechLevel, row_levels
from models.speech.word_times import word_times

_CHARS_PER_SECOND: Final = 14.0
"""Of speech that has not arrived; `word_times` only needs it for texts that a voice streams."""
_SETTLED_SECONDS: Final = 20.0
"""Speech after the last action that settles when it is due."""


class SpokenActions:
    """Finds the actions of one text in its speech."""

    def __init__(self, text: ActedText) -> None:
        self._text = text
        self._heard = np.zeros(0, np.int16)  # 16 kHz
        self._num_searched = 0  # samples of it
        self._is_settled = False

    @property
    def is_due(self) -> bool:
        """Whether a second of speech, or the first of it, has arrived since the actions were last found.

        Later speech hardly moves actions that are long past, and each search reads all of it.
        """
        num_new = 0 if self._is_settled else len(self._heard) - self._num_searched
        return num_new >= SPEECH_SAMPLE_RATE or (num_new > 0 and not self._num_searched)

    def push(self, samples: NDArray[np.int16], sample_rate: int) -> None:
        """Add (N,) int16 samples of the speech."""
        num = round(len(samples) * SPEECH_SAMPLE_RATE / sample_rate)
        times = np.arange(num) * (sample_rate / SPEECH_SAMPLE_RATE)
        piece = np.interp(times, np.arange(len(samples)), samples) if len(samples) else samples
        self._heard = np.concatenate([self._heard, piece.astype(np.int16)])

    def seconds(self, is_whole: bool) -> list[float]:
        """Return when each action is due, from the start of the speech; estimated until all of it is there."""
        self._num_searched = len(self._heard)
        num_rows = len(self._heard) * ROWS_PER_SECOND // SPEECH_SAMPLE_RATE
        if not num_rows:
            return [0.0] * len(self._text.actions)
        loud = float(np.quantile(row_levels(self._heard, 0, num_rows), SPEECH_QUANTILE))
        speaks = is_speech(self._heard, SpeechLevel(len(self._heard), 1.0, loud), 0, num_rows)
        expected = 0 if is_whole else round(len(self._text.text) / _CHARS_PER_SECOND * ROWS_PER_SECOND)
        speaks = np.pad(speaks, (0, max(0, expected - num_rows)), constant_values=True)
        times = word_times(self._text.text, [action.position for action in self._text.actions], speaks)
        self._is_settled = num_rows / ROWS_PER_SECOND > times[-1] + _SETTLED_SECONDS
        return times
