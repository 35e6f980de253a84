"""Upright pictures of faces: reads them from regions of frames, and pastes them back softly in YUV.

Pixels outside the masks do not change.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame
from models.engines.paste.blend import FacePlane, mix_plane, rgb_to_yuv444, soft_mask, spread_over
from models.engines.paste.resample import even_bounds, rgb_around
from models.engines.patches import FacePatches
from models.geometry.arrays import smooth_step

_Bounds = tuple[int, int, int, int]  # x0, y0, x1, y1

_MAX_OVERSAMPLING: Final = 8
# How far from its edge a picture is mixed in fully, as share of its side: facefusion, face_masker.py
# (`create_static_box_mask`), has 76 of 512 pixels with its default blur of .3.
_BOX_RAMP: Final = 76 / 512
# A patch may end within the mask of the lower face: towards its border the picture fades out over this share of its
# side, as far as the warp engine's own masks stay from the borders of its regions (a sixth at the corners).
_BORDER_RAMP: Final = 0.12


def aligned_rgb(
    region: YuvFrame, colour: ColourTags, matrix: NDArray[np.floating], box: NDArray[np.floating], side: int
) -> NDArray[np.uint8]:
    """Return an upright picture of the face.

    Where the frame has more pixels than the picture, several are averaged; a warp alone would skip some.

    Args:
        region: (R, R) planes.
        colour: Their colour tags.
        matrix: (2, 3) from region pixels to those of the picture.
        box: (4,) x0, y0, x1, y1 in region pixels around what the picture shows.
        side: Side of the picture.

    Returns:
        (side, side, 3) uint8 RGB, full range; outside of the region its edge is repeated.
    """
    rgb, corner = rgb_around(region, colour, box)
    fine = min(max(1, int(np.ceil(1 / scale_of(matrix)))), _MAX_OVERSAMPLING)
    place = scale_map(matrix, fine)
    place[:, 2] += place[:, :2] @ corner
    size = (side * fine, side * fine)
    drawn = cv2.warpAffine(rgb, place, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(drawn, (side, side), interpolation=cv2.INTER_AREA) if fine > 1 else drawn, np.uint8)


def draw_back(
    picture: NDArray[np.uint8], matrix: NDArray[np.floating], bounds: _Bounds, *, step: int = 1
) -> NDArray[np.uint8]:
    """Draw the part of one plane of an upright picture that is within whole-pixel bounds of a region.

    Args:
        picture: (S, S) uint8.
        matrix: (2, 3) from region pixels to those of the picture.
        bounds: x0, y0, x1, y1 of what is drawn, in the plane's own pixels.
        step: Region pixels per pixel of the plane: 1 for luma, 2 for chroma.

    Returns:
        (y1 - y0, x1 - x0) uint8; outside of the picture its edge is repeated.
    """
    x0, y0, x1, y1 = bounds
    # A picture finer than the plane is averaged down first, a coarser one is read with a cubic.
    shrink = scale_of(matrix) * step
    place = matrix.astype(np.float64)
    if shrink > 1.5:
        side = max(2, int(round(picture.shape[0] / shrink)))
        place = scale_map(place, side / picture.shape[0])
        picture = np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    # Pixel (i, j) of the plane has its middle at step (i + .5) - .5 of the region.
    turn = place[:, :2] * step
    move = place[:, 2:] + place[:, :2] @ np.array([[step * (x0 + 0.5) - 0.5], [step * (y0 + 0.5) - 0.5]])
    flag = cv2.INTER_CUBIC if shrink < 1 else cv2.INTER_LINEAR
    drawn = cv2.warpAffine(
        picture,
        np.concatenate([turn, move], 1),
        (x1 - x0, y1 - y0),
        flags=flag | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(drawn, np.uint8)


def scale_of(matrix: NDArray[np.floating]) -> float:
    """Return picture pixels for each region pixel."""
    return float(np.sqrt(max(abs(float(np.linalg.det(matrix[:, :2].astype(np.float64)))), 1e-12)))


def scale_map(matrix: NDArray[np.floating], factor: float) -> NDArray[np.float64]:
    """Return the map to a picture `factor` times as large."""
    place = matrix.astype(np.float64) * factor
    place[:, 2] += (factor - 1) / 2  # the middle of the first pixel moves
    return place


def paste_lower_face(
    patches: FacePatches,
    face: int,
    rgb: NDArray[np.uint8],
    matrix: NDArray[np.floating],
    outline: NDArray[np.floating],
    colour: ColourTags,
    *,
    opacity: float = 1.0,
    match_colour: bool = True,
) -> None:
    """Mix the hull of an outline of an upright picture into a patch, softly, in place.

    Args:
        patches: The patches, holding the frames' pixels.
        face: Which of them.
        rgb: (S, S, 3) uint8 RGB, full range.
        matrix: (2, 3) from the patch's pixels to those of the picture.
        outline: (P, 2) points in the patch's pixels.
        colour: Colour tags of the planes.
        opacity: Share of the picture where the mask is full, 0 to 1.
        match_colour: Shift its colour by the difference along the seam.
    """
    size = patches.y.shape[1]
    low, high = outline.min(0).clip(0, size), outline.max(0).clip(0, size)
    box = np.concatenate([low, high]).astype(np.float64)
    bounds = even_bounds(box, patches.y.shape[1:])
    if (high - low < 1).any():
        return
    mask = soft_mask(outline, box)

    def share(part: _Bounds, step: int) -> NDArray[np.uint8]:
        x0, y0, x1, y1 = part
        spread = spread_over(mask, box / step, part, is_zero_outside=True)
        return np.asarray(spread * _inside(size // step)[y0:y1, x0:x1]).astype(np.uint8)

    _mix(patches, face, rgb_to_yuv444(rgb, colour), matrix, bounds, share, opacity, match_colour)


@lru_cache(maxsize=8)
def _inside(size: int) -> NDArray[np.float32]:
    """(S, S) float32 from 0 at the border of a patch to 1: a mask that a patch cuts off would show the border."""
    return np.asarray(_ramp_from_edge(size, _BORDER_RAMP), np.float32)


def paste_square(
    patches: FacePatches,
    face: int,
    rgb: NDArray[np.uint8],
    matrix: NDArray[np.floating],
    box: NDArray[np.floating],
    colour: ColourTags,
    *,
    opacity: float = 1.0,
) -> None:
    """Mix a whole upright picture into a patch, fading towards the picture's edge, in place.

    Args:
        patches: The patches, holding the frames' pixels.
        face: Which of them.
        rgb: (S, S, 3) uint8 RGB, full range.
        matrix: (2, 3) from the patch's pixels to those of the picture.
        box: (4,) x0, y0, x1, y1 in the patch's pixels around the picture.
        colour: Colour tags of the planes.
        opacity: Share of the picture where the mask is full, 0 to 1.
    """
    bounds = even_bounds(box, patches.y.shape[1:])
    mask = square_mask(rgb.shape[0])

    def share(part: _Bounds, step: int) -> NDArray[np.uint8]:
        return draw_back(mask, matrix, part, step=step)

    _mix(patches, face, rgb_to_yuv444(rgb, colour), matrix, bounds, share, opacity, match_colour=False)


def _mix(
    patches: FacePatches,
    face: int,
    yuv: NDArray[np.uint8],
    matrix: NDArray[np.floating],
    bounds: _Bounds,
    share: Callable[[_Bounds, int], NDArray[np.uint8]],
    opacity: float,
    match_colour: bool,
) -> None:
    """Mix the (S, S, 3) planes of an upright picture into a patch, in place.

    `share` returns the mask within bounds in the pixels of a plane, of which each is as wide as so many of the patch.
    """
    for step, channels in ((1, (0,)), (2, (1, 2))):
        part = bounds[0] // step, bounds[1] // step, bounds[2] // step, bounds[3] // step
        x0, y0, x1, y1 = part
        mask = share(part, step)
        for channel in channels:
            plane = patches.y[face] if channel == 0 else patches.uv[face, channel - 1]
            drawn = draw_back(np.ascontiguousarray(yuv[..., channel]), matrix, part, step=step)
            mix_plane(FacePlane(plane[y0:y1, x0:x1], drawn, mask), opacity, match_colour)


def square_mask(side: int) -> NDArray[np.uint8]:
    """Return (side, side) uint8: 0 along the edge, 255 in the middle, smooth between them."""
    mask = np.rint(_ramp_from_edge(side, _BOX_RAMP) * 255).astype(np.uint8)
    return np.asarray(cv2.copyMakeBorder(mask[1:-1, 1:-1], 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0), np.uint8)


def _ramp_from_edge(side: int, width: float) -> NDArray[np.float64]:
    """(side, side) weights, from 0 at the edge to 1 at `width`, a share of the side, and inside."""
    ramp = smooth_step(np.minimum(np.arange(side), np.arange(side)[::-1]) / (width * side))
    return np.asarray(np.minimum.outer(ramp, ramp), np.float64)
