"""The mel spectrum that Wav2Lip was trained on, as audio features "mel80", and the windows of it that drive each frame.

There are 80 columns per second; column m is centred at m / 80 seconds of the file. Source of all constants:
Rudrabha/Wav2Lip, hparams.py and audio.py (its filter bank is librosa's: Slaney's scale and area). Columns are computed
in blocks at fixed positions of the file, so that a column has the same bytes in every requested range: array libraries
compute the last few values of an array differently from the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import CancelledJobError
from lipwright.media.audio import SPEECH_SAMPLE_RATE
from models.engines.base import frame_gate
from models.engines.paste.crop import BoxPlan
from models.engines.protocol import FrameSpan
from models.engines.wav2lip.weights import MEL_BANDS, WINDOW_COLUMNS
from models.speech.features import mel_bank
from models.speech.level import ROWS_PER_SECOND, SpeechLevel, open_measured_speech
from models.speech.stream import SpeechWindow

HOP_SAMPLES: Final = 200
COLUMNS_PER_SECOND: Final = SPEECH_SAMPLE_RATE // HOP_SAMPLES
SILENCE: Final = -4.0
"""Value of all bands in silence: the lower end of the scale from -4 to 4."""

_FFT_SAMPLES: Final = 800
_PREEMPHASIS: Final = 0.97
_LOWEST_HZ, _HIGHEST_HZ = 55.0, 7600.0
_TINY, _REFERENCE_DB, _RANGE_DB, _HALF_SCALE = 1e-5, 20.0, 100.0, 4.0
_BLOCK_COLUMNS: Final = 160  # two seconds


def num_columns(num_samples: int) -> int:
    """Return how many columns a file of 16 kHz samples has."""
    return 1 + num_samples // HOP_SAMPLES


def mel_columns(
    samples: NDArray[np.int16], first: int, stop: int, should_stop: Callable[[], bool] = lambda: False
) -> NDArray[np.float32]:
    """Compute columns [first, stop) of a file; before its start and after its end there is silence.

    Args:
        samples: (N,) int16 mono at 16 kHz, N > 0, the whole file.
        first: First column, may be negative.
        stop: Column after the last.
        should_stop: Checked every two seconds of speech.

    Returns:
        (stop - first, 80) float32, -4 to 4.

    Raises:
        CancelledJobError: `should_stop` returned True.
    """
    columns = np.full((stop - first, MEL_BANDS), SILENCE, np.float32)
    end = min(stop, num_columns(len(samples)))
    if first >= end:
        return columns
    for start in range(max(first, 0) // _BLOCK_COLUMNS * _BLOCK_COLUMNS, end, _BLOCK_COLUMNS):
        if should_stop():
            raise CancelledJobError("Cancelled while computing audio features.")
        block = _block(samples, start)
        low, high = max(start, first), min(start + _BLOCK_COLUMNS, end)
        columns[low - first : high - first] = block[low - start : high - start]
    return columns


def _block(samples: NDArray[np.int16], first: int) -> NDArray[np.float32]:
    """(160, 80) columns from `first` on; those past the end of the file are not used."""
    half = _FFT_SAMPLES // 2
    start, num = first * HOP_SAMPLES - half, (_BLOCK_COLUMNS - 1) * HOP_SAMPLES + _FFT_SAMPLES
    # At both ends the emphasised signal is mirrored about its outermost sample, as librosa 0.8 did.
    emphasised = _emphasise(samples, _mirror(np.arange(start, start + num), len(samples)))
    frames = np.lib.stride_tricks.sliding_window_view(emphasised, _FFT_SAMPLES)[::HOP_SAMPLES]  # (160, 800)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FFT_SAMPLES) / _FFT_SAMPLES)  # periodic Hann
    magnitude = np.abs(np.fft.rfft(frames * window))  # (160, 401)
    bank = mel_bank(_FFT_SAMPLES, _LOWEST_HZ, _HIGHEST_HZ, np.float64)  # (80, 401)
    decibels: NDArray[np.float64] = 20 * np.log10(np.maximum(_TINY, magnitude @ bank.T)) - _REFERENCE_DB
    scaled = 2 * _HALF_SCALE * (decibels + _RANGE_DB) / _RANGE_DB - _HALF_SCALE
    return scaled.clip(-_HALF_SCALE, _HALF_SCALE).astype(np.float32)


def _mirror(index: NDArray[np.int64], num: int) -> NDArray[np.int64]:
    """Indices into N values for positions that may lie before the first or after the last, mirrored there."""
    if num == 1:
        return np.zeros_like(index)
    period = 2 * (num - 1)
    folded = np.abs(index) % period
    return np.asarray(np.minimum(folded, period - folded))


def _emphasise(samples: NDArray[np.int16], index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Pre-emphasis: x[i] - 0.97 x[i - 1] at the positions `index`, for samples from -1 to 1."""
    own = samples[index].astype(np.float64)
    before = np.where(index > 0, samples[np.maximum(index - 1, 0)], 0).astype(np.float64)
    return (own - _PREEMPHASIS * before) / 32768


