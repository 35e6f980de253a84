"""How far a matte is from the truth, and how much it flickers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from media.yuv_frame import YuvFrame

_BAND = 7  # pixels on both sides of the outline
_STATIC_LEVELS = 3  # a pixel that changes less does not change


@dataclass
class Errors:
    """Sums over frames of one kind of matte."""

    error: list[float] = field(default_factory=list)
    gradient: list[float] = field(default_factory=list)
    flicker: list[float] = field(default_factory=list)

    def add(self, alpha: NDArray[np.float32], truth: NDArray[np.float32], band: NDArray[np.bool_]) -> None:
        self.error.append(float(np.abs(alpha - truth).mean()))
        self.gradient.append(float(np.abs(_slope(alpha) - _slope(truth))[band].mean()))

    def add_change(self, before: NDArray[np.float32], alpha: NDArray[np.float32], is_static: NDArray[np.bool_]) -> None:
        if is_static.any():
            self.flicker.append(float(np.abs(alpha - before)[is_static].mean()))

    def __str__(self) -> str:
        means = (
            1000 * float(np.mean(each)) if each else float("nan") for each in (self.error, self.gradient, self.flicker)
        )
        return " | ".join(f"{mean:.1f}" for mean in means)


def _slope(alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    soft = cv2.GaussianBlur(alpha, (0, 0), 1.4)
    return np.hypot(cv2.Sobel(soft, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(soft, cv2.CV_32F, 0, 1) / 8)


def rim(
    shown: Sequence[NDArray[np.uint8]], expected: Sequence[NDArray[np.uint8]], truths: Sequence[NDArray[np.uint8]]
) -> float:
    """Returns the mean absolute difference of two films' luma in the pixels around the outline, in levels."""
    pairs = zip(shown, expected, truths, strict=True)
    return float(np.mean([cv2.absdiff(own, true)[_band(alpha)].mean() for own, true, alpha in pairs]))


def _band(truth: NDArray[np.uint8]) -> NDArray[np.bool_]:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _BAND + 1, 2 * _BAND + 1))
    return np.asarray(cv2.dilate(((truth > 12) & (truth < 243)).astype(np.uint8), disc) > 0)


def compare(
    frames: Sequence[YuvFrame], truths: Sequence[NDArray[np.uint8]], found: Sequence[NDArray[np.uint8]]
) -> Errors:
    errors = Errors()
    before: tuple[YuvFrame, NDArray[np.uint8], NDArray[np.float32]] | None = None
    for frame, true_alpha, found_alpha in zip(frames, truths, found, strict=True):
        alpha, truth = (each.astype(np.float32) / np.float32(255) for each in (found_alpha, true_alpha))
        band = _band(true_alpha)
        errors.add(alpha, truth, band)
        if before is not None:
            is_still = cv2.absdiff(frame.y, before[0].y) < _STATIC_LEVELS
            is_same = cv2.absdiff(true_alpha, before[1]) < _STATIC_LEVELS
            errors.add_change(before[2], alpha, band & is_still & is_same)
        before = frame, true_alpha, alpha
    return errors
