"""The 68 points of iBUG 300-W, taken from the 468 of MediaPipe's face mesh.

Generators of this family were trained on crops placed by those points. The mesh has no exact counterpart of each of
them: the list is the published one that bytedance/LatentSync 1.5 (latentsync/utils/image_processor.py) and many others
use.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.geometry.head_frame import NUM_POINTS

# Order: Sagonas et al., 300 Faces in-the-Wild Challenge (2013); rows run from the picture's left to its right.
IBUG_POINTS: Final = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),  # 0-16 jaw, 8 is the chin
    *(71, 63, 105, 66, 107),  # 17-21 brow
    *(336, 296, 334, 293, 301),  # 22-26 brow
    *(168, 197, 5, 4),  # 27-30 bridge of the nose
    *(75, 97, 2, 326, 305),  # 31-35 base of the nose
    *(33, 160, 158, 133, 153, 144),  # 36-41 eye
    *(362, 385, 387, 263, 373, 380),  # 42-47 eye
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # 48-59 outer lips from the corner on the picture's left
    *(78, 82, 13, 312, 308, 317, 14, 87),  # 60-67 inner lips
)
# Points that enclose everything that speech moves: jaw and base of the nose (facefusion's "lower-face" hull takes the
# same).
LOWER_FACE: Final = (*range(3, 14), *range(31, 36))

# The outline of the whole face in the mesh (FACEMESH_FACE_OVAL in mediapipe/python/solutions/face_mesh_connections.py).
FACE_OVAL: Final = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)


def ibug_points(points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the (N, 68, 2) float32 points of (N, 468, 2 or 3) landmarks of the mesh, in pixels."""
    if points.ndim != 3 or points.shape[1] != NUM_POINTS or points.shape[2] < 2:
        raise ValueError(f"Expected (N, {NUM_POINTS}, 2 or 3) points, got {points.shape = }.")
    return points[:, list(IBUG_POINTS), :2].astype(np.float32)


def lower_face_outline(points68: NDArray[np.floating], outward: float) -> NDArray[np.float32]:
    """Return points whose convex hull is the part of the face that speech moves.

    Args:
        points68: (N, 68, 2) pixels.
        outward: Distance by which each point is moved away from the outline's middle, of the outline's height; only to
            the sides and down, because the part above does not move.

    Returns:
        (N, 16, 2) float32 pixels.
    """
    outline = points68[:, list(LOWER_FACE)]
    away = outline - (outline.min(1, keepdims=True) + outline.max(1, keepdims=True)) / 2
    distance = outward * np.ptp(outline[..., 1], axis=1)[:, None, None]
    step = away * distance / np.linalg.norm(away, axis=2, keepdims=True).clip(1e-3)
    step[..., 1] = np.maximum(step[..., 1], 0)
    return np.asarray(outline + step, np.float32)
