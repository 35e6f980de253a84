"""Encodes segments of the result as H.264 that can be concatenated by packet copy."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Final

import av
import numpy as np
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from media.labels.watermark import FrameMark
from media.probe import VideoInfo
from media.result.stream_copy import IN_BAND_TAG, with_headers
from media.yuv_frame import RANGE_FULL, RANGE_LIMITED, Patch, YuvFrame, frame_planes, paste_back, paste_changes

# `stitchable` keeps x264 from adapting its headers to the content, so SPS and PPS depend only on the settings
# (x264 --fullhelp, "Don't optimize headers based on video content"). A closed GOP refers to nothing before it.
_X264_PARAMS: Final = "stitchable=1:open-gop=0"


class H264Frame:
    """The frame that an H.264 encoder is given; the planes of each picture are copied into it.

    Also sets the size, rate, colour tags and pixel aspect of the encoder.
    """

    def __init__(self, context: VideoCodecContext, info: VideoInfo) -> None:
        context.width, context.height, context.pix_fmt = info.width, info.height, "yuv420p"
        context.time_base = 1 / info.fps
        context.sample_aspect_ratio = info.sample_aspect_ratio
        self._frame = VideoFrame(info.width, info.height, "yuv420p")
        self._frame.time_base = 1 / info.fps
        self._shape = (info.height, info.width)
        for tagged in (context, self._frame):
            tagged.color_range = RANGE_FULL if info.colour.full_range else RANGE_LIMITED
            tagged.colorspace = info.colour.matrix
            tagged.color_primaries = info.colour.primaries
            tagged.color_trc = info.colour.transfer

    def filled(self, pts: int, planes: YuvFrame, patches: Sequence[Patch], marks: Iterable[FrameMark]) -> VideoFrame:
        """Return the frame with a copy of `planes`, in which `patches` are pasted and `marks` are drawn.

        Raises:
            ValueError: `planes` has a different size.
        """
        if planes.y.shape != self._shape:
            raise ValueError(f"Expected planes.y of shape {self._shape}, got {planes.y.shape = }.")
        self._frame.make_writable()  # allocates only if the encoder still holds the memory
        target = frame_planes(self._frame)
        for view, plane in zip(target, planes, strict=True):
            np.copyto(view, plane)
        for number, patch in enumerate(patches):
            if number == 0:
                paste_back(target, patch)
            else:
                paste_changes(target, planes, patch)
        for mark in marks:
            mark.draw(target)
        self._frame.pts = pts
        return self._frame


class SegmentWriter:
    """Encodes the frames of one segment into memory.

    The first frame is an IDR frame, and nothing refers across the ends. SPS and PPS are equal for all segments
    written with the same `info` (size, rate, colour, aspect), `crf` and `preset`. They do not depend on
    `num_threads`, unlike the compressed bytes. With `in_band_headers` they are also in front of the first frame, so
    that segments can be joined with copies of the source, see `media.result.stream_copy`.
    """

    def __init__(
        self, info: VideoInfo, crf: int, preset: str, num_threads: int = 1, *, in_band_headers: bool = False
    ) -> None:
        self._num_frames = 0
        self._needs_headers = in_band_headers
        self._file = io.BytesIO()
        container = av.open(self._file, "w", format="mp4")
        assert isinstance(container, OutputContainer)
        self._container = container
        options = {"crf": str(crf), "preset": preset, "x264-params": _X264_PARAMS}
        self._stream = container.add_stream("libx264", rate=info.fps, options=options)
        self._stream.codec_context.thread_count = num_threads
        if in_band_headers:
            self._stream.codec_context.codec_tag = IN_BAND_TAG
        self._frame = H264Frame(self._stream.codec_context, info)

    def write(self, planes: YuvFrame, patches: Sequence[Patch] = (), marks: Iterable[FrameMark] = ()) -> None:
        """Encodes one frame; see `H264Frame.filled`. `planes` is never written to."""
        self._mux(self._frame.filled(self._num_frames, planes, patches, marks))
        self._num_frames += 1

    def finish(self) -> bytes:
        """Ends the segment and returns it as an MP4 file; ValueError if no frame was written."""
        if not self._num_frames:
            raise ValueError("Expected at least one frame in a segment, got none.")
        self._mux(None)
        self._container.close()
        return self._file.getvalue()

    def _mux(self, frame: VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            if self._needs_headers:
                self._needs_headers = False
                packet = with_headers(packet, self._stream.codec_context.extradata or b"")
            self._container.mux(packet)
