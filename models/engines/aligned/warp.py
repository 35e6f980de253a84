"""Between a region of a frame and a picture of the face turned upright."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from media.probe import ColourTags
from media.yuv_frame import YuvFrame, to_rgb
from models.engines.box.picture import even_bounds

_CHROMA_MARGIN: Final = 2  # pixels: chroma at an edge is interpolated from beside it
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
    x0, y0, x1, y1 = even_bounds(box, region.y.shape, _CHROMA_MARGIN)
    chroma = (plane[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] for plane in region[1:])
    rgb = to_rgb(YuvFrame(region.y[y0:y1, x0:x1], *chroma), colour)
    fine = min(max(1, int(np.ceil(1 / scale_of(matrix)))), _MAX_OVERSAMPLING)
    place = enlarged(matrix, fine)
    place[:, 2] += place[:, :2] @ [x0, y0]
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
        place = enlarged(place, side / picture.shape[0])
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


def enlarged(matrix: NDArray[np.floating], factor: float) -> NDArray[np.float64]:
    """Return the map to a picture `factor` times as large."""
    place = matrix.astype(np.float64) * factor
    place[:, 2] += (factor - 1) / 2  # the middle of the first pixel moves
    return place
