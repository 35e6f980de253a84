"""8-bit YUV 4:2:0 frames: cropping, pasting, and conversion from and to RGB."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Colorspace, Interpolation
from numpy.typing import NDArray

from lipwright.media.probe import ColourTags

_SWS_MATRIX: Final = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
# swscale's default path rounds down and is about one level dark.
_EXACT: Final = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
RANGE_LIMITED: Final = 1
RANGE_FULL: Final = 2


class YuvFrame(NamedTuple):
    """One frame in 8-bit YUV 4:2:0.

    Attributes:
        y: (H, W) luma, H and W even.
        u: (H/2, W/2) chroma, Cb.
        v: (H/2, W/2) chroma, Cr.
    """

    y: NDArray[np.uint8]
    u: NDArray[np.uint8]
    v: NDArray[np.uint8]


class Patch(NamedTuple):
    """A finished region of a frame; outside its mask it equals the frame bit for bit.

    Attributes:
        x: Left edge in luma pixels, even, may be negative.
        y: Upper edge in luma pixels, even, may be negative.
        planes: (R, R) luma and (R/2, R/2) chroma.
    """

    x: int
    y: int
    planes: YuvFrame


def cut(planes: YuvFrame, x: int, y: int, size: int) -> YuvFrame:
    """Copy a square region of `size` luma pixels; outside the frame, the frame's edge is repeated.

    Raises:
        ValueError: `x`, `y` or `size` is odd, or `size` is not positive.
    """
    if x % 2 or y % 2 or size % 2 or size <= 0:
        raise ValueError(f"Expected even x and y and an even size > 0, got {x = }, {y = }, {size = }.")
    half = (x // 2, y // 2, size // 2)
    return YuvFrame(_cut(planes.y, x, y, size), _cut(planes.u, *half), _cut(planes.v, *half))


def paste_back(planes: YuvFrame, patch: Patch) -> None:
    """Write a patch into the frame, in place; parts outside the frame are dropped.

    Raises:
        ValueError: `patch.x` or `patch.y` is odd.
    """
    if patch.x % 2 or patch.y % 2:
        raise ValueError(f"Expected even patch.x and patch.y, got {patch.x = }, {patch.y = }.")
    _paste(planes.y, patch.planes.y, patch.x, patch.y)
    _paste(planes.u, patch.planes.u, patch.x // 2, patch.y // 2)
    _paste(planes.v, patch.planes.v, patch.x // 2, patch.y // 2)


def paste_changes(planes: YuvFrame, before: YuvFrame, patch: Patch) -> None:
    """Write those samples of a patch into the frame that differ from `before`, the frame it was cut from, in place.

    So a second patch does not undo the first where both overlap.
    """
    size = patch.planes.y.shape[0]
    own = cut(before, patch.x, patch.y, size)
    shown = cut(planes, patch.x, patch.y, size)
    merged = (np.where(mine != old, mine, now) for mine, old, now in zip(patch.planes, own, shown, strict=True))
    paste_back(planes, Patch(patch.x, patch.y, YuvFrame(*merged)))


def faded(planes: YuvFrame, patch: Patch, weight: float) -> Patch:
    """Return a patch blended with the frame it was cut from; `weight` of the patch, 0 to 1."""
    own = cut(planes, patch.x, patch.y, patch.planes.y.shape[0])
    pairs = zip(patch.planes, own, strict=True)
    mixed = (np.rint(old + weight * (mine.astype(np.float32) - old)).astype(np.uint8) for mine, old in pairs)
    return Patch(patch.x, patch.y, YuvFrame(*mixed))


def to_rgb(planes: YuvFrame, colour: ColourTags) -> NDArray[np.uint8]:
    """Convert to (H, W, 3) uint8 RGB, full range, using the frame's matrix and range.

    An unspecified matrix is read as BT.601 at any size, so that a crop and its frame agree.
    """
    frame = VideoFrame(planes.y.shape[1], planes.y.shape[0], "yuv420p")
    for view, plane in zip(frame_planes(frame), planes, strict=True):
        np.copyto(view, plane)
    rgb = frame.reformat(
        format="rgb24",
        src_colorspace=sws_matrix(colour.matrix),
        src_color_range=RANGE_FULL if colour.full_range else RANGE_LIMITED,
        dst_color_range=RANGE_FULL,
        interpolation=_EXACT,
        threads=1,
    )
    return np.ascontiguousarray(rgb.to_ndarray(), dtype=np.uint8)  # (H, W, 3)


def from_rgb(rgb: NDArray[np.uint8], colour: ColourTags) -> YuvFrame:
    """Convert an (H, W, 3) uint8 RGB picture, H and W even, using the matrix and range of `colour`.

    Raises:
        ValueError: A different shape or an odd size.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.shape[0] % 2 or rgb.shape[1] % 2:
        raise ValueError(f"Expected (H, W, 3) uint8 with even H and W, got {rgb.shape = }.")
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    return frame_planes(rgb_to_yuv(frame, colour))


