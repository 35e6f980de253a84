"""Audio features of the original DINet: windows of the letter probabilities of DeepSpeech 0.1.

The network reads cepstra every 20 ms, normalised by mean and deviation of the whole file. They are computed as in
MRzzm/DINet, utils/deep_speech.py, with the defaults of python_speech_features 0.6 (base.py, sigproc.py): int16 samples
unscaled, preemphasis 0.97, frames of 400 samples every 160 without a window, FFT of 512, 26 triangular bands from 0 to
8000 Hz (2595 log10(1 + f / 700), corners on whole bins), natural logarithm, orthonormal DCT II, lifter 22, the first
number replaced by the logarithm of the frame's energy; every second frame is taken. Each step sees 9 rows to either
side, with zeros beyond the file.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import CancelledJobError, WeightsError
from lipwright_engines_classic.dinet.engine import DinetFeatures, open_measured
from lipwright_engines_classic.dinet.weights import NUM_DEEPSPEECH_INPUTS, deepspeech_mismatch
from models.engines.base import frame_gate
from models.engines.protocol import ComputeResources, FrameSpan
from models.engines.runtime.cache import LruCache
from models.engines.runtime.onnx import OnnxNetwork
from models.speech.level import SpeechLevel

NUM_CEPSTRA: Final = 26
CONTEXT_ROWS: Final = 9
_FRAME, _HOP, _FFT, _PREEMPHASIS, _LIFTER = 400, 160, 512, 0.97, 22
_ROW_HOP = 2 * _HOP
_EPSILON = float(np.finfo(np.float64).eps)
_ROWS_AT_A_TIME = 3000  # a minute


def num_rows_of(num_samples: int) -> int:
    """Return the rows of a file: 20 ms apart, at least 1."""
    num_frames = 1 + max(0, -(-(num_samples - _FRAME) // _HOP))
    return (num_frames + 1) // 2


def cepstra(samples: NDArray[np.int16], first: int, stop: int) -> NDArray[np.float64]:
    """Compute rows [first, stop) of a whole file, (N,) int16 at 16 kHz, as (stop - first, 26) float64.

    A row does not depend on the range; `stop` is at most `num_rows_of(N)`.
    """
    frames = _frames(samples, first, stop)
    power = np.square(np.abs(np.fft.rfft(frames, _FFT))) / _FFT  # (R, 257)
    energy = power.sum(1)
    bands = _not_zero(power @ _bands().T)  # (R, 26)
    rows: NDArray[np.float64] = np.log(bands) @ _cosines().T
    rows[:, 0] = np.log(_not_zero(energy))
    return rows


def mean_and_deviation(samples: NDArray[np.int16]) -> tuple[float, float]:
    """Return the mean and the standard deviation of all input values of the network for a file, in one pass."""
    num = num_rows_of(len(samples))
    total = squares = 0.0
    for first in range(0, num, _ROWS_AT_A_TIME):
        stop = min(first + _ROWS_AT_A_TIME, num)
        rows, at = cepstra(samples, first, stop), np.arange(first, stop)
        # How many steps include the row: all within the context, fewer at the ends of the file.
        seen = np.minimum(at, CONTEXT_ROWS) + np.minimum(num - 1 - at, CONTEXT_ROWS) + 1
        total += float(seen @ rows.sum(1))
        squares += float(seen @ np.square(rows).sum(1))
    mean = total / (num * NUM_DEEPSPEECH_INPUTS)
    return mean, float(np.sqrt(max(0.0, squares / (num * NUM_DEEPSPEECH_INPUTS) - mean**2)))


def network_inputs(
    samples: NDArray[np.int16], first: int, stop: int, statistics: tuple[float, float]
) -> NDArray[np.float32]:
    """Return the (stop - first, 494) float32 input for steps [first, stop) of a whole file, (N,) int16.

    `stop` is at most `num_rows_of(N)`; `statistics` are those of `mean_and_deviation`.
    """
    num, (mean, deviation) = num_rows_of(len(samples)), statistics
    left, right = max(0, first - CONTEXT_ROWS), min(num, stop + CONTEXT_ROWS)
    before, after = left - (first - CONTEXT_ROWS), stop + CONTEXT_ROWS - right
    rows = np.pad(cepstra(samples, left, right), ((before, after), (0, 0)))
    steps = np.lib.stride_tricks.sliding_window_view(rows, 2 * CONTEXT_ROWS + 1, axis=0)  # (T, 26, 19)
    flat = steps.transpose(0, 2, 1).reshape(stop - first, NUM_DEEPSPEECH_INPUTS)
    return ((flat - mean) / max(deviation, _EPSILON)).astype(np.float32)


def _frames(samples: NDArray[np.int16], first: int, stop: int) -> NDArray[np.float64]:
    """(R, 400) lifted samples of each row; zeros past the end."""
    start, end = first * _ROW_HOP, (stop - 1) * _ROW_HOP + _FRAME
    own = samples[start : min(end, len(samples))].astype(np.float64)
    before = samples[start - 1 : start - 1 + len(own)] if start else np.concatenate([[0], own[:-1]])
    lifted = np.pad(own - _PREEMPHASIS * before, (0, end - start - len(own)))
    frames: NDArray[np.float64] = np.lib.stride_tricks.sliding_window_view(lifted, _FRAME)[::_ROW_HOP]
    return frames


def _not_zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values == 0, _EPSILON, values)


@cache
def _bands() -> NDArray[np.float64]:
    """(26, 257) triangles over the bins of the spectrum."""
    highest = 2595 * np.log10(1 + 8000 / 700)
    hertz = 700 * (10 ** (np.linspace(0, highest, NUM_CEPSTRA + 2) / 2595) - 1)
    corners = np.floor((_FFT + 1) * hertz / 16000)
    low, peak, high = (corners[i : i + NUM_CEPSTRA, None] for i in range(3))
    bins = np.arange(_FFT // 2 + 1)
    rising = np.where((bins >= low) & (bins < peak), (bins - low) / np.maximum(peak - low, 1), 0)
    falling = np.where((bins >= peak) & (bins < high), (high - bins) / np.maximum(high - peak, 1), 0)
    bands: NDArray[np.float64] = rising + falling
    return bands


@cache
def _cosines() -> NDArray[np.float64]:
    """(26, 26) orthonormal DCT II, its rows times the lifter."""
    at = np.arange(NUM_CEPSTRA)
    cosines = np.cos(np.pi * at[:, None] * (2 * at + 1) / (2 * NUM_CEPSTRA)) * np.sqrt(2 / NUM_CEPSTRA)
    cosines[0] /= np.sqrt(2)
    lifter = 1 + _LIFTER / 2 * np.sin(np.pi * at / _LIFTER)
    lifted: NDArray[np.float64] = cosines * lifter[:, None]
    return lifted


WINDOW_ROWS: Final = 5
"""Rows of letters, 40 ms apart, that drive a frame: its own and two to either side."""
_LETTERS = 29
_PIECE_STEPS, _CONTEXT_STEPS = 1000, 100  # 20 ms each, even
_ROWS_PER_SECOND = 25
_MAX_PIECES, _MAX_FILES = 4, 8


class DeepSpeechAudioEncoder:
    """Implements `protocol.AudioEncoder`; `encode` gives `DinetFeatures` with windows of (T, 29, 5).

    The published network runs over the whole file forwards and backwards. A file may be hours long, so this class runs
    it on pieces of 20 s with 2 s of context on either side: files of up to 20 s give the published result.

    The file is an .onnx export of DeepSpeech 0.1: [1,T,494] float32 and lengths [1] -> [T,1,29].

    Raises:
        WeightsError: The file is missing or is not such a network.
        ConfigError: CUDA was requested but is not available.
    """

    def __init__(self, path: Path, resources: ComputeResources) -> None:
        self._network = OnnxNetwork(path, resources, deepspeech_mismatch)
        self._file = path.name
        self._statistics: LruCache[tuple[float, float]] = LruCache(_MAX_FILES)
        self._pieces: LruCache[NDArray[np.float32]] = LruCache(_MAX_PIECES)

    def encode(
        self, speech: Path, level: SpeechLevel, span: FrameSpan, should_stop: Callable[[], bool] = lambda: False
    ) -> DinetFeatures:
        """Return the windows of the frames of `span`, see `protocol.AudioEncoder`; past the end, the last row repeats.

        Raises:
            WeightsError: The network gives another number of rows than DeepSpeech does.
        """
        samples, file = open_measured(speech, level)
        statistics = self._statistics.get_or_compute(file, lambda: mean_and_deviation(samples))
        num_rows = (num_rows_of(len(samples)) + 1) // 2
        around = span.nearest_rows(_ROWS_PER_SECOND)[:, None] + np.arange(WINDOW_ROWS) - WINDOW_ROWS // 2  # (T, 5)
        rows, parts = around.clip(0, num_rows - 1), []
        piece_rows = _PIECE_STEPS // 2
        first = int(rows.min()) // piece_rows
        for index in range(first, int(rows.max()) // piece_rows + 1):
            if should_stop():
                raise CancelledJobError("Cancelled while computing audio features.")
            parts.append(self._pieces.get_or_compute((file, index), partial(self._run, samples, index, statistics)))
        windows = np.concatenate(parts)[rows - first * piece_rows].transpose(0, 2, 1)  # (T, 29, 5)
        return DinetFeatures(np.ascontiguousarray(windows), frame_gate(samples, level, span))

    def _run(self, samples: NDArray[np.int16], index: int, statistics: tuple[float, float]) -> NDArray[np.float32]:
        """(R, 29) rows of a piece, 40 ms apart."""
        num = num_rows_of(len(samples))
        first, stop = index * _PIECE_STEPS, min((index + 1) * _PIECE_STEPS, num)
        left, right = max(0, first - _CONTEXT_STEPS), min(num, stop + _CONTEXT_STEPS)
        letters = self._network(network_inputs(samples, left, right, statistics)[None], np.array([right - left]))
        if letters.size != (right - left) * _LETTERS:
            raise WeightsError(f"{self._file}: expected ({right - left}, 1, {_LETTERS}) letters, got {letters.shape}.")
        return letters.reshape(-1, _LETTERS)[first - left : stop - left : 2].copy()
