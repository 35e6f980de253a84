"""PFPLD, the landmarks that HeyGem ships: frame and box -> the 68 points that its crop is laid by. Optional.

IO as in HeyGem's face_detect_utils/face_detect.py: the box, widened by a tenth of its width to either side and of its
height below, as 112 x 112 BGR in [0, 1]; the second output's first 196 numbers are the 98 points of WFLW, 0 to 1 in
the crop.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from errors import FaceNotFoundError
from models.engines.contract import Machine
from models.engines.dinet.io_shapes import LANDMARK_INPUTS, LANDMARK_OUTPUTS
from models.engines.dinet.positional_network import PositionalNetwork

_SIZE = 112
_WIDER = 0.1

# WFLW's 98 points behind the 68 of iBUG, in iBUG's order; a pair stands for the middle between two.
_OF_98: Final = (
    *((i,) for i in range(0, 33, 2)),  # jaw
    *((i,) for i in (*range(33, 38), *range(42, 47))),  # brows
    *((i,) for i in range(51, 60)),  # nose
    *((60,), (60, 62), (62, 64), (64,), (64, 66), (60, 66)),  # eye
    *((68,), (68, 70), (70, 72), (72,), (72, 74), (68, 74)),  # eye
    *((i,) for i in range(76, 96)),  # mouth
)


class FaceLandmarks98:
    """The loaded network.

    Args:
        path: pfpld_robust_sim_bs1_8003.onnx or its like.
        machine: Where it runs.

    Raises:
        WeightsError: The file is missing or is not such a network.
        ConfigError: CUDA was asked for and is not active.
    """

    def __init__(self, path: Path, machine: Machine) -> None:
        self._network = PositionalNetwork(path, machine, LANDMARK_INPUTS, LANDMARK_OUTPUTS)

    def __call__(self, rgb: NDArray[np.uint8], box: NDArray[np.floating]) -> NDArray[np.float32]:
        """Find the points of one face.

        Args:
            rgb: (H, W, 3) uint8 RGB.
            box: (4,) x0, y0, x1, y1 in frame pixels.

        Returns:
            (68, 2) float32 frame pixels.

        Raises:
            FaceNotFoundError: The box lies outside of the frame.
        """
        width, height = box[2] - box[0], box[3] - box[1]
        limit = np.tile(rgb.shape[1::-1], 2)
        wide = box + np.array([-_WIDER * width, 0, _WIDER * width, _WIDER * height])
        x0, y0, x1, y1 = (int(value) for value in wide.clip(0, limit))
        if x0 >= x1 or y0 >= y1:
            raise FaceNotFoundError(f"Expected a face in the {rgb.shape[1]} x {rgb.shape[0]} frame, its box is {box}.")
        crop = cv2.resize(rgb[y0:y1, x0:x1, ::-1], (_SIZE, _SIZE)).astype(np.float32) / 255
        points = self._network(crop.transpose(2, 0, 1)[None])[1][0, :196].reshape(98, 2)
        return (points_68(points) * [x1 - x0, y1 - y0] + [x0, y0]).astype(np.float32)


def points_68(points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Turn (98, 2) points of WFLW into the (68, 2) of iBUG."""
    return np.stack([points[list(rows)].mean(0) for rows in _OF_98]).astype(np.float32)
