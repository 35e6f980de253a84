"""Encodes segments of the result that can be concatenated by packet copy."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import av
import numpy as np
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from lipwright.media.labels.watermark import FrameMark
from lipwright.media.output.formats import MP4, OutputFormat, Quality
from lipwright.media.output.picture import Canvas, DrawPicture, draw_whole
from lipwright.media.probe import VideoInfo
from lipwright.media.result.stream_copy import IN_BAND_TAG, with_headers
from lipwright.media.yuv_frame import RANGE_FULL, RANGE_LIMITED, Patch, YuvFrame, frame_planes, full_chroma, plane_rows


class EncoderFrame:
    """The frame that an encoder is given; each picture is drawn into its planes, with transparency if `has_alpha`.

    Also sets the size, rate, colour tags and pixel aspect of the encoder.
    """

    def __init__(
        self, context: VideoCodecContext, info: VideoInfo, pixel_format: str = "yuv420p", *, has_alpha: bool = False
    ) -> None:
        context.width, context.height, context.pix_fmt = info.width, info.height, pixel_format
        context.time_base = 1 / info.fps
        context.sample_aspect_ratio = info.sample_aspect_ratio
        self._frame = VideoFrame(info.width, info.height, "yuva420p" if has_alpha else "yuv420p")
        self._frame.time_base = 1 / info.fps
        self._info, self._pixel_format, self._has_alpha = info, pixel_format, has_alpha
        self._tag(self._frame, info.colour.full_range)
        # Formats with more than 8 bits have no tag for full range: they are converted to limited range.
        self._tag(context, info.colour.full_range and not self._is_deep)

    def filled(
        self,
        pts: int,
        planes: YuvFrame,
        patches: Sequence[Patch],
        marks: Iterable[FrameMark],
        draw: DrawPicture = draw_whole,
    ) -> VideoFrame:
        """Return the frame with the picture of `planes` and `patches` that `draw` makes, and `marks` on it.

        Raises:
            ValueError: `planes` has a different size, see `draw_whole`.
        """
        self._frame.make_writable()  # allocates only if the encoder still holds the memory
        alpha = plane_rows(self._frame.planes[3])[:, : self._info.width] if self._has_alpha else None
        canvas = Canvas(frame_planes(self._frame), alpha)
        draw(canvas, planes, patches)
        for mark in marks:
            mark.draw(canvas.planes)
            if alpha is not None:
                mark.cover(alpha)
        self._frame.pts = pts
        return self._deep(alpha) if self._is_deep else self._frame

    @property
    def _is_deep(self) -> bool:
        return not self._pixel_format.endswith("420p")

    def _deep(self, alpha: NDArray[np.uint8] | None) -> VideoFrame:
        made = full_chroma(self._frame, self._pixel_format, self._info.colour)
        if alpha is not None:
            # All bits of 255 are set: swscale makes 1020 of it.
            wide = np.frombuffer(memoryview(made.planes[3]), np.uint16).reshape(made.height, -1)
            wide[:, : alpha.shape[1]] = np.left_shift(alpha, 2, dtype=np.uint16) | (alpha >> 6)
        self._tag(made, full_range=False)
        made.pts, made.time_base = self._frame.pts, 1 / self._info.fps
        return made

    def _tag(self, tagged: VideoFrame | VideoCodecContext, full_range: bool) -> None:
        tagged.color_range = RANGE_FULL if full_range else RANGE_LIMITED
        tagged.colorspace = self._info.colour.matrix
        tagged.color_primaries = self._info.colour.primaries
        tagged.color_trc = self._info.colour.transfer


class SegmentWriter:
    """Encodes the frames of one segment into memory, with transparency if `has_alpha`.

    `info` describes the pictures of the result, which `draw` makes of frames of its source.

    Nothing refers across the ends. In MP4, the first frame is an IDR frame, and SPS and PPS are equal for all segments
    written with the same `info` (size, rate, colour, aspect), `crf`, `preset` and `quality`. They do not depend on
    `num_threads`, unlike the compressed bytes. With `in_band_headers` they are also in front of the first frame, so
    that segments can be joined with copies of the source, see `result.stream_copy`. With `max_gop_frames`, for
    videos that are read out of order, there is a keyframe at least as often, and decoding takes half the CPU time.
    """

    def __init__(
        self,
        info: VideoInfo,
        crf: int,
        preset: str,
        num_threads: int = 1,
        *,
        quality: Quality = "balanced",
        in_band_headers: bool = False,
        file_format: OutputFormat = MP4,
        has_alpha: bool = False,
        draw: DrawPicture = draw_whole,
        max_gop_frames: int | None = None,
    ) -> None:
        self._num_frames, self._draw = 0, draw
        self._needs_headers = in_band_headers
        self._file = io.BytesIO()
        container = av.open(self._file, "w", format=file_format.name)
        assert isinstance(container, OutputContainer)
        self._container = container
        options = file_format.encoder_options(crf, preset, quality)
        if max_gop_frames is not None:
            options["tune"] = "fastdecode"  # no CABAC, no deblocking: the file is an eighth larger
        stream = container.add_stream(file_format.video_encoder, rate=info.fps, options=options)
        assert isinstance(stream, VideoStream)
        self._stream = stream
        if max_gop_frames is not None:
            self._stream.codec_context.gop_size = max_gop_frames
        self._stream.codec_context.thread_count = num_threads
        if in_band_headers:
            self._stream.codec_context.codec_tag = IN_BAND_TAG
        pixel_format = file_format.alpha_pixel_format if has_alpha else file_format.pixel_format
        assert pixel_format is not None, "transparency is refused for formats without it"
        self._frame = EncoderFrame(self._stream.codec_context, info, pixel_format, has_alpha=has_alpha)

    def write(self, planes: YuvFrame, patches: Sequence[Patch] = (), marks: Iterable[FrameMark] = ()) -> None:
        """Encode one frame; see `EncoderFrame.filled`. `planes` is never written to."""
        self._mux(self._frame.filled(self._num_frames, planes, patches, marks, self._draw))
        self._num_frames += 1

    def finish(self) -> bytes:
        """End the segment and return it as a file; ValueError if no frame was written."""
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
