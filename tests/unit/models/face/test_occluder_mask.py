"""Objects in front of a lower face are outlined; a mouth that moves is none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.face.lower_face import CELLS
from models.face.occluder_mask import UncoveredFace

SKIN, LIPS, DARK = np.array([150, 112, 150]), np.array([110, 115, 170]), np.array([30, 124, 134])


def view(opening: int, seed: int = 0) -> NDArray[np.float32]:
    """A lower face, brighter at the top, with a mouth that is open by some cells."""
    y = np.arange(CELLS)[:, None, None]
    picture = np.asarray(SKIN + np.array([-0.25, 0, 0]) * (y - CELLS / 2) + np.zeros((CELLS, CELLS, 3)), np.float32)
    cv2.ellipse(picture, (48, 48), (20, 6 + opening), 0, 0, 360, LIPS.tolist(), -1)
    if opening:
        cv2.ellipse(picture, (48, 48), (15, opening), 0, 0, 360, DARK.tolist(), -1)
    return np.asarray(picture + np.random.default_rng(seed).normal(0, 0.7, picture.shape), np.float32)


@pytest.fixture(scope="module")
def face() -> UncoveredFace:
    return UncoveredFace(np.stack([view(opening, seed) for seed, opening in enumerate((0, 1, 2, 3, 4, 5, 2, 0))]))


def arm(thickness: int, end: tuple[int, int]) -> NDArray[np.bool_]:
    drawn = np.zeros((CELLS, CELLS), np.uint8)
    cv2.line(drawn, (95, 80), end, 1, thickness)
    return drawn > 0


def overlap(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    return float((found & true).sum() / (found | true).sum())


@pytest.mark.parametrize("colour", [(60, 128, 128), (200, 128, 128), (150, 150, 100), (110, 112, 150)])
@pytest.mark.parametrize("thickness", [10, 22, 34])
def test_occluder_outlines_an_object(face: UncoveredFace, colour: tuple[int, int, int], thickness: int) -> None:
    shown, true = view(2, seed=50), arm(thickness, (40, 50))
    shown[true] = colour
    assert overlap(face.occluder(shown), true) > 0.85


def test_occluder_of_skin_colour_is_filled(face: UncoveredFace) -> None:
    shown, true = view(2, seed=51), arm(30, (48, 50))
    inside = cv2.erode(true.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    clear = view(0, seed=52)
    shown[true] = clear[np.roll(true, (30, 0), (0, 1))].mean(0)  # skin
    shown[true & ~inside] -= [30, 0, 0]
    assert overlap(face.occluder(shown), true) > 0.85


@pytest.mark.parametrize(("opening", "gain"), [(0, 1), (3, 1), (12, 1), (2, 1.03)])
def test_occluder_of_an_open_mouth_or_light_is_empty(face: UncoveredFace, opening: int, gain: float) -> None:
    assert not face.occluder(view(opening, seed=53) * np.array([gain, 1, 1], np.float32)).any()


def test_occluder_of_unsteady_face_needs_more_contrast() -> None:
    shaking = UncoveredFace(np.stack([view(2, seed) + 25 * seed for seed in range(9)]).astype(np.float32))
    steady = UncoveredFace(np.stack([view(2, seed) for seed in range(9)]))
    shown, true = view(2, seed=60), arm(22, (40, 50))
    shown[true] += [12, 0, 0]
    assert overlap(steady.occluder(shown), true) > 0.8
    assert not shaking.occluder(shown).any()


def test_uncovered_face_of_one_view_is_refused() -> None:
    with pytest.raises(ValueError, match="K > 1"):
        UncoveredFace(view(0)[None])
