"""SCRFD, the face detector that HeyGem ships: frame -> boxes. Optional; our own track finds faces without it.

IO as in HeyGem's face_detect_utils/scrfd.py: the frame in the upper left of a black 640 x 640 picture, RGB,
(x - 127.5) / 128; per stride 8, 16, 32 and two anchors a place: scores, distances to the four edges in strides, five
points; an anchor stands at its place times the stride, without half a step.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.engines.contract import Machine
from models.engines.dinet.io_shapes import DETECTOR_INPUTS, DETECTOR_OUTPUTS
from models.engines.dinet.positional_network import PositionalNetwork

_SIZE, _STRIDES, _NUM_ANCHORS = 640, (8, 16, 32), 2
_MIN_SCORE, _MAX_OVERLAP = 0.5, 0.35
_NUMS = tuple((_SIZE // stride) ** 2 * _NUM_ANCHORS for stride in _STRIDES)


class FaceDetector:
    """The loaded network.

    Args:
        path: scrfd_500m_bnkps or scrfd_10g_kps as .onnx.
        machine: Where it runs.

    Raises:
        WeightsError: The file is missing or is not such a network.
        ConfigError: CUDA was asked for and is not active.
    """

    def __init__(self, path: Path, machine: Machine) -> None:
        self._network = PositionalNetwork(path, machine, DETECTOR_INPUTS, DETECTOR_OUTPUTS)

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Find the faces of one frame.

        Args:
            rgb: (H, W, 3) uint8 RGB.

        Returns:
            (K, 5) float32 x0, y0, x1, y1 in frame pixels and the score, best first.
        """
        scale = _SIZE / max(rgb.shape[:2])
        height, width = (max(1, int(side * scale)) for side in rgb.shape[:2])
        padded = np.zeros((_SIZE, _SIZE, 3), np.float32)
        padded[:height, :width] = cv2.resize(rgb, (width, height))
        outputs = self._network(((padded - 127.5) / 128).transpose(2, 0, 1)[None])
        found = np.concatenate(
            [
                _decode(outputs[i], outputs[i + 3], stride, num)
                for i, (stride, num) in enumerate(zip(_STRIDES, _NUMS, strict=True))
            ]
        )
        found[:, :4] /= np.tile([width / rgb.shape[1], height / rgb.shape[0]], 2).astype(np.float32)
        return found[_best_of_each(found)]


def _decode(scores: NDArray[np.float32], edges: NDArray[np.float32], stride: int, num: int) -> NDArray[np.float32]:
    """(K, 5) boxes of one stride, in pixels of the padded frame."""
    scores, edges = scores.reshape(num), edges.reshape(num, 4) * stride
    side = _SIZE // stride
    rows, columns = np.divmod(np.arange(side * side).repeat(_NUM_ANCHORS), side)
    x, y = columns * stride, rows * stride
    boxes = np.stack([x - edges[:, 0], y - edges[:, 1], x + edges[:, 2], y + edges[:, 3], scores], 1)
    return boxes[scores >= _MIN_SCORE].astype(np.float32)


def _best_of_each(found: NDArray[np.float32]) -> list[int]:
    """Rows that overlap with no better one."""
    kept: list[int] = []
    for row in np.argsort(-found[:, 4], kind="stable").tolist():
        if all(overlap(found[row], found[other]) <= _MAX_OVERLAP for other in kept):
            kept.append(row)
    return kept


def overlap(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Return the shared area of two boxes over that of both together."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:4], other[2:4])
    shared = float(np.prod((high - low).clip(0)))
    areas = sum(float(np.prod(box[2:4] - box[:2])) for box in (one, other))
    return shared / max(areas - shared, 1e-9)
