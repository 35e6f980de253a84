"""One live session as a fragmented MP4: each moment leaves as a fragment of its own, the instant that it is there."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from media.live.audio import OPUS_SAMPLES, OpusEncoder
from media.live.gop_encoder import EncodedGop
from media.live.mp4_boxes import AUDIO_RATE, AUDIO_TRACK, VIDEO_TRACK, fragment, stream_head
from media.probe import VideoInfo


class StreamWriter:
    """Writes the head and the fragments.

    Args:
        info: What the pictures are.
    """

    def __init__(self, info: VideoInfo) -> None:
        self._info = info
        self._sound = OpusEncoder()
        self._number = 0
        self._num_packets = 0
        self._delay = 0  # packets that the encoder has not given back yet

    def head(self, pictures: EncodedGop) -> tuple[str, bytes]:
        """Return the media type, and what stands before the first fragment."""
        media_type = f'video/mp4; codecs="{pictures.headers.codec}, opus"'
        return media_type, stream_head(self._info, pictures.headers)

    def num_audio_samples(self, stop_frame: int) -> int:
        """Samples at 48 kHz that the stream has up to `stop_frame`: whole packets, which cover its frames."""
        return math.ceil(stop_frame * AUDIO_RATE / self._info.fps / OPUS_SAMPLES) * OPUS_SAMPLES

    def fragment(self, first_frame: int, pictures: EncodedGop, sound: NDArray[np.int16]) -> bytes:
        """Return one fragment.

        Args:
            first_frame: Number of the first picture in the stream.
            pictures: The group.
            sound: (N,) int16 at 48 kHz, from where the last fragment ended: N a multiple of `OPUS_SAMPLES`.
        """
        ticks = self._info.fps.denominator
        frames = [(data, ticks, number == 0) for number, data in enumerate(pictures.frames)]
        packets = [(data, OPUS_SAMPLES, True) for data in self._sound.encode(sound)]
        start = self._num_packets * OPUS_SAMPLES
        self._num_packets += len(packets)
        self._number += 1
        return fragment(self._number, [(VIDEO_TRACK, first_frame * ticks, frames), (AUDIO_TRACK, start, packets)])
