"""Refines a coarse matte to the resolution of the frame, along the edges of its colours.

Where the coarse matte is uncertain, alpha is a linear function of the colour within a small window, as in closed-form
matting (Levin, Lischinski and Weiss 2008). The function is fitted as in a guided filter (He, Sun and Tang 2013), with
one weight for each pixel: pixels that certainly belong to the person or the background count fully, others little. So
the colours on both sides decide where the edge lies, and hair is found by its colour. The fit runs at a low
resolution, its coefficients are applied to the pixels of the frame (fast guided filter, He and Sun 2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from media.yuv_frame import YuvFrame

_Plane = NDArray[np.float32]

_FIT_SIDE: Final = 480
"""Longest side at which coefficients are fitted."""


@dataclass(frozen=True)
class Refinement:
    """How a coarse matte is refined; radii in shares of the longer side of the frame."""

    radius: float = 1 / 56  # of the window of a fit
    band: float = 1 / 64  # around uncertain pixels: the coarse edge may lie off by this
    epsilon: float = 2e-4  # variance of colour (0 to 1) below which a fit is flat
    floor: float = 0.02  # weight of an uncertain pixel
    low: float = 0.08  # alpha below which a pixel is background
    high: float = 0.92  # alpha above which a pixel is foreground


def refine(frame: YuvFrame, coarse: _Plane, how: Refinement = Refinement()) -> NDArray[np.uint8]:
    """Returns the (H, W) alpha of a frame, 0 to 255, from a coarse matte of any size, 0 to 1."""
    height, width = frame.y.shape
    longest = max(height, width)
    scale = min(1.0, _FIT_SIDE / longest)
    size = max(8, round(width * scale)), max(8, round(height * scale))
    guide = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255 for plane in frame]
    target = cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR)
    fit_side = longest * scale
    radius, band = max(2, round(how.radius * fit_side)), max(2, round(how.band * fit_side))
    unsure = ((target > 0.1) & (target < 0.9)).astype(np.uint8)
    around = cv2.dilate(unsure, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1)))
    weight = np.where(around > 0, how.floor, np.float32(1)).astype(np.float32)
    slopes, offset = _fit(guide, target, weight, radius, how.epsilon)
    share = cv2.blur(around.astype(np.float32), (band, band))
    return _applied(frame, slopes, offset, (target, share), how)


def _fit(
    guide: list[_Plane], target: _Plane, weight: _Plane, radius: int, epsilon: float
) -> tuple[list[_Plane], _Plane]:
    """Returns three slopes and the offset of the weighted linear regression of `target` on `guide` in each window."""

    def mean(plane: _Plane) -> _Plane:
        return np.asarray(cv2.blur(plane, (2 * radius + 1, 2 * radius + 1)), np.float32)

    total = mean(weight)
    means = [mean(weight * plane) / total for plane in guide]
    mean_target = mean(weight * target) / total
    (yy, yu, yv), (uu, uv), (vv,) = (
        [mean(weight * guide[i] * guide[j]) / total - means[i] * means[j] for j in range(i, 3)] for i in range(3)
    )
    yy, uu, vv = yy + epsilon, uu + epsilon / 4, vv + epsilon / 4  # chroma has less noise and less contrast
    cy, cu, cv = (
        mean(weight * plane * target) / total - own * mean_target for plane, own in zip(guide, means, strict=True)
    )
    # The inverse of the symmetric 3 x 3 matrix, by its cofactors.
    a, b, c = uu * vv - uv * uv, yv * uv - yu * vv, yu * uv - yv * uu
    d, e, f = yy * vv - yv * yv, yu * yv - yy * uv, yy * uu - yu * yu
    determinant = np.maximum(yy * a + yu * b + yv * c, 1e-15)
    slopes = [
        (a * cy + b * cu + c * cv) / determinant,
        (b * cy + d * cu + e * cv) / determinant,
        (c * cy + e * cu + f * cv) / determinant,
    ]
    offset = mean_target - sum(slope * own for slope, own in zip(slopes, means, strict=True))
    smoothed = [mean(plane) for plane in slopes]
    return smoothed, mean(np.asarray(offset, np.float32))


def _applied(
    frame: YuvFrame, slopes: list[_Plane], offset: _Plane, coarse: tuple[_Plane, _Plane], how: Refinement
) -> NDArray[np.uint8]:
    height, width = frame.y.shape

    def full(plane: NDArray[np.generic]) -> _Plane:
        return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)

    alpha = full(offset)
    for slope, plane in zip(slopes, frame, strict=True):
        alpha += full(slope) * (full(plane) / 255)
    target, share = (full(plane) for plane in coarse)
    alpha = np.where(share > 0, share * alpha + (1 - share) * (target > 0.5), target > 0.5)
    alpha = np.clip((alpha - how.low) / (how.high - how.low), 0, 1)
    return np.rint(255 * alpha).astype(np.uint8)
