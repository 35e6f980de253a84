"""Hears speech as the original DINet wants it: windows of DeepSpeech's letters.

The network of DeepSpeech 0.1 runs through the whole file forwards and backwards. A file may be hours long, so it is run
on pieces of 20 s with 2 s to either side: a file of up to 20 s is heard as the published script hears it, and what is
normalised is normalised by the whole file always.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from errors import CancelledJobError, WeightsError
from models.engines.contract import FrameSpan, Machine
from models.engines.dinet.hearing.deepspeech_mfcc import mean_and_deviation, network_inputs, num_rows_of
from models.engines.dinet.hearing.heard_speech import HeardSpeech, Kept, gate_of_frames, open_measured
from models.engines.dinet.io_shapes import DEEPSPEECH_INPUTS, DEEPSPEECH_OUTPUTS
from models.engines.dinet.positional_network import PositionalNetwork
from models.speech.level import SpeechLevel

WINDOW_ROWS: Final = 5
"""Rows of letters, 40 ms apart, that a frame hears: its own and two to either side."""
_LETTERS = 29
_PIECE_STEPS, _CONTEXT_STEPS = 1000, 100  # 20 ms each, even
_ROWS_PER_SECOND = 25
_MAX_PIECES, _MAX_FILES = 4, 8


class DeepSpeechListener:
    """Satisfies `contract.Listener`; `listen` gives `HeardSpeech` with windows of (T, 29, 5).

    Args:
        path: An .onnx export of DeepSpeech 0.1: [1,T,494] float32 and lengths [1] -> [T,1,29].
        machine: Where it runs.

    Raises:
        WeightsError: The file is missing or is not such a network.
        ConfigError: CUDA was asked for and is not active.
    """

    def __init__(self, path: Path, machine: Machine) -> None:
        self._network = PositionalNetwork(path, machine, DEEPSPEECH_INPUTS, DEEPSPEECH_OUTPUTS)
        self._file = path.name
        self._statistics: Kept[tuple[float, float]] = Kept(_MAX_FILES)
        self._pieces: Kept[NDArray[np.float32]] = Kept(_MAX_PIECES)

    def listen(
        self, speech: Path, level: SpeechLevel, span: FrameSpan, should_stop: Callable[[], bool] = lambda: False
    ) -> HeardSpeech:
        """Return the windows of the frames of `span`, see `contract.Listener`; past the file its last row holds on.

        Raises:
            MediaError: The file is not the one that was measured.
            CancelledJobError: `should_stop` said so.
            WeightsError: The network gives another number of rows than DeepSpeech does.
        """
        samples, file = open_measured(speech, level)
        statistics = self._statistics.get(file, lambda: mean_and_deviation(samples))
        num_rows = (num_rows_of(len(samples)) + 1) // 2
        frames = np.arange(span.first, span.stop)
        nearest = (frames * 2 * _ROWS_PER_SECOND * span.fps.denominator + span.fps.numerator) // (
            2 * span.fps.numerator
        )
        around = nearest[:, None] + np.arange(WINDOW_ROWS) - WINDOW_ROWS // 2  # (T, 5)
        rows, parts = around.clip(0, num_rows - 1), []
        piece_rows = _PIECE_STEPS // 2
        first = int(rows.min()) // piece_rows
        for index in range(first, int(rows.max()) // piece_rows + 1):
            if should_stop():
                raise CancelledJobError("The speech was not listened to until its end.")
            parts.append(self._pieces.get((file, index), partial(self._run, samples, index, statistics)))
        windows = np.concatenate(parts)[rows - first * piece_rows].transpose(0, 2, 1)  # (T, 29, 5)
        return HeardSpeech(np.ascontiguousarray(windows), gate_of_frames(samples, level, span))

    def _run(self, samples: NDArray[np.int16], index: int, statistics: tuple[float, float]) -> NDArray[np.float32]:
        """(R, 29) rows of a piece, 40 ms apart."""
        num = num_rows_of(len(samples))
        first, stop = index * _PIECE_STEPS, min((index + 1) * _PIECE_STEPS, num)
        left, right = max(0, first - _CONTEXT_STEPS), min(num, stop + _CONTEXT_STEPS)
        (letters, *_) = self._network(network_inputs(samples, left, right, statistics)[None], np.array([right - left]))
        if letters.size != (right - left) * _LETTERS:
            raise WeightsError(f"{self._file}: expected ({right - left}, 1, {_LETTERS}) letters, got {letters.shape}.")
        return letters.reshape(-1, _LETTERS)[first - left : stop - left : 2].copy()
