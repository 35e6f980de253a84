"""Thumbnails: of videos that this service made, and of faces in a source."""

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
from media.output.dynamic_range import to_sdr_rgb
from media.probe import ColourTags
from media.yuv_frame import YuvFrame

_FACE_SIDE: Final = 160  # pixels
_FACE_SURROUNDINGS: Final = 1.7  # side of the picture of a face relative to the face
_FULL_RANGE: Final = 2  # JPEG is full range: JFIF 1.02, "all 256 levels"


def thumbnail(path: Path, max_side: int = 320) -> bytes:
    """Return the first frame of a segment or a result as a JPEG file, at most `max_side` pixels wide and high.

    Raises:
        MediaError: No frame can be decoded.
    """
    with open_container(path, MediaLimits()) as container, ffmpeg_errors(path, "a video"):
        frame = next(container.decode(video_stream(container, path)), None)
    if frame is None:
        raise MediaError(f"{path.name}: expected a picture, found none.")
    return _jpeg(_small(frame, max_side))


def face_thumbnail(
    frame: YuvFrame, colour: ColourTags, box: tuple[float, float, float, float], pixel_aspect: float = 1.0
) -> bytes:
    """Return a face with some of its surroundings as a JPEG file, at most 160 pixels wide and high.

    Args:
        frame: The frame.
        colour: Its colour tags.
        box: x0, y0, x1, y1 around the face in pixels.
        pixel_aspect: Width of a pixel over its height.
    """
    x0, y0, x1, y1 = box
    side = _FACE_SURROUNDINGS * max((x1 - x0) * pixel_aspect, y1 - y0)
    (left, right), (top, bottom) = (
        (int(max(0, middle - length / 2)) // 2 * 2, int(min(limit, middle + length / 2)) // 2 * 2)
        for middle, length, limit in (
            ((x0 + x1) / 2, side / pixel_aspect, frame.y.shape[1]),
            ((y0 + y1) / 2, side, frame.y.shape[0]),
        )
    )
    half = (slice(top // 2, bottom // 2), slice(left // 2, right // 2))
    part = YuvFrame(frame.y[top:bottom, left:right], frame.u[half], frame.v[half])
    scale = min(1.0, _FACE_SIDE / max((right - left) * pixel_aspect, bottom - top))
    picture = VideoFrame.from_ndarray(to_sdr_rgb(part, colour), format="rgb24")
    width, height = ((right - left) * pixel_aspect * scale, (bottom - top) * scale)
    return _jpeg(_resize(picture, width, height))


def _small(frame: VideoFrame, max_side: int) -> VideoFrame:
    scale = min(1.0, max_side / max(frame.width, frame.height))
    return _resize(frame, frame.width * scale, frame.height * scale)


def _resize(frame: VideoFrame, width: float, height: float) -> VideoFrame:
    """Return the picture in this size, rounded to even, in the format that JPEG needs."""
    even_width, even_height = (max(2, round(side / 2) * 2) for side in (width, height))
    return frame.reformat(even_width, even_height, "yuvj420p", dst_color_range=_FULL_RANGE)


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
