"""Speech level of a file, as a whole and per feature row, and of live speech over the last 30 seconds.

A speech file is 16 kHz mono int16 in a .npy file (`lipwright.media.audio.extract_speech`). It may be hours long, so it
is memory-mapped and read in pieces. `measure_level` computes everything that depends on the whole file in one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import MediaError
from lipwright.media.array_files import load_array
from lipwright.media.audio import SPEECH_SAMPLE_RATE

ROWS_PER_SECOND = 50
MEL_HOP_SAMPLES = 160

# Power is averaged over pieces of 5 ms, from which the 25 ms frames of the level and the 40 ms frames of the gate are
# built: 9 MB for three hours.
_PIECE_SAMPLES = 80
_LEVEL_PIECES = 5
_ROW_PIECES = SPEECH_SAMPLE_RATE // ROWS_PER_SECOND // _PIECE_SAMPLES
_PIECES_AT_A_TIME = 8192
_PIECES_PER_MAP = 4 * _PIECES_AT_A_TIME  # 5 MB
# Quantiles are taken per 30 s window and the maximum is used, because a long recording may be mostly silence.
_WINDOW_SECONDS = 30
_WINDOW_PIECES = _WINDOW_SECONDS * SPEECH_SAMPLE_RATE // _PIECE_SAMPLES
# The loud part of the speech (within 30 dB of the loudest frames) is scaled to an RMS of 0.1, by at most 30 dB.
_LOUDEST, _ACTIVE_POWER, _TARGET_RMS, _MAX_GAIN = 0.98, 1e-3, 0.1, 10**1.5
SPEECH_QUANTILE: Final = 0.95  # of the row levels of a recording: the level of its speech
_TINY_POWER = 1e-12


@dataclass(frozen=True)
class SpeechLevel:
    """Level of a whole speech file.

    Attributes:
        num_samples: Samples in the file, at 16 kHz.
        gain: Factor that scales the speech to the level the network was trained at.
        speech_db: Level of the loud speech in dBFS, the reference of `models.speech.activity`.
    """

    num_samples: int
    gain: float
    speech_db: float

    @property
    def num_rows(self) -> int:
        """Number of feature rows of the whole file, 20 ms apart; at least 1."""
        return max(1, (self.num_samples // MEL_HOP_SAMPLES + 1) // 2)


def open_speech(speech: Path) -> NDArray[np.int16]:
    """Map a speech file into memory.

    Args:
        speech: .npy file of 16 kHz mono int16.

    Returns:
        (N,) int16, read-only.

    Raises:
        MediaError: The file is not such an array, or is empty.
    """
    try:
        samples: NDArray[np.int16] = load_array(speech, "r")
    except (OSError, ValueError) as error:
        raise MediaError(f"Cannot read the speech file {speech.name}: {error}") from error
    if samples.ndim != 1 or samples.dtype != np.int16 or not len(samples):
        raise MediaError(f"Expected (N,) int16 in {speech.name}, got {samples.shape = }, {samples.dtype = }.")
    return samples


def open_measured_speech(speech: Path, level: SpeechLevel) -> NDArray[np.int16]:
    """Map a speech file into memory, the one whose level was measured.

    Args:
        speech: .npy file of 16 kHz mono int16.
        level: What `measure_level` returned for it.

    Returns:
        (N,) int16, read-only.

    Raises:
        MediaError: The file cannot be read, or has another length than the one that was measured.
    """
    samples = open_speech(speech)
    if len(samples) != level.num_samples:
        raise MediaError(f"Expected {level.num_samples} samples in {speech.name}, found {len(samples)}.")
    return samples


def cut_speech(samples: NDArray[np.int16], start: int, stop: int) -> NDArray[np.float32]:
    """Return samples [start, stop) as (stop - start,) float32 in [-1, 1), with zeros outside the file."""
    inside = samples[max(0, start) : max(0, stop)]
    cut = np.zeros(stop - start, np.float32)
    offset = max(0, -start)
    cut[offset : offset + len(inside)] = inside / np.float32(32768)
    return cut


def measure_level(speech: Path) -> SpeechLevel:
    """Measure a whole speech file in one pass.

    Args:
        speech: .npy file of 16 kHz mono int16.

    Raises:
        MediaError: The file is not such an array, or is empty.
    """
    num_samples = len(open_speech(speech))
    num_pieces = ceil(num_samples / _PIECE_SAMPLES)
    # Pages that were read count as memory of the process until they are unmapped.
    powers = np.concatenate(
        [
            _piece_powers(open_speech(speech), first, min(first + _PIECES_PER_MAP, num_pieces))
            for first in range(0, num_pieces, _PIECES_PER_MAP)
        ]
    )
    frames = _frame_means(powers, _LEVEL_PIECES, _LEVEL_PIECES)
    around = np.pad(powers, (_ROW_PIECES // 2, 3 * _ROW_PIECES // 2))
    return SpeechLevel(
        num_samples=num_samples,
        gain=gain_for(loud_rms(frames)),
        speech_db=_loudest_quantile(_row_levels(around), SPEECH_QUANTILE, _WINDOW_PIECES // _ROW_PIECES),
    )


def loud_rms(powers: NDArray[np.float32]) -> float:
    """Return the RMS of the loud part of speech.

    Args:
        powers: (N,) mean squares of frames of 25 ms, at least one.
    """
    loudest = _loudest_quantile(powers, _LOUDEST, _WINDOW_PIECES // _LEVEL_PIECES)
    return float(np.sqrt(powers[powers >= loudest * _ACTIVE_POWER].mean() + _TINY_POWER))


def gain_for(rms: float) -> float:
    """Return the factor that scales speech of this RMS to the level the network was trained at."""
    return min(_TARGET_RMS / rms, _MAX_GAIN)


def row_levels(samples: NDArray[np.int16], first: int, stop: int) -> NDArray[np.float32]:
    """Return the level of each row, over 40 ms around its middle.

    Args:
        samples: (N,) int16, the whole file.
        first: First row, 20 ms per row. Outside the file there is silence.
        stop: Row after the last.

    Returns:
        (stop - first,) float32 dBFS.
    """
    half = _ROW_PIECES // 2
    return _row_levels(_piece_powers(samples, first * _ROW_PIECES - half, stop * _ROW_PIECES + half))


def _piece_powers(samples: NDArray[np.int16], first: int, stop: int) -> NDArray[np.float32]:
    """Return the mean square of the 5 ms pieces [first, stop), zero outside the file."""
    powers = np.empty(stop - first, np.float32)
    for start in range(first, stop, _PIECES_AT_A_TIME):
        end = min(start + _PIECES_AT_A_TIME, stop)
        pieces = cut_speech(samples, start * _PIECE_SAMPLES, end * _PIECE_SAMPLES).reshape(-1, _PIECE_SAMPLES)
        powers[start - first : end - first] = np.square(pieces).mean(1)
    return powers


def _frame_means(powers: NDArray[np.float32], size: int, hop: int) -> NDArray[np.float32]:
    """Return means over frames of `size` pieces, `hop` apart; shorter input is padded to one frame."""
    padded = np.pad(powers, (0, max(0, size - len(powers))))
    means: NDArray[np.float32] = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop].mean(1)
    return means


def _row_levels(powers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the dBFS level of each row over 40 ms, from 10 ms before its time; `powers` starts there for row 0."""
    levels: NDArray[np.float32] = 10 * np.log10(_frame_means(powers, 2 * _ROW_PIECES, _ROW_PIECES) + _TINY_POWER)
    return levels


def _loudest_quantile(values: NDArray[np.float32], quantile: float, window: int) -> float:
    """Return the largest quantile over consecutive windows, each `window` to `2 * window` long (or all values)."""
    return max(float(np.quantile(part, quantile)) for part in np.array_split(values, max(1, len(values) // window)))


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
