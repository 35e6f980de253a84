"""Encodes closed H.264 GOPs without delay, the units of a live stream."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from media.labels.watermark import Watermark
from media.live.mp4_boxes import ParameterSets
from media.probe import VideoInfo
from media.yuv_frame import Patch, YuvFrame, frame_planes, paste_back

_RANGE_LIMITED: Final = 1
_RANGE_FULL: Final = 2
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
    """Encodes a closed GOP without B-frames or look-ahead, so that the encoder adds no delay.

    Args:
        info: Size, rate, colour tags and pixel aspect.
        crf: libx264 constant rate factor.
        preset: libx264 preset.
        mark: Watermark on every frame, if any.
    """

    def __init__(self, info: VideoInfo, crf: int, preset: str, mark: Watermark | None = None) -> None:
        self._mark = mark
        self._shape = (info.height, info.width)
        context = VideoCodecContext.create("libx264", "w")
        context.width, context.height, context.pix_fmt = info.width, info.height, "yuv420p"
        context.time_base, context.framerate = 1 / info.fps, info.fps
        context.sample_aspect_ratio = info.sample_aspect_ratio
        context.color_range = _RANGE_FULL if info.colour.full_range else _RANGE_LIMITED
        context.colorspace = info.colour.matrix
        context.color_primaries = info.colour.primaries
        context.color_trc = info.colour.transfer
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
        self._frame = VideoFrame(info.width, info.height, "yuv420p")
        self._frame.time_base = 1 / info.fps
        for tag in ("color_range", "colorspace", "color_primaries", "color_trc"):
            setattr(self._frame, tag, getattr(context, tag))
        self._frames: list[bytes] = []

    def write(self, planes: YuvFrame, patch: Patch | None = None) -> None:
        """Encodes one frame; `planes` is copied once, and the patch is pasted into the copy.

        Raises:
            ValueError: `planes` has a different size.
        """
        if planes.y.shape != self._shape:
            raise ValueError(f"Expected planes.y of shape {self._shape}, got {planes.y.shape = }.")
        self._frame.make_writable()
        target = frame_planes(self._frame)
        for view, plane in zip(target, planes, strict=True):
            np.copyto(view, plane)
        if patch is not None:
            paste_back(target, patch)
        if self._mark is not None:
            self._mark.draw(target)
        self._frame.pts = len(self._frames)
        self._take(self._frame)

    def finish(self) -> EncodedGop:
        """Ends the GOP and returns it.

        Raises:
            ValueError: No frame was written.
        """
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
