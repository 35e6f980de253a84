"""Speech -> HuBERT: 1024 numbers every 20 ms, from the network that the user adds.

Hsu et al., "HuBERT", 2021; facebook/hubert-large-ls960-ft through data_utils/hubert.py of
anliyuan/Ultralight-Digital-Human: the whole file to mean 0 and variance 1 (Wav2Vec2FeatureExtractor of transformers,
`zero_mean_unit_var_norm`), 20 seconds at a time, of which row r sees samples 320 r to 320 r + 400.

There the pieces of 20 seconds do not overlap, so both sides of each border lack context. Here they overlap by a second
on either side, which is discarded. They start at fixed times of the file, so that every row is the same however a job
is divided.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import CancelledJobError, WeightsError
from lipwright_engines_classic.ultralight.audio import UltralightFeatures, frame_rows, num_job_samples, wanted_ids
from lipwright_engines_classic.ultralight.weights import NUM_HUBERT_FEATURES, hubert_mismatch, is_hubert_output
from models.engines.base import frame_gate
from models.engines.protocol import ComputeResources, FrameSpan
from models.engines.runtime.cache import LruCache, content_key
from models.engines.runtime.checkpoints import file_format
from models.engines.runtime.onnx import OnnxNetwork
from models.speech.level import SpeechLevel, cut_speech, open_measured_speech

SAMPLE_RATE: Final = 16_000
_ROW_SAMPLES, _ROW_HOP = 400, 320
_WINDOW_ROWS, _MARGIN_ROWS = 900, 50
_VARIANCE_FLOOR: Final = 1e-7
_SAMPLES_AT_A_TIME: Final = 1 << 20


WaveNetwork = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A HuBERT network: (N,) float32 at 16 kHz -> (T, 1024) float32, T = (N - 80) // 320."""


class HubertAudioEncoder:
    """Holds a HuBERT; implements `protocol.AudioEncoder`."""

    def __init__(self, network: WaveNetwork) -> None:
        self._network = network
        self._rows: LruCache[NDArray[np.float32]] = LruCache(1)

    def encode(
        self, speech: Path, level: SpeechLevel, span: FrameSpan, should_stop: Callable[[], bool] = lambda: False
    ) -> UltralightFeatures:
        """Return the rows around the frames of `span`; see `protocol.AudioEncoder.encode`.

        Raises:
            WeightsError: The output of the network is not that of HuBERT.
        """
        samples = open_measured_speech(speech, level)
        num_rows = num_hubert_rows(num_job_samples(len(samples), span, SAMPLE_RATE))
        ids = wanted_ids("hubert", span, num_rows)
        mean, deviation = normal_form(samples)
        rows = np.zeros((len(ids), NUM_HUBERT_FEATURES), np.float32)
        for window in np.unique(ids // _WINDOW_ROWS):
            if should_stop():
                raise CancelledJobError("Cancelled while computing audio features.")
            here = ids // _WINDOW_ROWS == window
            start = max(0, int(window) * _WINDOW_ROWS - _MARGIN_ROWS)
            stop = min(num_rows, (int(window) + 1) * _WINDOW_ROWS + _MARGIN_ROWS)
            wave = cut_speech(samples, start * _ROW_HOP, (stop - 1) * _ROW_HOP + _ROW_SAMPLES)
            rows[here] = self._run((wave - mean) / deviation, stop - start)[ids[here] - start]
        return UltralightFeatures("hubert", frame_rows("hubert", span), ids, rows, frame_gate(samples, level, span))

    def _run(self, wave: NDArray[np.float32], num_rows: int) -> NDArray[np.float32]:
        """Rows of one window; the last one is cached, because the next block of a job begins in it."""
        return self._rows.get_or_compute(content_key(wave), lambda: self._compute(wave, num_rows))

    def _compute(self, wave: NDArray[np.float32], num_rows: int) -> NDArray[np.float32]:
        rows = self._network(wave)
        if rows.shape != (num_rows, NUM_HUBERT_FEATURES):
            raise WeightsError(
                f"Expected ({num_rows}, {NUM_HUBERT_FEATURES}) from HuBERT for {len(wave)} samples, got {rows.shape}."
            )
        return rows


def load_hubert(path: Path, resources: ComputeResources) -> WaveNetwork:
    """Load a HuBERT file of either kind.

    Raises:
        WeightsError: It is missing, damaged or not HuBERT large.
        ConfigError: The device cannot be used.
    """
    if file_format(path) == "onnx":
        return OnnxHubert(path, resources)
    # Imported here: an ONNX network needs no PyTorch, whose import takes two seconds.
    from lipwright_engines_classic.ultralight.hubert_network import TorchHubert

    return TorchHubert(path, resources)


class OnnxHubert:
    """HuBERT as an ONNX export, made by data_utils/convert_hubert_to_onnx.py or by optimum, with its attention mask.

    Raises:
        WeightsError: The file is missing or not such a network.
        ConfigError: The device cannot be used.
    """

    def __init__(self, path: Path, resources: ComputeResources) -> None:
        self._network = OnnxNetwork(path, resources, hubert_mismatch, is_hubert_output)
        self._is_wave = [dtype == np.float32 for dtype in self._network.dtypes]
        if sum(self._is_wave) != 1:
            raise WeightsError(f"{path.name}: expected one float input and at most an integer mask.")

    def __call__(self, wave: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (T, 1024) float32 for (N,) float32."""
        heard, mask = wave[None], np.ones((1, len(wave)))
        rows: NDArray[np.float32] = self._network(*(heard if is_wave else mask for is_wave in self._is_wave))[0]
        return rows


def num_hubert_rows(num_samples: int) -> int:
    """Return the number of rows for a number of samples, at least 1: shorter audio is padded."""
    return max(1, (num_samples - (_ROW_SAMPLES - _ROW_HOP)) // _ROW_HOP)


def normal_form(samples: NDArray[np.int16]) -> tuple[np.float32, np.float32]:
    """Return the mean and the deviation of a whole file, for samples from -1 to 1; sums of integers, so exact."""
    total = squares = 0
    for start in range(0, len(samples), _SAMPLES_AT_A_TIME):
        piece = samples[start : start + _SAMPLES_AT_A_TIME].astype(np.int64)
        total += int(piece.sum())
        squares += int((piece * piece).sum())
    mean = total / len(samples) / 32768
    variance = squares / len(samples) / 32768**2 - mean * mean
    return np.float32(mean), np.float32(np.sqrt(max(variance, 0.0) + _VARIANCE_FLOOR))
