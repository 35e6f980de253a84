"""Audio features of the warp engine: those of its speech encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from models.engines.protocol import FrameSpan, Machine
from models.speech.features import FeatureBlock, SpeechFeatures
from models.speech.level import SpeechLevel
from models.speech.stream import SpeechWindow


class WarpAudioEncoder:
    """The speech encoder. Implements `protocol.AudioEncoder` and `protocol.LiveAudioEncoder`."""

    def __init__(self, machine: Machine) -> None:
        self._features = SpeechFeatures(num_threads=machine.num_threads, device=machine.device)
        self._features.warm()

    def encode(
        self, speech: Path, level: SpeechLevel, span: FrameSpan, should_stop: Callable[[], bool] = lambda: False
    ) -> FeatureBlock:
        """Returns the features of `span`, with the context that the network needs."""
        return self._features.extract(speech, level, span.start_seconds, span.stop_seconds, should_stop)

    def encode_live(self, window: SpeechWindow) -> FeatureBlock:
        """Returns the features of the frames of `window` and of its look-ahead."""
        return self._features.extract_window(window)
