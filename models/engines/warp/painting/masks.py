"""Masks of the rewritten pixels, and the matching of their colours to the frame.

`mouth` is where the exemplar shows: the lips and the skin around them. `jaw` is larger and sets how far the frame
itself is warped, so that chin and cheeks follow the mouth. Both are superellipses with a smooth rim.

The masks are drawn for a head that faces the camera. For turned heads they fade out where the surface of the face turns
out of sight, because there is background behind the far cheek. Yaw is quantised, so that a chunk carries a few masks
and not one per face.

In the rim of the mouth mask both images show the same skin. Their difference there is extrapolated inwards by
normalised convolution (Knutsson and Westin, "Normalized and differential convolution", CVPR 1993) at three
scales, on a 32 x 32 grid. Works on NumPy arrays and PyTorch tensors (`xp` is the module).
"""

from __future__ import annotations

from functools import cache, lru_cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from models.avatar.face_region import ABOVE_NOSE, BELOW_CHIN
from models.face.surface import Window, surface
from models.geometry.arrays import Array, smooth_step
from models.geometry.head_frame import CHIN_TIP, CORNER_LEFT, CORNER_RIGHT, MOUTH_MIDDLE, NOSE_BASE
from models.geometry.thin_plate import GRID

# Amount of unsharp masking with a 3 x 3 blur. Resampling and fades soften the image; a frame's own lips, used for lack
# of exemplars, are stretched farther and lose more.
_SHARPEN, _SHARPEN_OWN = 0.15, 0.45
LUMA_FLOOR = 8.0  # added before the ratio, so that it stays bounded for dark pixels
# (sigma in cells, weight): the narrow one dominates near the rim, the wide ones reach the middle.
_WIDTHS = ((1.2, 1.0), (3.2, 0.08), (8.0, 0.01))
_NOTHING = 1e-12  # negligible; products of smaller values are denormal, which is five times as slow on a CPU
_MAX_LOG_GAIN, _MAX_OFFSET = 0.5, 16.0


