"""Hears speech as HeyGem's generator wants it: windows of the wenet encoder's rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from errors import CancelledJobError, WeightsError
from models.engines.contract import FrameSpan, Machine
from models.engines.dinet.hearing.heard_speech import HeardSpeech, Kept, gate_of_frames, open_measured
from models.engines.dinet.hearing.wenet_rows import WINDOW_ROWS, ExactChunks, RowPlan, SharedContext
from models.engines.dinet.io_shapes import ENCODER_INPUTS, ENCODER_OUTPUTS
from models.engines.dinet.positional_network import PositionalNetwork
from models.speech.level import SpeechLevel

_NUM_FEATURES = 256
_MAX_PIECES = 4  # of 25 s, .6 MB each


class WenetListener:
    """Satisfies `contract.Listener`; `listen` gives `HeardSpeech` with windows of (T, 256, 20).

    Args:
        path: The encoder's .onnx export: feats [1,F,80] float32 and lengths [1] -> [1,T,256].
        machine: Where it runs.
        exact_chunks: Cut the file and stretch the rows as HeyGem does; see `models.engines.dinet.hearing.wenet_rows`.

    Raises:
        WeightsError: The file is missing or is not such a network.
        ConfigError: CUDA was asked for and is not active.
    """

    def __init__(self, path: Path, machine: Machine, *, exact_chunks: bool = False) -> None:
        self._network = PositionalNetwork(path, machine, ENCODER_INPUTS, ENCODER_OUTPUTS)
        self._file = path.name
        self._is_exact = exact_chunks
        self._pieces: Kept[NDArray[np.float32]] = Kept(_MAX_PIECES)

    def listen(
        self, speech: Path, level: SpeechLevel, span: FrameSpan, should_stop: Callable[[], bool] = lambda: False
    ) -> HeardSpeech:
        """Return the windows of the frames of `span`, see `contract.Listener`.

        Raises:
            MediaError: The file is not the one that was measured.
            CancelledJobError: `should_stop` said so.
            WeightsError: The encoder gives another number of rows than wenet's does.
        """
        samples, file = open_measured(speech, level)
        rows_of = ExactChunks.of if self._is_exact else SharedContext.of
        plan: RowPlan = rows_of(level.num_samples, span)
        first = plan.first_rows(np.arange(span.first, span.stop))  # (T,)
        rows = (first[:, None] + np.arange(WINDOW_ROWS)).clip(max=max(0, plan.num_rows - 1))  # (T, 20)
        start, parts = plan.piece_of(int(rows.min())), []
        for index in range(start, plan.piece_of(int(rows.max())) + 1):
            if should_stop():
                raise CancelledJobError("The speech was not listened to until its end.")
            make = partial(self._run, plan, samples, index)
            parts.append(self._pieces.get((file, plan, index), make))
        heard = np.concatenate(parts)
        windows = heard[rows - plan.piece_start(start)].transpose(0, 2, 1)  # (T, 256, 20)
        return HeardSpeech(np.ascontiguousarray(windows), gate_of_frames(samples, level, span))

    def _run(self, plan: RowPlan, samples: NDArray[np.int16], index: int) -> NDArray[np.float32]:
        """(stop - first, 256) rows of a piece."""
        piece = plan.piece(samples, index)
        (rows, *_) = self._network(piece.mel[None], np.array([len(piece.mel)]))
        wanted = piece.offset + piece.stop - piece.first
        if rows.shape[1] < wanted or rows.shape[2] != _NUM_FEATURES:
            expected = f"(1, {wanted} or more, {_NUM_FEATURES})"
            raise WeightsError(f"{self._file}: expected {expected} of {len(piece.mel)} mel frames, got {rows.shape}.")
        return rows[0, piece.offset : wanted].copy()
