"""Finds the 80 lip points more accurately than the face mesh does.

Network: `lip_landmarks_80.onnx` (Apache-2.0, Google; the lip branch of Grishchenko et al., "Attention mesh:
high-fidelity face mesh prediction in real-time", 2020). It takes the same image as the face mesh and samples its own
features at 16 x 16 positions around the lips found by the mesh.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.geometry.face_points import CORNER_LEFT, CORNER_RIGHT, LIPS
from models.weights import weights_path
from models.weights.onnx_session import Device, make_session

_CROP_SIDE, _FEATURE_SIDE = 16, 48
_FEATURE = 4  # image pixels per feature cell
_CROP_SHARE = 1.5  # size of the crop relative to the lips
_PLACES = np.stack(np.meshgrid(*2 * [np.arange(_CROP_SIDE) + 0.5]), -1)  # (16, 16, 2) x, y in the crop
_CORNERS = [LIPS.index(CORNER_LEFT), LIPS.index(CORNER_RIGHT)]


class LipLandmarker:
    """The lip network."""

    def __init__(self, num_threads: int, device: Device) -> None:
        self._session = make_session(weights_path("lip_landmarks_80.onnx"), num_threads=num_threads, device=device)

    def __call__(self, picture: NDArray[np.float32], lips: NDArray[np.floating]) -> NDArray[np.float64]:
        """Refines the lips of a face.

        Args:
            picture: (1, 192, 192, 3) RGB, 0 to 1, the input of the face mesh.
            lips: (80, 2) points `face_points.LIPS` of the mesh, in pixels of the image.

        Returns:
            (80, 2) pixels of the image.
        """
        matrix, origin = _crop(lips / _FEATURE)
        places = _PLACES @ matrix.T + origin - 0.5
        grid = 2 * places / (_FEATURE_SIDE - 1) - 1  # -1 and 1 are the first and the last cell
        found = self._session.run(None, {"picture": picture, "grid": grid[None].astype(np.float32)})[0][0]
        return np.asarray(found @ matrix.T + _FEATURE * origin, np.float64)


def _crop(lips: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the (2, 2) matrix and (2,) origin that map the crop around (80, 2) lips to feature cells.

    The crop is rotated so that the line through the mouth corners is level.
    """
    left, right = lips[_CORNERS]
    along = (right - left) / max(float(np.hypot(*(right - left))), 1e-6)
    axes = np.array([[along[0], -along[1]], [along[1], along[0]]])
    level = lips @ axes
    low, high = level.min(0), level.max(0)
    matrix = axes * (_CROP_SHARE * (high - low) / _CROP_SIDE)
    return matrix, axes @ ((low + high) / 2) - matrix @ (2 * [_CROP_SIDE / 2])