TRAINING_FPS: Final = 25
MAX_OFFSET: Final = 5
"""Maximum shift of the windows, in frames of 40 ms."""
_MARGIN_COLUMNS: Final = MAX_OFFSET * COLUMNS_PER_SECOND // TRAINING_FPS


def window_starts(span: FrameSpan, mel_offset: int = 0) -> NDArray[np.int64]:
    """Return the (T,) first columns of the frames' windows; negative before the start of the file.

    The official script (Rudrabha/Wav2Lip, inference.py) gives frame i the 16 columns from floor(80 i / fps) on: at 25
    fps those from 40 i to 40 i + 200 ms. The network was trained on others: `crop_audio_window` of wav2lip_train.py
    starts one frame earlier, at 40 (i - 1) ms, so that the middle of its window lies 60 ms after the start of the
    frame, not 100. The script is therefore 40 ms off: the mouth is one frame early. `mel_offset` moves the windows by
    frames of 40 ms (3.2 columns, at any frame rate): 0 matches the script, -1 the training.

    If a window reaches past the end of the file, the script uses the last 16 columns for that frame and drops all
    frames after it, up to 0.2 s. Here the missing columns are silence, and every frame of the job is generated.
    """
    # In integers: i * (80 / fps) in floating point is sometimes a column short.
    step = COLUMNS_PER_SECOND / span.fps
    shift = Fraction(mel_offset * COLUMNS_PER_SECOND, TRAINING_FPS)
    base = step.denominator * shift.denominator
    frames = np.arange(span.first, span.stop, dtype=np.int64)
    return (frames * (step.numerator * shift.denominator) + shift.numerator * step.denominator) // base


def columns_needed(span: FrameSpan) -> tuple[int, int]:
    """Return first and last + 1 of the columns that the frames of a span need with any `mel_offset`."""
    starts = window_starts(FrameSpan(span.fps, span.first, span.num, span.total))
    return int(starts[0]) - _MARGIN_COLUMNS - 1, int(starts[-1]) + _MARGIN_COLUMNS + WINDOW_COLUMNS + 1


def mel_windows(mel: NDArray[np.float32], first_column: int, starts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Cut (T, 80, 16) float32 windows, time along the last axis, out of (C, 80) columns.

    `first_column` is the number of column 0 in the file, (T,) `starts` those of the windows' first columns.
    """
    columns = starts[:, None] - first_column + np.arange(WINDOW_COLUMNS)  # (T, 16)
    if columns.min() < 0 or columns.max() >= len(mel):
        last = first_column + len(mel)
        raise ValueError(f"Expected windows in columns [{first_column}, {last}), got starts {starts[0]}..{starts[-1]}.")
    return np.ascontiguousarray(mel[columns].transpose(0, 2, 1))


@dataclass(frozen=True)
class MelFeatures:
    """Mel columns around the frames of a span."""

    first_column: int  # number of row 0 of `mel` in the whole file, may be negative
    mel: NDArray[np.float32]  # (C, 80) columns, 80 per second, -4 to 4
    # (T,) 1 in speech, 0 in silence, between them while fading; one for each frame of the span
    gate: NDArray[np.float32]


class MelAudioEncoder:
    """Computes mel columns; implements `models.engines.protocol.AudioEncoder` and `LiveAudioEncoder`."""

    def encode(
        self, speech: Path, level: SpeechLevel, span: FrameSpan, should_stop: Callable[[], bool] = lambda: False
    ) -> MelFeatures:
        """Return the columns that the frames of `span` need; see `models.engines.protocol.AudioEncoder.encode`."""
        samples = open_measured_speech(speech, level)
        first, stop = columns_needed(span)
        mel = mel_columns(samples, first, stop, should_stop)
        return MelFeatures(first, mel, frame_gate(samples, level, span))

    def encode_live(self, window: SpeechWindow) -> MelFeatures:
        """Return all columns of the window, as of a file that it is a part of, and no gate.

        With `mel_offset` 0 a frame is driven by the 200 ms after it and the 25 ms that its last column extends over,
        less than `models.speech.stream.LOOK_AHEAD_SECONDS`. With a positive offset, missing columns count as silence.
        """
        samples = window.audible()
        first = window.first_row * SPEECH_SAMPLE_RATE // ROWS_PER_SECOND
        column = -(-first // HOP_SAMPLES)  # columns start at multiples of the hop from the start of the stream
        samples = samples[column * HOP_SAMPLES - first :]
        low = 0 if first else -_MARGIN_COLUMNS - 1  # nothing comes before the start of the stream
        mel = mel_columns(samples, low, num_columns(len(samples)) + _MARGIN_COLUMNS + 1)
        return MelFeatures(column + low, mel, np.zeros(0, np.float32))


def plan_windows(features: MelFeatures, span: FrameSpan, source_index: NDArray[np.int32], mel_offset: int) -> BoxPlan:
    """Plan the T frames of a span, which show (T,) source frames; for `mel_offset` see `window_starts`."""
    windows = mel_windows(features.mel, features.first_column, window_starts(span, mel_offset))
    return BoxPlan(span.first, np.asarray(source_index, np.int32), windows)
