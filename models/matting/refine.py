"""Refines a coarse matte to the resolution of the frame, along the edges of its colours, without flicker.

Where the coarse matte is uncertain, alpha is a linear function of the colour within a small window, as in closed-form
matting (Levin, Lischinski and Weiss 2008). The function is fitted as in a guided filter (He, Sun and Tang 2013), with
one weight for each pixel: pixels that certainly belong to the person or the background count fully, others little. So
the colours on both sides decide where the edge lies, and hair is found by its colour. The fit runs at a low
resolution, its coefficients are applied to the pixels of the frame (fast guided filter, He and Sun 2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.yuv_frame import YuvFrame
from models.track.shots import SceneHistory

_MEMORY: Final = 0.88  # weight of the past where the picture does not change
# Differences of luma, averaged over 5 x 5 cells, at which the past counts .6 as much: sensor noise is below 1.
_CHANGE_LEVELS: Final = 3.5


class MatteHistory(NamedTuple):
    """What the matte of the next frame depends on."""

    coarse: NDArray[np.float32]  # (h, w) the last stabilised matte, 0 to 1
    luma: NDArray[np.float32]  # (h, w) luma of the last frame
    scenes: SceneHistory


def stabilised(frame: YuvFrame, coarse: NDArray[np.float32], last: MatteHistory | None) -> MatteHistory:
    """Return the history with the next frame, whose coarse matte is (h, w); a cut begins it again."""
    size = coarse.shape[1], coarse.shape[0]
    luma = cv2.resize(frame.y, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    scenes = SceneHistory.seen(frame, None if last is None else last.scenes)
    if last is None or scenes.is_cut:
        return MatteHistory(coarse, luma, scenes)
    change = cv2.blur(cv2.absdiff(luma, last.luma), (5, 5)) / _CHANGE_LEVELS
    weight = _MEMORY * np.exp(-0.5 * change * change)
    return MatteHistory(np.asarray(coarse + weight * (last.coarse - coarse), np.float32), luma, scenes)


_Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Refinement:
    """How a coarse matte is refined; radii in shares of the longer side of the frame."""

    radius: float = 1 / 70  # radius of the window of a fit
    band: float = 1 / 50  # width around uncertain pixels: error of the coarse edge
    epsilon: float = 1e-3  # variance of colour (0 to 1) below which a fit is flat
    unlikely: float = 0.1  # coarse matte below which a pixel is background, away from edges
    likely: float = 0.7  # the same for the person
    floor: float = 0.1  # weight of an uncertain pixel
    low: float = 0.15  # alpha below which a pixel is background
    high: float = 0.95  # alpha above which a pixel is foreground


def refine(frame: YuvFrame, coarse: _Plane, how: Refinement = Refinement()) -> NDArray[np.uint8]:
    """Return the (H, W) alpha of a frame, 0 to 255, from a coarse (h, w) matte, 0 to 1; it is fitted at that size."""
    size = coarse.shape[1], coarse.shape[0]
    guide = [
        cv2.resize(plane, size, interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255) for plane in frame
    ]
    target = np.asarray(np.clip((coarse - how.unlikely) / (how.likely - how.unlikely), 0, 1), np.float32)
    radius, band = (max(2, round(share * max(size))) for share in (how.radius, how.band))
    unsure = ((target > 0.1) & (target < 0.9)).astype(np.uint8)
    around = cv2.dilate(unsure, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1)))
    weight = np.where(around > 0, how.floor, np.float32(1)).astype(np.float32)
    fit = _fit(guide, target, weight, radius, how.epsilon)
    share = np.asarray(cv2.blur(around.astype(np.float32), (band, band)), np.float32)
    return _apply(frame, fit, target, share, how)


class _Fit(NamedTuple):
    """The weighted linear regression of alpha on colour in the windows around each pixel."""

    slopes: list[_Plane]  # slopes for Y, U, V
    offset: _Plane
    explained: _Plane  # share of the variance of alpha that the colour explains, 0 to 1


def _fit(guide: list[_Plane], target: _Plane, weight: _Plane, radius: int, epsilon: float) -> _Fit:

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
    variance = mean(weight * target * target) / total - mean_target * mean_target
    explained = (slopes[0] * cy + slopes[1] * cu + slopes[2] * cv) / np.maximum(variance, 1e-4)
    smoothed = [mean(plane) for plane in slopes]
    return _Fit(smoothed, mean(np.asarray(offset, np.float32)), mean(np.clip(explained, 0, 1).astype(np.float32)))


def _apply(frame: YuvFrame, fit: _Fit, target: _Plane, share: _Plane, how: Refinement) -> NDArray[np.uint8]:
    """Return alpha; where colour explains little of it, it follows the coarse matte."""
    height, width = frame.y.shape

    def full(plane: NDArray[np.uint8] | _Plane) -> _Plane:
        return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)

    alpha = full(fit.offset)
    for slope, plane in zip(fit.slopes, frame, strict=True):
        alpha += full(slope) * (full(plane) / 255)
    target = full(target)
    alpha = target + full(fit.explained * share) * (np.clip(alpha, 0, 1) - target)
    alpha = np.clip((alpha - how.low) / (how.high - how.low), 0, 1)
    return np.asarray(np.rint(255 * alpha), np.uint8)
