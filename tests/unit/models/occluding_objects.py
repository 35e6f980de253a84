"""Draws objects that pass in front of a mouth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from models.geometry.head_frame import (
    CHEEK_FRONT,
    EYE_LEFT,
    EYE_RIGHT,
    INNER_MIDDLES,
    MOUTH_MIDDLE,
    OUTER_LOWER,
    OUTER_UPPER,
)

_FAR = 2.2  # eye distances from the mouth at which an object is out of the way
_SHADOW = 0.25  # share of the light that an object takes from the face behind it
_LIPS = [*OUTER_UPPER, *OUTER_LOWER[::-1]]

Point = tuple[int, int]


class _Canvas:
    """One object at one position: its alpha mask and its colours."""

    def __init__(self, shape: tuple[int, int], middle: NDArray[np.floating], unit: float, seed: int) -> None:
        self.shape, self.middle, self.unit = shape, middle, unit
        self.alpha = np.zeros(shape, np.float32)
        self.rgb = np.zeros((*shape, 3), np.float32)
        self._random = np.random.default_rng(seed)

    def at(self, x: float, y: float) -> Point:
        """Pixels of a place in units from the middle."""
        return int(self.middle[0] + x * self.unit), int(self.middle[1] + y * self.unit)

    def size(self, length: float) -> int:
        """Pixels of a length in units."""
        return max(1, int(length * self.unit))

    def paint(self, colour: NDArray[np.floating], draw: Callable[[NDArray[np.float32]], object]) -> None:
        """Adds a part in one colour, shaded and grained."""
        part = np.zeros(self.shape, np.float32)
        draw(part)
        y, x = np.mgrid[: self.shape[0], : self.shape[1]].astype(np.float32)
        shade = 1 + 0.2 * np.sin(x / (0.5 * self.unit)) * np.cos(y / (0.7 * self.unit))
        grain = cv2.GaussianBlur(self._random.normal(0, 8, self.shape).astype(np.float32), (0, 0), 1.0)
        rim = 1 - 0.4 * (part - cv2.erode(part, np.ones((3, 3), np.uint8), iterations=self.size(0.02)))
        self.rgb = np.where(part[..., None] > 0, colour * (shade * rim)[..., None] + grain[..., None], self.rgb)
        self.alpha = np.maximum(self.alpha, part)


def _hand(canvas: _Canvas, skin: NDArray[np.float64], colour: NDArray[np.float64]) -> None:
    """Four fingers from the side."""
    finger = {"color": 1, "thickness": canvas.size(0.15)}
    for y in (-0.26, -0.09, 0.08, 0.26):
        canvas.paint(skin, partial(cv2.line, pt1=canvas.at(-0.35, y), pt2=canvas.at(1.6, y + 0.08), **finger))
    canvas.paint(skin, lambda part: cv2.circle(part, canvas.at(1.7, 0.05), canvas.size(0.45), 1, -1))
    canvas.paint(skin, lambda part: cv2.line(part, canvas.at(1.7, 0.1), canvas.at(2.6, 1.6), 1, canvas.size(0.5)))


def _fist(canvas: _Canvas, skin: NDArray[np.float64], colour: NDArray[np.float64]) -> None:
    canvas.paint(skin, lambda part: cv2.line(part, canvas.at(0, 0.2), canvas.at(0.5, 2.2), 1, canvas.size(0.5)))
    canvas.paint(skin, lambda part: cv2.circle(part, canvas.at(0, 0.05), canvas.size(0.4), 1, -1))


def _microphone(canvas: _Canvas, skin: NDArray[np.float64], colour: NDArray[np.float64]) -> None:
    grey = np.full(3, colour.min())
    canvas.paint(grey, lambda part: cv2.line(part, canvas.at(0, 0), canvas.at(0.4, 1.8), 1, canvas.size(0.15)))
    canvas.paint(grey, lambda part: cv2.circle(part, canvas.at(0, 0), canvas.size(0.24), 1, -1))


def _cup(canvas: _Canvas, skin: NDArray[np.float64], colour: NDArray[np.float64]) -> None:
    corners = [canvas.at(*corner) for corner in ((-0.36, -0.2), (0.36, -0.2), (0.28, 0.6), (-0.28, 0.6))]
    canvas.paint(colour, lambda part: cv2.fillPoly(part, [np.array(corners)], 1))
    canvas.paint(skin, lambda part: cv2.line(part, canvas.at(0.35, 0.3), canvas.at(1, 2), 1, canvas.size(0.4)))


def _phone(canvas: _Canvas, skin: NDArray[np.float64], colour: NDArray[np.float64]) -> None:
    grey = np.full(3, colour.max())
    canvas.paint(grey, lambda part: cv2.rectangle(part, canvas.at(-0.35, -0.3), canvas.at(0.35, 1.2), 1, -1))
    canvas.paint(skin, lambda part: cv2.line(part, canvas.at(0.3, 0.7), canvas.at(0.7, 2.2), 1, canvas.size(0.4)))


OBJECTS: Final = {"hand": _hand, "fist": _fist, "microphone": _microphone, "cup": _cup, "phone": _phone}


@dataclass(frozen=True)
class Passage:
    """An object that passes in front of the mouth.

    Attributes:
        kind: Key of `OBJECTS`.
        start: Frame in which it starts to approach.
        num_coming: Frames in which it approaches, and in which it leaves.
        num_staying: Frames in front of the mouth.
        degrees: Direction it comes from: 0 from the right of the picture, 90 from below.
        size: Factor on its usual size.
        seed: Seed of its colour.
    """

    kind: str
    start: int
    num_coming: int
    num_staying: int
    degrees: float = 60.0
    size: float = 1.0
    seed: int = 0

    @property
    def stop(self) -> int:
        """Frame after the last one that shows the object."""
        return self.start + 2 * self.num_coming + self.num_staying

    def distance(self, frame: float) -> float:
        """Distance of the object from the mouth, 0 in front of it, 1 out of the way."""
        step = frame - self.start
        if not 0 <= frame - self.start < self.stop - self.start:
            return 1.0
        return max(1 - step / self.num_coming, (step - self.num_coming - self.num_staying) / self.num_coming, 0.0)

    def draw(self, frame: int, rgb: NDArray[np.uint8], points: NDArray[np.floating]) -> tuple[NDArray[np.uint8], float]:
        """Draws the object.

        Args:
            frame: Number of the picture.
            rgb: (H, W, 3) the picture without it.
            points: (468, 3) landmarks of the face in that picture.

        Returns:
            (H, W, 3) the picture with it, and the share of the lips that it hides, 0 to 1.
        """
        if self.distance(frame) >= 1:
            return rgb, 0.0
        unit = float(np.linalg.norm(points[EYE_LEFT, :2] - points[EYE_RIGHT, :2]))
        angle = np.deg2rad(self.degrees)
        way = np.array([np.cos(angle), np.sin(angle)]) * _FAR * unit * self.distance(frame)
        middle = points[[*MOUTH_MIDDLE, *INNER_MIDDLES], :2].mean(0) + way
        canvas = _Canvas(rgb.shape[:2], middle, unit * self.size, self.seed)
        OBJECTS[self.kind](canvas, _skin(rgb, points), np.random.default_rng(self.seed).uniform(20, 235, 3))
        alpha = cv2.GaussianBlur(canvas.alpha, (0, 0), max(0.6, 0.008 * unit))
        shadow = cv2.GaussianBlur(np.roll(alpha, int(0.06 * unit), 0), (0, 0), max(1.0, 0.06 * unit)) * _SHADOW
        covered = rgb * (1 - shadow)[..., None] * (1 - alpha)[..., None] + canvas.rgb * alpha[..., None]
        lips = np.zeros(rgb.shape[:2], np.uint8)
        cv2.fillPoly(lips, [np.rint(points[_LIPS, :2]).astype(np.int32)], 1)
        return covered.clip(0, 255).astype(np.uint8), float((alpha * lips).sum() / max(1, lips.sum()))


def _skin(rgb: NDArray[np.uint8], points: NDArray[np.floating]) -> NDArray[np.float64]:
    """(3,) R, G, B of the cheeks."""
    size = [rgb.shape[1] - 1, rgb.shape[0] - 1]
    places = np.rint(points[list(CHEEK_FRONT), :2]).astype(int).clip(0, size)
    return np.asarray(np.median(rgb[places[:, 1], places[:, 0]], 0), np.float64)
