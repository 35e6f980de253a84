"""Detects faces in an image or a part of it with MediaPipe's short-range BlazeFace.

Network: `face_detection_short_range.onnx` (Apache-2.0, Google; Bazarevsky et al., "BlazeFace", 2019). Anchors and
decoding follow MediaPipe's `face_detection_short_range` graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.output.dynamic_range import to_sdr_rgb
from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame
from models.weights import weights_path
from models.weights.onnx_session import Device, make_session

# Smallest face the network finds, relative to the longer side of its input.
MIN_FACE_SHARE: Final = 0.15

_INPUT_SIDE = 128
_STRIDES = ((8, 2), (16, 6))  # pixels per cell, anchors per cell
_MIN_LOGIT = 0.0  # a score of 0.5
_NMS_OVERLAP = 0.3


class Window(NamedTuple):
    """A part of a frame in luma pixels, inside the frame; all values are even."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class FaceBox:
    """A face from the brows to the chin, in frame pixels (pixel centres at integers)."""

    center_x: float
    center_y: float
    width: float
    height: float
    angle: float  # radians, clockwise in the image: direction of the line through the eyes
    score: float  # 0..1

    @property
    def size(self) -> float:
        """Longer side in pixels."""
        return max(self.width, self.height)

    def contains(self, x: float, y: float) -> bool:
        """Return whether the box covers a pixel."""
        return abs(x - self.center_x) <= self.width / 2 and abs(y - self.center_y) <= self.height / 2

    def overlap(self, x0: float, y0: float, x1: float, y1: float) -> float:
        """Return the intersection over union with a box, 0..1."""
        left, top = self.center_x - self.width / 2, self.center_y - self.height / 2
        shared_width = max(0.0, min(left + self.width, x1) - max(left, x0))
        shared = shared_width * max(0.0, min(top + self.height, y1) - max(top, y0))
        return shared / (self.width * self.height + (x1 - x0) * (y1 - y0) - shared)

    def overlap_box(self, other: FaceBox) -> float:
        """Return the intersection over union with another face, 0..1."""
        half_width, half_height = other.width / 2, other.height / 2
        return self.overlap(
            other.center_x - half_width,
            other.center_y - half_height,
            other.center_x + half_width,
            other.center_y + half_height,
        )


class FaceDetector:
    """The detection network."""

    def __init__(self, num_threads: int, device: Device) -> None:
        self._session = make_session(
            weights_path("face_detection_short_range.onnx"), num_threads=num_threads, device=device
        )
        self._anchors = _anchors()

    def __call__(self, frame: YuvFrame, colour: ColourTags, window: Window | None = None) -> list[FaceBox]:
        """Return the faces in `window` (None: the whole frame), best score first.

        Faces smaller than about 15 % of the longer side of the window are missed.
        """
        height, width = frame.y.shape
        window = window or Window(0, 0, width, height)
        picture, scale, (left, top) = _letterbox(frame, colour, window)
        outputs = self._session.run(["regressors", "classificators"], {"input": picture[None]})
        regressors, logits = outputs[0][0], outputs[1][0, :, 0]  # (896, 16), (896,)
        kept = logits >= _MIN_LOGIT
        values = regressors[kept].reshape(-1, 8, 2).astype(np.float64) / _INPUT_SIDE  # centre, size, six key points
        values[:, [0, *range(2, 8)]] += self._anchors[kept, None]
        scores = 1.0 / (1.0 + np.exp(-logits[kept].astype(np.float64)))
        values, scores = _weighted_nms(values, scores)
        pixels = values * (_INPUT_SIDE / scale)
        pixels[:, [0, *range(2, 8)]] += np.array([window.x - left / scale, window.y - top / scale]) - 0.5
        return [_face(face, float(score)) for face, score in zip(pixels, scores, strict=True)]


def _face(values: NDArray[np.float64], score: float) -> FaceBox:
    (center_x, center_y), (width, height) = values[0], values[1]
    across = values[3] - values[2]  # from the image-left eye to the image-right eye
    return FaceBox(
        float(center_x), float(center_y), float(width), float(height), float(np.arctan2(across[1], across[0])), score
    )


def _anchors() -> NDArray[np.float64]:
    """Return the (896, 2) anchor centres, 0..1 over the input."""
    grids = []
    for stride, num_anchors in _STRIDES:
        axis = (np.arange(_INPUT_SIDE // stride) + 0.5) * stride / _INPUT_SIDE
        y, x = np.meshgrid(axis, axis, indexing="ij")
        grids.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), num_anchors, 0))
    return np.concatenate(grids)


def _letterbox(
    frame: YuvFrame, colour: ColourTags, window: Window
) -> tuple[NDArray[np.float32], float, tuple[int, int]]:
    """Resize the window to the input: (128, 128, 3) float32 RGB in [-1, 1], scale, and the left and top margin.

    The planes are resized before conversion to RGB, so large frames cost little.
    """
    scale = _INPUT_SIDE / max(window.width, window.height)
    half_width, half_height = (max(1, round(side * scale / 2)) for side in (window.width, window.height))
    x, y, width, height = window
    small = YuvFrame(
        _shrink(frame.y[y : y + height, x : x + width], 2 * half_width, 2 * half_height),
        _shrink(frame.u[y // 2 : (y + height) // 2, x // 2 : (x + width) // 2], half_width, half_height),
        _shrink(frame.v[y // 2 : (y + height) // 2, x // 2 : (x + width) // 2], half_width, half_height),
    )
    left, top = _INPUT_SIDE // 2 - half_width, _INPUT_SIDE // 2 - half_height
    picture = np.full((_INPUT_SIDE, _INPUT_SIDE, 3), -1.0, np.float32)
    shown = to_sdr_rgb(small, colour) / np.float32(127.5) - 1
    picture[top : top + 2 * half_height, left : left + 2 * half_width] = shown
    return picture, scale, (left, top)


def _shrink(plane: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _weighted_nms(
    values: NDArray[np.float64], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Merge overlapping candidates into their score-weighted mean (BlazeFace, section 4)."""
    corners = np.concatenate([values[:, 0] - values[:, 1] / 2, values[:, 0] + values[:, 1] / 2], 1)  # (K, 4)
    areas = values[:, 1].prod(1)
    order = np.argsort(-scores, kind="stable")
    merged, kept = [], []
    while len(order):
        best = order[0]
        low, high = np.maximum(corners[best, :2], corners[order, :2]), np.minimum(corners[best, 2:], corners[order, 2:])
        shared = np.maximum(high - low, 0.0).prod(1)
        near = shared / (areas[best] + areas[order] - shared) > _NMS_OVERLAP
        near[0] = True
        group = order[near]
        merged.append(np.average(values[group], axis=0, weights=scores[group]))
        kept.append(scores[best])
        order = order[~near]
    return np.array(merged).reshape(-1, 8, 2), np.array(kept)
