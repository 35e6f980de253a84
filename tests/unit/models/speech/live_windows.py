"""What a live session knows of speech that comes only as far as it looks ahead."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from lipwright.media.audio import SPEECH_SAMPLE_RATE
from models.engines.protocol import FrameSpan
from models.speech.stream import LOOK_AHEAD_SECONDS, SpeechStream, SpeechWindow


def live_windows(
    speech: NDArray[np.int16], fps: Fraction, frames: range, step: int
) -> Iterator[tuple[FrameSpan, SpeechWindow]]:
    """Pieces of `step` frames, and the window of the stream when they are generated."""
    stream = SpeechStream()
    for first in range(frames.start, frames.stop, step):
        start, stop = float(first / fps), float((first + step) / fps)
        stream.push(speech[stream.num_samples : round((stop + LOOK_AHEAD_SECONDS) * SPEECH_SAMPLE_RATE)])
        yield FrameSpan(fps, first, step, first + step), stream.window(start, stop)
