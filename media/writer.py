"""Encodes segments of the result as H.264 that can be concatenated by packet copy."""

from __future__ import annotations

import io
from typing import Final

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from media.labels.watermark import Watermark
from media.probe import VideoInfo
from media.yuv_frame import Patch, YuvFrame, frame_planes, paste_back

_RANGE_LIMITED: Final = 1
_RANGE_FULL: Final = 2
# `stitchable` keeps x264 from adapting its headers to the content, so SPS and PPS depend only on the settings
# (x264 --fullhelp, "Don't optimize headers based on video content"). A closed GOP refers to nothing before it.
_X264_PARAMS: Final = "stitchable=1:open-gop=0"


class SegmentWriter:
    """Encodes the frames of one segment into memory.

    The first frame is an IDR frame, and nothing refers across the ends. SPS and PPS are equal for all segments
    written with the same `info` (size, rate, colour, aspect), `crf` and `preset`; they do not depend on
    `num_threads`.

    Args:
        info: Size, rate, colour tags and pixel aspect of the result.
        crf: libx264 constant rate factor.
        preset: libx264 preset.
        num_threads: Threads of the encoder; the compressed bytes, though not the headers, depend on it.
    """

    def __init__(self, info: VideoInfo, crf: int, preset: str, num_threads: int = 1) -> None:
        self._shape = (info.height, info.width)
        self._num_frames = 0
        self._file = io.BytesIO()
        container = av.open(self._file, "w", format="mp4")
        assert isinstance(container, OutputContainer)
        self._container = container
        self._stream = _add_h264_stream(container, info, crf, preset, num_threads)
        self._frame = VideoFrame(info.width, info.height, "yuv420p")
        self._frame.time_base = 1 / info.fps
        for tag in ("color_range", "colorspace", "color_primaries", "color_trc"):
            setattr(self._frame, tag, getattr(self._stream.codec_context, tag))

    def write(self, planes: YuvFrame, patch: Patch | None = None, mark: Watermark | None = None) -> None:
        """Encodes one frame; `planes` is copied once, and the patch is pasted into the copy.

        Args:
            planes: (info.height, info.width) luma; never written to.
            patch: Region that replaces part of the frame.
            mark: Watermark drawn on the result.

        Raises:
            ValueError: `planes` has a different size.
        """
        if planes.y.shape != self._shape:
            raise ValueError(f"Expected planes.y of shape {self._shape}, got {planes.y.shape = }.")
        self._frame.make_writable()  # allocates only if the encoder still holds the memory
        target = frame_planes(self._frame)
        for view, plane in zip(target, planes, strict=True):
            np.copyto(view, plane)
        if patch is not None:
            paste_back(target, patch)
        if mark is not None:
            mark.draw(target)
        self._frame.pts = self._num_frames
        self._container.mux(self._stream.encode(self._frame))
        self._num_frames += 1

    def finish(self) -> bytes:
        """Ends the segment and returns it as an MP4 file.

        Raises:
            ValueError: No frame was written.
        """
        if not self._num_frames:
            raise ValueError("Expected at least one frame in a segment, got none.")
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._file.getvalue()


def _add_h264_stream(
    container: OutputContainer, info: VideoInfo, crf: int, preset: str, num_threads: int
) -> VideoStream:
    options = {"crf": str(crf), "preset": preset, "x264-params": _X264_PARAMS}
    stream = container.add_stream("libx264", rate=info.fps, options=options)
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = info.width, info.height, "yuv420p"
    context.time_base = 1 / info.fps
    context.sample_aspect_ratio = info.sample_aspect_ratio
    context.color_range = _RANGE_FULL if info.colour.full_range else _RANGE_LIMITED
    context.colorspace = info.colour.matrix
    context.color_primaries = info.colour.primaries
    context.color_trc = info.colour.transfer
    context.thread_count = num_threads
    return stream
