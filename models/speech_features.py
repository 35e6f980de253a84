"""Speech -> features: a log-mel spectrum and the speech-embedding network, one row every 20 ms.

Row k stands for the time k x 20 ms, mel frame m for m x 10 ms, both from the start of the file. A block is computed
with enough of its surroundings that its rows equal those of a run over the whole file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import ceil, floor
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from errors import MediaError
from media.audio import SPEECH_SAMPLE_RATE
from models.onnx_session import make_session
from models.speech_level import (
    MEL_HOP_SAMPLES,
    ROWS_PER_SECOND,
    SpeechLevel,
    cut_speech,
    measure_level,
    open_speech,
    speech_gate,
)
from models.weights import weights_path

__all__ = ["FeatureBlock", "SpeechFeatures", "SpeechLevel", "measure_level"]

# The speech-to-mouth network sees 16 rows to either side; a frame between two rows needs the next one too.
_CONTEXT_ROWS = 17
# The embedding network sees 38 mel frames to either side. Even, because its rows are pairs of frames.
_CONTEXT_MELS = 40
# Log-mel of Google's speech_embedding (melspectrogram.onnx of openWakeWord 0.4.0): 25 ms Hann window, 10 ms hop,
# 32 Slaney bands of unit area from 60 to 3800 Hz; decibels of samples on the int16 scale, floor 0 dB, / 10 + 2.
_FFT_SAMPLES, _WINDOW_SAMPLES, _FULL_SCALE = 512, 400, 32767
_NUM_BANDS, _MIN_HZ, _MAX_HZ = 32, 60.0, 3800.0


@dataclass(frozen=True)
class FeatureBlock:
    """The features of one stretch of speech, with the context that `SpeechToMouth` needs.

    Attributes:
        start_seconds: Start of the stretch.
        stop_seconds: Its end (half-open).
        first_row: Number of row 0 of the arrays in the whole file; rows stand 20 ms apart.
        features: (N, 384) float32.
        gate: (N,) float32: 1 in speech, 0 in silence, between them while fading.
    """

    start_seconds: float
    stop_seconds: float
    first_row: int
    features: NDArray[np.float32]
    gate: NDArray[np.float32]


class SpeechFeatures:
    """The log-mel front end and the speech-embedding network.

    Args:
        num_threads: CPU threads of the network.
        device: "cpu" or "cuda".

    Raises:
        WeightsError: The network's file is missing or not the one expected.
        ConfigError: CUDA was asked for and is not active.
    """

    def __init__(self, num_threads: int = 1, device: Literal["cpu", "cuda"] = "cpu") -> None:
        self._network = make_session(weights_path("speech_embedding_taps.onnx"), num_threads=num_threads, device=device)

    def warm(self) -> None:
        """Imports librosa and runs everything once: a second or two, more where Python has not compiled it yet."""
        self._run(np.zeros(SPEECH_SAMPLE_RATE, np.int16), SpeechLevel(SPEECH_SAMPLE_RATE, 1.0, 0.0), 0, 50)

    def extract(self, speech: Path, level: SpeechLevel, start_seconds: float, stop_seconds: float) -> FeatureBlock:
        """Computes the features of [start_seconds, stop_seconds).

        Args:
            speech: .npy file of 16 kHz mono int16.
            level: What `measure_level` said of this file.
            start_seconds: Start of the stretch, 0 or later.
            stop_seconds: Its end. Past the end of the file its last row holds on.

        Raises:
            MediaError: The file is not the one that was measured.
            ValueError: The stretch is empty or starts before 0.
        """
        if not 0 <= start_seconds < stop_seconds:
            raise ValueError(f"Expected 0 <= start < stop, got {start_seconds = }, {stop_seconds = }.")
        samples = open_speech(speech)
        if len(samples) != level.num_samples:
            raise MediaError(f"Expected {level.num_samples} samples in {speech.name}, found {len(samples)}.")
        last_row = level.num_rows - 1
        first = max(0, min(floor(start_seconds * ROWS_PER_SECOND), last_row) - _CONTEXT_ROWS)
        stop = min(ceil(stop_seconds * ROWS_PER_SECOND) + _CONTEXT_ROWS, last_row) + 1
        features = self._run(samples, level, first, stop)
        return FeatureBlock(start_seconds, stop_seconds, first, features, speech_gate(samples, level, first, stop))

    def _run(self, samples: NDArray[np.int16], level: SpeechLevel, first: int, stop: int) -> NDArray[np.float32]:
        """Rows [first, stop) as (stop - first, 384)."""
        # The network repeats the outermost mel frames. At the ends of a file that is meant; elsewhere it is cut off.
        first_mel = max(0, 2 * first - _CONTEXT_MELS)
        stop_mel = min(2 * level.num_rows, 2 * stop + _CONTEXT_MELS)
        mel = _log_mel(samples, level.gain, first_mel, stop_mel)
        features: NDArray[np.float32] = self._network.run(None, {"mel": mel[None]})[0][0]
        skip = first - first_mel // 2
        return features[skip : skip + stop - first]


def _log_mel(samples: NDArray[np.int16], gain: float, first: int, stop: int) -> NDArray[np.float32]:
    """Mel frames [first, stop) of a file as (stop - first, 32)."""
    import librosa  # costs seconds, and one process of the graph needs it

    start = first * MEL_HOP_SAMPLES - _FFT_SAMPLES // 2
    end = (stop - 1) * MEL_HOP_SAMPLES + _FFT_SAMPLES // 2
    spectrum = librosa.stft(
        cut_speech(samples, start, end) * np.float32(gain * _FULL_SCALE),
        n_fft=_FFT_SAMPLES,
        hop_length=MEL_HOP_SAMPLES,
        win_length=_WINDOW_SAMPLES,
        center=False,
    )  # (257, stop - first) complex64
    power = _mel_bank() @ np.square(spectrum.real) + _mel_bank() @ np.square(spectrum.imag)
    decibels = np.maximum(10 * np.log10(power + 1e-10), 0)
    return np.ascontiguousarray((decibels / 10 + 2).T, np.float32)


@cache
def _mel_bank() -> NDArray[np.float32]:
    """(32, 257) weights of the spectrum's bins."""
    import librosa

    bank: NDArray[np.float32] = librosa.filters.mel(
        sr=SPEECH_SAMPLE_RATE, n_fft=_FFT_SAMPLES, n_mels=_NUM_BANDS, fmin=_MIN_HZ, fmax=_MAX_HZ
    )
    return bank
