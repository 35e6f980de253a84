"""Encodes closed H.264 GOPs without delay, the units of a live stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from media.labels.watermark import FrameMark
from media.live.mp4_boxes import ParameterSets
from media.output.picture import DrawPicture, draw_whole
from media.probe import VideoInfo
from media.writer import EncoderFrame
from media.yuv_frame import Patch, YuvFrame

_SPS, _PPS = 7, 8
_FOR_THE_HEAD: Final = (6, _SPS, _PPS, 9)  # SEI, parameter sets and delimiters are not stored in samples


class EncodedGop(NamedTuple):
    """An encoded closed GOP.

    Attributes:
        frames: One MP4 sample per frame: length-prefixed NAL units.
        headers: Equal for all GOPs of the same size, rate, colour and settings.
    """

    frames: tuple[bytes, ...]
    headers: ParameterSets


class GopEncoder:
    """Encodes a closed GOP without B-frames or look-ahead, so without delay.

    `draw` makes its pictures from frames and faces; `marks` are drawn on every picture.
    """

    def __init__(
        self,
        info: VideoInfo,
        crf: int,
        preset: str,
        marks: Sequence[FrameMark] = (),
        draw: DrawPicture = draw_whole,
    ) -> None:
        self._marks, self._draw = marks, draw
        context = VideoCodecContext.create("libx264", "w")
        self._frame = EncoderFrame(context, info)
        context.framerate = info.fps
        context.thread_count = 1
        context.flags |= Flags.global_header
        context.options = {
            "crf": str(crf),
            "preset": preset,
            "tune": "zerolatency",
            "x264-params": "stitchable=1:open-gop=0:scenecut=0:keyint=infinite",
        }
        context.open()
        self._context = context
        self._frames: list[bytes] = []

    def write(self, planes: YuvFrame, patches: Sequence[Patch] = ()) -> None:
        """Encodes one frame; see `EncoderFrame.filled`."""
        self._take(self._frame.filled(len(self._frames), planes, patches, self._marks, self._draw))

    def finish(self) -> EncodedGop:
        """Ends the GOP and returns it; ValueError if no frame was written."""
        self._take(None)
        if not self._frames:
            raise ValueError("Expected at least one frame in a group, got none.")
        units = {unit[0] & 31: unit for unit in _units(self._context.extradata or b"")}
        return EncodedGop(tuple(self._frames), ParameterSets(units[_SPS], units[_PPS]))

    def _take(self, frame: VideoFrame | None) -> None:
        for packet in self._context.encode(frame):
            units = (unit for unit in _units(bytes(packet)) if unit[0] & 31 not in _FOR_THE_HEAD)
            self._frames.append(b"".join(len(unit).to_bytes(4, "big") + unit for unit in units))


def _units(stream: bytes) -> list[bytes]:
    """Returns the NAL units of a byte stream (ITU-T H.264, annex B) without trailing zeros."""
    return [unit for part in stream.split(b"\0\0\1") if (unit := part.rstrip(b"\0"))]
