"""Resizes the boxes of a chunk to the RGB pictures that a network reads."""

from __future__ import annotations

from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame, to_rgb
from models.engines.paste.crop import BoxChunk

Interpolation = Literal["linear", "area", "cubic", "lanczos"]
"""How a box is resized; "area" averages pixels if a box shrinks, and is "linear" if it grows."""

_FLAGS: Final = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "lanczos": cv2.INTER_LANCZOS4}
_CHROMA_MARGIN: Final = 2  # pixels: chroma at a box's edge is interpolated from beside it


def box_rgb(
    chunk: BoxChunk,
    size: int | tuple[int, int],
    interpolation: Interpolation = "linear",
    order: Literal["rgb", "bgr"] = "rgb",
) -> NDArray[np.uint8]:
    """Return the boxes of a chunk's N faces as (N, height, width, 3) uint8, full range, as input of a network.

    Args:
        chunk: N faces.
        size: Side of the pictures, or their (height, width).
        interpolation: How the box is resized.
        order: Order of the colours.
    """
    height, width = (size, size) if isinstance(size, int) else size
    crops = np.empty((len(chunk.y), height, width, 3), np.uint8)
    _, faces = np.unique(chunk.crop, return_index=True)
    for crop, face in enumerate(faces):
        crops[crop] = region_rgb(chunk.region(crop), chunk.colour, chunk.boxes[face], (height, width), interpolation)
    if order == "bgr":
        crops = crops[..., ::-1]
    return np.ascontiguousarray(crops[chunk.crop])


def region_rgb(
    region: YuvFrame,
    colour: ColourTags,
    box: NDArray[np.floating],
    size: tuple[int, int],
    interpolation: Interpolation = "linear",
) -> NDArray[np.uint8]:
    """Return the box x0, y0, x1, y1 of one region as (height, width, 3) uint8 RGB, full range."""
    rgb, corner = rgb_around(region, colour, box)
    return resize_box(rgb, box - np.tile(corner, 2), size, interpolation)


def rgb_around(
    region: YuvFrame, colour: ColourTags, box: NDArray[np.floating]
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return the RGB pixels of a region that hold a box, and the x, y of the first."""
    x0, y0, x1, y1 = even_bounds(box, region.y.shape, _CHROMA_MARGIN)
    chroma = (plane[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] for plane in region[1:])
    return to_rgb(YuvFrame(region.y[y0:y1, x0:x1], *chroma), colour), (x0, y0)


def resize_box(
    picture: NDArray[np.uint8], box: NDArray[np.floating], size: tuple[int, int], interpolation: Interpolation
) -> NDArray[np.uint8]:
    """Resize a box of a picture.

    A box of whole pixels gives what `cv2.resize` gives of the slice, which is what the generators were trained on; one
    that lies between pixels gives the same picture moved by less than a pixel, so that a box that moves slowly does so
    in the network's picture too.

    Args:
        picture: (H, W, 3) uint8.
        box: (4,) x0, y0, x1, y1: edges, so that pixel i covers i to i + 1. Outside, the picture's edge is repeated.
        size: Height and width of the result.
        interpolation: How.

    Returns:
        (height, width, 3) uint8.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    height, width = size
    if interpolation == "area":
        native = max(height, int(np.ceil(y1 - y0))), max(width, int(np.ceil(x1 - x0)))
        shrunk = resize_box(picture, box, native, "linear") if native != size else None
        if shrunk is not None:
            return np.asarray(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    flag = _FLAGS["linear" if interpolation == "area" else interpolation]
    is_inside = x0 >= 0 and y0 >= 0 and x1 <= picture.shape[1] and y1 <= picture.shape[0]
    if is_inside and all(value.is_integer() for value in (x0, y0, x1, y1)):
        whole = picture[int(y0) : int(y1), int(x0) : int(x1)]
        return np.asarray(cv2.resize(whole, (width, height), interpolation=flag), np.uint8)
    step_x, step_y = (x1 - x0) / width, (y1 - y0) / height
    # Pixel centres: column i of the result is at x0 + (i + .5) step - .5 in the picture.
    place = np.array([[step_x, 0, x0 + step_x / 2 - 0.5], [0, step_y, y0 + step_y / 2 - 0.5]])
    return np.asarray(
        cv2.warpAffine(
            picture, place, (width, height), flags=flag | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        ),
        np.uint8,
    )


def even_bounds(box: NDArray[np.floating], shape: tuple[int, ...], margin: int = 0) -> tuple[int, int, int, int]:
    """Return the smallest x0, y0, x1, y1 with even numbers that holds a box and a margin, inside (H, W) `shape`."""
    low = np.floor((box[:2] - margin) / 2).astype(int) * 2
    high = np.ceil((box[2:] + margin) / 2).astype(int) * 2
    limit = np.array([shape[1], shape[0]])
    (x0, y0), (x1, y1) = low.clip(0, limit), high.clip(0, limit)
    return int(x0), int(y0), int(x1), int(y1)
