"""Audio features of HeyGem's generator: windows of rows of its WeNet encoder.

The encoder reads log-mel frames every 10 ms. Constants of HeyGem-Linux-Python-Hack, wenet/tools/_extract_feats.py and
train_conformer_multi_cn.yaml: preemphasis 0.97, Hann window of 800 samples in an FFT of 1024, 160 samples per frame, 80
Slaney bands from 0 to 8000 Hz of the power, 10 log10(p + 1e-5) - 20. It is not Kaldi's filter bank, and it is not
normalised by statistics. Mel frame m is at sample 160 m - 6400 of the file: the encoder gets 0.4 s of silence first.

The encoder makes one row from every four mel frames (two convolutions of 3 with stride 2, no padding): row r covers mel
frames 4 r to 4 r + 6, and F mel frames make ((F - 1) // 2 - 1) // 2 rows. The 20 rows around its time drive a frame:
rows i to i + 19 for frame i at 25 fps, because of the silence ahead of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import CancelledJobError, WeightsError
from lipwright.media.audio import SPEECH_SAMPLE_RATE
from lipwright_engines_classic.dinet.engine import DinetFeatures, open_measured
from lipwright_engines_classic.dinet.weights import wenet_mismatch
from models.engines.base import frame_gate
from models.engines.protocol import ComputeResources, FrameSpan
from models.engines.runtime.cache import LruCache
from models.engines.runtime.onnx import OnnxNetwork
from models.speech.features import mel_bank
from models.speech.level import SpeechLevel, cut_speech

PADDING_SAMPLES: Final = 6400
MEL_HOP: Final = 160
_FFT, _WINDOW, _PREEMPHASIS, _TINY_POWER, _REFERENCE_DB = 1024, 800, 0.97, 1e-5, 20


def mel_of_file(samples: NDArray[np.int16], first: int, stop: int) -> NDArray[np.float32]:
    """Compute mel frames [first, stop) of a whole file, (N,) int16 at 16 kHz, as (stop - first, 80) float32.

    Outside of the file there is silence; a frame does not depend on the range.
    """
    start = first * MEL_HOP - PADDING_SAMPLES - _FFT // 2
    end = (stop - 1) * MEL_HOP - PADDING_SAMPLES + _FFT // 2
    sound = cut_speech(samples, start - 1, end)
    return _mel_of_frames(sound[1:] - np.float32(_PREEMPHASIS) * sound[:-1])


def mel_of_chunk(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the (1 + S // 160, 80) float32 mel frames of one chunk as HeyGem does.

    Args:
        sound: (S,) float32 in [-1, 1), more than 512 samples: those before the chunk count as silence, and the edges
            are mirrored.
    """
    lifted = sound.copy()
    lifted[1:] -= np.float32(_PREEMPHASIS) * sound[:-1]
    return _mel_of_frames(np.pad(lifted, _FFT // 2, mode="reflect"))


def _mel_of_frames(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    import librosa  # takes seconds, and only one process of the graph needs it

    spectrum = librosa.stft(sound, n_fft=_FFT, hop_length=MEL_HOP, win_length=_WINDOW, window="hann", center=False)
    power = mel_bank(_FFT) @ (np.square(spectrum.real) + np.square(spectrum.imag))  # (80, M)
    return np.ascontiguousarray(10 * np.log10(power.T + _TINY_POWER) - _REFERENCE_DB, np.float32)


WINDOW_ROWS: Final = 20
"""Rows that drive a frame: 0.8 s."""
_ROWS_PER_SECOND = 25
_PIECE_ROWS, _CONTEXT_ROWS = 625, 125
_CHUNK_SAMPLES, _SHORT_SAMPLES, _SHORT_ROWS = 560_000, 16_000, 25


def num_rows_of(num_mel: int) -> int:
    """Return how many rows the encoder makes of `num_mel` mel frames."""
    return max(0, ((num_mel - 1) // 2 - 1) // 2)


@dataclass(frozen=True)
class Piece:
    """One run of the encoder."""

    first: int  # first row that it is run for
    stop: int  # row after the last
    mel: NDArray[np.float32]  # (F, 80) its input
    offset: int  # how many of its rows come before `first`


@dataclass(frozen=True)
class SharedContext:
    """Keeps every row at its own time, and gives each piece 5 s of context on either side.

    Borders then have no effect: the convolutions of the encoder's twelve blocks reach 12 x 7 rows, 3.4 s.
    """

    num_rows: int  # rows of the file and the job

    @classmethod
    def of(cls, num_samples: int, span: FrameSpan) -> SharedContext:
        """Plan a job over a file of `num_samples`; past its end there is silence."""
        in_file = num_rows_of(1 + (num_samples + 2 * PADDING_SAMPLES) // MEL_HOP)
        (last,) = cls(0).first_rows(FrameSpan(span.fps, span.total - 1, 1, span.total))
        return cls(max(in_file, int(last) + WINDOW_ROWS))

    def first_rows(self, span: FrameSpan) -> NDArray[np.int64]:
        """Return the first of the 20 rows that drive each of T frames: the nearest in time."""
        return span.nearest_rows(_ROWS_PER_SECOND)

    def piece_of(self, row: int) -> int:
        """Return the piece that a row is computed from."""
        return row // _PIECE_ROWS

    def piece_start(self, index: int) -> int:
        """Return the first row of a piece."""
        return index * _PIECE_ROWS

    def piece(self, samples: NDArray[np.int16], index: int) -> Piece:
        """Return the encoder's input: a piece with its context."""
        first, stop = index * _PIECE_ROWS, min((index + 1) * _PIECE_ROWS, self.num_rows)
        left, right = max(0, first - _CONTEXT_ROWS), min(self.num_rows, stop + _CONTEXT_ROWS)
        return Piece(first, stop, mel_of_file(samples, 4 * left, 4 * right + 3), first - left)


@dataclass(frozen=True)
class ExactChunks:
    """Computes and stretches rows as HeyGem does (wenet/compute_ctc_att_bnf.py).

    HeyGem runs the encoder on separate pieces of 35 s, which loses a row at each border, and stretches the resulting
    rows over all frames of the job.
    """

    num_rows: int  # rows of all chunks
    num_frames: int  # frames of the speech
    num_padded: int  # samples with the silence at both ends

    @classmethod
    def of(cls, num_samples: int, span: FrameSpan) -> ExactChunks:
        """Plan a job over a file of `num_samples`; past its end, the last window is repeated."""
        num_padded = num_samples + 2 * PADDING_SAMPLES
        full, tail = divmod(num_padded, _CHUNK_SAMPLES)
        num_rows = full * _chunk_rows(_CHUNK_SAMPLES) + (_chunk_rows(tail) if tail else 0)
        return cls(num_rows, int(num_samples * span.fps / SPEECH_SAMPLE_RATE), num_padded)

    def first_rows(self, span: FrameSpan) -> NDArray[np.int64]:
        """Return the first of the 20 rows that drive each of T frames, in HeyGem's floating point."""
        frames = np.arange(span.first, span.stop)
        last = max(1, self.num_frames - 1)  # a single frame uses the start
        stretch = frames.clip(0, max(0, self.num_frames - 1)) / last * max(0, self.num_rows - WINDOW_ROWS)
        return stretch.astype(np.int64)

    def piece_of(self, row: int) -> int:
        """Return the chunk that a row is computed from."""
        return row // _chunk_rows(_CHUNK_SAMPLES)

    def piece_start(self, index: int) -> int:
        """Return the first row of a chunk."""
        return index * _chunk_rows(_CHUNK_SAMPLES)

    def piece(self, samples: NDArray[np.int16], index: int) -> Piece:
        """Return the encoder's input: 35 s, or the rest."""
        start = index * _CHUNK_SAMPLES
        size = min(_CHUNK_SAMPLES, self.num_padded - start)
        filled = size + _SHORT_SAMPLES if size < _SHORT_SAMPLES else size
        sound = np.zeros(filled, np.float32)
        sound[:size] = cut_speech(samples, start - PADDING_SAMPLES, start - PADDING_SAMPLES + size)
        first = self.piece_start(index)
        return Piece(first, first + _chunk_rows(size), mel_of_chunk(sound), 0)


RowPlan = SharedContext | ExactChunks
"""How the rows of one job are computed."""


def _chunk_rows(num_samples: int) -> int:
    if num_samples < _SHORT_SAMPLES:
        return max(0, num_rows_of(1 + (num_samples + _SHORT_SAMPLES) // MEL_HOP) - _SHORT_ROWS)
    return num_rows_of(1 + num_samples // MEL_HOP)


_NUM_FEATURES = 256
_MAX_PIECES = 4  # of 25 s, .6 MB each


class WenetAudioEncoder:
    """Implements `protocol.AudioEncoder`; `encode` gives `DinetFeatures` with windows of (T, 256, 20).

    The file is an .onnx export: feats [1,F,80] float32 and lengths [1] -> [1,T,256]. `exact_chunks` cuts the speech and
    stretches the rows as HeyGem does.

    Raises:
        WeightsError: The file is missing or is not such a network.
        ConfigError: CUDA was requested but is not available.
    """

    def __init__(self, path: Path, resources: ComputeResources, *, exact_chunks: bool = False) -> None:
        self._network = OnnxNetwork(path, resources, wenet_mismatch)
        self._file = path.name
        self._is_exact = exact_chunks
        self._pieces: LruCache[NDArray[np.float32]] = LruCache(_MAX_PIECES)

    def encode(
        self, speech: Path, level: SpeechLevel, span: FrameSpan, should_stop: Callable[[], bool] = lambda: False
    ) -> DinetFeatures:
        """Return the windows of the frames of `span`, see `protocol.AudioEncoder`.

        Raises:
            WeightsError: The encoder gives another number of rows than wenet's does.
        """
        samples, file = open_measured(speech, level)
        job = level.num_samples, span
        plan: RowPlan = ExactChunks.of(*job) if self._is_exact else SharedContext.of(*job)
        first = plan.first_rows(span)  # (T,)
        rows = (first[:, None] + np.arange(WINDOW_ROWS)).clip(max=max(0, plan.num_rows - 1))  # (T, 20)
        start, parts = plan.piece_of(int(rows.min())), []
        for index in range(start, plan.piece_of(int(rows.max())) + 1):
            if should_stop():
                raise CancelledJobError("Cancelled while computing audio features.")
            make = partial(self._run, plan, samples, index)
            parts.append(self._pieces.get_or_compute((file, plan, index), make))
        heard = np.concatenate(parts)
        windows = heard[rows - plan.piece_start(start)].transpose(0, 2, 1)  # (T, 256, 20)
        return DinetFeatures(np.ascontiguousarray(windows), frame_gate(samples, level, span))

    def _run(self, plan: RowPlan, samples: NDArray[np.int16], index: int) -> NDArray[np.float32]:
        """(stop - first, 256) rows of a piece."""
        piece = plan.piece(samples, index)
        rows = self._network(piece.mel[None], np.array([len(piece.mel)]))
        wanted = piece.offset + piece.stop - piece.first
        if rows.shape[1] < wanted or rows.shape[2] != _NUM_FEATURES:
            expected = f"(1, {wanted} or more, {_NUM_FEATURES})"
            raise WeightsError(f"{self._file}: expected {expected} of {len(piece.mel)} mel frames, got {rows.shape}.")
        return rows[0, piece.offset : wanted].copy()