def sharpening(crops: NDArray[np.integer], own: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return how much to sharpen mouths read from `crops` (N,) in frames whose own crops are `own` (N,)."""
    return np.where(crops == own, _SHARPEN_OWN, _SHARPEN).astype(np.float32)


@cache
def blur_matrices() -> NDArray[np.float32]:
    """Return (3, 32, 32) float32 symmetric blur matrices; `blur @ image @ blur` blurs in both directions, weighted."""
    distance = np.subtract.outer(np.arange(GRID), np.arange(GRID))
    matrices = []
    for width, weight in _WIDTHS:
        kernel = np.exp(-(distance**2) / (2 * width**2))
        matrices.append(kernel * np.sqrt(weight) / (width * np.sqrt(2 * np.pi)))
    blurs = np.stack(matrices)
    blurs[blurs < _NOTHING] = 0
    return blurs.astype(np.float32)


def match_colour(xp: ModuleType, frame: Array, exemplar: Array, rim: Array, blurs: Array) -> tuple[Array, Array]:
    """Compute the correction that brings `exemplar` to the colours of `frame`.

    Args:
        xp: `numpy` or `torch`.
        frame: (T, 3, 32, 32) float32 mean Y, U, V of each cell, 0 to 255.
        exemplar: (T, 3, 32, 32) the same for the exemplar.
        rim: (T, 1, 32, 32) float32 weight, 0 to 1, of cells in which both show the same skin.
        blurs: `blur_matrices()`.

    Returns:
        Gain of `Y + LUMA_FLOOR`, (T, 1, 32, 32), and offset of U and V, (T, 2, 32, 32).
    """
    log_ratio = xp.log((frame[:, :1] + LUMA_FLOOR) / (exemplar[:, :1] + LUMA_FLOOR))
    difference = xp.concatenate([log_ratio, frame[:, 1:] - exemplar[:, 1:]], 1)
    stacked = xp.concatenate([difference * rim, rim], 1)  # (T, 4, 32, 32)
    # The sum of blurs @ stacked @ blurs, with the widths side by side: few products of large matrices
    side_by_side = blurs.swapaxes(0, 1).reshape(GRID, -1)  # (32, 96)
    along = (stacked @ side_by_side).reshape(*stacked.shape[:3], len(blurs), GRID).swapaxes(2, 3)
    blurred = side_by_side @ along.reshape(*stacked.shape[:2], -1, GRID)  # (T, 4, 32, 32)
    field = blurred[:, :3] / (blurred[:, 3:] + 1e-6)
    gain = xp.exp(field[:, :1].clip(-_MAX_LOG_GAIN, _MAX_LOG_GAIN))
    return gain, field[:, 1:].clip(-_MAX_OFFSET, _MAX_OFFSET)


TEXTURE = 160  # side of the drawn masks in pixels
_LEFT, _TOP, _SPAN = -1.0, 0.2, 2.0  # head-frame window of the masks, y down from the eyes
_EXPONENT = 2.4
_MOUTH_WIDTH, _JAW_WIDTH = 1.85, 2.6  # mouth widths
_MOUTH_RIM, _JAW_RIM = 0.30, 0.35  # share of the radius
_CHIN_SHARE = 0.80  # the mouth mask ends here between lower lip and chin
_FOLD_LIFT = 0.13  # beside the nose the mouth mask reaches higher, to include the nasolabial folds
_EDGE_CELLS = 3.0  # of 64: the masks fade to zero at the border of the region
_STEP_DEGREES = 3.0
_FIRST_DEGREES, _FULL_DEGREES = 9.0, 24.0  # yaw at which cutting starts and is complete
_FIRST_HIDDEN, _FULLY_HIDDEN = 36.0, 43.0  # yaw from which, and from which on completely, hidden points are left out
# Cosine between surface normal and camera direction: cut below the first, kept above the second.
_HIDDEN, _KEPT = 0.22, 0.5


def texture_window() -> tuple[float, float, float]:
    """Return left edge, top edge (y down from the eyes) and side of the masks in the head frame."""
    return _LEFT, _TOP, _SPAN


def texture_positions(head: NDArray[np.floating]) -> NDArray[np.float64]:
    """Map (..., 2+) head-frame points to pixels of the mask texture, (..., 2)."""
    x, y = np.asarray(head[..., 0], np.float64), -np.asarray(head[..., 1], np.float64)
    return np.stack([x - _LEFT, y - _TOP], -1) * (TEXTURE / _SPAN) - 0.5


def draw_masks(rest: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Draw the masks of a (468, 3) closed mouth in the head frame: (160, 160, 2) uint8, mouth and jaw."""
    points = np.asarray(rest, np.float64) * [1, -1, 1]  # y down
    cells = (np.arange(TEXTURE) + 0.5) * (_SPAN / TEXTURE)
    x, y = np.meshgrid(_LEFT + cells, _TOP + cells)
    centre_x, centre_y = points[list(MOUTH_MIDDLE), :2].mean(0)
    mouth_width = abs(points[CORNER_RIGHT, 0] - points[CORNER_LEFT, 0])
    nose, chin, lip = points[NOSE_BASE, 1], points[CHIN_TIP, 1], points[17, 1]
    top = nose + 0.005 - _FOLD_LIFT * smooth_step((abs(x - centre_x) - 0.17) / 0.15)
    bottom = lip + _CHIN_SHARE * (chin - lip)
    across = abs(x - centre_x) / (mouth_width / 2)
    down = y - centre_y
    mouth_down = np.where(down < 0, -down / (centre_y - top), down / (bottom - centre_y))
    mouth = _superellipse(across / _MOUTH_WIDTH, mouth_down)
    above, below = centre_y - nose + ABOVE_NOSE, chin + BELOW_CHIN - centre_y
    jaw = _superellipse(across / _JAW_WIDTH, np.where(down < 0, -down / above, down / below))
    masks = np.stack([smooth_step((1 - mouth) / _MOUTH_RIM), smooth_step((1 - jaw) / _JAW_RIM)], -1)
    return np.asarray(np.rint(masks * 255), np.uint8)


@lru_cache(maxsize=8)
def border_window(size: int) -> NDArray[np.float32]:
    """Return (size, size) integers: 255 inside, 0 at the border, as a mask cut off by the border shows as a line."""
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]) * (64 / size / _EDGE_CELLS)
    side = smooth_step(distance)
    return np.asarray(np.rint(255 * side[:, None] * side), np.float32)


