"""Audio features of MuseTalk: Whisper tiny over the fixed windows of 30 seconds into which MuseTalk cuts a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from lipwright.errors import CancelledJobError
from lipwright.media.audio import SPEECH_SAMPLE_RATE
from models.engines.base import frame_gate
from models.engines.musetalk.plan import ROWS_PER_FRAME, WhisperFeatures, first_rows
from models.engines.musetalk.weights import WHISPER
from models.engines.musetalk.whisper import (
    WHISPER_TINY,
    WINDOW_SAMPLES,
    WINDOW_SECONDS,
    WhisperEncoder,
    WhisperShape,
    encoder_tensors,
    log_mel,
)
from models.engines.protocol import ComputeResources, EngineWeights, FrameSpan
from models.engines.runtime.cache import LruCache, content_key
from models.engines.runtime.checkpoints import load_parameters, read_checkpoint
from models.engines.runtime.torch_device import open_device, repeatable
from models.speech.level import ROWS_PER_SECOND, SpeechLevel, cut_speech, open_measured_speech
from models.speech.stream import SpeechWindow

# Blocks of a job are shorter than a window: the latest ones are kept, 11.5 MB each.
_KEPT_WINDOWS: Final = 4
_NO_GATE: Final = np.zeros(0, np.float32)  # live frames are not measured
WINDOW_ROWS: Final = WINDOW_SECONDS * ROWS_PER_SECOND


class WhisperAudioEncoder:
    """Hidden states of Whisper; implements `protocol.AudioEncoder` and `LiveAudioEncoder`.

    The windows of a file start at fixed times, as in musetalk/utils/audio_processor.py, and each is encoded by itself
    (the loudest sound, which the spectrum is levelled to, is that of the window): the rows of a span are those of a
    run over the whole file, however a job is divided. After the end of the file, silence is encoded; the published
    script uses zeros in place of the last rows.
    """

    def __init__(self, encoder: WhisperEncoder) -> None:
        self._encoder = encoder.eval()
        self._device = next(encoder.parameters()).device
        self._kept: LruCache[NDArray[np.float32]] = LruCache(_KEPT_WINDOWS)

    def encode(
        self, speech: Path, level: SpeechLevel, span: FrameSpan, should_stop: Callable[[], bool] = lambda: False
    ) -> WhisperFeatures:
        """Return the rows and the gate for the frames of `span`; see `protocol.AudioEncoder.encode`."""
        samples = open_measured_speech(speech, level)
        starts = first_rows(span.fps, span.first, span.num)
        first, stop = int(starts[0]), int(starts[-1]) + ROWS_PER_FRAME
        rows = self._rows(samples, max(0, first), max(0, stop), should_stop)
        before = np.zeros((max(0, -first), *rows.shape[1:]), np.float32)
        return WhisperFeatures(first, np.concatenate([before, rows]), frame_gate(samples, level, span))

    def _rows(
        self, samples: NDArray[np.int16], first: int, stop: int, should_stop: Callable[[], bool]
    ) -> NDArray[np.float32]:
        """Rows [first, stop) as (stop - first, L, C)."""
        parts = []
        for start in range(first // WINDOW_ROWS * WINDOW_ROWS, stop, WINDOW_ROWS):
            if should_stop():
                raise CancelledJobError("Cancelled while computing audio features.")
            number = start // WINDOW_ROWS
            window = self._window(cut_speech(samples, number * WINDOW_SAMPLES, (number + 1) * WINDOW_SAMPLES))
            parts.append(window[max(first - start, 0) : stop - start])
        return np.concatenate(parts)

    def encode_live(self, window: SpeechWindow) -> WhisperFeatures:
        """Return the rows of the window, and no gate.

        Whisper encodes 30 seconds at once. Here they contain a `SpeechWindow`, 1.5 s before its frames to 240 ms after
        them, at its position in the windows of a job, and silence around it. A frame is driven by rows up to 120 ms
        after it. While all of the speech so far is in the window, the rows are those of a job.
        """
        samples = window.audible()
        num_rows = -(-len(samples) * ROWS_PER_SECOND // SPEECH_SAMPLE_RATE)
        # Silence is encoded once, wherever it is; speech is not cut where a job's windows meet.
        place = 0 if window.is_silent else min(window.first_row % WINDOW_ROWS, WINDOW_ROWS - num_rows)
        first = place * SPEECH_SAMPLE_RATE // ROWS_PER_SECOND
        rows = self._window(cut_speech(samples, -first, WINDOW_SAMPLES - first))[place : place + num_rows]
        if window.first_row == 0:  # the first frames are also driven by rows before the start, as in a job
            before = np.zeros((ROWS_PER_FRAME, *rows.shape[1:]), np.float32)
            rows = np.concatenate([before, rows])
        return WhisperFeatures(window.first_row - (ROWS_PER_FRAME if window.first_row == 0 else 0), rows, _NO_GATE)

    def _window(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1500, L, C) rows of a window of (480000,) samples in [-1, 1); the latest ones are kept."""
        return self._kept.get_or_compute(content_key(sound), lambda: self._compute(sound))

    def _compute(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        with repeatable():
            states = self._encoder(log_mel(torch.from_numpy(sound).to(self._device))[None])[0]
        rows: NDArray[np.float32] = states.float().cpu().numpy()
        return rows


def load_encoder(
    weights: EngineWeights, resources: ComputeResources, shape: WhisperShape = WHISPER_TINY
) -> WhisperEncoder:
    """Load Whisper's encoder, for `WhisperAudioEncoder`.

    Raises:
        WeightsError: The file is missing or another network's.
        ConfigError: The requested device is not available.
    """
    device = open_device(resources)
    path = weights.path(WHISPER)
    with torch.device("meta"):
        encoder = WhisperEncoder(shape)
    load_parameters(encoder, encoder_tensors(read_checkpoint(path)), "the encoder of Whisper tiny", path.name)
    return encoder.to(device)
