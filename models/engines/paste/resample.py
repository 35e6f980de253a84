"""Resampling between a region of a frame and the RGB picture that a network reads or writes."""

from __future__ import annotations

from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from media.probe import ColourTags
from media.yuv_frame import YuvFrame, to_rgb
from models.engines.paste.crop import BoxChunk

# Between a region of a frame and the picture that a network sees of the box in it.

Interpolation = Literal["linear", "area", "cubic", "lanczos"]
"""How a box is resized; "area" averages what falls together where a box shrinks, and is "linear" where it grows."""

_FLAGS: Final = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "lanczos": cv2.INTER_LANCZOS4}
_CHROMA_MARGIN: Final = 2  # pixels: chroma at a box's edge is interpolated from beside it


def box_rgb(
    chunk: BoxChunk,
    size: int | tuple[int, int],
    interpolation: Interpolation = "linear",
    order: Literal["rgb", "bgr"] = "rgb",
) -> NDArray[np.uint8]:
    """Return the boxes of a chunk's N faces as (N, height, width, 3) uint8, full range: what a network sees.

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
    rgb, corner = _rgb_around(region, colour, box)
    return resize_box(rgb, box - np.tile(corner, 2), size, interpolation)


def _rgb_around(
    region: YuvFrame, colour: ColourTags, box: NDArray[np.floating]
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The RGB pixels of a region that hold a box, and the x, y of the first."""
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
    # Pixel centres: column i of the result stands at x0 + (i + .5) step - .5 in the picture.
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


# Between a region of a frame and a picture of the face turned upright.

_MAX_OVERSAMPLING: Final = 8


def aligned_rgb(
    region: YuvFrame, colour: ColourTags, matrix: NDArray[np.floating], box: NDArray[np.floating], side: int
) -> NDArray[np.uint8]:
    """Return an upright picture of the face.

    Where the frame has more pixels than the picture, several are averaged; a warp alone would skip some.

    Args:
        region: (R, R) planes.
        colour: What their values mean.
        matrix: (2, 3) from region pixels to those of the picture.
        box: (4,) x0, y0, x1, y1 in region pixels around what the picture shows.
        side: Side of the picture.

    Returns:
        (side, side, 3) uint8 RGB, full range; outside of the region its edge is repeated.
    """
    rgb, corner = _rgb_around(region, colour, box)
    fine = min(max(1, int(np.ceil(1 / scale_of(matrix)))), _MAX_OVERSAMPLING)
    place = scale_map(matrix, fine)
    place[:, 2] += place[:, :2] @ corner
    size = (side * fine, side * fine)
    drawn = cv2.warpAffine(rgb, place, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(drawn, (side, side), interpolation=cv2.INTER_AREA) if fine > 1 else drawn, np.uint8)


def draw_back(
    picture: NDArray[np.uint8], matrix: NDArray[np.floating], bounds: tuple[int, int, int, int], *, step: int = 1
) -> NDArray[np.uint8]:
    """Draw one plane of an upright picture where it falls into whole-pixel bounds of a region.

    Args:
        picture: (S, S) uint8.
        matrix: (2, 3) from region pixels to those of the picture.
        bounds: x0, y0, x1, y1 of what is drawn, in the plane's own pixels.
        step: Region pixels to a pixel of the plane: 1 for luma, 2 for chroma.

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
