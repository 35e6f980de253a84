"""Running level of live speech, measured over at most the last 30 seconds of it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.audio import SPEECH_SAMPLE_RATE
from models.speech.level import SPEECH_QUANTILE, SpeechLevel, gain_for, loud_rms

_FRAME_SAMPLES: Final = SPEECH_SAMPLE_RATE // 40  # 25 ms, as for a whole file
_MAX_FRAMES: Final = 1200  # 30 s
_MIN_POWER: Final = 1e-6  # -60 dBFS: anything quieter is a pause and does not count
# Prior: until this many frames of the voice have arrived, assume the level of synthetic and normalised speech, 0.1 RMS.
_USUAL_RMS: Final = 0.1
_USUAL_FRAMES: Final = 8
_USUAL_DB: Final = -18.0


class RunningLevel:
    """The level of one voice. It does not depend on how the samples are split into calls."""

    def __init__(self) -> None:
        self._rest = np.zeros(0, np.float32)
        self._powers = np.zeros(0, np.float32)

    def add(self, samples: NDArray[np.int16]) -> None:
        """Add (N,) int16 samples at 16 kHz."""
        held = np.concatenate([self._rest, samples.astype(np.float32) / np.float32(32768)])
        whole = len(held) // _FRAME_SAMPLES * _FRAME_SAMPLES
        powers = np.square(held[:whole].reshape(-1, _FRAME_SAMPLES)).mean(1)
        self._rest = held[whole:]
        self._powers = np.concatenate([self._powers, powers[powers >= _MIN_POWER]])[-_MAX_FRAMES:]

    def level(self, num_samples: int) -> SpeechLevel:
        """Return the level so far, for a window of `num_samples` samples."""
        if not len(self._powers):
            return SpeechLevel(num_samples, gain_for(_USUAL_RMS), _USUAL_DB)
        known = len(self._powers) / (len(self._powers) + _USUAL_FRAMES)
        rms = float(np.exp(known * np.log(loud_rms(self._powers)) + (1 - known) * np.log(_USUAL_RMS)))
        heard_db = float(10 * np.log10(np.quantile(self._powers, SPEECH_QUANTILE)))
        return SpeechLevel(num_samples, gain_for(rms), known * heard_db + (1 - known) * _USUAL_DB)
