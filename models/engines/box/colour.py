"""RGB pictures as Y, U and V at full resolution, by the matrix and the range of a source."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from media.probe import ColourTags

# Weights of red and blue in luma by H.273 matrix (ITU-T H.273, table 4); others are BT.601, as in media.yuv_frame.
_RED_BLUE: Final = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
_BT601: Final = (0.299, 0.114)


def rgb_to_yuv_matrix(colour: ColourTags) -> NDArray[np.float64]:
    """Return the (3, 4) matrix that makes 8-bit Y, U, V of 8-bit full-range R, G, B and 1."""
    red, blue = _RED_BLUE.get(colour.matrix, _BT601)
    luma = np.array([red, 1 - red - blue, blue])
    chroma = np.stack([(np.array([0, 0, 1]) - luma) / (2 * (1 - blue)), (np.array([1, 0, 0]) - luma) / (2 * (1 - red))])
    # Limited range: black 16, luma spans 219 and chroma 224 levels (H.273, 8.3).
    black, luma_span, chroma_span = (0.0, 1.0, 1.0) if colour.full_range else (16.0, 219 / 255, 224 / 255)
    scaled = np.concatenate([luma[None] * luma_span, chroma * chroma_span])
    return np.concatenate([scaled, [[black], [128.0], [128.0]]], 1)


def rgb_to_yuv444(rgb: NDArray[np.uint8], colour: ColourTags) -> NDArray[np.uint8]:
    """Convert (H, W, 3) uint8 RGB, full range, to (H, W, 3) uint8 Y, U, V by the matrix and range of `colour`."""
    return np.asarray(cv2.transform(rgb, rgb_to_yuv_matrix(colour)), np.uint8)
