"""Writes a live session as fragmented MP4, one fragment per chunk."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from media.live.audio import OPUS_SAMPLES, OpusEncoder
from media.live.gop_encoder import EncodedGop
from media.live.mp4_boxes import AUDIO_RATE, AUDIO_TRACK, VIDEO_TRACK, fragment, stream_head
from media.probe import VideoInfo


class StreamWriter:
    """Writes the initialization segment and the fragments."""

    def __init__(self, info: VideoInfo) -> None:
        self._info = info
        self._sound = OpusEncoder()
        self._number = 0
        self._num_packets = 0

    def head(self, pictures: EncodedGop) -> tuple[str, bytes]:
        """Returns the media type and the initialization segment."""
        media_type = f'video/mp4; codecs="{pictures.headers.codec}, opus"'
        return media_type, stream_head(self._info, pictures.headers)

    def num_audio_samples(self, stop_frame: int) -> int:
        """Returns the number of 48 kHz samples up to `stop_frame`: whole packets that cover the frames."""
        return math.ceil(stop_frame * AUDIO_RATE / self._info.fps / OPUS_SAMPLES) * OPUS_SAMPLES

    def fragment(self, first_frame: int, pictures: EncodedGop, sound: NDArray[np.int16]) -> bytes:
        """Returns one fragment, whose first frame has this number in the stream.

        `sound` is (N,) int16 at 48 kHz, following the previous fragment; N is a multiple of `OPUS_SAMPLES`.
        """
        ticks = self._info.fps.denominator
        frames = [(data, ticks, number == 0) for number, data in enumerate(pictures.frames)]
        packets = [(data, OPUS_SAMPLES, True) for data in self._sound.encode(sound)]
        start = self._num_packets * OPUS_SAMPLES
        self._num_packets += len(packets)
        self._number += 1
        return fragment(self._number, [(VIDEO_TRACK, first_frame * ticks, frames), (AUDIO_TRACK, start, packets)])
