"""Speech encoder: a log-mel spectrum and the first layers of Whisper's encoder, one feature row every 20 ms.

Row k is at k x 20 ms and mel frame m at m x 10 ms from the start of the file. The encoder attends to its whole input,
so it runs on windows at fixed times of the file, each 5 seconds plus 1 second of context on both sides. The rows of a
block therefore equal those of a run over the whole file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import CancelledJobError
from lipwright.media.audio import SPEECH_SAMPLE_RATE
from models.speech.activity import SpeechActivity, speech_activity
from models.speech.level import (
    MEL_HOP_SAMPLES,
    ROWS_PER_SECOND,
    SpeechLevel,
    cut_speech,
    measure_level,
    open_measured_speech,
)
from models.speech.stream import LOOK_AHEAD_SECONDS, SpeechWindow
from models.weights import weights_path
from models.weights.onnx_session import make_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["FeatureBlock", "SpeechFeatures", "SpeechLevel", "measure_level"]

INTERPOLATION_ROWS = 2
"""Rows on either side of a frame from which its mouth is interpolated."""
# The speech-to-mouth network needs 16 rows of context on either side of those.
_CONTEXT_ROWS = 15 + INTERPOLATION_ROWS
# Additional rows: the mouth in a pause depends on the whole pause (`speech_to_mouth`).
_PAUSE_ROWS = 48
_LIVE_PAUSE_ROWS = 32  # before live frames: with 32 and 48, mouths are equal (eight streams)
# Before live frames, what the encoder sees: with 75 rows, mouths are as close to those of the whole file (25 streams)
_LIVE_ENCODED_ROWS = 60
# Output rows of a window, and rows of context before and after them.
_WINDOW_ROWS, _MARGIN_ROWS = 250, 50
# Consecutive blocks of a speech share two windows; a window takes 1.6 MB.
_MAX_KEPT_WINDOWS = 16
# Log-mel of Whisper (whisper/audio.py): 25 ms Hann window, 10 ms hop, 80 Slaney bands of unit area from 0 to 8000 Hz;
# decimal logarithm, at most 8 below the maximum, plus 4, / 4. Whisper takes the maximum of the input; here it is a
# constant, the maximum of speech at the level set by `SpeechLevel.gain`, so that no row depends on distant sounds.
_WINDOW_SAMPLES, NUM_BANDS = 400, 80
_LOUDEST, _RANGE, _TINY_POWER = 1.5, 8.0, 1e-10


@dataclass(frozen=True)
class FeatureBlock:
    """The features of a time range of speech, with the context that `SpeechToMouth` needs.

    Attributes:
        start_seconds: Start of the range.
        stop_seconds: End of the range (half-open).
        first_row: Number of row 0 of the arrays in the whole file; rows are 20 ms apart.
        features: (N, F) float32; F is the output size of the encoder.
        activity: Voice activity in the N rows.
    """

    start_seconds: float
    stop_seconds: float
    first_row: int
    features: NDArray[np.float32]
    activity: SpeechActivity


class SpeechFeatures:
    """The log-mel front end and the speech encoder.

    On a CPU, the encoder has 8 bit matrices: less than half of the time, for mouths that differ by .001 eye distances
    (docs/experiments.md).

    Args:
        num_threads: CPU threads of the network.
        device: "cpu" or "cuda".

    Raises:
        WeightsError: The weights file is missing or has the wrong contents.
        ConfigError: CUDA was requested but is not available.
    """

    def __init__(self, num_threads: int = 1, device: Literal["cpu", "cuda"] = "cpu") -> None:
        path = weights_path("speech_encoder_int8.onnx" if device == "cpu" else "speech_encoder.onnx")
        self._network = make_session(path, num_threads=num_threads, device=device)
        self._num_features = int(self._network.get_outputs()[0].shape[-1])
        self._encoded = lru_cache(_MAX_KEPT_WINDOWS)(partial(_encode, self._network))

    def warm(self) -> None:
        """Run the encoder once, so that the first block does not wait for what it sets up."""
        self._run(np.zeros(SPEECH_SAMPLE_RATE, np.int16), SpeechLevel(SPEECH_SAMPLE_RATE, 1.0, 0.0), 0, 50)

    def extract(
        self,
        speech: Path,
        level: SpeechLevel,
        start_seconds: float,
        stop_seconds: float,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> FeatureBlock:
        """Compute the features of [start_seconds, stop_seconds).

        Args:
            speech: .npy file of 16 kHz mono int16.
            level: Result of `measure_level` for this file.
            start_seconds: Start of the range, 0 or later.
            stop_seconds: End of the range. Past the end of the file the last row is repeated.
            should_stop: Polled every 5 seconds of speech.

        Raises:
            MediaError: The file is not the one that was measured.
            CancelledJobError: `should_stop` returned True.
            ValueError: The range is empty or starts before 0.
        """
        if not 0 <= start_seconds < stop_seconds:
            raise ValueError(f"Expected 0 <= start < stop, got {start_seconds = }, {stop_seconds = }.")
        samples = open_measured_speech(speech, level)
        last_row = level.num_rows - 1
        first = max(0, min(floor(start_seconds * ROWS_PER_SECOND), last_row) - _CONTEXT_ROWS - _PAUSE_ROWS)
        stop = min(ceil(stop_seconds * ROWS_PER_SECOND) + _CONTEXT_ROWS + _PAUSE_ROWS, last_row) + 1
        features = self._run(samples, level, first, stop, should_stop)
        activity = speech_activity(samples, level, first, stop)
        return FeatureBlock(start_seconds, stop_seconds, first, features, activity)

    def extract_window(self, window: SpeechWindow) -> FeatureBlock:
        """Compute the features of a window of live speech.

        The network is skipped if nobody speaks in these frames: `SpeechToMouth` ignores features there.

        Args:
            window: From `SpeechStream.window`.

        Returns:
            Features from the first frame of the window to the end of its look-ahead.
        """
        samples, level = window.samples, window.level
        before = floor(window.start_seconds * ROWS_PER_SECOND) - window.first_row
        first = max(0, before - _CONTEXT_ROWS - _LIVE_PAUSE_ROWS)
        activity = speech_activity(samples, level, first, level.num_rows)
        gate = activity.gate * window.open_share[first:]
        rows = np.zeros((level.num_rows, self._num_features), np.float32)
        if gate[max(0, before - INTERPOLATION_ROWS - first) :].any():
            skipped = max(0, before - _LIVE_ENCODED_ROWS)
            mel = log_mel(samples, level.gain, 2 * skipped, 2 * level.num_rows)
            rows[skipped:] = self._network.run(None, {"mel": mel[None]})[0][0]
        return FeatureBlock(
            window.start_seconds,
            window.stop_seconds + LOOK_AHEAD_SECONDS,
            window.first_row + first,
            rows[first:],
            replace(activity, gate=gate),
        )

    def _run(
        self,
        samples: NDArray[np.int16],
        level: SpeechLevel,
        first: int,
        stop: int,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> NDArray[np.float32]:
        """Return rows [first, stop) as (stop - first, F)."""
        parts = []
        for start in range(first // _WINDOW_ROWS * _WINDOW_ROWS, stop, _WINDOW_ROWS):
            if should_stop():
                raise CancelledJobError("Speech feature extraction was cancelled.")
            left, right = max(0, start - _MARGIN_ROWS), min(level.num_rows, start + _WINDOW_ROWS + _MARGIN_ROWS)
            mel = log_mel(samples, level.gain, 2 * left, 2 * right)
            window = self._encoded(mel.tobytes())
            parts.append(window[max(start, first) - left : min(start + _WINDOW_ROWS, stop) - left])
        return np.concatenate(parts)


def _encode(network: InferenceSession, mel: bytes) -> NDArray[np.float32]:
    """Return the rows of (N, 80) float32 mel frames as (N / 2, F)."""
    frames = np.frombuffer(mel, np.float32).reshape(1, -1, NUM_BANDS)
    rows: NDArray[np.float32] = network.run(None, {"mel": frames})[0][0]
    return rows


def log_mel(samples: NDArray[np.int16], gain: float, first: int, stop: int) -> NDArray[np.float32]:
    """Compute mel frames [first, stop) of a file.

    Args:
        samples: (N,) int16, the whole file.
        gain: Factor of the samples (`SpeechLevel.gain`).
        first: First frame, 10 ms per frame.
        stop: Frame after the last.

    Returns:
        (stop - first, 80) float32.
    """
    import librosa  # takes a second, which processes that only import this module should not spend

    half = _WINDOW_SAMPLES // 2
    spectrum = librosa.stft(
        cut_speech(samples, first * MEL_HOP_SAMPLES - half, (stop - 1) * MEL_HOP_SAMPLES + half) * np.float32(gain),
        n_fft=_WINDOW_SAMPLES,
        hop_length=MEL_HOP_SAMPLES,
        center=False,
    )  # (201, stop - first) complex64
    power = mel_bank(_WINDOW_SAMPLES) @ (np.square(spectrum.real) + np.square(spectrum.imag))
    levels = np.maximum(np.log10(np.maximum(power, _TINY_POWER)), _LOUDEST - _RANGE)
    return np.ascontiguousarray((levels.T + 4) / 4, np.float32)


@cache
def mel_bank(
    num_fft: int, lowest_hz: float = 0.0, highest_hz: float = 8000.0, dtype: type[np.floating] = np.float32
) -> NDArray[np.floating]:
    """Return the (80, num_fft // 2 + 1) weights of the bins of a spectrum: Slaney's scale, triangles of unit area."""
    import librosa  # takes seconds; only audio encoders need it

    bank: NDArray[np.floating] = librosa.filters.mel(
        sr=SPEECH_SAMPLE_RATE, n_fft=num_fft, n_mels=NUM_BANDS, fmin=lowest_hz, fmax=highest_hz, dtype=dtype
    )
    return bank
