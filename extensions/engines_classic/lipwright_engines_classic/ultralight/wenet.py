"""Audio features of generators that were trained with WeNet: (16, 512) values per 670 ms, from its streaming encoder.

data_utils/wenet_infer.py and dihuman_run.py of anliyuan/Ultralight-Digital-Human: each frame of a video at 20 fps has a
chunk of 67 frames of the filter bank, from 320 ms before it, and every chunk is encoded separately: `offset` is always
100 and both caches are always zero. So a chunk may start anywhere and does not depend on how a job is divided.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import CancelledJobError, WeightsError
from lipwright_engines_classic.ultralight.audio import UltralightFeatures, frame_rows, num_job_samples, wanted_ids
from lipwright_engines_classic.ultralight.weights import (
    ATT_CACHE_SHAPE,
    CHUNK_FRAMES,
    CNN_CACHE_SHAPE,
    NUM_WENET_FEATURES,
    OUTPUT_SHAPE,
    input_role,
    wenet_mismatch,
)
from models.engines.base import frame_gate
from models.engines.protocol import ComputeResources, FrameSpan
from models.engines.runtime.onnx import OnnxNetwork
from models.engines.weights.recognition import shape_fits
from models.speech.level import SpeechLevel, cut_speech, open_measured_speech

SAMPLE_RATE: Final = 16_000
WINDOW_SAMPLES: Final = 400
HOP_SAMPLES: Final = 160
NUM_BANDS: Final = 80
_NUM_FFT: Final = 512
_PREEMPHASIS: Final = 0.97
_POVEY_POWER: Final = 0.85
_LOWEST_HZ: Final = 20.0
_FLOOR: Final = float(np.finfo(np.float32).eps)


def fbank(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute log-mel frames, ((N - 400) // 160 + 1, 80) float32 natural logarithms, of (N,) float32 samples.

    Kaldi's filter bank, with which WeNet's encoder was trained: feat/feature-window.cc, feat/mel-computations.cc,
    feat/feature-fbank.cc with the options of data_utils/FeaturePipeline.py (anliyuan/Ultralight-Digital-Human): 16 kHz,
    25 ms frames every 10 ms, no dither, 80 bands from 20 Hz to 8 kHz, whole frames only (`snip_edges`).

    Samples are in the range of int16, N >= 400.
    """
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW_SAMPLES)[::HOP_SAMPLES].astype(np.float64)
    frames = frames - frames.mean(1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], 1)
    spectrum = np.fft.rfft((frames - _PREEMPHASIS * before) * _window(), _NUM_FFT)  # (F, 257)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    mel = power[:, : _NUM_FFT // 2] @ _bands().T
    return np.log(np.maximum(mel, _FLOOR)).astype(np.float32)


@cache
def _window() -> NDArray[np.float64]:
    """Kaldi's window: a Hann window to the power of .85, which is zero at its ends."""
    return np.asarray(np.hanning(WINDOW_SAMPLES) ** _POVEY_POWER, np.float64)


@cache
def _bands() -> NDArray[np.float64]:
    """(80, 256) triangles, evenly spaced and linear in mels; the bin of 8 kHz is in none."""
    mel = _mels(np.arange(_NUM_FFT // 2) * SAMPLE_RATE / _NUM_FFT)
    edges = np.linspace(_mels(np.array(_LOWEST_HZ)), _mels(np.array(SAMPLE_RATE / 2)), NUM_BANDS + 2)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (mel - left) / (centre - left), (right - mel) / (right - centre)
    return np.asarray(np.maximum(np.minimum(rising, falling), 0.0))


def _mels(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))


OFFSET: Final = 100
_FRAMES_BEFORE: Final = 32
_BLOCK_FRAMES: Final = 128  # the filter bank is computed in blocks that start at fixed times of the file
_CHUNKS_AT_A_TIME: Final = 100


class WenetAudioEncoder:
    """Holds the encoder, (67, 80) float32 -> (16, 512) float32; implements `protocol.AudioEncoder`."""

    def __init__(self, encoder: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        self._encoder = encoder

    def encode(
        self, speech: Path, level: SpeechLevel, span: FrameSpan, should_stop: Callable[[], bool] = lambda: False
    ) -> UltralightFeatures:
        """Return the chunks around the frames of `span`; see `protocol.AudioEncoder.encode`."""
        samples = open_measured_speech(speech, level)
        num_rows = -(-num_job_samples(len(samples), span, SAMPLE_RATE) // HOP_SAMPLES)
        ids = wanted_ids("wenet", span, num_rows)
        bank = _FilterBank(samples)
        rows = np.empty((len(ids), NUM_WENET_FEATURES), np.float32)
        for i, first in enumerate(ids):
            if i % _CHUNKS_AT_A_TIME == 0 and should_stop():
                raise CancelledJobError("Cancelled while computing audio features.")
            start = int(first) - _FRAMES_BEFORE
            rows[i] = self._encoder(bank.frames(start, start + CHUNK_FRAMES)).reshape(NUM_WENET_FEATURES)
        return UltralightFeatures("wenet", frame_rows("wenet", span), ids, rows, frame_gate(samples, level, span))


class OnnxWenet:
    """The encoder as the published ONNX file; its inputs are identified by their shapes.

    Raises:
        WeightsError: The file is missing or not such a network.
        ConfigError: The device cannot be used.
    """

    def __init__(self, path: Path, resources: ComputeResources) -> None:
        self._network = OnnxNetwork(path, resources, wenet_mismatch, lambda shape: shape_fits(shape, OUTPUT_SHAPE))
        self._roles = [input_role(shape) or "" for shape in self._network.table.inputs]
        self._always = {
            "offset": np.full(1, OFFSET),
            "att_cache": np.zeros(ATT_CACHE_SHAPE, np.float32),
            "cnn_cache": np.zeros(CNN_CACHE_SHAPE, np.float32),
        }

    def __call__(self, chunk: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (16, 512) float32 for (67, 80) float32."""
        arrays = {**self._always, "chunk": chunk[None, None]}
        answer: NDArray[np.float32] = self._network(*(arrays[role] for role in self._roles))[0]
        if answer.shape != OUTPUT_SHAPE[1:]:
            raise WeightsError(f"Expected {OUTPUT_SHAPE[1:]} from the WeNet encoder, got {answer.shape}.")
        return answer


class _FilterBank:
    """Frames of one file, computed a block at a time: frame f covers samples 160 f to 160 f + 400."""

    def __init__(self, samples: NDArray[np.int16]) -> None:
        self._samples = samples
        self._blocks: dict[int, NDArray[np.float32]] = {}

    def frames(self, start: int, stop: int) -> NDArray[np.float32]:
        """(stop - start, 80) float32; `start` may be negative."""
        first, last = start // _BLOCK_FRAMES, (stop - 1) // _BLOCK_FRAMES
        for gone in [number for number in self._blocks if number < first]:
            del self._blocks[gone]
        rows = np.concatenate([self._block(number) for number in range(first, last + 1)])
        return rows[start - first * _BLOCK_FRAMES : stop - first * _BLOCK_FRAMES]

    def _block(self, number: int) -> NDArray[np.float32]:
        if number not in self._blocks:
            start = number * _BLOCK_FRAMES * HOP_SAMPLES
            stop = start + (_BLOCK_FRAMES - 1) * HOP_SAMPLES + WINDOW_SAMPLES
            self._blocks[number] = fbank(cut_speech(self._samples, start, stop) * np.float32(32768))
        return self._blocks[number]
