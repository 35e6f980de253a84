"""How far finished mouths move where nobody speaks, measured on the painted pixels and not on the plan.

The light down the middle of the mouth, in a window that the head carries: lips that part, teeth that flash and an edge
that trembles all change it, and the light of the whole picture, which is taken out, does not.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from models.engines.patches import FacePatches
from models.engines.warp.chunk import FaceChunk
from models.engines.warp.painting.controls import NUM_LANDMARKS, anchor_points
from models.mouth.motion import Moments

# Half of the window's sides in eye distances, as in `exemplar_bank`, and samples along them.
_HALF_WIDTH, _HALF_HEIGHT = 0.09, 0.19
_COLUMNS, _LINES = 16, 40
_MIN_LUMA: Final = 8.0  # below it is noise


def silent_motion(chunk: FaceChunk, patches: FacePatches) -> Moments:
    """Measures the silent faces of a chunk.

    Args:
        chunk: N faces; those count that hold their mouth fully.
        patches: The same faces, finished.

    Returns:
        Of one number a face: by how much its mouth's light differs from the chunk's mean, root mean square over the
        lines of the window, as a share of the mouth's light.
    """
    silent = np.flatnonzero((chunk.hold >= 1) & (chunk.opacity >= 1))
    if not len(silent):
        return Moments()
    lines = np.stack([_lines(patches.y[face], window) for face, window in zip(silent, _windows(chunk), strict=True)])
    return Moments.of(np.sqrt(np.square(lines - lines.mean(0)).mean(1)))


def _windows(chunk: FaceChunk) -> NDArray[np.float32]:
    """(S, 2, 3) maps from the window's samples to region pixels, of the S silent faces."""
    silent = (chunk.hold >= 1) & (chunk.opacity >= 1)
    head = anchor_points(0.0)[:, :2]
    design = np.column_stack([np.ones(len(head)), head])
    axes = (np.linalg.pinv(design) @ chunk.target_points[silent, NUM_LANDMARKS:])[:, 1:]  # (S, 2, 2) of x and of y
    right, down = 2 * _HALF_WIDTH / _COLUMNS * axes[:, 0], -2 * _HALF_HEIGHT / _LINES * axes[:, 1]
    corner = chunk.seam[silent] - (_COLUMNS - 1) / 2 * right - (_LINES - 1) / 2 * down
    return np.asarray(np.stack([right, down, corner], -1), np.float32)


def _lines(luma: NDArray[np.uint8], window: NDArray[np.float32]) -> NDArray[np.float32]:
    """(40,) mean light of each line of the window, over the median of all."""
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    picture = cv2.warpAffine(luma, window, (_COLUMNS, _LINES), flags=how, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(picture.mean(1) / max(float(np.median(picture)), _MIN_LUMA), np.float32)