def _superellipse(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((x**_EXPONENT + y**_EXPONENT) ** (1 / _EXPONENT))


def masks_by_yaw(
    masks: NDArray[np.uint8], yaw_degrees: NDArray[np.floating]
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Cut the (M, M, 2) masks of a face for T head rotations; (T,) yaw is positive to the image's right.

    Returns:
        (V, M, M, 2) uint8 masks, V >= 1, and (T,) int32 mask index of each head.
    """
    turned = np.abs(yaw_degrees) > _FIRST_DEGREES
    steps = np.where(turned, np.rint(yaw_degrees / _STEP_DEGREES), 0).astype(int)
    kinds, which = np.unique(np.append(steps, 0), return_inverse=True)
    cut = [masks if step == 0 else np.rint(masks * _in_sight(step)[..., None]).astype(np.uint8) for step in kinds]
    return np.stack(cut), which[:-1].astype(np.int32)


def hidden_share(positions: NDArray[np.floating], yaw_degrees: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return how far points of the face are out of sight in T heads that are turned far.

    Args:
        positions: (P, 2) pixels of the mask texture.
        yaw_degrees: (T,) as for `masks_by_yaw`.

    Returns:
        (T, P) float32, 0 to 1; all 0 for measured yaws below 36 degrees. Heads turned by 45 degrees measure 36.
    """
    hidden = np.zeros((len(yaw_degrees), len(positions)), np.float32)
    columns, rows = np.rint(positions).astype(int).clip(0, TEXTURE - 1).T
    for row in np.flatnonzero(np.abs(yaw_degrees) > _FIRST_HIDDEN):
        step = float(yaw_degrees[row]) / _STEP_DEGREES
        first = int(np.floor(step))
        before, after = (1 - _in_sight(each)[rows, columns] for each in (first, first + 1))
        share = smooth_step((abs(float(yaw_degrees[row])) - _FIRST_HIDDEN) / (_FULLY_HIDDEN - _FIRST_HIDDEN))
        hidden[row] = share * (before + (step - first) * (after - before))
    return hidden


@lru_cache(maxsize=64)
def _in_sight(step: int) -> NDArray[np.float64]:
    """Return (M, M) visibility, 0 to 1, of the texture for a head rotated by `step` yaw steps."""
    left, top, span = texture_window()
    cell = span / TEXTURE
    window = Window(left + cell / 2, left + span - cell / 2, -top - cell / 2, -top - span + cell / 2, TEXTURE, TEXTURE)
    yaw = np.deg2rad(step * _STEP_DEGREES)
    towards = np.array([-np.sin(yaw), 0.0, np.cos(yaw)])  # the camera, in the head frame
    facing = surface(window).normals @ towards
    seen = smooth_step((facing - _HIDDEN) / (_KEPT - _HIDDEN))
    if step < 0:
        seen = seen[:, ::-1]
    middle = TEXTURE // 2  # anything beyond a hidden point is hidden too
    seen[:, middle:] = np.minimum.accumulate(seen[:, middle:], 1)
    seen[:, :middle] = 1
    if step < 0:
        seen = seen[:, ::-1]
    share = smooth_step((np.abs(step) * _STEP_DEGREES - _FIRST_DEGREES) / (_FULL_DEGREES - _FIRST_DEGREES))
    return np.asarray(1 - share * (1 - seen))
