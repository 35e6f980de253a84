"""The matte of a source as a grey H.264 video: luma is alpha, 0 to 255.

It is encoded in pieces, each of which starts with a keyframe. They are raw byte streams (Annex B of ITU-T H.264), so
that joining them is joining their bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
from av.container import InputContainer, OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from errors import StoredFileError
from media.frame_source import FrameSource
from media.probe import ColourTags, VideoInfo
from media.yuv_frame import RANGE_FULL, YuvFrame, plane_rows

_CRF: Final = 18
_GOP_FRAMES: Final = 48
# Without B-frames, packets are in the order of their frames. `stitchable` as in `media.writer`.
_X264_PARAMS: Final = "stitchable=1:open-gop=0:bframes=0"
# What compression adds to fully opaque and fully transparent pixels is removed: alpha up to this far from 0 and 255.
_SNAP: Final = 5
_LEVELS: Final = np.rint(np.clip((np.arange(256) - _SNAP) / (255 - 2 * _SNAP), 0, 1) * 255).astype(np.uint8)


def matte_info(info: VideoInfo) -> VideoInfo:
    """Return the description of the matte of a source: one frame for each of the source's, upright."""
    return replace(
        info,
        rotation=0,
        is_mirrored=False,
        is_variable_rate=False,
        colour=ColourTags(matrix=2, full_range=True, primaries=2, transfer=2),
        codec="h264",
        pixel_format="gray",
        has_audio=False,
        frozen_seconds=0.0,
    )


class MatteWriter:
    """Encodes consecutive alpha planes into one piece of a matte, in memory."""

    def __init__(self, info: VideoInfo, num_threads: int = 1) -> None:
        self._file = io.BytesIO()
        container = av.open(self._file, "w", format="h264")
        assert isinstance(container, OutputContainer)
        self._container = container
        options = {
            "crf": str(_CRF),
            "preset": "superfast",
            "g": str(_GOP_FRAMES),
            "x264-params": _X264_PARAMS,
        }
        self._stream = container.add_stream("libx264", rate=info.fps, options=options)
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = info.width, info.height, "gray"
        context.color_range, context.thread_count = RANGE_FULL, num_threads
        self._frame = VideoFrame(info.width, info.height, "gray")
        self._frame.color_range = RANGE_FULL
        self._num_frames = 0

    def write(self, alpha: NDArray[np.uint8]) -> None:
        """Encode one (H, W) alpha plane."""
        self._frame.make_writable()
        np.copyto(plane_rows(self._frame.planes[0])[:, : alpha.shape[1]], alpha)
        self._frame.pts = self._num_frames
        self._container.mux(self._stream.encode(self._frame))
        self._num_frames += 1

    def finish(self) -> bytes:
        """End the piece and return it."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._file.getvalue()


def join_mattes(pieces: Sequence[bytes], out: Path, fps: Fraction, num_frames: int) -> None:
    """Write the pieces of a matte, in order, as an MP4 file.

    Raises:
        StoredFileError: They have another number of frames than `num_frames`.
    """
    num_written = 0
    with av.open(io.BytesIO(b"".join(pieces)), format="h264") as source, av.open(str(out), "w", format="mp4") as target:
        assert isinstance(source, InputContainer) and isinstance(target, OutputContainer)
        read = source.streams.video[0]
        stream = target.add_stream_from_template(read)
        assert isinstance(stream, VideoStream)
        stream.time_base = 1 / fps
        for packet in source.demux(read):
            if not packet.size:
                continue
            packet.stream, packet.time_base = stream, 1 / fps
            packet.pts = packet.dts = num_written
            packet.duration = 1
            target.mux(packet)
            num_written += 1
    if num_written != num_frames:
        raise StoredFileError(f"Expected {num_frames} frames of a matte, found {num_written}.")


class MatteFrames:
    """The alpha planes of a matte, as luma of its frames; a `FrameSource` around the reader of its file."""

    def __init__(self, reader: FrameSource) -> None:
        self._reader = reader

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        """Yield frames with alpha as luma and neutral chroma; see `FrameSource.read`."""
        for frame in self._reader.read(indices):
            alpha = np.asarray(cv2.LUT(frame.y, _LEVELS), np.uint8)
            alpha.flags.writeable = False
            yield frame._replace(y=alpha)

    def close(self) -> None:
        """Close the reader; frames already returned stay valid."""
        self._reader.close()