def rgb_to_yuv(frame: VideoFrame, colour: ColourTags) -> VideoFrame:
    """Convert any RGB frame to yuv420p with the matrix and range of `colour`."""
    return frame.reformat(
        format="yuv420p",
        dst_colorspace=sws_matrix(colour.matrix),
        src_color_range=RANGE_FULL,
        dst_color_range=RANGE_FULL if colour.full_range else RANGE_LIMITED,
        interpolation=_EXACT,
        threads=1,
    )


def full_chroma(frame: VideoFrame, pixel_format: str, colour: ColourTags) -> VideoFrame:
    """Convert a yuv420p or yuva420p frame to a format with more bits and chroma in every pixel, in limited range."""
    return frame.reformat(
        format=pixel_format,
        src_colorspace=sws_matrix(colour.matrix),
        dst_colorspace=sws_matrix(colour.matrix),
        src_color_range=RANGE_FULL if colour.full_range else RANGE_LIMITED,
        dst_color_range=RANGE_LIMITED,
        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
        threads=1,
    )


def sws_matrix(matrix: int) -> Colorspace:
    """Return the swscale name of an H.273 matrix; unspecified and unknown ones are BT.601, as in swscale."""
    return _SWS_MATRIX.get(matrix, Colorspace.ITU601)


def frame_planes(frame: VideoFrame) -> YuvFrame:
    """Return views of the planes of a yuv420p-like frame, cropped to even sizes; they keep its memory alive."""
    width, height = frame.width & ~1, frame.height & ~1
    views = []
    for plane, divisor in zip(frame.planes[:3], (1, 2, 2), strict=True):
        views.append(plane_rows(plane)[: height // divisor, : width // divisor])
    return YuvFrame(*views)


def plane_rows(plane: VideoPlane) -> NDArray[np.uint8]:
    """Return a (height, line size) view of an 8-bit plane, with padding; it keeps the frame's memory alive."""
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, abs(plane.line_size))
    # A negative line size means that the rows are stored bottom-up.
    return rows if plane.line_size > 0 else rows[::-1]


def _cut(plane: NDArray[np.uint8], x: int, y: int, size: int) -> NDArray[np.uint8]:
    height, width = plane.shape
    if x >= 0 and y >= 0 and x + size <= width and y + size <= height:
        return plane[y : y + size, x : x + size].copy()
    rows = np.clip(np.arange(y, y + size), 0, height - 1)
    columns = np.clip(np.arange(x, x + size), 0, width - 1)
    return plane[rows[:, None], columns[None, :]]


def _paste(plane: NDArray[np.uint8], patch: NDArray[np.uint8], x: int, y: int) -> None:
    top, left = max(y, 0), max(x, 0)
    bottom, right = min(y + patch.shape[0], plane.shape[0]), min(x + patch.shape[1], plane.shape[1])
    if top < bottom and left < right:
        plane[top:bottom, left:right] = patch[top - y : bottom - y, left - x : right - x]
