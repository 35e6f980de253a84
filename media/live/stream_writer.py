"""Encodes the sound of a live session and writes its stream as fragmented MP4, one fragment per chunk."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from media.live.audio import OPUS_SAMPLES, OpusEncoder
from media.live.encoder import EncodedPictures
from media.live.mp4_boxes import AUDIO_RATE, AUDIO_TRACK, VIDEO_TRACK, fragment, stream_head
from media.probe import VideoInfo


@dataclass(frozen=True)
class LiveFragment:
    """One chunk of a live stream, encoded, for every kind of viewer.

    Attributes:
        first_frame: Number of its first frame in the stream.
        fps: Frame rate.
        pictures: The frames.
        first_sample: Number of its first sample in the stream, at 48 kHz.
        sound: (N,) int16 samples at 48 kHz; N is a multiple of `OPUS_SAMPLES`.
        opus: The same as Opus packets of 20 ms, which are `OpusEncoder`'s pre-skip late.
        mp4: Both as one fragment of an MP4.
    """

    first_frame: int
    fps: Fraction
    pictures: EncodedPictures = field(repr=False)
    first_sample: int
    sound: NDArray[np.int16] = field(repr=False)
    opus: list[bytes] = field(repr=False)
    mp4: bytes = field(repr=False)

    @property
    def start_seconds(self) -> float:
        """Stream time of the first frame."""
        return float(self.first_frame / self.fps)

    @property
    def duration_seconds(self) -> float:
        """Duration of the frames."""
        return float(len(self.pictures.frames) / self.fps)


class StreamWriter:
    """Writes the initialization segment and the fragments."""

    def __init__(self, info: VideoInfo) -> None:
        self._info = info
        self._sound = OpusEncoder()
        self._number = 0
        self._num_packets = 0

    def head(self, pictures: EncodedPictures) -> tuple[str, bytes]:
        """Return the media type and the initialization segment."""
        media_type = f'video/mp4; codecs="{pictures.headers.codec}, opus"'
        return media_type, stream_head(self._info, pictures.headers)

    def num_audio_samples(self, stop_frame: int) -> int:
        """Return the number of 48 kHz samples up to `stop_frame`: whole packets that cover the frames."""
        return math.ceil(stop_frame * AUDIO_RATE / self._info.fps / OPUS_SAMPLES) * OPUS_SAMPLES

    def fragment(self, first_frame: int, pictures: EncodedPictures, sound: NDArray[np.int16]) -> LiveFragment:
        """Return one fragment, whose first frame has this number in the stream.

        `sound` is (N,) int16 at 48 kHz, following the previous fragment; N is a multiple of `OPUS_SAMPLES`.
        """
        fps = self._info.fps
        frames = [
            (data, fps.denominator, number == 0 and pictures.is_key) for number, data in enumerate(pictures.frames)
        ]
        opus = self._sound.encode(sound)
        packets = [(data, OPUS_SAMPLES, True) for data in opus]
        start = self._num_packets * OPUS_SAMPLES
        self._num_packets += len(packets)
        self._number += 1
        tracks = [(VIDEO_TRACK, first_frame * fps.denominator, frames), (AUDIO_TRACK, start, packets)]
        return LiveFragment(first_frame, fps, pictures, start, sound, opus, fragment(self._number, tracks))
