"""Encodes a live stream without delay, as H.264 and Opus, and writes it as fragmented MP4, one fragment per chunk."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, NamedTuple

import numpy as np
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from numpy.typing import NDArray

from lipwright.media.labels.watermark import FrameMark
from lipwright.media.live.audio import OPUS_SAMPLES, OpusEncoder
from lipwright.media.live.mp4_boxes import AUDIO_RATE, AUDIO_TRACK, VIDEO_TRACK, ParameterSets, fragment, stream_head
from lipwright.media.output.picture import DrawPicture, draw_whole
from lipwright.media.probe import VideoInfo
from lipwright.media.writer import EncoderFrame
from lipwright.media.yuv_frame import Patch, YuvFrame

_SPS, _PPS = 7, 8
_LENGTH_BYTES: Final = 4  # of a NAL unit in a sample
_START_CODE: Final = b"\0\0\0\1"
_FOR_THE_HEAD: Final = (6, _SPS, _PPS, 9)  # SEI, parameter sets and delimiters are not stored in samples


class EncodedPictures(NamedTuple):
    """Consecutive encoded frames.

    Attributes:
        frames: One MP4 sample per frame: length-prefixed NAL units.
        headers: Equal for all frames of the same size, rate, colour and settings.
        is_key: Whether the first frame is a keyframe, so that decoding can begin with it.
    """

    frames: tuple[bytes, ...]
    headers: ParameterSets
    is_key: bool = True

    def byte_streams(self) -> Iterator[bytes]:
        """Yield each frame as a byte stream (ITU-T H.264, annex B); a keyframe carries its parameter sets."""
        units = [self.headers.sps, self.headers.pps] if self.is_key else []
        for frame in self.frames:
            place = 0
            while place < len(frame):
                start = place + _LENGTH_BYTES
                place = start + int.from_bytes(frame[place:start], "big")
                units.append(frame[start:place])
            yield b"".join(_START_CODE + unit for unit in units)
            units = []


class LiveEncoder:
    """Encodes a stream without B-frames or look-ahead, so without delay. It begins with a keyframe.

    Args:
        info: Size, rate and colour.
        crf: x264 constant rate factor.
        preset: x264 preset.
        marks: Drawn on every picture.
    """

    def __init__(self, info: VideoInfo, crf: int, preset: str, marks: Sequence[FrameMark] = ()) -> None:
        self._marks = marks
        context = VideoCodecContext.create("libx264", "w")
        self._frame = EncoderFrame(context, info)
        context.framerate = info.fps
        context.thread_count = 1
        context.flags |= Flags.global_header
        context.options = {
            "crf": str(crf),
            "preset": preset,
            "tune": "zerolatency",
            "forced-idr": "1",
            "x264-params": "stitchable=1:open-gop=0:scenecut=0:keyint=infinite",
        }
        context.open()
        units = {unit[0] & 31: unit for unit in _units(context.extradata or b"")}
        self._headers = ParameterSets(units[_SPS], units[_PPS])
        self._context = context
        self._frames: list[bytes] = []
        self._num_frames = 0
        self._is_key_due = self._is_key = True

    def begin_with_key(self) -> None:
        """Make the next frame a keyframe, which does not depend on earlier frames."""
        self._is_key_due = True

    def write(self, planes: YuvFrame, patches: Sequence[Patch] = (), draw: DrawPicture = draw_whole) -> None:
        """Encode the picture that `draw` makes of a frame and its faces; see `EncoderFrame.filled`."""
        picture = self._frame.filled(self._num_frames, planes, patches, self._marks, draw)
        picture.pict_type = PictureType.I if self._is_key_due else PictureType.NONE
        if not self._frames:
            self._is_key = self._is_key_due
        self._is_key_due = False
        self._num_frames += 1
        for packet in self._context.encode(picture):
            units = (unit for unit in _units(bytes(packet)) if unit[0] & 31 not in _FOR_THE_HEAD)
            self._frames.append(b"".join(len(unit).to_bytes(_LENGTH_BYTES, "big") + unit for unit in units))

    def finish(self) -> EncodedPictures:
        """Return the frames written since the last call; ValueError if there are none."""
        if not self._frames:
            raise ValueError("Expected at least one frame, got none.")
        frames, self._frames = self._frames, []
        return EncodedPictures(tuple(frames), self._headers, self._is_key)


def _units(stream: bytes) -> list[bytes]:
    """Return the NAL units of a byte stream (ITU-T H.264, annex B) without trailing zeros."""
    return [unit for part in stream.split(b"\0\0\1") if (unit := part.rstrip(b"\0"))]


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
