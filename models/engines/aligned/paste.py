"""Pastes upright faces back into the regions they were made of, in YUV; outside of the masks nothing is touched."""

from __future__ import annotations

from functools import cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from media.probe import ColourTags
from models.engines.aligned.warp import draw_back
from models.engines.box.colour import rgb_to_yuv444
from models.engines.box.mask import soft_mask
from models.engines.box.paste import FacePlane, mix_plane, spread_over
from models.engines.box.picture import even_bounds
from models.engines.patches import FacePatches

# How far from its edge a picture is mixed in fully, as share of its side: facefusion, face_masker.py
# (`create_static_box_mask`), has 76 of 512 pixels with its default blur of .3.
_BOX_RAMP: Final = 76 / 512
# A patch may end within the mask of the lower face: towards its border the picture fades out over this share of its
# side, as far as the warp engine's own masks stay from the borders of its regions (a sixth at the corners).
_BORDER_RAMP: Final = 0.12


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
        colour: How Y, U and V mean colours.
        opacity: Share of the picture where the mask is full, 0 to 1.
        match_colour: Move its colour by what differs along the seam.
    """
    size = patches.y.shape[1]
    low, high = outline.min(0).clip(0, size), outline.max(0).clip(0, size)
    box = np.concatenate([low, high]).astype(np.float64)
    bounds = even_bounds(box, patches.y.shape[1:])
    if (high - low < 1).any():
        return
    mask = soft_mask(outline, box)
    yuv = rgb_to_yuv444(rgb, colour)
    for step, channels in ((1, (0,)), (2, (1, 2))):
        x0, y0, x1, y1 = (side // step for side in bounds)
        share = spread_over(mask, box / step, (x0, y0, x1, y1), is_zero_outside=True)
        share = (share * _inside(size // step)[y0:y1, x0:x1]).astype(np.uint8)
        for channel in channels:
            plane = patches.y[face] if channel == 0 else patches.uv[face, channel - 1]
            drawn = draw_back(np.ascontiguousarray(yuv[..., channel]), matrix, (x0, y0, x1, y1), step=step)
            mix_plane(FacePlane(plane[y0:y1, x0:x1], drawn, share), opacity, match_colour)


@cache
def _inside(size: int) -> NDArray[np.float32]:
    """(S, S) float32 from 0 at the border of a patch to 1: a patch may end within the mask, and must not show it."""
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]) / (_BORDER_RAMP * size)
    ramp = distance.clip(0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return np.asarray(np.minimum(ramp[:, None], ramp), np.float32)


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
        colour: How Y, U and V mean colours.
        opacity: Share of the picture where the mask is full, 0 to 1.
    """
    bounds = even_bounds(box, patches.y.shape[1:])
    yuv, mask = rgb_to_yuv444(rgb, colour), square_mask(rgb.shape[0])
    for step, channels in ((1, (0,)), (2, (1, 2))):
        x0, y0, x1, y1 = (side // step for side in bounds)
        share = draw_back(mask, matrix, (x0, y0, x1, y1), step=step)
        for channel in channels:
            plane = patches.y[face] if channel == 0 else patches.uv[face, channel - 1]
            drawn = draw_back(np.ascontiguousarray(yuv[..., channel]), matrix, (x0, y0, x1, y1), step=step)
            mix_plane(FacePlane(plane[y0:y1, x0:x1], drawn, share), opacity, match_colour=False)


def square_mask(side: int) -> NDArray[np.uint8]:
    """Return (side, side) uint8: 0 along the edge, 255 in the middle, smooth between them."""
    distance = np.minimum(np.arange(side), np.arange(side)[::-1]) / (_BOX_RAMP * side)
    ramp = distance.clip(0, 1)
    smooth = ramp * ramp * (3 - 2 * ramp)
    mask = np.rint(np.minimum.outer(smooth, smooth) * 255).astype(np.uint8)
    return np.asarray(cv2.copyMakeBorder(mask[1:-1, 1:-1], 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0), np.uint8)
