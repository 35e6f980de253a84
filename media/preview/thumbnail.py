"""Thumbnails of videos that this service made."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import av
from av.container import OutputContainer
from av.video.frame import VideoFrame

from config import MediaLimits
from errors import MediaError
from media.container import ffmpeg_errors, open_container
from media.frame_table import video_stream

_FULL_RANGE: Final = 2  # JPEG is full range: JFIF 1.02, "all 256 levels"


def thumbnail(path: Path, max_side: int = 320) -> bytes:
    """Returns the first frame of a segment or a result as a JPEG file, at most `max_side` pixels wide and high.

    Raises:
        MediaError: No frame can be decoded.
    """
    with open_container(path, MediaLimits()) as container, ffmpeg_errors(path, "a video"):
        frame = next(container.decode(video_stream(container, path)), None)
    if frame is None:
        raise MediaError(f"{path.name}: expected a picture, found none.")
    return _jpeg(_small(frame, max_side))


def _small(frame: VideoFrame, max_side: int) -> VideoFrame:
    scale = min(1.0, max_side / max(frame.width, frame.height))
    width, height = (max(2, round(side * scale / 2) * 2) for side in (frame.width, frame.height))
    return frame.reformat(width, height, "yuvj420p", dst_color_range=_FULL_RANGE)


def _jpeg(frame: VideoFrame) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="image2pipe") as container:
        assert isinstance(container, OutputContainer)
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuvj420p"
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
