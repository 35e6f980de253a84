"""Pastes a network's RGB pictures back into the YUV regions that they were made from, through a soft mask.

Pixels outside the mask do not change.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.probe import ColourTags
from models.engines.paste.crop import BoxChunk
from models.engines.paste.resample import even_bounds
from models.engines.patches import FacePatches

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


# Masks are drawn in a picture of the box of this side, so that the feather scales with the size of the face and costs
# the same for every face.
MASK_SIZE: Final = 128
# Standard deviation of the feather in mask pixels: 3 % of the box. From the outline inwards the mask needs about twice
# as much to reach 1.
_FEATHER: Final = 4.0
_FRACTION_BITS: Final = 8  # of the corners given to cv2


def soft_mask(outline: NDArray[np.floating], box: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Draw the mask of one face.

    The convex hull is blurred, and of the blur only the half inside of the hull is kept: the mask is 0 at the hull's
    edge, at the box's edge and outside of both.

    Args:
        outline: (P, 2) points in region pixels.
        box: (4,) x0, y0, x1, y1 in region pixels.

    Returns:
        (128, 128) uint8 over the box, 255 where it is fully rewritten.
    """
    places = (outline - box[:2]) / (box[2:] - box[:2]) * MASK_SIZE - 0.5
    # An outline may be anywhere; corners far outside do not change what is drawn inside.
    corners = np.rint(places.clip(-4 * MASK_SIZE, 4 * MASK_SIZE) * 2**_FRACTION_BITS).astype(np.int32)
    drawn = np.zeros((MASK_SIZE, MASK_SIZE), np.float32)
    cv2.fillConvexPoly(drawn, cv2.convexHull(corners[:, None]), 1.0, cv2.LINE_8, _FRACTION_BITS)
    blurred = cv2.GaussianBlur(drawn, (0, 0), _FEATHER, borderType=cv2.BORDER_CONSTANT)
    inside = np.where(drawn > 0, (blurred - 0.5) * 2, 0)
    return np.asarray(np.rint(inside.clip(0, 1) * 255), np.uint8)


PasteStyle = Literal["soft", "rectangle"]
"""Whether the lower face is mixed in with a soft edge, or the whole box replaces the frame's pixels."""

# The seam: where the mask is between these, colours are compared, and the face is moved by the mean difference, at most
# by so many levels (larger differences are not caused by light).
_SEAM: Final = (16, 200)
_MIN_SEAM_PIXELS: Final = 16
_MAX_SHIFT: Final = 12.0


class FacePlane(NamedTuple):
    """One plane of a face within its bounds: the frame's pixels, the new ones, and their weight (255: only the new)."""

    own: NDArray[np.uint8]  # (h, w) view on the patch, holding the frame's pixels
    face: NDArray[np.uint8]  # (h, w)
    mask: NDArray[np.uint8]  # (h, w)


def paste(
    chunk: BoxChunk, faces: NDArray[np.uint8], style: PasteStyle = "soft", *, match_colour: bool = True
) -> FacePatches:
    """Put the pictures of N faces back.

    Args:
        chunk: The N faces.
        faces: (N, height, width, 3) uint8 RGB of the whole boxes, full range.
        style: How.
        match_colour: Shift brightness and colour of a soft face by its difference along the seam.

    Returns:
        The patches; outside of the masks every byte is the frame's.
    """
    if faces.shape[:1] + faces.shape[3:] != (chunk.num_faces, 3) or faces.dtype != np.uint8:
        raise ValueError(f"Expected ({chunk.num_faces}, H, W, 3) uint8, got {faces.shape = }, {faces.dtype = }.")
    patches = FacePatches(chunk.row, chunk.origins, chunk.y[chunk.crop], chunk.uv[chunk.crop])
    masks: dict[int, NDArray[np.uint8]] = {}
    for face in range(chunk.num_faces):
        crop = int(chunk.crop[face])
        if crop not in masks:
            masks[crop] = _draw(chunk, face, style)
        yuv = rgb_to_yuv444(_shrink(faces[face], chunk.boxes[face]), chunk.colour)
        for plane in _planes(patches, face, yuv, masks[crop], chunk.boxes[face]):
            mix_plane(plane, float(chunk.opacity[face]), match_colour and style == "soft")
    return patches


def _draw(chunk: BoxChunk, face: int, style: PasteStyle) -> NDArray[np.uint8]:
    """(M, M) mask over the box."""
    if style == "rectangle":
        return np.full((1, 1), 255, np.uint8)
    return soft_mask(chunk.outline[face], chunk.boxes[face])


