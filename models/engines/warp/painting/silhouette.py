"""Keeps the masks on the face where the head is turned: behind the far cheek there is background, not skin.

The masks are drawn for a head that looks into the camera. For turned heads they end, softly, where the surface of the
face turns out of sight. Heads are sorted by yaw into steps, so that a chunk carries a few masks and not one a face.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from models.engines.warp.painting.masks import TEXTURE, texture_window
from models.face.surface import Window, surface
from models.geometry.smooth_step import smooth_step

_STEP_DEGREES = 3.0
_FIRST_DEGREES, _FULL_DEGREES = 9.0, 24.0  # yaw at which the masks begin to be cut, and are cut wholly
# Cosine between the surface and the way to the camera: hidden below the first, kept above the second.
_HIDDEN, _KEPT = 0.22, 0.5


def masks_by_yaw(
    masks: NDArray[np.uint8], yaw_degrees: NDArray[np.floating]
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Cuts the masks of one talker for T heads.

    Args:
        masks: (M, M, 2) textures, see `models.engines.warp.painting.masks.draw_masks`.
        yaw_degrees: (T,) as measured; positive to the picture's right.

    Returns:
        (V, M, M, 2) uint8 masks, V >= 1, and (T,) int32 which of them is a head's.
    """
    turned = np.abs(yaw_degrees) > _FIRST_DEGREES
    steps = np.where(turned, np.rint(yaw_degrees / _STEP_DEGREES), 0).astype(int)
    kinds, which = np.unique(np.append(steps, 0), return_inverse=True)
    cut = [masks if step == 0 else np.rint(masks * _in_sight(step)[..., None]).astype(np.uint8) for step in kinds]
    return np.stack(cut), which[:-1].astype(np.int32)


@lru_cache(maxsize=64)
def _in_sight(step: int) -> NDArray[np.float64]:
    """(M, M) 0 to 1, what of the texture is to be seen of a head that is turned by so many steps."""
    left, top, span = texture_window()
    cell = span / TEXTURE
    window = Window(left + cell / 2, left + span - cell / 2, -top - cell / 2, -top - span + cell / 2, TEXTURE, TEXTURE)
    yaw = np.deg2rad(step * _STEP_DEGREES)
    towards = np.array([-np.sin(yaw), 0.0, np.cos(yaw)])  # the camera, in the head frame
    facing = surface(window).normals @ towards
    seen = smooth_step((facing - _HIDDEN) / (_KEPT - _HIDDEN))
    if step < 0:
        seen = seen[:, ::-1]
    middle = TEXTURE // 2  # what lies farther round than something hidden is hidden too
    seen[:, middle:] = np.minimum.accumulate(seen[:, middle:], 1)
    seen[:, :middle] = 1
    if step < 0:
        seen = seen[:, ::-1]
    share = smooth_step((np.abs(step) * _STEP_DEGREES - _FIRST_DEGREES) / (_FULL_DEGREES - _FIRST_DEGREES))
    return np.asarray(1 - share * (1 - seen))
