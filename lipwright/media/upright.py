"""Converts decoded frames of any pixel format, size and rotation to upright 8-bit 4:2:0 planes."""

from __future__ import annotations

from typing import Final

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from lipwright.media.probe import VideoInfo
from lipwright.media.yuv_frame import (
    RANGE_FULL,
    RANGE_LIMITED,
    YuvFrame,
    frame_planes,
    plane_rows,
    rgb_to_yuv,
    sws_matrix,
)

_PLANAR_420: Final = frozenset({"yuv420p", "yuvj420p"})
_GREY_PREFIXES: Final = ("gray", "mono")
_NEUTRAL_CHROMA: Final = 128
_OPAQUE: Final = 255
_WHITE: Final = 255


def upright_planes(frame: VideoFrame, info: VideoInfo) -> YuvFrame:
    """Return read-only planes, (info.height, info.width), in the matrix and range of `info.colour`.

    The planes are views of the frame's memory if that is 8-bit 4:2:0, and keep it alive. A frame whose size differs
    from the probed one (it can change within a stream) is scaled to it. Transparent pixels become white, because the
    colour behind them is arbitrary.
    """
    is_turned = info.rotation % 180 != 0
    width, height = (info.height, info.width) if is_turned else (info.width, info.height)
    if (frame.width & ~1, frame.height & ~1) != (width, height):
        frame = _reformat(frame, None, info, width, height)
    planes = _planes_420(frame, info)
    if info.rotation or info.is_mirrored:
        planes = YuvFrame(*(_turn(plane, info) for plane in planes))
    for plane in planes:
        plane.flags.writeable = False
    return planes


def _planes_420(frame: VideoFrame, info: VideoInfo) -> YuvFrame:
    name = frame.format.name
    if name in _PLANAR_420:
        return frame_planes(frame)
    if frame.format.has_palette or any(component.is_alpha for component in frame.format.components):
        return _on_white(frame, info)
    if frame.format.is_rgb:
        return frame_planes(rgb_to_yuv(frame, info.colour))
    if name.startswith(_GREY_PREFIXES):
        return _grey_planes(frame if name == "gray" else _reformat(frame, "gray", info))
    return frame_planes(_reformat(frame, "yuv420p", info))


def _on_white(frame: VideoFrame, info: VideoInfo) -> YuvFrame:
    rgba = np.asarray(_reformat(frame, "rgba", info).to_ndarray(), np.uint8)  # (H, W, 4)
    alpha = rgba[..., 3:].astype(np.uint16)
    rgb = rgba[..., :3]
    if alpha.min() < _OPAQUE:
        rgb = ((rgb * alpha + _WHITE * (_OPAQUE - alpha) + _OPAQUE // 2) // _OPAQUE).astype(np.uint8)
    opaque = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    return frame_planes(rgb_to_yuv(opaque, info.colour))


def _grey_planes(frame: VideoFrame) -> YuvFrame:
    width, height = frame.width & ~1, frame.height & ~1
    y = plane_rows(frame.planes[0])[:height, :width]
    chroma = np.full((height // 2, width // 2), _NEUTRAL_CHROMA, np.uint8)
    return YuvFrame(y, chroma, chroma)


def _reformat(
    frame: VideoFrame, pixel_format: str | None, info: VideoInfo, width: int | None = None, height: int | None = None
) -> VideoFrame:
    """Change pixel format or size, but not matrix and range, so only sampling and depth change."""
    is_yuv = not (frame.format.is_rgb or frame.format.has_palette)
    matrix = sws_matrix(info.colour.matrix) if is_yuv else None
    color_range = (RANGE_FULL if info.colour.full_range else RANGE_LIMITED) if is_yuv else None
    return frame.reformat(
        width=width,
        height=height,
        format=pixel_format,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=color_range,
        dst_color_range=color_range,
        threads=1,
    )


def _turn(plane: NDArray[np.uint8], info: VideoInfo) -> NDArray[np.uint8]:
    turned = np.rot90(plane, info.rotation // 90)  # np.rot90 rotates counter-clockwise
    return turned[:, ::-1] if info.is_mirrored else turned