def _shrink(face: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Average a picture down where the box is much smaller than it; linear interpolation alone would alias."""
    height, width = max(2, int(np.ceil(box[3] - box[1]))), max(2, int(np.ceil(box[2] - box[0])))
    if height * 1.5 > face.shape[0] and width * 1.5 > face.shape[1]:
        return face
    size = min(width, face.shape[1]), min(height, face.shape[0])
    return np.asarray(cv2.resize(face, size, interpolation=cv2.INTER_AREA), np.uint8)


def _planes(
    patches: FacePatches, face: int, yuv: NDArray[np.uint8], mask: NDArray[np.uint8], box: NDArray[np.float32]
) -> list[FacePlane]:
    """The planes Y, U and V of a face over what its mask touches."""
    x0, y0, x1, y1 = _mask_bounds(mask, box, patches.y.shape[1:])
    if x0 >= x1 or y0 >= y1:
        return []
    planes: list[FacePlane] = []
    for step, channels in ((1, (0,)), (2, (1, 2))):
        bounds, place = (x0 // step, y0 // step, x1 // step, y1 // step), box / step
        spread = spread_over(mask, place, bounds, is_zero_outside=True)
        for channel in channels:
            plane = patches.y[face] if channel == 0 else patches.uv[face, channel - 1]
            own = plane[bounds[1] : bounds[3], bounds[0] : bounds[2]]
            planes.append(FacePlane(own, spread_over(np.ascontiguousarray(yuv[..., channel]), place, bounds), spread))
    return planes


def _mask_bounds(
    mask: NDArray[np.uint8], box: NDArray[np.float32], shape: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """Even bounds x0, y0, x1, y1, in the region, of the pixels that a mask over a box covers."""
    x, y, width, height = cv2.boundingRect(mask)
    if not width:
        return 0, 0, 0, 0
    scale = (box[2:] - box[:2]) / np.array(mask.shape[::-1])
    # One mask pixel more to each side: between it and its neighbour the mask falls to 0.
    low, high = np.array([x - 1, y - 1]), np.array([x + width + 1, y + height + 1])
    inner = np.concatenate([box[:2] + low * scale, box[:2] + high * scale])
    inner = np.concatenate([np.maximum(inner[:2], box[:2]), np.minimum(inner[2:], box[2:])])
    return even_bounds(inner, shape)


def spread_over(
    picture: NDArray[np.uint8],
    box: NDArray[np.floating],
    bounds: tuple[int, int, int, int],
    *,
    is_zero_outside: bool = False,
) -> NDArray[np.uint8]:
    """Draw the part of a picture, which fills a box, that is within whole-pixel bounds.

    Args:
        picture: (h, w) uint8.
        box: (4,) x0, y0, x1, y1: edges in the pixels of the plane that is drawn.
        bounds: x0, y0, x1, y1 of what is drawn.
        is_zero_outside: Whether pixels whose middle is outside the box are 0; otherwise its edge repeats.

    Returns:
        (y1 - y0, x1 - x0) uint8.
    """
    x0, y0, x1, y1 = bounds
    height, width = picture.shape
    step_x, step_y = width / float(box[2] - box[0]), height / float(box[3] - box[1])
    left, top = (x0 + 0.5 - float(box[0])) * step_x - 0.5, (y0 + 0.5 - float(box[1])) * step_y - 0.5
    place = np.array([[step_x, 0, left], [0, step_y, top]])
    drawn = cv2.warpAffine(
        picture,
        place,
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if is_zero_outside:
        columns, rows = np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5
        drawn[:, (columns < box[0]) | (columns > box[2])] = 0
        drawn[(rows < box[1]) | (rows > box[3])] = 0
    return np.asarray(drawn, np.uint8)


def mix_plane(plane: FacePlane, opacity: float, match_colour: bool) -> None:
    """Write the face over the frame's pixels, in place: own + mask opacity (face - own), rounded once."""
    difference = cv2.subtract(plane.face, plane.own, dtype=cv2.CV_16S)
    if match_colour:
        seam = cv2.inRange(plane.mask, *_SEAM)
        if cv2.countNonZero(seam) >= _MIN_SEAM_PIXELS:
            shift = float(np.clip(cv2.mean(difference, seam)[0], -_MAX_SHIFT, _MAX_SHIFT))
            difference -= np.int16(round(shift))
    share = cv2.multiply(difference, plane.mask, scale=opacity / 255, dtype=cv2.CV_16S)
    cv2.add(plane.own, share, dst=plane.own, dtype=cv2.CV_8U)
